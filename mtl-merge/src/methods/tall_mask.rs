//! TALL masks: Wang et al., *Localizing Task Information for Improved Model Merging and Compression*, ICML 2024,
//! arXiv 2405.07813.
use super::{
    task::{TASK, Version, check_task, version},
    weighted_sum,
};
use crate::{
    Base, Kernel, MergeMethod, MethodSpec, ParamSpec, Preset, Resolved, Result, Survey, Tensor,
    params::NON_NEGATIVE,
};

/// Where a model's own weights count as its own.
pub(super) const LAMBDA: ParamSpec = ParamSpec::per_model(
    "lambda",
    Preset::Number(0.6),
    NON_NEGATIVE,
    "threshold of the model's mask; the authors choose from 0.2 to 0.6 on validation data",
);

static SPEC: MethodSpec = MethodSpec::new(
    "tall_mask",
    "Localizing Task Information for Improved Model Merging and Compression",
    "arXiv 2405.07813",
)
.base(Base::Required)
.surveys()
.params(&[LAMBDA, TASK]);

/// One task's part of the summed task vectors: `W₀ + mᵢ ⊙ τ` with `τ = Σ δⱼ` and the mask
/// `mᵢ = |δᵢ| > λᵢ |τ − δᵢ|`, where model `i` is `task`; without `task` the multi-task model `W₀ + τ`.
///
/// ```
/// use mtl_merge::{HostTensor, Recipe, TensorMap};
///
/// let map = |v: [f32; 2]| TensorMap::from([("w".to_owned(), HostTensor::vector(v.to_vec()))]);
/// let (base, a, b) = (map([0.0, 0.0]), map([4.0, 1.0]), map([1.0, 4.0]));
/// let recipe = Recipe::new("tall_mask").base("base").input("a").input("b");
/// assert_eq!(recipe.run_in_memory(Some(&base), &[&a, &b])?["w"].data(), [5.0, 5.0]);
/// let recipe = recipe.parameter("task", 0.0);
/// assert_eq!(recipe.run_in_memory(Some(&base), &[&a, &b])?["w"].data(), [5.0, 0.0]);
/// # Ok::<(), mtl_merge::Error>(())
/// ```
#[derive(Debug, Clone, Copy)]
pub struct TallMask;

/// Whether the weight is one that the task itself moved.
#[inline(always)]
pub(super) fn owned(delta: f64, sum: f64, lambda: f64) -> bool {
    delta.abs() > lambda * (sum - delta).abs()
}

impl MergeMethod for TallMask {
    fn spec(&self) -> &'static MethodSpec {
        &SPEC
    }

    fn survey(&self, tensors: &[(Tensor<'_>, &Resolved)]) -> Result<Survey> {
        check_task(tensors)?;
        Ok(Box::new(()))
    }

    fn prepare<'t>(&self, tensor: &'t Tensor<'_>, params: &'t Resolved) -> Result<Kernel<'t>> {
        let lambdas = params.per_model(LAMBDA.name)?;
        let version = version(tensor, params);
        Ok(Box::new(move |piece, out| {
            let Some(base) = piece.base else { return };
            weighted_sum(Some(base), piece.models, &vec![1.0; piece.models.len()], out);
            let own = match version {
                Version::Of(model) => piece.models.get(model).zip(lambdas.get(model)),
                _ => None,
            };
            for (i, (x, x0)) in out.iter_mut().zip(base).enumerate() {
                let keep = match (version, own) {
                    (Version::Unified, _) => true,
                    (_, Some((model, &lambda))) => owned(model[i] - x0, *x, lambda),
                    _ => false,
                };
                *x = if keep { x0 + *x } else { *x0 };
            }
        }))
    }
}
