//! Statistics over seeds: intervals, paired differences, exact tests for few runs, correction for several comparisons.
//!
//! The unit of replication is the run (the seed). Test items of one run are not replications.
mod bootstrap;
mod holm;
mod paired;
mod sign_flip;
mod summary;
mod wilcoxon;

pub use bootstrap::{Bootstrap, percentile_bootstrap, quantile};
pub use holm::holm;
pub use paired::PairedDifference;
pub use sign_flip::{SignFlip, sign_flip};
pub use summary::{Estimate, Interval, IntervalMethod, mean, std};
pub use wilcoxon::{Wilcoxon, wilcoxon};

use crate::{Error, Result};
use statrs::distribution::{ContinuousCDF, StudentsT};

fn check_level(level: f64) -> Result<()> {
    if 0.0 < level && level < 1.0 {
        return Ok(());
    }
    Err(Error::argument("level", "between 0 and 1, such as 0.95", level))
}

fn check_values(values: &[f64], at_least: usize) -> Result<()> {
    if values.len() < at_least {
        return Err(Error::argument("values", format!("at least {at_least} numbers"), values.len()));
    }
    match values.iter().position(|v| !v.is_finite()) {
        Some(i) => Err(Error::argument("values", "finite", format!("{} at index {i}", values[i]))),
        None => Ok(()),
    }
}

fn student(df: f64) -> Result<StudentsT> {
    StudentsT::new(0.0, 1.0, df).map_err(|e| Error::argument("df", "positive", format!("{df} ({e})")))
}

/// Two-sided critical value of Student's t.
fn t_critical(level: f64, df: f64) -> Result<f64> {
    Ok(student(df)?.inverse_cdf(0.5 + level / 2.0))
}

/// Two-sided p of a t statistic.
fn t_p(t: f64, df: f64) -> Result<f64> {
    Ok((2.0 * student(df)?.sf(t.abs())).min(1.0))
}

/// Whether the spread of `values` is nothing but rounding, so that a t statistic would be meaningless.
fn constant(values: &[f64]) -> bool {
    let (low, high) =
        values.iter().fold((f64::INFINITY, f64::NEG_INFINITY), |(l, h), &v| (l.min(v), h.max(v)));
    high - low <= 1e-12 * low.abs().max(high.abs())
}
