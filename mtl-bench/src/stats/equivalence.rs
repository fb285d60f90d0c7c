//! Two one-sided tests of equivalence: Schuirmann, Journal of Pharmacokinetics and Biopharmaceutics 15, 1987.
use super::{Interval, IntervalMethod, TTest, check_values, constant, mean, std, student, t_critical};
use crate::{Error, Result};
use statrs::distribution::ContinuousCDF;

/// Result of a test of equivalence.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Equivalence {
    /// Half-width of the region called equivalent.
    pub margin: f64,
    /// p of "the difference is −margin or less".
    pub lower_p: f64,
    /// p of "the difference is margin or more".
    pub upper_p: f64,
    /// The larger of the two: below α, equivalence is shown.
    pub p: f64,
    /// Interval at level 1 − 2α; inside ±margin exactly when p < α.
    pub interval: Interval,
}

/// Whether a mean paired difference is within ±`margin` at `alpha`; `None` when the differences have no spread.
///
/// ```
/// let shown = mtl_bench::stats::equivalence(&[0.01, -0.02, 0.00, 0.01], 0.1, 0.05)?.unwrap();
/// assert!(shown.p < 0.05 && shown.interval.high < 0.1);
/// # Ok::<(), mtl_bench::Error>(())
/// ```
///
/// # Errors
///
/// [`Error::Argument`] for fewer than 2 differences, one that is not finite, a margin that is not positive, or α
/// outside 0..½.
pub fn equivalence(differences: &[f64], margin: f64, alpha: f64) -> Result<Option<Equivalence>> {
    check_values(differences, 2)?;
    check(margin, alpha)?;
    let Some(spread) = std(differences).filter(|_| !constant(differences)) else { return Ok(None) };
    let n = differences.len() as f64;
    of(mean(differences), spread / n.sqrt(), n - 1.0, margin, alpha).map(Some)
}

impl TTest {
    /// Whether the difference of means is within ±`margin` at `alpha`.
    ///
    /// # Errors
    ///
    /// [`Error::Argument`] for a margin that is not positive or α outside 0..½.
    pub fn equivalence(&self, margin: f64, alpha: f64) -> Result<Equivalence> {
        check(margin, alpha)?;
        of(self.difference, self.standard_error, self.df, margin, alpha)
    }
}

fn check(margin: f64, alpha: f64) -> Result<()> {
    if !(margin > 0.0 && margin.is_finite()) {
        return Err(Error::argument("margin", "positive and finite", margin));
    }
    if 0.0 < alpha && alpha < 0.5 {
        return Ok(());
    }
    Err(Error::argument("alpha", "between 0 and 0.5", alpha))
}

fn of(difference: f64, error: f64, df: f64, margin: f64, alpha: f64) -> Result<Equivalence> {
    let t = student(df)?;
    let (lower_p, upper_p) = (t.sf((difference + margin) / error), t.cdf((difference - margin) / error));
    let level = 1.0 - 2.0 * alpha;
    let half = t_critical(level, df)? * error;
    let (low, high) = (difference - half, difference + half);
    let interval = Interval { low, high, level, method: IntervalMethod::T };
    Ok(Equivalence { margin, lower_p, upper_p, p: lower_p.max(upper_p), interval })
}
