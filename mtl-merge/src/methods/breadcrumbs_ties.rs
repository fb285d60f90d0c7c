//! Model Breadcrumbs (Davari and Belilovsky, ECCV 2024, arXiv 2312.06795) with the sign election of TIES (arXiv
//! 2306.01708).
use super::{
    sparsify::Drop,
    task_vectors::{DENSITY, INT8_MASK, LAMBDA, WEIGHT, prepare},
};
use crate::{
    Base, Kernel, MergeMethod, MethodSpec, ParamSpec, Preset, Resolved, Result, Tensor, params::SHARE,
};

static SPEC: MethodSpec = MethodSpec::new("breadcrumbs_ties", "Model Breadcrumbs", "arXiv 2312.06795")
    .base(Base::Required)
    .models(0, None)
    .params(&[
        WEIGHT,
        DENSITY,
        ParamSpec::per_model(
            "gamma",
            Preset::Number(0.01),
            SHARE,
            "share of the entries, the largest, that are dropped",
        ),
        ParamSpec::flag("normalize", false, "divide by the sum of the weights that agree"),
        ParamSpec::flag("rescale", false, "make up for dropped entries"),
        LAMBDA,
        INT8_MASK,
    ]);

/// Drops entries as [`Breadcrumbs`](super::Breadcrumbs) does, elects a sign for each element, and adds up the entries that
/// agree with it.
///
/// ```
/// use mtl_merge::{HostTensor, Recipe, TensorMap};
///
/// let map = |v: [f32; 4]| TensorMap::from([("w".to_owned(), HostTensor::vector(v.to_vec()))]);
/// let recipe = Recipe::new("breadcrumbs_ties").base("base").model_with("a", [("weight", 1.0), ("density", 0.5), ("gamma", 0.25)]).model_with("b", [("weight", 1.0), ("density", 0.5), ("gamma", 0.25)]);
/// let merged = recipe.run_in_memory(Some(&map([0.0, 0.0, 0.0, 0.0])), &[&map([1.0, 2.0, 3.0, 9.0]), &map([1.0, -3.0, 2.0, 9.0])])?;
/// assert_eq!(merged["w"].data(), [0.0, -3.0, 5.0, 0.0]);
/// # Ok::<(), mtl_merge::Error>(())
/// ```
#[derive(Debug, Clone, Copy)]
pub struct BreadcrumbsTies;

impl MergeMethod for BreadcrumbsTies {
    fn spec(&self) -> &'static MethodSpec {
        &SPEC
    }

    fn prepare<'t>(&self, tensor: &'t Tensor<'_>, params: &'t Resolved) -> Result<Kernel<'t>> {
        prepare(&SPEC, tensor, params, Drop::SmallAndLarge, true)
    }
}
