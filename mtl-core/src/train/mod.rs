//! Training: joint learning of several tasks, the loop around any [`Learner`](crate::Learner), checkpoints.
//!
//! [`fit`] drives a learner, evaluates, stops early, saves and resumes; [`Joint`] is the learner for all tasks at once;
//! [`Checkpoints`] keeps the last two states of a run in files.
mod checkpoint;
mod descend;
mod fit;
mod flat;
mod hooks;
mod joint;
mod options;
mod pass;
mod spare;

pub use checkpoint::Checkpoints;
pub use descend::descend;
pub use fit::{Best, FitConfig, OnDivergence, Outcome, fit};
pub use flat::{FlatAggregation, FlatConfig, NormScope};
pub use hooks::{BatchSource, Hooks, LogLines, NoHooks, Progress, Silent};
pub use joint::{Joint, JointConfig};
pub use options::{GradSource, GramRoute};

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// A method by its name in a registry, with its configuration.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Method {
    /// Name in the registry.
    pub name: String,
    /// Fields that differ from the method's defaults.
    #[serde(default = "empty")]
    pub config: Value,
}

fn empty() -> Value {
    Value::Object(serde_json::Map::new())
}

impl Method {
    /// A method with its defaults.
    pub fn new(name: impl Into<String>) -> Self {
        Self { name: name.into(), config: empty() }
    }

    /// Sets the fields that differ from the defaults.
    #[must_use]
    pub fn config(mut self, config: Value) -> Self {
        self.config = config;
        self
    }
}
