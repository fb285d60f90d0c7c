//! The number of layers in `config.json`, whatever its key, and lists with one entry per layer.
use super::{ModelConfig, config::TEXT};
use serde_json::{Map, Value};

/// Where a layer of the output comes from: a checkpoint's configuration and the number of the layer there.
pub(crate) type LayerSource<'c> = (&'c ModelConfig, usize);

/// A run of layers of the output.
#[derive(Debug)]
pub(crate) struct Stacked<'c> {
    /// Name of its tensors before the number, such as `model.layers.`.
    pub(crate) prefix: String,
    /// Layers of the checkpoint whose configuration is changed.
    pub(crate) before: usize,
    /// For each layer of the output its source, if that is known.
    pub(crate) sources: Vec<Option<LayerSource<'c>>>,
}

/// Keys of the number of layers.
const COUNTS: [&str; 6] = ["num_hidden_layers", "n_layer", "num_layers", "n_layers", "num_layer", "depth"];
/// Those that models of encoder and decoder have besides.
const ENCODER: [&str; 2] = ["encoder_layers", "num_encoder_layers"];
const DECODER: [&str; 2] = ["decoder_layers", "num_decoder_layers"];
/// Keys of lists with one entry per layer.
const LISTS: [&str; 5] =
    ["layer_types", "layers_block_type", "block_types", "no_rope_layers", "mlp_layer_types"];

/// Writes number and lists for one run of layers.
pub(super) fn apply(entries: &mut Map<String, Value>, stacked: &Stacked<'_>, warn: &dyn Fn(String)) {
    let part = part_of(entries, &stacked.prefix);
    let lists: Vec<(&str, Option<Value>)> = {
        let own = inside(entries, part);
        let listed =
            |key: &&&str| own.get(**key).and_then(Value::as_array).is_some_and(|l| l.len() == stacked.before);
        LISTS.iter().filter(listed).map(|key| (*key, list(key, stacked))).collect()
    };
    let after = stacked.sources.len();
    let own = match part.and_then(|part| entries.get_mut(part)) {
        Some(Value::Object(own)) => own,
        _ => entries,
    };
    for (key, list) in lists {
        match list {
            Some(list) => drop(own.insert(key.to_owned(), list)),
            None if after == stacked.before => {}
            None => warn(format!("`{key}` of config.json was not adapted to the new layers")),
        }
    }
    if after == stacked.before {
        return;
    }
    let keys = keys(own, &stacked.prefix, stacked.before);
    if keys.is_empty() {
        warn(format!("config.json has no known key for the {after} layers `{}*`", stacked.prefix));
    }
    for key in keys {
        own.insert(key.to_owned(), Value::from(after));
    }
}

fn inside<'e>(entries: &'e Map<String, Value>, part: Option<&str>) -> &'e Map<String, Value> {
    part.and_then(|part| entries.get(part)?.as_object()).unwrap_or(entries)
}

/// The part of the configuration that describes the layers; `None` is the whole.
fn part_of(entries: &Map<String, Value>, prefix: &str) -> Option<&'static str> {
    let parts: &[&'static str] = if prefix.contains("vis") {
        &["vision_config"]
    } else if prefix.contains("audio") {
        &["audio_config"]
    } else {
        &TEXT
    };
    let counted = |part: &&&'static str| {
        entries
            .get(**part)
            .and_then(Value::as_object)
            .is_some_and(|part| COUNTS.iter().any(|key| part.contains_key(*key)))
    };
    parts.iter().find(counted).copied()
}

/// The keys that hold the number of these layers.
fn keys(entries: &Map<String, Value>, prefix: &str, before: usize) -> Vec<&'static str> {
    let there = |keys: &[&'static str]| -> Vec<&'static str> {
        keys.iter().filter(|key| entries.get(**key).is_some_and(Value::is_u64)).copied().collect()
    };
    let of_decoder = if prefix.contains("decoder") { there(&DECODER) } else { Vec::new() };
    if !of_decoder.is_empty() {
        return of_decoder;
    }
    let mut keys = there(&COUNTS);
    if prefix.contains("encoder") {
        keys.extend(there(&ENCODER));
    }
    let equal: Vec<_> =
        keys.iter().filter(|key| entries[**key].as_u64() == Some(before as u64)).copied().collect();
    if equal.is_empty() { keys.into_iter().take(1).collect() } else { equal }
}

