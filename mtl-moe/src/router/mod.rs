//! Routers: which experts a token goes to, and with which weight.
mod multi_gate;
mod single;
mod task_conditioned;

pub use multi_gate::MultiGate;
pub use single::SingleGate;
pub use task_conditioned::TaskConditioned;

use crate::balance;
use mtl_core::{Context, Cost, Error, ParamSource, Result, Seed, StateDict, rng};
use std::fmt::Debug;
use tch::{Kind, Tensor};

/// Where the tokens go.
#[derive(Debug)]
pub struct Routing {
    /// Experts of each token, best first, `[tokens, k]`.
    pub index: Tensor,
    /// Weight of each of them, `[tokens, k]`; gradients reach the router through it.
    pub gate: Tensor,
    /// Loss that is small when the load is even.
    pub balance: Tensor,
}

/// Chooses experts for tokens.
pub trait Router: Debug + Send + Sync {
    /// Writes fresh parameters, named `{prefix}.…` unless several layers share them.
    ///
    /// # Errors
    ///
    /// When a size is below 1.
    fn init(&self, prefix: &str, seed: Seed, into: &mut StateDict) -> Result<()>;

    /// Router logits for `x` `[tokens, dim]`: `[tokens, experts]`.
    ///
    /// # Errors
    ///
    /// When a parameter is missing, a shape does not fit, or the context lacks the task.
    fn logits(&self, params: &dyn ParamSource, prefix: &str, x: &Tensor, ctx: &Context) -> Result<Tensor>;

    /// Number of experts.
    fn experts(&self) -> i64;

    /// Whether the choice depends on [`Context::task`].
    fn is_task_conditioned(&self) -> bool;

    /// Cost of one token.
    fn cost(&self) -> Cost;
}

/// How logits become a choice: softmax over all experts, then the best k, whose probabilities are **not** renormalised.
///
/// That is the gate of M³ViT and V-MoE. In training, noise with deviation `noise_std / experts` is added first.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct TopK {
    /// Experts of each token. At least 1, at most the number of experts.
    pub k: i64,
    /// Deviation σ of the noise, before division by the number of experts. Not negative.
    pub noise_std: f64,
}

impl TopK {
    /// Fails unless the values are in range for `experts` experts.
    ///
    /// # Errors
    ///
    /// [`Error::Config`] naming the value.
    pub fn check(&self, experts: i64) -> Result<()> {
        if !(1..=experts).contains(&self.k) {
            return Err(Error::config("top_k", format!("in 1..={experts}, the number of experts"), self.k));
        }
        if !(self.noise_std >= 0.0 && self.noise_std.is_finite()) {
            return Err(Error::config("noise_std", "finite and not negative", self.noise_std));
        }
        Ok(())
    }

    /// The choice for `logits` `[tokens, experts]`; `purpose` names the noise of this layer.
    ///
    /// Equal logits go to the expert with the lower index, on every machine.
    ///
    /// # Errors
    ///
    /// [`Error::NonFinite`] naming the first token with a logit that is NaN or infinite.
    pub fn choose(&self, logits: &Tensor, purpose: &str, ctx: &Context) -> Result<Routing> {
        let noise = ctx.stream(purpose).filter(|_| self.noise_std > 0.0).map(|mut stream| {
            let std = self.noise_std / logits.size().last().copied().unwrap_or(1) as f64;
            rng::normal(&mut stream, &logits.size(), std).to_kind(logits.kind())
        });
        self.choose_with(logits, noise.as_ref())
    }

