//! Correlated t test of repeated cross-validation: Nadeau and Bengio, *Inference for the Generalization Error*,
//! Machine Learning 52, 2003; Bayesian version: Corani and Benavoli, Machine Learning 100, 2015.
use super::{check_values, constant, mean, std, student, t_p};
use crate::{Error, Result};
use statrs::distribution::ContinuousCDF;

/// Probabilities that a difference is practically negative, equivalent and positive; they add up to 1.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RegionProbabilities {
    /// Below −rope.
    pub left: f64,
    /// Within ±rope.
    pub rope: f64,
    /// Above rope.
    pub right: f64,
}

/// Result of [`correlated_t`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct CorrelatedT {
    /// Test statistic.
    pub t: f64,
    /// Two-sided p.
    pub p: f64,
    /// Posterior probabilities with a flat prior.
    pub posterior: RegionProbabilities,
}

/// Tests paired `differences` over the folds of repeated cross-validation; `None` when they have no spread.
///
/// The variance of the mean is s²(1/n + ρ/(1−ρ)) with ρ = `test_fraction`, as training sets overlap. `rope` is the
/// half-width of the region of practical equivalence, in units of the metric.
///
/// ```
/// let plain = mtl_bench::stats::correlated_t(&[1.0, 2.0, 3.0], 0.0, 0.5)?.unwrap();
/// assert!((plain.p - 0.0742).abs() < 1e-4); // ρ = 0 is the paired t test
/// # Ok::<(), mtl_bench::Error>(())
/// ```
///
/// # Errors
///
/// [`Error::Argument`] for fewer than 2 differences, one that is not finite, a fraction outside 0..1 or a negative
/// rope.
pub fn correlated_t(differences: &[f64], test_fraction: f64, rope: f64) -> Result<Option<CorrelatedT>> {
    check_values(differences, 2)?;
    if !(0.0..1.0).contains(&test_fraction) {
        return Err(Error::argument("test_fraction", "at least 0 and below 1", test_fraction));
    }
    check_rope(rope)?;
    let Some(spread) = std(differences).filter(|_| !constant(differences)) else { return Ok(None) };
    let (n, centre) = (differences.len() as f64, mean(differences));
    let error = spread * (1.0 / n + test_fraction / (1.0 - test_fraction)).sqrt();
    let posterior = student(n - 1.0)?;
    let (left, right) = (posterior.cdf((-rope - centre) / error), posterior.sf((rope - centre) / error));
    Ok(Some(CorrelatedT {
        t: centre / error,
        p: t_p(centre / error, n - 1.0)?,
        posterior: RegionProbabilities { left, rope: 1.0 - left - right, right },
    }))
}

pub(super) fn check_rope(rope: f64) -> Result<()> {
    if rope >= 0.0 && rope.is_finite() {
        return Ok(());
    }
    Err(Error::argument("rope", "finite and at least 0", rope))
}
