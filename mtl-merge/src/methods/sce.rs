//! Select, calculate, erase: Wan et al., *FuseChat: Knowledge Fusion of Chat Models*, 2024, arXiv 2408.07990.
use crate::{
    Base, Kernel, MergeMethod, MethodSpec, ParamSpec, Piece, Preset, Resolved, Result, Tensor,
    params::SHARE,
    select::{Rank, Threshold, key64, select},
};
use multiversion::multiversion;

static SPEC: MethodSpec =
    MethodSpec::new("sce", "FuseChat: Knowledge Fusion of Chat Models", "arXiv 2408.07990")
        .base(Base::Required)
        .models(0, None)
        .params(&[
            ParamSpec::number(
                "select_topk",
                Preset::Number(1.0),
                SHARE,
                "share of the values that differ among the models to keep, by variance",
            ),
            ParamSpec::flag("int8_mask", false, "no effect; accepted for compatibility"),
        ]);

/// Keeps the values in which the models differ most, weights models by how much they changed, and drops minorities.
///
/// With `δᵢ = Wᵢ − W₀`: *select* keeps `⌊select_topk · n⌋` positions of largest variance among the models, `n` being the
/// number of those whose variance is not 0, and sets all others to 0 (not at all if `select_topk` is 1; among equal
/// variances the lower index is kept). *Calculate* gives each model the weight `cᵢ = mean δᵢ²`, normalized to sum 1; equal
/// weights if the sum is below 1e-6, as it is for small changes. *Erase* lets only those `δᵢ` count whose sign is that of
/// `Σ δᵢ`: the result is `W₀ + Σ cᵢ δᵢ / Σ cᵢ` over these, the divisor being at least 1e-6.
///
/// ```
/// use mtl_merge::{HostTensor, Recipe, TensorMap};
///
/// let map = |v: [f32; 2]| TensorMap::from([("w".to_owned(), HostTensor::vector(v.to_vec()))]);
/// let (base, a, b) = (map([0.0, 0.0]), map([3.0, -1.0]), map([1.0, 3.0]));
/// let recipe = Recipe::new("sce").base("base").input("a").input("b");
/// assert_eq!(recipe.run_in_memory(Some(&base), &[&a, &b])?["w"].data(), [2.0, 3.0]); // Equal weights; −1 is erased.
/// # Ok::<(), mtl_merge::Error>(())
/// ```
#[derive(Debug, Clone, Copy)]
pub struct Sce;

impl MergeMethod for Sce {
    fn spec(&self) -> &'static MethodSpec {
        &SPEC
    }

    fn prepare<'t>(&self, tensor: &'t Tensor<'_>, params: &'t Resolved) -> Result<Kernel<'t>> {
        let share = params.number("select_topk")?;
        let kept = if share < 1.0 { largest_variances(tensor, share)? } else { Threshold::ALL };
        let weights = weights(tensor, kept)?;
        Ok(Box::new(move |piece, out| {
            let Some(base) = piece.base else { return };
            merge_all(piece, base, kept, &weights, out);
        }))
    }
}

/// Elements that are worked on at once.
const TILE: usize = 256;

/// A few elements of base and models.
struct Tile<'p> {
    /// Position of the first in the tensor.
    start: usize,
    base: &'p [f64],
    models: &'p [&'p [f64]],
    /// Position in the models' slices.
    offset: usize,
}

impl Tile<'_> {
    #[inline(always)]
    fn models(&self) -> impl Iterator<Item = &[f64]> {
        self.models.iter().map(|m| &m[self.offset..self.offset + self.base.len()])
    }

    /// The variance of the models' values, times their number. Values that are all equal give exactly 0.
    #[inline(always)]
    fn variances(&self) -> [f64; TILE] {
        let (mut means, mut variances) = ([0.0; TILE], [0.0; TILE]);
        let Some(first) = self.models().next() else { return variances };
        for model in self.models() {
            for ((mean, x), x1) in means.iter_mut().zip(model).zip(first) {
                *mean += x - x1;
            }
        }
        means.iter_mut().for_each(|mean| *mean /= self.models.len() as f64);
        for model in self.models() {
            for (((variance, mean), x), x1) in variances.iter_mut().zip(&means).zip(model).zip(first) {
                let distance = (x - x1) - mean;
                *variance += distance * distance;
            }
        }
        variances
    }

    /// 1 for the elements that are kept, 0 for the others.
    #[inline(always)]
    fn mask(&self, kept: Threshold<i64>) -> [f64; TILE] {
        if kept == Threshold::ALL {
            return [1.0; TILE];
        }
        let mut mask = self.variances();
        for (i, x) in mask.iter_mut().enumerate() {
            *x = if kept.keep(key64(*x), self.start + i) { 1.0 } else { 0.0 };
        }
        mask
    }
}

