//! Gradient clipping: Pascanu et al., *On the difficulty of training recurrent neural networks*, ICML 2013,
//! arXiv 1211.5063.
use crate::{Error, Result, StateDict, no_grad};
use serde::{Deserialize, Serialize};

/// Bounds gradients.
///
/// ```
/// use mtl_core::{StateDict, optim::Clip};
/// use tch::Tensor;
///
/// let mut grads = StateDict::from_iter([("w".to_owned(), Tensor::from_slice(&[3.0f64, 4.0]))]);
/// let norm = grads.norm();
/// Clip::Norm { max: 2.5 }.apply(&mut grads, norm);
/// assert_eq!(norm, 5.0);
/// assert!((grads.get("w").unwrap().double_value(&[0]) - 1.5).abs() < 1e-6);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Clip {
    /// Scales all gradients so that the norm of all of them together is at most `max`.
    Norm {
        /// Largest norm. Positive.
        max: f64,
    },
    /// Cuts each element to `[−max, max]`.
    Value {
        /// Largest absolute value. Positive.
        max: f64,
    },
}

impl Clip {
    /// Fails unless the bound is in its range.
    ///
    /// # Errors
    ///
    /// [`Error::Config`] when `max` is not positive and finite.
    pub fn check(self) -> Result<()> {
        let (Self::Norm { max } | Self::Value { max }) = self;
        if 0.0 < max && max.is_finite() {
            return Ok(());
        }
        Err(Error::config("max", "positive and finite", max))
    }

    /// Replaces gradients that are out of bounds; `norm` is that of all of them, as [`StateDict::norm`] gives it.
    pub fn apply(self, grads: &mut StateDict, norm: f64) {
        // Not in place: autograd may hand out one tensor as the gradient of two parameters.
        no_grad(|| match self {
            Self::Norm { max } => {
                let factor = max / (norm + 1e-6); // The 1e-6 is PyTorch's.
                if factor < 1.0 {
                    grads.iter_mut().for_each(|(_, g)| *g = &*g * factor);
                }
            }
            Self::Value { max } => grads.iter_mut().for_each(|(_, g)| *g = g.clamp(-max, max)),
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tch::Tensor;

    fn grads() -> StateDict {
        let entry = |name: &str, v: f64| (name.to_owned(), Tensor::from_slice(&[v]));
        [entry("a", 3.0), entry("b", -4.0)].into_iter().collect()
    }

    #[test]
    fn what_is_within_bounds_stays() {
        let mut kept = grads();
        Clip::Norm { max: 5.1 }.apply(&mut kept, 5.0);
        Clip::Value { max: 4.0 }.apply(&mut kept, 5.0);
        assert_eq!(kept.get("b").unwrap().double_value(&[0]), -4.0);
    }

    #[test]
    fn a_tensor_that_is_the_gradient_of_two_parameters_is_scaled_once() {
        let shared = Tensor::from_slice(&[3.0f64]);
        let mut both: StateDict =
            [("a".to_owned(), shared.shallow_clone()), ("b".to_owned(), shared)].into_iter().collect();
        let norm = both.norm();
        Clip::Norm { max: norm / 3.0 }.apply(&mut both, norm);
        assert!((both.get("b").unwrap().double_value(&[0]) - 1.0).abs() < 1e-5);
    }

    #[test]
    fn a_bound_of_zero_is_refused() {
        let err = Clip::Value { max: 0.0 }.check().unwrap_err();
        insta::assert_snapshot!(err, @"`max` must be positive and finite, but is 0");
        let mut cut = grads();
        Clip::Value { max: 3.5 }.apply(&mut cut, 5.0);
        assert_eq!(cut.get("b").unwrap().double_value(&[0]), -3.5);
    }
}
