//! The configuration of a mixture of experts: mergekit-moe's YAML, read unchanged.
use crate::{Error, FloatType, Result};
use mtl_core::Seed;
use serde::{Deserialize, Serialize};
use std::path::Path;

/// A mixture of experts to be built from dense models of one architecture.
///
/// ```
/// use mtl_merge::tools::moe::{GateMode, MoeConfig};
///
/// let config = MoeConfig::from_yaml(
///     "base_model: models/base
/// gate_mode: cheap_embed
/// experts:
///   - source_model: models/code
///     positive_prompts: [[1, 822, 9]] # Token ids, or text.
///   - source_model: models/prose
///     positive_prompts: [\"Once upon a time\"]
/// ",
/// )?;
/// assert_eq!((config.experts.len(), config.experts_per_token), (2, 2));
/// assert_eq!(config.gate_mode, GateMode::CheapEmbed);
/// # Ok::<(), mtl_merge::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct MoeConfig {
    /// Model that gives attention, norms and embeddings, and that sees the prompts.
    pub base_model: String,
    /// Models whose multilayer perceptrons become the experts of every layer.
    pub experts: Vec<Expert>,
    /// Experts that every token passes; at most one, in architectures that have them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shared_experts: Option<Vec<Expert>>,
    /// How the router's weights are found.
    #[serde(default)]
    pub gate_mode: GateMode,
    /// Type of the output; that of the base's `config.json` when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dtype: Option<FloatType>,
    /// Experts that a token is sent to.
    #[serde(default = "two")]
    pub experts_per_token: usize,
    /// Beginning of the name of the output architecture; chosen from the models when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub architecture: Option<String>,
    /// Seed of random gates and of noise.
    #[serde(default = "zero")]
    pub seed: Seed,
}

/// One expert.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct Expert {
    /// The dense model, or `model+adapter`.
    pub source_model: String,
    /// What the expert is for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub positive_prompts: Option<Vec<Prompt>>,
    /// What the expert is not for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub negative_prompts: Option<Vec<Prompt>>,
    /// Standard deviation of Gaussian noise on the expert's weights.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub noise_scale: Option<f64>,
    /// Factor of `down_proj`, the part that writes to the residual stream.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub residual_scale: Option<f64>,
}

/// A prompt as text, to be encoded by the base's tokenizer, or as token ids.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Prompt {
    /// Token ids as the model sees them, including one that begins a text.
    Tokens(Vec<u32>),
    /// Text; the token that begins a text is put before it.
    Text(String),
}

/// How the router's weights are found.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum GateMode {
    /// Hidden state of the base at the last token of each prompt, at the entrance of every layer.
    #[default]
    #[serde(alias = "hidden_last")]
    Hidden,
    /// As [`GateMode::Hidden`], averaged over the tokens of each prompt.
    HiddenAvg,
    /// Sum of the embeddings of the prompts' tokens, the same for all layers.
    CheapEmbed,
    /// Standard normal.
    Random,
    /// Uniform within ±1/√hidden, as a new linear map is initialised.
    UniformRandom,
}

impl GateMode {
    /// Whether prompts do not matter.
    pub(super) fn is_random(self) -> bool {
        matches!(self, Self::Random | Self::UniformRandom)
    }
}

fn two() -> usize {
    2
}

fn zero() -> Seed {
    Seed(0)
}

impl Expert {
    /// An expert without prompts.
    pub fn new(source_model: impl Into<String>) -> Self {
        Self {
            source_model: source_model.into(),
            positive_prompts: None,
            negative_prompts: None,
            noise_scale: None,
            residual_scale: None,
        }
    }

    /// Adds a prompt that the expert is for.
    #[must_use]
    pub fn positive(mut self, prompt: Prompt) -> Self {
        self.positive_prompts.get_or_insert_default().push(prompt);
        self
    }

    /// Adds a prompt that the expert is not for.
    #[must_use]
    pub fn negative(mut self, prompt: Prompt) -> Self {
        self.negative_prompts.get_or_insert_default().push(prompt);
        self
    }

