//! How all widths are trained together.
#[cfg(doc)]
use super::SlimmableTrainer;
use super::{CiKd, DistilAt};
#[cfg(doc)]
use crate::optim::OPTIMIZERS;
use crate::{
    Error, Result,
    optim::{Clip, Schedule},
    train::Method,
};
use serde::{Deserialize, Serialize};

/// How [`SlimmableTrainer`] learns; numbers the paper does not state are reconstructions.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct SlimmableTrainerConfig {
    /// Optimiser, one of [`OPTIMIZERS`].
    pub optimizer: Method,
    /// Learning rate of each step.
    pub schedule: Schedule,
    /// Bound on the gradients.
    pub clip: Option<Clip>,
    /// Networks per step besides the whole one: the smallest, then random ones. At least 0.
    pub subnets: usize,
    /// Draws the width of each encoder stage by itself, not one for all.
    pub per_stage: bool,
    /// Distillation from the widest encoder.
    pub distillation: Option<CiKd>,
    /// Features that are distilled.
    pub distil_at: DistilAt,
    /// Factor β of the distillation. At least 0.
    pub beta: f64,
    /// Factor λ of each task's loss, at least 0; 1 where there is none.
    pub task_weights: Vec<f64>,
}

impl Default for SlimmableTrainerConfig {
    fn default() -> Self {
        Self {
            optimizer: Method::new("adam"),
            schedule: Schedule::default(),
            clip: None,
            subnets: 2,
            per_stage: false,
            distillation: Some(CiKd::SliceMse),
            distil_at: DistilAt::EveryStage,
            beta: 1.0,
            task_weights: Vec::new(),
        }
    }
}

impl SlimmableTrainerConfig {
    /// Sets the optimiser.
    #[must_use]
    pub fn optimizer(mut self, optimizer: Method) -> Self {
        self.optimizer = optimizer;
        self
    }

    /// Sets the learning rates.
    #[must_use]
    pub fn schedule(mut self, schedule: Schedule) -> Self {
        self.schedule = schedule;
        self
    }

    /// Bounds the gradients.
    #[must_use]
    pub fn clip(mut self, clip: Clip) -> Self {
        self.clip = Some(clip);
        self
    }

    /// Sets the number of networks per step besides the whole one.
    #[must_use]
    pub fn subnets(mut self, subnets: usize) -> Self {
        self.subnets = subnets;
        self
    }

    /// Sets whether encoder stages draw widths of their own.
    #[must_use]
    pub fn per_stage(mut self, per_stage: bool) -> Self {
        self.per_stage = per_stage;
        self
    }

    /// Sets the distillation.
    #[must_use]
    pub fn distillation(mut self, distillation: Option<CiKd>) -> Self {
        self.distillation = distillation;
        self
    }

    /// Sets the features that are distilled.
    #[must_use]
    pub fn distil_at(mut self, distil_at: DistilAt) -> Self {
        self.distil_at = distil_at;
        self
    }

    /// Sets the factor of the distillation.
    #[must_use]
    pub fn beta(mut self, beta: f64) -> Self {
        self.beta = beta;
        self
    }

    /// Sets the factor of each task's loss.
    #[must_use]
    pub fn task_weights(mut self, task_weights: &[f64]) -> Self {
        self.task_weights = task_weights.to_vec();
        self
    }

    pub(super) fn check(&self, tasks: usize) -> Result<()> {
        self.schedule.check()?;
        self.clip.map_or(Ok(()), Clip::check)?;
        let fine = |v: f64| 0.0 <= v && v.is_finite();
        if !fine(self.beta) {
            return Err(Error::config("beta", "finite and at least 0", self.beta));
        }
        let weights = &self.task_weights;
        if !(weights.is_empty() || weights.len() == tasks) || weights.iter().any(|w| !fine(*w)) {
            let must = format!("empty or {tasks} finite numbers of at least 0");
            return Err(Error::config("task_weights", must, format!("{weights:?}")));
        }
        Ok(())
    }
}
