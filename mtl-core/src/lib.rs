//! The vocabulary, the functional models and the training that every family of this workspace shares.
//!
//! *A model is a function of its parameters.* A model here is a plain configuration; its parameters live outside it in
//! a named, ordered [`StateDict`], and `forward` reads them through the [`ParamSource`] trait. Whatever answers to that
//! trait can drive any model: a plain dictionary, a differentiable mixture of task vectors, a LoRA overlay on a frozen
//! base, a narrower slice. That is what lets merging, continual learning, prompting and experts combine freely.
//!
//! Without default features this crate is the vocabulary alone and builds without libtorch: errors, named random
//! streams, method registries, task specs, records, atomic files, data loaders and memory-mapped parameter files.
#![cfg_attr(
    feature = "torch",
    doc = r#"
One network for two tasks, trained on both at once with conflicting gradients projected:

```
use mtl_core::{Batch, Model, Result, Seed, TaskSpec, models::{Mlp, MultiTask}};
use mtl_core::train::{FitConfig, Joint, JointConfig, Method, NoHooks, fit};
use std::sync::Arc;
use tch::Tensor;

let tasks = vec![TaskSpec::classification("first", 2), TaskSpec::classification("second", 2)];
let model = Arc::new(MultiTask::new(Arc::new(Mlp::new(&[2, 16])?), tasks)?);
let params = model.init(Seed(0))?.trainable();
let config = JointConfig::default().balancer(Method::new("pcgrad"));
let mut learner = Joint::new(model, params, config)?;

// Which of the two numbers is positive: one task for each.
let mut batches = |_step| -> Result<Vec<Batch>> {
    let x = Tensor::from_slice(&[1.0f32, 1.0, 1.0, -1.0, -1.0, 1.0, -1.0, -1.0]).view([4, 2]);
    let positive = |task| x.select(1, task).gt(0.0).to_kind(tch::Kind::Int64);
    let batch = |task| Batch { task, input: x.shallow_clone().into(), target: positive(task as i64) };
    Ok(vec![batch(0), batch(1)])
};
fit(&mut learner, &mut batches, &FitConfig::steps(200), Seed(0), &mut NoHooks, None)?;

use mtl_core::Learner;
let input = Tensor::from_slice(&[2.0f32, -2.0]).view([1, 2]).into();
let classes = [0, 1].map(|task| learner.predict(&input, Some(task)).map(|y| y.argmax(-1, false).int64_value(&[0])));
assert_eq!((classes[0].as_ref().unwrap(), classes[1].as_ref().unwrap()), (&1, &0));
# Ok::<(), mtl_core::Error>(())
```
"#
)]
#![cfg_attr(
    feature = "torch",
    doc = r#"
# Joint training

[`train::Joint`] learns all tasks at once. Its [`JointConfig`](train::JointConfig) names an optimiser, a balancer of
[`balancing`] (how task losses or gradients become one direction) and, where wanted, flat regions
([`FlatConfig`](train::FlatConfig)) and what the gradients are gradients of. The model is any [`MultiTaskModel`]: an
encoder with heads ([`models::MultiTask`]), one of the [`architectures`], a [`slimmable`] network, or your own.
[`analysis`] measures conflict, affinity and transfer.

# Write your own

* A balancer: one trait by what it has to see, registered under a name; a whole one in under 40 lines is at the end of
  [`balancing`].
* An architecture: which parameters there are, and which features a task gets of them; a whole one in under 40 lines is
  at the end of [`architectures`].
"#
)]
#![cfg_attr(not(feature = "torch"), doc = "", doc = "[`StateDict`]: crate", doc = "[`ParamSource`]: crate")]

pub mod analysis;
#[cfg(feature = "torch")]
pub mod architectures;
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
pub mod slimmable;
pub mod solve;
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
