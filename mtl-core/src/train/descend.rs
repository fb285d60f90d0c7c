//! The step of a learner that has one loss.
use super::pass::first_bad;
use crate::{
    Error, Result, StateDict,
    learner::{Step, StepReport},
    optim::Optimizer,
};
use tch::Tensor;

/// One optimiser step of `params` down `loss`, which is that of `task`.
///
/// # Errors
///
/// [`Error::Diverged`] naming task, step and parameter when the loss or a gradient is not finite, what
/// [`StateDict::gradients`] and [`Optimizer::step`] return; the parameters are then as before.
///
/// ```
/// use mtl_core::{Seed, StateDict, learner::Step, optim::SgdConfig, train::descend};
/// use tch::{Kind, Tensor};
///
/// let mut params = StateDict::from_iter([("w".to_owned(), Tensor::from_slice(&[3.0f32]))]).trainable();
/// let loss = params.get("w").unwrap().square().sum(Kind::Float);
/// let step = Step { index: 0, seed: Seed(0) };
/// let report = descend(&mut params, &loss, "only", step, &mut SgdConfig::default().build()?, 0.5)?;
/// assert_eq!((report.losses[0], report.grad_norm), (9.0, Some(6.0)));
/// assert_eq!(params.get("w").unwrap().double_value(&[0]), 0.0);
/// # Ok::<(), mtl_core::Error>(())
/// ```
pub fn descend(
    params: &mut StateDict,
    loss: &Tensor,
    task: &str,
    step: Step,
    optimizer: &mut dyn Optimizer,
    lr: f64,
) -> Result<StepReport> {
    let diverged = |what, param| Error::Diverged { what, task: task.to_owned(), step: step.index, param };
    let value = loss.double_value(&[]);
    if !value.is_finite() {
        return Err(diverged("loss", first_bad(params)));
    }
    let grads = params.gradients(loss, false)?;
    let norm = grads.norm();
    if !norm.is_finite() {
        return Err(diverged("gradient", first_bad(&grads)));
    }
    optimizer.step(params, &grads, lr)?;
    Ok(StepReport { losses: vec![value], grad_norm: Some(norm), ..StepReport::default() })
}
