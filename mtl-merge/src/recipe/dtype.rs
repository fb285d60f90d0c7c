//! Types of merged tensors.
use mtl_core::params::Dtype;
use serde::{Deserialize, Deserializer, Serialize, de::Error as _};

/// Type of merged floating-point tensors.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub enum FloatType {
    /// IEEE single precision.
    #[serde(rename = "float32")]
    F32,
    /// IEEE half precision.
    #[serde(rename = "float16")]
    F16,
    /// The upper half of single precision.
    #[serde(rename = "bfloat16")]
    Bf16,
    /// IEEE double precision.
    #[serde(rename = "float64")]
    F64,
}

impl FloatType {
    /// Name in recipes and in `config.json`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::F32 => "float32",
            Self::F16 => "float16",
            Self::Bf16 => "bfloat16",
            Self::F64 => "float64",
        }
    }

    /// The type called `name` in recipes; `torch.` may stand before it.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        match name.strip_prefix("torch.").unwrap_or(name) {
            "float32" | "f32" | "F32" => Some(Self::F32),
            "float16" | "f16" | "F16" => Some(Self::F16),
            "bfloat16" | "bf16" | "BF16" => Some(Self::Bf16),
            "float64" | "f64" | "F64" => Some(Self::F64),
            _ => None,
        }
    }

    pub(crate) fn dtype(self) -> Dtype {
        match self {
            Self::F32 => Dtype::F32,
            Self::F16 => Dtype::F16,
            Self::Bf16 => Dtype::Bf16,
            Self::F64 => Dtype::F64,
        }
    }
}

impl<'de> Deserialize<'de> for FloatType {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let name = String::deserialize(deserializer)?;
        Self::from_name(&name).ok_or_else(|| {
            let known = "expected `float16`, `bfloat16`, `float32` or `float64`";
            D::Error::custom(format!("`{name}` is no floating-point type that is known here; {known}"))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_torch_with_or_without_its_prefix() {
        for float in [FloatType::F16, FloatType::Bf16, FloatType::F32, FloatType::F64] {
            assert_eq!(FloatType::from_name(float.name()), Some(float));
            assert_eq!(FloatType::from_name(&format!("torch.{}", float.name())), Some(float));
            assert_eq!(serde_json::to_value(float).unwrap(), float.name());
        }
        let error = serde_json::from_str::<FloatType>(r#""int4""#).unwrap_err().to_string();
        insta::assert_snapshot!(error, @"`int4` is no floating-point type that is known here; expected `float16`, `bfloat16`, `float32` or `float64`");
    }
}
