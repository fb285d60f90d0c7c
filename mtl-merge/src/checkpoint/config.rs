//! `config.json`: what it says of a checkpoint, and what it must say of the merged one.
use super::{Stacked, layers};
use crate::{FloatType, Result};
use mtl_core::files;
use serde_json::{Map, Value};
use std::{io::Read, path::Path};

/// Name of the file.
pub(crate) const CONFIG: &str = "config.json";
/// Longest that is read; the largest known ones have some 100 KiB.
const MAX_CONFIG_BYTES: u64 = 16 << 20;
/// Parts of the configuration of a model of several modalities that describe the language model.
pub(super) const TEXT: [&str; 3] = ["text_config", "llm_config", "language_config"];
/// Keys of the type of the weights, the older first.
const DTYPE: [&str; 2] = ["torch_dtype", "dtype"];
const TIED: &str = "tie_word_embeddings";
const VOCAB_SIZE: &str = "vocab_size";

/// The configuration of a checkpoint in the layout of Hugging Face.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct ModelConfig {
    pub(super) entries: Map<String, Value>,
}

/// How the configuration of the merged checkpoint differs from the one it is made from.
#[derive(Debug, Default)]
pub(crate) struct Changes<'c> {
    /// Runs of layers.
    pub(crate) stacks: Vec<Stacked<'c>>,
    /// Type of the weights, if the recipe gives one.
    pub(crate) dtype: Option<FloatType>,
    /// Rows of the embedding table, if they are others.
    pub(crate) vocab_size: Option<usize>,
    /// Whether the head is not the embedding table.
    pub(crate) untied: bool,
}

impl ModelConfig {
    /// Reads the configuration in `dir`; `None` if there is none.
    ///
    /// # Errors
    ///
    /// [`crate::Error::Core`] for one that cannot be read, is too long, nested too deeply or no JSON object.
    pub(crate) fn read(dir: &Path) -> Result<Option<Self>> {
        let path = dir.join(CONFIG);
        // A link that leads nowhere counts as found, so that opening it says so.
        if path.symlink_metadata().is_err() {
            return Ok(None);
        }
        let mut bytes = Vec::new();
        let read = files::open_regular(&path)?.take(MAX_CONFIG_BYTES + 1).read_to_end(&mut bytes);
        read.map_err(|source| mtl_core::Error::io("read", &path, source))?;
        let parsed = Self::parse(&bytes).map_err(|message| mtl_core::Error::format(&path, message))?;
        Ok(Some(parsed))
    }

    fn parse(bytes: &[u8]) -> Result<Self, String> {
        if bytes.len() as u64 > MAX_CONFIG_BYTES {
            return Err(format!(
                "is longer than {} MiB; that is no model configuration",
                MAX_CONFIG_BYTES >> 20
            ));
        }
        if bytes.starts_with(b"version https://git-lfs") {
            return Err("is a Git LFS pointer, not the data; fetch the file with `git lfs pull`".into());
        }
        // The parser stops at 128 levels.
        match serde_json::from_slice(bytes) {
            Ok(Value::Object(entries)) => Ok(Self { entries }),
            Ok(_) => Err("is no model configuration: expected a JSON object".into()),
            Err(e) => Err(format!("is no model configuration: {e}")),
        }
    }

    /// The entry `key`, of the language model's part if the whole has none.
    fn get(&self, key: &str) -> Option<&Value> {
        let found = |entries: &Map<String, Value>| entries.get(key).is_some_and(|value| !value.is_null());
        let parts = TEXT.iter().filter_map(|part| self.entries.get(*part)?.as_object());
        std::iter::once(&self.entries).chain(parts).find(|entries| found(entries))?.get(key)
    }

    /// The class of the model, or its type.
    pub(crate) fn architecture(&self) -> Option<&str> {
        let class = self.entries.get("architectures").and_then(|classes| classes.get(0)?.as_str());
        class.or_else(|| self.entries.get("model_type")?.as_str())
    }

    /// Whether the head is the embedding table, if the file says so.
    pub(crate) fn tied(&self) -> Option<bool> {
        self.get(TIED)?.as_bool()
    }

    /// Rows of the embedding table.
    pub(crate) fn vocab_size(&self) -> Option<usize> {
        self.get(VOCAB_SIZE)?.as_u64()?.try_into().ok()
    }

    /// How the weights are quantised, if they are.
    pub(crate) fn quantization(&self) -> Option<String> {
        let settings = self.get("quantization_config")?;
        let method = settings.get("quant_method").and_then(Value::as_str);
        Some(method.unwrap_or("an unnamed method").chars().take(60).collect())
    }