    pub(super) fn positive_list(&self) -> &[Prompt] {
        self.positive_prompts.as_deref().unwrap_or_default()
    }

    pub(super) fn negative_list(&self) -> &[Prompt] {
        self.negative_prompts.as_deref().unwrap_or_default()
    }
}

impl MoeConfig {
    /// A configuration with mergekit's defaults.
    pub fn new(base_model: impl Into<String>, experts: Vec<Expert>) -> Self {
        Self {
            base_model: base_model.into(),
            experts,
            shared_experts: None,
            gate_mode: GateMode::default(),
            dtype: None,
            experts_per_token: 2,
            architecture: None,
            seed: Seed(0),
        }
    }

    /// Reads YAML (of which JSON is a part).
    ///
    /// # Errors
    ///
    /// [`Error::Recipe`] with line and column.
    pub fn from_yaml(text: &str) -> Result<Self> {
        serde_saphyr::from_str(text)
            .map_err(|e| Error::Recipe { path: "configuration".into(), message: e.to_string() })
    }

    /// Reads a file.
    ///
    /// # Errors
    ///
    /// As [`MoeConfig::from_yaml`], and [`Error::Core`] when the file cannot be read.
    pub fn read(path: &Path) -> Result<Self> {
        let text = super::super::model::read_text(path)?;
        let missing = || mtl_core::Error::io("read", path, std::io::ErrorKind::NotFound.into());
        Self::from_yaml(&text.ok_or_else(missing)?).map_err(|error| match error {
            Error::Recipe { message, .. } => Error::Recipe { path: path.display().to_string(), message },
            other => other,
        })
    }

    pub(super) fn shared(&self) -> &[Expert] {
        self.shared_experts.as_deref().unwrap_or_default()
    }

    /// Every expert with its place in the configuration.
    pub(super) fn all(&self) -> impl Iterator<Item = (String, &Expert)> {
        let named = |list: &'static str| move |(i, e)| (format!("{list}[{i}]"), e);
        let experts = self.experts.iter().enumerate().map(named("experts"));
        experts.chain(self.shared().iter().enumerate().map(named("shared_experts")))
    }

