//! Shapiro–Wilk test of normality: Shapiro and Wilk, Biometrika 52, 1965; coefficients and p by Royston, Algorithm AS
//! R94, Applied Statistics 44, 1995.
use super::{check_values, constant, mean, normal_quantile, phi};
use crate::{Error, Result};

/// Result of [`shapiro_wilk`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ShapiroWilk {
    /// W, 1 for a perfect normal sample.
    pub w: f64,
    /// p of normality.
    pub p: f64,
}

/// Tests whether 3 to 5000 `values` come from a normal distribution.
///
/// ```
/// let weights = [148.0, 154.0, 158.0, 160.0, 161.0, 162.0, 166.0, 170.0, 182.0, 195.0, 236.0];
/// let test = mtl_bench::stats::shapiro_wilk(&weights)?;
/// assert_eq!(format!("{:.4} {:.4}", test.w, test.p), "0.7888 0.0067");
/// # Ok::<(), mtl_bench::Error>(())
/// ```
///
/// # Errors
///
/// [`Error::Argument`] for another number of values, one that is not finite, or values without spread.
pub fn shapiro_wilk(values: &[f64]) -> Result<ShapiroWilk> {
    check_values(values, 3)?;
    if values.len() > 5000 {
        return Err(Error::argument("values", "at most 5000 numbers", values.len()));
    }
    if constant(values) {
        return Err(Error::argument("values", "different from each other", "all equal"));
    }
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let weights = coefficients(sorted.len());
    let range: f64 =
        weights.iter().zip(sorted.iter().rev().zip(&sorted)).map(|(a, (h, l))| a * (h - l)).sum();
    let centre = mean(&sorted);
    let squares: f64 = sorted.iter().map(|v| (v - centre).powi(2)).sum();
    let w = (range * range / squares).min(1.0);
    Ok(ShapiroWilk { w, p: p_value(w, sorted.len() as f64) })
}

/// Σ c_i x^i.
fn polynomial(c: &[f64], x: f64) -> f64 {
    c.iter().rev().fold(0.0, |sum, c| sum * x + c)
}

/// Weights of the differences of largest and smallest, second largest and second smallest, …
fn coefficients(n: usize) -> Vec<f64> {
    if n == 3 {
        return vec![0.5_f64.sqrt()];
    }
    let size = n as f64;
    let scores: Vec<f64> =
        (1..=n / 2).map(|i| -normal_quantile((i as f64 - 0.375) / (size + 0.25))).collect();
    let squares = 2.0 * scores.iter().map(|m| m * m).sum::<f64>();
    let (norm, root) = (squares.sqrt(), size.sqrt().recip());
    let first =
        scores[0] / norm + polynomial(&[0.0, 0.221157, -0.147981, -2.071190, 4.434685, -2.706056], root);
    let mut exact = vec![first];
    if n > 5 {
        let correction = polynomial(&[0.0, 0.042981, -0.293762, -1.752461, 5.682633, -3.582633], root);
        exact.push(scores[1] / norm + correction);
    }
    let part = |v: &[f64]| 2.0 * v.iter().map(|m| m * m).sum::<f64>();
    let scale = ((squares - part(&scores[..exact.len()])) / (1.0 - part(&exact))).sqrt();
    let rest = scores[exact.len()..].iter().map(|m| m / scale);
    exact.iter().copied().chain(rest).collect()
}

fn p_value(w: f64, n: f64) -> f64 {
    if n == 3.0 {
        let p = 6.0 / std::f64::consts::PI * (w.sqrt().asin() - 0.75_f64.sqrt().asin());
        return p.clamp(0.0, 1.0);
    }
    let y = (1.0 - w).ln();
    let (y, centre, spread) = if n <= 11.0 {
        let bound = polynomial(&[-2.273, 0.459], n);
        if y >= bound {
            return 0.0;
        }
        let centre = polynomial(&[0.544, -0.39978, 0.025054, -6.714e-4], n);
        (-(bound - y).ln(), centre, polynomial(&[1.3822, -0.77857, 0.062767, -0.0020322], n).exp())
    } else {
        let x = n.ln();
        let centre = polynomial(&[-1.5861, -0.31082, -0.083751, 0.0038915], x);
        (y, centre, polynomial(&[-0.4803, -0.082676, 0.0030302], x).exp())
    };
    phi(-(y - centre) / spread)
}
