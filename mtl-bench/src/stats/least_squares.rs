//! Nonlinear least squares: Levenberg 1944; Marquardt, SIAM Journal 11, 1963.

/// A minimum of a sum of squares.
#[derive(Debug, Clone)]
pub(super) struct Minimum {
    pub(super) params: Vec<f64>,
    /// Sum of squared residuals.
    pub(super) sse: f64,
    /// Inverse of JᵀJ; `None` when the parameters are not identified.
    pub(super) inverse: Option<Vec<Vec<f64>>>,
}

/// Residuals (observed minus model) and the model's gradient, point by point.
type Points = Vec<(f64, Vec<f64>)>;

fn squares(points: &Points) -> f64 {
    points.iter().map(|(r, _)| r * r).sum()
}

/// Improves `start` until steps no longer matter; `None` when the model is not finite at the start or no minimum is
/// found.
pub(super) fn minimise(start: &[f64], model: impl Fn(&[f64]) -> Points) -> Option<Minimum> {
    let k = start.len();
    let mut params = start.to_vec();
    let mut points = model(&params);
    let mut sse = squares(&points);
    let mut damping = 1e-3;
    let mut settled = false;
    for _ in 0..2000 {
        if !sse.is_finite() {
            return None;
        }
        let (normal, slope) = normal_equations(&points, k);
        let mut damped = normal;
        for (i, row) in damped.iter_mut().enumerate() {
            row[i] += damping * row[i].max(f64::MIN_POSITIVE);
        }
        let Some(step) = solve(damped, slope) else {
            damping *= 10.0;
            if damping > 1e20 {
                break;
            }
            continue;
        };
        let moved: Vec<f64> = params.iter().zip(&step).map(|(p, s)| p + s).collect();
        let candidate = model(&moved);
        let found = squares(&candidate);
        let small = params.iter().zip(&step).all(|(p, s)| s.abs() <= 1e-12 * (p.abs() + 1e-12));
        if found <= sse {
            (params, points, sse) = (moved, candidate, found);
            damping = (damping / 10.0).max(1e-18);
        } else {
            damping *= 10.0;
        }
        // A step too small to matter, or one that rounding no longer lets improve.
        if small || damping > 1e16 {
            settled = true;
            break;
        }
    }
    if !settled {
        return None;
    }
    let (normal, _) = normal_equations(&points, k);
    let unit = |i: usize| (0..k).map(|j| f64::from(u8::from(i == j))).collect::<Vec<_>>();
    let inverse = (0..k).map(|i| solve(normal.clone(), unit(i))).collect();
    Some(Minimum { params, sse, inverse })
}

/// JᵀJ and Jᵀr.
fn normal_equations(points: &Points, k: usize) -> (Vec<Vec<f64>>, Vec<f64>) {
    let (mut normal, mut slope) = (vec![vec![0.0; k]; k], vec![0.0; k]);
    for (residual, gradient) in points {
        for ((row, total), g) in normal.iter_mut().zip(&mut slope).zip(gradient) {
            *total += g * residual;
            row.iter_mut().zip(gradient).for_each(|(value, h)| *value += g * h);
        }
    }
    (normal, slope)
}

/// Solves a small linear system by elimination with pivots, after scaling to a unit diagonal; `None` when it is
/// singular.
pub(super) fn solve(mut matrix: Vec<Vec<f64>>, mut right: Vec<f64>) -> Option<Vec<f64>> {
    let k = right.len();
    let scale: Vec<f64> = (0..k).map(|i| matrix[i][i].sqrt()).collect();
    if scale.iter().any(|s| !(s.is_finite() && *s > 0.0)) {
        return None;
    }
    for ((row, value), s) in matrix.iter_mut().zip(&mut right).zip(&scale) {
        *value /= s;
        row.iter_mut().zip(&scale).for_each(|(cell, t)| *cell /= s * t);
    }
    for column in 0..k {
        let pivot =
            (column..k).max_by(|&a, &b| matrix[a][column].abs().total_cmp(&matrix[b][column].abs()))?;
        // Relative to the unit diagonal.
        if matrix[pivot][column].abs() < 1e-14 {
            return None;
        }
        matrix.swap(column, pivot);
        right.swap(column, pivot);
        let (done, rest) = matrix.split_at_mut(column + 1);
        let top = &done[column];
        for (offset, row) in rest.iter_mut().enumerate() {
            let factor = row[column] / top[column];
            for (value, above) in row.iter_mut().zip(top) {
                *value -= factor * above;
            }
            right[column + 1 + offset] -= factor * right[column];
        }
    }
    for row in (0..k).rev() {
        let known: f64 = (row + 1..k).map(|j| matrix[row][j] * right[j]).sum();
        right[row] = (right[row] - known) / matrix[row][row];
    }
    let solution: Vec<f64> = right.iter().zip(&scale).map(|(x, s)| x / s).collect();
    solution.iter().all(|x| x.is_finite()).then_some(solution)
}
