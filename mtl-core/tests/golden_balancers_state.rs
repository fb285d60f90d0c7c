//! Balancers with memory: three steps against LibMTL, what survives saving, and inputs at the edges for every method.
#![cfg(feature = "torch")]
#![allow(clippy::unwrap_used)] // Helpers of tests count as library code for clippy.
mod balancer_support;

use balancer_support::{EDGES, build, combine, error, finish, numbers, off, row, rows, task_grads};
use mtl_core::{
    LearnerState, Seed, StateDict,
    balancing::{BALANCERS, Balancer, GradVacConfig, Stateful, StepCtx, TaskGrads},
    learner::Boundary,
    rng,
};
use serde_json::{Value, json};
use tch::Kind;

const FILES: [&str; 6] = [
    include_str!("golden/balancers_sequence_gauss_K2.json"),
    include_str!("golden/balancers_sequence_gauss_K3.json"),
    include_str!("golden/balancers_sequence_gauss_K8.json"),
    include_str!("golden/balancers_sequence_conflict_K2.json"),
    include_str!("golden/balancers_sequence_conflict_K3.json"),
    include_str!("golden/balancers_sequence_conflict_K8.json"),
];

/// What a state becomes on its way through a checkpoint.
fn checkpoint(state: &StateDict) -> StateDict {
    let mut saved = LearnerState::default();
    saved.put("b.", state);
    saved.facts = json!({});
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("state.safetensors");
    saved.write(&path).unwrap();
    LearnerState::read(&path).unwrap().section("b.")
}

fn same_bits(a: &StateDict, b: &StateDict) -> bool {
    a.same_layout(b, "test").is_ok() && a.iter().zip(b.iter()).all(|((_, a), (_, b))| a == b)
}

#[test]
fn three_steps_agree_in_both_precisions_also_when_restored_between_them() {
    let methods = [
        ("MoCo", "moco", json!({})),
        ("DB_MTL_beta0.9_sigma0", "db_mtl", json!({})),
        ("DB_MTL_beta0.1_sigma0.5", "db_mtl", json!({"beta": 0.1, "sigma": 0.5})),
        ("ExcessMTL", "excess_mtl", json!({})),
        ("FAMO", "famo", json!({})),
    ];
    for file in FILES {
        let golden: Value = serde_json::from_str(file).unwrap();
        for (name, method, config) in &methods {
            for (kind, tolerance) in [(Kind::Double, 1e-9), (Kind::Float, 1e-4)] {
                let mut balancer = build(method, config.clone());
                for step in 0..3 {
                    let case = &golden[name][step];
                    let grads = task_grads(&golden["grads"][step], kind);
                    let losses = numbers(&golden["losses"][step]);
                    let mut restored = build(method, config.clone());
                    restored.load_state(&checkpoint(&balancer.state())).unwrap();
                    let after =
                        case["losses_after_step"].as_array().map(|_| numbers(&case["losses_after_step"]));
                    let run = |balancer: &mut Balancer| {
                        let found = combine(balancer, &grads, &losses, step as u64).unwrap();
                        finish(balancer, 0.0, after.as_deref().unwrap_or(&losses)).unwrap();
                        found
                    };
                    let (found, again) = (run(&mut balancer), run(&mut restored));
                    let apart = error(&found.direction, &case["direction"]);
                    assert!(apart < tolerance, "{name} {kind:?} step {step}: {apart}");
                    assert!(same_bits(&found.direction, &again.direction), "{name} step {step}");
                    assert!(same_bits(&balancer.state(), &restored.state()), "{name} step {step}");
                    for (key, entry) in
                        [("lambda", "lambda"), ("weights", "weights"), ("w_logits_after_update", "logits")]
                    {
                        if case[key].is_array() {
                            let apart = off(&row(&balancer.state(), entry), &numbers(&case[key]));
                            assert!(apart < tolerance, "{name} {key} {kind:?} step {step}: {apart}");
                        }
                    }
                }
            }
        }
    }
}

