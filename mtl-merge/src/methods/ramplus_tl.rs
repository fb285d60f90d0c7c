//! Reinforced Agent Merging Plus, with factors per tensor: arXiv 2601.13572.
use super::ram::{EPSILON, TILE, average};
use crate::{
    Base, Kernel, MergeMethod, MethodSpec, ParamSpec, Piece, Preset, Resolved, Result, Tensor, params::FINITE,
};
use multiversion::multiversion;

static SPEC: MethodSpec = MethodSpec::new("ramplus_tl", "Reinforced Agent Merging", "arXiv 2601.13572")
    .base(Base::Required)
    .models(0, None)
    .params(&[
        ParamSpec::number("r", Preset::Number(0.1), FINITE, "strength of the amplification"),
        ParamSpec::number("alpha", Preset::Number(0.2), FINITE, "limit of a model's shared-to-unique ratio"),
        EPSILON,
    ]);

/// [`Ram`](crate::methods::Ram) that amplifies what a model alone has learned, to make up for what averaging takes from
/// it: by `1 + r min(ρᵢ, alpha)`, `ρᵢ` being the model's active values shared with others per active value of its own.
///
/// Values are counted within each tensor.
///
/// ```
/// use mtl_merge::{HostTensor, Recipe, TensorMap};
///
/// let map = |v: [f32; 3]| TensorMap::from([("w".to_owned(), HostTensor::vector(v.to_vec()))]);
/// let (base, a, b) = (map([0.0; 3]), map([2.0, 2.0, 4.0]), map([0.0, 0.0, 2.0]));
/// let recipe = Recipe::new("ramplus_tl").base("base").input("a").input("b").parameter("r", 0.5).parameter("alpha", 1.0);
/// // One shared value and two unique ones: 1 + 0.5 / 2.
/// assert_eq!(recipe.run_in_memory(Some(&base), &[&a, &b])?["w"].data(), [2.5, 2.5, 3.0]);
/// # Ok::<(), mtl_merge::Error>(())
/// ```
#[derive(Debug, Clone, Copy)]
pub struct RamPlusTl;

impl MergeMethod for RamPlusTl {
    fn spec(&self) -> &'static MethodSpec {
        &SPEC
    }

    fn prepare<'t>(&self, tensor: &'t Tensor<'_>, params: &'t Resolved) -> Result<Kernel<'t>> {
        let epsilon = params.number("epsilon")?;
        let (r, alpha) = (params.number("r")?, params.number("alpha")?);
        let counts = counts(tensor, epsilon)?;
        let factors: Vec<f64> = counts.into_iter().map(|counts| factor(counts, r, alpha, epsilon)).collect();
        Ok(Box::new(move |piece, out| {
            let Some(base) = piece.base else { return };
            average(base, piece.models, epsilon, &factors, out);
        }))
    }
}

/// The amplification of a model with so many shared and unique active values.
fn factor([shared, unique]: [u64; 2], r: f64, alpha: f64, epsilon: f64) -> f64 {
    let unique = (unique as f64).max(epsilon);
    // Without unique values the factor has no effect; with `epsilon` 0 it would be no number either.
    let ratio = if unique > 0.0 { shared as f64 / unique } else { 0.0 };
    1.0 + r * ratio.max(0.0).min(alpha)
}

/// For each model, its active values that others have too, and those of its own.
fn counts(tensor: &Tensor<'_>, epsilon: f64) -> Result<Vec<[u64; 2]>> {
    let n = tensor.n_models();
    let blocks = tensor.blocks(
        |_| vec![[0; 2]; n],
        |counts, piece: &Piece<'_>| {
            let Some(base) = piece.base else { return };
            count(base, piece.models, epsilon, counts);
        },
    )?;
    let mut totals = vec![[0; 2]; n];
    for (total, part) in blocks.iter().flat_map(|block| block.iter().enumerate()) {
        totals[total][0] += part[0];
        totals[total][1] += part[1];
    }
    Ok(totals)
}

#[multiversion(targets("x86_64+avx2"))]
fn count(base: &[f64], models: &[&[f64]], epsilon: f64, counts: &mut [[u64; 2]]) {
    for (start, base) in (0..).step_by(TILE).zip(base.chunks(TILE)) {
        let mut active = [0_u32; TILE];
        let part = start..start + base.len();
        for model in models {
            for ((active, x), x0) in active.iter_mut().zip(&model[part.clone()]).zip(base) {
                *active += u32::from((x - x0).abs() > epsilon);
            }
        }
        for (model, counts) in models.iter().zip(counts.iter_mut()) {
            let (mut all, mut unique) = (0_u32, 0_u32);
            for ((&active, x), x0) in active.iter().zip(&model[part.clone()]).zip(base) {
                let own = u32::from((x - x0).abs() > epsilon);
                all += own;
                unique += own & u32::from(active == 1);
            }
            counts[0] += u64::from(all - unique);
            counts[1] += u64::from(unique);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shared_and_unique_values_are_counted_across_tiles() {
        let n = 2 * TILE + 5;
        let lists: [Vec<f64>; 3] = [2, 3, 5].map(|k| (0..n).map(|i| f64::from(i % k == 0)).collect());
        let slices: Vec<&[f64]> = lists.iter().map(Vec::as_slice).collect();
        let mut found = vec![[0; 2]; 3];
        count(&vec![0.0; n], &slices, 0.5, &mut found);
        for (k, found) in [2, 3, 5].into_iter().zip(found) {
            let alone = |i: &usize| [2, 3, 5].iter().all(|&other| other == k || !i.is_multiple_of(other));
            let (unique, shared): (Vec<usize>, Vec<usize>) = (0..n).filter(|i| i % k == 0).partition(alone);
            assert_eq!(found, [shared.len() as u64, unique.len() as u64]);
        }
    }

    #[test]
    fn the_factor_is_limited() {
        assert_eq!(factor([1, 10], 0.1, 0.2, 1e-5), 1.01);
        assert_eq!(factor([10, 10], 0.1, 0.2, 1e-5), 1.02);
        assert_eq!(factor([0, 10], 0.1, 0.2, 1e-5), 1.0);
        assert_eq!(factor([3, 0], 0.1, 0.2, 0.0), 1.0);
        assert_eq!(factor([10, 10], 0.1, -1.0, 1e-5), 0.9);
    }
}
