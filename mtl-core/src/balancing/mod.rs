//! Gradient balancing: from one loss, or one gradient, per task to one update.
//!
//! A method is one of three kinds, by what it has to see: the losses alone ([`LossWeighting`], one backward pass), the
//! inner products of the task gradients ([`GramBalancer`]), or the gradients themselves ([`GradientBalancer`]).
//! [`Balancer`] holds any of them. Task gradients are kept parameter by parameter, never as one `[tasks, params]`
//! matrix.
mod aligned_mtl;
mod cagrad;
mod equal;
mod fairgrad;
mod grads;
mod imtl_g;
mod mgda;
mod nash_mtl;
mod pcgrad;
mod upgrad;

pub use aligned_mtl::{AlignedMtl, AlignedMtlConfig, AlignedScale};
pub use cagrad::{CaGrad, CaGradConfig, CaGradRescale};
pub use equal::{Equal, EqualConfig, Reduction};
pub use fairgrad::{FairGrad, FairGradConfig};
pub use grads::{Gram, TaskGrads};
pub use imtl_g::{ImtlG, ImtlGConfig};
pub use mgda::{Mgda, MgdaConfig, MgdaNormalisation};
pub use nash_mtl::{NashMtl, NashMtlConfig};
pub use pcgrad::{PcGrad, PcGradConfig};
pub use upgrad::{UpGrad, UpGradConfig};

use crate::{Error, Result, StateDict, learner::Boundary, registry};
use rand_chacha::ChaCha8Rng;
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
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HeadGrad {
    /// That of its own loss, whatever its weight.
    Own,
    /// That of its own loss times its weight.
    Weighted,
}

/// What every balancer can do besides balancing; nothing of it is needed by a method without memory.
pub trait Stateful {
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
}

/// A balancer of any kind; the kind says what the training step has to compute.
#[derive(Debug)]
pub enum Balancer {
    /// One backward pass.
    Losses(Box<dyn LossWeighting>),
    /// One backward pass per task, then inner products.
    Gram(Box<dyn GramBalancer>),
    /// One backward pass per task, then whatever the method does with the gradients.
    Gradients(Box<dyn GradientBalancer>),
}

impl Balancer {
    /// The method's state; see [`Stateful::state`].
    pub fn state(&self) -> StateDict {
        match self {
            Self::Losses(method) => method.state(),
            Self::Gram(method) => method.state(),
            Self::Gradients(method) => method.state(),
        }
    }

    /// Takes a copy of a state; see [`Stateful::load_state`].
    ///
    /// # Errors
    ///
    /// [`Error::Mismatch`] when the state is of another method.
    pub fn load_state(&mut self, state: &StateDict) -> Result<()> {
        match self {
            Self::Losses(method) => method.load_state(state),
            Self::Gram(method) => method.load_state(state),
            Self::Gradients(method) => method.load_state(state),
        }
    }

    /// Passes an event on; see [`Stateful::boundary`].
    ///
    /// # Errors
    ///
    /// What the method returns.
    pub fn boundary(&mut self, event: &Boundary<'_>) -> Result<()> {
        match self {
            Self::Losses(method) => method.boundary(event),
            Self::Gram(method) => method.boundary(event),
            Self::Gradients(method) => method.boundary(event),
        }
    }

    /// Direction for the shared parameters, and the factor of each task's gradient for its own parameters.
    ///
    /// # Errors
    ///
    /// [`Error::Config`] for no task at all, and what the method returns.
    pub fn combine(&mut self, grads: &TaskGrads, ctx: &mut StepCtx<'_>) -> Result<(StateDict, Vec<f64>)> {
        let tasks = grads.tasks();
        if tasks == 0 {
            return Err(Error::config("grads", "those of at least one task", "empty"));
        }
        let (direction, weights, head_grad) = match self {
            Self::Losses(method) => {
                let weights = method.weights(ctx)?;
                (grads.combine(&weights)?, Some(weights), HeadGrad::Weighted)
            }
            Self::Gram(method) => {
                let weights = method.weights(&grads.gram()?, ctx)?;
                (grads.combine(&weights)?, Some(weights), method.head_grad())
            }
            Self::Gradients(method) => {
                let (direction, weights) = method.direction(grads, ctx)?;
                (direction, weights, method.head_grad())
            }
        };
        let factors = match (head_grad, weights) {
            (HeadGrad::Weighted, Some(weights)) => weights,
            _ => vec![1.0; tasks],
        };
        Ok((direction, factors))
    }
}
