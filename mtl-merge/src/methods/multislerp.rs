//! Barycentric interpolation on the sphere: Goddard, *Multi-SLERP*, goddard.blog 2025, as in mergekit (arXiv 2403.13257).
use super::{
    displaced,
    gram::{Gram, Vectors},
    weighted_sum,
};
use crate::{
    Base, Error, Kernel, MergeMethod, MethodSpec, ParamSpec, Piece, Preset, Resolved, Result, Tensor,
    params::{FINITE, NON_NEGATIVE},
};

static SPEC: MethodSpec =
    MethodSpec::new("multislerp", "Multi-SLERP", "goddard.blog/posts/multislerp-wow-what-a-cool-idea")
        .base(Base::Optional)
        .params(&[
            ParamSpec::per_model("weight", Preset::Required, FINITE, "share of the model's direction"),
            ParamSpec::flag("normalize_weights", true, "divide the weights by their sum"),
            ParamSpec::number("eps", Preset::Number(1e-8), NON_NEGATIVE, "added to norms"),
        ]);

/// Turns into the mean direction of the models, at the mean of their lengths: `(Σ wᵢ rᵢ) m / ‖m‖` with `rᵢ = ‖Wᵢ‖` and
/// `m = Σ wᵢ Wᵢ / rᵢ`.
///
/// With a base, the vectors are the differences from the base, and the result is added to it. If the directions cancel
/// (`‖m‖ < eps`), two models give `Σ wᵢ Wᵢ` and more are refused. A single model stays as it is.
///
/// # Departures
///
/// The definition goes on from `m / ‖m‖` by one step along the mean tangent, which is zero by the choice of `m`:
/// `Σ wᵢ (uᵢ − ⟨uᵢ, m⟩ m) = 0`. The step is left out but for its factor `cos eps`; with it the results of mergekit differ
/// in rounding alone.
///
/// ```
/// use mtl_merge::{HostTensor, Recipe, TensorMap};
///
/// let map = |v: [f32; 2]| TensorMap::from([("w".to_owned(), HostTensor::vector(v.to_vec()))]);
/// let (a, b) = (map([1.0, 0.0]), map([0.0, 3.0]));
/// let merged = Recipe::new("multislerp").model("a", 3.0).model("b", 4.0).run_in_memory(None, &[&a, &b])?;
/// let length = (3.0 * 1.0 + 4.0 * 3.0) / 7.0;
/// assert_eq!(merged["w"].data(), [length * 0.6, length * 0.8]);
/// # Ok::<(), mtl_merge::Error>(())
/// ```
#[derive(Debug, Clone, Copy)]
pub struct MultiSlerp;

impl MergeMethod for MultiSlerp {
    fn spec(&self) -> &'static MethodSpec {
        &SPEC
    }

    fn check(&self, params: &Resolved) -> Result<()> {
        let weights = params.per_model("weight")?;
        let sum: f64 = weights.iter().sum();
        let size: f64 = weights.iter().map(|w| w.abs()).sum();
        if weights.len() > 1 && params.flag("normalize_weights")? && sum.abs() <= 1e-12 * size {
            return Err(Error::Parameter {
                path: "weight".to_owned(),
                must: "numbers whose sum is not 0, unless `normalize_weights` is false".to_owned(),
                found: weights.iter().map(f64::to_string).collect::<Vec<_>>().join(" + "),
            });
        }
        Ok(())
    }

    fn prepare<'t>(&self, tensor: &'t Tensor<'_>, params: &'t Resolved) -> Result<Kernel<'t>> {
        let mut weights = params.per_model("weight")?.to_vec();
        if weights.len() == 1 {
            return Ok(Box::new(|piece, out| out.copy_from_slice(piece.models[0])));
        }
        if params.flag("normalize_weights")? {
            let sum: f64 = weights.iter().sum();
            weights.iter_mut().for_each(|w| *w /= sum);
        }
        let eps = params.number("eps")?;
        let gram = Gram::scan(tensor, Vectors::Deltas)?;
        let factors = match factors(&gram, &weights, eps, |c| length(tensor, c))? {
            Some(factors) => factors,
            None if weights.len() == 2 => weights,
            None => {
                return Err(Error::Unmergeable {
                    method: SPEC.info.name.to_owned(),
                    tensor: tensor.name().to_owned(),
                    message: "the weighted directions of the models cancel, so there is no mean direction; change a weight"
                        .to_owned(),
                });
            }
        };
        Ok(Box::new(move |piece, out| match piece.base {
            Some(base) => displaced(base, piece.models, &factors, 1.0, out),
            None => weighted_sum(None, piece.models, &factors, out),
        }))
    }
}

