//! min ½uᵀAu + cᵀu over u ≥ 0 for a positive definite matrix, by active sets (Lawson and Hanson 1974), for UPGrad's
//! projections (Quinton and Rey, arXiv 2406.16232).
use super::linear::cholesky_solve;
use super::{Solution, accept, check, times};
use crate::{Error, Result};

/// The minimiser, and the violation of its conditions.
///
/// # Errors
///
/// [`Error::Config`](crate::Error::Config) or [`Error::NonFinite`](crate::Error::NonFinite) for what is not a Gram matrix or is not definite,
/// [`Error::Solver`](crate::Error::Solver) when the conditions are not met to [`TOLERANCE`](super::TOLERANCE).
pub fn nonnegative_min(a: &[Vec<f64>], c: &[f64]) -> Result<Solution> {
    let n = check(a)?;
    if c.len() != n || c.iter().any(|v| !v.is_finite()) {
        return Err(Error::config("c", format!("{n} finite numbers"), format!("{c:?}")));
    }
    let mut u = vec![0.0; n];
    let mut free = vec![false; n];
    let mut steps = 0u32;
    let slack = |u: &[f64]| -> Vec<(f64, f64)> {
        times(a, u).iter().zip(c).map(|(v, c)| (v.0 + c, v.1 + c.abs())).collect()
    };
    for _ in 0..10 * n + 10 {
        let g = slack(&u);
        let enter = (0..n)
            .filter(|&i| !free[i] && g[i].0 < -1e-14 * g[i].1)
            .min_by(|&i, &j| (g[i].0 / a[i][i].sqrt()).total_cmp(&(g[j].0 / a[j][j].sqrt())));
        let Some(enter) = enter else { break };
        free[enter] = true;
        loop {
            steps += 1;
            let set: Vec<usize> = (0..n).filter(|&i| free[i]).collect();
            let sub: Vec<Vec<f64>> = set.iter().map(|&i| set.iter().map(|&j| a[i][j]).collect()).collect();
            let rhs: Vec<f64> = set.iter().map(|&i| -c[i]).collect();
            let Some(x) = cholesky_solve(&sub, &rhs) else {
                return Err(Error::config("gram", "positive definite", "singular"));
            };
            let t = set
                .iter()
                .zip(&x)
                .filter(|(_, x)| **x <= 0.0)
                .map(|(&i, x)| u[i] / (u[i] - x))
                .fold(1.0, f64::min);
            for (&i, x) in set.iter().zip(&x) {
                u[i] += t * (x - u[i]);
            }
            if t >= 1.0 {
                break;
            }
            for &i in &set {
                if u[i] <= 1e-300 || u[i].is_nan() {
                    u[i] = 0.0;
                    free[i] = false;
                }
            }
            if !set.iter().any(|&i| !free[i]) {
                // Rounding left all positive: drop the smallest.
                if let Some(&i) = set.iter().min_by(|&&i, &&j| u[i].total_cmp(&u[j])) {
                    u[i] = 0.0;
                    free[i] = false;
                }
            }
        }
    }
    let residual = slack(&u)
        .iter()
        .zip(&u)
        .map(|(g, &u)| {
            let r = g.0 / g.1.max(f64::MIN_POSITIVE);
            if u > 0.0 { r.abs() } else { (-r).max(0.0) }
        })
        .fold(0.0, f64::max);
    accept("nonnegative", Solution { weights: u, residual, iterations: steps })
}
