//! What a learner is told about the task, and so which outputs compete.
use serde::{Deserialize, Serialize};

/// Scenario of a stream: van de Ven et al., *Three Types of Incremental Learning*, 2022.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Scenario {
    /// The task is known in training and at test time: only its own classes compete.
    TaskIncremental,
    /// The task is known in training only: all classes seen so far compete.
    ClassIncremental,
    /// Every task has the same classes: all of them compete.
    DomainIncremental,
}

impl Scenario {
    /// Name in records and tables.
    pub fn name(self) -> &'static str {
        match self {
            Self::TaskIncremental => "task-incremental",
            Self::ClassIncremental => "class-incremental",
            Self::DomainIncremental => "domain-incremental",
        }
    }
}
