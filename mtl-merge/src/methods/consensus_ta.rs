//! Consensus merging: Wang et al., *Localizing Task Information for Improved Model Merging and Compression*, ICML 2024,
//! arXiv 2405.07813.
use super::{
    tall_mask::{LAMBDA, owned},
    weighted_sum,
};
use crate::{
    Base, Kernel, MergeMethod, MethodSpec, ParamSpec, Preset, Resolved, Result, Tensor,
    params::{COUNT, FINITE},
};

static SPEC: MethodSpec = MethodSpec::new(
    "consensus_ta",
    "Localizing Task Information for Improved Model Merging and Compression",
    "arXiv 2405.07813",
)
.base(Base::Required)
.models(2, None)
.params(&[
    LAMBDA,
    ParamSpec::number("k", Preset::Number(2.0), COUNT, "tasks that must use a weight for it to be kept"),
    ParamSpec::number("scale", Preset::Number(0.3), FINITE, "factor of the task vectors that are kept"),
]);

/// The base plus those summed task vectors that several tasks use: `W₀ + s (keep ⊙ Σ δᵢ)`, where `keep` marks the weights
/// that the [TALL masks](super::TallMask) of at least `k` tasks hold.
///
/// `k` = 2 drops the weights of no task and of a single one; 0 is task arithmetic.
///
/// ```
/// use mtl_merge::{HostTensor, Recipe, TensorMap};
///
/// let map = |v: [f32; 2]| TensorMap::from([("w".to_owned(), HostTensor::vector(v.to_vec()))]);
/// let (base, a, b) = (map([0.0, 0.0]), map([4.0, 2.0]), map([1.0, 2.0]));
/// let recipe = Recipe::new("consensus_ta").base("base").input("a").input("b").parameter("scale", 1.0);
/// assert_eq!(recipe.run_in_memory(Some(&base), &[&a, &b])?["w"].data(), [0.0, 4.0]);
/// # Ok::<(), mtl_merge::Error>(())
/// ```
#[derive(Debug, Clone, Copy)]
pub struct ConsensusTa;

impl MergeMethod for ConsensusTa {
    fn spec(&self) -> &'static MethodSpec {
        &SPEC
    }

    fn prepare<'t>(&self, _tensor: &'t Tensor<'_>, params: &'t Resolved) -> Result<Kernel<'t>> {
        let lambdas = params.per_model(LAMBDA.name)?;
        let (k, scale) = (params.number("k")? as usize, params.number("scale")?);
        Ok(Box::new(move |piece, out| {
            let Some(base) = piece.base else { return };
            weighted_sum(Some(base), piece.models, &vec![1.0; piece.models.len()], out);
            for (i, (x, x0)) in out.iter_mut().zip(base).enumerate() {
                let users = piece.models.iter().zip(lambdas);
                let users = users.filter(|(model, lambda)| owned(model[i] - x0, *x, **lambda)).count();
                *x = if users >= k { x0 + scale * *x } else { *x0 };
            }
        }))
    }
}
