//! Iso-CTS: Marczak et al., *No Task Left Behind: Isotropic Model Merging with Common and Task-Specific Subspaces*, ICML
//! 2025, arXiv 2502.04959.
use super::{
    iso_c::sum,
    matrix::{MATRIX_RULE, SCALE, add, add_mean, bytes, cannot, delta, each_model, matrix},
    tsv_m::{leading, orthogonal},
};
use crate::{
    Base, Kernel, MergeMethod, MethodSpec, ParamSpec, Preset, Resolved, Result, Tensor, Which, Work,
    linalg::{Failure, Svd, add_product, compose, noise, norm, product, thin_svd, view},
    params::SHARE,
};

static SPEC: MethodSpec = MethodSpec::new(
    "iso_cts",
    "No Task Left Behind: Isotropic Model Merging with Common and Task-Specific Subspaces",
    "arXiv 2502.04959",
)
.base(Base::Required)
.work(Work::Tensors)
.params(&[
    SCALE,
    ParamSpec::number(
        "common_fraction",
        Preset::Number(0.8),
        SHARE,
        "share of the directions that all tasks have in common",
    ),
    MATRIX_RULE,
]);

/// Common directions of the summed task vectors and further ones of each task, all of equal weight.
///
/// The leading `k` triplets of `Σ δᵢ` span the common space; every task adds the leading triplets of what `δᵢ` has
/// outside it, the same number for each, so that there are `min(rows, cols)` in all. `U` and `V` are made orthonormal by
/// their polar factors, and the singular values are replaced by their mean: `W₀ + s σ̄ U⊥ V⊥ᵀ`. `k` is
/// `common_fraction` of the rank, rounded so that the rest divides by the number of tasks. Tensors that are not matrices
/// are averaged.
///
/// # Departures
///
/// Singular vectors of the singular value 0 are arbitrary and are left out. When rounding the tasks' part would exceed
/// the rank, it is rounded down.
///
/// ```
/// use mtl_merge::{HostTensor, Recipe, TensorMap};
///
/// let map = |v: [f32; 4]| Ok::<_, mtl_merge::Error>(TensorMap::from([("w".into(), HostTensor::new(vec![2, 2], v.to_vec())?)]));
/// let (base, a, b) = (map([0.0; 4])?, map([3.0, 0.0, 0.0, 0.0])?, map([0.0, 0.0, 0.0, 1.0])?);
/// let recipe = Recipe::new("iso_cts").base("base").input("a").input("b").parameter("common_fraction", 0.0);
/// assert_eq!(recipe.run_in_memory(Some(&base), &[&a, &b])?["w"].data(), [2.0, 0.0, 0.0, 2.0]);
/// # Ok::<(), mtl_merge::Error>(())
/// ```
#[derive(Debug, Clone, Copy)]
pub struct IsoCts;

impl MergeMethod for IsoCts {
    fn spec(&self) -> &'static MethodSpec {
        &SPEC
    }

    fn workspace(&self, shape: &[usize], models: usize, params: &Resolved) -> Option<usize> {
        let rule = shape.len() == 2 && params.flag(MATRIX_RULE.name).unwrap_or(true);
        // A decomposition takes up to 11 times the matrix, two polar factors are formed at once.
        Some(if rule { bytes(shape, 6 + 11 * models.max(2).min(rayon::current_num_threads())) } else { 0 })
    }

    fn prepare<'t>(&self, tensor: &'t Tensor<'_>, params: &'t Resolved) -> Result<Kernel<'t>> {
        let scale = params.number(SCALE.name)?;
        let Some((rows, cols)) = matrix(tensor, params)? else { return Ok(add_mean(scale)) };
        let (k, per_task) = split(rows.min(cols), tensor.n_models(), params.number("common_fraction")?);
        let common = leading(&sum(tensor)?, rows, cols, k).map_err(|e| cannot(tensor, e))?;
        let base = tensor.load(Which::Base)?;
        let mut parts = each_model(tensor, |model| {
            outside(delta(tensor, &base, model)?, rows, cols, &common, per_task)
                .map_err(|e| cannot(tensor, e))
        })?;
        drop(base);
        parts.push(common);
        let (u, v) = orthogonal(rows, cols, &parts).map_err(|e| cannot(tensor, e))?;
        let s: Vec<f64> = parts.iter().flat_map(|p| &p.s).copied().collect();
        let mean = s.iter().sum::<f64>() / s.len() as f64;
        Ok(add(compose(u.as_ref(), &vec![mean; s.len()], v.transpose()), scale))
    }
}

/// Directions in common, and of each task.
fn split(rank: usize, tasks: usize, fraction: f64) -> (usize, usize) {
    let rest = rank - ((rank as f64 * fraction) as usize).min(rank);
    let per_task = (rest as f64 / tasks as f64).round_ties_even() as usize;
    let per_task = per_task.min(rank / tasks);
    (rank - per_task * tasks, per_task)
}

/// The leading triplets of what the task vector has outside the common columns.
fn outside(mut values: Vec<f64>, rows: usize, cols: usize, common: &Svd, k: usize) -> Result<Svd, Failure> {
    // What is zero is decided by the task vector: its remainder may be rounding alone.
    let floor = noise(rows, cols, norm(&values));
    let shares = product(common.u.transpose(), view(&values, rows, cols)); // [k, cols]
    let rest = faer::MatMut::from_row_major_slice_mut(&mut values, rows, cols);
    add_product(rest, common.u.as_ref(), shares.as_ref(), -1.0);
    Ok(thin_svd(view(&values, rows, cols), floor)?.leading(k))
}

#[cfg(test)]
mod tests {
    use super::split;

    #[test]
    fn directions_are_split_as_the_authors_round() {
        assert_eq!(split(6, 3, 0.8), (3, 1)); // ⌊4.8⌋ = 4 leaves 2, and 2/3 rounds to 1 each.
        assert_eq!(split(9, 2, 0.8), (7, 1));
        assert_eq!(split(768, 8, 0.8), (616, 19)); // 154/8 = 19.25.
        assert_eq!(split(5, 2, 0.0), (1, 2)); // 2.5 rounds to even.
        assert_eq!(split(2, 3, 0.0), (2, 0), "never more than there are");
        assert_eq!(split(4, 2, 1.0), (4, 0));
    }
}
