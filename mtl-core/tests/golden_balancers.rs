//! Balancers against LibMTL in `f64`, as directions made from gradients spread over several parameters.
#![cfg(feature = "torch")]
#![allow(clippy::panic, clippy::unwrap_used)] // Helpers of tests count as library code for clippy.
mod balancer_support;

use balancer_support::{EDGES, FILES, build, combine, cut, error, numbers, off, row, rows, task_grads};
use mtl_core::{
    Seed, StateDict,
    balancing::{
        BALANCERS, Balancer, DwaConfig, GradDropConfig, Gram, GramBalancer, ImtlGConfig, LossWeighting,
        PcGradConfig, REPRESENTATION, Rlw, StepCtx, TaskGrads,
    },
    learner::Boundary,
    registry::Registry,
};
use serde_json::{Value, json};
use tch::{Kind, Tensor};

/// The weights that PCGrad gives for known orders.
fn pcgrad_weights(grads: &TaskGrads, orders: &[Vec<usize>]) -> Vec<f64> {
    let pcgrad = PcGradConfig::default().build().unwrap();
    let gram = grads.gram().unwrap();
    let rows = orders.iter().enumerate().map(|(task, order)| pcgrad.project(&gram, task, order));
    rows.fold(vec![0.0; grads.tasks()], |total, row| total.iter().zip(&row).map(|(a, b)| a + b).collect())
}

#[test]
fn equal_weights_and_pcgrad_agree_in_both_precisions() {
    for file in FILES {
        let golden: Value = serde_json::from_str(file).unwrap();
        let losses = numbers(&golden["losses"]);
        let orders: Vec<Vec<usize>> = serde_json::from_value(golden["PCGrad"]["orders"].clone()).unwrap();
        for (kind, tolerance) in [(Kind::Double, 1e-9), (Kind::Float, 1e-5)] {
            let grads = task_grads(&golden["grads"], kind);
            let mut rng = Seed(0).stream("test", 0);
            let mut ctx = StepCtx { losses: &losses, step: 0, rng: &mut rng };
            let mut equal = Registry::new(BALANCERS).build("equal", json!({})).unwrap();
            let sum = equal.combine(&grads, &mut ctx).unwrap();
            assert!(error(&sum.direction, &golden["EW"]["direction"]) < tolerance);
            assert_eq!(sum.weights, Some(vec![1.0; losses.len()]));
            let weights = pcgrad_weights(&grads, &orders);
            let off = weights.iter().zip(numbers(&golden["PCGrad"]["weights"])).map(|(a, b)| (a - b).abs());
            assert!(off.fold(0.0, f64::max) < tolerance * 10.0);
            let direction = grads.combine(&weights).unwrap();
            assert!(error(&direction, &golden["PCGrad"]["direction"]) < tolerance);
        }
    }
}

#[test]
fn the_gram_matrix_agrees() {
    for file in FILES {
        let golden: Value = serde_json::from_str(file).unwrap();
        let gram = task_grads(&golden["grads"], Kind::Double).gram().unwrap();
        for (i, row) in golden["gramian"].as_array().unwrap().iter().enumerate() {
            let scale = gram.norm(i);
            for (j, wanted) in numbers(row).into_iter().enumerate() {
                assert!((gram.get(i, j) - wanted).abs() <= 1e-12 * (scale * gram.norm(j)));
            }
        }
    }
}

#[test]
fn pcgrad_agrees_at_the_edges() {
    let golden: Value = serde_json::from_str(EDGES).unwrap();
    for (name, case) in golden.as_object().unwrap().iter().filter(|(_, case)| case["PCGrad"].is_array()) {
        let grads = task_grads(&case["grads"], Kind::Double);
        let orders = vec![(0..grads.tasks()).collect::<Vec<_>>(); grads.tasks()];
        let direction = grads.combine(&pcgrad_weights(&grads, &orders)).unwrap();
        let wanted = numbers(&case["PCGrad"]).iter().fold(0.0f64, |m, v| m.max(v.abs()));
        // Opposite gradients cancel to rounding: compare with their size, not with that of nothing.
        let scale = grads.gram().unwrap().norm(0).max(wanted);
        assert!(error(&direction, &case["PCGrad"]) * wanted.max(1e-12) < 1e-9 * scale, "{name}");
    }
}

