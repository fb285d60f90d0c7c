//! TSV-Merge: Gargiulo et al., *Task Singular Vectors: Reducing Task Interference in Model Merging*, CVPR 2025,
//! arXiv 2412.00081.
use super::matrix::{MATRIX_RULE, SCALE, add, add_mean, bytes, cannot, delta, each_model, matrix};
use crate::{
    Base, Kernel, MergeMethod, MethodSpec, Resolved, Result, Tensor, Which, Work,
    linalg::{Failure, Svd, beside, compose, noise, norm, polar, thin_svd, view},
};

static SPEC: MethodSpec = MethodSpec::new(
    "tsv_m",
    "Task Singular Vectors: Reducing Task Interference in Model Merging",
    "arXiv 2412.00081",
)
.base(Base::Required)
.work(Work::Tensors)
.params(&[SCALE, MATRIX_RULE]);

/// The leading singular vectors of all task vectors, made orthogonal to each other: `W₀ + s U⊥ Σ V⊥ᵀ`.
///
/// Of `N` task vectors with rank up to `r`, each gives its `⌊r/N⌋` leading triplets; side by side they are `U`, `Σ` and
/// `V`, and `U⊥`, `V⊥` are the polar factors of `U` and `V`. Tensors that are not matrices are averaged.
///
/// # Departures
///
/// Singular vectors of the singular value 0 are arbitrary and are left out of `U` and `V`, and so are directions that
/// tasks have in common entirely. A model equal to the base therefore does not turn the others, and equal models give
/// the leading part of their task vector.
///
/// ```
/// use mtl_merge::{HostTensor, Recipe, TensorMap};
///
/// let map = |v: [f32; 4]| Ok::<_, mtl_merge::Error>(TensorMap::from([("w".into(), HostTensor::new(vec![2, 2], v.to_vec())?)]));
/// let (base, a, b) = (map([0.0; 4])?, map([3.0, 0.0, 0.0, 0.5])?, map([0.0, 0.0, 0.0, 2.0])?);
/// let recipe = Recipe::new("tsv_m").base("base").input("a").input("b");
/// assert_eq!(recipe.run_in_memory(Some(&base), &[&a, &b])?["w"].data(), [3.0, 0.0, 0.0, 2.0]);
/// # Ok::<(), mtl_merge::Error>(())
/// ```
#[derive(Debug, Clone, Copy)]
pub struct TsvM;

impl MergeMethod for TsvM {
    fn spec(&self) -> &'static MethodSpec {
        &SPEC
    }

    fn workspace(&self, shape: &[usize], models: usize, params: &Resolved) -> Option<usize> {
        let rule = shape.len() == 2 && params.flag(MATRIX_RULE.name).unwrap_or(true);
        // A decomposition takes up to 11 times the matrix, two polar factors are formed at once.
        Some(if rule { bytes(shape, 4 + 11 * models.max(2).min(rayon::current_num_threads())) } else { 0 })
    }

    fn prepare<'t>(&self, tensor: &'t Tensor<'_>, params: &'t Resolved) -> Result<Kernel<'t>> {
        let scale = params.number(SCALE.name)?;
        let Some((rows, cols)) = matrix(tensor, params)? else { return Ok(add_mean(scale)) };
        let k = rows.min(cols) / tensor.n_models();
        if k == 0 {
            tensor.warn("has a smaller rank than there are models, so nothing of their task vectors is left");
        }
        let base = tensor.load(Which::Base)?;
        let parts = each_model(tensor, |model| {
            leading(&delta(tensor, &base, model)?, rows, cols, k).map_err(|e| cannot(tensor, e))
        })?;
        drop(base);
        Ok(add(merge(rows, cols, &parts).map_err(|e| cannot(tensor, e))?, scale))
    }
}

/// The `k` leading triplets of a row-major matrix.
pub(super) fn leading(values: &[f64], rows: usize, cols: usize, k: usize) -> Result<Svd, Failure> {
    let floor = noise(rows, cols, norm(values));
    Ok(thin_svd(view(values, rows, cols), floor)?.leading(k))
}

/// `U⊥ Σ V⊥ᵀ` of triplets side by side, row-major.
fn merge(rows: usize, cols: usize, parts: &[Svd]) -> Result<Vec<f64>, Failure> {
    let (u, v) = orthogonal(rows, cols, parts)?;
    let s: Vec<f64> = parts.iter().flat_map(|p| &p.s).copied().collect();
    Ok(compose(u.as_ref(), &s, v.transpose()))
}

/// Polar factors of the singular vectors side by side.
pub(super) fn orthogonal(
    rows: usize,
    cols: usize,
    parts: &[Svd],
) -> Result<(faer::Mat<f64>, faer::Mat<f64>), Failure> {
    let u = beside(rows, parts.iter().map(|p| p.u.as_ref()));
    let v = beside(cols, parts.iter().map(|p| p.v.as_ref()));
    let (u, v) = rayon::join(|| polar(u.as_ref()), || polar(v.as_ref()));
    Ok((u?, v?))
}
