//! Multi-task architectures: which parameters tasks share, and where their features meet.
//!
//! An [`Architecture`] makes a [`MultiTaskModel`] of a [`StagedEncoder`] and tasks. [`ARCHITECTURES`] has them by name;
//! all work for every encoder that is cut into stages, for one input that all tasks share and for one input per task.
//! The conversion funnels [`Esmm`] and [`Aitm`] order their tasks and are built by hand.
//!
//! | name | shared | of each task |
//! |---|---|---|
//! | `hps` | encoder | head |
//! | `cross-stitch` | an encoder per task, mixing weights | head |
//! | `nddr` | an encoder per task, all fusions but the last | last fusion, head |
//! | `mtan` | encoder, extractor between attention modules | attention modules, head |
//! | `mmoe` | experts | gate, head |
//! | `cgc` | shared experts | experts, gate, head |
//! | `ple` | what reaches a shared gate (see [`Ple`]) | experts and gates of the last layer, head |
//! | `ltb` | nodes, logits of the branches | head |
//! | `dselect-k` | experts | selectors, head |
//! | `task-embedding` | encoder | embedding, head |
//!
//! ```
//! use mtl_core::{Context, Seed, TaskSpec, architectures::ARCHITECTURES, models::Mlp, registry::Registry};
//! use std::sync::Arc;
//! use tch::{Device, Kind, Tensor};
//!
//! let registry = Registry::new(ARCHITECTURES);
//! let mmoe = registry.build("mmoe", serde_json::json!({ "n_experts": 4 }))?;
//! let tasks = vec![TaskSpec::classification("digit", 10), TaskSpec::classification("parity", 2)];
//! let model = mmoe.model(Arc::new(Mlp::new(&[64, 32])?), tasks)?;
//! let params = model.init(Seed(0))?;
//! let x = Tensor::ones([3, 64], (Kind::Float, Device::Cpu)).into();
//! assert_eq!(model.forward_all(&params, &x, &Context::eval())?[0].size(), [3, 10]);
//! # Ok::<(), mtl_core::Error>(())
//! ```
//!
//! # Write your own architecture
//!
//! [`Sharing`] says which parameters there are and which features a task gets of them; [`Network`] adds heads. Here, a
//! shared encoder whose features each task scales channel by channel:
//!
//! ```
//! use mtl_core::{Batch, Context, Cost, Learner, Model, ParamSource, Result, Seed, StateDict, TaskSpec, nn::Init};
//! use mtl_core::{architectures::{Backbone, Network, Sharing}, learner::Step, models::Mlp};
//! use mtl_core::train::{Joint, JointConfig};
//! use std::sync::Arc;
//! use tch::Tensor;
//!
//! #[derive(Debug)]
//! struct Scaled;
//!
//! impl Sharing for Scaled {
//!     fn init(&self, b: &Backbone, seed: Seed, into: &mut StateDict) -> Result<()> {
//!         b.init("shared", seed, into)?; // Names under `tasks.{task}` count as the task's own.
//!         (0..b.tasks().len()).try_for_each(|task| {
//!             Init::Constant(1.0).fill(seed, &b.own(task), &[b.encoder().feature_dim()], into)
//!         })
//!     }
//!     fn features(
//!         &self, b: &Backbone, params: &dyn ParamSource, x: &Tensor, wanted: &[usize], ctx: &Context,
//!     ) -> Result<Vec<Tensor>> {
//!         let z = b.forward(params, "shared", x, ctx)?; // [batch, dim]
//!         wanted.iter().map(|&task| Ok(&z * &*params.param(&b.own(task))?)).collect()
//!     }
//!     fn cost(&self, b: &Backbone, _task: usize) -> Cost {
//!         b.cost()
//!     }
//! }
//!
//! let tasks = vec![TaskSpec::classification("sign", 2), TaskSpec::classification("size", 2)];
//! let model = Arc::new(Network::new(Scaled, Arc::new(Mlp::new(&[1, 8])?), tasks)?);
//! let params = model.init(Seed(0))?.trainable();
//! let mut joint = Joint::new(model, params, JointConfig::default())?;
//! let x = Tensor::from_slice(&[-3.0f32, -0.5, 0.5, 3.0]).view([4, 1]);
//! let batch = |task, y: [i64; 4]| Batch { task, input: x.shallow_clone().into(), target: Tensor::from_slice(&y) };
//! let mut step = |index| -> Result<f64> {
//!     let batches = [batch(0, [0, 0, 1, 1]), batch(1, [1, 0, 0, 1])];
//!     Ok(joint.observe(&batches, Step { index, seed: Seed(0) })?.losses.iter().sum())
//! };
//! let before = step(0)?;
//! assert!((1..50).try_fold(before, |_, index| step(index))? < before);
//! # Ok::<(), mtl_core::Error>(())
//! ```
mod aitm;
mod cgc;
mod cross_stitch;
mod dselect_k;
mod esmm;
mod funnel;
mod hps;
mod ltb;
mod mixing;
mod mmoe;
mod mtan;
mod nddr;
mod network;
mod ple;
mod stage;
mod task_embedding;

