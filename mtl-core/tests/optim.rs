//! Optimisers and SAM against PyTorch and an independent computation.
#![cfg(feature = "torch")]
#![allow(clippy::unwrap_used)] // Helpers of tests count as library code for clippy.
use mtl_core::{
    StateDict,
    optim::{OPTIMIZERS, Optimizer, SamConfig},
    registry::Registry,
};
use serde_json::{Value, json};
use tch::{Kind, Tensor};

fn numbers(value: &Value) -> Vec<f64> {
    value
        .as_array()
        .unwrap()
        .iter()
        .flat_map(|v| v.as_f64().map_or_else(|| numbers(v), |x| vec![x]))
        .collect()
}

fn integers(value: &Value) -> Vec<i64> {
    value.as_array().unwrap().iter().map(|v| v.as_i64().unwrap()).collect()
}

fn tensor(value: &Value, shape: &[i64]) -> Tensor {
    Tensor::from_slice(&numbers(value)).view(shape)
}

fn close(found: &Tensor, wanted: &Value, tolerance: f64) -> bool {
    let wanted = Tensor::from_slice(&numbers(wanted));
    let error = (found.detach().flatten(0, -1) - &wanted).abs().max().double_value(&[]);
    error <= tolerance * wanted.abs().max().double_value(&[]).max(1e-3)
}

fn optimizer(case: &Value) -> Box<dyn Optimizer> {
    let name = case["optimizer"].as_str().unwrap();
    Registry::new(OPTIMIZERS).build(name, case["config"].clone()).unwrap()
}

/// Makes the steps `steps` of the golden run and compares after each.
fn replay(
    golden: &Value,
    case: &Value,
    params: &mut StateDict,
    optimizer: &mut dyn Optimizer,
    steps: std::ops::Range<usize>,
) {
    for step in steps {
        let grads: StateDict = ["a", "b"]
            .into_iter()
            .filter(|name| !golden["grads"][step][name].is_null())
            .map(|name| {
                let shape = integers(&golden["shapes"][name]);
                (name.to_owned(), tensor(&golden["grads"][step][name], &shape))
            })
            .collect();
        optimizer.step(params, &grads, golden["lrs"][step].as_f64().unwrap()).unwrap();
        for (name, param) in params.iter() {
            let found = close(param, &case["after"][step][name], 1e-12);
            assert!(found, "{} {}: {name} after step {step}", case["optimizer"], case["config"]);
            assert!(param.is_leaf() && param.requires_grad());
        }
    }
}

fn initial(golden: &Value) -> StateDict {
    let entry =
        |name: &str| (name.to_owned(), tensor(&golden["initial"][name], &integers(&golden["shapes"][name])));
    [entry("a"), entry("b")].into_iter().collect::<StateDict>().trainable()
}

#[test]
fn every_variant_follows_pytorch_also_across_a_save() {
    let golden: Value = serde_json::from_str(include_str!("golden/optimizers.json")).unwrap();
    for case in golden["cases"].as_array().unwrap() {
        let mut params = initial(&golden);
        let mut first = optimizer(case);
        replay(&golden, case, &mut params, &mut *first, 0..3);
        let mut second = optimizer(case);
        second.load_state(&first.state(), &params).unwrap();
        first.step(&mut StateDict::new(), &StateDict::new(), 0.1).unwrap(); // No gradient, no change.
        replay(&golden, case, &mut params, &mut *second, 3..5);
    }
}

