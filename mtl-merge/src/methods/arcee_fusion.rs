//! Arcee Fusion: importance by change and divergence, with a threshold from quartiles (mergekit, arXiv 2403.13257).
use crate::{
    Base, Error, Kernel, MergeMethod, MethodSpec, Partial, Piece, Resolved, Result, Tensor, Work,
    select::{Rank, key64, select},
};
use multiversion::multiversion;

static SPEC: MethodSpec = MethodSpec::new("arcee_fusion", "Arcee's MergeKit", "arXiv 2403.13257")
    .base(Base::Required)
    .models(1, Some(1))
    .work(Work::Rows)
    .partial(Partial::Copy);

/// Takes the model's values where they matter most, and the base's elsewhere.
///
/// A value's importance is `|W₁ − W₀|` times the divergence of its row, `Σ p ln(p/q)` with `p = softmax(W₁) + 1e-8` and
/// `q = softmax(W₀) + 1e-8` along the last axis. Values are taken whose importance is at least `Q₂ + 1.5 (Q₃ − Q₁)`, the
/// quartiles being the tensor's sorted importances at the positions `⌊k (n − 1) / 4⌋`.
///
/// # Departures
///
/// mergekit takes the quartiles of tensors beyond a million values from a random sample; here they are always exact.
///
/// ```
/// use mtl_merge::{HostTensor, Recipe, TensorMap};
///
/// let map = |v: [f32; 6]| TensorMap::from([("w".to_owned(), HostTensor::vector(v.to_vec()))]);
/// let (base, model) = (map([0.0; 6]), map([0.1, 0.1, -0.1, 0.1, 0.1, 2.0]));
/// let recipe = Recipe::new("arcee_fusion").base("base").input("model");
/// let merged = recipe.run_in_memory(Some(&base), &[&model])?;
/// // The quartiles are equal, so whatever is not below the median is taken.
/// assert_eq!(merged["w"].data(), [0.1, 0.1, -0.1, 0.1, 0.1, 2.0]);
/// # Ok::<(), mtl_merge::Error>(())
/// ```
#[derive(Debug, Clone, Copy)]
pub struct ArceeFusion;

impl MergeMethod for ArceeFusion {
    fn spec(&self) -> &'static MethodSpec {
        &SPEC
    }

    fn prepare<'t>(&self, tensor: &'t Tensor<'_>, _params: &'t Resolved) -> Result<Kernel<'t>> {
        if !tensor.has_base() {
            return Err(Error::MissingBase { method: SPEC.info.name.to_owned() });
        }
        let cols = tensor.cols().max(1);
        let rows = divergences(tensor, cols)?;
        let threshold = threshold(tensor, &rows, cols)?;
        Ok(Box::new(move |piece, out| {
            by_row(piece, &rows, cols, out, |base, model, divergence, out| {
                fuse(base, model, divergence, threshold, out);
            });
        }))
    }
}

#[multiversion(targets("x86_64+avx2"))]
fn fuse(base: &[f64], model: &[f64], divergence: f64, threshold: f64, out: &mut [f64]) {
    for ((out, &x0), &x1) in out.iter_mut().zip(base).zip(model) {
        *out = if (x1 - x0).abs() * divergence >= threshold { x1 } else { x0 };
    }
}

/// Calls `work` with the row's part of base, model and `out`, and with its divergence; pieces hold whole rows.
fn by_row<T>(
    piece: &Piece<'_>,
    rows: &[f64],
    cols: usize,
    out: &mut [T],
    work: impl Fn(&[f64], &[f64], f64, &mut [T]),
) {
    let (Some(base), Some(model)) = (piece.base, piece.models.first()) else { return };
    let parts = base.chunks(cols).zip(model.chunks(cols)).zip(out.chunks_mut(cols));
    for (((base, model), out), &row) in parts.zip(&rows[piece.start / cols..]) {
        work(base, model, row, out);
    }
}

/// The divergence of every row.
fn divergences(tensor: &Tensor<'_>, cols: usize) -> Result<Vec<f64>> {
    let blocks = tensor.blocks(
        |_| (Vec::new(), Vec::new()),
        |(rows, buffer), piece: &Piece<'_>| {
            let (Some(base), Some(model)) = (piece.base, piece.models.first()) else { return };
            for (base, model) in base.chunks(cols).zip(model.chunks(cols)) {
                rows.push(divergence(base, model, buffer));
            }
        },
    )?;
    Ok(blocks.into_iter().flat_map(|(rows, _)| rows).collect())
}

