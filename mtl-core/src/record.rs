//! Records: the only thing that studies write and reports read.
use crate::{Error, Result};
use serde::{Deserialize, Serialize};

/// One measured number, and where it came from.
///
/// ```
/// use mtl_core::Record;
///
/// let record = Record::new("accuracy", 0.93).method("pcgrad").task("parity").seed(2).step(400);
/// assert_eq!((record.method.as_str(), record.value), ("pcgrad", 0.93));
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Record {
    /// Study that ran.
    pub study: String,
    /// Identifier of the cell: the hash of its resolved configuration.
    pub cell: String,
    /// What is being compared: a row of the result table.
    pub method: String,
    /// Circumstances that are held fixed in a comparison: data set, scenario, budget.
    pub setting: String,
    /// Seed of the run.
    pub seed: u64,
    /// Task that was measured; empty when the number is about all tasks.
    pub task: String,
    /// Optimiser step, or index of the experience, at which it was measured.
    pub step: u64,
    /// Metric, with its unit unless it is a pure number: `accuracy`, `latency_ms`.
    pub metric: String,
    /// The number; always finite.
    pub value: f64,
}

impl Record {
    /// A record of `metric` with everything else empty.
    pub fn new(metric: impl Into<String>, value: f64) -> Self {
        Self {
            study: String::new(),
            cell: String::new(),
            method: String::new(),
            setting: String::new(),
            seed: 0,
            task: String::new(),
            step: 0,
            metric: metric.into(),
            value,
        }
    }

    /// Sets [`Record::method`].
    #[must_use]
    pub fn method(mut self, method: impl Into<String>) -> Self {
        self.method = method.into();
        self
    }

    /// Sets [`Record::setting`].
    #[must_use]
    pub fn setting(mut self, setting: impl Into<String>) -> Self {
        self.setting = setting.into();
        self
    }

    /// Sets [`Record::task`].
    #[must_use]
    pub fn task(mut self, task: impl Into<String>) -> Self {
        self.task = task.into();
        self
    }

    /// Sets [`Record::seed`].
    #[must_use]
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = seed;
        self
    }

    /// Sets [`Record::step`].
    #[must_use]
    pub fn step(mut self, step: u64) -> Self {
        self.step = step;
        self
    }

    /// Refuses a value that is NaN or infinite.
    ///
    /// # Errors
    ///
    /// [`Error::Config`] naming the metric.
    pub fn check(&self) -> Result<()> {
        if self.value.is_finite() {
            return Ok(());
        }
        let field = format!("{} of {}", self.metric, self.method);
        Err(Error::config(field, "finite", self.value))
    }
}