/// The factors of the models in the result, unless their directions cancel. `exact` gives the length of a combination.
fn factors(
    gram: &Gram,
    weights: &[f64],
    eps: f64,
    exact: impl Fn(&[f64]) -> Result<f64>,
) -> Result<Option<Vec<f64>>> {
    let norms: Vec<f64> = (0..gram.len()).map(|i| gram.norm(i)).collect();
    let unit = |(w, norm): (&f64, &f64)| if norm + eps > 0.0 { w / (norm + eps) } else { 0.0 };
    let mean: Vec<f64> = weights.iter().zip(&norms).map(unit).collect();
    let mut length = gram.length(&mean);
    // The Gram matrix knows squares of lengths to 16 digits, so that short ones are noise.
    if length < 1e-5 * weights.iter().map(|w| w.abs()).fold(0.0, f64::max) {
        length = exact(&mean)?;
    }
    if length < eps || length == 0.0 {
        return Ok(None);
    }
    let radius: f64 = weights.iter().zip(&norms).map(|(w, norm)| w * norm).sum();
    Ok(Some(mean.iter().map(|c| radius * eps.cos() * c / length).collect()))
}

/// The length of `Σ cᵢ Xᵢ`, by a scan.
fn length(tensor: &Tensor<'_>, factors: &[f64]) -> Result<f64> {
    let sums = tensor.blocks(
        |_| (0.0, Vec::new()),
        |(sum, out), piece: &Piece<'_>| {
            out.resize(piece.len(), 0.0);
            weighted_sum(piece.base, piece.models, factors, out);
            *sum += out.iter().map(|x| x * x).sum::<f64>();
        },
    )?;
    Ok(sums.iter().map(|(sum, _)| sum).sum::<f64>().sqrt())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{HostTensor, Recipe, TensorMap};

    fn map(values: &[f32]) -> TensorMap {
        TensorMap::from([("w".to_owned(), HostTensor::vector(values.to_vec()))])
    }

    fn merge(models: &[(&TensorMap, f64)], base: Option<&TensorMap>) -> Result<Vec<f32>> {
        let recipe = models
            .iter()
            .enumerate()
            .fold(Recipe::new("multislerp"), |recipe, (i, (_, w))| recipe.model(format!("model {i}"), *w));
        let recipe = if base.is_some() { recipe.base("base") } else { recipe };
        let models: Vec<&TensorMap> = models.iter().map(|(m, _)| *m).collect();
        Ok(recipe.run_in_memory(base, &models)?["w"].data().to_vec())
    }

    #[test]
    fn two_opposite_models_are_averaged() {
        let (a, b) = (map(&[3.0, 4.0]), map(&[-6.0, -8.0]));
        assert_eq!(merge(&[(&a, 1.0), (&b, 1.0)], None).unwrap(), [-1.5, -2.0]);
        let base = map(&[1.0, 1.0]);
        let (a, b) = (map(&[4.0, 5.0]), map(&[-5.0, -7.0]));
        assert_eq!(merge(&[(&a, 1.0), (&b, 1.0)], Some(&base)).unwrap(), [-0.5, -1.0]);
    }

    #[test]
    fn three_models_whose_directions_cancel_are_refused() {
        let (a, b, c) = (map(&[1.0, 0.0]), map(&[-3.0, 0.0]), map(&[0.0, 0.0]));
        let error = merge(&[(&a, 1.0), (&b, 1.0), (&c, 1.0)], None).unwrap_err().to_string();
        assert!(error.contains("`w`") && error.contains("cancel"), "{error}");
    }

    #[test]
    fn weights_that_sum_to_zero_are_refused_before_any_value_is_read() {
        let (a, b) = (map(&[1.0]), map(&[2.0]));
        let error = merge(&[(&a, 0.5), (&b, -0.5)], None).unwrap_err().to_string();
        insta::assert_snapshot!(error, @"weight must be numbers whose sum is not 0, unless `normalize_weights` is false, but is 0.5 + -0.5");
    }

    #[test]
    fn a_single_model_stays_as_it_is() {
        let (a, base) = (map(&[1.0, -7.0]), map(&[5.0, 5.0]));
        assert_eq!(merge(&[(&a, 0.0)], None).unwrap(), [1.0, -7.0]);
        assert_eq!(merge(&[(&a, 3.0)], Some(&base)).unwrap(), [1.0, -7.0]);
    }

    #[test]
    fn a_zero_model_counts_in_the_length_alone() {
        let (a, zero) = (map(&[0.0, 4.0]), map(&[0.0, 0.0]));
        assert_eq!(merge(&[(&a, 1.0), (&zero, 1.0)], None).unwrap(), [0.0, 2.0]);
    }
}
