//! Runs that stop, resume and diverge: the bits of an undisturbed run, or an error that names the place.
#![cfg(feature = "torch")]
#![allow(clippy::unwrap_used)] // Helpers of tests count as library code for clippy.
use mtl_core::{
    Batch, Context, Cost, Error, Input, Learner, LearnerState, Model, MultiTaskModel, ParamSource, Result,
    Seed, StateDict, TaskKind, TaskSpec,
    learner::{Step, StepReport},
    models::{Mlp, MultiTask},
    optim::SamConfig,
    rng,
    train::{Checkpoints, FitConfig, Hooks, Joint, JointConfig, Method, NoHooks, OnDivergence, fit},
};
use rand::RngExt;
use serde_json::json;
use std::{
    cell::RefCell,
    sync::{Arc, Mutex, MutexGuard},
};
use tch::Tensor;

/// Dropout draws from a generator that all threads of a process share: one test at a time.
fn alone() -> MutexGuard<'static, ()> {
    static LOCK: Mutex<()> = Mutex::new(());
    let guard = LOCK.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    mtl_core::set_threads(1).unwrap();
    guard
}

const SEED: Seed = Seed(11);

fn tasks() -> Vec<TaskSpec> {
    vec![TaskSpec::classification("left", 3), TaskSpec::new("right", TaskKind::Regression { dims: 2 })]
}

fn learner(config: JointConfig) -> Joint {
    let trunk = Mlp::new(&[6, 16]).unwrap().dropout(0.3).unwrap();
    let model = MultiTask::new(Arc::new(trunk), tasks()).unwrap();
    let params = model.init(SEED).unwrap().trainable();
    Joint::new(Arc::new(model), params, config).unwrap()
}

fn surgery() -> JointConfig {
    JointConfig::default().balancer(Method::new("pcgrad")).optimizer(Method::new("adam"))
}

fn batches(step: u64) -> Result<Vec<Batch>> {
    let mut stream = SEED.stream("batch", step);
    let x = rng::normal(&mut stream, &[5, 6], 1.0);
    let labels: Vec<i64> = (0..5).map(|_| stream.random_range(0..3)).collect();
    Ok(vec![
        Batch { task: 0, input: x.shallow_clone().into(), target: Tensor::from_slice(&labels) },
        Batch { task: 1, input: x.shallow_clone().into(), target: x.narrow(1, 0, 2) },
    ])
}

fn same_bits(a: &StateDict, b: &StateDict) -> bool {
    a.same_layout(b, "the other run").is_ok() && a.iter().zip(b.iter()).all(|((_, x), (_, y))| x.equal(y))
}

/// Keeps the checkpoints, and asks to stop after a step.
#[derive(Default)]
struct Keep {
    stop_after: Option<u64>,
    made: u64,
    saved: Vec<(u64, LearnerState)>,
    scores: Vec<f64>,
    evaluated: RefCell<Vec<u64>>,
}

impl Hooks for Keep {
    fn on_step(&mut self, step: u64, _report: &StepReport) -> Result<()> {
        self.made = step + 1;
        Ok(())
    }

    fn evaluate(&mut self, _learner: &dyn Learner, steps: u64) -> Result<Option<f64>> {
        self.evaluated.borrow_mut().push(steps);
        Ok(self.scores.get(steps as usize / 5 - 1).copied())
    }

    fn checkpoint(&mut self, state: &LearnerState, steps: u64) -> Result<()> {
        self.saved
            .push((steps, LearnerState { tensors: state.tensors.snapshot(), facts: state.facts.clone() }));
        Ok(())
    }

    fn stop_requested(&self) -> bool {
        self.stop_after.is_some_and(|step| self.made >= step)
    }
}

fn train(joint: &mut Joint, config: &FitConfig, hooks: &mut Keep, from: Option<&LearnerState>) -> Result<()> {
    fit(joint, &mut batches, config, SEED, hooks, from).map(|_| ())
}

