//! TIES: Yadav et al., *TIES-Merging: Resolving Interference When Merging Models*, NeurIPS 2023, arXiv 2306.01708.
use super::{
    sparsify::{Drop, ModelThresholds, keys, share},
    task_vectors::{DENSITY, INT8_MASK, LAMBDA, WEIGHT, one_of, prepare},
};
use crate::{
    Base, Kernel, MergeMethod, MethodSpec, ParamSpec, Preset, Resolved, Result, Survey, Tensor,
    select::{Rank, select_among},
};

static SPEC: MethodSpec =
    MethodSpec::new("ties", "TIES-Merging: Resolving Interference When Merging Models", "arXiv 2306.01708")
        .base(Base::Required)
        .models(0, None)
        .surveys()
        .params(&[
            WEIGHT,
            DENSITY,
            ParamSpec::flag("normalize", true, "divide by the sum of the weights that agree"),
            ParamSpec::flag("rescale", false, "restore the sum of magnitudes after trimming"),
            ParamSpec::text(
                "trim_scope",
                Preset::Text("tensor"),
                "`tensor` or `model`: where the largest entries are looked for",
            ),
            LAMBDA,
            INT8_MASK,
        ]);

/// Trims each task vector to its largest entries, elects a sign for each element by the weighted sum, and averages the
/// entries that agree with it.
///
/// # Departures
///
/// As in mergekit, `density` of the entries are kept in each tensor; with `trim_scope: model`, as in the paper, of the
/// whole model. Of equal magnitudes the first in the tensor are kept.
///
/// ```
/// use mtl_merge::{HostTensor, Recipe, TensorMap};
///
/// let map = |v: [f32; 4]| TensorMap::from([("w".to_owned(), HostTensor::vector(v.to_vec()))]);
/// let kept = [("weight", 1.0), ("density", 0.5)];
/// let recipe = Recipe::new("ties").base("base").model_with("a", kept).model_with("b", kept);
/// let models = [&map([5.0, 0.1, -3.0, 0.2]), &map([3.0, 0.1, 4.0, 0.2])];
/// let merged = recipe.run_in_memory(Some(&map([0.0; 4])), &models)?;
/// assert_eq!(merged["w"].data(), [4.0, 0.0, 4.0, 0.0]); // −3 lost the election against 4.
/// # Ok::<(), mtl_merge::Error>(())
/// ```
#[derive(Debug, Clone, Copy)]
pub struct Ties;

impl MergeMethod for Ties {
    fn spec(&self) -> &'static MethodSpec {
        &SPEC
    }

    fn check(&self, params: &Resolved) -> Result<()> {
        one_of(params, "trim_scope", &["tensor", "model"])
    }

    /// Finds one threshold per model over all tensors trimmed with `trim_scope: model`.
    fn survey(&self, tensors: &[(Tensor<'_>, &Resolved)]) -> Result<Survey> {
        let whole: Vec<_> = tensors.iter().filter(|(_, p)| p.text("trim_scope") == Some("model")).collect();
        let mut found = ModelThresholds::default();
        let models = whole.iter().flat_map(|(t, _)| (0..t.n_models()).map(|i| t.number(i) + 1)).max();
        let Some(models) = models else { return Ok(Box::new(())) };
        let mut n = 0;
        for (tensor, _) in &whole {
            found.offsets.insert(tensor.name().to_owned(), n);
            n += tensor.numel();
        }
        let views: Vec<&Tensor<'_>> = whole.iter().map(|(tensor, _)| tensor).collect();
        for model in 0..models {
            let place = |tensor: &Tensor<'_>| (0..tensor.n_models()).find(|&i| tensor.number(i) == model);
            // Where densities differ from tensor to tensor, their mean by size decides.
            let mut kept = 0.0;
            for (tensor, params) in &whole {
                if let Some(i) = place(tensor) {
                    kept += params.per_model("density")?[i].clamp(0.0, 1.0) * tensor.numel() as f64;
                }
            }
            let k = share(kept / n as f64, n).max(1);
            let threshold = select_among(&views, &[Rank { list: 0, k }], |at, piece, _, out: &mut [i32]| {
                let base = piece.base.unwrap_or_default();
                match place(views[at]) {
                    Some(i) => keys(base, piece.models[i], out),
                    None => out.fill(0),
                }
            })?;
            found.thresholds.extend(threshold);
        }
        Ok(Box::new(found))
    }

    fn prepare<'t>(&self, tensor: &'t Tensor<'_>, params: &'t Resolved) -> Result<Kernel<'t>> {
        prepare(&SPEC, tensor, params, Drop::Small, true)
    }
}