/// The list `key` for the layers of the output, each entry from the layer's own checkpoint.
fn list(key: &str, stacked: &Stacked<'_>) -> Option<Value> {
    let entry = |source: &Option<LayerSource<'_>>| {
        let (config, layer) = source.as_ref()?;
        let own = inside(&config.entries, part_of(&config.entries, &stacked.prefix));
        own.get(key)?.get(layer).cloned()
    };
    stacked.sources.iter().map(entry).collect::<Option<Vec<Value>>>().map(Value::Array)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::RefCell;

    fn config(json: &str) -> ModelConfig {
        ModelConfig { entries: serde_json::from_str(json).unwrap() }
    }

    /// `json` with layers `from` (of a checkpoint configured alike), as text and with its warnings.
    fn stacked(json: &str, prefix: &str, before: usize, from: &[usize]) -> (String, Vec<String>) {
        let config = config(json);
        let sources = from.iter().map(|&layer| Some((&config, layer))).collect();
        let mut entries = config.entries.clone();
        let warnings = RefCell::new(Vec::new());
        let warn = |text: String| warnings.borrow_mut().push(text);
        apply(&mut entries, &Stacked { prefix: prefix.to_owned(), before, sources }, &warn);
        (Value::Object(entries).to_string(), warnings.into_inner())
    }

    #[test]
    fn every_family_has_its_key() {
        for (json, prefix, expected) in [
            (r#"{"num_hidden_layers":2}"#, "model.layers.", r#"{"num_hidden_layers":3}"#),
            (r#"{"n_layer":2}"#, "transformer.h.", r#"{"n_layer":3}"#),
            (r#"{"n_layers":2}"#, "transformer.blocks.", r#"{"n_layers":3}"#),
            (
                r#"{"num_decoder_layers":2,"num_layers":2}"#,
                "encoder.block.",
                r#"{"num_decoder_layers":2,"num_layers":3}"#,
            ),
            (
                r#"{"num_decoder_layers":2,"num_layers":2}"#,
                "decoder.block.",
                r#"{"num_decoder_layers":3,"num_layers":2}"#,
            ),
            (r#"{"num_hidden_layers":2}"#, "model.decoder.layers.", r#"{"num_hidden_layers":3}"#),
            (
                r#"{"text_config":{"num_hidden_layers":2},"vision_config":{"num_hidden_layers":2}}"#,
                "vision_model.encoder.layers.",
                r#"{"text_config":{"num_hidden_layers":2},"vision_config":{"num_hidden_layers":3}}"#,
            ),
            (
                r#"{"text_config":{"num_hidden_layers":2},"vision_config":{"num_hidden_layers":2}}"#,
                "language_model.model.layers.",
                r#"{"text_config":{"num_hidden_layers":3},"vision_config":{"num_hidden_layers":2}}"#,
            ),
        ] {
            assert_eq!(stacked(json, prefix, 2, &[0, 1, 1]), (expected.to_owned(), vec![]), "{prefix}");
        }
    }

    #[test]
    fn lists_follow_the_layers() {
        let json = r#"{"layer_types":["a","b"],"num_hidden_layers":2}"#;
        let (found, warnings) = stacked(json, "model.layers.", 2, &[1, 0, 1]);
        assert_eq!(found, r#"{"layer_types":["b","a","b"],"num_hidden_layers":3}"#);
        assert!(warnings.is_empty());
        // A list of another length has another meaning.
        let json = r#"{"layer_types":["a"],"num_hidden_layers":2}"#;
        assert!(stacked(json, "model.layers.", 2, &[1, 0, 1]).0.contains(r#"["a"]"#));
    }

    #[test]
    fn an_unknown_key_is_told() {
        let (found, warnings) = stacked(r#"{"blocks":2}"#, "net.", 2, &[0]);
        assert_eq!(found, r#"{"blocks":2}"#);
        assert_eq!(warnings, ["config.json has no known key for the 1 layers `net.*`"]);
    }
}
