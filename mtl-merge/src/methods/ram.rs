//! Reinforced Agent Merging: arXiv 2601.13572.
use crate::{
    Base, Kernel, MergeMethod, MethodSpec, ParamSpec, Preset, Resolved, Result, Tensor, params::NON_NEGATIVE,
};
use multiversion::multiversion;

static SPEC: MethodSpec = MethodSpec::new("ram", "Reinforced Agent Merging", "arXiv 2601.13572")
    .base(Base::Required)
    .models(0, None)
    .params(&[EPSILON]);

pub(super) const EPSILON: ParamSpec = ParamSpec::number(
    "epsilon",
    Preset::Number(1e-5),
    NON_NEGATIVE,
    "largest change of a value that counts as none",
);

/// Averages each value over the models that changed it: `W₀ + Σ active δᵢ / count`, where `δᵢ = Wᵢ − W₀` is active if
/// `|δᵢ| > epsilon`.
///
/// So what one model alone has learned enters whole.
///
/// ```
/// use mtl_merge::{HostTensor, Recipe, TensorMap};
///
/// let map = |v: [f32; 3]| TensorMap::from([("w".to_owned(), HostTensor::vector(v.to_vec()))]);
/// let (base, a, b) = (map([1.0, 1.0, 1.0]), map([3.0, 3.0, 1.0]), map([1.0, 2.0, 1.0]));
/// let recipe = Recipe::new("ram").base("base").input("a").input("b");
/// assert_eq!(recipe.run_in_memory(Some(&base), &[&a, &b])?["w"].data(), [3.0, 2.5, 1.0]);
/// # Ok::<(), mtl_merge::Error>(())
/// ```
#[derive(Debug, Clone, Copy)]
pub struct Ram;

impl MergeMethod for Ram {
    fn spec(&self) -> &'static MethodSpec {
        &SPEC
    }

    fn prepare<'t>(&self, tensor: &'t Tensor<'_>, params: &'t Resolved) -> Result<Kernel<'t>> {
        let epsilon = params.number("epsilon")?;
        let factors = vec![1.0; tensor.n_models()];
        Ok(Box::new(move |piece, out| {
            let Some(base) = piece.base else { return };
            average(base, piece.models, epsilon, &factors, out);
        }))
    }
}

/// Elements that are worked on at once.
pub(super) const TILE: usize = 256;

/// Base plus the mean of the active differences; one that is active alone is multiplied by its model's factor.
#[multiversion(targets("x86_64+avx2"))]
pub(super) fn average(base: &[f64], models: &[&[f64]], epsilon: f64, factors: &[f64], out: &mut [f64]) {
    for (start, (base, out)) in (0..).step_by(TILE).zip(base.chunks(TILE).zip(out.chunks_mut(TILE))) {
        let (mut sums, mut unique, mut counts) = ([0.0_f64; TILE], [0.0_f64; TILE], [0.0_f64; TILE]);
        for (model, factor) in models.iter().zip(factors) {
            let model = &model[start..start + base.len()];
            let tile = sums.iter_mut().zip(&mut unique).zip(&mut counts);
            for (((sum, unique), count), (x, x0)) in tile.zip(model.iter().zip(base)) {
                let delta = x - x0;
                let active = delta.abs() > epsilon;
                let delta = if active { delta } else { 0.0 };
                *sum += delta;
                *unique += factor * delta;
                *count += if active { 1.0 } else { 0.0 };
            }
        }
        for ((out, x0), ((sum, unique), count)) in
            out.iter_mut().zip(base).zip(sums.iter().zip(&unique).zip(&counts))
        {
            let mean = sum / count.max(1.0);
            *out = x0 + if *count == 1.0 { *unique } else { mean };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn merge(epsilon: f64, factors: &[f64], deltas: &[&[f64]]) -> Vec<f64> {
        let mut out = vec![0.0; deltas[0].len()];
        average(&vec![0.0; out.len()], deltas, epsilon, factors, &mut out);
        out
    }

    #[test]
    fn only_changes_beyond_epsilon_count() {
        let deltas: [&[f64]; 3] = [&[0.5, 0.6, 0.5, -2.0], &[0.4, 0.1, -0.5, 4.0], &[0.0, -0.5, 0.3, 1.0]];
        assert_eq!(merge(0.5, &[1.0; 3], &deltas), [0.0, 0.6, 0.0, 1.0]);
    }

    #[test]
    fn a_factor_applies_where_its_model_is_alone() {
        let deltas: [&[f64]; 2] = [&[1.0, 0.0, 2.0], &[0.0, 1.0, 4.0]];
        assert_eq!(merge(0.0, &[3.0, 5.0], &deltas), [3.0, 5.0, 3.0]);
    }

    #[test]
    fn tiles_do_not_show() {
        let deltas: [Vec<f64>; 2] = [3, 5].map(|k| (0..2 * TILE + 9).map(|i| ((i * k) % 4) as f64).collect());
        let found = merge(0.0, &[1.0, 1.0], &[&deltas[0], &deltas[1]]);
        for (i, x) in found.into_iter().enumerate() {
            let [a, b] = [deltas[0][i], deltas[1][i]];
            let expected = if a != 0.0 && b != 0.0 { (a + b) / 2.0 } else { a + b };
            assert_eq!(x, expected);
        }
    }
}
