//! McNemar, *Note on the Sampling Error of the Difference Between Correlated Proportions or Percentages*,
//! Psychometrika 12, 1947.
use super::chi_squared_sf;
use super::sign_test::fair_coin;
use crate::{Error, Result};

/// Result of [`mcnemar`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct McNemar {
    /// χ² with continuity correction; 0 when the classifiers never differ.
    pub statistic: f64,
    /// p of the statistic.
    pub chi_squared_p: f64,
    /// Exact p.
    pub exact_p: f64,
    /// The p to use: exact below 25 differing items, else of χ².
    pub p: f64,
}

/// Compares two classifiers on one test set by the items that only one of them gets right. One run each: it says
/// nothing about other seeds.
///
/// ```
/// let test = mtl_bench::stats::mcnemar(0, 6)?;
/// assert!((test.p - 0.03125).abs() < 1e-12); // 2 / 2^6
/// # Ok::<(), mtl_bench::Error>(())
/// ```
///
/// # Errors
///
/// [`Error::Argument`] when the counts add up to more than 2⁶³.
pub fn mcnemar(only_a_correct: u64, only_b_correct: u64) -> Result<McNemar> {
    let n = only_a_correct.checked_add(only_b_correct).filter(|n| *n < 1 << 63);
    let n = n.ok_or_else(|| Error::argument("counts", "below 2^63 together", "more"))?;
    if n == 0 {
        return Ok(McNemar { statistic: 0.0, chi_squared_p: 1.0, exact_p: 1.0, p: 1.0 });
    }
    let difference = only_a_correct.abs_diff(only_b_correct) as f64;
    let statistic = (difference - 1.0).powi(2) / n as f64;
    let (chi_squared_p, exact_p) = (chi_squared_sf(statistic, 1.0)?, fair_coin(only_a_correct, n)?);
    Ok(McNemar { statistic, chi_squared_p, exact_p, p: if n < 25 { exact_p } else { chi_squared_p } })
}
