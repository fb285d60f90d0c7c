//! The vocabulary, the functional models and the training that every family of this workspace shares.
//!
//! *A model is a function of its parameters.* A model here is a plain configuration; its parameters live outside it in
//! a named, ordered [`StateDict`], and `forward` reads them through the [`ParamSource`] trait. Whatever answers to that
//! trait can drive any model: a plain dictionary, a differentiable mixture of task vectors, a LoRA overlay on a frozen
//! base, a narrower slice. That is what lets merging, continual learning, prompting and experts combine freely.
//!
//! Without default features this crate is the vocabulary alone and builds without libtorch: errors, named random
//! streams, method registries, task specs, records, atomic files, data loaders and memory-mapped parameter files.
#![cfg_attr(not(feature = "torch"), doc = "", doc = "[`StateDict`]: crate", doc = "[`ParamSource`]: crate")]

#[cfg(feature = "torch")]
pub mod balancing;
#[cfg(feature = "torch")]
pub mod check;
pub mod data;
pub mod error;
pub mod files;
#[cfg(feature = "torch")]
mod guard;
#[cfg(feature = "torch")]
pub mod learner;
#[cfg(feature = "torch")]
pub mod loss;
#[cfg(feature = "torch")]
mod model;
#[cfg(feature = "torch")]
pub mod models;
#[cfg(feature = "torch")]
pub mod nn;
#[cfg(feature = "torch")]
pub mod optim;
pub mod params;
pub mod record;
pub mod registry;
pub mod rng;
#[cfg(feature = "torch")]
pub mod source;
#[cfg(feature = "torch")]
pub mod state_dict;
pub mod task;
#[cfg(feature = "torch")]
pub mod train;

pub use error::{Error, Result};
pub use record::Record;
pub use rng::Seed;
pub use task::{TaskKind, TaskSpec};

#[cfg(feature = "torch")]
pub use {
    guard::{isolate, no_grad, set_threads},
    learner::{Learner, LearnerState},
    model::{Batch, Context, Cost, Encoder, Features, Input, Model, MultiTaskModel},
    source::ParamSource,
    state_dict::StateDict,
};
