//! Graphs from the `config.json` of a Hugging Face model.
use super::{BertSpec, DecoderMoe, DecoderSpec, ModelGraph, VitHead, VitSpec};
use crate::{HwError, Result, text};
use serde::Deserialize;
use serde::de::IgnoredAny;
use std::collections::BTreeMap;

/// Values of `model_type` that [`HfModel::from_config`] reads.
pub const HF_MODEL_TYPES: [&str; 7] = ["bert", "deit", "llama", "mistral", "mixtral", "qwen2", "vit"];

/// A model described by a Hugging Face configuration.
///
/// Keys that are missing take the library's defaults; keys without influence on shapes are passed over. Sliding windows
/// are not modelled: attention counts in full, as the library's default implementation computes it.
///
/// ```
/// use mtl_hw::graph::HfModel;
/// let json = r#"{
///     "model_type": "llama", "architectures": ["LlamaForCausalLM"], "hidden_size": 2048, "num_hidden_layers": 16,
///     "num_attention_heads": 32, "num_key_value_heads": 8, "intermediate_size": 8192, "vocab_size": 128256,
///     "tie_word_embeddings": true
/// }"#;
/// let model = HfModel::from_config(json)?.tokens(64);
/// assert_eq!(model.graph()?.params()?, 1_235_814_400); // Llama 3.2 1B
/// let error = HfModel::from_config(r#"{"model_type": "mamba"}"#).unwrap_err();
/// assert_eq!(
///     error.to_string(),
///     "unknown model_type `mamba`; supported are bert, deit, llama, mistral, mixtral, qwen2, vit"
/// );
/// # Ok::<(), mtl_hw::HwError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum HfModel {
    /// A vision transformer.
    Vit(VitSpec),
    /// A text encoder.
    Bert(BertSpec),
    /// A decoder-only language model.
    Decoder(DecoderSpec),
}

impl HfModel {
    /// Reads a configuration.
    ///
    /// # Errors
    ///
    /// [`HwError::Parse`] naming the key, [`HwError::Unknown`] for a model type or architecture that is not supported,
    /// [`HwError::Config`] for a value that is not, or an error of the specification's `graph`.
    pub fn from_config(json: &str) -> Result<Self> {
        let config: Config = text::from_json("config.json", json)?;
        let model = match config.model_type.as_str() {
            "bert" => Self::Bert(config.bert()?),
            "vit" | "deit" => Self::Vit(config.vit()?),
            "llama" => Self::Decoder(config.decoder(&LLAMA)?),
            "mistral" => Self::Decoder(config.decoder(&MISTRAL)?),
            "mixtral" => Self::Decoder(config.decoder(&MIXTRAL)?),
            "qwen2" => Self::Decoder(config.decoder(&QWEN2)?),
            other => {
                return Err(HwError::Unknown {
                    kind: "model_type",
                    name: other.to_owned(),
                    hint: format!("supported are {}", HF_MODEL_TYPES.join(", ")),
                });
            }
        };
        model.graph()?;
        Ok(model)
    }

    /// Sets the tokens of one sequence; a vision transformer has as many as its image makes. Without this, a text model
    /// reads 128 tokens, or as many as a smaller position table allows.
    #[must_use]
    pub fn tokens(mut self, tokens: u32) -> Self {
        match &mut self {
            Self::Vit(_) => {}
            Self::Bert(spec) => spec.tokens = tokens,
            Self::Decoder(spec) => spec.tokens = tokens,
        }
        self
    }

    /// Builds the graph.
    ///
    /// # Errors
    ///
    /// [`HwError::Config`] naming the field that is zero, not divisible, or out of range.
    pub fn graph(&self) -> Result<ModelGraph> {
        match self {
            Self::Vit(spec) => spec.graph(),
            Self::Bert(spec) => spec.graph(),
            Self::Decoder(spec) => spec.graph(),
        }
    }
}