/// `Σ p ln(p/q)`; not negative, since `p` and `q` have the same sum.
#[multiversion(targets("x86_64+avx2"))]
fn divergence(base: &[f64], model: &[f64], buffer: &mut Vec<f64>) -> f64 {
    let n = base.len();
    buffer.clear();
    buffer.resize(2 * n, 0.0);
    let (p, q) = buffer.split_at_mut(n);
    softmax(model, p);
    softmax(base, q);
    // ln(p/q) = 2 artanh s, by its series: for ratios between 0.71 and 1.41, whose last term is below 1e-17 of the sum.
    let s = |p: f64, q: f64| (p - q) / (p + q);
    let far = fold(p, q, 0.0, |far, p, q| larger(far, s(p, q).abs()), larger);
    let sum = if far < 0.1716 {
        fold(p, q, 0.0, |sum, p, q| sum + p * twice_artanh(s(p, q)), |a, b| a + b)
    } else {
        p.iter().zip(&*q).map(|(p, q)| p * (p / q).ln()).sum()
    };
    sum.max(0.0)
}

#[inline(always)]
fn softmax(x: &[f64], out: &mut [f64]) {
    let largest = fold(x, x, f64::NEG_INFINITY, |largest, x, _| larger(largest, x), larger);
    out.iter_mut().zip(x).for_each(|(out, x)| *out = exp(x - largest));
    let sum = fold(out, out, 0.0, |sum, p, _| sum + p, |a, b| a + b);
    out.iter_mut().for_each(|p| *p = *p / sum + 1e-8);
}

/// Folds two lists of one length in independent lanes, so that the loop can be vectorized.
#[inline(always)]
fn fold(
    a: &[f64],
    b: &[f64],
    start: f64,
    step: impl Fn(f64, f64, f64) -> f64,
    join: impl Fn(f64, f64) -> f64,
) -> f64 {
    const LANES: usize = 16;
    let mut lanes = [start; LANES];
    let ((a, a_rest), (b, b_rest)) = (a.as_chunks::<LANES>(), b.as_chunks::<LANES>());
    for (a, b) in a.iter().zip(b) {
        for ((lane, &a), &b) in lanes.iter_mut().zip(a).zip(b) {
            *lane = step(*lane, a, b);
        }
    }
    for ((lane, &a), &b) in lanes.iter_mut().zip(a_rest).zip(b_rest) {
        *lane = step(*lane, a, b);
    }
    lanes.into_iter().fold(start, join)
}

#[inline(always)]
fn larger(a: f64, b: f64) -> f64 {
    if a > b { a } else { b }
}

/// `ln((1 + s) / (1 − s))`.
#[inline(always)]
fn twice_artanh(s: f64) -> f64 {
    let z = s * s;
    let mut sum = 0.0;
    for k in (0..11).rev() {
        sum = sum * z + 1.0 / f64::from(2 * k + 1);
    }
    2.0 * s * sum
}

/// `eˣ` for `x` from −708 to 0, within two units in the last place; as `e⁻⁷⁰⁸` below. Unlike the library's it is
/// vectorized.
#[inline(always)]
fn exp(x: f64) -> f64 {
    const ROUND: f64 = 6_755_399_441_055_744.0; // 1.5 · 2^52: what is added to it is rounded to an integer.
    const TAYLOR: [f64; 14] = {
        let (mut terms, mut k) = ([1.0; 14], 1);
        while k < 14 {
            terms[k] = terms[k - 1] / k as f64;
            k += 1;
        }
        terms
    };
    let x = larger(x, -708.0);
    let shifted = x * std::f64::consts::LOG2_E + ROUND;
    let k = shifted - ROUND;
    // ln 2 in two parts, the first with so few bits that its product with `k` is exact.
    let rest = (x - k * 0.693_147_180_369_123_8) - k * 1.908_214_929_270_587_7e-10;
    let sum = TAYLOR.iter().rev().fold(0.0, |sum, term| sum * rest + term);
    sum * f64::from_bits(shifted.to_bits().wrapping_add(1023) << 52)
}

#[multiversion(targets("x86_64+avx2"))]
fn importances(base: &[f64], model: &[f64], divergence: f64, out: &mut [i64]) {
    for ((out, x0), x1) in out.iter_mut().zip(base).zip(model) {
        *out = key64((x1 - x0).abs() * divergence);
    }
}

