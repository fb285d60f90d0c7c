//! Problems on the simplex: the element of least norm in the convex hull of the gradients, and CAGrad's.
use super::interior::minimise;
use super::linear::solve;
use super::{Solution, TOLERANCE, accept, check, times};
use crate::{Error, Result};

/// Least norm in the convex hull of the gradients: argmin wᵀAw over the simplex (MGDA: Désidéri 2012; Sener and Koltun,
/// NeurIPS 2018).
///
/// # Errors
///
/// [`Error::Config`](crate::Error::Config) or [`Error::NonFinite`](crate::Error::NonFinite) for what is not a Gram matrix,
/// [`Error::Solver`](crate::Error::Solver) when the conditions are not met to [`TOLERANCE`](super::TOLERANCE).
pub fn min_norm(a: &[Vec<f64>]) -> Result<Solution> {
    let n = check(a)?;
    let scale = (0..n).map(|i| a[i][i]).fold(0.0, f64::max);
    if n == 1 || scale == 0.0 {
        return Ok(Solution { weights: vec![1.0 / n as f64; n], residual: 0.0, iterations: 0 });
    }
    if let Some(zero) = (0..n).find(|&i| a[i][i] == 0.0) {
        let mut weights = vec![0.0; n];
        weights[zero] = 1.0;
        return Ok(Solution { weights, residual: 0.0, iterations: 0 });
    }
    let b = vec![0.0; n];
    let quadratic = |w: &[f64]| (times(a, w).into_iter().map(|(v, _)| v).collect(), a.to_vec());
    let (w, iterations) = minimise(n, &quadratic);
    let gradient = |w: &[f64]| times(a, w);
    let polish = |support: &[usize], _: &[f64]| bordered(a, &b, support);
    let found = best(n, w, iterations, &gradient, &polish);
    if found.residual <= TOLERANCE {
        return Ok(found);
    }
    let other = active_set(a);
    let found = if other.residual < found.residual { other } else { found };
    if found.residual <= TOLERANCE || n > MOST_ENUMERATED {
        return accept("min-norm", found);
    }
    accept("min-norm", enumerate(a, found))
}

/// Tasks up to which all supports are tried when nothing else has met the conditions.
const MOST_ENUMERATED: usize = 16;

/// All supports, the small ones first.
fn enumerate(a: &[Vec<f64>], mut found: Solution) -> Solution {
    let n = a.len();
    let zero = vec![0.0; n];
    let mut sets: Vec<u32> = (1..1u32 << n).collect();
    sets.sort_by_key(|s| s.count_ones());
    for set in sets {
        let support: Vec<usize> = (0..n).filter(|i| set >> i & 1 == 1).collect();
        let Some(weights) = bordered(a, &zero, &support) else { continue };
        if weights.iter().any(|w| *w < 0.0) {
            continue;
        }
        let residual = violation(&weights, &times(a, &weights));
        if residual < found.residual {
            found = Solution { weights, residual, iterations: found.iterations };
        }
        if found.residual <= 1e-12 {
            break;
        }
    }
    found
}

/// Wolfe's algorithm (*Finding the nearest point in a polytope*, 1976) on the Gram matrix: vertices enter one by one and
/// leave when the nearest point of their affine hull lies outside their simplex.
fn active_set(a: &[Vec<f64>]) -> Solution {
    let n = a.len();
    let shortest = (0..n).min_by(|&i, &j| a[i][i].total_cmp(&a[j][j])).unwrap_or(0);
    let mut w = vec![0.0; n];
    w[shortest] = 1.0;
    let mut support = vec![shortest];
    let zero = vec![0.0; n];
    let mut found = Solution { residual: violation(&w, &times(a, &w)), weights: w.clone(), iterations: 0 };
    for step in 0..20 * n as u32 {
        let g = times(a, &w);
        let outside = (0..n).filter(|i| !support.contains(i));
        let Some(enter) =
            outside.min_by(|&i, &j| (g[i].0 / a[i][i].sqrt()).total_cmp(&(g[j].0 / a[j][j].sqrt())))
        else {
            break;
        };
        support.push(enter);
        while let Some(next) = bordered(a, &zero, &support) {
            let t = support
                .iter()
                .filter(|&&i| next[i] <= 0.0)
                .map(|&i| if w[i] > 0.0 { w[i] / (w[i] - next[i]) } else { 0.0 })
                .fold(1.0, f64::min);
            w.iter_mut().zip(&next).for_each(|(w, next)| *w += t * (next - *w));
            if t >= 1.0 {
                break;
            }
            let before = support.len();
            support.retain(|&i| w[i] > 1e-300 && !(next[i] <= 0.0 && w[i] <= 1e-15));
            if support.len() == before {
                let lowest = support.iter().copied().min_by(|&i, &j| w[i].total_cmp(&w[j]));
                support.retain(|&i| Some(i) != lowest);
            }
            w.iter_mut().enumerate().filter(|(i, _)| !support.contains(i)).for_each(|(_, w)| *w = 0.0);
            if support.len() <= 1 {
                break;
            }
        }
        let total: f64 = w.iter().sum();
        w.iter_mut().for_each(|v| *v /= total);
        let residual = violation(&w, &times(a, &w));
        if residual < found.residual {
            found = Solution { weights: w.clone(), residual, iterations: step + 1 };
        }
        if found.residual <= 1e-14 {
            break;
        }
    }
    found
}

