//! Methods for learning one task after the other.
mod experience_replay;
mod fine_tuning;

pub use experience_replay::{ExperienceReplay, ExperienceReplayConfig};
pub use fine_tuning::{FineTuning, FineTuningConfig};

use crate::{Classifier, Scenario, buffer::Rows};
use mtl_core::{
    Batch, Error, Learner, Model, Result, Seed,
    data::TaskStream,
    optim::{Optimizer, SgdConfig},
    registry::{Entry, Registry},
};
use serde_json::Value;
use std::fmt::Debug;
use tch::Tensor;

/// A method's configuration, ready to make a learner.
pub trait Method: Debug {
    /// A learner that starts from the parameters of `classifier`.
    ///
    /// # Errors
    ///
    /// [`Error::Config`] when a hyper-parameter is outside its range.
    fn learner(&self, classifier: Classifier) -> Result<Box<dyn Learner>>;
}

/// Every method of this crate, in the order of the documentation.
pub const METHODS: &[Entry<dyn Method>] = &[fine_tuning::ENTRY, experience_replay::ENTRY];

/// Registry of [`METHODS`]; add your own rows with [`Registry::with`].
pub fn registry() -> Registry<dyn Method> {
    Registry::new(METHODS)
}

/// The learner of the method called `name`.
///
/// # Errors
///
/// [`Error::Unknown`] for a name that no method has, [`Error::Parse`] for a field it has not, and what
/// [`Method::learner`] and [`Classifier::new`] return.
pub fn build(
    name: &str,
    config: Value,
    setting: Setting,
    model: Box<dyn Model>,
    seed: Seed,
) -> Result<Box<dyn Learner>> {
    registry().build(name, config)?.learner(Classifier::new(model, setting, seed)?)
}

/// What all methods need to know of the stream and of the steps they make.
#[derive(Debug)]
pub struct Setting {
    /// What a learner is told about the task.
    pub scenario: Scenario,
    /// Number of classes of the whole stream.
    pub classes: i64,
    /// Classes of each task.
    pub classes_of: Vec<Vec<i64>>,
    /// Makes the steps; plain stochastic gradient descent unless replaced.
    pub optimizer: Box<dyn Optimizer>,
    /// Learning rate. Positive.
    pub lr: f64,
}

impl Setting {
    /// The setting that `stream` asks for.
    ///
    /// # Errors
    ///
    /// What [`TaskStream::classes_of`] returns; never in practice.
    pub fn of(stream: &TaskStream, scenario: Scenario, lr: f64) -> Result<Self> {
        let classes_of = (0..stream.len()).map(|task| stream.classes_of(task)).collect::<Result<_>>()?;
        let optimizer = Box::new(SgdConfig::default().build()?);
        Ok(Self { scenario, classes: stream.classes(), classes_of, optimizer, lr })
    }

    /// Sets [`Setting::optimizer`].
    #[must_use]
    pub fn optimizer(mut self, optimizer: Box<dyn Optimizer>) -> Self {
        self.optimizer = optimizer;
        self
    }

    pub(crate) fn check(&self) -> Result<()> {
        if !(self.lr > 0.0 && self.lr.is_finite()) {
            return Err(Error::config("lr", "positive and finite", self.lr));
        }
        if self.classes_of.is_empty() {
            return Err(Error::config("classes_of", "the classes of at least one task", "empty"));
        }
        match self.classes_of.iter().flatten().find(|c| !(0..self.classes).contains(*c)) {
            Some(class) => Err(Error::config("classes_of", format!("classes in 0..{}", self.classes), class)),
            None => Ok(()),
        }
    }
}

/// The one batch that a method for streams learns from, as rows.
fn only_batch(batches: &[Batch]) -> Result<(Rows, usize)> {
    let [batch] = batches else {
        return Err(Error::config("batches", "one batch, of the current task", batches.len()));
    };
    let task = Tensor::full_like(&batch.target, batch.task as i64);
    let rows = Rows { input: batch.input.values.shallow_clone(), label: batch.target.shallow_clone(), task };
    Ok((rows, batch.task))
}
