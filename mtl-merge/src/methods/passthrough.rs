//! Passing tensors through: stacks layers of several models, or of one, as they are (mergekit, arXiv 2403.13257).
use super::weighted_sum;
use crate::{Kernel, MergeMethod, MethodSpec, ParamSpec, Preset, Resolved, Result, Tensor, params::FINITE};

static SPEC: MethodSpec = MethodSpec::new("passthrough", "Arcee's MergeKit", "arXiv 2403.13257")
    .models(1, Some(1))
    .params(&[ParamSpec::per_model("scale", Preset::Absent, FINITE, "factor of the tensor")]);

/// The one model's tensor, times `scale` if there is one: `s W`.
///
/// ```
/// use mtl_merge::{HostTensor, Recipe, TensorMap};
///
/// let a = TensorMap::from([("w".to_owned(), HostTensor::vector(vec![1.0, -2.0]))]);
/// let recipe = Recipe::new("passthrough").model_with("a", [("scale", 0.5)]);
/// assert_eq!(recipe.run_in_memory(None, &[&a])?["w"].data(), [0.5, -1.0]);
/// # Ok::<(), mtl_merge::Error>(())
/// ```
#[derive(Debug, Clone, Copy)]
pub struct Passthrough;

impl MergeMethod for Passthrough {
    fn spec(&self) -> &'static MethodSpec {
        &SPEC
    }

    fn prepare<'t>(&self, _tensor: &'t Tensor<'_>, params: &'t Resolved) -> Result<Kernel<'t>> {
        let scale = params.per_model("scale").map_or(1.0, |scales| scales[0]);
        Ok(Box::new(move |piece, out| {
            weighted_sum(None, piece.models, &[scale], out);
        }))
    }
}
