//! Dense linear algebra in `f64` for methods that see a tensor as a matrix, on top of `faer`.
//!
//! Every decomposition runs on one thread, and products are cut at places that the shapes alone decide: results are the
//! same to the last bit for any number of threads.
//!
//! Singular vectors of zero singular values are not determined. They are dropped here, so that what is built from a
//! decomposition never depends on an arbitrary choice.
use faer::{
    Accum, Mat, MatMut, MatRef, Par,
    diag::Diag,
    dyn_stack::{MemBuffer, MemStack, StackReq},
    linalg::{cholesky::llt, matmul::matmul, svd},
};

/// Why a decomposition has no result.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Failure {
    #[error("it holds NaN or infinity")]
    NonFinite,
    #[error("its singular value decomposition does not converge")]
    NoConvergence,
    #[error("its system of equations is singular")]
    Singular,
    #[error("there is not enough memory to decompose it")]
    Memory,
}

type Result<T, E = Failure> = std::result::Result<T, E>;

/// `A = U diag(s) Vᵀ` with `s` descending: `u` is `[rows, k]`, `v` is `[cols, k]`.
#[derive(Debug, Clone)]
pub(crate) struct Svd {
    pub(crate) u: Mat<f64>,
    pub(crate) s: Vec<f64>,
    pub(crate) v: Mat<f64>,
}

impl Svd {
    /// The `k` leading triplets.
    pub(crate) fn leading(&self, k: usize) -> Self {
        let k = k.min(self.s.len());
        Self {
            u: self.u.subcols(0, k).to_owned(),
            s: self.s.iter().take(k).copied().collect(),
            v: self.v.subcols(0, k).to_owned(),
        }
    }
}

/// View of row-major values as a matrix.
pub(crate) fn view(values: &[f64], rows: usize, cols: usize) -> MatRef<'_, f64> {
    MatRef::from_row_major_slice(values, rows, cols)
}

/// Frobenius norm, safe from overflow.
pub(crate) fn norm(values: &[f64]) -> f64 {
    let largest = values.iter().fold(0.0_f64, |a, b| a.max(b.abs()));
    if largest == 0.0 || !largest.is_finite() {
        return largest;
    }
    largest * values.iter().map(|x| (x / largest) * (x / largest)).sum::<f64>().sqrt()
}

/// Singular values up to this are zero and rounding in a matrix of norm `norm`.
pub(crate) fn noise(rows: usize, cols: usize, norm: f64) -> f64 {
    f64::EPSILON * rows.max(cols) as f64 * norm
}

/// The thin decomposition, `k = min(rows, cols)`; vectors of singular values up to `floor` are zero, and so are those
/// values.
///
/// # Errors
///
/// [`Failure::NonFinite`], [`Failure::NoConvergence`], [`Failure::Memory`].
pub(crate) fn thin_svd(a: MatRef<'_, f64>, floor: f64) -> Result<Svd> {
    let (rows, cols) = a.shape();
    let k = rows.min(cols);
    if !finite(a) {
        return Err(Failure::NonFinite);
    }
    let (mut u, mut v) = (Mat::zeros(rows, k), Mat::zeros(cols, k));
    let mut s = Diag::<f64>::zeros(k);
    if k > 0 {
        let thin = svd::ComputeSvdVectors::Thin;
        let scratch = svd::svd_scratch::<f64>(rows, cols, thin, thin, Par::Seq, Default::default());
        let mut buffer = memory(scratch)?;
        svd::svd(
            a,
            s.as_mut(),
            Some(u.as_mut()),
            Some(v.as_mut()),
            Par::Seq,
            MemStack::new(&mut buffer),
            Default::default(),
        )
        .map_err(|_| Failure::NoConvergence)?;
    }
    let mut s: Vec<f64> = s.column_vector().iter().copied().collect();
    for (i, value) in s.iter_mut().enumerate() {
        if value.is_nan() || *value <= floor {
            *value = 0.0;
            u.col_mut(i).fill(0.0);
            v.col_mut(i).fill(0.0);
        }
    }
    Ok(Svd { u, s, v })
}

/// The partial isometry of the polar decomposition: `U Vᵀ` over the singular values that are not zero. Of a matrix of
/// full rank it is the nearest matrix with orthonormal rows or columns.
///
/// # Errors
///
/// As [`thin_svd`].
pub(crate) fn polar(a: MatRef<'_, f64>) -> Result<Mat<f64>> {
    let mut parts = thin_svd(a, 0.0)?;
    let largest = parts.s.first().copied().unwrap_or(0.0);
    let floor = noise(a.nrows(), a.ncols(), largest);
    for i in (0..parts.s.len()).filter(|&i| parts.s[i] <= floor) {
        parts.u.col_mut(i).fill(0.0);
    }
    Ok(product(parts.u.as_ref(), parts.v.transpose()))
}

