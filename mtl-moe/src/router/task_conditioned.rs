//! One gate that is told the task: Liang et al., *M³ViT*, NeurIPS 2022, arXiv 2210.14793, the task-conditioned router.
use super::{Router, init_gate, task_of};
use mtl_core::{
    Context, Cost, ParamSource, Result, Seed, StateDict,
    nn::{self, Activation, Init},
};
use tch::{Kind, Tensor};

/// Logits `[x, e_task] · W_g` with one `{prefix}.gate.weight` `[experts, dim + embedding]`.
///
/// The task embedding comes from the one-hot task through Linear–GELU–Linear–LayerNorm, as in the released code (the
/// paper prints a ReLU), under `{shared}.…`; layers that are given the same `shared` share it.
#[derive(Debug, Clone)]
pub struct TaskConditioned {
    /// Width of the tokens.
    pub dim: i64,
    /// Number of experts.
    pub experts: i64,
    /// Number of tasks.
    pub tasks: usize,
    /// Width of the task embedding; 64 in the paper.
    pub embedding: i64,
    /// Name of the task embedding's parameters.
    pub shared: String,
}

impl TaskConditioned {
    /// The embedding of `task`, `[1, embedding]`.
    fn embed(&self, params: &dyn ParamSource, task: usize, kind: Kind) -> Result<Tensor> {
        let one_hot = Tensor::from(task as i64).one_hot(self.tasks as i64).unsqueeze(0).to_kind(kind);
        let hidden = Activation::Gelu.apply(&params.linear(&format!("{}.fc1", self.shared), &one_hot)?);
        let raw = params.linear(&format!("{}.fc2", self.shared), &hidden)?;
        nn::layer_norm(params, &format!("{}.norm", self.shared), &raw, 1e-6)
    }
}

impl Router for TaskConditioned {
    fn init(&self, prefix: &str, seed: Seed, into: &mut StateDict) -> Result<()> {
        init_gate(&format!("{prefix}.gate"), self.experts, self.dim + self.embedding, seed, into)?;
        let (fc1, fc2) = (format!("{}.fc1", self.shared), format!("{}.fc2", self.shared));
        if into.get(&format!("{fc1}.weight")).is_some() {
            return Ok(()); // Another layer that shares the embedding was first.
        }
        nn::linear::init(&fc1, self.tasks as i64, self.embedding, true, Init::default(), seed, into)?;
        nn::linear::init(&fc2, self.embedding, self.embedding, true, Init::default(), seed, into)?;
        nn::layer_norm::init(&format!("{}.norm", self.shared), self.embedding, into)
    }

    fn logits(&self, params: &dyn ParamSource, prefix: &str, x: &Tensor, ctx: &Context) -> Result<Tensor> {
        let task = task_of(ctx, self.tasks, prefix)?;
        let embedding = self.embed(params, task, x.kind())?; // [1, embedding]
        let tokens = x.size().first().copied().unwrap_or(0);
        let conditioned = Tensor::cat(&[x, &embedding.expand([tokens, self.embedding], false)], 1);
        params.linear(&format!("{prefix}.gate"), &conditioned)
    }

    fn experts(&self) -> i64 {
        self.experts
    }

    fn is_task_conditioned(&self) -> bool {
        true
    }

    fn cost(&self) -> Cost {
        let weights = ((self.dim + self.embedding) * self.experts) as u64;
        Cost { macs: weights, params: weights }
    }
}
