//! Root mean square normalisation: Zhang & Sennrich, NeurIPS 2019, arXiv 1910.07467.
use super::Init;
use crate::{ParamSource, Result, Seed, StateDict, check};
use tch::Tensor;

/// Writes `{name}.weight` (ones), `[dim]`.
///
/// # Errors
///
/// See [`Init::fill`].
pub fn init(name: &str, dim: i64, into: &mut StateDict) -> Result<()> {
    Init::Constant(1.0).fill(Seed(0), &format!("{name}.weight"), &[dim], into)
}

/// `x` `[…, dim]` divided by the root of its mean square over the last axis, then scaled by `{name}.weight`.
///
/// # Errors
///
/// [`Error::Unknown`](crate::Error::Unknown) without a weight, [`Error::Shape`](crate::Error::Shape) when the last
/// axis of `x` does not have its size.
pub fn rms_norm(params: &dyn ParamSource, name: &str, x: &Tensor, eps: f64) -> Result<Tensor> {
    let weight = params.param(&format!("{name}.weight"))?;
    let dim = weight.numel() as i64;
    if x.size().last() != Some(&dim) {
        check::last_dim(x, &format!("input of {name}"), dim)?;
    }
    Ok(x.rms_norm([dim], Some(&*weight), eps))
}
