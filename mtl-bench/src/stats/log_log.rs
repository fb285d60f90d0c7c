//! Power law without offset as a straight line of logarithms: ordinary least squares, as scipy's `linregress`.
use super::power_law::check_points;
use super::{Parameter, check_level, mean, t_p};
use crate::{Error, Result};

/// Straight line through (ln x, ln y): `y = e^intercept · x^slope`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LogLogFit {
    /// Exponent, −b of the power law.
    pub slope: Parameter,
    /// ln a.
    pub intercept: Parameter,
    /// Share of the variance of ln y explained.
    pub r2: f64,
    /// Two-sided p of a zero slope.
    pub p: f64,
}

/// Fits a power law without offset as a straight line of logarithms.
///
/// # Errors
///
/// [`Error::Argument`] for fewer than 4 points, numbers that are not positive and finite, or equal x.
pub fn fit_log_log(x: &[f64], y: &[f64], level: f64) -> Result<LogLogFit> {
    check_level(level)?;
    check_points(x, y, None, 4)?;
    if let Some(bad) = y.iter().find(|v| **v <= 0.0) {
        return Err(Error::argument("y", "positive", bad));
    }
    let logs = |v: &[f64]| v.iter().map(|v| v.ln()).collect::<Vec<_>>();
    let (x, y) = (logs(x), logs(y));
    let (n, x_mean, y_mean) = (x.len() as f64, mean(&x), mean(&y));
    let sum =
        |f: &dyn Fn(f64, f64) -> f64| x.iter().zip(&y).map(|(x, y)| f(x - x_mean, y - y_mean)).sum::<f64>();
    let (xx, xy, yy) = (sum(&|x, _| x * x), sum(&|x, y| x * y), sum(&|_, y| y * y));
    if xx <= 0.0 {
        return Err(Error::argument("x", "different from each other", "all equal"));
    }
    let slope = xy / xx;
    let sse = sum(&|x, y| (y - slope * x).powi(2));
    let df = n - 2.0;
    let slope_error = (sse / df / xx).sqrt();
    let intercept_error = slope_error * (xx / n + x_mean * x_mean).sqrt();
    let p = if slope_error > 0.0 { t_p(slope / slope_error, df)? } else { f64::from(u8::from(slope == 0.0)) };
    Ok(LogLogFit {
        slope: Parameter::new(slope, slope_error, df, level)?,
        intercept: Parameter::new(y_mean - slope * x_mean, intercept_error, df, level)?,
        r2: if yy > 0.0 { 1.0 - sse / yy } else { 1.0 },
        p,
    })
}
