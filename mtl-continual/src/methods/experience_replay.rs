//! Experience replay: Chaudhry et al., *On Tiny Episodic Memories in Continual Learning*, 2019, arXiv 1902.10486.
use super::{Method, only_batch};
use crate::{
    Classifier,
    buffer::{Buffer, Reservoir, Rows},
};
use mtl_core::{
    Batch, Context, Error, Input, Learner, LearnerState, Result,
    learner::{Boundary, Step, StepReport},
    registry::{self, Entry, MethodInfo},
};
use serde::{Deserialize, Serialize};
use tch::Tensor;

pub(super) const ENTRY: Entry<dyn Method> = Entry {
    info: MethodInfo {
        name: "experience-replay",
        paper: "On Tiny Episodic Memories in Continual Learning",
        source: "arXiv 1902.10486",
    },
    build: |config| Ok(Box::new(registry::parse::<ExperienceReplayConfig>(config)?)),
};

/// Hyper-parameters of [`ExperienceReplay`].
///
/// The paper replays as many examples as a batch has, 10, and studies memories of 1 to 20 examples per class; the default
/// capacity is the 500 that later comparisons on split MNIST share.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct ExperienceReplayConfig {
    /// Examples the memory holds. At least 1.
    pub capacity: usize,
    /// Examples drawn from it for each step. At least 1.
    pub replay_batch: usize,
}

impl Default for ExperienceReplayConfig {
    fn default() -> Self {
        Self { capacity: 500, replay_batch: 10 }
    }
}

impl ExperienceReplayConfig {
    /// Sets [`ExperienceReplayConfig::capacity`].
    #[must_use]
    pub fn capacity(mut self, capacity: usize) -> Self {
        self.capacity = capacity;
        self
    }

    /// Sets [`ExperienceReplayConfig::replay_batch`].
    #[must_use]
    pub fn replay_batch(mut self, replay_batch: usize) -> Self {
        self.replay_batch = replay_batch;
        self
    }
}

impl Method for ExperienceReplayConfig {
    fn learner(&self, classifier: Classifier) -> Result<Box<dyn Learner>> {
        let buffer = Box::new(Reservoir::new(self.capacity)?);
        Ok(Box::new(ExperienceReplay::new(classifier, buffer, self.replay_batch)?))
    }
}

/// Learns from the current batch and a draw from the memory together, then offers the batch to the memory.
///
/// The loss is the mean over both, so replay weighs as much as the number of rows drawn.
#[derive(Debug)]
pub struct ExperienceReplay {
    classifier: Classifier,
    buffer: Box<dyn Buffer>,
    replay_batch: usize,
}

impl ExperienceReplay {
    /// Replay out of `buffer`, whatever its policy.
    ///
    /// # Errors
    ///
    /// [`Error::Config`] when `replay_batch` is 0.
    pub fn new(classifier: Classifier, buffer: Box<dyn Buffer>, replay_batch: usize) -> Result<Self> {
        if replay_batch == 0 {
            return Err(Error::config("replay_batch", "at least 1", replay_batch));
        }
        Ok(Self { classifier, buffer, replay_batch })
    }
}

impl Learner for ExperienceReplay {
    fn observe(&mut self, batches: &[Batch], step: Step) -> Result<StepReport> {
        let (current, task) = only_batch(batches)?;
        let ctx = Context::train(step.seed, step.index).with_task(task);
        let loss = match self.buffer.draw(self.replay_batch, step.seed, step.index) {
            Some(past) => {
                let both = Rows {
                    input: Tensor::cat(&[&current.input, &past.input], 0),
                    label: Tensor::cat(&[&current.label, &past.label], 0),
                    task: Tensor::cat(&[&current.task, &past.task], 0),
                };
                self.classifier.loss(&both, &ctx)?
            }
            None => self.classifier.loss(&current, &ctx)?,
        };
        let report = self.classifier.descend(&loss, task, step)?;
        self.buffer.offer(&current, step.seed, step.index)?;
        Ok(report)
    }

    fn boundary(&mut self, event: &Boundary<'_>) -> Result<()> {
        match event {
            Boundary::TaskStart { task, .. } => self.classifier.begin_task(*task),
            _ => Ok(()),
        }
    }

    fn predict(&self, input: &Input, task: Option<usize>) -> Result<Tensor> {
        self.classifier.predict(input, task)
    }

    fn save(&self) -> Result<LearnerState> {
        let mut state = self.classifier.save();
        state.put("r.", &self.buffer.state());
        Ok(state)
    }

    fn load(&mut self, state: &LearnerState) -> Result<()> {
        let before = self.buffer.state();
        self.buffer.load_state(&state.section("r."))?;
        // A state that fits the memory but not the classifier must change neither.
        self.classifier.load(state).or_else(|err| self.buffer.load_state(&before).and(Err(err)))
    }
}
