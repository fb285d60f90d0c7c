//! Activations.
use serde::{Deserialize, Serialize};
use tch::Tensor;

/// A function applied to each element; names and aliases are those of Hugging Face's `hidden_act`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Activation {
    /// max(x, 0).
    #[serde(rename = "relu")]
    Relu,
    /// x · Φ(x), exact.
    #[default]
    #[serde(rename = "gelu")]
    Gelu,
    /// The approximation of x · Φ(x) by a hyperbolic tangent.
    #[serde(rename = "gelu_pytorch_tanh", alias = "gelu_new")]
    GeluTanh,
    /// x · σ(x).
    #[serde(rename = "silu", alias = "swish")]
    Silu,
    /// Hyperbolic tangent.
    #[serde(rename = "tanh")]
    Tanh,
}

impl Activation {
    /// The activation of each element of `x`.
    pub fn apply(self, x: &Tensor) -> Tensor {
        match self {
            Self::Relu => x.relu(),
            Self::Gelu => x.gelu("none"),
            Self::GeluTanh => x.gelu("tanh"),
            Self::Silu => x.silu(),
            Self::Tanh => x.tanh(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_at_one_are_those_of_the_definitions() {
        let at_one = |a: Activation| a.apply(&Tensor::from_slice(&[1.0f64])).double_value(&[0]);
        let close = |got: f64, want: f64| assert!((got - want).abs() < 1e-9, "{got} is not {want}");
        close(at_one(Activation::Relu), 1.0);
        close(at_one(Activation::Gelu), 0.841_344_746_068_543);
        close(at_one(Activation::GeluTanh), 0.841_191_990_607_477);
        close(at_one(Activation::Silu), 1.0 / (1.0 + (-1f64).exp()));
        close(at_one(Activation::Tanh), 1f64.tanh());
    }

    #[test]
    fn names_are_those_of_hugging_face() {
        let parse = |name: &str| serde_json::from_value::<Activation>(name.into());
        assert_eq!(parse("gelu_new").unwrap(), Activation::GeluTanh);
        assert_eq!(parse("swish").unwrap(), Activation::Silu);
        assert!(parse("gelu2").is_err());
    }
}
