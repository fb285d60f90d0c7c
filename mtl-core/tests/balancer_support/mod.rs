//! What the tests of balancers share.
#![allow(dead_code, clippy::unwrap_used)] // Each test file uses its part. Helpers of tests count as library code for clippy.
use mtl_core::{
    Result, Seed, StateDict,
    balancing::{BALANCERS, Balanced, Balancer, StepCtx, TaskGrads},
    registry::Registry,
};
use serde_json::Value;
use tch::{Kind, Tensor};

/// Files of one step each.
pub(crate) const FILES: [&str; 6] = [
    include_str!("../golden/balancers_gauss_K2.json"),
    include_str!("../golden/balancers_gauss_K3.json"),
    include_str!("../golden/balancers_gauss_K8.json"),
    include_str!("../golden/balancers_conflict_K2.json"),
    include_str!("../golden/balancers_conflict_K3.json"),
    include_str!("../golden/balancers_conflict_K8.json"),
];

pub(crate) const EDGES: &str = include_str!("../golden/balancers_edge_cases.json");

pub(crate) fn numbers(value: &Value) -> Vec<f64> {
    value.as_array().unwrap().iter().map(|v| v.as_f64().unwrap()).collect()
}

/// A row cut into three parameters of unlike size.
pub(crate) fn cut(row: &[f64], kind: Kind) -> StateDict {
    let row = Tensor::from_slice(row).to_kind(kind);
    let len = row.size1().unwrap();
    [("a", 0, 1), ("b", 1, len - 8), ("c", len - 7, 7)]
        .map(|(name, start, size)| (name.to_owned(), row.narrow(0, start, size)))
        .into_iter()
        .collect()
}

pub(crate) fn task_grads(rows: &Value, kind: Kind) -> TaskGrads {
    TaskGrads::new(rows.as_array().unwrap().iter().map(|row| cut(&numbers(row), kind)).collect()).unwrap()
}

/// Largest error relative to the largest entry.
pub(crate) fn error(direction: &StateDict, wanted: &Value) -> f64 {
    let wanted = Tensor::from_slice(&numbers(wanted));
    let names = ["a", "b", "c"];
    let rows: Vec<Tensor> = names.iter().map(|n| direction.get(n).unwrap().to_kind(Kind::Double)).collect();
    let scale = wanted.abs().max().double_value(&[]).max(1e-12);
    (Tensor::cat(&rows, 0) - &wanted).abs().max().double_value(&[]) / scale
}

/// As [`error`], of rows.
pub(crate) fn off(found: &[f64], wanted: &[f64]) -> f64 {
    assert_eq!(found.len(), wanted.len());
    let scale = wanted.iter().fold(1e-12f64, |m, w| m.max(w.abs()));
    found.iter().zip(wanted).fold(0.0f64, |m, (a, b)| m.max((a - b).abs())) / scale
}

pub(crate) fn build(method: &str, config: Value) -> Balancer {
    *Registry::new(BALANCERS).build(method, config).unwrap()
}

/// A state of rows.
pub(crate) fn rows(entries: &[(&str, &[f64])]) -> StateDict {
    entries.iter().map(|(name, row)| ((*name).to_owned(), Tensor::from_slice(row))).collect()
}

pub(crate) fn row(state: &StateDict, name: &str) -> Vec<f64> {
    Vec::<f64>::try_from(state.get(name).unwrap()).unwrap()
}

/// One step with a stream of its own.
pub(crate) fn combine(
    balancer: &mut Balancer,
    grads: &TaskGrads,
    losses: &[f64],
    step: u64,
) -> Result<Balanced> {
    let mut rng = Seed(5).stream("balancer", step);
    balancer.combine(grads, &mut StepCtx { losses, step, rng: &mut rng })
}

/// What a training loop does after the optimiser's step: numbers that are learned beside the model make a step of gradient
/// descent, and a method that looks back hears the new losses.
pub(crate) fn finish(balancer: &mut Balancer, lr: f64, losses_after: &[f64]) -> Result<()> {
    if let Some(learned) = balancer.learned() {
        learned.values.iter_mut().zip(learned.grads).for_each(|(value, grad)| *value -= lr * grad);
    }
    if let Balancer::Losses(method) = balancer
        && method.looks_back()
    {
        method.after_step(losses_after)?;
    }
    Ok(())
}
