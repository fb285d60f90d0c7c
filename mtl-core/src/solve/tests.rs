//! Random Gram matrices up to nearly opposed gradients whose lengths differ by 10⁶.
use super::*;
use crate::Seed;
use rand::RngExt;
use std::f64::consts::TAU;

fn normal(rng: &mut impl rand::Rng) -> f64 {
    let (u, v): (f64, f64) = (rng.random(), rng.random());
    (-2.0 * (1.0 - u).ln()).sqrt() * (TAU * v).cos()
}

/// 2 to 16 gradients of 3 to 64 numbers; half of them nearly parallel or opposed, half of different lengths.
fn gram(rng: &mut impl rand::Rng) -> Vec<Vec<f64>> {
    let (tasks, size) = (rng.random_range(2..=16), [3, 8, 20, 64][rng.random_range(0..4)]);
    let (opposed, unequal) = (rng.random::<bool>(), rng.random::<bool>());
    let mut grads: Vec<Vec<f64>> = (0..tasks).map(|_| (0..size).map(|_| normal(rng)).collect()).collect();
    if opposed {
        let base = grads[0].clone();
        for (i, row) in grads.iter_mut().enumerate() {
            let (sign, noise) = (if i % 2 == 0 { 1.0 } else { -1.0 }, 10f64.powf(-2.0 * rng.random::<f64>()));
            row.iter_mut().zip(&base).for_each(|(x, b)| *x = sign * b + noise * *x);
        }
    }
    if unequal {
        for row in &mut grads {
            let scale = 10f64.powf(6.0 * rng.random::<f64>() - 3.0);
            row.iter_mut().for_each(|x| *x *= scale);
        }
    }
    let dot = |a: &Vec<f64>, b: &Vec<f64>| a.iter().zip(b).map(|(x, y)| x * y).sum::<f64>();
    grads.iter().map(|a| grads.iter().map(|b| dot(a, b)).collect()).collect()
}

/// Ridge of the bargaining problems: where there are more tasks than dimensions, they have no solution without.
const RIDGE: f64 = 1e-8;

/// Number of matrices: `MTL_SOLVER_CASES=100000 cargo test -p mtl-core --no-default-features solve` tries as many as that.
fn cases() -> u64 {
    std::env::var("MTL_SOLVER_CASES").ok().and_then(|n| n.parse().ok()).unwrap_or(500)
}

#[test]
fn solvers_meet_their_conditions_on_random_matrices() {
    let mut worst = [0.0f64; 5];
    for case in 0..cases() {
        let a = gram(&mut Seed(0).stream("gram", case));
        let n = a.len();
        let trace: f64 = (0..n).map(|i| a[i][i]).sum();
        let unit: Vec<Vec<f64>> = (0..n)
            .map(|i| (0..n).map(|j| a[i][j] / trace + if i == j { 1e-4 } else { 0.0 }).collect())
            .collect();
        let linear: Vec<f64> = unit.iter().map(|row| row[0] / n as f64).collect();
        let found = [
            min_norm(&a),
            conflict_averse(&a, 0.5, 1e-8),
            nash(&a, RIDGE),
            fair(&a, 2.0, RIDGE),
            nonnegative_min(&unit, &linear),
        ];
        for (worst, found) in worst.iter_mut().zip(found) {
            let found = found.unwrap_or_else(|e| panic!("case {case}, {n} tasks: {e}"));
            *worst = worst.max(found.residual);
            assert!(found.weights.iter().all(|w| w.is_finite() && *w >= 0.0), "case {case}: {found:?}");
        }
        // Checked apart from the solvers' own residuals.
        let w = min_norm(&a).unwrap().weights;
        let (aw, total) = (times(&a, &w), w.iter().sum::<f64>());
        let norm: f64 = aw.iter().zip(&w).map(|(v, w)| v.0 * w).sum();
        let terms: f64 = aw.iter().zip(&w).map(|(v, w)| v.1 * w).sum();
        assert!((total - 1.0).abs() < 1e-12);
        assert!(aw.iter().all(|v| v.0 >= norm - 1e-9 * (v.1 + terms)), "case {case}");
        let alpha = nash(&a, RIDGE).unwrap().weights;
        for (i, (v, alpha)) in times(&a, &alpha).iter().zip(&alpha).enumerate() {
            let left = (v.0 + RIDGE * a[i][i] * alpha) * alpha;
            assert!((left - 1.0).abs() < 1e-9 + 1e-14 * v.1 * alpha, "case {case}: {left}");
        }
    }
    assert!(worst.iter().all(|r| *r <= TOLERANCE), "{worst:?}");
}