#[test]
fn the_order_comes_from_the_stream_alone() {
    let golden: Value = serde_json::from_str(FILES[5]).unwrap();
    let grads = task_grads(&golden["grads"], Kind::Double);
    let mut balancer: Balancer = *Registry::new(BALANCERS).build("pcgrad", json!({})).unwrap();
    let mut at = |step: u64| {
        let mut rng = Seed(3).stream("balancer", step);
        let mut ctx = StepCtx { losses: &[1.0; 8], step, rng: &mut rng };
        balancer.combine(&grads, &mut ctx).unwrap().direction.flatten()
    };
    let first = at(0);
    assert_ne!(first, at(1));
    assert_eq!(first, at(0));
}

/// Name in the golden files, of the key with the direction there, method, config, tolerance.
fn gram_methods() -> Vec<(&'static str, &'static str, &'static str, Value, f64)> {
    vec![
        ("MGDA_none", "exact_direction", "mgda", json!({}), 1e-7),
        ("MGDA_l2", "exact_direction", "mgda", json!({"normalisation": "length"}), 1e-7),
        ("MGDA_loss", "exact_direction", "mgda", json!({"normalisation": "loss"}), 1e-7),
        ("MGDA_loss+", "exact_direction", "mgda", json!({"normalisation": "loss-and-length"}), 1e-7),
        ("CAGrad_rescale0", "exact_direction", "cagrad", json!({"rescale": "none"}), 1e-6),
        ("CAGrad_rescale1", "exact_direction", "cagrad", json!({}), 1e-6),
        ("CAGrad_rescale2", "exact_direction", "cagrad", json!({"rescale": "linear"}), 1e-6),
        ("Nash_MTL", "direction", "nash_mtl", json!({"max_norm": 0.0}), 1e-9),
        // The reference's clipping adds 1e-6 to the norm that it divides by.
        ("Nash_MTL", "direction_clipped_max_norm1", "nash_mtl", json!({}), 1.01e-6),
        ("FairGrad_alpha1", "direction", "fairgrad", json!({}), 1e-9),
        ("FairGrad_alpha2", "direction", "fairgrad", json!({"alpha": 2.0}), 1e-9),
        ("FairGrad_alpha0.5", "direction", "fairgrad", json!({"alpha": 0.5}), 1e-9),
        ("UPGrad", "direction", "upgrad", json!({}), 1e-8),
    ]
}

#[test]
fn methods_on_inner_products_agree_in_both_precisions() {
    for file in FILES {
        let golden: Value = serde_json::from_str(file).unwrap();
        let losses = numbers(&golden["losses"]);
        for (kind, least) in [(Kind::Double, 0.0), (Kind::Float, 1e-4)] {
            let grads = task_grads(&golden["grads"], kind);
            let mut ctx = StepCtx { losses: &losses, step: 0, rng: &mut Seed(0).stream("test", 0) };
            for (name, key, method, config, tolerance) in gram_methods() {
                let mut balancer = Registry::new(BALANCERS).build(method, config).unwrap();
                let direction = balancer.combine(&grads, &mut ctx).unwrap().direction;
                let off = error(&direction, &golden[name][key]);
                assert!(off < tolerance.max(least), "{name} {kind:?}, {} tasks: {off}", losses.len());
            }
            for (scale, rule) in [("min", "min"), ("median", "median"), ("rmse", "rmse")] {
                let mut balancer =
                    Registry::new(BALANCERS).build("aligned_mtl", json!({"scale": rule})).unwrap();
                let direction = balancer.combine(&grads, &mut ctx).unwrap().direction;
                let off = error(&direction, &golden["Aligned_MTL"][scale]["direction"]);
                assert!(off < 1e-7f64.max(least), "aligned {rule} {kind:?}: {off}");
            }
        }
    }
}

#[test]
fn impartial_weights_agree_on_scaled_gradients() {
    for file in FILES {
        let golden: Value = serde_json::from_str(file).unwrap();
        let case = &golden["IMTL_G"];
        let scales: Vec<f64> = numbers(&case["loss_scale"]).iter().map(|s| s.exp()).collect();
        let plain = task_grads(&golden["grads"], Kind::Double).gram().unwrap();
        let gram = Gram::from_rows(&plain.scaled(&scales)).unwrap();
        let mut ctx = StepCtx { losses: &[], step: 0, rng: &mut Seed(0).stream("test", 0) };
        let weights = ImtlGConfig::default().build().unwrap().weights(&gram, &mut ctx).unwrap();
        let wanted = numbers(&case["weights_on_scaled_grads"]);
        let scale = wanted.iter().fold(0.0f64, |m, w| m.max(w.abs()));
        assert!(
            weights.iter().zip(&wanted).all(|(a, b)| (a - b).abs() < 1e-7 * scale),
            "{weights:?} {wanted:?}"
        );
    }
}

