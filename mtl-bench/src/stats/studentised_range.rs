//! Distribution of the studentised range: Tukey; integrals as in Lund and Lund, Algorithm AS 190, Applied Statistics
//! 32, 1983, here by the trapezoid rule, which converges geometrically for these integrands.
use super::phi;
use crate::{Error, Result};

fn check(k: usize, df: f64) -> Result<()> {
    if !(2..=100).contains(&k) {
        return Err(Error::argument("k", "2 to 100 groups", k));
    }
    if df >= 1.0 {
        return Ok(());
    }
    Err(Error::argument("df", "at least 1, or infinite", df))
}

/// Mean of `f(s)` over s = √(χ²_df / df); s = 1 for infinite df.
pub(super) fn over_scale(df: f64, f: impl Fn(f64) -> f64) -> f64 {
    if df.is_infinite() {
        return f(1.0);
    }
    // In u = ln s the density is proportional to exp(df·u − df·e^{2u}/2): its mode is 0, its curvature −2·df.
    let step = (0.5 / (2.0 * df).sqrt()).min(0.1);
    let exponent = |u: f64| df * u - df * (2.0 * u).exp_m1() / 2.0;
    let (mut sum, mut total) = (f(1.0), 1.0);
    for direction in [-1.0, 1.0] {
        for i in 1.. {
            let u = direction * step * f64::from(i);
            let weight = exponent(u).exp();
            if weight < 1e-18 {
                break;
            }
            sum += weight * f(u.exp());
            total += weight;
        }
    }
    sum / total
}

/// Probability that the range of `k` independent normals exceeds `q` standard deviations.
fn range_sf(q: f64, k: usize) -> f64 {
    let power = (k - 1) as f64;
    let density = |i: i32| {
        let z = f64::from(i) / 16.0;
        let (all, below) = (phi(z), phi(z - q));
        // Φ(z)^m − (Φ(z) − Φ(z−q))^m without cancellation.
        let outside = if below >= all { 1.0 } else { -(power * (-below / all).ln_1p()).exp_m1() };
        (-z * z / 2.0).exp() * all.powf(power) * outside
    };
    let sum: f64 = (-140..=200).map(density).sum();
    (sum * k as f64 / 16.0 / (2.0 * std::f64::consts::PI).sqrt()).clamp(0.0, 1.0)
}

/// Probability that the studentised range of `k` groups with `df` degrees of freedom (may be infinite) exceeds `q`.
///
/// ```
/// let p = mtl_bench::stats::studentised_range_sf(3.314493, 3, f64::INFINITY)?;
/// assert!((p - 0.05).abs() < 1e-6);
/// # Ok::<(), mtl_bench::Error>(())
/// ```
///
/// # Errors
///
/// [`Error::Argument`] for a NaN, fewer than 2 or more than 100 groups, or df below 1.
pub fn studentised_range_sf(q: f64, k: usize, df: f64) -> Result<f64> {
    check(k, df)?;
    if q.is_nan() {
        return Err(Error::argument("q", "a number", q));
    }
    if q <= 0.0 {
        return Ok(1.0);
    }
    Ok(over_scale(df, |s| range_sf(q * s, k)))
}

/// The range that is exceeded with probability `tail`.
///
/// # Errors
///
/// [`Error::Argument`] for a tail outside 0..1 or below 1e-12, and as for [`studentised_range_sf`].
pub fn studentised_range_quantile(tail: f64, k: usize, df: f64) -> Result<f64> {
    check(k, df)?;
    if !(1e-12..1.0).contains(&tail) {
        return Err(Error::argument("tail", "between 1e-12 and 1", tail));
    }
    let exceeds = |q: f64| over_scale(df, |s| range_sf(q * s, k));
    let (mut low, mut high) = (0.0, 8.0);
    while exceeds(high) > tail {
        (low, high) = (high, 2.0 * high);
    }
    while high - low > 1e-12 * high {
        let middle = low + (high - low) / 2.0;
        if middle <= low || middle >= high {
            break;
        }
        *(if exceeds(middle) > tail { &mut low } else { &mut high }) = middle;
    }
    Ok(low + (high - low) / 2.0)
}
