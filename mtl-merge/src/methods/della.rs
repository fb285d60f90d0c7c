//! DELLA: Deep et al., *DELLA-Merging: Reducing Interference in Model Merging through Magnitude-Based Sampling*, 2024,
//! arXiv 2406.11617.
use super::{
    sparsify::{Drop, check_epsilon},
    task_vectors::{DENSITY, INT8_MASK, LAMBDA, RESCALE_MODE, WEIGHT, one_of, prepare},
};
use crate::{
    Base, Kernel, MergeMethod, MethodSpec, ParamSpec, Preset, Resolved, Result, Tensor, Work, params::SHARE,
};

static SPEC: MethodSpec = MethodSpec::new("della", "DELLA-Merging", "arXiv 2406.11617")
    .base(Base::Required)
    .models(0, None)
    .work(Work::Rows)
    .params(&[
        WEIGHT,
        DENSITY,
        ParamSpec::per_model(
            "epsilon",
            Preset::Number(0.15),
            SHARE,
            "half the spread of the keep probabilities around the density",
        ),
        ParamSpec::flag("normalize", true, "divide by the sum of the weights that agree"),
        ParamSpec::flag("rescale", true, "make up for dropped entries"),
        RESCALE_MODE,
        LAMBDA,
        INT8_MASK,
    ]);

/// Drops random entries of the task vectors, large ones more rarely: the keep probability rises with the rank of the
/// magnitude within the row, from `density − epsilon` to `density + epsilon`. Then signs are elected.
///
/// # Departures
///
/// As in mergekit, rescaling restores each tensor's sum of magnitudes; `rescale_mode: inverse_density` divides by the
/// density.
///
/// ```
/// use mtl_merge::{HostTensor, Recipe, TensorMap};
///
/// let map = |v: [f32; 2]| TensorMap::from([("w".to_owned(), HostTensor::vector(v.to_vec()))]);
/// let recipe = Recipe::new("della").base("base").model_with("a", [("weight", 1.0), ("density", 1.0)]).model_with("b", [("weight", 1.0), ("density", 1.0)]);
/// let merged = recipe.run_in_memory(Some(&map([0.0, 0.0])), &[&map([2.0, 1.0]), &map([-1.0, 3.0])])?;
/// assert_eq!(merged["w"].data(), [2.0, 2.0]); // The mean of those that agree.
/// # Ok::<(), mtl_merge::Error>(())
/// ```
#[derive(Debug, Clone, Copy)]
pub struct Della;

impl MergeMethod for Della {
    fn spec(&self) -> &'static MethodSpec {
        &SPEC
    }

    fn check(&self, params: &Resolved) -> Result<()> {
        one_of(params, "rescale_mode", &["l1", "inverse_density"])?;
        check_epsilon(params)
    }

    fn prepare<'t>(&self, tensor: &'t Tensor<'_>, params: &'t Resolved) -> Result<Kernel<'t>> {
        prepare(&SPEC, tensor, params, Drop::RandomByRank, true)
    }
}