#[test]
fn a_state_of_another_optimizer_or_shape_is_refused() {
    let params: StateDict = [("w".to_owned(), Tensor::from_slice(&[1.0f64]))].into_iter().collect();
    let build = |name: &str, config: Value| Registry::new(OPTIMIZERS).build(name, config).unwrap();
    let mut adam = build("adam", json!({}));
    adam.step(&mut params.trainable(), &params, 0.1).unwrap();
    let error = build("sgd", json!({"momentum": 0.9})).load_state(&adam.state(), &params).unwrap_err();
    insta::assert_snapshot!(error, @"parameters of `sgd state` do not fit: `w.exp_avg` is not expected");
    let mut partial = adam.state();
    partial.remove("w.step");
    let error = build("adamw", json!({})).load_state(&partial, &params).unwrap_err();
    insta::assert_snapshot!(error, @"parameters of `adamw state` do not fit: `w.step` is missing");
    let wide: StateDict = [("w".to_owned(), Tensor::from_slice(&[1.0f64, 2.0]))].into_iter().collect();
    let error = build("adam", json!({})).load_state(&adam.state(), &wide).unwrap_err();
    insta::assert_snapshot!(error, @"parameters of `adam state` do not fit: `w.exp_avg` has shape [1] of kind Double, expected [2] of kind Double");
}

#[test]
fn bad_steps_change_nothing() {
    let entry = |name: &str, v: &[f64]| (name.to_owned(), Tensor::from_slice(v));
    let mut params = StateDict::from_iter([entry("w", &[1.0])]).trainable();
    let mut sgd = Registry::new(OPTIMIZERS).build("sgd", json!({})).unwrap();
    let mut refused = |grads: StateDict, lr: f64| sgd.step(&mut params, &grads, lr).unwrap_err().to_string();
    insta::assert_snapshot!(refused([entry("w", &[1.0])].into_iter().collect(), f64::NAN), @"`lr` must be finite and at least 0, but is NaN");
    insta::assert_snapshot!(refused([entry("w", &[1.0, 2.0])].into_iter().collect(), 0.1), @"`gradient of w` must have shape [1], but has [2]");
    insta::assert_snapshot!(refused([entry("v", &[1.0])].into_iter().collect(), 0.1), @"unknown parameter `v`; did you mean `w`?");
    assert_eq!(params.get("w").unwrap().double_value(&[0]), 1.0);
}

#[test]
fn sam_has_the_perturbation_and_gradient_of_an_independent_computation() {
    let golden: Value = serde_json::from_str(include_str!("golden/sam.json")).unwrap();
    let shapes = [("W1", vec![4, 6]), ("b1", vec![6]), ("H1", vec![6, 3]), ("c1", vec![3])];
    let leaf = |(name, shape): &(&str, Vec<i64>)| ((*name).to_owned(), tensor(&golden[name], shape));
    let params = shapes.iter().map(leaf).collect::<StateDict>().trainable();
    let (x, y) = (tensor(&golden["X"], &[5, 4]), Tensor::from_slice(&integers(&golden["y1"])));
    let loss = |p: &StateDict| {
        let of = |name: &str| p.get(name).unwrap();
        let z = (x.matmul(of("W1")) + of("b1")).tanh();
        (z.matmul(of("H1")) + of("c1")).log_softmax(-1, Kind::Double).nll_loss(&y) // tch's own goes through f32.
    };
    let flat = |p: &StateDict| {
        let rows: Vec<Tensor> =
            shapes.iter().map(|(n, _)| p.get(n).unwrap().detach().flatten(0, -1)).collect();
        Tensor::cat(&rows, 0)
    };
    for variant in ["sam_joint", "asam_joint"] {
        let case = &golden[variant];
        let sam = SamConfig::default()
            .rho(case["rho"].as_f64().unwrap())
            .adaptive(case["adaptive"].as_bool().unwrap())
            .build()
            .unwrap();
        let here = loss(&params);
        assert!((here.double_value(&[]) - case["loss"].as_f64().unwrap()).abs() < 1e-9);
        let worst = sam.perturb(&params, &params.gradients(&here, false).unwrap()).unwrap();
        assert!(close(&(flat(&worst) - flat(&params)), &case["perturbation"], 1e-9), "{variant}");
        let there = loss(&worst);
        assert!((there.double_value(&[]) - case["perturbed_loss"].as_f64().unwrap()).abs() < 1e-9);
        let gradient = worst.gradients(&there, false).unwrap();
        assert!(close(&flat(&gradient), &case["gradient"], 1e-9), "{variant}");
        assert_eq!(here.kind(), Kind::Double);
    }
}
