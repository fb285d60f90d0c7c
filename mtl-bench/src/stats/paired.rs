//! The difference of two methods on the same seeds.
use super::{Interval, IntervalMethod, check_level, check_values, constant, mean, std, t_critical, t_p};
use crate::Result;

/// Mean of paired differences, with a t interval and test where they are defined.
///
/// ```
/// use mtl_bench::stats::PairedDifference;
///
/// let d = PairedDifference::of(&[1.0, 2.0, 3.0], 0.95)?;
/// assert_eq!((d.mean, d.n), (2.0, 3));
/// assert!((d.p.unwrap() - 0.0742).abs() < 1e-4);
/// assert!(PairedDifference::of(&[1.0], 0.95)?.interval.is_none()); // not testable with one seed
/// assert!(PairedDifference::of(&[1.0, 1.0], 0.95)?.p.is_none()); // no spread: exactly 1 every time
/// # Ok::<(), mtl_bench::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct PairedDifference {
    /// Mean difference.
    pub mean: f64,
    /// Standard deviation of the differences; `None` for one pair.
    pub std: Option<f64>,
    /// Number of pairs.
    pub n: usize,
    /// t interval of the mean; `None` for one pair or for equal differences.
    pub interval: Option<Interval>,
    /// Two-sided p of the paired t test; `None` as for the interval.
    pub p: Option<f64>,
    /// Mean over standard deviation of the differences (d_z); `None` as for the interval.
    pub effect: Option<f64>,
}

impl PairedDifference {
    /// Summarises differences, one per seed.
    ///
    /// # Errors
    ///
    /// [`crate::Error::Argument`] when there are none, one is not finite, or the level is not between 0 and 1.
    pub fn of(differences: &[f64], level: f64) -> Result<Self> {
        check_level(level)?;
        check_values(differences, 1)?;
        let (mean, n) = (mean(differences), differences.len());
        let plain = Self { mean, std: std(differences), n, interval: None, p: None, effect: None };
        let Some(spread) = plain.std.filter(|_| !constant(differences)) else {
            return Ok(plain);
        };
        let (df, error) = ((n - 1) as f64, spread / (n as f64).sqrt());
        let half = t_critical(level, df)? * error;
        let interval = Interval { low: mean - half, high: mean + half, level, method: IntervalMethod::T };
        Ok(Self {
            interval: Some(interval),
            p: Some(t_p(mean / error, df)?),
            effect: Some(mean / spread),
            ..plain
        })
    }
}
