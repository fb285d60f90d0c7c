//! Fisher merging: Matena and Raffel, *Merging Models with Fisher-Weighted Averaging*, NeurIPS 2022, arXiv 2111.09832.
use super::statistics::Statistics;
use crate::{
    Kernel, MergeMethod, MethodSpec, ParamSpec, Preset, Resolved, Result, Survey, Tensor,
    params::{NON_NEGATIVE, POSITIVE},
};
use rayon::prelude::*;

/// The parameter that names the files.
const FISHER: &str = "fisher";
/// Elements read at a time.
const CHUNK: usize = 1 << 16;

static SPEC: MethodSpec =
    MethodSpec::new("fisher", "Merging Models with Fisher-Weighted Averaging", "arXiv 2111.09832")
        .surveys()
        .params(&[
            ParamSpec::per_model_text(
                FISHER,
                Preset::Required,
                "safetensors file with the diagonal Fisher information of every tensor, under its name",
            ),
            ParamSpec::per_model("weight", Preset::Number(1.0), NON_NEGATIVE, "importance of the model"),
            ParamSpec::flag("normalize", true, "divide each model's Fisher information by its norm"),
            ParamSpec::number("floor", Preset::Number(1e-6), POSITIVE, "added to every Fisher information"),
        ]);

/// Average weighted by how much each weight matters to each task: `Σ λᵢ (Fᵢ + ε) Wᵢ / Σ λᵢ (Fᵢ + ε)`.
///
/// `Fᵢ` is the diagonal of the Fisher information, the mean over examples of the squared gradients of the log-likelihood
/// of the model's own labels; it comes from a file. With `normalize`, `λᵢ` is divided by `‖Fᵢ‖ + ε`, the norm over all
/// tensors, so that a task with large gradients does not drown the others. A base model is not used.
///
/// ```
/// use mtl_core::params::{ParamView, write_params};
/// use mtl_merge::{HostTensor, Recipe, TensorMap};
///
/// let dir = tempfile::tempdir()?;
/// let path = |name: &str| dir.path().join(name).to_string_lossy().into_owned();
/// for (name, fisher) in [("fisher-a", [3.0, 1.0]), ("fisher-b", [1.0, 3.0])] {
///     write_params(path(name), &Default::default(), &[ParamView::f32("w", &[2], &fisher)])?;
/// }
/// let map = |v: [f32; 2]| TensorMap::from([("w".to_owned(), HostTensor::vector(v.to_vec()))]);
/// let recipe = Recipe::new("fisher")
///     .model_with("a", [("fisher", path("fisher-a").as_str())])
///     .model_with("b", [("fisher", path("fisher-b").as_str())])
///     .parameter("floor", 1e-12);
/// let merged = recipe.run_in_memory(None, &[&map([4.0, 4.0]), &map([8.0, 8.0])])?;
/// assert_eq!(merged["w"].data(), [5.0, 7.0]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, Copy)]
pub struct Fisher;

/// The files, and the norm of each model's Fisher information by the models' numbers.
struct Facts {
    files: Statistics,
    norms: Vec<f64>,
}

impl MergeMethod for Fisher {
    fn spec(&self) -> &'static MethodSpec {
        &SPEC
    }

    fn survey(&self, tensors: &[(Tensor<'_>, &Resolved)]) -> Result<Survey> {
        let files = Statistics::open(FISHER, tensors)?;
        let all = tensors.iter().flat_map(|(tensor, params)| {
            let params: &Resolved = params;
            (0..tensor.n_models()).map(move |model| (tensor, params, model))
        });
        let squares = all.collect::<Vec<_>>().into_par_iter().map(|(tensor, params, model)| {
            let entry = files.expect(tensor, params, model, tensor.shape())?;
            let mut sum = 0.0;
            let mut values = Vec::new();
            for start in (0..tensor.numel()).step_by(CHUNK) {
                let finite = entry.read(start..(start + CHUNK).min(tensor.numel()), &mut values)?;
                if !finite || values.iter().any(|&x| x < 0.0) {
                    return Err(entry.error("holds NaN, infinity or negative numbers".to_owned()));
                }
                sum += values.iter().map(|x| x * x).sum::<f64>();
            }
            Ok((tensor.number(model), sum))
        });
        let mut norms = Vec::new();
        for result in squares.collect::<Vec<Result<(usize, f64)>>>() {
            let (number, square) = result?;
            norms.resize(norms.len().max(number + 1), 0.0);
            norms[number] += square;
        }
        norms.iter_mut().for_each(|x: &mut f64| *x = x.sqrt());
        Ok(Box::new(Facts { files, norms }))
    }

    fn prepare<'t>(&self, tensor: &'t Tensor<'_>, params: &'t Resolved) -> Result<Kernel<'t>> {
        let Some(facts) = tensor.survey::<Facts>() else { return Ok(Box::new(|_, _| ())) };
        let floor = params.number("floor")?;
        let normalize = params.flag("normalize")?;
        let mut models = Vec::new();
        for (m, weight) in params.per_model("weight")?.iter().enumerate() {
            let norm = facts.norms.get(tensor.number(m)).copied().unwrap_or(0.0);
            let factor = if normalize { weight / (norm + floor) } else { *weight };
            models.push((facts.files.expect(tensor, params, m, tensor.shape())?, factor));
        }
        let total: f64 = models.iter().map(|(_, factor)| factor).sum();
        if total <= 0.0 {
            return Err(crate::Error::ZeroSum { method: SPEC.info.name.to_owned(), sum: total });
        }
        Ok(Box::new(move |piece, out| {
            let mut sums = vec![0.0; out.len()];
            let mut fisher = Vec::new();
            out.fill(0.0);
            for (values, (entry, factor)) in piece.models.iter().zip(&models) {
                // The survey has read all of it.
                if entry.read(piece.start..piece.start + values.len(), &mut fisher).is_err() {
                    out.fill(f64::NAN);
                    return;
                }
                for (((x, sum), w), f) in out.iter_mut().zip(&mut sums).zip(*values).zip(&fisher) {
                    let weight = factor / total * (f + floor);
                    *x += weight * w;
                    *sum += weight;
                }
            }
            out.iter_mut().zip(&sums).for_each(|(x, sum)| *x /= sum);
        }))
    }
}