/// The least importance that is taken.
fn threshold(tensor: &Tensor<'_>, rows: &[f64], cols: usize) -> Result<f64> {
    let n = tensor.numel();
    let write = |piece: &Piece<'_>, out: &mut [i64]| {
        by_row(piece, rows, cols, out, importances);
    };
    let quartiles: Vec<i64> = if n < 5 {
        let blocks = tensor.blocks(
            |_| Vec::new(),
            |all: &mut Vec<i64>, piece| {
                let start = all.len();
                all.resize(start + piece.len(), 0);
                write(piece, &mut all[start..]);
            },
        )?;
        let mut all = blocks.concat();
        all.sort_unstable();
        (1..=3).map(|k| all.get(k * n.saturating_sub(1) / 4).copied().unwrap_or(0)).collect()
    } else {
        // Position i in ascending order is number n − i in descending order.
        let ranks = [1, 2, 3].map(|k| Rank { list: 0, k: n - k * (n - 1) / 4 });
        select(tensor, &ranks, |piece, _, out| write(piece, out))?.iter().map(|t| t.key).collect()
    };
    let quartile = |i: usize| f64::from_bits(quartiles.get(i).copied().unwrap_or(0) as u64);
    Ok(quartile(1) + 1.5 * (quartile(2) - quartile(0)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{HostTensor, Recipe, TensorMap};

    fn merge(shape: &[usize], base: &[f32], model: &[f32]) -> Vec<f32> {
        let map = |v: &[f32]| {
            TensorMap::from([("w".to_owned(), HostTensor::new(shape.to_vec(), v.to_vec()).unwrap())])
        };
        let recipe = Recipe::new("arcee_fusion").base("base").input("model");
        recipe.run_in_memory(Some(&map(base)), &[&map(model)]).unwrap()["w"].data().to_vec()
    }

    #[test]
    fn the_divergence_is_that_of_the_definition() {
        let softmax = |x: &[f64]| {
            let sum: f64 = x.iter().map(|x| x.exp()).sum();
            x.iter().map(|x| x.exp() / sum + 1e-8).collect::<Vec<_>>()
        };
        let (base, model) = ([0.5, -1.0, 2.0, 0.0], [0.4, 1.0, 2.5, -3.0]);
        let (p, q) = (softmax(&model), softmax(&base));
        let expected: f64 = p.iter().zip(&q).map(|(p, q)| p * (p / q).ln()).sum();
        assert!((divergence(&base, &model, &mut Vec::new()) / expected - 1.0).abs() < 1e-13);
        assert_eq!(divergence(&base, &base, &mut Vec::new()), 0.0);
    }

    #[test]
    fn exponential_and_logarithm_are_those_of_the_library() {
        for i in 0..=70_800 {
            let x = -f64::from(i) / 100.0;
            assert!((exp(x) / x.exp() - 1.0).abs() < 5e-16, "{x}");
        }
        assert_eq!((exp(0.0), exp(-1e300)), (1.0, exp(-708.0)));
        for i in -1716..=1716 {
            let s = f64::from(i) / 10_000.0;
            let expected = s.ln_1p() - (-s).ln_1p();
            assert!((twice_artanh(s) - expected).abs() <= 5e-16 * expected.abs(), "{s}");
        }
    }

    #[test]
    fn far_apart_values_do_not_overflow() {
        let found = divergence(&[1000.0, -1000.0], &[-1000.0, 1000.0], &mut Vec::new());
        assert!((found - 1e8_f64.ln()).abs() < 1e-5, "{found}");
    }

    #[test]
    fn values_of_least_importance_keep_the_base() {
        // One row: the importances are as 1 : 2 : … : 9, the quartiles 3, 5 and 7: the threshold is 11.
        let model: Vec<f32> = (1..10).map(|i| i as f32 / 100.0).collect();
        assert_eq!(merge(&[9], &[0.0; 9], &model), [0.0; 9]);
        // With 0.2 in place of 0.09 the quartiles stay and the last is above the threshold.
        let mut model = model;
        model[8] = 0.2;
        let found = merge(&[9], &[0.0; 9], &model);
        assert_eq!((&found[..8], found[8]), (&[0.0; 8][..], 0.2));
    }

    #[test]
    fn without_importance_the_model_is_taken() {
        assert_eq!(merge(&[3, 1], &[1.0, 2.0, 3.0], &[2.0, 4.0, 6.0]), [2.0, 4.0, 6.0]);
        assert_eq!(merge(&[], &[1.0], &[2.0]), [2.0]);
        assert_eq!(merge(&[0, 4], &[], &[]), [] as [f32; 0]);
    }

    #[test]
    fn quartiles_of_many_values_are_exact() {
        let (rows, cols) = (500, 700);
        let n = rows * cols;
        let list = |k: usize| (0..n).map(move |i| ((i * k + i / 31) % 1009) as f32 / 500.0);
        let (base, model): (Vec<f32>, Vec<f32>) = (list(17).collect(), list(29).collect());
        let mut importances = Vec::with_capacity(n);
        for (base, model) in base.chunks(cols).zip(model.chunks(cols)) {
            let [base, model] = [base, model].map(|v| v.iter().map(|x| f64::from(*x)).collect::<Vec<_>>());
            let row = divergence(&base, &model, &mut Vec::new());
            importances.extend(base.iter().zip(&model).map(|(a, b)| (b - a).abs() * row));
        }
        let mut sorted = importances.clone();
        sorted.sort_by(f64::total_cmp);
        let [q1, q2, q3] = [1, 2, 3].map(|k| sorted[k * (n - 1) / 4]);
        let found = merge(&[rows, cols], &base, &model);
        for i in 0..n {
            let expected = if importances[i] >= q2 + 1.5 * (q3 - q1) { model[i] } else { base[i] };
            assert_eq!(found[i], expected, "{i}");
        }
    }
}
