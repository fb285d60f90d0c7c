//! Weight averaging: Wortsman et al., *Model soups: averaging weights of multiple fine-tuned models improves accuracy
//! without increasing inference time*, ICML 2022, arXiv 2203.05482.
use super::weighted_sum;
use crate::{
    Error, Kernel, MergeMethod, MethodSpec, ParamSpec, Preset, Resolved, Result, Tensor, params::FINITE,
};

static SPEC: MethodSpec = MethodSpec::new(
    "linear",
    "Model soups: averaging weights of multiple fine-tuned models",
    "arXiv 2203.05482",
)
.params(&[
    ParamSpec::per_model("weight", Preset::Required, FINITE, "share of the model in the sum"),
    ParamSpec::flag("normalize", true, "divide by the sum of the weights"),
]);

/// Weighted sum of the models, `Σ wᵢ Wᵢ`, divided by `Σ wᵢ` unless `normalize` is false.
///
/// ```
/// use mtl_merge::{HostTensor, Recipe, TensorMap};
///
/// let a = TensorMap::from([("w".to_owned(), HostTensor::vector(vec![1.0, 2.0]))]);
/// let b = TensorMap::from([("w".to_owned(), HostTensor::vector(vec![5.0, -2.0]))]);
/// let soup = Recipe::new("linear").model("a", 3.0).model("b", 1.0).run_in_memory(None, &[&a, &b])?;
/// assert_eq!(soup["w"].data(), [2.0, 1.0]);
/// # Ok::<(), mtl_merge::Error>(())
/// ```
#[derive(Debug, Clone, Copy)]
pub struct Linear;

impl MergeMethod for Linear {
    fn spec(&self) -> &'static MethodSpec {
        &SPEC
    }

    fn check(&self, params: &Resolved) -> Result<()> {
        let weights = params.per_model("weight")?;
        let sum: f64 = weights.iter().sum();
        let size: f64 = weights.iter().map(|w| w.abs()).sum();
        // 0.1 + 0.2 − 0.3 is 5.6e-17 in f64: a sum this small is zero and rounding.
        if params.flag("normalize")? && sum.abs() <= 1e-12 * size {
            return Err(Error::ZeroSum { method: SPEC.info.name.to_owned(), sum });
        }
        Ok(())
    }

    fn prepare<'t>(&self, _tensor: &'t Tensor<'_>, params: &'t Resolved) -> Result<Kernel<'t>> {
        let weights = params.per_model("weight")?;
        let divisor = if params.flag("normalize")? { weights.iter().sum() } else { 1.0 };
        Ok(Box::new(move |piece, out| {
            weighted_sum(None, piece.models, weights, out);
            out.iter_mut().for_each(|x| *x /= divisor);
        }))
    }
}
