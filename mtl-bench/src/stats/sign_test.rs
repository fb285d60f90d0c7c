//! Exact sign test of paired differences (Arbuthnot 1710) and McNemar, *Note on the Sampling Error of the Difference Between
//! Correlated Proportions or Percentages*, Psychometrika 12, 1947.
use super::{check_values, chi_squared_sf};
use crate::{Error, Result};
use statrs::distribution::{Binomial, DiscreteCDF};

/// Result of [`sign_test`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SignTest {
    /// Positive differences.
    pub positive: u64,
    /// Differences that are not zero.
    pub n: u64,
    /// Two-sided p; 1 when every difference is zero.
    pub p: f64,
}

/// Two-sided p of `k` heads among `n` tosses of a fair coin.
fn fair_coin(k: u64, n: u64) -> Result<f64> {
    if n == 0 {
        return Ok(1.0);
    }
    let coin = Binomial::new(0.5, n).map_err(|e| Error::argument("n", "a count", e))?;
    Ok((2.0 * coin.cdf(k.min(n - k))).min(1.0))
}

/// Tests whether positive and negative `differences` are equally likely; zeros are dropped.
///
/// ```
/// let test = mtl_bench::stats::sign_test(&[1.0, 2.0, 0.5, 3.0, 0.0])?;
/// assert_eq!((test.positive, test.n, test.p), (4, 4, 0.125));
/// # Ok::<(), mtl_bench::Error>(())
/// ```
///
/// # Errors
///
/// [`Error::Argument`] when there are no differences or one is not finite.
pub fn sign_test(differences: &[f64]) -> Result<SignTest> {
    check_values(differences, 1)?;
    let noise = 1e-12 * differences.iter().fold(0.0_f64, |m, d| m.max(d.abs()));
    let positive = differences.iter().filter(|d| **d > noise).count() as u64;
    let n = positive + differences.iter().filter(|d| **d < -noise).count() as u64;
    Ok(SignTest { positive, n, p: fair_coin(positive, n)? })
}

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

/// Compares two classifiers on one test set by the items that only one of them gets right. One run each: it says nothing
/// about other seeds.
///
/// ```
/// let test = mtl_bench::stats::mcnemar(0, 6)?;
/// assert_eq!(test.p, 0.03125);
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