#[test]
fn methods_on_inner_products_agree_at_the_edges() {
    let golden: Value = serde_json::from_str(EDGES).unwrap();
    for (name, case) in golden.as_object().unwrap().iter().filter(|(_, case)| case.is_object()) {
        let grads = task_grads(&case["grads"], Kind::Double);
        let (gram, losses) = (grads.gram().unwrap(), vec![1.0; grads.tasks()]);
        let weights = |method: &str| {
            let mut ctx = StepCtx { losses: &losses, step: 0, rng: &mut Seed(0).stream("test", 0) };
            match *Registry::new(BALANCERS).build(method, json!({})).unwrap() {
                Balancer::Gram(mut method) => method.weights(&gram, &mut ctx),
                other => panic!("{other:?} sees more than inner products"),
            }
        };
        // A single task gets its own gradient from every method.
        if grads.tasks() == 1 {
            for method in ["mgda", "cagrad", "nash_mtl", "fairgrad", "upgrad", "imtl_g", "aligned_mtl"] {
                let weight = weights(method).unwrap()[0];
                assert!((weight - 1.0).abs() < 1e-12, "{method}: {weight}");
            }
            continue;
        }
        let size = |w: &[f64]| gram.times(w).iter().zip(w).map(|(v, w)| v * w).sum::<f64>();
        let least = case["MGDA_exact"]["min_sq_norm"].as_f64().unwrap();
        let scale = (0..gram.tasks()).map(|k| gram.get(k, k)).fold(f64::INFINITY, f64::min).max(least);
        assert!((size(&weights("mgda").unwrap()) - least).abs() <= 1e-9 * scale.max(1e-3), "{name}");
        for (key, method) in [("UPGrad", "upgrad"), ("Aligned_MTL_min", "aligned_mtl"), ("IMTL_G", "imtl_g")]
        {
            if !case[key].is_array() {
                continue;
            }
            let (found, wanted) = (weights(method).unwrap(), numbers(&case[key]));
            let scale = wanted.iter().fold(1.0f64, |m, w| m.max(w.abs()));
            // There the reference's own eigenvectors are off by 1.4e-5, as 60 digits show; ours agree with those to 1e-9.
            let tolerance = if name == "scale_1e6" && method == "aligned_mtl" { 2e-5 } else { 1e-6 };
            let close = found.iter().zip(&wanted).all(|(a, b)| (a - b).abs() < tolerance * scale);
            assert!(close, "{name} {method}: {found:?} {wanted:?}");
        }
        // Bargains either meet their equations or say why not; the zero gradient takes no part.
        let alpha = weights("fairgrad").unwrap();
        assert!(
            alpha.iter().zip(0..).all(|(a, k)| a.is_finite() && (*a > 0.0) == (gram.norm(k) > 0.0)),
            "{name}"
        );
    }
}

/// Weights of the methods that see losses alone, and the key of those in the files.
fn weightings(golden: &Value, losses: &[f64]) -> Vec<(&'static str, &'static str, Vec<f64>)> {
    let mut ctx = StepCtx { losses, step: 0, rng: &mut Seed(0).stream("test", 0) };
    let mut weights = |balancer: &mut Balancer| match balancer {
        Balancer::Losses(method) => method.weights(&mut ctx).unwrap(),
        other => panic!("{other:?} sees more than losses"),
    };
    let mut uw = build("uw", json!({}));
    uw.load_state(&rows(&[("log_variances", &numbers(&golden["UW"]["log_var"]))])).unwrap();
    let mut dwa = DwaConfig::default().build().unwrap();
    for (epoch, key) in ["epoch_mean_losses_prev2", "epoch_mean_losses_prev1"].iter().enumerate() {
        let losses = numbers(&golden["DWA"][key]);
        let mut ctx = StepCtx { losses: &losses, step: 0, rng: &mut Seed(0).stream("test", 0) };
        assert_eq!(dwa.weights(&mut ctx).unwrap(), vec![1.0; losses.len()]);
        mtl_core::balancing::Stateful::boundary(&mut dwa, &Boundary::EpochEnd { epoch: epoch as u64 })
            .unwrap();
    }
    let mut stch = build("stch", json!({"mu": golden["STCH"]["mu"], "nadir": golden["STCH"]["nadir"]}));
    let all = vec![
        ("UW", "weights", weights(&mut uw)),
        ("DWA", "weights", weights(&mut Balancer::Losses(Box::new(dwa)))),
        ("GLS", "weights_true", weights(&mut build("gls", json!({})))),
        ("RLW", "weights", Rlw::of_draws(&numbers(&golden["RLW"]["normal_draw"]))),
        ("STCH", "weights", weights(&mut stch)),
    ];
    assert!(off(uw.learned().unwrap().grads, &numbers(&golden["UW"]["grad_log_var"])) < 1e-9);
    all
}

