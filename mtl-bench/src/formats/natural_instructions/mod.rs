//! Natural Instructions: Mishra et al., *Cross-Task Generalization via Natural Language Crowdsourcing Instructions*, ACL
//! 2022, arXiv 2104.08773 (v1), and Wang et al., *Super-NaturalInstructions*, EMNLP 2022, arXiv 2204.07705 (v2).
//!
//! [`NiTask`] reads both schemas, [`Encoding`] writes prompts, [`Split`] parts tasks into seen and unseen ones, and
//! [`evaluate`] scores a [`System`](crate::system::System) by ROUGE-L and exact match.
mod encoding;
mod evaluate;
mod split;
mod task;
mod v1;

pub use encoding::{Budget, Encoding, TokenCounter, WhiteSpace};
pub use evaluate::{Baseline, NiOptions, NiPrediction, NiReport, NiScores, baseline, evaluate};
pub use split::{Split, SplitTasks, read_names, training_instances};
pub use task::{NiExample, NiInstance, NiTask, NiVersion};
pub use v1::{V1Encoding, V1Part};
