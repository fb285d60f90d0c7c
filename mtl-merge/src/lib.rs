//! Model merging: a streaming engine over safetensors checkpoints, without libtorch.
//!
//! A [`Recipe`] names a method, checkpoints of one architecture and parameters; an [`Engine`] runs it, tensor by tensor,
//! in parallel and in bounded memory, and writes one new checkpoint or none. Sums run in `f64` and each value is
//! rounded once, so results are within half a unit in the last place (and one `f32` rounding) of exact arithmetic, and
//! the same to the last bit for any number of threads.
//!
//! Fine-tuned models of two tasks, added to the model they came from:
//!
//! ```
//! use mtl_core::params::{ParamStore, ParamView, write_params};
//! use mtl_merge::{Recipe, TaskVectorStats};
//!
//! let dir = tempfile::tempdir()?;
//! let path = |name: &str| dir.path().join(name).to_string_lossy().into_owned();
//! let models = [("base", [1.0, 1.0]), ("digits", [2.0, 1.0]), ("letters", [1.0, 3.0])];
//! for (name, weight) in models {
//!     write_params(path(name), &Default::default(), &[ParamView::f32("head.weight", &[1, 2], &weight)])?;
//! }
//!
//! let recipe = Recipe::new("task_arithmetic")
//!     .base(path("base"))
//!     .model(path("digits"), 1.0)
//!     .model(path("letters"), 0.5);
//! recipe.run(path("merged.safetensors").as_ref())?;
//! assert_eq!(*ParamStore::open(path("merged.safetensors"))?.f32s("head.weight")?, [2.0, 2.0]);
//!
//! let (base, digits, letters) = (path("base"), path("digits"), path("letters"));
//! let stats = TaskVectorStats::of_files(base.as_ref(), &[digits.as_ref(), letters.as_ref()])?;
//! assert_eq!((stats.norms[1], stats.cosine[0][1]), (2.0, 0.0)); // The tasks change different weights.
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! [`Recipe::from_path`] reads mergekit's configurations as they are, [`Stages`] those of several merges; complaints name
//! the line. Tensors that are already in memory, such as those of a study, are [`TensorMap`]s and go through
//! [`Recipe::run_in_memory`]. A method is one type that implements [`MergeMethod`]; its page shows one of a user's own.

mod checkpoint;
#[cfg(feature = "cli")]
pub mod cli;
mod engine;
mod error;
#[cfg(feature = "spectral")]
mod linalg;
mod method;
pub mod methods;
pub mod params;
pub mod recipe;
mod select;
mod task_vector;
mod tensor;
mod tensors;
pub mod tokenizer;
pub mod tools;

pub use engine::{Engine, MergeReport, Progress};
pub use error::{Error, Result};
pub use method::{Base, Kernel, MergeMethod, MethodSpec, Methods, Partial, Piece, Survey, Work};
pub use methods::METHODS;
pub use params::{ParamKind, ParamSpec, ParamValue, Params, Preset, Resolved};
pub use recipe::{FloatType, ModelEntry, ModelRef, Recipe, Stage, Stages, Warning};
pub use task_vector::{PartNorms, TaskVectorStats, task_vector};
pub use tensor::{Tensor, Uniform, Which};
pub use tensors::{HostTensor, TensorMap};
