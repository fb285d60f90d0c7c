//! Spherical interpolation with weights, of tensors or of their rows or columns, from the origin or from a base
//! (mergekit, arXiv 2403.13257).
use super::{
    displaced,
    gram::{Gram, Vectors},
    weighted_sum,
};
use crate::{
    Base, Error, Kernel, MergeMethod, MethodSpec, ParamSpec, Partial, Piece, Preset, Resolved, Result,
    Tensor, Work, params::FINITE, tensor::with_scratch,
};
use multiversion::multiversion;

static SPEC: MethodSpec = MethodSpec::new("nuslerp", "Arcee's MergeKit", "arXiv 2403.13257")
    .base(Base::Optional)
    .models(2, Some(2))
    .work(Work::Rows)
    .partial(Partial::Copy)
    .params(&[
        ParamSpec::per_model("weight", Preset::Required, FINITE, "share of the model in t = w₂/(w₁ + w₂)"),
        ParamSpec::flag("nuslerp_flatten", true, "one angle per tensor; otherwise one per row"),
        ParamSpec::flag(
            "nuslerp_row_wise",
            false,
            "without flattening: one angle per column, vectors along the first axis (the name is mergekit's)",
        ),
    ]);

/// Moves along the arc from the first model to the second, by `t = w₂ / (w₁ + w₂)`; 0.5 if the sum is below 1e-6.
///
/// With a base, the arc is that of the differences from the base, and the result is added to it. A tensor is one vector;
/// with `nuslerp_flatten: false` each row (run along the last axis) is one, and with `nuslerp_row_wise: true` too, each
/// run along the first axis is. Unlike with [`Slerp`](crate::methods::Slerp), vectors are interpolated linearly only if
/// `1 − cos² θ ≤ 1e-16`, and norms below 1e-7 count as 1e-7 in the angle.
///
/// ```
/// use mtl_merge::{HostTensor, Recipe, TensorMap};
///
/// let map = |v: [f32; 2]| TensorMap::from([("w".to_owned(), HostTensor::vector(v.to_vec()))]);
/// let (east, north) = (map([2.0, 0.0]), map([0.0, 2.0]));
/// let merged = Recipe::new("nuslerp").model("east", 2.0).model("north", 1.0).run_in_memory(None, &[&east, &north])?;
/// assert_eq!(merged["w"].data(), [3_f32.sqrt(), 1.0]); // A third of the way.
/// # Ok::<(), mtl_merge::Error>(())
/// ```
#[derive(Debug, Clone, Copy)]
pub struct NuSlerp;

impl MergeMethod for NuSlerp {
    fn spec(&self) -> &'static MethodSpec {
        &SPEC
    }

    fn prepare<'t>(&self, tensor: &'t Tensor<'_>, params: &'t Resolved) -> Result<Kernel<'t>> {
        let weights = params.per_model("weight")?;
        let &[first, second] = weights else {
            return Err(Error::Unmergeable {
                method: SPEC.info.name.to_owned(),
                tensor: tensor.name().to_owned(),
                message: "both models must have it; only one has".to_owned(),
            });
        };
        let total = first + second;
        let t = if total.abs() < 1e-6 { 0.5 } else { second / total };
        let columns = tensor.shape().iter().skip(1).product::<usize>();
        if params.flag("nuslerp_flatten")? || tensor.shape().len() < 2 {
            let gram = Gram::scan(tensor, Vectors::Deltas)?;
            let factors = arc(t, [gram.get(0, 0), gram.get(1, 1), gram.get(0, 1)]);
            return Ok(Box::new(move |piece, out| {
                combine(piece.base, piece.models, factors, out);
            }));
        }
        if params.flag("nuslerp_row_wise")? {
            let sums = column_sums(tensor, columns)?;
            let factors: Vec<[f64; 2]> = sums.into_iter().map(|sums| arc(t, sums)).collect();
            return Ok(Box::new(move |piece, out| by_column(piece, &factors, out)));
        }
        let cols = tensor.cols().max(1);
        Ok(Box::new(move |piece, out| {
            with_scratch(|tile| {
                for (row, out) in out.chunks_mut(cols).enumerate() {
                    let part = |all: &'_ [f64]| row * cols..(row * cols + out.len()).min(all.len());
                    let base = piece.base.map(|b| &b[part(b)]);
                    let [a, b] = [piece.models[0], piece.models[1]].map(|m| &m[part(m)]);
                    let gram = Gram::of(base, &[a, b], tile);
                    let factors = arc(t, [gram.get(0, 0), gram.get(1, 1), gram.get(0, 1)]);
                    combine(base, &[a, b], factors, out);
                }
            });
        }))
    }
}