    /// The configuration after `changes`; `warn` hears of what could not be adapted.
    pub(crate) fn changed(&self, changes: &Changes<'_>, warn: &dyn Fn(String)) -> Map<String, Value> {
        let mut entries = self.entries.clone();
        for stacked in &changes.stacks {
            layers::apply(&mut entries, stacked, warn);
        }
        if let Some(dtype) = changes.dtype {
            let name = Value::from(dtype.name());
            for_parts(&mut entries, |part| replace(part, &DTYPE, &name));
            if !DTYPE.iter().any(|key| entries.contains_key(*key)) {
                entries.insert(DTYPE[0].to_owned(), name);
            }
        }
        if let Some(rows) = changes.vocab_size {
            for_parts(&mut entries, |part| replace(part, &[VOCAB_SIZE], &Value::from(rows)));
            if self.vocab_size().is_none() {
                entries.insert(VOCAB_SIZE.to_owned(), Value::from(rows));
            }
        }
        if changes.untied {
            for_parts(&mut entries, |part| replace(part, &[TIED], &Value::from(false)));
            entries.insert(TIED.to_owned(), Value::from(false));
        }
        entries
    }
}

/// Applies `change` to the whole and to the language model's part.
fn for_parts(entries: &mut Map<String, Value>, change: impl Fn(&mut Map<String, Value>)) {
    change(entries);
    for part in TEXT {
        if let Some(Value::Object(part)) = entries.get_mut(part) {
            change(part);
        }
    }
}

/// Sets those of the `keys` that are there.
fn replace(entries: &mut Map<String, Value>, keys: &[&str], value: &Value) {
    for key in keys {
        if let Some(entry) = entries.get_mut(*key) {
            *entry = value.clone();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use insta::assert_snapshot;

    fn config(json: &str) -> ModelConfig {
        ModelConfig::parse(json.as_bytes()).unwrap()
    }

    #[test]
    fn facts_are_found_at_the_top_or_in_the_language_part() {
        let plain = config(r#"{"architectures": ["A"], "vocab_size": 5, "tie_word_embeddings": true}"#);
        assert_eq!(
            (plain.architecture(), plain.vocab_size(), plain.tied()),
            (Some("A"), Some(5), Some(true))
        );
        let nested =
            config(r#"{"model_type": "m", "text_config": {"vocab_size": 7, "tie_word_embeddings": false}}"#);
        assert_eq!(
            (nested.architecture(), nested.vocab_size(), nested.tied()),
            (Some("m"), Some(7), Some(false))
        );
        let strange = config(r#"{"architectures": 3, "vocab_size": -1, "tie_word_embeddings": null}"#);
        assert_eq!((strange.architecture(), strange.vocab_size(), strange.tied()), (None, None, None));
        assert_eq!(
            config(r#"{"quantization_config": {"quant_method": "fp8"}}"#).quantization(),
            Some("fp8".into())
        );
    }

    #[test]
    fn type_vocabulary_and_tie_are_set_where_they_are() {
        let changes =
            Changes { dtype: Some(FloatType::Bf16), vocab_size: Some(9), untied: true, ..Changes::default() };
        let to = |json: &str| Value::Object(config(json).changed(&changes, &|_| ())).to_string();
        assert_snapshot!(to(r#"{"dtype": "float32", "vocab_size": 5}"#), @r#"{"dtype":"bfloat16","tie_word_embeddings":false,"vocab_size":9}"#);
        assert_snapshot!(to(r#"{"text_config": {"torch_dtype": "float32", "vocab_size": 5, "tie_word_embeddings": true}}"#), @r#"{"text_config":{"tie_word_embeddings":false,"torch_dtype":"bfloat16","vocab_size":9},"tie_word_embeddings":false,"torch_dtype":"bfloat16"}"#);
        assert_snapshot!(to("{}"), @r#"{"tie_word_embeddings":false,"torch_dtype":"bfloat16","vocab_size":9}"#);
    }

    #[test]
    fn what_is_no_configuration_is_refused() {
        let error = |bytes: &[u8]| ModelConfig::parse(bytes).unwrap_err();
        assert_snapshot!(error(b"[1]"), @"is no model configuration: expected a JSON object");
        assert_snapshot!(error(b"{\"a\": "), @"is no model configuration: EOF while parsing a value at line 1 column 6");
        assert_snapshot!(error(b"version https://git-lfs.github.com/spec/v1"), @"is a Git LFS pointer, not the data; fetch the file with `git lfs pull`");
        assert_snapshot!(error("[".repeat(10_000).as_bytes()), @"is no model configuration: recursion limit exceeded at line 1 column 128");
        assert_snapshot!(error(&vec![b' '; (16 << 20) + 1]), @"is longer than 16 MiB; that is no model configuration");
    }
}
