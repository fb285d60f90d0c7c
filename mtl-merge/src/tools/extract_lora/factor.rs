//! Two thin factors of a difference of weights, from its singular value decomposition.
use super::ExtractLora;
use crate::{Error, Result};

/// Factors of one module and how well they do.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Factors {
    pub(super) rank: usize,
    /// `[rank, cols]`.
    pub(super) right: Vec<f64>,
    /// `[rows, rank]`.
    pub(super) left: Vec<f64>,
    /// Share of the squared Frobenius norm that the factors keep.
    pub(super) energy: f64,
}

/// Singular values in falling order, and the singular vectors as columns.
pub(super) struct Svd {
    /// `[rows, k]`.
    pub(super) u: Vec<f64>,
    pub(super) s: Vec<f64>,
    /// `[cols, k]`.
    pub(super) v: Vec<f64>,
}

/// Factors of `matrix` `[rows, cols]`, in row-major order; `flip` when the left one is PEFT's `A`, as for embeddings.
pub(super) fn factor(
    options: &ExtractLora,
    tensor: &str,
    (rows, cols): (usize, usize),
    matrix: &[f64],
    flip: bool,
) -> Result<Factors> {
    let Svd { u, s, v } = thin_svd(tensor, rows, cols, matrix)?;
    let squares: Vec<f64> = s.iter().map(|s| s * s).collect();
    let total: f64 = squares.iter().sum();
    let rank = rank(options, (rows, cols), &s, &squares);
    let kept: f64 = squares[..rank].iter().sum();
    // A carries the whole scale where it is not distributed.
    let share = |s: f64, is_a: bool| match (options.distribute_scale, is_a) {
        (true, _) => s.sqrt(),
        (false, true) => s,
        (false, false) => 1.0,
    };
    let k = s.len();
    let mut left = Vec::with_capacity(rows * rank);
    for row in u.chunks_exact(k.max(1)) {
        left.extend(row[..rank].iter().zip(&s).map(|(x, &s)| x * share(s, flip)));
    }
    let mut right = Vec::with_capacity(rank * cols);
    for (i, &s) in s[..rank].iter().enumerate() {
        right.extend(v.chunks_exact(k.max(1)).map(|row| row[i] * share(s, !flip)));
    }
    let energy = if total > 0.0 { kept / total } else { 1.0 };
    Ok(Factors { rank, right, left, energy })
}

/// Number of singular values to keep.
fn rank(options: &ExtractLora, (rows, cols): (usize, usize), s: &[f64], squares: &[f64]) -> usize {
    // Below this, singular values of a matrix of exact lower rank are rounding errors.
    let noise = s.first().copied().unwrap_or(0.0) * rows.max(cols) as f64 * f64::EPSILON;
    let floor = options.sv_epsilon.max(noise);
    let mut rank = s.iter().take_while(|&&s| s > floor).count().min(options.max_rank);
    if let Some(energy) = options.energy {
        let goal = energy * squares.iter().sum::<f64>();
        let mut sum = 0.0;
        let enough = squares.iter().position(|square| {
            sum += square;
            sum >= goal
        });
        rank = rank.min(enough.map_or(s.len(), |at| at + 1));
    }
    rank
}

#[cfg(feature = "spectral")]
fn thin_svd(tensor: &str, rows: usize, cols: usize, matrix: &[f64]) -> Result<Svd> {
    use crate::linalg;
    let fail = |failure: linalg::Failure| Error::Unmergeable {
        method: "extract-lora".into(),
        tensor: tensor.to_owned(),
        message: failure.to_string(),
    };
    let linalg::Svd { u, s, v } = linalg::thin_svd(linalg::view(matrix, rows, cols), 0.0).map_err(fail)?;
    let by_rows = |m: &faer::Mat<f64>| -> Vec<f64> {
        (0..m.nrows()).flat_map(|i| (0..m.ncols()).map(move |j| m[(i, j)])).collect()
    };
    Ok(Svd { u: by_rows(&u), s, v: by_rows(&v) })
}

#[cfg(not(feature = "spectral"))]
fn thin_svd(_tensor: &str, _rows: usize, _cols: usize, _matrix: &[f64]) -> Result<Svd> {
    Err(Error::Feature { what: "extract-lora", feature: "spectral" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rank_follows_every_limit() {
        let s = [4.0, 2.0, 1.0, 1e-18];
        let squares: Vec<f64> = s.iter().map(|s| s * s).collect();
        let rank = |options: ExtractLora| rank(&options, (8, 4), &s, &squares);
        assert_eq!(rank(ExtractLora::default()), 3); // The last is a rounding error.
        assert_eq!(rank(ExtractLora::default().max_rank(2)), 2);
        assert_eq!(rank(ExtractLora::default().sv_epsilon(1.0)), 2);
        // 16 / 21 = 0.762, 20 / 21 = 0.952.
        assert_eq!(rank(ExtractLora::default().energy(0.76)), 1);
        assert_eq!(rank(ExtractLora::default().energy(0.95)), 2);
        assert_eq!(rank(ExtractLora::default().energy(1.0)), 3);
    }

    #[cfg(feature = "spectral")]
    #[test]
    fn factors_multiply_to_the_matrix_and_share_its_scale() {
        // Rank 2, by construction: rows are combinations of two.
        let (rows, cols) = (5, 3);
        let matrix: Vec<f64> = (0..rows * cols)
            .map(|i| {
                let (r, c) = ((i / cols) as f64, (i % cols) as f64);
                (r + 1.0) * (c - 1.0) + 0.25 * (r * r - 2.0) * (c + 0.5)
            })
            .collect();
        for (distribute, flip) in [(true, false), (false, false), (false, true)] {
            let options = ExtractLora::default().distribute_scale(distribute);
            let found = factor(&options, "w", (rows, cols), &matrix, flip).unwrap();
            assert_eq!(found.rank, 2);
            assert!((found.energy - 1.0).abs() < 1e-14);
            for (i, expected) in matrix.iter().enumerate() {
                let (r, c) = (i / cols, i % cols);
                let sum: f64 = (0..2).map(|k| found.left[r * 2 + k] * found.right[k * cols + c]).sum();
                assert!((sum - expected).abs() < 1e-12, "{sum} for {expected}");
            }
            if !distribute {
                let unit: f64 = if flip {
                    found.right[..cols].iter().map(|x| x * x).sum()
                } else {
                    (0..rows).map(|r| found.left[r * 2] * found.left[r * 2]).sum()
                };
                assert!((unit - 1.0).abs() < 1e-12, "{unit}"); // B has orthonormal columns.
            }
        }
    }
}
