//! Exact solvers of the small convex problems behind gradient balancing, in float64 on the Gram matrix of the task
//! gradients.
//!
//! Every solver returns its residual, the violation of the optimality conditions relative to the size of their terms, and
//! refuses to return weights whose residual exceeds [`TOLERANCE`]: nothing falls back silently.
mod interior;
mod linear;
mod nash;
mod nonnegative;
mod simplex;
#[cfg(test)]
mod tests;

pub use linear::{eigen_symmetric, solve};
pub use nash::{fair, nash};
pub use nonnegative::nonnegative_min;
pub use simplex::{conflict_averse, min_norm};

use crate::{Error, Result};

/// Largest relative violation of the optimality conditions that a solver returns.
pub const TOLERANCE: f64 = 1e-9;

/// Weights that meet the optimality conditions.
#[derive(Debug, Clone, PartialEq)]
pub struct Solution {
    /// Weight of each task.
    pub weights: Vec<f64>,
    /// Relative violation of the optimality conditions.
    pub residual: f64,
    /// Newton steps taken.
    pub iterations: u32,
}

/// `A w` and the same with absolute values: the size of the terms that rounding is relative to.
pub(crate) fn times(a: &[Vec<f64>], w: &[f64]) -> Vec<(f64, f64)> {
    a.iter()
        .map(|row| row.iter().zip(w).fold((0.0, 0.0), |(s, t), (x, y)| (s + x * y, t + (x * y).abs())))
        .collect()
}

/// Refuses what is not a Gram matrix; returns its size.
pub(crate) fn check(a: &[Vec<f64>]) -> Result<usize> {
    let n = a.len();
    let refuse = |must: String, value: String| Err(Error::config("gram", must, value));
    if n == 0 {
        return refuse("a matrix of at least one task".into(), "empty".into());
    }
    for (i, row) in a.iter().enumerate() {
        if row.len() != n {
            return refuse(format!("square, {n} by {n}"), format!("{} long in row {i}", row.len()));
        }
        if let Some(j) = row.iter().position(|v| !v.is_finite()) {
            return Err(Error::NonFinite { name: format!("gram[{i}][{j}]"), index: i as i64 });
        }
        if row[i] < 0.0 {
            return refuse("a matrix of inner products".into(), format!("{} on the diagonal at {i}", row[i]));
        }
    }
    for i in 0..n {
        for j in 0..i {
            if (a[i][j] - a[j][i]).abs() > 1e-9 * (a[i][i] * a[j][j]).sqrt() {
                return refuse(
                    "symmetric".into(),
                    format!("{} at ({i}, {j}) and {} at ({j}, {i})", a[i][j], a[j][i]),
                );
            }
        }
    }
    Ok(n)
}

pub(crate) fn accept(solver: &'static str, s: Solution) -> Result<Solution> {
    if s.residual <= TOLERANCE {
        return Ok(s);
    }
    Err(Error::Solver { solver, residual: s.residual, iterations: s.iterations })
}
