//! Intervals of a proportion: Wilson, JASA 22, 1927; Clopper and Pearson, Biometrika 26, 1934.
use super::{Interval, IntervalMethod, check_level, z_critical};
use crate::{Error, Result};
use statrs::function::beta::inv_beta_reg;

fn check(successes: u64, n: u64, level: f64) -> Result<()> {
    check_level(level)?;
    if n == 0 {
        return Err(Error::argument("n", "at least 1", n));
    }
    if successes > n {
        return Err(Error::argument("successes", format!("at most {n}"), successes));
    }
    Ok(())
}

/// Score interval of a proportion of test items; good for all n, at 0 and 1 too.
///
/// ```
/// let interval = mtl_bench::stats::wilson(8, 10, 0.95)?;
/// assert_eq!(format!("{:.3} {:.3}", interval.low, interval.high), "0.490 0.943");
/// # Ok::<(), mtl_bench::Error>(())
/// ```
///
/// # Errors
///
/// [`Error::Argument`] when n is 0, there are more successes than n, or the level is out of range.
pub fn wilson(successes: u64, n: u64, level: f64) -> Result<Interval> {
    check(successes, n, level)?;
    let (z, count) = (z_critical(level), n as f64);
    let p = successes as f64 / count;
    let centre = p + z * z / (2.0 * count);
    let half = z * (p * (1.0 - p) / count + z * z / (4.0 * count * count)).sqrt();
    let scale = 1.0 + z * z / count;
    // The ends are exactly 0 and 1 there; only rounding says otherwise.
    let low = if successes == 0 { 0.0 } else { (centre - half) / scale };
    let high = if successes == n { 1.0 } else { (centre + half) / scale };
    Ok(Interval { low, high, level, method: IntervalMethod::Wilson })
}

/// Exact interval of a proportion, by quantiles of the beta distribution; never too narrow, often too wide.
///
/// # Errors
///
/// [`Error::Argument`] as for [`wilson`].
pub fn clopper_pearson(successes: u64, n: u64, level: f64) -> Result<Interval> {
    check(successes, n, level)?;
    let tail = (1.0 - level) / 2.0;
    let (k, rest) = (successes as f64, (n - successes) as f64);
    let low = if successes == 0 { 0.0 } else { inv_beta_reg(k, rest + 1.0, tail) };
    let high = if successes == n { 1.0 } else { inv_beta_reg(k + 1.0, rest, 1.0 - tail) };
    Ok(Interval { low, high, level, method: IntervalMethod::ClopperPearson })
}
