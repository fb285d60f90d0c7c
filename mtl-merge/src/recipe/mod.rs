//! The description of a merge: method, checkpoints, parameters, output type.
use crate::{Engine, MergeReport, Methods, ParamValue, Params, Result, TensorMap};
use mtl_core::{Seed, params::Dtype};
use serde::{Deserialize, Serialize};
use std::{collections::BTreeMap, path::Path};

mod node;
mod validate;

/// What to merge and how; the keys are those of mergekit's configuration.
///
/// ```
/// use mtl_merge::Recipe;
///
/// let built = Recipe::new("task_arithmetic")
///     .base("pretrained.safetensors")
///     .model("digits.safetensors", 0.4)
///     .model("letters.safetensors", 0.3)
///     .parameter("lambda", 0.7);
/// let read: Recipe = serde_json::from_str(
///     r#"{
///         "merge_method": "task_arithmetic",
///         "base_model": "pretrained.safetensors",
///         "models": [
///             {"model": "digits.safetensors", "parameters": {"weight": 0.4}},
///             {"model": "letters.safetensors", "parameters": {"weight": 0.3}}
///         ],
///         "parameters": {"lambda": 0.7}
///     }"#,
/// )?;
/// assert_eq!(built, read);
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct Recipe {
    /// Name of the merge method.
    #[serde(rename = "merge_method")]
    pub method: String,
    /// Checkpoint that task vectors are relative to: a safetensors file or a folder that holds one.
    #[serde(rename = "base_model", default, skip_serializing_if = "Option::is_none")]
    pub base: Option<String>,
    /// Whole checkpoints to merge; the base may be among them. Exactly one of `models`, `slices` and `modules` is given.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub models: Vec<ModelEntry>,
    /// Ranges of layers, in the order of the output.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub slices: Vec<Slice>,
    /// One entry per module of the architecture; most have a single one, called `default`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub modules: BTreeMap<String, Module>,
    /// Parameters of the whole merge, and per-model parameters that hold for every model without its own.
    #[serde(default, skip_serializing_if = "Params::is_empty")]
    pub parameters: Params,
    /// Output type when `out_dtype` is not given. Arithmetic never happens in a type narrower than float32.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dtype: Option<FloatType>,
    /// Output type of merged tensors; by default the narrowest type that holds those of the inputs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub out_dtype: Option<FloatType>,
    /// Seed of methods that draw at random.
    #[serde(default = "default_seed")]
    pub seed: Seed,
}

/// Layers of several checkpoints that make up a run of layers of the output.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct Slice {
    /// Base model of this slice, instead of the recipe's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base_model: Option<String>,
    /// Where the layers come from; all ranges are of one length.
    pub sources: Vec<Source>,
    /// Parameters of this slice.
    #[serde(default, skip_serializing_if = "Params::is_empty")]
    pub parameters: Params,
}

/// A range of layers of one checkpoint.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct Source {
    /// Path of the checkpoint.
    pub model: String,
    /// First layer, and the one after the last; all layers without it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub layer_range: Option<[usize; 2]>,
    /// Per-model parameters.
    #[serde(default, skip_serializing_if = "Params::is_empty")]
    pub parameters: Params,
}

/// What becomes of one module of the architecture.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct Module {
    /// Whole modules to merge.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub models: Vec<ModelEntry>,
    /// Ranges of layers, in the order of the output.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub slices: Vec<Slice>,
    /// Parameters of this module.
    #[serde(default, skip_serializing_if = "Params::is_empty")]
    pub parameters: Params,
}

/// One checkpoint of a [`Recipe`] and its own parameters.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct ModelEntry {
    /// Path of the checkpoint, or its name where tensors are given in memory.
    pub model: String,
    /// Per-model parameters, such as `weight`.
    #[serde(default, skip_serializing_if = "Params::is_empty")]
    pub parameters: Params,
}

