//! The description of a merge: method, checkpoints, parameters, output type.
use crate::{Engine, Error, MergeReport, Methods, ParamValue, Params, Result, TensorMap};
use mtl_core::Seed;
use origin::Origin;
use serde::{Deserialize, Serialize};
use std::{collections::BTreeMap, path::Path};

mod dtype;
mod form;
mod model_ref;
mod node;
mod origin;
mod read;
mod sift;
mod stages;
mod validate;

pub use dtype::FloatType;
pub use model_ref::ModelRef;
pub(crate) use origin::place;
pub use stages::{Stage, Stages};
pub use validate::Warning;

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
    /// Name of the result, for later stages of the same file; see [`Stages`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Name of the merge method.
    #[serde(rename = "merge_method")]
    pub method: String,
    /// Checkpoint that task vectors are relative to: a safetensors file or a folder that holds one.
    #[serde(
        rename = "base_model",
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "model_ref::optional_model_name"
    )]
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
    /// Vocabulary of the output and the rows of its tokens; excludes `tokenizer_source`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tokenizer: Option<serde_json::Value>,
    /// Where the vocabulary of the output is from: `union`, `base`, or a model.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "model_ref::optional_model_name"
    )]
    pub tokenizer_source: Option<String>,
    /// Chat template of the output: `auto`, the name of a built-in one, or the template itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub chat_template: Option<String>,
    /// Seed of methods that draw at random.
    #[serde(default = "default_seed")]
    pub seed: Seed,
    #[serde(skip)]
    origin: Origin,
}

/// Layers of several checkpoints that make up a run of layers of the output.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, expecting = "a slice: {sources, parameters, base_model}")]
#[non_exhaustive]
pub struct Slice {
    /// Base model of this slice, instead of the recipe's.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "model_ref::optional_model_name"
    )]
    pub base_model: Option<String>,
    /// Where the layers come from; all ranges are of one length.
    pub sources: Vec<Source>,
    /// Parameters of this slice.
    #[serde(default, skip_serializing_if = "Params::is_empty")]
    pub parameters: Params,
}

/// A range of layers of one checkpoint.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, expecting = "a source: {model, layer_range, parameters}")]
#[non_exhaustive]
pub struct Source {
    /// Path of the checkpoint.
    #[serde(deserialize_with = "model_ref::model_name")]
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
#[serde(deny_unknown_fields, expecting = "a module: {models, parameters} or {slices, parameters}")]
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
#[serde(deny_unknown_fields, expecting = "a model: {model, parameters}")]
#[non_exhaustive]
pub struct ModelEntry {
    /// Path of the checkpoint, or its name where tensors are given in memory.
    #[serde(deserialize_with = "model_ref::model_name")]
    pub model: String,
    /// Per-model parameters, such as `weight`.
    #[serde(default, skip_serializing_if = "Params::is_empty")]
    pub parameters: Params,
}

fn default_seed() -> Seed {
    Seed(0)
}

impl Recipe {
    /// A recipe for `method` without checkpoints.
    pub fn new(method: impl Into<String>) -> Self {
        Self {
            name: None,
            method: method.into(),
            base: None,
            models: Vec::new(),
            slices: Vec::new(),
            modules: BTreeMap::new(),
            parameters: Params::new(),
            dtype: None,
            out_dtype: None,
            tokenizer: None,
            tokenizer_source: None,
            chat_template: None,
            seed: default_seed(),
            origin: Origin::default(),
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

    /// Merges the checkpoints on disk into `out`, with [`Engine::default`]: a file if its name ends in `.safetensors`, a
    /// folder otherwise.
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

    /// Checks everything that can be checked without opening a file; gives what has no effect.
    ///
    /// Published recipes carry keys and parameters that mean nothing; those are warnings, but one that is spelled
    /// nearly like a known one is an error.
    ///
    /// # Errors
    ///
    /// [`Error::UnknownMethod`], [`Error::UnknownParameter`], [`Error::Parameter`], [`Error::MissingBase`],
    /// [`Error::ModelCount`], [`Error::DuplicateModel`], [`Error::Recipe`]; within [`Error::At`] when the recipe was
    /// read from a text.
    pub fn validate(&self, methods: &Methods) -> Result<Vec<Warning>> {
        validate::validate(self, methods).map_err(|error| self.explain(error))
    }

    /// As [`Recipe::validate`], but what has no effect is an error.
    ///
    /// # Errors
    ///
    /// As [`Recipe::validate`], and [`Error::Recipe`] for the first warning.
    pub fn validate_strict(&self, methods: &Methods) -> Result<()> {
        match self.validate(methods)?.into_iter().next() {
            Some(Warning { path, message, .. }) => Err(self.explain(Error::Recipe { path, message })),
            None => Ok(()),
        }
    }

    /// Line of the text at which the entry called `path` stands, or the nearest entry around it; `None` for recipes
    /// that were not read from a text.
    #[must_use]
    pub fn locate(&self, path: &str) -> Option<usize> {
        self.origin.line(path)
    }

    /// Puts file and line before an error that has a place in this recipe; leaves others alone.
    #[must_use]
    pub fn explain(&self, error: Error) -> Error {
        self.origin.explain(error)
    }
}

#[cfg(test)]
mod tests;
