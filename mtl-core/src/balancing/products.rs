//! Inner products and weighted sums of long vectors, piece by piece so that each piece is read from memory once.
#![allow(clippy::needless_range_loop)] // The compiler makes vector instructions of loops over lanes.
use crate::{Error, Result, no_grad};
use multiversion::{multiversion, target::target_cfg_f};
use tch::{Device, Kind, Tensor};

/// Elements of one vector in a piece: those of eight tasks fit the second-level cache.
const PIECE: usize = 1 << 14;
/// Elements turned into `f64` at a time: those of eight vectors fit the first-level cache.
const BLOCK: usize = 1 << 8;
const LANES: usize = 8;

/// `⟨a_i, b_j⟩` for all i and j, row by row, accumulated in `f64`. All vectors are of one length and kind; `b` absent means
/// `a` itself, whose products are computed once for each pair.
pub(super) fn products(a: &[Tensor], b: Option<&[Tensor]>) -> Result<Vec<Vec<f64>>> {
    let all = || a.iter().chain(b.unwrap_or(&[]));
    let len = a.first().map_or(0, Tensor::numel);
    if let Some(other) = all().find(|t| t.numel() != len) {
        return Err(Error::shape("gradient", format!("of {len} elements"), other.size()));
    }
    if all().all(|t| t.kind() == Kind::Float && t.device() == Device::Cpu) {
        return Ok(no_grad(|| Pieces::new(a, b, len).products()));
    }
    let columns = b.unwrap_or(a).len();
    let product = no_grad(|| {
        let matrix = |ts: &[Tensor]| {
            let rows: Vec<Tensor> = ts.iter().map(|t| t.flatten(0, -1)).collect();
            Tensor::stack(&rows, 0).to_kind(Kind::Double)
        };
        let left = matrix(a);
        let right = b.map_or_else(|| left.shallow_clone(), matrix);
        left.matmul(&right.tr())
    });
    let values = Vec::<f64>::try_from(product.flatten(0, -1))?;
    Ok(values.chunks(columns.max(1)).map(<[f64]>::to_vec).collect())
}

/// Vectors that are read piece by piece.
struct Pieces {
    flat: Vec<Tensor>,
    /// How many of them are rows of the product.
    rows: usize,
    symmetric: bool,
    len: usize,
}

impl Pieces {
    fn new(a: &[Tensor], b: Option<&[Tensor]>, len: usize) -> Self {
        let flat = a.iter().chain(b.unwrap_or(&[])).map(|t| t.contiguous().flatten(0, -1)).collect();
        Self { flat, rows: a.len(), symmetric: b.is_none(), len }
    }

    fn products(&self) -> Vec<Vec<f64>> {
        let count = self.flat.len();
        let size = PIECE.min(self.len.next_multiple_of(LANES));
        let mut piece = vec![0.0f32; size * count];
        let mut block = vec![0.0f64; BLOCK * count];
        let columns = if self.symmetric { count } else { count - self.rows };
        let mut sums = vec![vec![0.0f64; columns]; self.rows];
        for start in (0..self.len).step_by(PIECE) {
            let used = PIECE.min(self.len - start);
            for (vector, room) in self.flat.iter().zip(piece.chunks_exact_mut(size.max(1))) {
                // One whole vector is copied without the detour of a view.
                if self.len <= PIECE {
                    vector.copy_data(room, used);
                } else {
                    vector.narrow(0, start as i64, used as i64).copy_data(room, used);
                }
            }
            for from in (0..used).step_by(BLOCK) {
                let width = BLOCK.min(used - from);
                for (room, wide) in piece.chunks_exact(size.max(1)).zip(block.chunks_exact_mut(BLOCK)) {
                    widen(&room[from..from + width], wide);
                }
                self.add(&block, width.next_multiple_of(LANES), &mut sums);
            }
        }
        if self.symmetric {
            for i in 0..self.rows {
                for j in 0..i {
                    sums[i][j] = sums[j][i];
                }
            }
        }
        sums
    }