/// Type of merged floating-point tensors.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum FloatType {
    /// IEEE single precision.
    #[serde(rename = "float32", alias = "torch.float32", alias = "f32", alias = "F32")]
    F32,
    /// IEEE half precision.
    #[serde(rename = "float16", alias = "torch.float16", alias = "f16", alias = "F16")]
    F16,
    /// The upper half of single precision.
    #[serde(rename = "bfloat16", alias = "torch.bfloat16", alias = "bf16", alias = "BF16")]
    Bf16,
    /// IEEE double precision.
    #[serde(rename = "float64", alias = "torch.float64", alias = "f64", alias = "F64")]
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

    pub(crate) fn dtype(self) -> Dtype {
        match self {
            Self::F32 => Dtype::F32,
            Self::F16 => Dtype::F16,
            Self::Bf16 => Dtype::Bf16,
            Self::F64 => Dtype::F64,
        }
    }
}

fn default_seed() -> Seed {
    Seed(0)
}

impl Recipe {
    /// A recipe for `method` without checkpoints.
    pub fn new(method: impl Into<String>) -> Self {
        Self {
            method: method.into(),
            base: None,
            models: Vec::new(),
            slices: Vec::new(),
            modules: BTreeMap::new(),
            parameters: Params::new(),
            dtype: None,
            out_dtype: None,
            seed: default_seed(),
        }
    }

    /// Sets the base model.
    #[must_use]
    pub fn base(mut self, base: impl Into<String>) -> Self {
        self.base = Some(base.into());
        self
    }

    /// Adds a model with its `weight`.
    #[must_use]
    pub fn model(self, model: impl Into<String>, weight: f64) -> Self {
        self.model_with(model, [("weight", weight)])
    }

    /// Adds a model without parameters of its own.
    #[must_use]
    pub fn input(self, model: impl Into<String>) -> Self {
        self.model_with(model, [] as [(&str, ParamValue); 0])
    }

    /// Adds a model with parameters of its own.
    #[must_use]
    pub fn model_with<N: Into<String>, V: Into<ParamValue>>(
        mut self,
        model: impl Into<String>,
        parameters: impl IntoIterator<Item = (N, V)>,
    ) -> Self {
        let parameters = parameters.into_iter().map(|(name, value)| (name.into(), value.into())).collect();
        self.models.push(ModelEntry { model: model.into(), parameters });
        self
    }

    /// Sets a parameter of the whole merge, or the value of a per-model parameter for all models.
    #[must_use]
    pub fn parameter(mut self, name: impl Into<String>, value: impl Into<ParamValue>) -> Self {
        self.parameters.insert(name.into(), value.into());
        self
    }

    /// Sets the type of the merged tensors.
    #[must_use]
    pub fn out_dtype(mut self, dtype: FloatType) -> Self {
        self.out_dtype = Some(dtype);
        self
    }

    /// Sets the seed of methods that draw at random.
    #[must_use]
    pub fn seed(mut self, seed: Seed) -> Self {
        self.seed = seed;
        self
    }

    /// Merges the checkpoints on disk into the safetensors file `out`, with [`Engine::default`].
    ///
    /// # Errors
    ///
    /// As [`Engine::run`].
    pub fn run(&self, out: &Path) -> Result<MergeReport> {
        Engine::default().run(self, out)
    }

    /// Merges tensors in memory, with [`Engine::default`].
    ///
    /// # Errors
    ///
    /// As [`Engine::run_in_memory`].
    pub fn run_in_memory(&self, base: Option<&TensorMap>, models: &[&TensorMap]) -> Result<TensorMap> {
        Engine::default().run_in_memory(self, base, models)
    }

    /// Checks everything that can be checked without opening a file.
    ///
    /// # Errors
    ///
    /// [`Error::UnknownMethod`], [`Error::UnknownParameter`], [`Error::Parameter`], [`Error::Recipe`].
    pub fn validate(&self, methods: &Methods) -> Result<()> {
        validate::validate(self, methods.get(&self.method)?.spec())
    }
}