/// The keys that decide shapes. Configurations have many others, so unknown keys are not refused.
#[derive(Debug, Deserialize)]
struct Config {
    model_type: String,
    architectures: Option<Vec<String>>,
    hidden_size: Option<u32>,
    num_hidden_layers: Option<u32>,
    num_attention_heads: Option<u32>,
    num_key_value_heads: Option<u32>,
    head_dim: Option<u32>,
    intermediate_size: Option<u32>,
    hidden_act: Option<String>,
    vocab_size: Option<u32>,
    max_position_embeddings: Option<u32>,
    type_vocab_size: Option<u32>,
    image_size: Option<Size>,
    patch_size: Option<u32>,
    num_channels: Option<u32>,
    qkv_bias: Option<bool>,
    attention_bias: Option<bool>,
    mlp_bias: Option<bool>,
    tie_word_embeddings: Option<bool>,
    num_local_experts: Option<u32>,
    num_experts_per_tok: Option<u32>,
    num_labels: Option<u32>,
    id2label: Option<BTreeMap<String, IgnoredAny>>,
}

/// A side, or height and width.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(untagged)]
enum Size {
    Side(u32),
    Sides([u32; 2]),
}

/// The library's defaults of a family of decoders.
struct Family {
    class: &'static str,
    vocab: u32,
    hidden: u32,
    /// Heads of keys and values; absent for as many as of queries.
    kv_heads: Option<u32>,
    qkv_bias: bool,
    moe: Option<DecoderMoe>,
}

const LLAMA: Family =
    Family { class: "Llama", vocab: 32_000, hidden: 11_008, kv_heads: None, qkv_bias: false, moe: None };
const MISTRAL: Family = Family { class: "Mistral", hidden: 14_336, kv_heads: Some(8), ..LLAMA };
const MIXTRAL: Family =
    Family { class: "Mixtral", moe: Some(DecoderMoe { experts: 8, top_k: 2 }), ..MISTRAL };
const QWEN2: Family =
    Family { class: "Qwen2", vocab: 151_936, hidden: 22_016, kv_heads: Some(32), qkv_bias: true, moe: None };

impl Config {
    /// The first architecture without its class, such as `ForMaskedLM`; `default` when none is named.
    fn architecture(
        &self,
        class: &str,
        default: &'static str,
        known: &[&'static str],
    ) -> Result<&'static str> {
        let Some(name) = self.architectures.as_ref().and_then(|a| a.first()) else { return Ok(default) };
        let found = name.strip_prefix(class).and_then(|rest| known.iter().find(|k| **k == rest));
        found.copied().ok_or_else(|| HwError::Unknown {
            kind: "architecture",
            name: name.clone(),
            hint: format!(
                "supported are {}",
                known.iter().map(|k| format!("{class}{k}")).collect::<Vec<_>>().join(", ")
            ),
        })
    }

    fn labels(&self) -> u32 {
        let listed = self.id2label.as_ref().map(|l| u32::try_from(l.len()).unwrap_or(u32::MAX));
        listed.or(self.num_labels).unwrap_or(2)
    }

    fn activation(&self, default: &str, accepted: &[&str]) -> Result<()> {
        let name = self.hidden_act.as_deref().unwrap_or(default);
        if accepted.contains(&name) {
            return Ok(());
        }
        Err(HwError::config("hidden_act", format!("one of {}", accepted.join(", ")), name))
    }

    fn gelu(&self) -> Result<()> {
        self.activation("gelu", &["gelu", "gelu_new", "gelu_fast", "gelu_pytorch_tanh", "quick_gelu"])
    }

