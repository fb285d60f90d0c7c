//! Nash-MTL (Navon et al., ICML 2022, arXiv 2202.01017) and FairGrad (Ban and Ji, ICML 2024, arXiv 2402.15638).
use super::interior::robust;
use super::{Solution, accept, check, times};
use crate::{Error, Result};

/// The bargaining solution: α > 0 with A α = 1/α. There is none at a Pareto-stationary point, where a
/// convex combination of the gradients is zero; `ridge` then keeps the weights finite: A is taken with its diagonal times
/// 1 + `ridge`.
///
/// Gradients of zero length take no part; their weight is 0.
///
/// # Errors
///
/// [`Error::Config`](crate::Error::Config) or [`Error::NonFinite`](crate::Error::NonFinite) for what is not a Gram matrix,
/// [`Error::Solver`](crate::Error::Solver) when the conditions are not met to [`TOLERANCE`](super::TOLERANCE).
pub fn nash(a: &[Vec<f64>], ridge: f64) -> Result<Solution> {
    fair(a, 1.0, ridge)
}

/// α-fair weights: w > 0 with A w = w^(−1/α).
///
/// Solved by damped Newton steps in the logarithms of the weights of unit gradients, where the function is convex and
/// independent of the gradients' lengths for α = 1. Gradients of zero length take no part; their weight is 0.
///
/// # Errors
///
/// [`Error::Config`](crate::Error::Config) or [`Error::NonFinite`](crate::Error::NonFinite) for what is not a Gram matrix or an α that is not positive,
/// [`Error::Solver`](crate::Error::Solver) when the conditions are not met to [`TOLERANCE`](super::TOLERANCE).
pub fn fair(a: &[Vec<f64>], alpha: f64, ridge: f64) -> Result<Solution> {
    let n = check(a)?;
    if !(ridge >= 0.0 && ridge.is_finite()) {
        return Err(Error::config("ridge", "at least 0 and finite", ridge));
    }
    if !(alpha > 0.0 && alpha.is_finite()) {
        return Err(Error::config("alpha", "positive and finite", alpha));
    }
    let active: Vec<usize> = (0..n).filter(|&i| a[i][i] > 0.0).collect();
    let k = active.len();
    let mut weights = vec![0.0; n];
    if k == 0 {
        return Ok(Solution { weights, residual: 0.0, iterations: 0 });
    }
    let p = 1.0 / alpha;
    let length: Vec<f64> = active.iter().map(|&i| a[i][i].sqrt()).collect();
    // Cosines; the weights are w_i = x_i / s_i with s chosen so that one task alone has x = 1.
    let s: Vec<f64> = length.iter().map(|l| l.powf(2.0 / (1.0 + p))).collect();
    let entry = |i: usize, j: usize| {
        let raised = if i == j { 1.0 + ridge } else { 1.0 };
        raised * a[active[i]][active[j]] / (s[i] * s[j])
    };
    let m: Vec<Vec<f64>> = (0..k).map(|i| (0..k).map(|j| entry(i, j)).collect()).collect();
    // With w = x/s the conditions read M x = d x^(−p).
    let d: Vec<f64> = s.iter().map(|s| s.powf(p - 1.0)).collect();
    let value = |x: &[f64]| -> f64 {
        let q: f64 = times(&m, x).iter().zip(x).map(|(v, x)| v.0 * x).sum();
        let barrier: f64 = x
            .iter()
            .zip(&d)
            .map(|(x, d)| d * if (p - 1.0).abs() < 1e-12 { x.ln() } else { x.powf(1.0 - p) / (1.0 - p) })
            .sum();
        0.5 * q - barrier
    };
    // Relative to the right side. Where rounding of the left side would drown it, as for exactly opposed gradients, whose
    // weights grow without bound, nothing is solved.
    let residual = |x: &[f64]| -> f64 {
        let one = |((v, x), d): ((&(f64, f64), &f64), &f64)| {
            let r = d * x.powf(-p);
            let rounding = 8.0 * f64::EPSILON * v.1 / r;
            if rounding > 1e-3 { 1.0 } else { ((v.0 - r).abs() / r - rounding).max(0.0) }
        };
        times(&m, x).iter().zip(x).zip(&d).map(one).fold(0.0, f64::max)
    };
    let mut x: Vec<f64> = (0..k).map(|i| (d[i] / m[i][i]).powf(1.0 / (1.0 + p))).collect();
    let mut best = (residual(&x), x.clone());
    let mut steps = 0;
    for step in 0..500 {
        steps = step;
        let mx = times(&m, &x);
        let r: Vec<f64> = (0..k).map(|i| d[i] * x[i].powf(-p)).collect();
        let g: Vec<f64> = (0..k).map(|i| -(mx[i].0 - r[i])).collect();
        let mut h = m.clone();
        for i in 0..k {
            h[i][i] += p * r[i] / x[i];
        }
        let Some(dx) = robust(&h, &g) else { break };
        let mut t: f64 = 1.0;
        for i in 0..k {
            if dx[i] < 0.0 {
                t = t.min(-0.99 * x[i] / dx[i]);
            }
        }
        let slope: f64 = dx.iter().zip(&g).map(|(a, b)| -a * b).sum();
        let f = value(&x);
        let mut next;
        loop {
            next = x.iter().zip(&dx).map(|(x, d)| x + t * d).collect::<Vec<f64>>();
            let better = residual(&next) < best.0;
            if value(&next) <= f + 1e-4 * t * slope || better || t < 1e-12 {
                break;
            }
            t *= 0.5;
        }
        x = next;
        let now = residual(&x);
        if now < best.0 {
            best = (now, x.clone());
        } else if now < 1e-13 || (best.0 < 1e-11 && step > 3) {
            break;
        }
        if best.0 < 1e-15 {
            break;
        }
    }
    for (&i, (x, s)) in active.iter().zip(best.1.iter().zip(&s)) {
        weights[i] = x / s;
    }
    accept(
        if alpha == 1.0 { "nash" } else { "fair" },
        Solution { weights, residual: best.0, iterations: steps },
    )
}
