//! Balancers against LibMTL in `f64`, as directions made from gradients spread over several parameters.
#![cfg(feature = "torch")]
#![allow(clippy::unwrap_used)] // Helpers of tests count as library code for clippy.
use mtl_core::{
    Seed, StateDict,
    balancing::{BALANCERS, Balancer, PcGradConfig, StepCtx, TaskGrads},
    registry::Registry,
};
use serde_json::{Value, json};
use tch::{Kind, Tensor};

const FILES: [&str; 6] = [
    include_str!("golden/balancers_gauss_K2.json"),
    include_str!("golden/balancers_gauss_K3.json"),
    include_str!("golden/balancers_gauss_K8.json"),
    include_str!("golden/balancers_conflict_K2.json"),
    include_str!("golden/balancers_conflict_K3.json"),
    include_str!("golden/balancers_conflict_K8.json"),
];

fn numbers(value: &Value) -> Vec<f64> {
    value.as_array().unwrap().iter().map(|v| v.as_f64().unwrap()).collect()
}

/// Each row cut into three parameters of unlike size.
fn task_grads(rows: &Value, kind: Kind) -> TaskGrads {
    let cut = |row: &Value| {
        let row = Tensor::from_slice(&numbers(row)).to_kind(kind);
        let len = row.size1().unwrap();
        [("a", 0, 1), ("b", 1, len - 8), ("c", len - 7, 7)]
            .map(|(name, start, size)| (name.to_owned(), row.narrow(0, start, size)))
            .into_iter()
            .collect::<StateDict>()
    };
    TaskGrads::new(rows.as_array().unwrap().iter().map(cut).collect()).unwrap()
}

/// Largest error relative to the largest entry.
fn error(direction: &StateDict, wanted: &Value) -> f64 {
    let wanted = Tensor::from_slice(&numbers(wanted));
    let names = ["a", "b", "c"];
    let rows: Vec<Tensor> = names.iter().map(|n| direction.get(n).unwrap().to_kind(Kind::Double)).collect();
    let scale = wanted.abs().max().double_value(&[]).max(1e-12);
    (Tensor::cat(&rows, 0) - &wanted).abs().max().double_value(&[]) / scale
}

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
            let (sum, factors) = equal.combine(&grads, &mut ctx).unwrap();
            assert!(error(&sum, &golden["EW"]["direction"]) < tolerance);
            assert_eq!(factors, vec![1.0; losses.len()]);
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
    let golden: Value = serde_json::from_str(include_str!("golden/balancers_edge_cases.json")).unwrap();
    for (name, case) in golden.as_object().unwrap().iter().filter(|(_, case)| case.is_object()) {
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
        balancer.combine(&grads, &mut ctx).unwrap().0.flatten()
    };
    let first = at(0);
    assert_ne!(first, at(1));
    assert_eq!(first, at(0));
}