    fn bert(&self) -> Result<BertSpec> {
        self.gelu()?;
        let known = ["Model", "ForMaskedLM", "ForSequenceClassification", "ForPreTraining"];
        let architecture = self.architecture("Bert", "Model", &known)?;
        let base = BertSpec::base(128);
        let positions = self.max_position_embeddings.unwrap_or(base.positions);
        Ok(BertSpec {
            name: self.model_type.clone(),
            tokens: base.tokens.min(positions),
            vocab: self.vocab_size.unwrap_or(base.vocab),
            positions,
            types: self.type_vocab_size.unwrap_or(base.types),
            dim: self.hidden_size.unwrap_or(base.dim),
            depth: self.num_hidden_layers.unwrap_or(base.depth),
            heads: self.num_attention_heads.unwrap_or(base.heads),
            hidden: self.intermediate_size.unwrap_or(base.hidden),
            pooler: architecture != "ForMaskedLM",
            heads_out: match architecture {
                "ForSequenceClassification" => vec![VitHead::shared(self.labels())],
                // Whether one sentence follows the other.
                "ForPreTraining" => vec![VitHead::shared(2)],
                _ => Vec::new(),
            },
            masked_lm: matches!(architecture, "ForMaskedLM" | "ForPreTraining"),
        })
    }

    fn vit(&self) -> Result<VitSpec> {
        self.gelu()?;
        let distilled = self.model_type == "deit";
        let class = if distilled { "DeiT" } else { "ViT" };
        let known: &[&str] = if distilled {
            &["Model", "ForImageClassification", "ForImageClassificationWithTeacher"]
        } else {
            &["Model", "ForImageClassification"]
        };
        let architecture = self.architecture(class, "Model", known)?;
        let head = VitHead::shared(self.labels());
        let base = VitSpec::base();
        Ok(VitSpec {
            name: self.model_type.clone(),
            image: match self.image_size {
                Some(Size::Side(side)) => [side, side],
                Some(Size::Sides(sides)) => sides,
                None => base.image,
            },
            patch: self.patch_size.unwrap_or(base.patch),
            channels: self.num_channels.unwrap_or(base.channels),
            dim: self.hidden_size.unwrap_or(base.dim),
            depth: self.num_hidden_layers.unwrap_or(base.depth),
            heads: self.num_attention_heads.unwrap_or(base.heads),
            mlp_hidden: self.intermediate_size.unwrap_or(base.mlp_hidden),
            prefix_tokens: if distilled { 2 } else { 1 },
            qkv_bias: self.qkv_bias.unwrap_or(true),
            heads_out: match architecture {
                "ForImageClassification" => vec![head],
                "ForImageClassificationWithTeacher" => vec![head; 2],
                _ => Vec::new(),
            },
            pooler: architecture == "Model",
            ..base
        })
    }

