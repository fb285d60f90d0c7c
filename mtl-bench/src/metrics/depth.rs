//! Depth errors: Eigen et al., *Depth Map Prediction from a Single Image using a Multi-Scale Deep Network*, NeurIPS 2014,
//! arXiv 1406.2283.
use super::{finite, same_length};
use crate::{Error, Result};

/// Errors over the positions with a measured depth, in the unit of the input where they have one.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct DepthErrors {
    /// Mean |d − d*|.
    pub absolute: f64,
    /// Mean |d − d*| / d*.
    pub absolute_relative: f64,
    /// Mean (d − d*)² / d*.
    pub squared_relative: f64,
    /// Root of the mean (d − d*)².
    pub rmse: f64,
    /// Root of the mean (ln d − ln d*)².
    pub rmse_log: f64,
    /// Mean |log₁₀ d − log₁₀ d*|.
    pub log10: f64,
    /// Shares with max(d / d*, d* / d) below 1.25, 1.25² and 1.25³; higher is better.
    pub delta: [f64; 3],
}

/// Compares depths in any layout; positions whose target is 0 or less were not measured and do not count.
///
/// ```
/// let errors = mtl_bench::metrics::depth_errors(&[2.0, 3.0, 9.0], &[1.0, 3.0, 0.0])?;
/// assert_eq!((errors.absolute, errors.absolute_relative, errors.delta[0]), (0.5, 0.5, 0.5));
/// # Ok::<(), mtl_bench::Error>(())
/// ```
///
/// # Errors
///
/// [`Error::Metric`] when nothing was measured, lengths differ, a number is not finite, or a prediction at a measured
/// position is not positive.
pub fn depth_errors<T: Into<f64> + Copy>(predictions: &[T], targets: &[T]) -> Result<DepthErrors> {
    const NAME: &str = "depth";
    same_length(NAME, predictions.len(), targets.len())?;
    finite(NAME, "prediction", predictions.iter().map(|&p| p.into()))?;
    finite(NAME, "target", targets.iter().map(|&t| t.into()))?;
    let mut sums = [0.0; 9];
    let mut n = 0.0;
    for (i, (&p, &t)) in predictions.iter().zip(targets).enumerate() {
        let (p, t): (f64, f64) = (p.into(), t.into());
        if t <= 0.0 {
            continue;
        }
        if p <= 0.0 {
            return Err(Error::metric(NAME, format!("prediction {i} is {p}, but depths are positive")));
        }
        n += 1.0;
        let (error, log, ratio) = ((p - t).abs(), p.ln() - t.ln(), (p / t).max(t / p));
        let within = |power: i32| f64::from(u8::from(ratio < 1.25_f64.powi(power)));
        let terms = [
            error,
            error / t,
            error * error / t,
            error * error,
            log * log,
            (p.log10() - t.log10()).abs(),
            within(1),
            within(2),
            within(3),
        ];
        sums.iter_mut().zip(terms).for_each(|(sum, term)| *sum += term);
    }
    if n == 0.0 {
        return Err(Error::metric(NAME, "no target is above 0"));
    }
    let [absolute, absolute_relative, squared_relative, square, log_square, log10, d1, d2, d3] =
        sums.map(|s| s / n);
    Ok(DepthErrors {
        absolute,
        absolute_relative,
        squared_relative,
        rmse: square.sqrt(),
        rmse_log: log_square.sqrt(),
        log10,
        delta: [d1, d2, d3],
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_are_named() {
        let fault = |p: f64, t: f64| depth_errors(&[p], &[t]).unwrap_err();
        insta::assert_snapshot!(fault(0.0, 1.0), @"`depth`: prediction 0 is 0, but depths are positive");
        insta::assert_snapshot!(fault(1.0, 0.0), @"`depth`: no target is above 0");
        insta::assert_snapshot!(fault(f64::NAN, 0.0), @"`depth`: prediction 0 is NaN");
    }
}
