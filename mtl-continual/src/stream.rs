//! The loop over a stream of tasks: train on one after the other, score all of them after each.
use mtl_core::{
    Batch, Error, Learner, LearnerState, Result, Seed,
    data::{EpochSampler, TaskStream, TensorDataset},
    learner::{Boundary, StepReport},
    train::{FitConfig, Hooks, Progress, fit},
};
use serde::{Deserialize, Serialize};
use serde_json::json;

/// How long to train on each task, and how.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct Plan {
    /// Passes over the data of each task. At least 1.
    pub epochs: u64,
    /// Examples in a batch. At least 1.
    pub batch: usize,
    /// Steps between two checkpoints; 0 for none.
    pub checkpoint_every: u64,
}

impl Default for Plan {
    /// One pass in batches of ten: the online protocol of the literature on replay.
    fn default() -> Self {
        Self { epochs: 1, batch: 10, checkpoint_every: 0 }
    }
}

impl Plan {
    /// Sets [`Plan::epochs`].
    #[must_use]
    pub fn epochs(mut self, epochs: u64) -> Self {
        self.epochs = epochs;
        self
    }

    /// Sets [`Plan::batch`].
    #[must_use]
    pub fn batch(mut self, batch: usize) -> Self {
        self.batch = batch;
        self
    }

    /// Sets [`Plan::checkpoint_every`].
    #[must_use]
    pub fn checkpoint_every(mut self, checkpoint_every: u64) -> Self {
        self.checkpoint_every = checkpoint_every;
        self
    }
}

/// What happens on the way besides what [`Hooks`] hear; steps are counted within the task.
pub trait StreamHooks: Hooks {
    /// Hears the accuracy on every task of the stream after training on `task`.
    ///
    /// # Errors
    ///
    /// Ends the stream with that error.
    fn on_task_end(&mut self, _task: usize, _accuracies: &[f64]) -> Result<()> {
        Ok(())
    }
}

/// No hooks at all.
#[derive(Debug, Default, Clone, Copy)]
pub struct NoHooks;

impl Hooks for NoHooks {}
impl StreamHooks for NoHooks {}

/// Where in the stream a state was saved.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Position {
    task: usize,
    /// Rows of the accuracy matrix filled so far.
    matrix: Vec<Vec<f64>>,
}

/// Trains `learner` on every task of `stream` in turn and returns the accuracy matrix.
///
/// Row `i` holds the accuracy on every task after training on task `i`; tasks still to come are scored too. A task-id is
/// given to [`Learner::predict`] always; whether it is used is up to the learner's scenario.
///
/// # Errors
///
/// [`Error::Interrupted`] after the state was saved because a stop was requested; what the learner, the stream and the
/// hooks return.
pub fn train(
    learner: &mut dyn Learner,
    stream: &TaskStream,
    plan: &Plan,
    seed: Seed,
    hooks: &mut dyn StreamHooks,
) -> Result<Vec<Vec<f64>>> {
    resume(learner, stream, plan, seed, hooks, None)
}

/// As [`train`], going on from a state that the hooks were given as a checkpoint.
///
/// # Errors
///
/// As [`train`]; [`Error::Parse`] for a state that is no checkpoint of a stream.
pub fn resume(
    learner: &mut dyn Learner,
    stream: &TaskStream,
    plan: &Plan,
    seed: Seed,
    hooks: &mut dyn StreamHooks,
    from: Option<&LearnerState>,
) -> Result<Vec<Vec<f64>>> {
    if plan.epochs == 0 {
        return Err(Error::config("epochs", "at least 1", 0));
    }
    let mut inner = from.map(unwrap).transpose()?;
    let mut position = inner.as_mut().map(|(position, _)| std::mem::take(position)).unwrap_or_default();
    let tests =
        (0..stream.len()).map(|task| Ok(stream.experience(task)?.test)).collect::<Result<Vec<_>>>()?;
    while position.task < stream.len() {
        let task = position.task;
        let experience = stream.experience(task)?;
        // A state saved inside a task has its start behind it.
        let state = inner.take().map(|(_, state)| state);
        if state.is_none() {
            learner.boundary(&Boundary::TaskStart { task, classes: &experience.classes })?;
        }
        let seed = seed.fork(&format!("task {task}"));
        let mut sampler = EpochSampler::new(experience.train.len(), plan.batch, seed)?;
        let epoch = sampler.steps_per_epoch();
        let config = FitConfig::steps(plan.epochs * epoch)
            .steps_per_epoch(epoch)
            .checkpoint_every(plan.checkpoint_every);
        let mut batches = |step| {
            let Batch { input, target, .. } = experience.train.batch(0, &sampler.indices(step))?;
            Ok(vec![Batch { task, input, target }])
        };
        let mut inside = Inside { hooks, position: &position };
        fit(learner, &mut batches, &config, seed, &mut inside, state.as_ref())?;
        learner.boundary(&Boundary::TaskEnd { task })?;
        let row = tests
            .iter()
            .enumerate()
            .map(|(task, test)| accuracy(learner, test, task))
            .collect::<Result<Vec<_>>>()?;
        hooks.on_task_end(task, &row)?;
        position.matrix.push(row);
        position.task += 1;
    }
    Ok(position.matrix)
}

/// Share of the examples of `test` whose label has the largest logit.
fn accuracy(learner: &dyn Learner, test: &TensorDataset, task: usize) -> Result<f64> {
    let mut correct = 0;
    for indices in test.chunks(256) {
        let batch = test.batch(0, &indices)?;
        let predicted = learner.predict(&batch.input, Some(task))?.argmax(-1, false);
        correct += predicted.eq_tensor(&batch.target).sum(tch::Kind::Int64).int64_value(&[]);
    }
    Ok(correct as f64 / test.len() as f64)
}

/// Puts the position into what the training loop of one task saves.
struct Inside<'a> {
    hooks: &'a mut dyn StreamHooks,
    position: &'a Position,
}

impl Hooks for Inside<'_> {
    fn on_step(&mut self, step: u64, report: &StepReport) -> Result<()> {
        self.hooks.on_step(step, report)
    }

    fn checkpoint(&mut self, state: &LearnerState, steps: u64) -> Result<()> {
        let facts = json!({ "stream": self.position, "task": state.facts });
        self.hooks.checkpoint(&LearnerState { tensors: state.tensors.shallow(), facts }, steps)
    }

    fn stop_requested(&self) -> bool {
        self.hooks.stop_requested()
    }

    fn progress(&mut self) -> Option<&mut dyn Progress> {
        self.hooks.progress()
    }
}

/// The position and the state of the task's training loop.
fn unwrap(state: &LearnerState) -> Result<(Position, LearnerState)> {
    let inner = LearnerState { tensors: state.tensors.shallow(), facts: state.fact("task")? };
    Ok((state.fact("stream")?, inner))
}