fn tiles<'p>(piece: &'p Piece<'_>, base: &'p [f64]) -> impl Iterator<Item = Tile<'p>> {
    base.chunks(TILE).enumerate().map(move |(i, base)| Tile {
        start: piece.start + i * TILE,
        base,
        models: piece.models,
        offset: i * TILE,
    })
}

/// What is selected.
fn largest_variances(tensor: &Tensor<'_>, share: f64) -> Result<Threshold<i64>> {
    let varied = tensor.blocks(
        |_| 0,
        |count, piece| {
            let Some(base) = piece.base else { return };
            *count += varied(piece, base);
        },
    )?;
    let k = (varied.iter().sum::<usize>() as f64 * share) as usize;
    let thresholds = select(tensor, &[Rank { list: 0, k }], |piece, _, out: &mut [i64]| {
        let Some(base) = piece.base else { return };
        variance_keys(piece, base, out);
    })?;
    Ok(thresholds.first().copied().unwrap_or(Threshold::NONE))
}

#[multiversion(targets("x86_64+avx2"))]
fn varied(piece: &Piece<'_>, base: &[f64]) -> usize {
    let count = |tile: Tile<'_>| tile.variances()[..tile.base.len()].iter().filter(|v| **v != 0.0).count();
    tiles(piece, base).map(count).sum()
}

#[multiversion(targets("x86_64+avx2"))]
fn variance_keys(piece: &Piece<'_>, base: &[f64], out: &mut [i64]) {
    for (tile, out) in tiles(piece, base).zip(out.chunks_mut(TILE)) {
        for (key, variance) in out.iter_mut().zip(tile.variances()) {
            *key = key64(variance);
        }
    }
}

#[multiversion(targets("x86_64+avx2"))]
fn add_squares(piece: &Piece<'_>, base: &[f64], kept: Threshold<i64>, sums: &mut [f64]) {
    for tile in tiles(piece, base) {
        let mask = tile.mask(kept);
        for (model, sum) in tile.models().zip(sums.iter_mut()) {
            *sum += squares(&tile, model, &mask);
        }
    }
}

#[multiversion(targets("x86_64+avx2"))]
fn merge_all(piece: &Piece<'_>, base: &[f64], kept: Threshold<i64>, weights: &[f64], out: &mut [f64]) {
    for (tile, out) in tiles(piece, base).zip(out.chunks_mut(TILE)) {
        merge(&tile, kept, weights, out);
    }
}

/// The mean square of each model's selected changes, normalized.
fn weights(tensor: &Tensor<'_>, kept: Threshold<i64>) -> Result<Vec<f64>> {
    let n = tensor.n_models();
    let blocks = tensor.blocks(
        |_| vec![0.0; n],
        |sums, piece| {
            let Some(base) = piece.base else { return };
            add_squares(piece, base, kept, sums);
        },
    )?;
    let mut weights = vec![0.0; n];
    for (weight, sum) in blocks.iter().flat_map(|sums| sums.iter().enumerate()) {
        weights[weight] += sum / tensor.numel().max(1) as f64;
    }
    let total: f64 = weights.iter().sum();
    weights.iter_mut().for_each(|w| *w = if total < 1e-6 { 1.0 / n as f64 } else { *w / total });
    Ok(weights)
}

/// The sum of the squares of one model's selected changes.
#[inline(always)]
fn squares(tile: &Tile<'_>, model: &[f64], mask: &[f64; TILE]) -> f64 {
    const LANES: usize = 16;
    let mut sums = [0.0; LANES];
    let chunks = model.chunks(LANES).zip(tile.base.chunks(LANES)).zip(mask.chunks(LANES));
    for ((model, base), mask) in chunks {
        for (((sum, x), x0), mask) in sums.iter_mut().zip(model).zip(base).zip(mask) {
            let delta = mask * (x - x0);
            *sum += delta * delta;
        }
    }
    sums.iter().sum()
}

