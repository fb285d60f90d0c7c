//! What the training loop asks and tells the outside.
use crate::{Batch, Learner, LearnerState, Result, learner::StepReport};
use std::time::{Duration, Instant};

/// Where batches come from.
///
/// A batch depends on the step alone, so that a resumed run sees the same batches: draw from
/// [`Seed::stream`](crate::Seed::stream) with the step.
pub trait BatchSource {
    /// The batches of step `step`, one for each task at hand.
    ///
    /// # Errors
    ///
    /// When the data cannot be had.
    fn batches(&mut self, step: u64) -> Result<Vec<Batch>>;
}

impl<F: FnMut(u64) -> Result<Vec<Batch>>> BatchSource for F {
    fn batches(&mut self, step: u64) -> Result<Vec<Batch>> {
        self(step)
    }
}

/// What happens between steps; nothing of it is needed.
///
/// An error of a hook ends the training with that error.
pub trait Hooks {
    /// Hears of each step.
    ///
    /// # Errors
    ///
    /// See [`Hooks`].
    fn on_step(&mut self, _step: u64, _report: &StepReport) -> Result<()> {
        Ok(())
    }

    /// Score of the learner after `steps` steps; early stopping watches it. `None` when there is none.
    ///
    /// # Errors
    ///
    /// See [`Hooks`].
    fn evaluate(&mut self, _learner: &dyn Learner, _steps: u64) -> Result<Option<f64>> {
        Ok(None)
    }

    /// Keeps the state after `steps` steps, from which [`fit`](super::fit) can go on.
    ///
    /// # Errors
    ///
    /// See [`Hooks`].
    fn checkpoint(&mut self, _state: &LearnerState, _steps: u64) -> Result<()> {
        Ok(())
    }

    /// Whether to save and leave after this step.
    fn stop_requested(&self) -> bool {
        false
    }

    /// Who shows how far training is.
    fn progress(&mut self) -> Option<&mut dyn Progress> {
        None
    }
}

/// No hooks at all.
#[derive(Debug, Default, Clone, Copy)]
pub struct NoHooks;

impl Hooks for NoHooks {}

/// Shows how far training is.
pub trait Progress {
    /// `done` of `total` steps are made.
    fn step(&mut self, done: u64, total: u64, report: &StepReport);

    /// Training has ended after `done` steps.
    fn finish(&mut self, done: u64);
}

/// Shows nothing.
#[derive(Debug, Default, Clone, Copy)]
pub struct Silent;

impl Progress for Silent {
    fn step(&mut self, _done: u64, _total: u64, _report: &StepReport) {}

    fn finish(&mut self, _done: u64) {}
}

/// Writes a line to the log from time to time.
#[derive(Debug)]
pub struct LogLines {
    every: Duration,
    started: Instant,
    last: Instant,
}

impl LogLines {
    /// At most one line in each `every`.
    pub fn every(every: Duration) -> Self {
        let now = Instant::now();
        Self { every, started: now, last: now }
    }
}

impl Progress for LogLines {
    fn step(&mut self, done: u64, total: u64, report: &StepReport) {
        let now = Instant::now();
        if now.duration_since(self.last) >= self.every {
            self.last = now;
            let loss: f64 = report.losses.iter().sum();
            tracing::info!("step {done} of {total}, loss {loss:.4}");
        }
    }

    fn finish(&mut self, done: u64) {
        tracing::info!("{done} steps in {:.1} s", self.started.elapsed().as_secs_f64());
    }
}