    /// Adds the products of one block, two rows by two columns at a time.
    fn add(&self, block: &[f64], width: usize, sums: &mut [Vec<f64>]) {
        let row = |i: usize| &block[i * BLOCK..i * BLOCK + width];
        let first = if self.symmetric { 0 } else { self.rows };
        let columns = self.flat.len() - first;
        for i in (0..self.rows).step_by(2) {
            if self.symmetric && self.rows - i == 3 {
                // The last three of an odd number in one go: six products, not twelve in pairs.
                let pairs = [(0, 0), (0, 1), (0, 2), (1, 1), (1, 2), (2, 2)];
                let found = dot6([i, i + 1, i + 2].map(row)).map(total);
                pairs.iter().zip(found).for_each(|((a, b), sum)| sums[i + a][i + b] += sum);
                break;
            }
            let rows = [i, (i + 1).min(self.rows - 1)];
            for j in (if self.symmetric { i } else { 0 }..columns).step_by(2) {
                let pair = [j, (j + 1).min(columns - 1)];
                let tile = dot4(rows.map(row), pair.map(|j| row(first + j))).map(total);
                // At an odd end the second row or column is the first once more, and counts once.
                for (a, &i) in rows.iter().enumerate().take(1 + usize::from(rows[1] > rows[0])) {
                    for (b, &j) in pair.iter().enumerate().take(1 + usize::from(pair[1] > pair[0])) {
                        sums[i][j] += tile[2 * a + b];
                    }
                }
            }
        }
    }
}

/// `from` in `f64`, filled up with zeros.
#[multiversion(targets("x86_64+avx2+fma", "x86_64+avx512f"))]
fn widen(from: &[f32], to: &mut [f64]) {
    to.iter_mut().zip(from).for_each(|(to, from)| *to = f64::from(*from));
    to.iter_mut().skip(from.len()).take(LANES).for_each(|to| *to = 0.0);
}

/// Sums that run side by side through vector registers.
type Lanes = [f64; LANES];

/// The sum over all lanes. Apart from the products: side by side with them the compiler mixes the lanes of different sums, and
/// needs three times as long.
fn total(lanes: Lanes) -> f64 {
    lanes.iter().sum()
}

/// Adds `x · y` lane by lane.
#[inline(always)]
fn add_product<const FMA: bool>(sums: &mut Lanes, x: &Lanes, y: &Lanes) {
    for lane in 0..LANES {
        // One instruction where there is one; the function of the same name is slow elsewhere.
        sums[lane] = if FMA { x[lane].mul_add(y[lane], sums[lane]) } else { x[lane] * y[lane] + sums[lane] };
    }
}

/// `x₀y₀`, `x₀y₁`, `x₁y₀` and `x₁y₁`; the length is a multiple of the lanes.
#[multiversion(targets("x86_64+avx2+fma", "x86_64+avx512f"))]
fn dot4(x: [&[f64]; 2], y: [&[f64]; 2]) -> [Lanes; 4] {
    #[inline(always)]
    fn sums<const FMA: bool>([x0, x1, y0, y1]: [&[Lanes]; 4]) -> [Lanes; 4] {
        let [mut a, mut b, mut c, mut d] = [[0.0; LANES]; 4];
        for ((x0, x1), (y0, y1)) in x0.iter().zip(x1).zip(y0.iter().zip(y1)) {
            add_product::<FMA>(&mut a, x0, y0);
            add_product::<FMA>(&mut b, x0, y1);
            add_product::<FMA>(&mut c, x1, y0);
            add_product::<FMA>(&mut d, x1, y1);
        }
        [a, b, c, d]
    }
    let rows = [x[0], x[1], y[0], y[1]].map(|row| row.as_chunks().0);
    if target_cfg_f!(target_feature = "fma") { sums::<true>(rows) } else { sums::<false>(rows) }
}

/// All products of three vectors with each other: `xx`, `xy`, `xz`, `yy`, `yz`, `zz`; the length is a multiple of the lanes.
#[multiversion(targets("x86_64+avx2+fma", "x86_64+avx512f"))]
fn dot6(rows: [&[f64]; 3]) -> [Lanes; 6] {
    #[inline(always)]
    fn sums<const FMA: bool>([x, y, z]: [&[Lanes]; 3]) -> [Lanes; 6] {
        let [mut a, mut b, mut c, mut d, mut e, mut f] = [[0.0; LANES]; 6];
        for ((x, y), z) in x.iter().zip(y).zip(z) {
            add_product::<FMA>(&mut a, x, x);
            add_product::<FMA>(&mut b, x, y);
            add_product::<FMA>(&mut c, x, z);
            add_product::<FMA>(&mut d, y, y);
            add_product::<FMA>(&mut e, y, z);
            add_product::<FMA>(&mut f, z, z);
        }
        [a, b, c, d, e, f]
    }
    let rows = rows.map(|row| row.as_chunks().0);
    if target_cfg_f!(target_feature = "fma") { sums::<true>(rows) } else { sums::<false>(rows) }
}