/// CAGrad's weights: argmin over the simplex of ⟨g_w, g_0⟩ + c‖g_0‖‖g_w‖ with g_0 the mean gradient (Liu et al., NeurIPS
/// 2021, arXiv 2110.14048), `eps` added to both squared norms.
///
/// # Errors
///
/// [`Error::Config`](crate::Error::Config) or [`Error::NonFinite`](crate::Error::NonFinite) for what is not a Gram matrix or parameters out of range,
/// [`Error::Solver`](crate::Error::Solver) when the conditions are not met to [`TOLERANCE`](super::TOLERANCE).
pub fn conflict_averse(a: &[Vec<f64>], c: f64, eps: f64) -> Result<Solution> {
    let n = check(a)?;
    if !(c >= 0.0 && c.is_finite() && eps > 0.0 && eps.is_finite()) {
        return Err(Error::config("c and eps", "at least 0 and positive", format!("{c} and {eps}")));
    }
    let mean = vec![1.0 / n as f64; n];
    let b: Vec<(f64, f64)> = times(a, &mean);
    let norm0 = (dot(&b, &mean) + eps).sqrt();
    let kappa = c * norm0;
    let root = |w: &[f64]| (dot(&times(a, w), w).max(0.0) + eps).sqrt();
    let gradient = |w: &[f64]| -> Vec<(f64, f64)> {
        let r = root(w);
        times(a, w).iter().zip(&b).map(|(x, b)| (b.0 + kappa * x.0 / r, b.1 + kappa * x.1 / r)).collect()
    };
    let model = |w: &[f64]| {
        let (aw, r) = (times(a, w), root(w));
        let h = (0..n)
            .map(|i| (0..n).map(|j| kappa * (a[i][j] / r - aw[i].0 * aw[j].0 / (r * r * r))).collect())
            .collect();
        (gradient(w).into_iter().map(|(v, _)| v).collect(), h)
    };
    let (w, iterations) = minimise(n, &model);
    let plain: Vec<f64> = b.iter().map(|v| v.0).collect();
    // On a support the conditions are those of a quadratic function with the factor κ/‖g_w‖, which is iterated.
    let polish = |support: &[usize], w: &[f64]| {
        let mut w = w.to_vec();
        for _ in 0..50 {
            let factor = kappa / root(&w);
            let scaled: Vec<Vec<f64>> = a.iter().map(|r| r.iter().map(|v| factor * v).collect()).collect();
            let next = bordered(&scaled, &plain, support)?;
            let change = next.iter().zip(&w).map(|(x, y)| (x - y).abs()).fold(0.0, f64::max);
            w = next;
            if change < 1e-16 {
                break;
            }
        }
        Some(w)
    };
    let found = best(n, w, iterations, &gradient, &polish);
    if found.residual <= TOLERANCE {
        return Ok(found);
    }
    // Near a Pareto-stationary point the root has a kink that Newton steps do not see. For a fixed factor τ = κ/‖g_w‖ the
    // problem is quadratic, and ‖g_w‖ falls as τ grows: bisect.
    let mut best_found = found;
    let (mut low, mut high) = (1e-3 * kappa / root(&best_of(a)), 2.0 * kappa / eps.sqrt());
    for _ in 0..200 {
        let tau = (low * high).sqrt();
        let scaled: Vec<Vec<f64>> = a.iter().map(|r| r.iter().map(|v| tau * v).collect()).collect();
        let quadratic = |w: &[f64]| {
            (times(&scaled, w).iter().zip(&plain).map(|(v, b)| v.0 + b).collect(), scaled.clone())
        };
        let (w, steps) = minimise(n, &quadratic);
        let at = |w: &[f64]| -> Vec<(f64, f64)> {
            times(&scaled, w).iter().zip(&b).map(|(v, b)| (v.0 + b.0, v.1 + b.1)).collect()
        };
        let inner = best(n, w, steps, &at, &|support, _| bordered(&scaled, &plain, support));
        let ratio = tau * root(&inner.weights) / kappa;
        let residual = violation(&inner.weights, &gradient(&inner.weights));
        if residual < best_found.residual {
            best_found = Solution {
                weights: inner.weights,
                residual,
                iterations: best_found.iterations + inner.iterations,
            };
        }
        if best_found.residual <= 1e-13 || high / low - 1.0 < 1e-15 {
            break;
        }
        if ratio > 1.0 { high = tau } else { low = tau }
    }
    accept("conflict-averse", best_found)
}

