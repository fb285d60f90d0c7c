//! A gate for each task: Liang et al., *M³ViT*, NeurIPS 2022, arXiv 2210.14793, the multi-gate router.
use super::{Router, init_gate, task_of};
use mtl_core::{Context, Cost, ParamSource, Result, Seed, StateDict};
use tch::Tensor;

/// Logits `x · W_g` with a `{prefix}.gate.{task}.weight` `[experts, dim]` for each task; the experts are shared.
#[derive(Debug, Clone, Copy)]
pub struct MultiGate {
    /// Width of the tokens.
    pub dim: i64,
    /// Number of experts.
    pub experts: i64,
    /// Number of tasks.
    pub tasks: usize,
}

impl Router for MultiGate {
    fn init(&self, prefix: &str, seed: Seed, into: &mut StateDict) -> Result<()> {
        (0..self.tasks).try_for_each(|task| {
            init_gate(&format!("{prefix}.gate.{task}"), self.experts, self.dim, seed, into)
        })
    }

    fn logits(&self, params: &dyn ParamSource, prefix: &str, x: &Tensor, ctx: &Context) -> Result<Tensor> {
        let task = task_of(ctx, self.tasks, prefix)?;
        params.linear(&format!("{prefix}.gate.{task}"), x)
    }

    fn experts(&self) -> i64 {
        self.experts
    }

    fn is_task_conditioned(&self) -> bool {
        true
    }

    fn cost(&self) -> Cost {
        let weights = (self.dim * self.experts) as u64;
        Cost { macs: weights, params: weights }
    }
}
