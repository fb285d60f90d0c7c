//! Model Stock: Jang et al., *Model Stock: All we need is just a few fine-tuned models*, ECCV 2024, arXiv 2403.19522.
use super::{
    displaced,
    gram::{Gram, Vectors},
};
use crate::{
    Base, Kernel, MergeMethod, MethodSpec, ParamSpec, Partial, Resolved, Result, Tensor, Work,
    tensor::with_scratch,
};

static SPEC: MethodSpec = MethodSpec::new(
    "model_stock",
    "Model Stock: All we need is just a few fine-tuned models",
    "arXiv 2403.19522",
)
.base(Base::Required)
.models(2, None)
.work(Work::Rows)
.partial(Partial::Base)
.params(&[ParamSpec::flag("filter_wise", false, "one ratio per row instead of one per tensor")]);

/// Goes from the base towards the mean of the models, the farther the more they agree: `W₀ + t (mean Wᵢ − W₀)` with
/// `t = N c / (1 + (N − 1) c)`, where `c` is the mean cosine between the models' task vectors.
///
/// The cosine is that of whole tensors, or with `filter_wise` one for every row. Products of norms below 1e-6 count as
/// 1e-6; a denominator below 1e-6 gives `t = 0`. `t` is not limited: task vectors that oppose each other (`c < 0`) give
/// `t` below 0 or above 1.
///
/// ```
/// use mtl_merge::{HostTensor, Recipe, TensorMap};
///
/// let map = |v: [f32; 3]| TensorMap::from([("w".to_owned(), HostTensor::vector(v.to_vec()))]);
/// let (base, a, b) = (map([0.0, 0.0, 1.0]), map([1.0, 0.0, 1.0]), map([0.6, 0.8, 1.0]));
/// let recipe = Recipe::new("model_stock").base("base").input("a").input("b");
/// let merged = recipe.run_in_memory(Some(&base), &[&a, &b])?;
/// assert_eq!(merged["w"].data(), [0.8 * 0.75, 0.4 * 0.75, 1.0]); // c = 0.6, t = 1.2 / 1.6
/// # Ok::<(), mtl_merge::Error>(())
/// ```
#[derive(Debug, Clone, Copy)]
pub struct ModelStock;

impl MergeMethod for ModelStock {
    fn spec(&self) -> &'static MethodSpec {
        &SPEC
    }

    fn prepare<'t>(&self, tensor: &'t Tensor<'_>, params: &'t Resolved) -> Result<Kernel<'t>> {
        let n = tensor.n_models();
        if !params.flag("filter_wise")? || tensor.shape().len() < 2 {
            let weights = vec![ratio(&Gram::scan(tensor, Vectors::Deltas)?) / n as f64; n];
            return Ok(Box::new(move |piece, out| {
                let Some(base) = piece.base else { return };
                move_to(base, piece.models, &weights, out);
            }));
        }
        let cols = tensor.cols().max(1);
        Ok(Box::new(move |piece, out| {
            let Some(base) = piece.base else { return };
            with_scratch(|tile| {
                let mut models: Vec<&[f64]> = Vec::with_capacity(n);
                for (row, out) in out.chunks_mut(cols).enumerate() {
                    let part = row * cols..row * cols + out.len();
                    models.clear();
                    models.extend(piece.models.iter().map(|m| &m[part.clone()]));
                    let base = &base[part];
                    let weight = ratio(&Gram::of(Some(base), &models, tile)) / n as f64;
                    move_to(base, &models, &vec![weight; n], out);
                }
            });
        }))
    }
}

fn move_to(base: &[f64], models: &[&[f64]], weights: &[f64], out: &mut [f64]) {
    displaced(base, models, weights, 1.0, out);
}

/// How far to go, from the inner products of the task vectors.
#[inline(always)]
fn ratio(gram: &Gram) -> f64 {
    let n = gram.len();
    let mut sum = 0.0;
    for i in 0..n {
        for j in i + 1..n {
            sum += (gram.get(i, j) / (gram.norm(i) * gram.norm(j)).max(1e-6)).clamp(-1.0, 1.0);
        }
    }
    let cosine = sum / (n * n.saturating_sub(1) / 2).max(1) as f64;
    let denominator = 1.0 + n.saturating_sub(1) as f64 * cosine;
    if denominator.abs() < 1e-6 { 0.0 } else { n as f64 * cosine / denominator }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{HostTensor, Recipe, TensorMap};

    fn of(deltas: &[&[f64]]) -> f64 {
        ratio(&Gram::of(None, deltas, &mut Vec::new()))
    }

    #[test]
    fn agreement_decides_how_far_to_go() {
        assert_eq!(of(&[&[1.0, 0.0], &[2.0, 0.0]]), 1.0);
        assert_eq!(of(&[&[1.0, 0.0], &[0.0, 1.0]]), 0.0);
        assert!((of(&[&[1.0, 0.0], &[0.5, 0.75_f64.sqrt()]]) - 2.0 / 3.0).abs() < 1e-15);
        // Cosines −1, −1 and 1 of three: c = −1/3, t = −1 / (1 − 2/3).
        assert!((of(&[&[1.0], &[-1.0], &[1.0]]) + 3.0).abs() < 1e-14);
    }

    #[test]
    fn opposing_models_leave_the_base() {
        assert_eq!(of(&[&[1.0, 2.0], &[-1.0, -2.0]]), 0.0); // The denominator is 0.
        assert_eq!(of(&[&[0.0, 0.0], &[0.0, 0.0]]), 0.0);
    }

    #[test]
    fn small_task_vectors_count_as_less_alike() {
        // The product of the norms is 1e-8, and counts as 1e-6.
        let c = 0.01;
        assert!((of(&[&[1e-4], &[1e-4]]) - 2.0 * c / (1.0 + c)).abs() < 1e-12);
    }

    #[test]
    fn each_row_has_its_own_ratio() {
        let map = |values: &[f32]| {
            TensorMap::from([
                ("m".to_owned(), HostTensor::new(vec![2, 2], values.to_vec()).unwrap()),
                ("v".to_owned(), HostTensor::vector(values.to_vec())),
            ])
        };
        let (base, a, b) = (map(&[1.0; 4]), map(&[3.0, 1.0, 2.0, 1.0]), map(&[3.0, 1.0, 1.0, 2.0]));
        let recipe =
            Recipe::new("model_stock").base("base").input("a").input("b").parameter("filter_wise", true);
        let merged = recipe.run_in_memory(Some(&base), &[&a, &b]).unwrap();
        assert_eq!(merged["m"].data(), [3.0, 1.0, 1.0, 1.0]);
        // A vector is one row: the task vectors are (2, 0, 1, 0) and (2, 0, 0, 1), c = 0.8, t = 1.6 / 1.8.
        let t = 1.6_f32 / 1.8;
        for (found, delta) in merged["v"].data().iter().zip([2.0, 0.0, 0.5, 0.5]) {
            assert!((found - (1.0 + t * delta)).abs() < 1e-6);
        }
    }
}