#[test]
fn loss_weightings_agree_in_both_precisions() {
    for file in FILES {
        let golden: Value = serde_json::from_str(file).unwrap();
        for (name, key, weights) in weightings(&golden, &numbers(&golden["losses"])) {
            assert!(off(&weights, &numbers(&golden[name][key])) < 1e-9, "{name}: {weights:?}");
            for (kind, tolerance) in [(Kind::Double, 1e-9), (Kind::Float, 1e-4)] {
                let direction = task_grads(&golden["grads"], kind).combine(&weights).unwrap();
                assert!(error(&direction, &golden[name]["direction"]) < tolerance, "{name} {kind:?}");
            }
        }
    }
}

#[test]
fn frank_wolfe_agrees_and_never_undercuts_the_exact_solution() {
    for file in FILES {
        let golden: Value = serde_json::from_str(file).unwrap();
        let losses = numbers(&golden["losses"]);
        let gram = task_grads(&golden["grads"], Kind::Double).gram().unwrap();
        for (name, rule) in [
            ("MGDA_none", "none"),
            ("MGDA_l2", "length"),
            ("MGDA_loss", "loss"),
            ("MGDA_loss+", "loss-and-length"),
        ] {
            let mut mgda = build("mgda", json!({"normalisation": rule, "solver": "frank-wolfe"}));
            let Balancer::Gram(mgda) = &mut mgda else { panic!("MGDA works on inner products") };
            let mut ctx = StepCtx { losses: &losses, step: 0, rng: &mut Seed(0).stream("test", 0) };
            let weights = mgda.weights(&gram, &mut ctx).unwrap();
            let case = &golden[name];
            let shares: Vec<f64> =
                weights.iter().zip(numbers(&case["normalizer"])).map(|(w, n)| w * n).collect();
            let apart = off(&shares, &numbers(&case["frank_wolfe_weights"]));
            assert!(apart < 1e-9, "{name}, {} tasks: {apart}", losses.len());
            let squared: f64 = gram.times(&weights).iter().zip(&weights).map(|(v, w)| v * w).sum();
            assert!(squared > case["exact_min_sq_norm"].as_f64().unwrap() * (1.0 - 1e-9));
        }
    }
}

#[test]
fn methods_that_learn_numbers_agree_in_both_precisions() {
    for file in FILES {
        let golden: Value = serde_json::from_str(file).unwrap();
        let losses = numbers(&golden["losses"]);
        let (imtl_case, norm_case) = (&golden["IMTL"], &golden["GradNorm"]);
        let scales = numbers(&imtl_case["loss_scale"]);
        for (kind, least) in [(Kind::Double, 0.0), (Kind::Float, 1e-4)] {
            let grads = task_grads(&golden["grads"], kind);
            let mut imtl = build("imtl", json!({}));
            imtl.load_state(&rows(&[("log_scales", &scales)])).unwrap();
            let found = combine(&mut imtl, &grads, &losses, 0).unwrap();
            assert!(error(&found.direction, &imtl_case["direction"]) < 1e-7f64.max(least));
            assert!(off(imtl.learned().unwrap().grads, &numbers(&imtl_case["grad_loss_scale"])) < 1e-7);
            // Heads get e^s times their own gradient.
            let factors = imtl.head_factors(imtl.head_grad(), found.weights.as_deref(), losses.len());
            assert!(factors.iter().zip(&scales).all(|(factor, s)| (factor - s.exp()).abs() < 1e-12));
            let mut imtl_l = build("imtl_l", json!({}));
            imtl_l.load_state(&rows(&[("log_scales", &scales)])).unwrap();
            let weights = combine(&mut imtl_l, &grads, &losses, 0).unwrap().weights.unwrap();
            assert_eq!(weights, factors);
            assert!(off(imtl_l.learned().unwrap().grads, &numbers(&imtl_case["grad_loss_scale"])) < 1e-7);

            let mut gradnorm = build("gradnorm", json!({"alpha": norm_case["alpha"]}));
            let initial = numbers(&norm_case["initial_losses"]);
            let state = [
                ("logits", &*numbers(&norm_case["logits"])),
                ("initial_losses", &initial),
                ("count", &[0.0]),
            ];
            gradnorm.load_state(&rows(&state)).unwrap();
            let found = combine(&mut gradnorm, &grads, &losses, 0).unwrap();
            assert!(off(found.weights.as_ref().unwrap(), &numbers(&norm_case["weights"])) < 1e-9);
            assert!(error(&found.direction, &norm_case["direction"]) < 1e-9f64.max(least));
            let apart = off(gradnorm.learned().unwrap().grads, &numbers(&norm_case["grad_logits"]));
            assert!(apart < 1e-9f64.max(least), "{kind:?}: {apart}");
        }
    }
}

