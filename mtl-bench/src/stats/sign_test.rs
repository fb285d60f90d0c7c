//! Exact sign test of paired differences: Arbuthnot 1710; Dixon and Mood, JASA 41, 1946.
use super::check_values;
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
pub(super) fn fair_coin(k: u64, n: u64) -> Result<f64> {
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
/// assert_eq!((test.positive, test.n), (4, 4));
/// assert!((test.p - 0.125).abs() < 1e-12); // 2 / 2^4
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