/// The factors of two vectors, from their squared norms and their inner product.
fn arc(t: f64, [aa, bb, ab]: [f64; 3]) -> [f64; 2] {
    let cosine = (ab / aa.sqrt().max(1e-7) / bb.sqrt().max(1e-7)).clamp(-1.0, 1.0);
    if 1.0 - cosine * cosine <= 1e-16 {
        return [1.0 - t, t];
    }
    let theta = cosine.acos();
    [((1.0 - t) * theta).sin() / theta.sin(), (t * theta).sin() / theta.sin()]
}

/// The base, if there is one, and the models' differences from it times their factors.
fn combine(base: Option<&[f64]>, models: &[&[f64]], factors: [f64; 2], out: &mut [f64]) {
    match base {
        Some(base) => displaced(base, models, &factors, 1.0, out),
        None => weighted_sum(None, models, &factors, out),
    }
}

#[multiversion(targets("x86_64+avx2"))]
fn by_column(piece: &Piece<'_>, factors: &[[f64; 2]], out: &mut [f64]) {
    let (a, b) = (piece.models[0], piece.models[1]);
    let columns = factors.len().max(1);
    let mut at = 0;
    while at < out.len() {
        let column = (piece.start + at) % columns;
        let end = (at + columns - column).min(out.len());
        let part = at..end;
        let (a, b, factors) = (&a[part.clone()], &b[part.clone()], &factors[column..]);
        match piece.base {
            Some(base) => {
                let models = a.iter().zip(b).zip(&base[part.clone()]);
                for ((out, ((a, b), x0)), [fa, fb]) in out[part].iter_mut().zip(models).zip(factors) {
                    *out = x0 + (fa * (a - x0) + fb * (b - x0));
                }
            }
            None => {
                for ((out, (a, b)), [fa, fb]) in out[part].iter_mut().zip(a.iter().zip(b)).zip(factors) {
                    *out = fa * a + fb * b;
                }
            }
        }
        at = end;
    }
}

/// Sums of a block, for the columns it touches, from the column of its first element on and then around.
struct Sums {
    start: usize,
    columns: Vec<[f64; 3]>,
}

/// Squared norms and inner product of every vector along the first axis.
fn column_sums(tensor: &Tensor<'_>, columns: usize) -> Result<Vec<[f64; 3]>> {
    let mut totals = vec![[0.0; 3]; columns];
    tensor.fold_blocks(
        |start| Sums { start, columns: Vec::new() },
        |sums, piece| {
            let offset = piece.start - sums.start;
            sums.columns.resize((offset + piece.len()).min(columns).max(sums.columns.len()), [0.0; 3]);
            add(piece, offset, &mut sums.columns, columns);
        },
        |sums| {
            for (i, part) in sums.columns.iter().enumerate() {
                let total = &mut totals[(sums.start + i) % columns];
                total.iter_mut().zip(part).for_each(|(total, part)| *total += part);
            }
        },
    )?;
    Ok(totals)
}

