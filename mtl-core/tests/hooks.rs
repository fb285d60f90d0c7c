//! What a training step reports besides its losses, where it was asked to.
#![allow(clippy::unwrap_used, missing_docs)]
use mtl_core::{
    Batch, Learner, Model, Seed, StateDict, TaskKind, TaskSpec,
    analysis::{ConflictMeter, ExpertCounts, MeanAffinity, TaskPrior, affinity},
    architectures::{Architecture, MmoeConfig},
    learner::{Step, StepReport},
    models::{Mlp, MultiTask},
    optim::{SamConfig, Schedule},
    rng,
    train::{FlatConfig, Joint, JointConfig, Method},
};
use std::sync::Arc;
use tch::Tensor;

const TASKS: [&str; 2] = ["near", "far"];

fn specs() -> Vec<TaskSpec> {
    TASKS.map(|name| TaskSpec::new(name, TaskKind::Regression { dims: 1 })).to_vec()
}

fn draw(name: &str, dims: &[i64]) -> Tensor {
    rng::normal(&mut Seed(8).stream(name, 0), dims, 1.0)
}

/// One batch for each task, of one input or of two.
fn batches(one_input: bool) -> Vec<Batch> {
    let x = draw("x", &[6, 5]);
    let of = |(task, name): (usize, &str)| Batch {
        task,
        input: if one_input { x.shallow_clone() } else { draw(name, &[6, 5]) }.into(),
        target: draw(&format!("target {name}"), &[6, 1]),
    };
    TASKS.into_iter().enumerate().map(of).collect()
}

fn joint(config: JointConfig) -> Joint {
    let encoder = Arc::new(Mlp::new(&[5, 8]).unwrap());
    let model = MmoeConfig::default().n_experts(3).build().unwrap().model(encoder, specs()).unwrap();
    let params = model.init(Seed(3)).unwrap().trainable();
    Joint::new(model, params, config.schedule(Schedule::constant(0.01))).unwrap()
}

fn run(config: JointConfig, one_input: bool) -> (Vec<StepReport>, StateDict) {
    let mut joint = joint(config);
    let batches = batches(one_input);
    let reports = (0..6).map(|index| joint.observe(&batches, Step { index, seed: Seed(1) }).unwrap());
    (reports.collect(), joint.into_params())
}

#[test]
fn reports_come_when_asked_for_and_change_no_bit_of_the_training() {
    let pcgrad = || JointConfig::default().balancer(Method::new("pcgrad"));
    let settings = [
        JointConfig::default(),
        pcgrad(),
        pcgrad().sam(SamConfig::default()),
        pcgrad().flat(FlatConfig::default()),
    ];
    for (config, one_input) in
        settings.into_iter().flat_map(|config| [(config.clone(), true), (config, false)])
    {
        let (silent, wanted) = run(config.clone(), one_input);
        let (reports, found) = run(config.measure_every(2).affinity_every(3).trace_every(2), one_input);
        assert!(found.iter().zip(wanted.iter()).all(|((_, a), (_, b))| a.equal(b)));
        let mut conflicts = ConflictMeter::new(3).unwrap();
        let mut transfer = MeanAffinity::default();
        let mut experts = ExpertCounts::new(&TASKS, 3).unwrap();
        for ((index, report), quiet) in (0u64..).zip(&reports).zip(&silent) {
            assert!(quiet.affinity.is_none() && quiet.traces.is_empty());
            assert_eq!(quiet.losses, report.losses);
            assert_eq!(report.affinity.is_some(), index.is_multiple_of(3));
            if index.is_multiple_of(2) {
                conflicts.observe(index, Some(report.gram.as_ref().unwrap()));
            }
            report.affinity.iter().for_each(|z| transfer.add(z).unwrap());
            for (name, gates) in &report.traces {
                let task = TASKS.iter().position(|task| *name == format!("gates.{task}")).unwrap();
                assert!(!gates.requires_grad());
                experts.add_trace(task, gates).unwrap();
            }
            assert_eq!(report.traces.len(), if index.is_multiple_of(2) { 2 } else { 0 });
        }
        assert_eq!((conflicts.total().unwrap().batches, transfer.steps()), (3, 2));
        // Three steps of six examples, whose gates sum to one each.
        assert!(experts.counts().iter().all(|row| (row.iter().sum::<f64>() - 18.0).abs() < 1e-4));
        assert!(experts.usage(0.0, TaskPrior::Uniform).unwrap().mutual_information >= 0.0);
    }
}

#[test]
fn the_affinity_of_a_step_is_that_before_its_update() {
    let mut joint = joint(JointConfig::default().affinity_every(1));
    let (batches, step) = (batches(true), Step { index: 0, seed: Seed(1) });
    let before = joint.params().snapshot().trainable();
    let wanted = affinity(&**joint.model(), &before, &batches, 0.01, step).unwrap();
    let found = joint.observe(&batches, step).unwrap().affinity.unwrap();
    assert_eq!(found, wanted);
    assert!(found.z[0][0] > 0.0, "a step on a task helps the task: {found:?}");
}

#[test]
fn two_batches_of_one_task_have_no_affinity_and_leave_the_learner_as_it_was() {
    // This balancer has a state that a step changes.
    let fresh = || {
        let model = MultiTask::new(Arc::new(Mlp::new(&[5, 8]).unwrap()), specs()).unwrap();
        let params = model.init(Seed(3)).unwrap().trainable();
        let config = JointConfig::default().balancer(Method::new("gradnorm")).affinity_every(1);
        Joint::new(Arc::new(model), params, config).unwrap()
    };
    let step = Step { index: 0, seed: Seed(1) };
    let (mut tried, mut untried) = (fresh(), fresh());
    let mut twice = batches(false);
    twice[1].task = 0;
    let err = tried.observe(&twice, step).unwrap_err();
    insta::assert_snapshot!(err, @"`batches for `affinity`` must be one for each task, but is two of task `near`");
    for joint in [&mut tried, &mut untried] {
        (0..3).for_each(|index| drop(joint.observe(&batches(false), Step { index, ..step }).unwrap()));
    }
    assert!(tried.params().iter().zip(untried.params().iter()).all(|((_, a), (_, b))| a.equal(b)));
}
