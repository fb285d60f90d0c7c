//! Output architectures: which mixtures they can hold, and what names and settings they use.
use super::config::{GateMode, MoeConfig};
use crate::{Error, FloatType, Result};
use serde::Serialize;
use serde_json::{Map, Value, json};

/// An architecture of a mixture of experts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub enum Architecture {
    /// Mixtral, from Llama or Mistral models.
    #[serde(rename = "Mixtral")]
    Mixtral,
    /// DeepSeek's first mixture, from Llama or Mistral models, with at most one shared expert.
    #[serde(rename = "DeepSeek MoE")]
    Deepseek,
    /// Qwen2 MoE, from Qwen2, Llama or Mistral models, with one shared expert behind a gate.
    #[serde(rename = "Qwen MoE")]
    Qwen,
    /// Qwen3 MoE, from Qwen3 models.
    #[serde(rename = "Qwen3 MoE")]
    Qwen3,
}

/// All of them, in the order of preference.
const ALL: [Architecture; 4] =
    [Architecture::Mixtral, Architecture::Deepseek, Architecture::Qwen, Architecture::Qwen3];

/// The three matrices of a gated perceptron.
pub(super) const PARTS: [&str; 3] = ["gate_proj", "up_proj", "down_proj"];

/// Sizes of the output.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Sizes {
    /// Inner width of an expert.
    pub(super) inner: usize,
    /// Inner width of the shared expert.
    pub(super) shared_inner: usize,
    pub(super) hidden: usize,
}

