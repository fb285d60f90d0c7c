//! One training step of the functional MLP 784-256-256-10 with SGD on one thread, and the share of name look-ups.
//!
//! `mlp_step_pytorch.py` beside this file does the same step in PyTorch. Run both in turns on a quiet machine and
//! compare the fastest samples.
#![allow(clippy::unwrap_used, missing_docs)] // A bench that cannot run may stop.
use divan::{Bencher, black_box};
use mtl_core::{
    Batch, Context, Input, Learner, Model, ParamSource, Seed, StateDict, TaskSpec,
    learner::Step,
    loss,
    models::{Mlp, MultiTask},
    optim::{Optimizer, Schedule, Sgd, SgdConfig},
    rng,
    train::{Joint, JointConfig, Method},
};
use std::sync::Arc;
use tch::Tensor;

const SEED: Seed = Seed(0);

fn main() {
    mtl_core::set_threads(1).unwrap();
    divan::main();
}

fn data(batch: i64) -> (Input, Tensor) {
    let x = rng::normal(&mut SEED.stream("x", 0), &[batch, 784], 1.0);
    let y: Vec<i64> = (0..batch).map(|i| i % 10).collect();
    (x.into(), Tensor::from_slice(&y))
}

fn mlp() -> (Mlp, StateDict, Sgd) {
    let mlp = Mlp::new(&[784, 256, 256, 10]).unwrap();
    let params = mlp.init(SEED).unwrap().trainable();
    (mlp, params, SgdConfig::default().build().unwrap())
}

/// The step as a method would write it.
#[divan::bench(args = [32, 128], sample_count = 1000, sample_size = 1)]
fn step(bencher: Bencher<'_, '_>, batch: i64) {
    let (x, y) = data(batch);
    let (mlp, mut params, mut sgd) = mlp();
    let task = TaskSpec::classification("digit", 10);
    bencher.bench_local(|| {
        let ctx = Context::train(SEED, 0);
        let logits = Model::forward(&mlp, &params, &x, &ctx).unwrap();
        let loss = loss::task_loss_unchecked(&task, &logits, &y).unwrap();
        let grads = params.gradients(&loss, false).unwrap();
        sgd.step(&mut params, &grads, 0.01).unwrap();
    });
}

/// The parts of the step, to see where time goes.
#[divan::bench(args = [32, 128], sample_count = 1000, sample_size = 1)]
fn forward_and_backward(bencher: Bencher<'_, '_>, batch: i64) {
    let (x, y) = data(batch);
    let (mlp, params, _) = mlp();
    let task = TaskSpec::classification("digit", 10);
    bencher.bench_local(|| {
        let logits = Model::forward(&mlp, &params, &x, &Context::train(SEED, 0)).unwrap();
        let loss = loss::task_loss_unchecked(&task, &logits, &y).unwrap();
        params.gradients(&loss, false).unwrap()
    });
}

/// Six look-ups with their names made on the spot: what the step spends on names.
#[divan::bench(sample_count = 1000)]
fn look_ups(bencher: Bencher<'_, '_>) {
    let (_, params, _) = mlp();
    bencher.bench_local(|| {
        for layer in 0..3 {
            let name = format!("fc{layer}");
            black_box(params.find(&format!("{name}.weight")).unwrap());
            black_box(params.find(&format!("{name}.bias")).unwrap());
        }
    });
}

/// The whole learner, with its checks of labels, losses and gradients; one task with a head of ten classes.
#[divan::bench(args = [32, 128], sample_count = 1000, sample_size = 1)]
fn joint_observe(bencher: Bencher<'_, '_>, batch: i64) {
    let trunk = Mlp::new(&[784, 256, 256]).unwrap();
    let model = MultiTask::new(Arc::new(trunk), vec![TaskSpec::classification("digit", 10)]).unwrap();
    let params = model.init(SEED).unwrap().trainable();
    let config = JointConfig::default().optimizer(Method::new("sgd")).schedule(Schedule::constant(0.01));
    let mut joint = Joint::new(Arc::new(model), params, config).unwrap();
    let (input, target) = data(batch);
    let batches = [Batch { task: 0, input, target }];
    bencher.bench_local(|| joint.observe(&batches, Step { index: 0, seed: SEED }).unwrap());
}
