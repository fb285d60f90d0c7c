//! Inner products of all models of a tensor, or of their differences from the base: all that methods on spheres need.
use crate::{Piece, Result, Tensor, tensor::with_scratch};
use multiversion::multiversion;

/// Elements that are worked on at once; a tile of every model stays in the first-level cache.
const TILE: usize = 512;
/// Independent sums, enough to hide the latency of an addition.
const LANES: usize = 16;

/// Which vectors a Gram matrix is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Vectors {
    /// The models.
    Models,
    /// The differences of the models from the base; the models themselves without a base.
    Deltas,
    /// The base, if there is one, and then the models.
    BaseAndModels,
}

/// The Gram matrix of some vectors.
#[derive(Debug, Clone)]
pub(super) struct Gram {
    n: usize,
    /// Row-major and symmetric.
    values: Vec<f64>,
}

impl Gram {
    /// The Gram matrix of a tensor's versions, in one scan.
    ///
    /// # Errors
    ///
    /// As [`Tensor::blocks`].
    pub(super) fn scan(tensor: &Tensor<'_>, vectors: Vectors) -> Result<Self> {
        let n = tensor.n_models() + usize::from(vectors == Vectors::BaseAndModels && tensor.has_base());
        let blocks = tensor.blocks(
            |_| vec![[0.0; LANES]; n * n],
            // The tile belongs to the thread: blocks are many.
            |sums, piece: &Piece<'_>| {
                with_scratch(|tile| match vectors {
                    Vectors::Models => add(None, piece.models, sums, tile),
                    Vectors::Deltas => add(piece.base, piece.models, sums, tile),
                    Vectors::BaseAndModels => {
                        let all: Vec<&[f64]> = piece.base.iter().chain(piece.models).copied().collect();
                        add(None, &all, sums, tile);
                    }
                });
            },
        )?;
        let mut gram = Self { n, values: vec![0.0; n * n] };
        for sums in blocks {
            gram.values.iter_mut().zip(&sums).for_each(|(total, sums)| *total += total_of(sums));
        }
        gram.mirror();
        Ok(gram)
    }

    /// The Gram matrix of short vectors; `tile` is working memory.
    pub(super) fn of(base: Option<&[f64]>, models: &[&[f64]], tile: &mut Vec<f64>) -> Self {
        let n = models.len();
        let mut sums = vec![[0.0; LANES]; n * n];
        add(base, models, &mut sums, tile);
        let mut gram = Self { n, values: sums.iter().map(total_of).collect() };
        gram.mirror();
        gram
    }

    /// The inner product of vectors `i` and `j`.
    #[inline(always)]
    pub(super) fn get(&self, i: usize, j: usize) -> f64 {
        self.values[i * self.n + j]
    }

    /// The Euclidean norm of vector `i`.
    #[inline(always)]
    pub(super) fn norm(&self, i: usize) -> f64 {
        self.get(i, i).sqrt()
    }

    /// The cosine of the angle between vectors `i` and `j`, neither of which is zero; exactly 1 and −1 for equal and
    /// opposite vectors.
    pub(super) fn cosine(&self, i: usize, j: usize) -> f64 {
        let squares = self.get(i, i) * self.get(j, j);
        // The root of a rounded square is exact; the product of two roots is not.
        let norms = if squares.is_normal() { squares.sqrt() } else { self.norm(i) * self.norm(j) };
        (self.get(i, j) / norms).clamp(-1.0, 1.0)
    }

    /// The norm of the vectors' sum, each times its factor.
    pub(super) fn length(&self, factors: &[f64]) -> f64 {
        let dot = |i: usize| (0..self.n).map(|j| factors[j] * self.get(i, j)).sum::<f64>();
        (0..self.n).map(|i| factors[i] * dot(i)).sum::<f64>().max(0.0).sqrt()
    }

    /// Number of vectors.
    pub(super) fn len(&self) -> usize {
        self.n
    }

    fn mirror(&mut self) {
        for i in 0..self.n {
            for j in 0..i {
                self.values[i * self.n + j] = self.values[j * self.n + i];
            }
        }
    }
}