impl Architecture {
    /// Name, as in mergekit.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Mixtral => "Mixtral",
            Self::Deepseek => "DeepSeek MoE",
            Self::Qwen => "Qwen MoE",
            Self::Qwen3 => "Qwen3 MoE",
        }
    }

    /// The one that the configuration asks for, or the first that can hold it; `types` are the models' `model_type`s.
    pub(super) fn choose(config: &MoeConfig, types: &[String]) -> Result<Self> {
        let wanted = config.architecture.as_deref().unwrap_or_default().to_lowercase();
        let candidates: Vec<Self> =
            ALL.into_iter().filter(|a| a.name().to_lowercase().starts_with(&wanted)).collect();
        let mut reasons = Vec::new();
        for candidate in &candidates {
            match candidate.obstacle(config, types) {
                None => return Ok(*candidate),
                Some(reason) => reasons.push(format!("{} {reason}", candidate.name())),
            }
        }
        let message = if candidates.is_empty() {
            let names = ALL.map(Self::name).join(", ");
            format!("no output architecture begins with `{wanted}`; there are {names}")
        } else {
            format!("no output architecture can hold this mixture: {}", reasons.join("; "))
        };
        Err(Error::Recipe { path: "architecture".into(), message })
    }

    /// Why this architecture cannot hold the mixture.
    fn obstacle(self, config: &MoeConfig, types: &[String]) -> Option<String> {
        let shared = config.shared();
        let prompted = shared.iter().any(|e| !e.positive_list().is_empty() || !e.negative_list().is_empty());
        let from: &[&str] = match self {
            Self::Mixtral | Self::Deepseek => &["llama", "mistral"],
            Self::Qwen => &["qwen2", "llama", "mistral"],
            Self::Qwen3 => &["qwen3"],
        };
        match self {
            Self::Mixtral | Self::Qwen3 if !shared.is_empty() => return Some("has no shared experts".into()),
            Self::Deepseek if shared.len() > 1 => return Some("has at most one shared expert".into()),
            Self::Deepseek if prompted => {
                return Some("has no gate before its shared expert, which can have no prompts".into());
            }
            Self::Qwen if shared.len() != 1 => return Some("needs exactly one shared expert".into()),
            Self::Qwen if !config.gate_mode.is_random() && !prompted => {
                return Some("needs prompts for its shared expert".into());
            }
            _ => {}
        }
        let first = types.first()?;
        if let Some(other) = types.iter().find(|t| *t != first) {
            return Some(format!("needs models of one type, not both {first} and {other}"));
        }
        (!from.contains(&first.as_str()))
            .then(|| format!("is made from models of type {}, not {first}", from.join(", ")))
    }

    /// Whether the shared expert has a gate.
    pub(super) fn gates_shared(self, mode: GateMode, has_prompts: bool) -> bool {
        self == Self::Qwen && (has_prompts || mode.is_random())
    }

    /// Name of the router's weight.
    pub(super) fn router(self, layer: usize, fused: bool) -> String {
        match self {
            Self::Mixtral if !fused => format!("model.layers.{layer}.block_sparse_moe.gate.weight"),
            _ => format!("model.layers.{layer}.mlp.gate.weight"),
        }
    }

    /// Name of matrix `part` of an expert.
    pub(super) fn expert(self, layer: usize, expert: usize, part: &str) -> String {
        let layer = format!("model.layers.{layer}");
        match (self, part) {
            (Self::Mixtral, "gate_proj") => format!("{layer}.block_sparse_moe.experts.{expert}.w1.weight"),
            (Self::Mixtral, "down_proj") => format!("{layer}.block_sparse_moe.experts.{expert}.w2.weight"),
            (Self::Mixtral, _) => format!("{layer}.block_sparse_moe.experts.{expert}.w3.weight"),
            _ => format!("{layer}.mlp.experts.{expert}.{part}.weight"),
        }
    }

    /// Name of matrix `part` of the shared expert.
    pub(super) fn shared(self, layer: usize, part: &str) -> String {
        let group = if self == Self::Qwen { "shared_expert" } else { "shared_experts" };
        format!("model.layers.{layer}.mlp.{group}.{part}.weight")
    }

    /// Whether transformers 5 keeps the experts of a layer in one tensor.
    pub(super) fn can_fuse(self) -> bool {
        matches!(self, Self::Mixtral | Self::Qwen | Self::Qwen3)
    }

    /// Whether the attention's queries, keys and values have biases, to be made up as zeros where the base has none.
    pub(super) fn wants_bias(self) -> bool {
        self == Self::Qwen
    }

    /// `config.json` of the output, from the base's.
    pub(super) fn config(
        self,
        base: &Map<String, Value>,
        config: &MoeConfig,
        float: FloatType,
        sizes: Sizes,
    ) -> Map<String, Value> {
        let mut out = base.clone();
        let (n, k) = (config.experts.len(), config.experts_per_token);
        let (class, kind) = match self {
            Self::Mixtral => ("MixtralForCausalLM", "mixtral"),
            Self::Deepseek => ("DeepseekForCausalLM", "deepseek"),
            Self::Qwen => ("Qwen2MoeForCausalLM", "qwen2_moe"),
            Self::Qwen3 => ("Qwen3MoeForCausalLM", "qwen3_moe"),
        };
        let mut set = |key: &str, value: Value| out.insert(key.to_owned(), value);
        set("architectures", json!([class]));
        set("model_type", json!(kind));
        set("num_experts_per_tok", json!(k));
        set("intermediate_size", json!(sizes.inner));
        set(if base.contains_key("dtype") { "dtype" } else { "torch_dtype" }, json!(float.name()));
        match self {
            Self::Mixtral => {
                set("num_local_experts", json!(n));
                set("sliding_window", Value::Null);
            }
            Self::Deepseek => {
                set("n_routed_experts", json!(n));
                set("n_shared_experts", config.shared().first().map_or(Value::Null, |_| json!(1)));
                set("first_k_dense_replace", json!(0));
                set("moe_layer_freq", json!(1));
                set("scoring_func", json!("softmax"));
                set("norm_topk_prob", json!(true));
                set("moe_intermediate_size", json!(sizes.inner));
                let place = |class: &str| json!(format!("deepseek-ai/deepseek-moe-16b-base--{class}"));
                let map = json!({
                    "AutoConfig": place("configuration_deepseek.DeepseekConfig"),
                    "AutoModel": place("modeling_deepseek.DeepseekModel"),
                    "AutoModelForCausalLM": place("modeling_deepseek.DeepseekForCausalLM"),
                });
                set("auto_map", map);
            }
            Self::Qwen | Self::Qwen3 => {
                set("num_experts", json!(n));
                set("decoder_sparse_step", json!(1));
                set("mlp_only_layers", json!([]));
                set("norm_topk_prob", json!(true));
                set("moe_intermediate_size", json!(sizes.inner));
                set("sliding_window", Value::Null);
                set("use_sliding_window", json!(false));
                if self == Self::Qwen {
                    set("shared_expert_intermediate_size", json!(sizes.shared_inner));
                    set("qkv_bias", json!(true));
                }
            }
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tools::moe::{Expert, Prompt};

    fn choose(shared: usize, prompted: bool, architecture: Option<&str>, types: [&str; 2]) -> String {
        let mut config = MoeConfig::new("b", vec![Expert::new("a"), Expert::new("c")]);
        let one = Expert::new("s");
        let one = if prompted { one.positive(Prompt::Tokens(vec![1])) } else { one };
        config.shared_experts = (shared > 0).then(|| vec![one; shared]);
        config.architecture = architecture.map(str::to_owned);
        match Architecture::choose(&config, &types.map(str::to_owned)) {
            Ok(architecture) => architecture.name().to_owned(),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn the_architecture_follows_from_models_and_shared_experts() {
        assert_eq!(choose(0, false, None, ["llama"; 2]), "Mixtral");
        assert_eq!(choose(0, false, None, ["mistral"; 2]), "Mixtral");
        assert_eq!(choose(1, false, None, ["llama"; 2]), "DeepSeek MoE");
        assert_eq!(choose(1, true, None, ["llama"; 2]), "Qwen MoE");
        assert_eq!(choose(0, false, None, ["qwen3"; 2]), "Qwen3 MoE");
        assert_eq!(choose(0, false, Some("deepseek"), ["llama"; 2]), "DeepSeek MoE");
    }

    #[test]
    fn what_no_architecture_can_hold_is_explained() {
        insta::assert_snapshot!(choose(0, false, None, ["llama", "qwen2"]), @"architecture: no output architecture can hold this mixture: Mixtral needs models of one type, not both llama and qwen2; DeepSeek MoE needs models of one type, not both llama and qwen2; Qwen MoE needs exactly one shared expert; Qwen3 MoE needs models of one type, not both llama and qwen2");
        insta::assert_snapshot!(choose(0, false, Some("gpt"), ["llama"; 2]), @"architecture: no output architecture begins with `gpt`; there are Mixtral, DeepSeek MoE, Qwen MoE, Qwen3 MoE");
        insta::assert_snapshot!(choose(0, false, Some("qwen3"), ["llama"; 2]), @"architecture: no output architecture can hold this mixture: Qwen3 MoE is made from models of type qwen3, not llama");
    }
}
