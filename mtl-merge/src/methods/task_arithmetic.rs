//! Task arithmetic: Ilharco et al., *Editing Models with Task Arithmetic*, ICLR 2023, arXiv 2212.04089.
use super::displaced;
use crate::{
    Base, Kernel, MergeMethod, MethodSpec, ParamSpec, Preset, Resolved, Result, Tensor,
    params::{FINITE, SHARE},
};

static SPEC: MethodSpec =
    MethodSpec::new("task_arithmetic", "Editing Models with Task Arithmetic", "arXiv 2212.04089")
        .base(Base::Required)
        .models(0, None)
        .params(&[
            ParamSpec::per_model("weight", Preset::Required, FINITE, "factor of the model's task vector"),
            ParamSpec::flag("normalize", false, "divide by the sum of the weights"),
            ParamSpec::number("lambda", Preset::Number(1.0), FINITE, "factor of the summed task vectors"),
            ParamSpec::per_model(
                "density",
                Preset::Number(1.0),
                SHARE,
                "no effect; accepted for compatibility",
            ),
            ParamSpec::flag("rescale", false, "no effect; accepted for compatibility"),
            ParamSpec::flag("int8_mask", false, "no effect; accepted for compatibility"),
        ]);

/// The base plus the weighted sum of task vectors: `W₀ + λ Σ wᵢ (Wᵢ − W₀)`.
///
/// With `normalize` the sum is divided by `Σ wᵢ`; a sum of the weights below 1e-8 in magnitude counts as 1.
///
/// ```
/// use mtl_merge::{HostTensor, Recipe, TensorMap};
///
/// let map = |v: [f32; 2]| TensorMap::from([("w".to_owned(), HostTensor::vector(v.to_vec()))]);
/// let (base, a, b) = (map([1.0, 1.0]), map([2.0, 1.0]), map([1.0, 3.0]));
/// let recipe = Recipe::new("task_arithmetic").base("base").model("a", 1.0).model("b", 0.5);
/// assert_eq!(recipe.run_in_memory(Some(&base), &[&a, &b])?["w"].data(), [2.0, 2.0]);
/// # Ok::<(), mtl_merge::Error>(())
/// ```
#[derive(Debug, Clone, Copy)]
pub struct TaskArithmetic;

impl MergeMethod for TaskArithmetic {
    fn spec(&self) -> &'static MethodSpec {
        &SPEC
    }

    fn prepare<'t>(&self, _tensor: &'t Tensor<'_>, params: &'t Resolved) -> Result<Kernel<'t>> {
        let weights = params.per_model("weight")?;
        let sum: f64 = weights.iter().sum();
        let divisor = if params.flag("normalize")? && sum.abs() >= 1e-8 { sum } else { 1.0 };
        let factor = params.number("lambda")? / divisor;
        Ok(Box::new(move |piece, out| {
            let Some(base) = piece.base else { return };
            displaced(base, piece.models, weights, factor, out);
        }))
    }
}