#[inline(always)]
fn merge(tile: &Tile<'_>, kept: Threshold<i64>, weights: &[f64], out: &mut [f64]) {
    let (mut totals, mut sums, mut shares) = ([0.0; TILE], [0.0; TILE], [0.0_f64; TILE]);
    let mask = tile.mask(kept);
    for model in tile.models() {
        for ((total, x), x0) in totals.iter_mut().zip(model).zip(tile.base) {
            *total += x - x0;
        }
    }
    for (model, weight) in tile.models().zip(weights) {
        let state = sums.iter_mut().zip(&mut shares).zip(&totals);
        for (((sum, share), total), (x, x0)) in state.zip(model.iter().zip(tile.base)) {
            let delta = x - x0;
            // A sum of 0 elects the positive sign.
            let agrees = if *total >= 0.0 { delta > 0.0 } else { delta < 0.0 };
            let weight = if agrees { *weight } else { 0.0 };
            *sum += weight * delta;
            *share += weight;
        }
    }
    let state = sums.iter().zip(&shares).zip(&mask);
    for ((out, x0), ((sum, share), mask)) in out.iter_mut().zip(tile.base).zip(state) {
        *out = x0 + mask * (sum / share.max(1e-6));
    }
}

#[cfg(test)]
mod tests {
    use crate::{HostTensor, Recipe, TensorMap};

    fn merge(topk: f64, base: &[f32], models: &[&[f32]]) -> Vec<f32> {
        let map = |v: &[f32]| TensorMap::from([("w".to_owned(), HostTensor::vector(v.to_vec()))]);
        let models: Vec<TensorMap> = models.iter().map(|m| map(m)).collect();
        let recipe = Recipe::new("sce").base("base").parameter("select_topk", topk);
        let recipe = (0..models.len()).fold(recipe, |recipe, i| recipe.input(format!("model {i}")));
        let merged = recipe.run_in_memory(Some(&map(base)), &models.iter().collect::<Vec<_>>()).unwrap();
        merged["w"].data().to_vec()
    }

    #[test]
    fn models_count_by_their_mean_square() {
        // Mean squares 4 and 1: weights 0.8 and 0.2.
        assert_eq!(merge(1.0, &[1.0, 1.0], &[&[3.0, -1.0], &[2.0, 0.0]]), [2.8, -0.8]);
        // Below 1e-6 in sum: equal weights.
        let found = merge(1.0, &[0.0], &[&[4e-4], &[2e-4]]);
        assert!((found[0] - 3e-4).abs() < 1e-9);
    }

    #[test]
    fn a_sum_of_zero_elects_the_positive_sign() {
        assert_eq!(merge(1.0, &[0.0], &[&[1.0], &[-1.0]]), [1.0]);
    }

    #[test]
    fn the_share_is_that_of_the_positions_with_variance() {
        // Three of four positions vary; two thirds of them are kept. The first changes alike in both and is dropped.
        let found = merge(0.67, &[0.0; 4], &[&[5.0, 1.0, 2.0, 3.0], &[5.0, 0.0, 0.0, 0.0]]);
        assert_eq!(found, [0.0, 0.0, 2.0, 3.0]);
    }

    #[test]
    fn equal_variances_keep_the_lower_index() {
        let found = merge(0.5, &[0.0; 4], &[&[1.0, -1.0, 1.0, 1.0], &[0.0; 4]]);
        assert_eq!(found, [1.0, -1.0, 0.0, 0.0]);
    }

    #[test]
    fn nothing_selected_leaves_the_base() {
        assert_eq!(merge(0.0, &[1.0, 2.0], &[&[3.0, 3.0], &[4.0, 5.0]]), [1.0, 2.0]);
        assert_eq!(merge(0.9, &[1.0, 2.0], &[&[3.0, 3.0]]), [1.0, 2.0]); // One model has no variance.
    }

    #[test]
    fn selection_across_tiles_and_blocks_agrees_with_sorting() {
        let n = 300_000;
        let list = |k: u64| (0..n).map(move |i: u64| ((i * k * k + i / 17) % 101) as f32 / 100.0);
        let lists: [Vec<f32>; 3] = [7, 11, 13].map(|k| list(k).collect());
        let slices: Vec<&[f32]> = lists.iter().map(Vec::as_slice).collect();
        let base = vec![-1.0; n as usize];
        let found = merge(0.4, &base, &slices);
        let variance = |i: usize| {
            let x = |m: usize| f64::from(lists[m][i]) - f64::from(lists[0][i]);
            let mean = (x(1) + x(2)) / 3.0;
            (0..3).map(|m| (x(m) - mean).powi(2)).sum::<f64>()
        };
        let mut order: Vec<(u64, usize)> = (0..n as usize)
            .map(|i| (u64::MAX - variance(i).to_bits(), i))
            .filter(|(v, _)| *v != u64::MAX)
            .collect();
        order.sort_unstable();
        let k = (order.len() as f64 * 0.4) as usize;
        let mut kept = vec![false; n as usize];
        order[..k].iter().for_each(|(_, i)| kept[*i] = true);
        for i in 0..n as usize {
            assert_eq!(found[i] != -1.0, kept[i] && (0..3).any(|m| lists[m][i] != -1.0), "{i}");
        }
    }
}