/// `a · b`, on all threads.
pub(crate) fn product(a: MatRef<'_, f64>, b: MatRef<'_, f64>) -> Mat<f64> {
    let mut out = Mat::zeros(a.nrows(), b.ncols());
    add_product(out.as_mut(), a, b, 1.0);
    out
}

/// `a · b` in row-major order, on all threads.
pub(crate) fn row_major_product(a: MatRef<'_, f64>, b: MatRef<'_, f64>) -> Vec<f64> {
    let (rows, cols) = (a.nrows(), b.ncols());
    let mut out = vec![0.0; rows * cols];
    add_product(MatMut::from_row_major_slice_mut(&mut out, rows, cols), a, b, 1.0);
    out
}

/// Adds `factor · a · b` to `out`, on all threads.
pub(crate) fn add_product(out: MatMut<'_, f64>, a: MatRef<'_, f64>, b: MatRef<'_, f64>, factor: f64) {
    /// Multiplications below which a second thread does not pay.
    const SMALL: usize = 1 << 22;
    let (rows, cols) = out.shape();
    let work = rows.saturating_mul(cols).saturating_mul(a.ncols());
    if work <= SMALL || rows.max(cols) < 128 {
        matmul(out, Accum::Add, a, b, factor, Par::Seq);
    } else if rows >= cols {
        let half = (rows / 2).next_multiple_of(64);
        let (top, bottom) = out.split_at_row_mut(half);
        let (a_top, a_bottom) = a.split_at_row(half);
        rayon::join(|| add_product(top, a_top, b, factor), || add_product(bottom, a_bottom, b, factor));
    } else {
        let half = (cols / 2).next_multiple_of(64);
        let (left, right) = out.split_at_col_mut(half);
        let (b_left, b_right) = b.split_at_col(half);
        rayon::join(|| add_product(left, a, b_left, factor), || add_product(right, a, b_right, factor));
    }
}

/// `u · diag(s) · vᵀ` in row-major order.
pub(crate) fn compose(u: MatRef<'_, f64>, s: &[f64], v_transposed: MatRef<'_, f64>) -> Vec<f64> {
    let mut scaled = u.to_owned();
    for (i, &s) in s.iter().enumerate() {
        scaled.col_mut(i).iter_mut().for_each(|x| *x *= s);
    }
    row_major_product(scaled.as_ref(), v_transposed)
}

/// Columns of all matrices side by side; all have the same number of rows.
pub(crate) fn beside<'m>(rows: usize, parts: impl Iterator<Item = MatRef<'m, f64>> + Clone) -> Mat<f64> {
    let mut out = Mat::zeros(rows, parts.clone().map(|p| p.ncols()).sum());
    let mut at = 0;
    for part in parts {
        out.subcols_mut(at, part.ncols()).copy_from(part);
        at += part.ncols();
    }
    out
}

/// Overwrites `b` with the solution `x` of `a x = b`; `a` is symmetric and positive definite, and is destroyed.
///
/// # Errors
///
/// [`Failure::Singular`] when `a` is not positive definite, [`Failure::NonFinite`], [`Failure::Memory`].
pub(crate) fn solve_symmetric(mut a: MatMut<'_, f64>, b: MatMut<'_, f64>) -> Result<()> {
    let n = a.nrows();
    if !finite(a.as_ref()) || !finite(b.as_ref()) {
        return Err(Failure::NonFinite);
    }
    let scratch = llt::factor::cholesky_in_place_scratch::<f64>(n, Par::Seq, Default::default())
        .or(llt::solve::solve_in_place_scratch::<f64>(n, b.ncols(), Par::Seq));
    let mut buffer = memory(scratch)?;
    let stack = MemStack::new(&mut buffer);
    llt::factor::cholesky_in_place(a.as_mut(), Default::default(), Par::Seq, stack, Default::default())
        .map_err(|_| Failure::Singular)?;
    llt::solve::solve_in_place(a.as_ref(), b, Par::Seq, stack);
    Ok(())
}

fn finite(a: MatRef<'_, f64>) -> bool {
    (0..a.ncols()).all(|j| a.col(j).iter().all(|x| x.is_finite()))
}