#[test]
fn three_steps_of_gradvac_agree_for_known_orders() {
    for file in FILES {
        let golden: Value = serde_json::from_str(file).unwrap();
        for (kind, tolerance) in [(Kind::Double, 1e-9), (Kind::Float, 1e-4)] {
            let config = GradVacConfig::default().beta(0.5);
            let mut gradvac = config.clone().build().unwrap();
            for step in 0..3 {
                let case = &golden["GradVac"][step];
                let grads = task_grads(&golden["grads"][step], kind);
                let (gram, orders) = (
                    grads.gram().unwrap(),
                    serde_json::from_value::<Vec<Vec<usize>>>(case["orders"].clone()),
                );
                let orders = orders.unwrap();
                let mut restored = config.clone().build().unwrap();
                restored.load_state(&checkpoint(&gradvac.state())).unwrap();
                let weights = gradvac.vaccinate(&gram, &orders).unwrap();
                assert_eq!(weights, restored.vaccinate(&gram, &orders).unwrap());
                let apart = error(&grads.combine(&weights).unwrap(), &case["direction"]);
                assert!(apart < tolerance, "{kind:?} step {step}: {apart}");
                let wanted: Vec<f64> =
                    case["rho_ema_after"].as_array().unwrap().iter().flat_map(numbers).collect();
                assert!(off(&row(&gradvac.state(), "rho"), &wanted) < tolerance);
            }
        }
    }
}

/// Gradients and losses of three tasks that change from step to step.
fn made_up(step: u64) -> (TaskGrads, Vec<f64>) {
    let mut draws = Seed(2).stream("test", step);
    let mut dict = || {
        [("a.bias", 2), ("a.weight", 6), ("b.weight", 5)]
            .map(|(name, n)| (name.to_owned(), rng::normal(&mut draws, &[n], 1.0)))
            .into_iter()
            .collect::<StateDict>()
    };
    let grads = TaskGrads::new((0..3).map(|_| dict()).collect()).unwrap();
    let losses = rng::uniform(&mut draws, &[3], 0.5).to_kind(Kind::Double) + 1.0;
    (grads, Vec::<f64>::try_from(losses).unwrap())
}

/// Every method, and options that bring a memory of their own.
fn all_methods() -> Vec<(&'static str, Value)> {
    let names = BALANCERS.iter().map(|entry| (entry.info.name, json!({})));
    let options = [
        ("nash_mtl", json!({"update_weights_every": 3})),
        ("gradvac", json!({"granularity": "layer", "beta": 0.5})),
        ("gradvac", json!({"granularity": "tensor"})),
        ("gradnorm", json!({"initial_loss": "first-epoch"})),
        ("stch", json!({"warmup_epochs": 2})),
        ("mgda", json!({"solver": "frank-wolfe"})),
    ];
    names.chain(options).collect()
}

#[test]
fn every_method_goes_on_with_the_same_bits_after_a_checkpoint_anywhere() {
    for (method, config) in all_methods() {
        let mut balancer = build(method, config.clone());
        for step in 0..10 {
            let (grads, losses) = made_up(step);
            let (_, after) = made_up(step + 1);
            let mut restored = build(method, config.clone());
            restored.load_state(&checkpoint(&balancer.state())).unwrap();
            let run = |balancer: &mut Balancer| {
                let found = combine(balancer, &grads, &losses, step).unwrap();
                finish(balancer, 0.05, &after).unwrap();
                if step % 3 == 2 {
                    balancer.boundary(&Boundary::EpochEnd { epoch: step / 3 }).unwrap();
                }
                found
            };
            let (found, again) = (run(&mut balancer), run(&mut restored));
            assert!(same_bits(&found.direction, &again.direction), "{method} {config} step {step}");
            assert_eq!(found.weights, again.weights, "{method} {config} step {step}");
            assert!(same_bits(&balancer.state(), &restored.state()), "{method} {config} step {step}");
        }
    }
}

