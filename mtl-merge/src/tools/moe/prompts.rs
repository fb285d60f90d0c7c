//! Prompts as token ids.
use super::config::{Expert, MoeConfig, Prompt};
use crate::{Error, Result};
use std::path::Path;

/// Token ids of the prompts of one expert.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Encoded {
    pub(super) positive: Vec<Vec<u32>>,
    pub(super) negative: Vec<Vec<u32>>,
}

/// Encodes the prompts of `experts`, given with their places in the configuration.
pub(super) fn encode(
    config: &MoeConfig,
    experts: &[(String, &Expert)],
    vocabulary: usize,
) -> Result<Vec<Encoded>> {
    let folder = super::super::model::folder(&config.base_model);
    let mut encoder = None;
    let mut list = |place: &str, field: &str, prompts: &[Prompt]| -> Result<Vec<Vec<u32>>> {
        let tokens = prompts.iter().enumerate().map(|(i, prompt)| {
            let place = format!("{place}.{field}[{i}]");
            let refuse = |message: String| Error::Recipe { path: place.clone(), message };
            let tokens = match prompt {
                Prompt::Tokens(tokens) => tokens.clone(),
                Prompt::Text(text) => {
                    let encoder = match &mut encoder {
                        Some(encoder) => encoder,
                        none => none.insert(Encoder::open(&folder)?),
                    };
                    encoder.encode(text).map_err(refuse)?
                }
            };
            if tokens.is_empty() {
                return Err(refuse("has no tokens".into()));
            }
            if let Some(token) = tokens.iter().find(|&&t| t as usize >= vocabulary) {
                let message = format!("token {token} is outside the vocabulary of {vocabulary} tokens");
                return Err(refuse(message));
            }
            Ok(tokens)
        });
        tokens.collect()
    };
    let mut encoded = Vec::with_capacity(experts.len());
    for (place, expert) in experts {
        encoded.push(Encoded {
            positive: list(place, "positive_prompts", expert.positive_list())?,
            negative: list(place, "negative_prompts", expert.negative_list())?,
        });
    }
    Ok(encoded)
}

#[cfg(feature = "tokenizers")]
struct Encoder {
    tokenizer: tokenizers::Tokenizer,
    /// Text that begins every prompt.
    bos: String,
}

#[cfg(feature = "tokenizers")]
impl Encoder {
    fn open(folder: &Path) -> Result<Self> {
        use serde_json::Value;
        let path = folder.join("tokenizer.json");
        let tokenizer = tokenizers::Tokenizer::from_file(&path)
            .map_err(|e| mtl_core::Error::format(&path, format!("cannot be used as a tokenizer: {e}")))?;
        let mut bos = None;
        for name in ["tokenizer_config.json", "special_tokens_map.json"] {
            let settings = super::super::model::read_object(&folder.join(name))?.unwrap_or_default();
            let token = settings.get("bos_token");
            // A plain string, or an object with its text.
            let text = token
                .and_then(|token| token.as_str().or_else(|| token.get("content").and_then(Value::as_str)));
            bos = bos.or(text.map(str::to_owned));
        }
        Ok(Self { tokenizer, bos: bos.unwrap_or_default() })
    }

    fn encode(&self, text: &str) -> Result<Vec<u32>, String> {
        let encoding = self.tokenizer.encode(format!("{}{text}", self.bos), false);
        Ok(encoding.map_err(|e| format!("cannot be encoded: {e}"))?.get_ids().to_vec())
    }
}

#[cfg(not(feature = "tokenizers"))]
struct Encoder;

#[cfg(not(feature = "tokenizers"))]
impl Encoder {
    fn open(_folder: &Path) -> Result<Self> {
        Ok(Self)
    }

    #[allow(clippy::unused_self)]
    fn encode(&self, _text: &str) -> Result<Vec<u32>, String> {
        Err("is text, which needs the feature `tokenizers`; build with `--features tokenizers`, or give token ids \
             such as [1, 5, 7]"
            .into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn encode_one(prompt: Prompt) -> Result<Vec<Encoded>> {
        let config = MoeConfig::new("nowhere", vec![Expert::new("a").positive(prompt)]);
        encode(&config, &config.all().collect::<Vec<_>>(), 10)
    }

    #[test]
    fn token_ids_are_taken_as_they_are_within_the_vocabulary() {
        let encoded = encode_one(Prompt::Tokens(vec![1, 9])).unwrap();
        assert_eq!(encoded[0].positive, [[1, 9]]);
        let error = encode_one(Prompt::Tokens(vec![1, 10])).unwrap_err().to_string();
        assert_eq!(error, "experts[0].positive_prompts[0]: token 10 is outside the vocabulary of 10 tokens");
    }

    #[cfg(not(feature = "tokenizers"))]
    #[test]
    fn text_without_a_tokenizer_is_refused_with_what_would_help() {
        let error = encode_one(Prompt::Text("hi".into())).unwrap_err().to_string();
        insta::assert_snapshot!(error, @"experts[0].positive_prompts[0]: is text, which needs the feature `tokenizers`; build with `--features tokenizers`, or give token ids such as [1, 5, 7]");
    }

    #[cfg(feature = "tokenizers")]
    #[test]
    fn text_is_encoded_behind_the_token_that_begins_it() {
        let dir = tempfile::tempdir().unwrap();
        let tokenizer = r#"{"version": "1.0", "added_tokens": [{"id": 0, "content": "<s>", "single_word": false,
            "lstrip": false, "rstrip": false, "normalized": false, "special": true}],
            "pre_tokenizer": {"type": "Whitespace"},
            "model": {"type": "WordLevel", "vocab": {"<s>": 0, "hello": 3, "world": 4, "?": 5}, "unk_token": "?"}}"#;
        std::fs::write(dir.path().join("tokenizer.json"), tokenizer).unwrap();
        let settings = r#"{"bos_token": {"content": "<s>"}}"#;
        std::fs::write(dir.path().join("tokenizer_config.json"), settings).unwrap();
        let expert = Expert::new("a").positive(Prompt::Text("hello there world".into()));
        let config = MoeConfig::new(dir.path().display().to_string(), vec![expert]);
        let encoded = encode(&config, &config.all().collect::<Vec<_>>(), 10).unwrap();
        assert_eq!(encoded[0].positive, [[0, 3, 5, 4]]);
    }
}