pub use aitm::{Aitm, AitmConfig, aitm_transfer, calibrator};
pub use cgc::{Cgc, CgcConfig};
pub use cross_stitch::{CrossStitch, CrossStitchConfig, cross_stitch};
pub use dselect_k::{DSelectK, DSelectKConfig, dselect_gate, selector_entropy, selectors, smooth_step};
pub use esmm::{Esmm, esmm_losses, funnel_logits};
pub use hps::{Hps, HpsConfig};
pub use ltb::{Ltb, LtbConfig, gumbel_softmax};
pub use mixing::{Norm, mix_experts};
pub use mmoe::{Mmoe, MmoeConfig};
pub use mtan::{Mtan, MtanConfig, mtan_mask};
pub use nddr::{Nddr, NddrConfig, nddr_fuse};
pub use network::{Backbone, Network, Sharing};
pub use ple::{Ple, PleConfig, PleVariant};
pub(crate) use stage::no_stage;
pub use stage::{StagedEncoder, Trunk, channels, forward_stages, init_stages, stages_cost};
pub use task_embedding::{Joining, TaskEmbedding, TaskEmbeddingConfig};

use crate::{Context, Cost, MultiTaskModel, ParamSource, Result, Seed, StateDict, TaskSpec, registry};
use std::{fmt::Debug, sync::Arc};
use tch::Tensor;

/// The architectures of this crate; extend them with [`Registry::with`](registry::Registry::with).
pub const ARCHITECTURES: &[registry::Entry<dyn Architecture>] = &[
    hps::ENTRY,
    cross_stitch::ENTRY,
    nddr::ENTRY,
    mtan::ENTRY,
    mmoe::ENTRY,
    cgc::ENTRY,
    ple::ENTRY,
    ltb::ENTRY,
    dselect_k::ENTRY,
    task_embedding::ENTRY,
];

/// Makes a model of an encoder and tasks. Whatever is [`Sharing`] and can be cloned is one.
pub trait Architecture: Debug + Send + Sync {
    /// The model in which `tasks` share `encoder`.
    ///
    /// # Errors
    ///
    /// [`Error::Config`](crate::Error::Config) without a task, for a name that is empty or occurs twice, for a kind of
    /// task without a linear head, for a dense task whose map the encoder's positions do not tile, and for
    /// hyper-parameters that do not fit the tasks or the encoder.
    fn model(&self, encoder: Arc<dyn StagedEncoder>, tasks: Vec<TaskSpec>)
    -> Result<Arc<dyn MultiTaskModel>>;
}

impl<S: Sharing + Clone + 'static> Architecture for S {
    fn model(
        &self,
        encoder: Arc<dyn StagedEncoder>,
        tasks: Vec<TaskSpec>,
    ) -> Result<Arc<dyn MultiTaskModel>> {
        Ok(Arc::new(Network::new(self.clone(), encoder, tasks)?))
    }
}

/// The features of the `wanted` tasks.
fn pick(streams: &[Tensor], wanted: &[usize]) -> Vec<Tensor> {
    wanted.iter().filter_map(|&task| streams.get(task)).map(Tensor::shallow_clone).collect()
}

/// Fresh parameters of `count` experts that are whole encoders, `{owner}experts.{e}.stage{s}`.
fn init_experts(
    backbone: &Backbone,
    owner: &str,
    count: usize,
    seed: Seed,
    into: &mut StateDict,
) -> Result<()> {
    (0..count).try_for_each(|e| backbone.init(&format!("{owner}experts.{e}"), seed, into))
}

/// What `count` experts that are whole encoders make of `x`.
fn run_experts(
    backbone: &Backbone,
    params: &dyn ParamSource,
    owner: &str,
    count: usize,
    x: &Tensor,
    ctx: &Context,
) -> Result<Vec<Tensor>> {
    (0..count).map(|e| backbone.forward(params, &format!("{owner}experts.{e}"), x, ctx)).collect()
}

/// Cost of `experts` whole encoders, a gate of the input and the mixture.
fn mixture_cost(backbone: &Backbone, experts: usize) -> Cost {
    let (n, inputs) = (experts as u64, backbone.inputs() as u64);
    let mixture = Cost { macs: n * output_numbers(backbone) as u64, params: 0 };
    times(backbone.cost(), n) + pointwise_cost(inputs * n, n, 1) + mixture
}

/// Numbers of an example of `shape`.
fn numbers(shape: &[i64]) -> i64 {
    shape.iter().product()
}

/// Numbers of an example after the last stage.
fn output_numbers(backbone: &Backbone) -> i64 {
    numbers(&backbone.encoder().shape(backbone.stages().saturating_sub(1)))
}

/// Positions or tokens of an example of `shape`, 1 for a vector.
fn positions(shape: &[i64]) -> u64 {
    (numbers(shape) / channels(shape).max(1)) as u64
}

/// Cost of a linear map at each of `positions`.
fn pointwise_cost(weights: u64, biases: u64, positions: u64) -> Cost {
    Cost { macs: weights * positions, params: weights + biases }
}

/// `count` times `cost`.
fn times(cost: Cost, count: u64) -> Cost {
    Cost { macs: cost.macs * count, params: cost.params * count }
}
