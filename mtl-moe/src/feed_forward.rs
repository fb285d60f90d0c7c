//! A mixture of experts in the place of a transformer block's dense network.
use crate::{
    Dispatch, ExpertBank,
    router::{Router, TopK},
};
use mtl_core::{Context, Cost, Error, ParamSource, Result, Seed, StateDict, check, nn::FeedForward};
use std::sync::Arc;
use tch::Tensor;

/// Router and experts as a [`FeedForward`]: parameters under `{prefix}.moe.…`.
///
/// Each call adds the auxiliary loss `{prefix}.balance` to the context and, where traces are asked for, the chosen
/// experts `[batch · tokens, k]` as `{prefix}.experts`.
#[derive(Debug, Clone)]
pub struct MoeFeedForward {
    router: Arc<dyn Router>,
    choice: TopK,
    experts: ExpertBank,
    dispatch: Dispatch,
}

impl MoeFeedForward {
    /// Experts behind a router.
    ///
    /// # Errors
    ///
    /// [`Error::Config`] when the router is for another number of experts, or the choice is out of range.
    pub fn new(router: Arc<dyn Router>, choice: TopK, experts: ExpertBank) -> Result<Self> {
        if router.experts() != experts.experts {
            let must = format!("{}, the number of experts", experts.experts);
            return Err(Error::config("experts of the router", must, router.experts()));
        }
        choice.check(experts.experts)?;
        Ok(Self { router, choice, experts, dispatch: Dispatch::default() })
    }

    /// Sets how tokens get to their experts.
    #[must_use]
    pub fn dispatch(mut self, dispatch: Dispatch) -> Self {
        self.dispatch = dispatch;
        self
    }
}

impl FeedForward for MoeFeedForward {
    fn init(&self, prefix: &str, seed: Seed, into: &mut StateDict) -> Result<()> {
        let prefix = format!("{prefix}.moe");
        self.router.init(&prefix, seed, into)?;
        self.experts.init(&prefix, seed, into)
    }

    fn forward(&self, params: &dyn ParamSource, prefix: &str, x: &Tensor, ctx: &Context) -> Result<Tensor> {
        let (batch, tokens, dim) = check::dims3(x, "tokens", "[batch, tokens, dim]")?;
        let moe = format!("{prefix}.moe");
        let flat = x.reshape([batch * tokens, dim]);
        let logits = self.router.logits(params, &moe, &flat, ctx)?;
        let routing = self.choice.choose(&logits, &moe, ctx)?;
        let y = self.experts.forward(params, &moe, &flat, &routing, self.dispatch)?;
        ctx.trace(|| format!("{prefix}.experts"), || routing.index.copy());
        ctx.add_aux(format!("{prefix}.balance"), routing.balance);
        Ok(y.view([batch, tokens, dim]))
    }

    fn cost(&self, tokens: i64) -> Cost {
        let (gate, experts) = (self.router.cost(), self.experts.cost(self.choice.k));
        Cost { macs: (gate.macs + experts.macs) * tokens as u64, params: gate.params + experts.params }
    }

    fn is_task_conditioned(&self) -> bool {
        self.router.is_task_conditioned()
    }
}
