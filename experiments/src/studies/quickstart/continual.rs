//! Continual learning: five tasks of two classes, one after the other, with and without a memory of past examples.
use super::setup;
use crate::runner::{Cell, CellContext};
use mtl_bench::metrics::{AccuracyMatrix, Forgetting};
use mtl_continual::{
    Scenario,
    methods::{self, Setting},
    stream::{self, Plan, StreamHooks},
};
use mtl_core::{
    LearnerState, Record, Result,
    data::{StreamKind, TaskStream},
    models::Mlp,
    train::Hooks,
};
use serde::Deserialize;
use serde_json::json;

/// Number of tasks.
const TASKS: usize = 5;

/// Keys of a continual cell.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Keys {
    train_examples: usize,
    test_examples: usize,
    batch: usize,
    /// Steps between two checkpoints.
    checkpoint_every: u64,
    scenario: Scenario,
    method: String,
    epochs: u64,
    lr: f64,
    /// Examples the memory holds.
    capacity: usize,
    /// Examples drawn from it for each step.
    replay_batch: usize,
}

impl Keys {
    pub(super) fn of(cell: &Cell) -> anyhow::Result<Self> {
        let keys: Self = cell.config()?;
        setup::at_least_one("epochs", keys.epochs as usize)?;
        setup::check_training(keys.batch, keys.epochs, keys.lr)?;
        setup::at_least_one("capacity", keys.capacity)?;
        setup::at_least_one("replay_batch", keys.replay_batch)?;
        methods::registry().build(&keys.method, keys.method_config())?;
        Ok(keys)
    }

    fn method_config(&self) -> serde_json::Value {
        match self.method.as_str() {
            "experience-replay" => json!({ "capacity": self.capacity, "replay_batch": self.replay_batch }),
            _ => json!({}),
        }
    }
}

/// Trains on the stream and records the accuracy matrix and what follows from it.
pub(super) fn run(cell: &Cell, ctx: &mut CellContext) -> anyhow::Result<()> {
    let keys = Keys::of(cell)?;
    let data = setup::load(ctx.data_dir(), keys.train_examples, keys.test_examples)?;
    let (channels, height, width) = data.train.dims();
    let kind = StreamKind::ClassSplit { tasks: TASKS, shuffle: false };
    let stream = TaskStream::new(data.train, data.test, kind, cell.seed())?;
    let model = Mlp::new(&[channels * height * width, 128, 128, setup::CLASSES])?;
    let setting = Setting::of(&stream, keys.scenario, keys.lr)?;
    let mut learner =
        methods::build(&keys.method, keys.method_config(), setting, Box::new(model), cell.seed())?;
    let state = setup::Resume::open(ctx)?.state();
    let plan = Plan::default().epochs(keys.epochs).batch(keys.batch).checkpoint_every(keys.checkpoint_every);
    let mut hooks = CellHooks { ctx, keys: &keys };
    let matrix = stream::resume(&mut *learner, &stream, &plan, cell.seed(), &mut hooks, state.as_ref())?;
    let names: Vec<String> = (0..TASKS).map(task_name).collect();
    let matrix = AccuracyMatrix::full(&names, matrix)?;
    for (metric, value) in [
        ("average_accuracy", matrix.average_accuracy()),
        ("forgetting", matrix.forgetting(Forgetting::default())?),
        ("backward_transfer", matrix.backward_transfer()?),
    ] {
        ctx.record(keys.record(metric, value).step(TASKS as u64 - 1))?;
    }
    Ok(())
}

/// Name of a task in records: the classes it is about.
fn task_name(task: usize) -> String {
    let each = setup::CLASSES as usize / TASKS;
    format!("{}–{}", task * each, (task + 1) * each - 1)
}

impl Keys {
    fn record(&self, metric: &str, value: f64) -> Record {
        Record::new(metric, value).method(&self.method).setting(self.scenario.name())
    }
}

/// Between the stream and the cell.
struct CellHooks<'a> {
    ctx: &'a mut CellContext,
    keys: &'a Keys,
}

impl Hooks for CellHooks<'_> {
    fn checkpoint(&mut self, state: &LearnerState, _steps: u64) -> Result<()> {
        setup::save(self.ctx, state, 0)
    }

    fn stop_requested(&self) -> bool {
        self.ctx.stop_requested()
    }
}

impl StreamHooks for CellHooks<'_> {
    fn on_task_end(&mut self, task: usize, accuracies: &[f64]) -> Result<()> {
        for (tested, &accuracy) in accuracies.iter().enumerate() {
            let record = self.keys.record("accuracy", accuracy).task(task_name(tested));
            self.ctx.record(record.step(task as u64))?;
        }
        self.ctx.progress(task as u64 + 1, TASKS as u64);
        Ok(())
    }
}
