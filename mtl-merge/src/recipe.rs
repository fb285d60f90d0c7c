//! The description of a merge: method, checkpoints, parameters, output type.
use crate::{
    Base, Engine, Error, MergeMethod, MergeReport, Methods, ParamValue, Params, Resolved, Result, TensorMap,
    params,
};
use mtl_core::Seed;
use serde::{Deserialize, Serialize};
use std::path::Path;

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
    /// Checkpoints to merge, without the base.
    pub models: Vec<ModelEntry>,
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
    /// [`Error::UnknownMethod`], [`Error::UnknownParameter`], [`Error::SharedParameter`],
    /// [`Error::MissingParameter`], [`Error::Parameter`], [`Error::MissingBase`], [`Error::UnusedBase`],
    /// [`Error::ModelCount`], [`Error::DuplicateModel`], [`Error::ZeroSum`].
    pub fn validate(&self, methods: &Methods) -> Result<()> {
        self.resolve(methods).map(|_| ())
    }

    pub(crate) fn resolve(&self, methods: &Methods) -> Result<(&'static dyn MergeMethod, Resolved)> {
        let method = methods.get(&self.method)?;
        self.check_models(method)?;
        let resolved = params::resolve(method.spec(), self)?;
        method.check(&resolved)?;
        Ok((method, resolved))
    }

    fn check_models(&self, method: &dyn MergeMethod) -> Result<()> {
        let spec = method.spec();
        let name = || spec.info.name.to_owned();
        let listed = |path: &str| self.models.iter().any(|m| Path::new(&m.model) == Path::new(path));
        match (&self.base, spec.base) {
            (None, Base::Required) => return Err(Error::MissingBase { method: name() }),
            (Some(base), Base::Unused) if !listed(base) => {
                return Err(Error::UnusedBase { method: name(), base: base.clone() });
            }
            _ => {}
        }
        let found = self.models.len();
        if found < spec.min_models || spec.max_models.is_some_and(|max| found > max) {
            let expected = match spec.max_models {
                Some(max) if max == spec.min_models => format!("exactly {max} models besides the base"),
                Some(max) => format!("{} to {max} models besides the base", spec.min_models),
                None if spec.min_models == 1 => "at least 1 model besides the base".to_owned(),
                None => format!("at least {} models besides the base", spec.min_models),
            };
            return Err(Error::ModelCount { method: name(), expected, found });
        }
        let paths: Vec<&Path> = self.models.iter().map(|m| Path::new(&m.model)).collect();
        let base = self.base.as_deref().filter(|_| spec.base != Base::Unused).map(Path::new);
        no_repeats(base, &paths)
    }
}

/// Refuses a path that stands for two inputs.
pub(crate) fn no_repeats(base: Option<&Path>, models: &[&Path]) -> Result<()> {
    for (second, path) in models.iter().enumerate() {
        let earlier = models[..second].iter().position(|p| p == path).map(|first| format!("models[{first}]"));
        let as_base = base.filter(|base| base == path).map(|_| "base_model".to_owned());
        if let Some(first) = as_base.or(earlier) {
            return Err(Error::DuplicateModel { model: path.display().to_string(), first, second });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use insta::assert_snapshot;

    fn refusal(recipe: Recipe) -> String {
        recipe.validate(&Methods::default()).unwrap_err().to_string()
    }

    fn two() -> Recipe {
        Recipe::new("task_arithmetic").base("base").model("a", 1.0).model("b", 1.0)
    }

    #[test]
    fn a_sound_recipe_passes_and_survives_json() {
        let recipe = two().parameter("normalize", true).out_dtype(FloatType::Bf16).seed(Seed(3));
        recipe.validate(&Methods::default()).unwrap();
        let json = serde_json::to_string(&recipe).unwrap();
        assert_eq!(serde_json::from_str::<Recipe>(&json).unwrap(), recipe);
    }

    #[test]
    fn a_recipe_parameter_stands_for_models_without_their_own() {
        let recipe = Recipe::new("linear").input("a").model("b", 3.0).parameter("weight", 2.0);
        let (_, resolved) = recipe.resolve(&Methods::default()).unwrap();
        assert_eq!(resolved.per_model("weight").unwrap(), [2.0, 3.0]);
        assert!(resolved.flag("normalize").unwrap());
        assert_snapshot!(resolved.number("normalize").unwrap_err(), @"method `linear` reads parameter `normalize`, which its spec does not declare as a number");
    }

    #[test]
    fn unknown_names_are_refused_with_the_nearest() {
        assert_snapshot!(refusal(Recipe::new("liner").model("a", 1.0)), @"unknown merge method `liner`; did you mean `linear`?");
        assert_snapshot!(refusal(two().parameter("lamda", 1.0)), @"parameters: method `task_arithmetic` has no parameter `lamda`; did you mean `lambda`?");
        let typo = two().model_with("c", [("wieght", 1.0)]);
        assert_snapshot!(refusal(typo), @"models[2].parameters: method `task_arithmetic` has no parameter `wieght`; did you mean `weight`?");
        let json = r#"{"merge_metod": "linear", "models": []}"#;
        assert_snapshot!(serde_json::from_str::<Recipe>(json).unwrap_err(), @"unknown field `merge_metod`, expected one of `merge_method`, `base_model`, `models`, `parameters`, `dtype`, `out_dtype`, `seed` at line 1 column 14");
    }

    #[test]
    fn values_are_checked_before_any_work() {
        let nan = Recipe::new("linear").model("a", f64::NAN);
        assert_snapshot!(refusal(nan), @"models[0].parameters.weight must be a finite number, but is NaN");
        assert_snapshot!(refusal(two().parameter("lambda", f64::INFINITY)), @"parameters.lambda must be a finite number, but is inf");
        assert_snapshot!(refusal(two().parameter("normalize", 1.0)), @"parameters.normalize must be true or false, but is 1");
        assert_snapshot!(refusal(Recipe::new("linear").input("a")), @"models[0].parameters: method `linear` requires `weight` for every model, but `a` has none");
        let shared = Recipe::new("linear").model_with("a", [("normalize", true)]);
        assert_snapshot!(refusal(shared), @"models[0].parameters: `normalize` concerns the whole merge; move it to the recipe's `parameters`");
    }

    #[test]
    fn weights_that_cancel_cannot_be_normalized() {
        let cancel = Recipe::new("linear").model("a", 0.1).model("b", 0.2).model("c", -0.3);
        assert!(refusal(cancel.clone()).starts_with("`weight` sums to 5.55"));
        cancel.parameter("normalize", false).validate(&Methods::default()).unwrap();
    }

    #[test]
    fn the_models_must_suit_the_method() {
        assert_snapshot!(refusal(Recipe::new("task_arithmetic").model("a", 1.0)), @"method `task_arithmetic` needs a `base_model`, but the recipe has none");
        assert_snapshot!(refusal(Recipe::new("linear")), @"method `linear` takes at least 1 model besides the base, but the recipe has 0");
        assert_snapshot!(refusal(Recipe::new("linear").base("p").model("a", 1.0)), @"method `linear` has no base, but `base_model` is `p`; list it under `models` to include it, or drop it");
        Recipe::new("linear").base("a").model("a", 1.0).validate(&Methods::default()).unwrap();
        assert_snapshot!(refusal(two().model("a/", 0.5)), @"models[2] repeats models[0]: `a/`");
        assert_snapshot!(refusal(two().model("base", 0.5)), @"models[2] repeats base_model: `base`");
    }
}
