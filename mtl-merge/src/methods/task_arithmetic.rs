//! Task arithmetic: Ilharco et al., *Editing Models with Task Arithmetic*, ICLR 2023, arXiv 2212.04089.
use super::weighted_sum;
use crate::{
    Base, MergeMethod, MethodSpec, ParamKind, ParamSpec, ParamValue, Resolved, Result, TensorGroup, Work,
    params::FINITE,
};
use mtl_core::registry::MethodInfo;

static SPEC: MethodSpec = MethodSpec {
    info: MethodInfo {
        name: "task_arithmetic",
        paper: "Editing Models with Task Arithmetic",
        source: "arXiv 2212.04089",
    },
    base: Base::Required,
    min_models: 1,
    max_models: None,
    work: Work::Elements,
    params: &[
        ParamSpec {
            name: "weight",
            kind: ParamKind::PerModel(FINITE),
            default: None,
            about: "factor of the model's task vector; negative to forget the task",
        },
        ParamSpec {
            name: "lambda",
            kind: ParamKind::Number(FINITE),
            default: Some(ParamValue::Number(1.0)),
            about: "scale of the sum of task vectors",
        },
        ParamSpec {
            name: "normalize",
            kind: ParamKind::Flag,
            default: Some(ParamValue::Flag(false)),
            about: "divide the sum by the sum of the weights, unless that is 0",
        },
    ],
};

/// Adds scaled task vectors to the base: `W₀ + λ Σ wᵢ (Wᵢ − W₀)`.
///
/// With `normalize` the sum is divided by `Σ wᵢ`; weights that cancel (|Σ wᵢ| < 1e-8) are then left as they are, as
/// in mergekit.
///
/// ```
/// use mtl_merge::{HostTensor, Recipe, TensorMap};
///
/// let map = |values: [f32; 2]| TensorMap::from([("w".to_owned(), HostTensor::vector(values.to_vec()))]);
/// let (base, add, forget) = (map([1.0, 1.0]), map([3.0, 1.0]), map([1.0, 2.0]));
/// let recipe = Recipe::new("task_arithmetic").base("base").model("add", 1.0).model("forget", -1.0);
/// let merged = recipe.parameter("lambda", 0.5).run_in_memory(Some(&base), &[&add, &forget])?;
/// assert_eq!(merged["w"].data(), [2.0, 0.5]);
/// # Ok::<(), mtl_merge::Error>(())
/// ```
#[derive(Debug, Clone, Copy)]
pub struct TaskArithmetic;

impl MergeMethod for TaskArithmetic {
    fn spec(&self) -> &'static MethodSpec {
        &SPEC
    }

    fn merge(&self, group: &TensorGroup<'_>, params: &Resolved, out: &mut [f32]) -> Result<()> {
        let base = group.required_base(&SPEC)?;
        let weights = params.per_model("weight")?;
        let sum: f64 = weights.iter().sum();
        let divisor = if params.flag("normalize")? && sum.abs() >= 1e-8 { sum } else { 1.0 };
        let scale = params.number("lambda")? / divisor;
        weighted_sum(Some(base), group.models, weights, out, |x0, sum| x0 + scale * sum);
        Ok(())
    }
}