#[test]
fn sign_dropout_agrees_on_parameters_and_on_a_representation() {
    let three = |value: &Value| -> Vec<Tensor> {
        let matrix = |rows: &Value| {
            Tensor::stack(
                &rows.as_array().unwrap().iter().map(|r| Tensor::from_slice(&numbers(r))).collect::<Vec<_>>(),
                0,
            )
        };
        value.as_array().unwrap().iter().map(matrix).collect()
    };
    for file in FILES {
        let golden: Value = serde_json::from_str(file).unwrap();
        for (kind, tolerance) in [(Kind::Double, 1e-9), (Kind::Float, 1e-4)] {
            let (case, grads) = (&golden["GradDrop_matrix"], task_grads(&golden["grads"], kind));
            let draws = cut(&numbers(&case["uniform"]), Kind::Double);
            for (leak, key) in [(0.0, "direction"), (0.25, "direction_leak0.25")] {
                let graddrop = GradDropConfig::default().leak(leak).build().unwrap();
                assert!(
                    error(&graddrop.drop(&grads, &draws).unwrap(), &case[key]) < tolerance,
                    "leak {leak}"
                );
            }
            let case = &golden["GradDrop_rep"];
            let value = three(&json!([case["rep"]])).remove(0).to_kind(kind); // [batch, features]
            let grads = three(&case["rep_grads"]).iter().map(|grad| grad.to_kind(kind)).collect();
            let grads = TaskGrads::of_representation(&value, grads).unwrap();
            let draws = StateDict::from_iter([(
                REPRESENTATION.to_owned(),
                Tensor::from_slice(&numbers(&case["uniform"])),
            )]);
            let found = GradDropConfig::default().build().unwrap().drop(&grads, &draws).unwrap();
            let wanted = three(&json!([case["rep_direction"]])).remove(0);
            let apart = (found.get(REPRESENTATION).unwrap() - &wanted).abs().max().double_value(&[]);
            assert!(apart < tolerance * wanted.abs().max().double_value(&[]), "{kind:?}: {apart}");
        }
    }
}

const SAMPLED: [&str; 6] = [
    include_str!("golden/balancers_sampled_gauss_K2.json"),
    include_str!("golden/balancers_sampled_gauss_K3.json"),
    include_str!("golden/balancers_sampled_gauss_K8.json"),
    include_str!("golden/balancers_sampled_conflict_K2.json"),
    include_str!("golden/balancers_sampled_conflict_K3.json"),
    include_str!("golden/balancers_sampled_conflict_K8.json"),
];

#[test]
fn methods_on_independent_batches_agree_in_both_precisions() {
    for file in SAMPLED {
        let golden: Value = serde_json::from_str(file).unwrap();
        // SDMGrad's program takes its first batch for the direction, MoDo's the last.
        for (name, method, [first, second, third], key) in
            [("SDMGrad", "sdmgrad", [1, 2, 0], None), ("MoDo", "modo", [0, 1, 2], Some("lambda"))]
        {
            for (kind, tolerance) in [(Kind::Double, 1e-9), (Kind::Float, 1e-4)] {
                let batches =
                    [first, second, third].map(|at: usize| task_grads(&golden["sample_grads"][at], kind));
                let [left, right] = [0, 1].map(|at: usize| {
                    let rows: Vec<Tensor> = batches[at].per_task().iter().map(StateDict::flatten).collect();
                    Tensor::stack(&rows, 0).to_kind(Kind::Double)
                });
                let cross = Vec::<Vec<f64>>::try_from(left.matmul(&right.tr())).unwrap();
                let mut balancer = build(method, json!({}));
                let Balancer::Sampled(sampled) = &mut balancer else { panic!("{name} sees three batches") };
                let mut ctx = StepCtx { losses: &[], step: 0, rng: &mut Seed(0).stream("test", 0) };
                let weights = sampled.weights(&cross, &mut ctx).unwrap();
                if let Some(key) = key {
                    assert!(off(&weights, &numbers(&golden[name][key])) < tolerance);
                } else {
                    let shares = numbers(&golden[name]["weights"]);
                    assert!(off(&row(&balancer.state(), "shares"), &shares) < tolerance);
                }
                let direction = batches[2].combine(&weights).unwrap();
                assert!(error(&direction, &golden[name]["direction"]) < tolerance, "{name} {kind:?}");
            }
        }
    }
}