/// The task of the longest gradient, as weights.
fn best_of(a: &[Vec<f64>]) -> Vec<f64> {
    let longest = (0..a.len()).max_by(|&i, &j| a[i][i].total_cmp(&a[j][j])).unwrap_or(0);
    (0..a.len()).map(|i| f64::from(u8::from(i == longest))).collect()
}

fn dot(v: &[(f64, f64)], w: &[f64]) -> f64 {
    v.iter().zip(w).map(|(v, w)| v.0 * w).sum()
}

/// Minimiser of ½wᵀQw + bᵀw with Σw = 1 and w = 0 outside the support.
fn bordered(q: &[Vec<f64>], b: &[f64], support: &[usize]) -> Option<Vec<f64>> {
    let k = support.len();
    // Rows and columns are scaled, or gradients of very different lengths would spoil the elimination.
    let d: Vec<f64> = support.iter().map(|&i| 1.0 / q[i][i].max(f64::MIN_POSITIVE).sqrt()).collect();
    let top = d.iter().fold(0.0f64, |m, v| m.max(*v));
    let mut m = vec![vec![0.0; k + 1]; k + 1];
    let mut rhs = vec![0.0; k + 1];
    for (r, &i) in support.iter().enumerate() {
        for (c, &j) in support.iter().enumerate() {
            m[r][c] = d[r] * q[i][j] * d[c];
        }
        m[r][k] = d[r] / top;
        m[k][r] = d[r] / top;
        rhs[r] = -d[r] * b[i];
    }
    rhs[k] = 1.0 / top;
    let x = solve(&m, &rhs)?;
    let mut w = vec![0.0; q.len()];
    for (r, &i) in support.iter().enumerate() {
        w[i] = x[r] * d[r];
    }
    Some(w)
}

/// The relative violation of the conditions on the simplex: equal gradients on the support, no smaller one outside.
fn violation(w: &[f64], gradient: &[(f64, f64)]) -> f64 {
    let level = dot(gradient, w);
    let size = gradient.iter().zip(w).map(|(g, w)| g.1 * w).sum::<f64>();
    let mut worst: f64 = (w.iter().sum::<f64>() - 1.0).abs();
    for (&w, g) in w.iter().zip(gradient) {
        let slack = g.0 - level;
        let scale = (g.1 + size).max(f64::MIN_POSITIVE);
        worst = worst.max(-w).max(-slack / scale).max(w.min(slack.max(0.0) / scale));
    }
    worst
}

/// Gradient at a point, each entry with the size of its terms.
type Gradient<'a> = dyn Fn(&[f64]) -> Vec<(f64, f64)> + 'a;
/// The minimiser on a support, near a point.
type Polish<'a> = dyn Fn(&[usize], &[f64]) -> Option<Vec<f64>> + 'a;

/// The better of the interior point and of the exact solutions on the supports it suggests.
fn best(n: usize, w: Vec<f64>, iterations: u32, gradient: &Gradient<'_>, polish: &Polish<'_>) -> Solution {
    let mut found = Solution { residual: violation(&w, &gradient(&w)), weights: w.clone(), iterations };
    // Supports from the largest weight on, one task more at a time; negative weights leave.
    let mut order: Vec<usize> = (0..n).collect();
    order.sort_by(|&i, &j| w[j].total_cmp(&w[i]));
    for size in 1..=n {
        if found.residual <= 1e-15 {
            break;
        }
        let mut support = order[..size].to_vec();
        let mut start = w.clone();
        while !support.is_empty() {
            let Some(mut weights) = polish(&support, &start) else { break };
            let lowest = support.iter().copied().min_by(|&i, &j| weights[i].total_cmp(&weights[j]));
            if let Some(i) = lowest.filter(|&i| weights[i] < 0.0) {
                support.retain(|&s| s != i);
                weights.iter_mut().for_each(|v| *v = v.max(0.0));
                start = weights;
                continue;
            }
            let total: f64 = weights.iter().sum();
            weights.iter_mut().for_each(|v| *v /= total);
            let residual = violation(&weights, &gradient(&weights));
            if residual < found.residual {
                found = Solution { weights, residual, iterations };
            }
            break;
        }
    }
    found
}
