//! Effect sizes: Cohen, *Statistical Power Analysis for the Behavioral Sciences*, 1988; Hedges, Journal of
//! Educational Statistics 6, 1981; Cliff, Psychological Bulletin 114, 1993; Vargha and Delaney, Journal of
//! Educational and Behavioral Statistics 25, 2000.
use super::improvement::superiority;
use super::{check_values, constant, mean, std};
use crate::Result;
use crate::metrics::Better;

/// Difference of means over the pooled standard deviation; `None` when neither sample has any spread.
///
/// # Errors
///
/// [`crate::Error::Argument`] for fewer than 2 values on a side or one that is not finite.
pub fn cohen_d(x: &[f64], y: &[f64]) -> Result<Option<f64>> {
    check_values(x, 2)?;
    check_values(y, 2)?;
    if constant(x) && constant(y) {
        return Ok(None);
    }
    let part = |v: &[f64]| std(v).map_or(0.0, |s| s * s * (v.len() - 1) as f64);
    let pooled = (part(x) + part(y)) / (x.len() + y.len() - 2) as f64;
    Ok(Some((mean(x) - mean(y)) / pooled.sqrt()))
}

/// [`cohen_d`] corrected for small samples by 1 − 3/(4·df − 1), df = n + m − 2.
///
/// # Errors
///
/// As [`cohen_d`].
pub fn hedges_g(x: &[f64], y: &[f64]) -> Result<Option<f64>> {
    let df = (x.len() + y.len()).saturating_sub(2) as f64;
    Ok(cohen_d(x, y)?.map(|d| d * (1.0 - 3.0 / (4.0 * df - 1.0))))
}

/// Probability that a value of `x` is larger than one of `y`, ties counted half (A).
///
/// # Errors
///
/// [`crate::Error::Argument`] for an empty sample or a value that is not finite.
pub fn vargha_delaney(x: &[f64], y: &[f64]) -> Result<f64> {
    check_values(x, 1)?;
    check_values(y, 1)?;
    Ok(superiority(x, y, Better::Higher))
}

/// Share of pairs in which `x` is larger minus share in which it is smaller (δ).
///
/// ```
/// use mtl_bench::stats::{Magnitude, cliffs_delta};
///
/// let delta = cliffs_delta(&[2.0, 3.0], &[1.0, 2.0])?;
/// assert_eq!((delta, Magnitude::of_delta(delta)), (0.75, Magnitude::Large));
/// # Ok::<(), mtl_bench::Error>(())
/// ```
///
/// # Errors
///
/// As [`vargha_delaney`].
pub fn cliffs_delta(x: &[f64], y: &[f64]) -> Result<f64> {
    Ok(2.0 * vargha_delaney(x, y)? - 1.0)
}

/// Size of an effect in words: Romano et al. 2006.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Magnitude {
    /// |δ| below 0.147.
    Negligible,
    /// Below 0.33.
    Small,
    /// Below 0.474.
    Medium,
    /// At least 0.474.
    Large,
}

impl Magnitude {
    /// Of Cliff's δ.
    pub fn of_delta(delta: f64) -> Self {
        match delta.abs() {
            d if d < 0.147 => Self::Negligible,
            d if d < 0.33 => Self::Small,
            d if d < 0.474 => Self::Medium,
            _ => Self::Large,
        }
    }

    /// Word for tables.
    pub fn name(self) -> &'static str {
        match self {
            Self::Negligible => "negligible",
            Self::Small => "small",
            Self::Medium => "medium",
            Self::Large => "large",
        }
    }
}