#[test]
fn every_method_refuses_a_foreign_state_and_keeps_its_own() {
    for (method, config) in all_methods() {
        let mut balancer = build(method, config);
        let (grads, losses) = made_up(0);
        combine(&mut balancer, &grads, &losses, 0).unwrap();
        let before = balancer.state().snapshot();
        let foreign = rows(&[("of_another_method", &[1.0, 2.0, 3.0])]);
        assert!(matches!(balancer.load_state(&foreign), Err(mtl_core::Error::Mismatch { .. })), "{method}");
        assert!(same_bits(&balancer.state(), &before), "{method}");
    }
}

#[test]
fn a_single_task_gets_its_own_gradient_and_no_task_is_an_error() {
    let golden: Value = serde_json::from_str(EDGES).unwrap();
    let grads = task_grads(&golden["single_task"]["grads"], Kind::Double);
    let length = grads.gram().unwrap().norm(0);
    for (method, config) in all_methods() {
        let mut balancer = build(method, config.clone());
        let found = combine(&mut balancer, &grads, &[2.0], 0).unwrap();
        // Two methods rescale by design: MoCo to β times the loss, DB-MTL smooths the gradient of the log.
        let factor = match method {
            "moco" => 0.5 * 2.0 / length,
            "db_mtl" => 0.1 / 2.0,
            _ => 1.0,
        };
        let wanted = grads.combine(&[factor]).unwrap();
        let apart = (found.direction.flatten() - wanted.flatten()).abs().max().double_value(&[]);
        assert!(apart < 1e-7 * factor, "{method} {config}: {apart}");
        if let Some(weights) = found.weights {
            assert!((weights[0] - 1.0).abs() < 1e-12, "{method} {config}: {weights:?}");
        }
        let none = TaskGrads::new(vec![]).unwrap();
        assert!(combine(&mut build(method, config.clone()), &none, &[], 0).is_err(), "{method}");
        if let Balancer::Losses(weighting) = &mut build(method, config) {
            let mut ctx = StepCtx { losses: &[], step: 0, rng: &mut Seed(0).stream("test", 0) };
            assert!(weighting.weights(&mut ctx).is_err(), "{method}");
        }
    }
}

#[test]
fn every_method_finds_a_finite_direction_at_the_edges_or_says_why_not() {
    let golden: Value = serde_json::from_str(EDGES).unwrap();
    for (name, case) in golden.as_object().unwrap().iter().filter(|(_, case)| case.is_object()) {
        let grads = task_grads(&case["grads"], Kind::Double);
        let losses: Vec<f64> = (0..grads.tasks()).map(|k| 0.5 + k as f64).collect();
        for (method, config) in all_methods() {
            let mut balancer = build(method, config.clone());
            for step in 0..3 {
                match combine(&mut balancer, &grads, &losses, step) {
                    Ok(found) => {
                        found.direction.check_finite().unwrap();
                        finish(&mut balancer, 1e-3, &losses).unwrap();
                    }
                    // Equal projections on all gradients cannot be had on a zero one, or on parallel ones.
                    Err(mtl_core::Error::Config { field, .. }) if method.starts_with("imtl") => {
                        assert!(field.starts_with("gradient"), "{name} {method}: {field}");
                    }
                    Err(error) => panic!("{name} {method} {config}: {error}"),
                }
            }
        }
    }
}

#[test]
fn losses_that_a_method_cannot_take_are_named_by_their_task() {
    let (grads, _) = made_up(0);
    let refused = |method: &str, losses: &[f64]| {
        combine(&mut build(method, json!({})), &grads, losses, 0).unwrap_err().to_string()
    };
    for method in ["gls", "stch", "db_mtl", "gradnorm", "famo"] {
        let message = refused(method, &[1.0, 1.0, -0.5]);
        assert!(message.contains("`loss of task 2`") && message.ends_with("but is -0.5"), "{message}");
    }
    for method in ["uw", "dwa", "gls", "rlw", "stch", "famo", "imtl_l", "imtl", "gradnorm", "moco", "db_mtl"]
    {
        let message = refused(method, &[1.0, f64::NAN, 1.0]);
        assert_eq!(message, "`losses` is not finite at index 1", "{method}");
    }
    for method in ["imtl", "gradnorm", "moco", "db_mtl"] {
        assert!(refused(method, &[1.0, 1.0]).contains("must have shape [3]"), "{method}");
    }
}