    /// Checks what needs no model; `allow_same` accepts experts that are all the same.
    ///
    /// # Errors
    ///
    /// [`Error::Recipe`] for fewer experts than a token is sent to, prompts that are missing or the same for all
    /// experts, experts that are all one model, and scales that are not finite.
    pub fn validate(&self, allow_same: bool) -> Result<()> {
        let refuse = |path: &str, message: String| Err(Error::Recipe { path: path.to_owned(), message });
        if self.experts_per_token == 0 {
            return refuse("experts_per_token", "must be at least 1, but is 0".into());
        }
        if self.experts.len() < self.experts_per_token {
            let (n, k) = (self.experts.len(), self.experts_per_token);
            let message = format!(
                "there are {n}, but every token is sent to {k}; add experts or lower `experts_per_token`"
            );
            return refuse("experts", message);
        }
        for (place, expert) in self.all() {
            for (field, value, least) in [
                ("noise_scale", expert.noise_scale, 0.0),
                ("residual_scale", expert.residual_scale, f64::NEG_INFINITY),
            ] {
                if let Some(value) = value.filter(|x| !(x.is_finite() && *x >= least)) {
                    let must = if least == 0.0 { "at least 0 and finite" } else { "finite" };
                    return refuse(&format!("{place}.{field}"), format!("must be {must}, but is {value}"));
                }
            }
            let lists =
                [("positive_prompts", expert.positive_list()), ("negative_prompts", expert.negative_list())];
            for (field, prompts) in lists {
                if let Some(i) = prompts.iter().position(|p| *p == Prompt::Tokens(Vec::new())) {
                    return refuse(&format!("{place}.{field}[{i}]"), "has no tokens".into());
                }
            }
        }
        if self.gate_mode.is_random() {
            return Ok(()); // To be trained: neither prompts nor distinct experts are needed.
        }
        if let Some((place, _)) =
            self.all().take(self.experts.len()).find(|(_, e)| e.positive_list().is_empty())
        {
            let message = "is missing; say what the expert is for, or use `gate_mode: random`".into();
            return refuse(&format!("{place}.positive_prompts"), message);
        }
        let shared = self.shared();
        if shared.iter().any(|e| e.positive_list().is_empty() != shared[0].positive_list().is_empty()) {
            return refuse("shared_experts", "either all or none need `positive_prompts`".into());
        }
        if let [first, others @ ..] = self.experts.as_slice()
            && !others.is_empty()
        {
            let prompts = |e: &Expert| (e.positive_list().to_vec(), e.negative_list().to_vec());
            if others.iter().all(|e| prompts(e) == prompts(first)) {
                let message = "all have the same prompts, so the router could not tell them apart";
                return refuse("experts", message.into());
            }
            if !allow_same && others.iter().all(|e| e.source_model == first.source_model) {
                let message = "all are the same model: the mixture would cost more and compute the same; if it is to be \
                               trained, allow it or use `gate_mode: random`";
                return refuse("experts", message.into());
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn two_experts() -> MoeConfig {
        let expert = |name: &str, token| Expert::new(name).positive(Prompt::Tokens(vec![1, token]));
        MoeConfig::new("base", vec![expert("a", 5), expert("b", 6)])
    }

    fn refusal(config: &MoeConfig) -> String {
        config.validate(false).unwrap_err().to_string()
    }

    #[test]
    fn yaml_of_mergekit_is_read_and_slips_are_named() {
        let text = "base_model: b\ngate_mode: hidden_avg\ndtype: bfloat16\nexperts_per_token: 1\nexperts:\n\
                    - source_model: x\n  positive_prompts: ['hi', [1, 2]]\n  noise_scale: 0.1\n\
                    shared_experts:\n- source_model: y\n  residual_scale: 0.5\n";
        let config = MoeConfig::from_yaml(text).unwrap();
        assert_eq!((config.gate_mode, config.dtype), (GateMode::HiddenAvg, Some(FloatType::Bf16)));
        let prompts = [Prompt::Text("hi".into()), Prompt::Tokens(vec![1, 2])];
        assert_eq!(config.experts[0].positive_list(), prompts);
        assert_eq!(config.shared()[0].residual_scale, Some(0.5));
        let error = MoeConfig::from_yaml("base_model: b\nexpert: []\n").unwrap_err().to_string();
        assert!(error.contains("expert") && error.contains("line 2"), "{error}");
    }

    #[test]
    fn mixtures_that_cannot_work_are_refused() {
        two_experts().validate(false).unwrap();
        let mut config = two_experts();
        config.experts_per_token = 3;
        insta::assert_snapshot!(refusal(&config), @"experts: there are 2, but every token is sent to 3; add experts or lower `experts_per_token`");
        let mut config = two_experts();
        config.experts[1].positive_prompts = None;
        insta::assert_snapshot!(refusal(&config), @"experts[1].positive_prompts: is missing; say what the expert is for, or use `gate_mode: random`");
        config.gate_mode = GateMode::Random;
        config.validate(false).unwrap();
        let mut config = two_experts();
        config.experts[1].positive_prompts = config.experts[0].positive_prompts.clone();
        insta::assert_snapshot!(refusal(&config), @"experts: all have the same prompts, so the router could not tell them apart");
        let mut config = two_experts();
        config.experts[1].source_model = "a".into();
        insta::assert_snapshot!(refusal(&config), @"experts: all are the same model: the mixture would cost more and compute the same; if it is to be trained, allow it or use `gate_mode: random`");
        config.validate(true).unwrap();
        let mut config = two_experts();
        config.experts[1].noise_scale = Some(-0.5);
        insta::assert_snapshot!(refusal(&config), @"experts[1].noise_scale: must be at least 0 and finite, but is -0.5");
        config.experts[1].noise_scale = None;
        config.experts[0].negative_prompts = Some(vec![Prompt::Tokens(Vec::new())]);
        insta::assert_snapshot!(refusal(&config), @"experts[0].negative_prompts[0]: has no tokens");
    }
}
