//! Gradient balancing: from one loss, or one gradient, per task to one update.
//!
//! A method is one of four kinds, by what it has to see: the losses alone ([`LossWeighting`], one backward pass), the
//! inner products of the task gradients ([`GramBalancer`]), those between gradients of independent batches
//! ([`SampledBalancer`]), or the gradients themselves ([`GradientBalancer`]). [`Balancer`] holds any of them. Task gradients
//! are kept parameter by parameter, never as one `[tasks, params]` matrix.
#![doc = include_str!("write_your_own.md")]
mod aligned_mtl;
mod cagrad;
mod db_mtl;
mod dwa;
mod equal;
mod excess_mtl;
mod fairgrad;
mod famo;
mod gls;
mod graddrop;
mod gradnorm;
mod grads;
mod gradvac;
mod imtl;
mod imtl_g;
mod imtl_l;
mod layers;
mod memory;
mod mgda;
mod moco;
mod modo;
mod nash_mtl;
mod pcgrad;
mod products;
mod rlw;
mod sdmgrad;
mod stch;
mod upgrad;
mod uw;

pub use aligned_mtl::{AlignedMtl, AlignedMtlConfig, AlignedScale};
pub use cagrad::{CaGrad, CaGradConfig, CaGradRescale};
pub use db_mtl::{DbMtl, DbMtlConfig};
pub use dwa::{Dwa, DwaConfig};
pub use equal::{Equal, EqualConfig, Reduction};
pub use excess_mtl::{ExcessMtl, ExcessMtlConfig};
pub use fairgrad::{FairGrad, FairGradConfig};
pub use famo::{Famo, FamoConfig};
pub use gls::{Gls, GlsConfig};
pub use graddrop::{GradDrop, GradDropConfig};
pub use gradnorm::{GradNorm, GradNormConfig, GradNormInitialLoss};
pub use grads::{Gram, REPRESENTATION, TaskGrads};
pub use gradvac::{GradVac, GradVacConfig, GradVacGranularity};
pub use imtl::{Imtl, ImtlConfig};
pub use imtl_g::{ImtlG, ImtlGConfig};
pub use imtl_l::{ImtlL, ImtlLConfig};
pub(crate) use layers::{Call, LayerGrads, Recorder};
pub use mgda::{Mgda, MgdaConfig, MgdaNormalisation, MgdaSolver};
pub use moco::{MoCo, MoCoConfig};
pub use modo::{MoDo, MoDoConfig};
pub use nash_mtl::{NashMtl, NashMtlConfig};
pub use pcgrad::{PcGrad, PcGradConfig};
pub use rlw::{Rlw, RlwConfig};
pub use sdmgrad::{SdmGrad, SdmGradConfig};
pub use stch::{Stch, StchConfig};
pub use upgrad::{UpGrad, UpGradConfig};
pub use uw::{Uw, UwConfig};

use crate::{Error, Result, StateDict, learner::Boundary, registry};
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};
use std::fmt::Debug;

/// The balancers of this crate; extend them with [`Registry::with`](registry::Registry::with).
pub const BALANCERS: &[registry::Entry<Balancer>] = &[
    equal::ENTRY,
    pcgrad::ENTRY,
    mgda::ENTRY,
    cagrad::ENTRY,
    nash_mtl::ENTRY,
    fairgrad::ENTRY,
    imtl_g::ENTRY,
    aligned_mtl::ENTRY,
    upgrad::ENTRY,
    uw::ENTRY,
    dwa::ENTRY,
    gls::ENTRY,
    rlw::ENTRY,
    stch::ENTRY,
    famo::ENTRY,
    imtl_l::ENTRY,
    imtl::ENTRY,
    gradnorm::ENTRY,
    gradvac::ENTRY,
    sdmgrad::ENTRY,
    modo::ENTRY,
    graddrop::ENTRY,
    moco::ENTRY,
    db_mtl::ENTRY,
    excess_mtl::ENTRY,
];

/// What a step offers to a balancer besides gradients.
#[derive(Debug)]
pub struct StepCtx<'a> {
    /// Loss of each task, in order.
    pub losses: &'a [f64],
    /// Optimiser step, from 0.
    pub step: u64,
    /// Where chance comes from: a stream of its own for each step.
    pub rng: &'a mut ChaCha8Rng,
}

/// Which gradient the parameters of a single task get.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum HeadGrad {
    /// That of its own loss, whatever its weight.
    Own,
    /// That of its own loss times its weight.
    Weighted,
}

/// Numbers of a balancer that an optimiser of the model's kind, at the model's learning rate, improves after each step.
#[derive(Debug)]
pub struct Learned<'a> {
    /// The numbers.
    pub values: &'a mut [f64],
    /// Their gradients in the last step; empty before the first one and where a step gave none.
    pub grads: &'a [f64],
}

