//! What learns: the trait between methods and everything that drives, stops, resumes and evaluates them.
use crate::{
    Batch, Error, Input, Result, Seed, StateDict, analysis::Affinity, balancing::Gram, params::ParamStore,
};
use serde_json::Value;
use std::{fmt::Debug, path::Path};
use tch::Tensor;

/// Number of an optimiser step, and the seed that its chance comes from.
#[derive(Debug, Clone, Copy)]
pub struct Step {
    /// Optimiser steps made before this one in the whole run.
    pub index: u64,
    /// Seed of the run.
    pub seed: Seed,
}

/// What one step had to say.
#[derive(Debug, Default)]
pub struct StepReport {
    /// Loss of each batch, in the order given, before weighting.
    pub losses: Vec<f64>,
    /// Norm of the update direction before clipping, where it was computed.
    pub grad_norm: Option<f64>,
    /// Weight of each task in the direction, where the method has weights.
    pub weights: Option<Vec<f64>>,
    /// Inner products of the task gradients of the shared parameters, where they were computed.
    pub gram: Option<Gram>,
    /// What a step on one task would do to the loss of another, where that was asked for.
    pub affinity: Option<Affinity>,
    /// What layers traced, such as the gates of mixtures of experts, outside the graph, where that was asked for.
    pub traces: Vec<(String, Tensor)>,
}

/// Something happened between two steps that a method may need to know.
#[derive(Debug)]
#[non_exhaustive]
pub enum Boundary<'a> {
    /// Training on a task begins.
    TaskStart {
        /// Index of the task.
        task: usize,
        /// Classes that it is about, as indices of the output.
        classes: &'a [i64],
    },
    /// Training on a task has ended.
    TaskEnd {
        /// Index of the task.
        task: usize,
    },
    /// A pass over the data has ended.
    EpochEnd {
        /// Index of the epoch, from 0.
        epoch: u64,
    },
}

/// The whole state of a learner: everything that its next step depends on.
///
/// No generator state is in it: a draw depends on the seed, its purpose and the step alone.
#[derive(Debug, Default)]
pub struct LearnerState {
    /// Tensors under the prefixes `p.` (parameters), `o.` (optimiser), `b.` (method buffers), `r.` (replay memory).
    pub tensors: StateDict,
    /// What is not a tensor: counters, schedules, the configuration it was saved with.
    pub facts: Value,
}

impl LearnerState {
    /// Puts `dict` under `prefix`, as copies outside any graph.
    pub fn put(&mut self, prefix: &str, dict: &StateDict) {
        self.tensors.extend(dict.snapshot().with_prefix(prefix));
    }

    /// The tensors under `prefix`, without it.
    pub fn section(&self, prefix: &str) -> StateDict {
        self.tensors.strip_prefix(prefix)
    }

    /// Writes the state to one safetensors file, which appears whole or not at all.
    ///
    /// # Errors
    ///
    /// See [`StateDict::save`].
    pub fn write(&self, path: impl AsRef<Path>) -> Result<()> {
        self.tensors.save(path, &[("facts".to_owned(), self.facts.to_string())].into())
    }

    /// Reads what [`write`](Self::write) wrote.
    ///
    /// # Errors
    ///
    /// [`Error::Io`] or [`Error::Format`] when the file cannot be read, is damaged, or holds no state.
    pub fn read(path: impl AsRef<Path>) -> Result<Self> {
        let store = ParamStore::open(path.as_ref())?;
        let facts = store.metadata().get("facts").and_then(|facts| serde_json::from_str(facts).ok());
        let Some(facts) = facts else {
            return Err(Error::format(path.as_ref(), "holds parameters, not the state of a learner"));
        };
        Ok(Self { tensors: StateDict::from_store(&store)?, facts })
    }

    /// The fact at `key`.
    ///
    /// # Errors
    ///
    /// [`Error::Parse`] when it is missing or of another type.
    pub fn fact<T: serde::de::DeserializeOwned>(&self, key: &str) -> Result<T> {
        let value = self.facts.get(key).cloned().unwrap_or(Value::Null);
        serde_json::from_value(value)
            .map_err(|e| Error::Parse { path: format!("state.{key}"), message: e.to_string() })
    }
}

/// A method that learns from batches and can be stopped, saved and resumed anywhere.
///
/// Resuming is exact: after [`load`](Self::load) of what [`save`](Self::save) gave, the same batches lead to the same
/// bits as if nothing had happened.
pub trait Learner: Debug {
    /// Learns from one batch of each task at hand: several for joint training, one for a stream of tasks.
    ///
    /// # Errors
    ///
    /// [`Error::Diverged`] when a loss or gradient is not finite (the parameters are then as before), and what the model
    /// returns.
    fn observe(&mut self, batches: &[Batch], step: Step) -> Result<StepReport>;

    /// Hears of the start or end of a task or epoch. Does nothing unless the method needs it.
    ///
    /// # Errors
    ///
    /// What the method's own work at the boundary returns.
    fn boundary(&mut self, _event: &Boundary<'_>) -> Result<()> {
        Ok(())
    }

    /// The output for `input`, without gradients; `task` is `None` where the scenario does not tell.
    ///
    /// # Errors
    ///
    /// What the model returns.
    fn predict(&self, input: &Input, task: Option<usize>) -> Result<Tensor>;

    /// A copy of the whole state.
    ///
    /// # Errors
    ///
    /// When the copy does not fit into memory.
    fn save(&self) -> Result<LearnerState>;

    /// Becomes what [`save`](Self::save) saw.
    ///
    /// # Errors
    ///
    /// [`Error::Mismatch`] or [`Error::Parse`] when the state is of another model, method or configuration; the learner
    /// is then as before.
    fn load(&mut self, state: &LearnerState) -> Result<()>;
}