/// `Σ w_k v_k` of vectors of one shape, in the first one's storage when `reuse` allows it.
pub(super) fn weighted_sum(terms: &[(f64, Tensor)], reuse: bool) -> Option<Tensor> {
    let ((first, head), rest) = terms.split_first()?;
    if rest.is_empty() && *first == 1.0 {
        return Some(head.shallow_clone());
    }
    no_grad(|| {
        let total = if reuse { head.shallow_clone() } else { head.contiguous().empty_like() };
        let factor = |weight: f64| Tensor::from(weight).to_kind(head.kind()).to_device(head.device());
        let factors: Vec<Tensor> = rest.iter().map(|(weight, _)| factor(*weight)).collect();
        let piece = |from: i64, len: Option<i64>| {
            let part = |t: &Tensor| match len {
                Some(len) => t.view(-1).narrow(0, from, len),
                None => t.shallow_clone(),
            };
            let mut sum = part(&total);
            if !reuse {
                sum.copy_(&part(head));
            }
            if *first != 1.0 {
                let _ = sum.g_mul_scalar_(*first);
            }
            for ((_, term), factor) in rest.iter().zip(&factors) {
                let _ = sum.addcmul_(&part(term), factor);
            }
        };
        // Long vectors go piece by piece, so that the sum stays in the cache while all terms are added.
        let (len, step) = (head.numel() as i64, 4 * PIECE as i64);
        if len > step && terms.iter().all(|(_, t)| t.is_contiguous()) && total.is_contiguous() {
            (0..len).step_by(step as usize).for_each(|from| piece(from, Some(step.min(len - from))));
        } else {
            piece(0, None);
        }
        Some(total)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Seed, rng};

    fn vectors(count: i64, len: i64, kind: Kind) -> Vec<Tensor> {
        let stream = |k: i64| Seed(5).stream("test", k as u64);
        (0..count).map(|k| rng::normal(&mut stream(k), &[len], 1.0).to_kind(kind)).collect()
    }

    #[test]
    fn products_of_any_length_are_those_in_double_precision() {
        for (count, len) in [1, 7, 8, 1024, 1025, 16384, 16391, 40_001].into_iter().enumerate() {
            let (a, b) = (vectors(1 + count as i64, len, Kind::Float), vectors(3, len, Kind::Float));
            let exact = |x: &Tensor, y: &Tensor| {
                (x.to_kind(Kind::Double) * y.to_kind(Kind::Double)).sum(Kind::Double).double_value(&[])
            };
            let gram = products(&a, None).unwrap();
            let cross = products(&a, Some(&b)).unwrap();
            for (i, x) in a.iter().enumerate() {
                let near = |found: f64, y: &Tensor| {
                    let scale = (exact(x, x) * exact(y, y)).sqrt();
                    assert!((found - exact(x, y)).abs() <= 1e-13 * scale, "{len}");
                };
                a.iter().zip(&gram[i]).for_each(|(y, found)| near(*found, y));
                b.iter().zip(&cross[i]).for_each(|(y, found)| near(*found, y));
            }
            let doubles: Vec<Tensor> = a.iter().map(|t| t.to_kind(Kind::Double)).collect();
            let again = products(&doubles, None).unwrap();
            assert!(
                again
                    .iter()
                    .flatten()
                    .zip(gram.iter().flatten())
                    .all(|(x, y)| (x - y).abs() < 1e-12 * len as f64)
            );
        }
    }

    #[test]
    fn a_weighted_sum_is_the_same_in_pieces_and_in_place() {
        for len in [3, 70_000] {
            let weights = [0.5, -2.0, 1.0];
            let terms =
                || -> Vec<(f64, Tensor)> { weights.into_iter().zip(vectors(3, len, Kind::Float)).collect() };
            let apart = weighted_sum(&terms(), false).unwrap();
            let kept = terms();
            let in_place = weighted_sum(&kept, true).unwrap();
            assert_eq!(in_place.data_ptr(), kept[0].1.data_ptr());
            assert!(apart.equal(&in_place));
            let plain = terms().iter().map(|(w, t)| t * *w).reduce(|a, b| a + b).unwrap();
            assert!((plain - apart).abs().max().double_value(&[]) < 1e-5);
        }
    }
}