/// What every balancer can do besides balancing; nothing of it is needed by a method without memory.
pub trait Stateful {
    /// The numbers that are learned beside the model, such as log variances; asked for after each step.
    fn learned(&mut self) -> Option<Learned<'_>> {
        None
    }

    /// Everything that the next step depends on, as handles on the storage in use.
    fn state(&self) -> StateDict {
        StateDict::new()
    }

    /// Takes a copy of what [`state`](Self::state) gave.
    ///
    /// # Errors
    ///
    /// [`Error::Mismatch`] when the state is of another method; nothing is changed then.
    fn load_state(&mut self, state: &StateDict) -> Result<()> {
        state.same_layout(&StateDict::new(), "balancer state")
    }

    /// Hears of the end of a pass over the data.
    ///
    /// # Errors
    ///
    /// What the method's own work at the boundary returns.
    fn boundary(&mut self, _event: &Boundary<'_>) -> Result<()> {
        Ok(())
    }
}

/// A method that sees the losses alone: one backward pass of their weighted sum.
pub trait LossWeighting: Stateful + Debug + Send {
    /// Weight of each task's loss.
    ///
    /// # Errors
    ///
    /// [`Error::Config`] for losses that the method cannot weigh.
    fn weights(&mut self, ctx: &mut StepCtx<'_>) -> Result<Vec<f64>>;

    /// Whether [`after_step`](Self::after_step) wants the losses of the same batches once more; costs a forward pass.
    fn looks_back(&self) -> bool {
        false
    }

    /// Hears the losses of the same batches after the optimiser's step.
    ///
    /// # Errors
    ///
    /// See [`weights`](Self::weights).
    fn after_step(&mut self, _losses: &[f64]) -> Result<()> {
        Ok(())
    }
}

/// A method that sees the inner products of the task gradients; the update is a weighted sum of them.
///
/// ```
/// use mtl_core::{Seed, balancing::{Gram, GramBalancer, PcGradConfig, StepCtx}};
///
/// let gram = Gram::from_rows(&[vec![1.0, -1.0], vec![-1.0, 2.0]])?; // of (1, 0) and (−1, 1)
/// let mut rng = Seed(0).stream("balancer", 0);
/// let mut ctx = StepCtx { losses: &[1.0, 1.0], step: 0, rng: &mut rng };
/// let weights = PcGradConfig::default().build()?.weights(&gram, &mut ctx)?;
/// assert!((weights[0] - 2.0).abs() < 1e-6 && (weights[1] - 1.5).abs() < 1e-6);
/// # Ok::<(), mtl_core::Error>(())
/// ```
pub trait GramBalancer: Stateful + Debug + Send {
    /// Weight of each task's gradient; negative ones are allowed.
    ///
    /// # Errors
    ///
    /// [`Error::NonFinite`] for a matrix with NaN or infinity, and what the method's solver returns.
    fn weights(&mut self, gram: &Gram, ctx: &mut StepCtx<'_>) -> Result<Vec<f64>>;

    /// What single-task parameters get.
    fn head_grad(&self) -> HeadGrad {
        HeadGrad::Own
    }

    /// Factor on each task's loss before any gradient is taken, where the method works on scaled losses; the weights include
    /// it, and single-task parameters get it in any case.
    fn loss_scale(&self) -> Option<Vec<f64>> {
        None
    }
}

/// A method that sees the gradients of three independent batches: inner products between the first and the second make the
/// weights, with which those of the third are summed. So the weights carry no bias of the batch they are used on.
///
/// The training step cuts each batch in three.
pub trait SampledBalancer: Stateful + Debug + Send {
    /// Weight of each task's gradient in the third batch. `cross` is `[tasks, tasks]`, row by row: the inner product of task
    /// i's gradient in the first batch with task j's in the second.
    ///
    /// # Errors
    ///
    /// [`Error::NonFinite`] for a matrix with NaN or infinity, [`Error::Shape`] for one that is not square.
    fn weights(&mut self, cross: &[Vec<f64>], ctx: &mut StepCtx<'_>) -> Result<Vec<f64>>;
}

/// A method that sees the gradients themselves: elementwise rules and running means of gradients.
pub trait GradientBalancer: Stateful + Debug + Send {
    /// The direction for the shared parameters, and the weight of each task where the method has weights.
    ///
    /// # Errors
    ///
    /// [`Error::NonFinite`] for gradients with NaN or infinity, and what the method's solver returns.
    fn direction(
        &mut self,
        grads: &TaskGrads,
        ctx: &mut StepCtx<'_>,
    ) -> Result<(StateDict, Option<Vec<f64>>)>;

    /// What single-task parameters get; [`HeadGrad::Weighted`] needs weights from [`direction`](Self::direction).
    fn head_grad(&self) -> HeadGrad {
        HeadGrad::Own
    }

