//! Power of the paired t test by the noncentral t distribution: Cohen, *Statistical Power Analysis for the Behavioral
//! Sciences*, 1988.
use super::studentised_range::over_scale;
use super::{check_level, phi, t_critical};
use crate::{Error, Result};

/// Most runs that [`runs_needed`] looks at.
const MOST_RUNS: usize = 1_000_000;

/// Probability that a two-sided paired t test over `n` runs at `level` finds a mean difference of `effect` standard
/// deviations (of the differences).
///
/// ```
/// let power = mtl_bench::stats::paired_power(0.5, 34, 0.95)?;
/// assert_eq!(format!("{power:.3}"), "0.808");
/// # Ok::<(), mtl_bench::Error>(())
/// ```
///
/// # Errors
///
/// [`Error::Argument`] for an effect that is not finite, fewer than 2 runs or a level out of range.
pub fn paired_power(effect: f64, n: usize, level: f64) -> Result<f64> {
    check_level(level)?;
    if n < 2 {
        return Err(Error::argument("n", "at least 2 runs", n));
    }
    if !effect.is_finite() {
        return Err(Error::argument("effect", "finite", effect));
    }
    let df = (n - 1) as f64;
    let (critical, shift) = (t_critical(level, df)?, effect * (n as f64).sqrt());
    // T = (Z + shift)/s exceeds t exactly when Z > t·s − shift.
    Ok(over_scale(df, |s| phi(shift - critical * s) + phi(-shift - critical * s)).clamp(0.0, 1.0))
}

/// Fewest runs with which a paired t test at `level` finds `difference` with probability `power`, when the
/// differences have the standard deviation `std`.
///
/// ```
/// assert_eq!(mtl_bench::stats::runs_needed(0.5, 1.0, 0.8, 0.95)?, 34);
/// # Ok::<(), mtl_bench::Error>(())
/// ```
///
/// # Errors
///
/// [`Error::Argument`] for a difference of 0, a std that is not positive, a power or level out of range, or more than
/// a million runs.
pub fn runs_needed(difference: f64, std: f64, power: f64, level: f64) -> Result<usize> {
    check(std, power)?;
    let effect = (difference / std).abs();
    if !(effect > 0.0 && effect.is_finite()) {
        return Err(Error::argument("difference", "finite and not 0", difference));
    }
    let (mut low, mut high) = (1, 2);
    while paired_power(effect, high, level)? < power {
        if high >= MOST_RUNS {
            return Err(Error::argument("difference", "large enough for a million runs", difference));
        }
        (low, high) = (high, (2 * high).min(MOST_RUNS));
    }
    while high - low > 1 {
        let middle = low + (high - low) / 2;
        *(if paired_power(effect, middle, level)? < power { &mut low } else { &mut high }) = middle;
    }
    Ok(high)
}

/// Smallest difference that `n` runs find with probability `power`; for the note under a table that shows a smaller
/// one.
///
/// # Errors
///
/// As [`runs_needed`].
pub fn detectable_difference(std: f64, n: usize, power: f64, level: f64) -> Result<f64> {
    check(std, power)?;
    let (mut low, mut high) = (0.0, 1.0);
    while paired_power(high, n, level)? < power {
        (low, high) = (high, 2.0 * high);
        if high > 1e9 {
            return Err(Error::argument("n", "enough runs for the power asked for", n));
        }
    }
    for _ in 0..60 {
        let middle = (low + high) / 2.0;
        *(if paired_power(middle, n, level)? < power { &mut low } else { &mut high }) = middle;
    }
    Ok(high * std)
}

fn check(std: f64, power: f64) -> Result<()> {
    if !(std > 0.0 && std.is_finite()) {
        return Err(Error::argument("std", "positive and finite", std));
    }
    if 0.0 < power && power < 1.0 {
        return Ok(());
    }
    Err(Error::argument("power", "between 0 and 1, such as 0.8", power))
}
