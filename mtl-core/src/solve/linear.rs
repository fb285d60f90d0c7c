//! Small dense systems.

/// Solves `A x = b` for a symmetric positive definite `A`, or `None` when it is not, to working precision.
pub(crate) fn cholesky_solve(a: &[Vec<f64>], b: &[f64]) -> Option<Vec<f64>> {
    let n = a.len();
    let mut l = vec![vec![0.0; n]; n];
    for i in 0..n {
        for j in 0..=i {
            let s: f64 = (0..j).map(|k| l[i][k] * l[j][k]).sum();
            if i == j {
                let d = a[i][i] - s;
                if d.is_nan() || d <= 0.0 {
                    return None;
                }
                l[i][i] = d.sqrt();
            } else {
                l[i][j] = (a[i][j] - s) / l[j][j];
            }
        }
    }
    let mut y = vec![0.0; n];
    for i in 0..n {
        let s: f64 = (0..i).map(|k| l[i][k] * y[k]).sum();
        y[i] = (b[i] - s) / l[i][i];
    }
    for i in (0..n).rev() {
        let s: f64 = (i + 1..n).map(|k| l[k][i] * y[k]).sum();
        y[i] = (y[i] - s) / l[i][i];
    }
    Some(y)
}

/// Solves a general square system by elimination with row pivoting; `None` for a singular one.
pub fn solve(a: &[Vec<f64>], b: &[f64]) -> Option<Vec<f64>> {
    let n = a.len();
    let mut m: Vec<Vec<f64>> =
        a.iter().zip(b).map(|(row, &v)| row.iter().copied().chain([v]).collect()).collect();
    for c in 0..n {
        let p = (c..n).max_by(|&i, &j| m[i][c].abs().total_cmp(&m[j][c].abs()))?;
        if m[p][c] == 0.0 || !m[p][c].is_finite() {
            return None;
        }
        m.swap(c, p);
        for r in c + 1..n {
            let f = m[r][c] / m[c][c];
            if f != 0.0 {
                let pivot = m[c].clone();
                m[r].iter_mut().zip(&pivot).skip(c).for_each(|(v, p)| *v -= f * p);
            }
        }
    }
    let mut x = vec![0.0; n];
    for i in (0..n).rev() {
        let s: f64 = (i + 1..n).map(|k| m[i][k] * x[k]).sum();
        x[i] = (m[i][n] - s) / m[i][i];
    }
    x.iter().all(|v| v.is_finite()).then_some(x)
}

/// Eigenvalues, ascending, and eigenvectors (as rows) of a symmetric matrix, by Jacobi's rotations.
pub fn eigen_symmetric(a: &[Vec<f64>]) -> (Vec<f64>, Vec<Vec<f64>>) {
    let n = a.len();
    let mut m = a.to_vec();
    let mut v: Vec<Vec<f64>> =
        (0..n).map(|i| (0..n).map(|j| f64::from(u8::from(i == j))).collect()).collect();
    for _ in 0..60 {
        let off: f64 = (0..n).flat_map(|i| (0..i).map(move |j| (i, j))).map(|(i, j)| m[i][j] * m[i][j]).sum();
        let all: f64 = (0..n).map(|i| m[i][i] * m[i][i]).sum();
        if off <= 1e-34 * all || off == 0.0 {
            break;
        }
        for p in 0..n {
            for q in p + 1..n {
                // Relative to its own diagonal, so that small eigenvalues are found to their own precision.
                if m[p][q].abs() <= 1e-18 * (m[p][p] * m[q][q]).abs().sqrt() {
                    continue;
                }
                let theta = (m[q][q] - m[p][p]) / (2.0 * m[p][q]);
                let t = theta.signum() / (theta.abs() + theta.hypot(1.0));
                let t = if theta == 0.0 { 1.0 } else { t };
                let c = 1.0 / t.hypot(1.0);
                let s = t * c;
                let pq = m[p][q];
                m[p][p] -= t * pq;
                m[q][q] += t * pq;
                m[p][q] = 0.0;
                m[q][p] = 0.0;
                for k in (0..n).filter(|&k| k != p && k != q) {
                    let (x, y) = (m[k][p], m[k][q]);
                    m[k][p] = c * x - s * y;
                    m[p][k] = m[k][p];
                    m[k][q] = s * x + c * y;
                    m[q][k] = m[k][q];
                }
                let (vp, vq) = (v[p].clone(), v[q].clone());
                for k in 0..n {
                    v[p][k] = c * vp[k] - s * vq[k];
                    v[q][k] = s * vp[k] + c * vq[k];
                }
            }
        }
    }
    let mut order: Vec<usize> = (0..n).collect();
    order.sort_by(|&i, &j| m[i][i].total_cmp(&m[j][j]));
    (order.iter().map(|&i| m[i][i]).collect(), order.into_iter().map(|i| v[i].clone()).collect())
}
