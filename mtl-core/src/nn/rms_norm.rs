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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_divided_by_their_root_mean_square() {
        let mut params = StateDict::new();
        init("norm", 2, &mut params).unwrap();
        params.insert("norm.weight", Tensor::from_slice(&[1.0f32, 10.0]));
        let y = rms_norm(&params, "norm", &Tensor::from_slice(&[1.0f32, 7.0]).view([1, 2]), 0.0).unwrap();
        let wanted = Tensor::from_slice(&[0.2f32, 14.0]).view([1, 2]); // √((1 + 49) / 2) = 5
        assert!((y - wanted).abs().max().double_value(&[]) < 1e-5);
        let err = rms_norm(&params, "norm", &Tensor::from(1.0f32), 0.0).unwrap_err();
        insta::assert_snapshot!(err, @"`input of norm` must have shape […, 2], but has []");
    }
}