fn memory(scratch: StackReq) -> Result<MemBuffer> {
    MemBuffer::try_new(scratch).map_err(|_| Failure::Memory)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Uniform;
    use mtl_core::Seed;

    /// Seeded values in [-1, 1).
    pub(crate) fn random(rows: usize, cols: usize, seed: u64) -> Vec<f64> {
        let stream = Uniform::new(Seed(seed));
        (0..rows * cols).map(|i| 2.0 * stream.at(i) - 1.0).collect()
    }

    fn distance(a: &[f64], b: &[f64]) -> f64 {
        norm(&a.iter().zip(b).map(|(a, b)| a - b).collect::<Vec<_>>()) / norm(b).max(1e-300)
    }

    #[test]
    fn a_decomposition_gives_the_matrix_back() {
        for (rows, cols) in [(1, 1), (5, 3), (3, 5), (40, 40), (70, 150), (150, 70), (3, 0)] {
            let a = random(rows, cols, 1);
            let svd = thin_svd(view(&a, rows, cols), 0.0).unwrap();
            assert!(svd.s.is_sorted_by(|a, b| a >= b));
            let back = compose(svd.u.as_ref(), &svd.s, svd.v.transpose());
            assert!(a.is_empty() || distance(&back, &a) < 1e-13, "{rows} x {cols}");
        }
    }

    #[test]
    fn the_polar_factor_is_orthonormal_and_fixed_by_polar() {
        let a = random(30, 20, 2);
        let q = polar(view(&a, 30, 20)).unwrap();
        let gram = product(q.transpose(), q.as_ref());
        let off = (0..20).flat_map(|i| (0..20).map(move |j| (i, j)));
        let worst = off.map(|(i, j)| (gram[(i, j)] - f64::from(u8::from(i == j))).abs()).fold(0.0, f64::max);
        assert!(worst < 1e-13, "{worst}");
        let again = polar(q.as_ref()).unwrap();
        assert!((&again - &q).norm_max() < 1e-13);
    }

    #[test]
    fn directions_without_a_singular_value_are_dropped() {
        let zero = polar(view(&[0.0; 6], 2, 3)).unwrap();
        assert_eq!(zero.norm_max(), 0.0);
        // Rank one: 5 · (0.6, 0.8)ᵀ (0.8, 0.6).
        let one = polar(view(&[2.4, 1.8, 3.2, 2.4], 2, 2)).unwrap();
        for (x, expected) in
            [(one[(0, 0)], 0.48), (one[(0, 1)], 0.36), (one[(1, 0)], 0.64), (one[(1, 1)], 0.48)]
        {
            assert!((x - expected).abs() < 1e-15);
        }
    }

    #[test]
    fn results_do_not_depend_on_the_number_of_threads() {
        let (a, b) = (random(300, 200, 3), random(200, 310, 4));
        let run = |threads: usize| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| {
                let product = row_major_product(view(&a, 300, 200), view(&b, 200, 310));
                let polar = polar(view(&a, 300, 200)).unwrap();
                (product, polar.col(7).iter().copied().collect::<Vec<_>>())
            })
        };
        let one = run(1);
        assert_eq!(one, run(2));
        assert_eq!(one, run(5));
    }

    #[test]
    fn a_product_is_the_sum_over_the_inner_axis() {
        let (a, b) = (random(260, 130, 5), random(130, 200, 6));
        let product = row_major_product(view(&a, 260, 130), view(&b, 130, 200));
        for (i, j) in [(0, 0), (128, 64), (259, 199), (131, 7)] {
            let expected: f64 = (0..130).map(|k| a[i * 130 + k] * b[k * 200 + j]).sum();
            assert!((product[i * 200 + j] - expected).abs() < 1e-12);
        }
    }

    #[test]
    fn equations_are_solved_or_refused() {
        let root = random(20, 30, 7);
        let mut a = product(view(&root, 20, 30), view(&root, 20, 30).transpose());
        let kept = a.clone();
        let x = random(20, 4, 8);
        let mut b = product(a.as_ref(), view(&x, 20, 4));
        solve_symmetric(a.as_mut(), b.as_mut()).unwrap();
        assert!((&b - view(&x, 20, 4)).norm_max() < 1e-9, "{kept:?}");
        let mut zero = Mat::<f64>::zeros(3, 3);
        let mut rhs = Mat::<f64>::zeros(3, 1);
        assert_eq!(solve_symmetric(zero.as_mut(), rhs.as_mut()), Err(Failure::Singular));
    }

    #[test]
    fn nan_is_refused() {
        assert_eq!(thin_svd(view(&[1.0, f64::NAN], 1, 2), 0.0).unwrap_err(), Failure::NonFinite);
        assert_eq!(polar(view(&[f64::INFINITY], 1, 1)).unwrap_err(), Failure::NonFinite);
    }
}
