//! Fine-tuning: plain training on each task in turn, the lower bound of continual learning; McCloskey and Cohen,
//! *Catastrophic Interference in Connectionist Networks*, 1989.
use super::{Method, only_batch};
use crate::Classifier;
use mtl_core::{
    Batch, Context, Input, Learner, LearnerState, Result,
    learner::{Boundary, Step, StepReport},
    registry::{self, Entry, MethodInfo},
};
use serde::{Deserialize, Serialize};
use tch::Tensor;

pub(super) const ENTRY: Entry<dyn Method> = Entry {
    info: MethodInfo {
        name: "fine-tuning",
        paper: "Catastrophic Interference in Connectionist Networks",
        source: "10.1016/S0079-7421(08)60536-8",
    },
    build: |config| Ok(Box::new(registry::parse::<FineTuningConfig>(config)?)),
};

/// Hyper-parameters of [`FineTuning`]; there are none.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct FineTuningConfig {}

impl Method for FineTuningConfig {
    fn learner(&self, classifier: Classifier) -> Result<Box<dyn Learner>> {
        Ok(Box::new(FineTuning { classifier }))
    }
}

/// Learns from the current batch alone.
#[derive(Debug)]
pub struct FineTuning {
    classifier: Classifier,
}

impl Learner for FineTuning {
    fn observe(&mut self, batches: &[Batch], step: Step) -> Result<StepReport> {
        let (rows, task) = only_batch(batches)?;
        let loss = self.classifier.loss(&rows, &Context::train(step.seed, step.index).with_task(task))?;
        self.classifier.descend(&loss, task, step)
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
        Ok(self.classifier.save())
    }

    fn load(&mut self, state: &LearnerState) -> Result<()> {
        self.classifier.load(state)
    }
}
