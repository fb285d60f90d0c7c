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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng;

    #[test]
    fn each_row_gets_mean_bias_and_deviation_weight() {
        let mut params = StateDict::new();
        init("norm", 8, &mut params).unwrap();
        let x = rng::normal(&mut Seed(0).stream("test", 0), &[2, 3, 8], 5.0) + 7.0;
        let y = layer_norm(&params, "norm", &x, 1e-5).unwrap();
        let (mean, std) =
            (y.mean_dim([-1i64].as_slice(), false, None), y.std_dim([-1i64].as_slice(), false, false));
        assert!(
            mean.abs().max().double_value(&[]) < 1e-5 && (std - 1.0).abs().max().double_value(&[]) < 1e-4
        );
        let err = layer_norm(&params, "norm", &x.narrow(2, 0, 4), 1e-5).unwrap_err();
        insta::assert_snapshot!(err, @"`input of norm` must have shape […, 8], but has [2, 3, 4]");
    }
}
