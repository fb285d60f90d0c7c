//! The feed-forward part of a transformer block.
use super::{Activation, Init, dropout, linear};
use crate::{Context, Cost, ParamSource, Result, Seed, StateDict};
use std::fmt::Debug;
use tch::Tensor;

/// What stands between the second norm of a transformer block and its residual sum: a dense network, or a mixture of
/// experts.
pub trait FeedForward: Debug + Send + Sync {
    /// Writes fresh parameters, all named `{prefix}.…`.
    ///
    /// # Errors
    ///
    /// See [`Init::fill`].
    fn init(&self, prefix: &str, seed: Seed, into: &mut StateDict) -> Result<()>;

    /// The output for `x` `[batch, tokens, dim]`, of the same shape, without the residual.
    ///
    /// # Errors
    ///
    /// When a parameter is missing, a shape does not fit, or the context lacks the task that a router needs.
    fn forward(&self, params: &dyn ParamSource, prefix: &str, x: &Tensor, ctx: &Context) -> Result<Tensor>;

    /// Cost of one example of `tokens` tokens.
    fn cost(&self, tokens: i64) -> Cost;

    /// Whether the output depends on [`Context::task`].
    fn is_task_conditioned(&self) -> bool {
        false
    }
}

/// Two linear maps with an activation between: `{prefix}.intermediate.dense` and `{prefix}.output.dense`.
///
/// ```
/// use mtl_core::{Context, Seed, StateDict, nn::{DenseFeedForward, FeedForward}};
/// use tch::{Device, Kind, Tensor};
///
/// let layer = DenseFeedForward::new(4, 8);
/// let mut params = StateDict::new();
/// layer.init("block", Seed(0), &mut params)?;
/// let x = Tensor::ones([2, 3, 4], (Kind::Float, Device::Cpu));
/// assert_eq!(layer.forward(&params, "block", &x, &Context::eval())?.size(), [2, 3, 4]);
/// assert_eq!(layer.cost(3).macs, 3 * 2 * 4 * 8);
/// # Ok::<(), mtl_core::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct DenseFeedForward {
    /// Width of the tokens.
    pub dim: i64,
    /// Width between the two maps.
    pub hidden: i64,
    /// Activation between the two maps.
    pub activation: Activation,
    /// Probability of dropping an element of the output, in training.
    pub dropout: f64,
    /// How the weights are drawn; biases are zero except with the default of [`Init`].
    pub weight: Init,
}

impl DenseFeedForward {
    /// GELU, no dropout, weights drawn as Vision Transformers are: truncated normal with deviation 0.02.
    pub fn new(dim: i64, hidden: i64) -> Self {
        let weight = Init::TruncatedNormal { std: 0.02 };
        Self { dim, hidden, activation: Activation::Gelu, dropout: 0.0, weight }
    }
}

impl FeedForward for DenseFeedForward {
    fn init(&self, prefix: &str, seed: Seed, into: &mut StateDict) -> Result<()> {
        let (inner, outer) = (format!("{prefix}.intermediate.dense"), format!("{prefix}.output.dense"));
        linear::init(&inner, self.dim, self.hidden, true, self.weight, seed, into)?;
        linear::init(&outer, self.hidden, self.dim, true, self.weight, seed, into)
    }

    fn forward(&self, params: &dyn ParamSource, prefix: &str, x: &Tensor, ctx: &Context) -> Result<Tensor> {
        let hidden = self.activation.apply(&params.linear(&format!("{prefix}.intermediate.dense"), x)?);
        Ok(dropout(&params.linear(&format!("{prefix}.output.dense"), &hidden)?, self.dropout, ctx))
    }

    fn cost(&self, tokens: i64) -> Cost {
        let (tokens, dim, hidden) = (tokens as u64, self.dim as u64, self.hidden as u64);
        Cost { macs: 2 * tokens * dim * hidden, params: 2 * dim * hidden + dim + hidden }
    }
}