#[test]
fn a_resumed_run_ends_with_the_same_bits() {
    let _alone = alone();
    let variants = [
        surgery(),
        JointConfig::default().optimizer(Method::new("sgd").config(json!({"momentum": 0.9}))),
        surgery().optimizer(Method::new("adamw")).sam(SamConfig::default()),
    ];
    for config in variants {
        let fit_config = FitConfig::steps(20).checkpoint_every(1);
        let (mut straight, mut keep) = (learner(config.clone()), Keep::default());
        train(&mut straight, &fit_config, &mut keep, None).unwrap();
        let dir = tempfile::tempdir().unwrap();
        let files = Checkpoints::open(dir.path(), "test").unwrap();
        for _ in 0..3 {
            let pick =
                SEED.stream("stop", files.load().unwrap().map_or(0, |(_, step)| step)).random_range(0..19);
            let (step, state) = &keep.saved[pick];
            files.save(state, *step).unwrap();
            let (from, _) = files.load().unwrap().unwrap();
            let mut resumed = learner(config.clone());
            train(&mut resumed, &fit_config, &mut Keep::default(), Some(&from)).unwrap();
            assert!(same_bits(resumed.params(), straight.params()), "resumed at {step}");
            assert!(same_bits(&resumed.save().unwrap().tensors, &straight.save().unwrap().tensors));
        }
    }
}

#[test]
fn a_requested_stop_saves_and_leaves() {
    let _alone = alone();
    let config = FitConfig::steps(12);
    let mut straight = learner(surgery());
    train(&mut straight, &config, &mut Keep::default(), None).unwrap();
    let (mut stopped, mut keep) = (learner(surgery()), Keep { stop_after: Some(7), ..Keep::default() });
    assert!(matches!(train(&mut stopped, &config, &mut keep, None), Err(Error::Interrupted)));
    let (step, state) = keep.saved.last().unwrap();
    assert_eq!(*step, 7);
    let mut resumed = learner(surgery());
    train(&mut resumed, &config, &mut Keep::default(), Some(state)).unwrap();
    assert!(same_bits(resumed.params(), straight.params()));
}

#[test]
fn early_stopping_goes_back_to_the_best_state_also_after_resuming() {
    let _alone = alone();
    let config = FitConfig::steps(100).eval_every(5).checkpoint_every(1).patience(2);
    let scores = vec![0.1, 0.3, 0.2, 0.25, 0.9]; // The best of those seen is after 10 steps.
    let (mut straight, mut keep) = (learner(surgery()), Keep { scores: scores.clone(), ..Keep::default() });
    let outcome = fit(&mut straight, &mut batches, &config, SEED, &mut keep, None).unwrap();
    assert_eq!((outcome.steps, outcome.stopped_early), (20, true));
    assert_eq!(outcome.best.map(|best| (best.step, best.score)), Some((10, 0.3)));
    assert_eq!(*keep.evaluated.borrow(), [5, 10, 15, 20]);
    let mut ten = learner(surgery());
    train(&mut ten, &FitConfig::steps(10), &mut Keep::default(), None).unwrap();
    assert!(same_bits(straight.params(), ten.params()));
    for at in [3, 9, 12, 16] {
        let (mut resumed, mut hooks) =
            (learner(surgery()), Keep { scores: scores.clone(), ..Keep::default() });
        let again =
            fit(&mut resumed, &mut batches, &config, SEED, &mut hooks, Some(&keep.saved[at].1)).unwrap();
        assert_eq!(again, outcome);
        assert!(same_bits(resumed.params(), straight.params()), "resumed after {at}");
    }
}

#[test]
fn a_state_of_another_configuration_is_refused_and_changes_nothing() {
    let mut sgd = learner(JointConfig::default().optimizer(Method::new("sgd")));
    let before = sgd.params().snapshot();
    let error = sgd.load(&learner(surgery()).save().unwrap()).unwrap_err();
    assert!(
        error.to_string().starts_with("parameters of `learner state` do not fit: `config` is"),
        "{error}"
    );
    assert!(same_bits(sgd.params(), &before));
    let mut state = learner(surgery()).save().unwrap();
    state.tensors.remove("p.heads.left.bias");
    let error = learner(surgery()).load(&state).unwrap_err();
    insta::assert_snapshot!(error, @"parameters of `learner state` do not fit: `heads.left.bias` is missing");
    let mut joint = learner(surgery());
    let error =
        fit(&mut joint, &mut batches, &FitConfig::steps(1), SEED, &mut NoHooks, Some(&state)).unwrap_err();
    assert!(matches!(error, Error::Parse { .. }), "{error}");
}