    /// See [`GramBalancer::loss_scale`].
    fn loss_scale(&self) -> Option<Vec<f64>> {
        None
    }
}

/// A balancer of any kind; the kind says what the training step has to compute.
#[derive(Debug)]
pub enum Balancer {
    /// One backward pass.
    Losses(Box<dyn LossWeighting>),
    /// One backward pass per task, then inner products.
    Gram(Box<dyn GramBalancer>),
    /// One backward pass per task for each of three batches, then inner products between batches.
    Sampled(Box<dyn SampledBalancer>),
    /// One backward pass per task, then whatever the method does with the gradients.
    Gradients(Box<dyn GradientBalancer>),
}

/// What a balancer makes of the gradients.
#[derive(Debug)]
pub struct Balanced {
    /// Gradient for the shared parameters.
    pub direction: StateDict,
    /// Weight of each task, where the direction is a weighted sum.
    pub weights: Option<Vec<f64>>,
    /// Inner products of the gradients, where they were computed.
    pub gram: Option<Gram>,
}

impl Balancer {
    fn method(&self) -> &dyn Stateful {
        match self {
            Self::Losses(method) => &**method,
            Self::Gram(method) => &**method,
            Self::Sampled(method) => &**method,
            Self::Gradients(method) => &**method,
        }
    }

    fn method_mut(&mut self) -> &mut dyn Stateful {
        match self {
            Self::Losses(method) => &mut **method,
            Self::Gram(method) => &mut **method,
            Self::Sampled(method) => &mut **method,
            Self::Gradients(method) => &mut **method,
        }
    }

    /// The method's state; see [`Stateful::state`].
    pub fn state(&self) -> StateDict {
        self.method().state()
    }

    /// Takes a copy of a state; see [`Stateful::load_state`].
    ///
    /// # Errors
    ///
    /// [`Error::Mismatch`] when the state is of another method.
    pub fn load_state(&mut self, state: &StateDict) -> Result<()> {
        self.method_mut().load_state(state)
    }

    /// Passes an event on; see [`Stateful::boundary`].
    ///
    /// # Errors
    ///
    /// What the method returns.
    pub fn boundary(&mut self, event: &Boundary<'_>) -> Result<()> {
        self.method_mut().boundary(event)
    }

    /// The numbers that are learned beside the model; see [`Stateful::learned`].
    pub fn learned(&mut self) -> Option<Learned<'_>> {
        self.method_mut().learned()
    }

    /// What single-task parameters get by the method's own rule.
    pub fn head_grad(&self) -> HeadGrad {
        match self {
            Self::Losses(_) => HeadGrad::Weighted,
            Self::Gram(method) => method.head_grad(),
            Self::Sampled(_) => HeadGrad::Own,
            Self::Gradients(method) => method.head_grad(),
        }
    }

    /// Factor of each task's own gradient for its own parameters, given the weights of the step.
    pub fn head_factors(&self, head_grad: HeadGrad, weights: Option<&[f64]>, tasks: usize) -> Vec<f64> {
        let scale = match self {
            Self::Gram(method) => method.loss_scale(),
            Self::Gradients(method) => method.loss_scale(),
            Self::Losses(_) | Self::Sampled(_) => None,
        };
        match (head_grad, weights) {
            (HeadGrad::Weighted, Some(weights)) => weights.to_vec(),
            _ => scale.unwrap_or_else(|| vec![1.0; tasks]),
        }
    }

    /// Direction for the shared parameters out of the gradients of all tasks.
    ///
    /// A [`SampledBalancer`] takes them for all three of its batches.
    ///
    /// # Errors
    ///
    /// [`Error::Config`] for no task at all, and what the method returns.
    pub fn combine(&mut self, grads: &TaskGrads, ctx: &mut StepCtx<'_>) -> Result<Balanced> {
        match self.weigh(grads, ctx)? {
            Weighed::Weights(weights, gram) => {
                Ok(Balanced { direction: grads.combine(&weights)?, weights: Some(weights), gram })
            }
            Weighed::Direction(balanced) => Ok(balanced),
        }
    }

    /// As [`combine`](Self::combine), in the storage of the gradients where that is safe.
    ///
    /// # Errors
    ///
    /// See [`combine`](Self::combine).
    pub(crate) fn combine_owned(&mut self, grads: TaskGrads, ctx: &mut StepCtx<'_>) -> Result<Balanced> {
        match self.weigh(&grads, ctx)? {
            Weighed::Weights(weights, gram) => {
                Ok(Balanced { direction: grads.into_combined(&weights)?, weights: Some(weights), gram })
            }
            Weighed::Direction(balanced) => Ok(balanced),
        }
    }

    fn weigh(&mut self, grads: &TaskGrads, ctx: &mut StepCtx<'_>) -> Result<Weighed> {
        if grads.tasks() == 0 {
            return Err(Error::config("grads", "those of at least one task", "empty"));
        }
        let (weights, gram) = match self {
            Self::Losses(method) => (method.weights(ctx)?, None),
            Self::Gram(method) => {
                let gram = grads.gram()?;
                (method.weights(&gram, ctx)?, Some(gram))
            }
            Self::Sampled(method) => {
                let gram = grads.gram()?;
                (method.weights(&gram.rows(), ctx)?, Some(gram))
            }
            Self::Gradients(method) => {
                let (direction, weights) = method.direction(grads, ctx)?;
                return Ok(Weighed::Direction(Balanced { direction, weights, gram: None }));
            }
        };
        Ok(Weighed::Weights(weights, gram))
    }
}

/// What a method said about the gradients.
enum Weighed {
    Weights(Vec<f64>, Option<Gram>),
    Direction(Balanced),
}
