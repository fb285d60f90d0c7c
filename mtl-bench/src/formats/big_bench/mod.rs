//! BIG-bench's JSON tasks: Srivastava et al., *Beyond the Imitation Game: Quantifying and extrapolating the capabilities
//! of language models*, TMLR 2023, arXiv 2206.04615; format of google/BIG-bench, `docs/doc.md`.
//!
//! [`load`] reads a task or a folder of sub-tasks, [`Task::prompt`] writes the prompt, [`evaluate`] asks a
//! [`System`](crate::system::System) and scores it. How scores grow with scale is
//! [`ScalingShape`](crate::stats::ScalingShape)'s.
mod evaluate;
mod generation;
mod metric;
mod prompt;
mod task;

pub use evaluate::{GroupScores, LengthNormalisation, Options, Prediction, Scores, evaluate, evaluate_all};
pub use metric::Metric;
pub use prompt::{PromptFormat, Shot};
pub use task::{Example, Task, Tasks, load};
