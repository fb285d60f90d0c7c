//! EMR merging (elect, mask, rescale): Huang et al., *EMR-Merging: Tuning-Free High-Performance Model Merging*, NeurIPS
//! 2024, arXiv 2405.17461.
use super::task::{TASK, Version, check_task, version};
use crate::{Base, Kernel, MergeMethod, MethodSpec, Resolved, Result, Survey, Tensor};

static SPEC: MethodSpec =
    MethodSpec::new("emr", "EMR-Merging: Tuning-Free High-Performance Model Merging", "arXiv 2405.17461")
        .base(Base::Required)
        .models(2, None)
        .surveys()
        .params(&[TASK]);

/// A unified task vector, with a mask and a rescaler for each task.
///
/// The elected sign `g` is that of `Σ δᵢ` (− for 0); the unified vector `u` is `g` times the largest `|δᵢ|` among the
/// models of that sign. With `task` the model is `W₀ + rᵢ (mᵢ ⊙ u)`, where `mᵢ` marks the weights on which `δᵢ` has the
/// elected sign and `rᵢ = Σ mean |δᵢ| / Σ mean |mᵢ ⊙ u|` over all tensors; without `task` it is `W₀ + u`.
///
/// ```
/// use mtl_merge::{HostTensor, Recipe, TensorMap};
///
/// let map = |v: [f32; 2]| TensorMap::from([("w".to_owned(), HostTensor::vector(v.to_vec()))]);
/// let (base, a, b) = (map([1.0, 1.0]), map([4.0, 2.0]), map([2.0, -4.0]));
/// let recipe = Recipe::new("emr").base("base").input("a").input("b");
/// assert_eq!(recipe.run_in_memory(Some(&base), &[&a, &b])?["w"].data(), [4.0, -4.0]);
/// let recipe = recipe.parameter("task", 0.0); // Mask (1, 0), rescaler (3 + 1) / 3.
/// assert_eq!(recipe.run_in_memory(Some(&base), &[&a, &b])?["w"].data(), [5.0, 1.0]);
/// # Ok::<(), mtl_merge::Error>(())
/// ```
#[derive(Debug, Clone, Copy)]
pub struct Emr;

/// Rescalers by the models' numbers.
struct Rescalers(Vec<f64>);

/// The element of the unified vector.
#[inline(always)]
fn unified(base: f64, models: &[&[f64]], i: usize) -> f64 {
    let sum: f64 = models.iter().map(|m| m[i] - base).sum();
    let sign = if sum > 0.0 { 1.0 } else { -1.0 };
    sign * models.iter().map(|m| (m[i] - base) * sign).fold(0.0, f64::max)
}

impl MergeMethod for Emr {
    fn spec(&self) -> &'static MethodSpec {
        &SPEC
    }

    fn survey(&self, tensors: &[(Tensor<'_>, &Resolved)]) -> Result<Survey> {
        check_task(tensors)?;
        let (mut own, mut masked) = (Vec::new(), Vec::new());
        for (tensor, _) in tensors.iter().filter(|(tensor, _)| tensor.numel() > 0) {
            let n = tensor.n_models();
            let sums = tensor.blocks(
                |_| vec![(0.0, 0.0); n],
                |sums, piece| {
                    let Some(base) = piece.base else { return };
                    for (i, &x0) in base.iter().enumerate() {
                        let u = unified(x0, piece.models, i);
                        for (sum, model) in sums.iter_mut().zip(piece.models) {
                            let delta = model[i] - x0;
                            sum.0 += delta.abs();
                            sum.1 += if delta * u > 0.0 { u.abs() } else { 0.0 };
                        }
                    }
                },
            )?;
            for m in 0..n {
                let number = tensor.number(m);
                if own.len() <= number {
                    own.resize(number + 1, 0.0);
                    masked.resize(number + 1, 0.0);
                }
                own[number] += sums.iter().map(|s| s[m].0).sum::<f64>() / tensor.numel() as f64;
                masked[number] += sums.iter().map(|s| s[m].1).sum::<f64>() / tensor.numel() as f64;
            }
        }
        // A model whose mask is empty everywhere is the base, whatever its rescaler.
        let rescaler = |(own, masked): (&f64, &f64)| if *masked > 0.0 { own / masked } else { 1.0 };
        Ok(Box::new(Rescalers(own.iter().zip(&masked).map(rescaler).collect())))
    }

    fn prepare<'t>(&self, tensor: &'t Tensor<'_>, params: &'t Resolved) -> Result<Kernel<'t>> {
        let version = version(tensor, params);
        let rescalers = tensor.survey::<Rescalers>();
        let factor = match version {
            Version::Of(m) => rescalers.and_then(|r| r.0.get(tensor.number(m))).copied().unwrap_or(1.0),
            _ => 1.0,
        };
        Ok(Box::new(move |piece, out| {
            let Some(base) = piece.base else { return };
            let own = match version {
                Version::Of(model) => piece.models.get(model),
                _ => None,
            };
            for (i, (x, x0)) in out.iter_mut().zip(base).enumerate() {
                let u = unified(*x0, piece.models, i);
                *x = match (version, own) {
                    (Version::Unified, _) => x0 + u,
                    (_, Some(model)) if (model[i] - x0) * u > 0.0 => x0 + factor * u,
                    _ => *x0,
                };
            }
        }))
    }
}
