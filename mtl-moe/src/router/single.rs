//! One gate for all tasks: Riquelme et al., *Scaling Vision with Sparse Mixture of Experts*, NeurIPS 2021, arXiv
//! 2106.05974.
use super::{Router, init_gate};
use mtl_core::{Context, Cost, ParamSource, Result, Seed, StateDict};
use tch::Tensor;

/// Logits `x · W_g` with one `{prefix}.gate.weight` `[experts, dim]`.
#[derive(Debug, Clone, Copy)]
pub struct SingleGate {
    /// Width of the tokens.
    pub dim: i64,
    /// Number of experts.
    pub experts: i64,
}

impl Router for SingleGate {
    fn init(&self, prefix: &str, seed: Seed, into: &mut StateDict) -> Result<()> {
        init_gate(&format!("{prefix}.gate"), self.experts, self.dim, seed, into)
    }

    fn logits(&self, params: &dyn ParamSource, prefix: &str, x: &Tensor, _ctx: &Context) -> Result<Tensor> {
        params.linear(&format!("{prefix}.gate"), x)
    }

    fn experts(&self) -> i64 {
        self.experts
    }

    fn is_task_conditioned(&self) -> bool {
        false
    }

    fn cost(&self) -> Cost {
        let weights = (self.dim * self.experts) as u64;
        Cost { macs: weights, params: weights }
    }
}