/// What the first step that sees `spoil` says; the parameters must be as before it.
fn divergence(config: JointConfig, spoil: impl Fn(&mut Vec<Batch>)) -> String {
    let mut joint = learner(config);
    for index in 0..3 {
        joint.observe(&batches(index).unwrap(), Step { index, seed: SEED }).unwrap();
    }
    let before = joint.save().unwrap();
    let mut bad = batches(3).unwrap();
    spoil(&mut bad);
    let error = joint.observe(&bad, Step { index: 3, seed: SEED }).unwrap_err();
    assert!(same_bits(&joint.save().unwrap().tensors, &before.tensors));
    error.to_string()
}

#[test]
fn nan_in_input_and_target_is_found_at_its_step() {
    let _alone = alone();
    let nan_input =
        |batches: &mut Vec<Batch>| batches[1].input = (&batches[1].input.values * f64::NAN).into();
    let inf_target = |batches: &mut Vec<Batch>| batches[1].target = &batches[1].target * f64::INFINITY;
    for config in [surgery(), JointConfig::default(), JointConfig::default().sam(SamConfig::default())] {
        let text = divergence(config.clone(), nan_input);
        insta::allow_duplicates! {
            insta::assert_snapshot!(text, @"loss of task `right` is not finite at step 3");
        }
        assert_eq!(divergence(config, inf_target), text);
    }
}

#[test]
fn nan_in_a_weight_is_found_with_its_name() {
    let _alone = alone();
    let mut joint = learner(surgery());
    let mut state = joint.save().unwrap();
    let bad = state.tensors.get("p.heads.right.weight").unwrap() * f64::NAN;
    state.tensors.insert("p.heads.right.weight", bad);
    joint.load(&state).unwrap();
    let error = joint.observe(&batches(0).unwrap(), Step { index: 0, seed: SEED }).unwrap_err();
    insta::assert_snapshot!(error, @"loss of task `right` is not finite at step 0, first in parameter `heads.right.weight`");
}

#[test]
fn skipped_steps_are_counted_and_limited() {
    let _alone = alone();
    let mut spoiled = |step: u64| {
        let mut batches = batches(step)?;
        if step % 4 == 3 {
            batches[0].input = (&batches[0].input.values * f64::NAN).into();
        }
        Ok(batches)
    };
    let mut run = |limit: u64| {
        let config = FitConfig::steps(12).on_divergence(OnDivergence::Skip { limit });
        fit(&mut learner(surgery()), &mut spoiled, &config, SEED, &mut NoHooks, None)
    };
    assert_eq!(run(3).unwrap().skipped, 3);
    let error = run(2).unwrap_err();
    insta::assert_snapshot!(error, @"loss of task `left` is not finite at step 11");
}

/// `|w₀|` and `|w₁|` by way of a root, whose gradient is NaN at 0.
#[derive(Debug)]
struct Roots(Vec<TaskSpec>);

impl Model for Roots {
    fn init(&self, _seed: Seed) -> Result<StateDict> {
        let entry = |name: &str, v: f32| (name.to_owned(), Tensor::from_slice(&[v]));
        Ok([entry("w0", 1.0), entry("w1", 0.0)].into_iter().collect())
    }

    fn forward(&self, params: &dyn ParamSource, input: &Input, ctx: &Context) -> Result<Tensor> {
        let w = params.param(&format!("w{}", ctx.task().unwrap()))?;
        Ok(&input.values * w.square().sqrt())
    }
}

impl MultiTaskModel for Roots {
    fn tasks(&self) -> &[TaskSpec] {
        &self.0
    }

    fn is_shared(&self, _name: &str) -> bool {
        true
    }

    fn forward_all(&self, params: &dyn ParamSource, input: &Input, _ctx: &Context) -> Result<Vec<Tensor>> {
        (0..2).map(|task| self.forward(params, input, &Context::eval().with_task(task))).collect()
    }

