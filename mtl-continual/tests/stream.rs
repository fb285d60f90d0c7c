//! Streams of tasks end to end: forgetting, replay, resumption.
#![allow(clippy::expect_used, clippy::unwrap_used)]
use mtl_continual::{
    Scenario,
    methods::{self, Setting},
    stream::{self, NoHooks, Plan, StreamHooks},
};
use mtl_core::{
    Error, Learner, LearnerState, Result, Seed,
    data::{LabelledImages, StreamKind, TaskStream},
    models::Mlp,
    rng,
    train::Hooks,
};
use serde_json::json;
use tch::{Kind, Tensor};

const CLASSES: i64 = 6;

/// Clouds of points around one corner for each class; seed 0 for training, 1 for testing.
fn images(seed: u64) -> LabelledImages {
    let n = 30 * CLASSES;
    let labels = Tensor::arange(n, (Kind::Int64, tch::Device::Cpu)).remainder(CLASSES);
    let corners = rng::normal(&mut Seed(9).stream("corners", 0), &[CLASSES, 16], 1.0);
    let noise = rng::normal(&mut Seed(seed).stream("noise", 0), &[n, 16], 0.3);
    let pixels = corners.index_select(0, &labels) + noise;
    LabelledImages::new(pixels.view([n, 1, 4, 4]), labels, CLASSES).unwrap()
}

fn tasks() -> TaskStream {
    TaskStream::new(images(0), images(1), StreamKind::ClassSplit { tasks: 3, shuffle: false }, Seed(0))
        .unwrap()
}

fn learner(method: &str, scenario: Scenario) -> Box<dyn Learner> {
    let config =
        if method == "fine-tuning" { json!({}) } else { json!({"capacity": 30, "replay_batch": 10}) };
    let setting = Setting::of(&tasks(), scenario, 0.1).unwrap();
    let model = Box::new(Mlp::new(&[16, 32, CLASSES]).unwrap());
    methods::build(method, config, setting, model, Seed(4)).unwrap()
}

fn plan() -> Plan {
    Plan::default().epochs(3)
}

fn run(method: &str, scenario: Scenario) -> Vec<Vec<f64>> {
    stream::train(&mut *learner(method, scenario), &tasks(), &plan(), Seed(4), &mut NoHooks).unwrap()
}

#[test]
fn fine_tuning_forgets_classes_and_replay_remembers_them() {
    let forgets = run("fine-tuning", Scenario::ClassIncremental);
    let remembers = run("experience-replay", Scenario::ClassIncremental);
    assert!((0..3).all(|t| forgets[t][t] > 0.9), "each task is learned: {forgets:?}");
    assert!(forgets[1][0] < 0.3, "{forgets:?}");
    assert!(remembers[1][0] > 0.7 && remembers[2][0] > forgets[2][0] + 0.2, "{remembers:?} {forgets:?}");
}

#[test]
fn knowing_the_task_leaves_only_its_own_classes_to_confuse() {
    let matrix = run("fine-tuning", Scenario::TaskIncremental);
    assert!(matrix[2].iter().all(|&accuracy| accuracy > 0.7), "{matrix:?}");
}

/// Asks for a stop after `left` more steps and keeps the state.
struct StopAfter {
    left: u64,
    saved: Option<LearnerState>,
}

impl Hooks for StopAfter {
    fn on_step(&mut self, _step: u64, _report: &mtl_core::learner::StepReport) -> Result<()> {
        self.left = self.left.saturating_sub(1);
        Ok(())
    }

    fn checkpoint(&mut self, state: &LearnerState, _steps: u64) -> Result<()> {
        self.saved = Some(LearnerState { tensors: state.tensors.snapshot(), facts: state.facts.clone() });
        Ok(())
    }

    fn stop_requested(&self) -> bool {
        self.left == 0
    }
}

impl StreamHooks for StopAfter {}

#[test]
fn a_stream_stopped_anywhere_ends_with_the_same_bits() {
    for method in ["fine-tuning", "experience-replay"] {
        let mut whole = learner(method, Scenario::ClassIncremental);
        let expected = stream::train(&mut *whole, &tasks(), &plan(), Seed(4), &mut NoHooks).unwrap();
        for stop in [1, 18, 19, 40] {
            let mut hooks = StopAfter { left: stop, saved: None };
            let mut first = learner(method, Scenario::ClassIncremental);
            let err = stream::train(&mut *first, &tasks(), &plan(), Seed(4), &mut hooks).unwrap_err();
            assert!(matches!(err, Error::Interrupted), "{err}");
            let mut second = learner(method, Scenario::ClassIncremental);
            let state = hooks.saved.take();
            let matrix =
                stream::resume(&mut *second, &tasks(), &plan(), Seed(4), &mut NoHooks, state.as_ref())
                    .unwrap();
            assert_eq!(matrix, expected, "{method} stopped after {stop} steps");
            let (a, b) = (second.save().unwrap(), whole.save().unwrap());
            a.tensors.same_layout(&b.tensors, "resumed").unwrap();
            let equal = a.tensors.iter().zip(b.tensors.iter()).all(|((_, x), (_, y))| x.equal(y));
            assert!(equal, "{method} stopped after {stop} steps");
        }
    }
}

#[test]
fn a_state_of_another_scenario_or_method_is_refused() {
    let state = learner("fine-tuning", Scenario::ClassIncremental).save().unwrap();
    let err = learner("fine-tuning", Scenario::TaskIncremental).load(&state).unwrap_err();
    insta::assert_snapshot!(err, @"`scenario of the state` must be task-incremental, but is class-incremental");
    let err = learner("experience-replay", Scenario::ClassIncremental).load(&state).unwrap_err();
    insta::assert_snapshot!(err, @"parameters of `replay memory` do not fit: `seen` is missing");
}

#[test]
fn unknown_methods_and_fields_are_named() {
    let err = methods::registry().build("experience-reply", json!({})).unwrap_err();
    insta::assert_snapshot!(err, @"unknown method `experience-reply`; did you mean `experience-replay`?");
    let err = methods::registry().build("experience-replay", json!({"capacty": 3})).unwrap_err();
    insta::assert_snapshot!(err, @"capacty: unknown field `capacty`, expected `capacity` or `replay_batch`");
}
