//! Tests of two independent samples: Student, Biometrika 6, 1908; Welch, Biometrika 34, 1947.
use super::{Interval, IntervalMethod, check_level, check_values, constant, mean, std, t_critical, t_p};
use crate::Result;

/// Result of [`welch`] and [`student_t`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct TTest {
    /// Mean of the first sample minus mean of the second.
    pub difference: f64,
    /// Standard error of the difference.
    pub standard_error: f64,
    /// Test statistic.
    pub t: f64,
    /// Degrees of freedom.
    pub df: f64,
    /// Two-sided p.
    pub p: f64,
    /// Interval of the difference.
    pub interval: Interval,
}

impl TTest {
    fn of(difference: f64, standard_error: f64, df: f64, level: f64) -> Result<Self> {
        let half = t_critical(level, df)? * standard_error;
        let (low, high) = (difference - half, difference + half);
        let t = difference / standard_error;
        let interval = Interval { low, high, level, method: IntervalMethod::T };
        Ok(Self { difference, standard_error, t, df, p: t_p(t, df)?, interval })
    }
}

/// Variance of the mean and count of a checked sample.
fn moments(values: &[f64]) -> (f64, f64) {
    (std(values).map_or(0.0, |s| s * s / values.len() as f64), values.len() as f64)
}

/// Whether the two means can be compared: `false` when neither sample has any spread.
fn check(x: &[f64], y: &[f64], level: f64) -> Result<bool> {
    check_level(level)?;
    check_values(x, 2)?;
    check_values(y, 2)?;
    Ok(!(constant(x) && constant(y)))
}

/// Welch's test of `x` against `y`, for unequal variances; `None` when neither sample has any spread.
///
/// ```
/// let test = mtl_bench::stats::welch(&[1.0, 2.0, 3.0], &[2.0, 4.0, 6.0], 0.95)?.unwrap();
/// assert_eq!(format!("{:.3} {:.3}", test.t, test.df), "-1.549 2.941");
/// # Ok::<(), mtl_bench::Error>(())
/// ```
///
/// # Errors
///
/// [`crate::Error::Argument`] for fewer than 2 values on a side, one that is not finite, or a level out of range.
pub fn welch(x: &[f64], y: &[f64], level: f64) -> Result<Option<TTest>> {
    if !check(x, y, level)? {
        return Ok(None);
    }
    let ((a, n), (b, m)) = (moments(x), moments(y));
    let df = (a + b).powi(2) / (a * a / (n - 1.0) + b * b / (m - 1.0));
    TTest::of(mean(x) - mean(y), (a + b).sqrt(), df, level).map(Some)
}

/// Student's test of `x` against `y`, which assumes equal variances; `None` when neither sample has any spread.
///
/// # Errors
///
/// [`crate::Error::Argument`] as for [`welch`].
pub fn student_t(x: &[f64], y: &[f64], level: f64) -> Result<Option<TTest>> {
    if !check(x, y, level)? {
        return Ok(None);
    }
    let ((a, n), (b, m)) = (moments(x), moments(y));
    let df = n + m - 2.0;
    let pooled = (a * n * (n - 1.0) + b * m * (m - 1.0)) / df;
    TTest::of(mean(x) - mean(y), (pooled * (1.0 / n + 1.0 / m)).sqrt(), df, level).map(Some)
}