#[test]
fn two_tasks_have_closed_forms() {
    let a = [vec![4.0, -1.0], vec![-1.0, 1.0]];
    // γ = (A22 − A12) / (A11 + A22 − 2 A12).
    let w = min_norm(&a).unwrap().weights;
    assert!((w[0] - 2.0 / 7.0).abs() < 1e-12);
    // α₁ = n₂/n₁ α₂ by symmetry, and n₁²α₁² + A12 α₁α₂ = 1.
    let alpha = nash(&a, 0.0).unwrap().weights;
    assert!((alpha[0] * 2.0 - alpha[1]).abs() < 1e-12 && (2.0 * alpha[0] * alpha[0] - 1.0).abs() < 1e-12);
    // A dominated gradient: the shorter one alone.
    assert_eq!(min_norm(&[vec![4.0, 2.0], vec![2.0, 1.0]]).unwrap().weights[1], 1.0);
}

#[test]
fn limits_of_conflict_aversion() {
    let a = gram(&mut Seed(3).stream("gram", 0));
    let far = conflict_averse(&a, 1e6, 1e-8).unwrap().weights;
    let least = min_norm(&a).unwrap().weights;
    assert!(far.iter().zip(&least).all(|(x, y)| (x - y).abs() < 1e-3), "{far:?} {least:?}");
}

#[test]
fn special_matrices() {
    assert_eq!(min_norm(&[vec![3.0]]).unwrap().weights, [1.0]);
    assert_eq!(nash(&[vec![4.0]], 0.0).unwrap().weights, [0.5]);
    // A zero gradient is the least in the hull, and takes no part in bargaining.
    let zero = [vec![4.0, 0.0], vec![0.0, 0.0]];
    assert_eq!(min_norm(&zero).unwrap().weights, [0.0, 1.0]);
    assert_eq!(nash(&zero, 0.0).unwrap().weights, [0.5, 0.0]);
    // Exactly opposed gradients: no bargain exists, and the solver says so instead of inventing one.
    let opposed = [vec![1.0, -1.0], vec![-1.0, 1.0]];
    assert!(matches!(nash(&opposed, 0.0), Err(Error::Solver { .. })));
    // With a ridge, α² ridge = 1.
    assert!((nash(&opposed, 1e-4).unwrap().weights[0] - 100.0).abs() < 1e-6);
    for bad in [
        vec![],
        vec![vec![1.0, 0.0]],
        vec![vec![f64::NAN]],
        vec![vec![-1.0]],
        vec![vec![1.0, 0.5], vec![0.1, 1.0]],
    ] {
        assert!(
            min_norm(&bad).is_err() && nash(&bad, 0.0).is_err() && conflict_averse(&bad, 0.5, 1e-8).is_err()
        );
    }
    assert!(fair(&[vec![1.0]], 0.0, 0.0).is_err() && conflict_averse(&[vec![1.0]], -1.0, 1e-8).is_err());
}

#[test]
fn eigenvectors_rebuild_the_matrix() {
    let a = gram(&mut Seed(1).stream("gram", 2));
    let (values, vectors) = eigen_symmetric(&a);
    let n = a.len();
    let scale = values[n - 1];
    for i in 0..n {
        for j in 0..n {
            let sum: f64 = (0..n).map(|k| values[k] * vectors[k][i] * vectors[k][j]).sum();
            assert!((sum - a[i][j]).abs() < 1e-12 * scale);
            let dot: f64 = (0..n).map(|k| vectors[i][k] * vectors[j][k]).sum();
            assert!((dot - f64::from(u8::from(i == j))).abs() < 1e-12);
        }
    }
    assert!(values.windows(2).all(|v| v[0] <= v[1]));
}