    fn cost(&self, _task: usize) -> Cost {
        Cost::default()
    }
}

#[test]
fn nan_in_a_gradient_is_found_with_task_and_parameter() {
    let _alone = alone();
    let spec = |name: &str| TaskSpec::new(name, TaskKind::Regression { dims: 1 });
    for balancer in ["equal", "pcgrad"] {
        let model = Roots(vec![spec("fine"), spec("bad")]);
        let params = model.init(SEED).unwrap().trainable();
        let config = JointConfig::default().balancer(Method::new(balancer));
        let mut joint = Joint::new(Arc::new(model), params, config).unwrap();
        let one = || Tensor::from_slice(&[1.0f32]).view([1, 1]);
        let batch = |task| Batch { task, input: one().into(), target: one() };
        let error = joint.observe(&[batch(0), batch(1)], Step { index: 5, seed: SEED }).unwrap_err();
        insta::allow_duplicates! {
            insta::assert_snapshot!(error, @"gradient of task `bad` is not finite at step 5, first in parameter `w1`");
        }
        assert_eq!(joint.params().get("w0").unwrap().double_value(&[0]), 1.0);
    }
}

#[test]
fn one_pass_for_all_tasks_learns_what_a_pass_per_task_does() {
    let _alone = alone();
    for config in [JointConfig::default(), surgery()] {
        let model = || MultiTask::new(Arc::new(Mlp::new(&[6, 16]).unwrap()), tasks()).unwrap();
        let build = || {
            let params = model().init(SEED).unwrap().trainable();
            let sgd = config.clone().optimizer(Method::new("sgd"));
            Joint::new(Arc::new(model()), params, sgd).unwrap()
        };
        let (mut shared, mut apart) = (build(), build());
        for index in 0..5 {
            let together = batches(index).unwrap();
            let mut copied = batches(index).unwrap();
            copied[1].input = copied[1].input.values.copy().into();
            let a = shared.observe(&together, Step { index, seed: SEED }).unwrap();
            let b = apart.observe(&copied, Step { index, seed: SEED }).unwrap();
            assert!((a.losses[1] - b.losses[1]).abs() < 1e-5 && a.losses.len() == 2);
        }
        let distance = shared.params().task_vector(apart.params()).unwrap().as_dict().norm();
        assert!(distance < 1e-5, "{distance}");
    }
}

#[test]
fn sam_without_a_radius_changes_nothing() {
    let _alone = alone();
    let (mut plain, mut flat) = (learner(surgery()), learner(surgery().sam(SamConfig::default().rho(0.0))));
    for joint in [&mut plain, &mut flat] {
        train(joint, &FitConfig::steps(5), &mut Keep::default(), None).unwrap();
    }
    assert!(same_bits(plain.params(), flat.params()));
}

#[test]
fn bad_batches_and_configurations_are_refused() {
    let mut joint = learner(surgery());
    let step = Step { index: 0, seed: SEED };
    insta::assert_snapshot!(joint.observe(&[], step).unwrap_err(), @"`batches` must be at least one, but is empty");
    let mut empty = batches(0).unwrap();
    empty[1].input = empty[1].input.values.narrow(0, 0, 0).into();
    insta::assert_snapshot!(joint.observe(&empty, step).unwrap_err(), @"`batches` must be non-empty, but is empty for task 1");
    let refused = |config: JointConfig| {
        let model = MultiTask::new(Arc::new(Mlp::new(&[6, 4]).unwrap()), tasks()).unwrap();
        let params = model.init(SEED).unwrap().trainable();
        Joint::new(Arc::new(model), params, config).unwrap_err().to_string()
    };
    insta::assert_snapshot!(refused(JointConfig::default().balancer(Method::new("pcgrd"))), @"unknown method `pcgrd`; did you mean `pcgrad`?");
    insta::assert_snapshot!(refused(JointConfig::default().aux_weight(-1.0)), @"`aux_weight` must be finite and at least 0, but is -1");
    let typo = Method::new("adam").config(json!({"beta": 0.9}));
    assert!(refused(JointConfig::default().optimizer(typo)).contains("beta"));
}
