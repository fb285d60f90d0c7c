//! DARE (Yu et al., ICML 2024, arXiv 2311.03099) with the sign election of TIES (Yadav et al., arXiv 2306.01708).
use super::{
    sparsify::Drop,
    task_vectors::{DENSITY, INT8_MASK, LAMBDA, RESCALE_MODE, WEIGHT, one_of, prepare},
};
use crate::{Base, Kernel, MergeMethod, MethodSpec, ParamSpec, Resolved, Result, Tensor};

static SPEC: MethodSpec = MethodSpec::new("dare_ties", "Language Models are Super Mario", "arXiv 2311.03099")
    .base(Base::Required)
    .models(0, None)
    .params(&[
        WEIGHT,
        DENSITY,
        ParamSpec::flag("normalize", false, "divide by the sum of the weights that agree"),
        ParamSpec::flag("rescale", true, "make up for dropped entries"),
        RESCALE_MODE,
        LAMBDA,
        INT8_MASK,
    ]);

/// Drops random entries of the task vectors as [`DareLinear`](super::DareLinear) does, elects a sign for each element, and adds
/// up the entries that agree with it.
///
/// ```
/// use mtl_merge::{HostTensor, Recipe, TensorMap};
///
/// let map = |v: [f32; 2]| TensorMap::from([("w".to_owned(), HostTensor::vector(v.to_vec()))]);
/// let recipe = Recipe::new("dare_ties").base("base").model_with("a", [("weight", 1.0), ("density", 1.0)]).model_with("b", [("weight", 1.0), ("density", 1.0)]);
/// let merged = recipe.run_in_memory(Some(&map([0.0, 0.0])), &[&map([2.0, 1.0]), &map([-1.0, 3.0])])?;
/// assert_eq!(merged["w"].data(), [2.0, 4.0]); // −1 lost the election.
/// # Ok::<(), mtl_merge::Error>(())
/// ```
#[derive(Debug, Clone, Copy)]
pub struct DareTies;

impl MergeMethod for DareTies {
    fn spec(&self) -> &'static MethodSpec {
        &SPEC
    }

    fn check(&self, params: &Resolved) -> Result<()> {
        one_of(params, "rescale_mode", &["l1", "inverse_density"])
    }

    fn prepare<'t>(&self, tensor: &'t Tensor<'_>, params: &'t Resolved) -> Result<Kernel<'t>> {
        prepare(&SPEC, tensor, params, Drop::Random, true)
    }
}
