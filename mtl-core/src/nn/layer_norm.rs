//! Layer normalisation: Ba et al., arXiv 1607.06450.
use super::Init;
use crate::{ParamSource, Result, Seed, StateDict, check};
use tch::Tensor;

/// Writes `{name}.weight` (ones) and `{name}.bias` (zeros), `[dim]`.
///
/// # Errors
///
/// See [`Init::fill`].
pub fn init(name: &str, dim: i64, into: &mut StateDict) -> Result<()> {
    Init::Constant(1.0).fill(Seed(0), &format!("{name}.weight"), &[dim], into)?;
    Init::Constant(0.0).fill(Seed(0), &format!("{name}.bias"), &[dim], into)
}

/// `x` `[…, dim]` brought to mean 0 and variance 1 over its last axis, then scaled by `{name}.weight` and moved by
/// `{name}.bias`, where that exists.
///
/// # Errors
///
/// [`Error::Unknown`](crate::Error::Unknown) without a weight, [`Error::Shape`](crate::Error::Shape) when the last
/// axis of `x` does not have its size.
pub fn layer_norm(params: &dyn ParamSource, name: &str, x: &Tensor, eps: f64) -> Result<Tensor> {
    let weight = params.param(&format!("{name}.weight"))?;
    let bias = params.find(&format!("{name}.bias"))?;
    let dim = weight.numel() as i64;
    if x.size().last() != Some(&dim) {
        check::last_dim(x, &format!("input of {name}"), dim)?;
    }
    Ok(x.layer_norm([dim], Some(&*weight), bias.as_deref(), eps, false))
}