    fn decoder(&self, family: &Family) -> Result<DecoderSpec> {
        self.activation("silu", &["silu", "swish"])?;
        let architecture = self.architecture(family.class, "ForCausalLM", &["ForCausalLM", "Model"])?;
        if self.mlp_bias == Some(true) {
            return Err(HwError::config("mlp_bias", "false", true));
        }
        let (dim, heads) = (self.hidden_size.unwrap_or(4096), self.num_attention_heads.unwrap_or(32));
        let head_dim = match self.head_dim {
            Some(head_dim) => head_dim,
            None if heads == 0 || !dim.is_multiple_of(heads) => {
                let must = format!("a multiple of `num_attention_heads` = {heads}, or `head_dim` given");
                return Err(HwError::config("hidden_size", must, dim));
            }
            None => dim / heads,
        };
        let moe = family.moe.map(|moe| DecoderMoe {
            experts: self.num_local_experts.unwrap_or(moe.experts),
            top_k: self.num_experts_per_tok.unwrap_or(moe.top_k),
        });
        Ok(DecoderSpec {
            name: self.model_type.clone(),
            tokens: 128,
            past: 0,
            vocab: self.vocab_size.unwrap_or(family.vocab),
            dim,
            depth: self.num_hidden_layers.unwrap_or(32),
            heads,
            kv_heads: self.num_key_value_heads.or(family.kv_heads).unwrap_or(heads),
            head_dim,
            hidden: self.intermediate_size.unwrap_or(family.hidden),
            // Of these families only LLaMA has the key, and it means all four matrices.
            qkv_bias: family.qkv_bias || self.attention_bias.unwrap_or(false),
            out_bias: self.attention_bias.unwrap_or(false),
            lm_head: architecture == "ForCausalLM",
            tied_embeddings: self.tie_word_embeddings.unwrap_or(false),
            last_token_only: false,
            moe,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn params(json: &str) -> u64 {
        HfModel::from_config(json).unwrap().graph().unwrap().params().unwrap()
    }

    fn error(json: &str) -> String {
        HfModel::from_config(json).unwrap_err().to_string()
    }

    #[test]
    fn defaults_are_the_library_s() {
        assert_eq!(params(r#"{"model_type": "bert"}"#), 109_482_240);
        assert_eq!(params(r#"{"model_type": "bert", "architectures": ["BertForMaskedLM"]}"#), 109_514_298);
        assert_eq!(params(r#"{"model_type": "vit"}"#), 86_389_248);
        assert_eq!(params(r#"{"model_type": "llama"}"#), 6_738_415_616);
        assert_eq!(params(r#"{"model_type": "mistral"}"#), 7_241_732_096);
        assert_eq!(params(r#"{"model_type": "mixtral"}"#), 46_702_792_704);
    }

    #[test]
    fn published_models_have_their_published_sizes() {
        let qwen = r#"{"model_type": "qwen2", "hidden_size": 896, "num_hidden_layers": 24, "num_attention_heads": 14,
            "num_key_value_heads": 2, "intermediate_size": 4864, "vocab_size": 151936, "tie_word_embeddings": true}"#;
        assert_eq!(params(qwen), 494_032_768);
        let labels: Vec<String> = (0..1000).map(|i| format!("\"{i}\": \"class {i}\"")).collect();
        let deit = format!(
            r#"{{"model_type": "deit", "architectures": ["DeiTForImageClassificationWithTeacher"], "hidden_size": 192,
            "num_attention_heads": 3, "intermediate_size": 768, "id2label": {{{}}}, "image_size": 224}}"#,
            labels.join(",")
        );
        assert_eq!(params(&deit), 5_910_800);
    }

    #[test]
    fn unsupported_and_broken_configurations_say_what_is_expected() {
        insta::assert_snapshot!(error(r#"{"model_type": "t5"}"#), @"unknown model_type `t5`; supported are bert, deit, llama, mistral, mixtral, qwen2, vit");
        insta::assert_snapshot!(error(r#"{"model_type": "vit", "architectures": ["ViTMAEForPreTraining"]}"#), @"unknown architecture `ViTMAEForPreTraining`; supported are ViTModel, ViTForImageClassification");
        insta::assert_snapshot!(error(r#"{"hidden_size": 768}"#), @"config.json: `.`: missing field `model_type` at line 1 column 20");
        insta::assert_snapshot!(error(r#"{"model_type": "bert", "hidden_size": "wide"}"#), @r#"config.json: `hidden_size`: invalid type: string "wide", expected u32 at line 1 column 44"#);
        insta::assert_snapshot!(error(r#"{"model_type": "llama", "num_key_value_heads": 5}"#), @"`heads` must be a multiple of `kv_heads` = 5, but is 32");
        insta::assert_snapshot!(error(r#"{"model_type": "llama", "num_attention_heads": 0}"#), @"`hidden_size` must be a multiple of `num_attention_heads` = 0, or `head_dim` given, but is 4096");
        insta::assert_snapshot!(error(r#"{"model_type": "vit", "hidden_act": "relu"}"#), @"`hidden_act` must be one of gelu, gelu_new, gelu_fast, gelu_pytorch_tanh, quick_gelu, but is relu");
        insta::assert_snapshot!(error("[]"), @"config.json: `.`: invalid length 0, expected struct Config with 23 elements at line 1 column 2");
    }

    #[test]
    fn the_length_can_be_set() {
        let model = HfModel::from_config(r#"{"model_type": "bert", "max_position_embeddings": 64}"#).unwrap();
        assert!(model.graph().is_ok());
        assert!(model.clone().tokens(65).graph().is_err());
        let macs = |m: HfModel| m.graph().unwrap().macs().unwrap();
        assert!(macs(model.clone().tokens(32)) < macs(model));
    }
}
