//! DARE: Yu et al., *Language Models are Super Mario: Absorbing Abilities from Homologous Models as a Free Lunch*, ICML
//! 2024, arXiv 2311.03099.
use super::{
    sparsify::Drop,
    task_vectors::{DENSITY, INT8_MASK, LAMBDA, RESCALE_MODE, WEIGHT, one_of, prepare},
};
use crate::{Base, Kernel, MergeMethod, MethodSpec, ParamSpec, Resolved, Result, Tensor};

static SPEC: MethodSpec =
    MethodSpec::new("dare_linear", "Language Models are Super Mario", "arXiv 2311.03099")
        .base(Base::Required)
        .models(0, None)
        .params(&[
            WEIGHT,
            DENSITY,
            ParamSpec::flag("normalize", false, "divide by the sum of the weights"),
            ParamSpec::flag("rescale", true, "make up for dropped entries"),
            RESCALE_MODE,
            LAMBDA,
            INT8_MASK,
        ]);

/// The base plus the weighted sum of task vectors of which random entries are dropped, each kept with probability `density`.
///
/// # Departures
///
/// As in mergekit, rescaling restores each tensor's sum of magnitudes; `rescale_mode: inverse_density` divides by the
/// density, as the paper does.
///
/// ```
/// use mtl_merge::{HostTensor, Recipe, TensorMap};
///
/// let map = |v: [f32; 2]| TensorMap::from([("w".to_owned(), HostTensor::vector(v.to_vec()))]);
/// let recipe = Recipe::new("dare_linear").base("base").model_with("a", [("weight", 1.0), ("density", 1.0)]).model_with("b", [("weight", 1.0), ("density", 1.0)]);
/// let merged = recipe.run_in_memory(Some(&map([1.0, 1.0])), &[&map([2.0, 1.0]), &map([1.0, 3.0])])?;
/// assert_eq!(merged["w"].data(), [2.0, 3.0]); // Nothing is dropped.
/// # Ok::<(), mtl_merge::Error>(())
/// ```
#[derive(Debug, Clone, Copy)]
pub struct DareLinear;

impl MergeMethod for DareLinear {
    fn spec(&self) -> &'static MethodSpec {
        &SPEC
    }

    fn check(&self, params: &Resolved) -> Result<()> {
        one_of(params, "rescale_mode", &["l1", "inverse_density"])
    }

    fn prepare<'t>(&self, tensor: &'t Tensor<'_>, params: &'t Resolved) -> Result<Kernel<'t>> {
        prepare(&SPEC, tensor, params, Drop::Random, false)
    }
}
