//! Dropout: Srivastava et al., JMLR 2014.
use crate::{Context, Error, Result};
use tch::Tensor;

/// `x` with each element zeroed with probability `p` and the others scaled by 1 / (1 − p), in training only.
///
/// It draws from libtorch's generator, which [`Seed::seed_torch`](crate::Seed::seed_torch) seeds before each step.
/// `p` must have passed [`check_probability`] when the layer was built.
pub fn dropout(x: &Tensor, p: f64, ctx: &Context) -> Tensor {
    if p > 0.0 && ctx.is_training() { x.dropout(p, true) } else { x.shallow_clone() }
}

/// Fails unless `p` can be a probability of dropping.
///
/// # Errors
///
/// [`Error::Config`] naming `field` when `p` is not in 0..1.
pub fn check_probability(p: f64, field: &str) -> Result<()> {
    if (0.0..1.0).contains(&p) {
        return Ok(());
    }
    Err(Error::config(field, "at least 0 and below 1", p))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Seed;
    use tch::{Device, Kind};

    #[test]
    fn drops_in_training_only_and_keeps_the_mean() {
        let x = Tensor::ones([10_000], (Kind::Float, Device::Cpu));
        assert_eq!(dropout(&x, 0.25, &Context::eval()), x);
        let y = dropout(&x, 0.25, &Context::train(Seed(0), 0));
        let kept = f64::from(u32::try_from(y.count_nonzero(None).int64_value(&[])).unwrap()) / 1e4;
        assert!((kept - 0.75).abs() < 0.03, "{kept}"); // Seven standard deviations.
        assert!((y.max().double_value(&[]) - 1.0 / 0.75).abs() < 1e-6);
        assert!(
            check_probability(1.0, "dropout").is_err() && check_probability(f64::NAN, "dropout").is_err()
        );
    }
}