/// Adds the inner products, those above the diagonal alone.
#[multiversion(targets("x86_64+avx2"))]
fn add(base: Option<&[f64]>, models: &[&[f64]], sums: &mut [[f64; LANES]], tile: &mut Vec<f64>) {
    let n = models.len();
    let len = models.first().map_or(0, |m| m.len());
    tile.resize(if base.is_some() { n * TILE } else { 0 }, 0.0);
    for start in (0..len).step_by(TILE) {
        let end = (start + TILE).min(len);
        if let Some(base) = base {
            for (model, tile) in models.iter().zip(tile.chunks_exact_mut(TILE)) {
                for ((delta, &x), &x0) in tile.iter_mut().zip(&model[start..end]).zip(&base[start..end]) {
                    *delta = x - x0;
                }
            }
        }
        let part = |i: usize| match base {
            Some(_) => &tile[i * TILE..i * TILE + (end - start)],
            None => &models[i][start..end],
        };
        for i in 0..n {
            let mut j = i;
            while j < n {
                let at = i * n + j;
                if let Some(sums) = sums[at..at + (n - j).min(3)].as_mut_array() {
                    add_products(part(i), [part(j), part(j + 1), part(j + 2)], sums);
                } else if let Some(sums) = sums[at..at + (n - j).min(3)].as_mut_array() {
                    add_products(part(i), [part(j), part(j + 1)], sums);
                } else if let Some(sums) = sums[at..=at].as_mut_array() {
                    add_products(part(i), [part(j)], sums);
                }
                j += 3;
            }
        }
    }
}

/// Elements of a vector register.
const REGISTER: usize = 4;

/// Adds the products of one vector's elements with those of a few others, so that each element of the one is loaded once;
/// the order of the additions depends on the length alone.
#[inline(always)]
fn add_products<const N: usize>(a: &[f64], others: [&[f64]; N], sums: &mut [[f64; LANES]; N]) {
    let mut lanes = *sums;
    let (chunks, rest) = a.as_chunks::<LANES>();
    let all = others.map(|b| b.as_chunks::<LANES>());
    let others = all.map(|(b, _)| &b[..chunks.len()]);
    for (k, a) in chunks.iter().enumerate() {
        for register in (0..LANES).step_by(REGISTER) {
            for (lanes, b) in lanes.iter_mut().zip(&others) {
                for lane in register..register + REGISTER {
                    lanes[lane] += a[lane] * b[k][lane];
                }
            }
        }
    }
    *sums = lanes;
    for (sums, (_, b)) in sums.iter_mut().zip(all) {
        for ((sum, a), b) in sums.iter_mut().zip(rest).zip(b) {
            *sum += a * b;
        }
    }
}

/// Not inlined: what the compiler makes of it would spoil the loop above.
#[inline(never)]
fn total_of(sums: &[f64; LANES]) -> f64 {
    let mut sums = *sums;
    let mut half = LANES / 2;
    while half > 0 {
        for lane in 0..half {
            sums[lane] += sums[lane + half];
        }
        half /= 2;
    }
    sums[0]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn inner_products_of_any_length_are_exact_for_integers() {
        for len in [0, 1, 15, 16, 17, TILE, TILE + 1, 3 * TILE + 100] {
            let list = |k: usize| (0..len).map(|i| ((i * k) % 7) as f64 - 3.0).collect::<Vec<_>>();
            let (base, models) = (list(2), [list(1), list(3), list(5)]);
            let slices: Vec<&[f64]> = models.iter().map(Vec::as_slice).collect();
            for base in [None, Some(base.as_slice())] {
                let gram = Gram::of(base, &slices, &mut Vec::new());
                for i in 0..3 {
                    for j in 0..3 {
                        let x = |m: usize, e: usize| models[m][e] - base.map_or(0.0, |b| b[e]);
                        let plain: f64 = (0..len).map(|e| x(i, e) * x(j, e)).sum();
                        assert_eq!(gram.get(i, j), plain);
                    }
                }
            }
        }
    }
}