    /// The choice when `noise` `[tokens, experts]` is added to the logits first.
    ///
    /// # Errors
    ///
    /// As [`choose`](Self::choose).
    pub fn choose_with(&self, logits: &Tensor, noise: Option<&Tensor>) -> Result<Routing> {
        let (_, experts) = mtl_core::check::dims2(logits, "router logits", "[tokens, experts]")?;
        self.check(experts)?;
        mtl_core::check::finite(logits, "router logits")?;
        let noisy = noise.map_or_else(|| logits.shallow_clone(), |noise| logits + noise);
        // Softmax in single precision at least, whatever the logits are.
        let kind = if logits.kind() == Kind::Double { Kind::Double } else { Kind::Float };
        let probabilities = noisy.softmax(-1, kind); // [tokens, experts]
        // A stable sort keeps equal values in the order of the experts; `topk` promises no order.
        let (_, order) = probabilities.sort_stable(true, -1, true);
        let index = order.narrow(-1, 0, self.k); // [tokens, k]
        let gate = probabilities.gather(-1, &index, false);
        let importance = balance::importance(&gate, &index, experts);
        let load = match noise {
            Some(_) => balance::load(logits, &noisy, self.noise_std / experts as f64, self.k),
            None => balance::counts(&index, experts, kind),
        };
        let balance = balance::cv_squared(&importance) + balance::cv_squared(&load);
        Ok(Routing { index, gate, balance })
    }
}

/// The task of the context, below `tasks`.
fn task_of(ctx: &Context, tasks: usize, prefix: &str) -> Result<usize> {
    match ctx.task() {
        Some(task) if task < tasks => Ok(task),
        Some(task) => Err(Error::config(format!("task of router {prefix}"), format!("below {tasks}"), task)),
        None => Err(Error::config(format!("task of router {prefix}"), "set in the context", "missing")),
    }
}

/// A gate without bias as the released M³ViT starts it: uniform, Kaiming with a = √5, `[experts, inputs]`.
fn init_gate(name: &str, experts: i64, inputs: i64, seed: Seed, into: &mut StateDict) -> Result<()> {
    mtl_core::nn::linear::init(name, inputs, experts, false, mtl_core::nn::Init::default(), seed, into)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn top(k: i64) -> TopK {
        TopK { k, noise_std: 0.0 }
    }

    #[test]
    fn ties_go_to_the_lower_index() {
        let logits = Tensor::from_slice(&[1.0f32, 1.0, 1.0, 1.0]).view([1, 4]);
        let routing = top(2).choose(&logits, "noise", &Context::eval()).unwrap();
        assert_eq!(Vec::<i64>::try_from(routing.index.flatten(0, -1)).unwrap(), [0, 1]);
        assert_eq!(Vec::<f32>::try_from(routing.gate.flatten(0, -1)).unwrap(), [0.25, 0.25]);
    }

    #[test]
    fn more_experts_per_token_than_there_are_is_refused() {
        let logits = Tensor::from_slice(&[1.0f32, 2.0]).view([1, 2]);
        let err = top(3).choose(&logits, "noise", &Context::eval()).unwrap_err();
        insta::assert_snapshot!(err, @"`top_k` must be in 1..=2, the number of experts, but is 3");
    }

    #[test]
    fn a_logit_that_is_not_finite_names_the_token() {
        let logits = Tensor::from_slice(&[1.0f32, 2.0, f32::NAN, 0.0]).view([2, 2]);
        let err = top(1).choose(&logits, "noise", &Context::eval()).unwrap_err();
        insta::assert_snapshot!(err, @"`router logits` is not finite at index 1");
    }

    #[test]
    fn noise_is_drawn_in_training_only_and_depends_on_the_step() {
        let logits = Tensor::zeros([64, 4], (Kind::Float, tch::Device::Cpu));
        let noisy = TopK { k: 1, noise_std: 1.0 };
        let at = |ctx: &Context| noisy.choose(&logits, "noise", ctx).unwrap().index;
        assert!(at(&Context::eval()).equal(&Tensor::zeros([64, 1], (Kind::Int64, tch::Device::Cpu))));
        let train = |step| at(&Context::train(Seed(0), step));
        assert!(train(1).equal(&train(1)) && !train(1).equal(&train(2)));
    }
}
