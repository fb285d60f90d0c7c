//! Primal-dual interior point method for a smooth convex function on the simplex (Nocedal and Wright, *Numerical
//! Optimization*, chapter 19), and the exact solution on the support it finds.
use super::linear::cholesky_solve;

/// Gradient and Hessian of a convex function at a point of the simplex.
pub(super) type Model<'a> = dyn Fn(&[f64]) -> (Vec<f64>, Vec<Vec<f64>>) + 'a;

/// Minimises on {w ≥ 0, Σ w = 1} from the centre; returns the point and the number of steps.
pub(super) fn minimise(n: usize, model: &Model<'_>) -> (Vec<f64>, u32) {
    let mut w = vec![1.0 / n as f64; n];
    let (g, _) = model(&w);
    let scale = g.iter().fold(0.0f64, |m, v| m.max(v.abs())).max(f64::MIN_POSITIVE);
    let mut z: Vec<f64> = vec![scale; n];
    let mut nu = 0.0;
    let mut steps = 0;
    for step in 0..200 {
        steps = step;
        let (g, h) = model(&w);
        let gap = w.iter().zip(&z).map(|(a, b)| a * b).sum::<f64>() / n as f64;
        let dual = (0..n).map(|i| (g[i] - z[i] - nu).abs()).fold(0.0, f64::max);
        let size = g.iter().fold(0.0f64, |m, v| m.max(v.abs())).max(f64::MIN_POSITIVE);
        if gap <= 1e-15 * size && dual <= 1e-13 * size {
            break;
        }
        // Predictor: how far a pure Newton step could go decides how much to centre.
        let solve = |target: &dyn Fn(usize) -> f64| -> Option<(Vec<f64>, Vec<f64>, f64)> {
            // (H + Z/W) dw - 1 dnu = -(g - nu) + target/w ; sum dw = 1 - sum w.
            let mut m = h.clone();
            for i in 0..n {
                m[i][i] += z[i] / w[i];
            }
            let rhs: Vec<f64> = (0..n).map(|i| -(g[i] - nu) + target(i) / w[i]).collect();
            let ones = vec![1.0; n];
            let x = robust(&m, &rhs)?;
            let y = robust(&m, &ones)?;
            let missing = 1.0 - w.iter().sum::<f64>();
            let dnu = (missing - x.iter().sum::<f64>()) / y.iter().sum::<f64>();
            let dw: Vec<f64> = x.iter().zip(&y).map(|(a, b)| a + dnu * b).collect();
            let dz: Vec<f64> = (0..n).map(|i| (target(i) - z[i] * dw[i]) / w[i] - z[i]).collect();
            Some((dw, dz, dnu))
        };
        let reach = |v: &[f64], d: &[f64]| {
            v.iter().zip(d).filter(|(_, d)| **d < 0.0).map(|(v, d)| -v / d).fold(1.0f64, f64::min)
        };
        let Some((aw, az, _)) = solve(&|_| 0.0) else { break };
        let (pw, pz) = (reach(&w, &aw), reach(&z, &az));
        let ahead = (0..n).map(|i| (w[i] + pw * aw[i]) * (z[i] + pz * az[i])).sum::<f64>() / n as f64;
        let sigma = (ahead / gap).clamp(0.0, 1.0).powi(3);
        // Corrector.
        let target = |i: usize| sigma * gap - aw[i] * az[i];
        let Some((dw, dz, dnu)) = solve(&target) else { break };
        let eta = (1.0 - gap.min(0.1)).max(0.9);
        let t = (eta * reach(&w, &dw).min(reach(&z, &dz))).min(1.0);
        if t.is_nan() || t <= 1e-14 {
            break;
        }
        for i in 0..n {
            w[i] = (w[i] + t * dw[i]).max(f64::MIN_POSITIVE);
            z[i] = (z[i] + t * dz[i]).max(f64::MIN_POSITIVE);
        }
        nu += t * dnu;
    }
    let total: f64 = w.iter().sum();
    w.iter_mut().for_each(|v| *v /= total);
    (w, steps)
}

/// Solves a symmetric system after scaling its diagonal to one; a tiny shift where it is not definite to working precision.
pub(super) fn robust(m: &[Vec<f64>], b: &[f64]) -> Option<Vec<f64>> {
    let n = m.len();
    let d: Vec<f64> = (0..n).map(|i| 1.0 / m[i][i].max(f64::MIN_POSITIVE).sqrt()).collect();
    let mut s: Vec<Vec<f64>> = (0..n).map(|i| (0..n).map(|j| d[i] * m[i][j] * d[j]).collect()).collect();
    let rhs: Vec<f64> = (0..n).map(|i| d[i] * b[i]).collect();
    let mut shift = 0.0;
    for _ in 0..12 {
        if let Some(x) = cholesky_solve(&s, &rhs) {
            let x: Vec<f64> = x.iter().zip(&d).map(|(x, d)| x * d).collect();
            if x.iter().all(|v| v.is_finite()) {
                return Some(x);
            }
        }
        let next = if shift == 0.0 { 1e-15 } else { shift * 10.0 };
        for (i, row) in s.iter_mut().enumerate() {
            row[i] += next - shift;
        }
        shift = next;
    }
    None
}
