//! Exact sign-flip permutation test of paired differences.
use super::check_values;
use crate::{Error, Result};

/// Result of [`sign_flip`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SignFlip {
    /// Two-sided p: share of sign patterns whose mean is at least as far from 0.
    pub p: f64,
    /// The smallest p that so few pairs can give, 2^(1−n).
    pub smallest_p: f64,
}

/// Compares the mean of at most 20 `differences` with all 2^n patterns of signs.
///
/// ```
/// let test = mtl_bench::stats::sign_flip(&[1.0, 2.0, 3.0])?;
/// assert_eq!((test.p, test.smallest_p), (0.25, 0.25)); // three seeds can never be significant at 0.05
/// # Ok::<(), mtl_bench::Error>(())
/// ```
///
/// # Errors
///
/// [`Error::Argument`] for none or more than 20 differences, or one that is not finite.
pub fn sign_flip(differences: &[f64]) -> Result<SignFlip> {
    check_values(differences, 1)?;
    let n = differences.len();
    if n > 20 {
        return Err(Error::argument("differences", "at most 20; use `wilcoxon` for more", n));
    }
    let observed = differences.iter().sum::<f64>().abs();
    let scale: f64 = differences.iter().map(|d| d.abs()).sum();
    let reached = (0_u32..1 << n).filter(|pattern| {
        let sum: f64 =
            differences.iter().enumerate().map(|(i, d)| if pattern >> i & 1 == 1 { -d } else { *d }).sum();
        sum.abs() >= observed - 1e-12 * scale
    });
    let patterns = f64::from(1_u32 << n);
    Ok(SignFlip { p: reached.count() as f64 / patterns, smallest_p: (2.0 / patterns).min(1.0) })
}
