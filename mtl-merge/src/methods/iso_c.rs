//! Iso-C: Marczak et al., *No Task Left Behind: Isotropic Model Merging with Common and Task-Specific Subspaces*, ICML
//! 2025, arXiv 2502.04959.
use super::matrix::{MATRIX_RULE, SCALE, add, add_mean, bytes, cannot, delta, matrix};
use crate::{
    Base, Kernel, MergeMethod, MethodSpec, Resolved, Result, Tensor, Which, Work,
    linalg::{Failure, compose, noise, norm, thin_svd, view},
};

static SPEC: MethodSpec = MethodSpec::new(
    "iso_c",
    "No Task Left Behind: Isotropic Model Merging with Common and Task-Specific Subspaces",
    "arXiv 2502.04959",
)
.base(Base::Required)
.work(Work::Tensors)
.params(&[SCALE, MATRIX_RULE]);

/// The summed task vectors with equal singular values: `W₀ + s σ̄ U Vᵀ`, where `Σ δᵢ = U diag(σ) Vᵀ` and `σ̄` is the mean
/// of `σ`.
///
/// The mean is over `min(rows, cols)` values. Tensors that are not matrices are averaged. The authors report results
/// with `scale` up to 1.5.
///
/// # Departures
///
/// Singular vectors of the singular value 0 are arbitrary and are left out.
///
/// ```
/// use mtl_merge::{HostTensor, Recipe, TensorMap};
///
/// let map = |v: [f32; 4]| Ok::<_, mtl_merge::Error>(TensorMap::from([("w".into(), HostTensor::new(vec![2, 2], v.to_vec())?)]));
/// let (base, a, b) = (map([0.0; 4])?, map([3.0, 0.0, 0.0, 0.5])?, map([0.0, 0.0, 0.0, 0.5])?);
/// let recipe = Recipe::new("iso_c").base("base").input("a").input("b");
/// assert_eq!(recipe.run_in_memory(Some(&base), &[&a, &b])?["w"].data(), [2.0, 0.0, 0.0, 2.0]);
/// # Ok::<(), mtl_merge::Error>(())
/// ```
#[derive(Debug, Clone, Copy)]
pub struct IsoC;

impl MergeMethod for IsoC {
    fn spec(&self) -> &'static MethodSpec {
        &SPEC
    }

    fn workspace(&self, shape: &[usize], _models: usize, params: &Resolved) -> Option<usize> {
        let rule = shape.len() == 2 && params.flag(MATRIX_RULE.name).unwrap_or(true);
        Some(if rule { bytes(shape, 14) } else { 0 }) // Sum, factors, result and scratch.
    }

    fn prepare<'t>(&self, tensor: &'t Tensor<'_>, params: &'t Resolved) -> Result<Kernel<'t>> {
        let scale = params.number(SCALE.name)?;
        let Some((rows, cols)) = matrix(tensor, params)? else { return Ok(add_mean(scale)) };
        let sum = sum(tensor)?;
        Ok(add(isotropic(&sum, rows, cols).map_err(|e| cannot(tensor, e))?, scale))
    }
}

/// `Σ δᵢ`, row-major.
pub(super) fn sum(tensor: &Tensor<'_>) -> Result<Vec<f64>> {
    let base = tensor.load(Which::Base)?;
    let mut sum = vec![0.0; base.len()];
    for model in 0..tensor.n_models() {
        let delta = delta(tensor, &base, model)?;
        sum.iter_mut().zip(delta).for_each(|(x, d)| *x += d);
    }
    Ok(sum)
}

/// The matrix with its singular values replaced by their mean, row-major.
fn isotropic(values: &[f64], rows: usize, cols: usize) -> Result<Vec<f64>, Failure> {
    let svd = thin_svd(view(values, rows, cols), noise(rows, cols, norm(values)))?;
    let mean = svd.s.iter().sum::<f64>() / svd.s.len() as f64;
    Ok(compose(svd.u.as_ref(), &vec![mean; svd.s.len()], svd.v.transpose()))
}