/// Adds a piece that begins `offset` elements after its block.
#[multiversion(targets("x86_64+avx2"))]
fn add(piece: &Piece<'_>, offset: usize, sums: &mut [[f64; 3]], columns: usize) {
    let (a, b) = (piece.models[0], piece.models[1]);
    let mut at = 0;
    while at < a.len() {
        let column = (offset + at) % columns;
        let end = (at + columns - column).min(a.len());
        let pairs = a[at..end].iter().zip(&b[at..end]);
        let one = |sums: &mut [f64; 3], a: f64, b: f64| {
            *sums = [sums[0] + a * a, sums[1] + b * b, sums[2] + a * b];
        };
        match piece.base {
            Some(base) => {
                for (sums, ((a, b), x0)) in sums[column..].iter_mut().zip(pairs.zip(&base[at..end])) {
                    one(sums, a - x0, b - x0);
                }
            }
            None => sums[column..].iter_mut().zip(pairs).for_each(|(sums, (a, b))| one(sums, *a, *b)),
        }
        at = end;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{HostTensor, Recipe, TensorMap};

    fn map(shape: &[usize], values: &[f32]) -> TensorMap {
        TensorMap::from([("w".to_owned(), HostTensor::new(shape.to_vec(), values.to_vec()).unwrap())])
    }

    fn merge(
        base: Option<&TensorMap>,
        a: &TensorMap,
        b: &TensorMap,
        weights: [f64; 2],
        column: bool,
    ) -> Vec<f32> {
        let recipe = Recipe::new("nuslerp").model("a", weights[0]).model("b", weights[1]);
        let recipe = recipe.parameter("nuslerp_flatten", false).parameter("nuslerp_row_wise", column);
        let recipe = if base.is_some() { recipe.base("base") } else { recipe };
        recipe.run_in_memory(base, &[a, b]).unwrap()["w"].data().to_vec()
    }

    #[test]
    fn every_row_or_every_column_has_its_own_angle() {
        // Rows: a right angle, and a common direction. Columns: the other way round.
        let (a, b) = (map(&[2, 2], &[1.0, 0.0, 1.0, 0.0]), map(&[2, 2], &[0.0, 1.0, 3.0, 0.0]));
        let half = 0.5_f32.sqrt();
        assert_eq!(merge(None, &a, &b, [1.0, 1.0], false), [half, half, 2.0, 0.0]);
        let (a, b) = (map(&[2, 2], &[1.0, 1.0, 0.0, 0.0]), map(&[2, 2], &[0.0, 3.0, 1.0, 0.0]));
        assert_eq!(merge(None, &a, &b, [1.0, 1.0], true), [half, 2.0, half, 0.0]);
    }

    #[test]
    fn columns_of_any_shape_agree_with_a_plain_loop() {
        for (rows, columns) in [(3, 5), (1, 9), (7, 1), (700, 501), (2, 200_001)] {
            let list = |k: usize| (0..rows * columns).map(move |i| ((i * k + i / 7) % 13) as f32 - 6.0);
            let lists: [Vec<f32>; 3] = [5, 11, 2].map(|k| list(k).collect());
            let [base, a, b] = [0, 1, 2].map(|i| map(&[rows, columns], &lists[i]));
            let found = merge(Some(&base), &a, &b, [1.0, 2.0], true);
            for column in (0..columns).step_by(1 + columns / 50) {
                let at = |list: usize, row: usize| f64::from(lists[list][row * columns + column]);
                let delta = |list, row| at(list, row) - at(0, row);
                let sum = |a, b| (0..rows).map(|row| delta(a, row) * delta(b, row)).sum::<f64>();
                let [fa, fb] = arc(2.0 / 3.0, [sum(1, 1), sum(2, 2), sum(1, 2)]);
                for row in 0..rows {
                    let expected = at(0, row) + (fa * delta(1, row) + fb * delta(2, row));
                    assert_eq!(found[row * columns + column], expected as f32);
                }
            }
        }
    }

    #[test]
    fn weights_that_cancel_meet_halfway() {
        let (a, b) = (map(&[2], &[1.0, 0.0]), map(&[2], &[0.0, 1.0]));
        let half = 0.5_f32.sqrt();
        assert_eq!(merge(None, &a, &b, [1.0, -1.0], false), [half, half]);
    }

    #[test]
    fn only_parallel_vectors_are_interpolated_linearly() {
        assert_eq!(arc(0.25, [4.0, 9.0, 6.0]), [0.75, 0.25]);
        assert_eq!(arc(0.25, [4.0, 9.0, -6.0]), [0.75, 0.25]);
        // Where `slerp` is linear already: 0.9996.
        let [a, b] = arc(0.25, [1.0, 1.0, 0.9996]);
        assert!(a > 0.75 && b > 0.25 && a < 0.7501 && b < 0.2501);
        // A zero vector is at a right angle to any other.
        let [a, b] = arc(0.5, [0.0, 9.0, 0.0]);
        assert!((a - 0.5_f64.sqrt()).abs() < 1e-15 && (b - 0.5_f64.sqrt()).abs() < 1e-15);
    }
}
