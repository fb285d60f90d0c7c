//! The tokenizer section of a recipe, as mergekit's YAML has it.
use crate::{Error, Result};
use mtl_core::registry::nearest;
use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{self, MapAccess, Visitor},
    ser::SerializeMap,
};
use std::fmt;

/// Which vocabulary the merged model gets.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum VocabularySource {
    /// The base model's tokens, then every other model's new ones.
    #[default]
    Union,
    /// That of the base model; without one, of the first model.
    Base,
    /// That of a named model.
    Model(String),
}

impl VocabularySource {
    /// Reads the older `tokenizer_source` key: `union`, `base`, `model:<path>` or a path.
    pub fn from_legacy(text: &str) -> Self {
        Self::from(text.strip_prefix("model:").unwrap_or(text))
    }
}

impl From<&str> for VocabularySource {
    fn from(text: &str) -> Self {
        match text {
            "union" => Self::Union,
            "base" => Self::Base,
            model => Self::Model(model.to_owned()),
        }
    }
}

/// Where the embedding of one token is from.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum TokenEmbedding {
    /// The same token's row in a model.
    Model(String),
    /// Zeros.
    Zero,
    /// The row of another token, by its text.
    ModelToken {
        /// Model that has the row.
        model: String,
        /// Text of the token.
        token: String,
    },
    /// The row of a token, by its number.
    ModelTokenId {
        /// Model that has the row.
        model: String,
        /// Row of the embedding.
        token_id: u32,
    },
}

/// Settings of one token.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct TokenConfig {
    /// Row for the models that lack the token; without it, the usual choice.
    pub source: Option<TokenEmbedding>,
    /// Use `source` for the models that have the token, too.
    pub force: bool,
}

/// The `tokenizer` key of a recipe; the default is the union of the vocabularies.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct TokenizerConfig {
    /// Vocabulary of the merged model.
    pub source: VocabularySource,
    /// Tokens with settings of their own, in the order in which new ones get their numbers.
    pub tokens: Vec<(String, TokenConfig)>,
    /// The embedding's rows are filled up to a multiple of this; at least 1.
    pub pad_to_multiple_of: Option<usize>,
}

impl TokenizerConfig {
    /// Settings with a vocabulary source and nothing else.
    pub fn new(source: VocabularySource) -> Self {
        Self { source, ..Self::default() }
    }

    /// Gives a token settings of its own.
    #[must_use]
    pub fn token(mut self, text: impl Into<String>, source: Option<TokenEmbedding>, force: bool) -> Self {
        self.tokens.push((text.into(), TokenConfig { source, force }));
        self
    }

    /// Fills the embedding up to a multiple of `rows`.
    #[must_use]
    pub fn pad_to_multiple_of(mut self, rows: usize) -> Self {
        self.pad_to_multiple_of = Some(rows);
        self
    }

    /// Checks what holds whatever the models are.
    ///
    /// # Errors
    ///
    /// [`Error::Recipe`] when a padding is 0, a token is empty or listed twice, or `force` has no source.
    pub fn validate(&self) -> Result<()> {
        let wrong = |path: String, message: &str| Err(Error::Recipe { path, message: message.to_owned() });
        if self.pad_to_multiple_of == Some(0) {
            return wrong("tokenizer.pad_to_multiple_of".into(), "must be at least 1, but is 0");
        }
        let mut seen = std::collections::BTreeSet::new();
        for (text, token) in &self.tokens {
            let path = format!("tokenizer.tokens.{text}");
            if text.is_empty() {
                return wrong(path, "an empty text is no token");
            }
            if !seen.insert(text) {
                return wrong(path, "is listed twice");
            }
            if token.force && token.source.is_none() {
                return wrong(path, "`force` needs a `source` to take the embedding from");
            }
        }
        Ok(())
    }
}

impl Serialize for VocabularySource {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(match self {
            Self::Union => "union",
            Self::Base => "base",
            Self::Model(model) => model,
        })
    }
}

impl<'de> Deserialize<'de> for VocabularySource {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Self::from(ModelName::deserialize(deserializer)?.0.as_str()))
    }
}

impl Serialize for TokenEmbedding {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if let Self::Model(model) = self {
            return serializer.serialize_str(model);
        }
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("kind", if *self == Self::Zero { "zero" } else { "model_token" })?;
        match self {
            Self::ModelToken { model, token } => {
                map.serialize_entry("model", model)?;
                map.serialize_entry("token", token)?;
            }
            Self::ModelTokenId { model, token_id } => {
                map.serialize_entry("model", model)?;
                map.serialize_entry("token_id", token_id)?;
            }
            Self::Model(_) | Self::Zero => {}
        }
        map.end()
    }
}

impl Serialize for TokenConfig {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        if let Some(source) = &self.source {
            map.serialize_entry("source", source)?;
        }
        map.serialize_entry("force", &self.force)?;
        map.end()
    }
}

impl Serialize for TokenizerConfig {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        struct Tokens<'a>(&'a [(String, TokenConfig)]);
        impl Serialize for Tokens<'_> {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_map(self.0.iter().map(|(text, token)| (text, token)))
            }
        }
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("source", &self.source)?;
        if !self.tokens.is_empty() {
            map.serialize_entry("tokens", &Tokens(&self.tokens))?;
        }
        if let Some(rows) = self.pad_to_multiple_of {
            map.serialize_entry("pad_to_multiple_of", &rows)?;
        }
        map.end()
    }
}

/// The error for a key that nothing reads.
fn unknown<E: de::Error>(key: &str, known: &[&str]) -> E {
    let hint = nearest(key, known.iter().copied()).map(|name| format!("; did you mean `{name}`?"));
    let known = known.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
    E::custom(format!("unknown key `{key}`{}", hint.unwrap_or_else(|| format!("; expected one of {known}"))))
}

/// Reads a mapping key by key; `read` returns false for a key it does not know.
macro_rules! mapping_visitor {
    ($name:ident, $target:ty, $what:literal, $known:expr, $read:expr) => {
        struct $name;
        impl<'de> Visitor<'de> for $name {
            type Value = $target;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str($what)
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut value = <$target>::default();
                while let Some(key) = map.next_key::<String>()? {
                    let read: fn(&mut $target, &str, &mut A) -> Result<bool, A::Error> = $read;
                    if !read(&mut value, &key, &mut map)? {
                        return Err(unknown(&key, $known));
                    }
                }
                Ok(value)
            }
        }
    };
}

mapping_visitor!(
    ConfigVisitor,
    TokenizerConfig,
    "a mapping with `source`, `tokens` and `pad_to_multiple_of`",
    &["source", "tokens", "pad_to_multiple_of"],
    |config, key, map| {
        match key {
            "source" => config.source = map.next_value()?,
            "tokens" => config.tokens = map.next_value::<Option<Tokens>>()?.unwrap_or_default().0,
            "pad_to_multiple_of" => config.pad_to_multiple_of = map.next_value()?,
            _ => return Ok(false),
        }
        Ok(true)
    }
);

#[derive(Default)]
struct Tokens(Vec<(String, TokenConfig)>);

mapping_visitor!(
    TokensVisitor,
    Tokens,
    "a mapping from tokens to their settings",
    &[],
    |tokens, key, map| {
        let settings = map.next_value::<Option<TokenConfig>>()?.unwrap_or_default();
        tokens.0.push((key.to_owned(), settings));
        Ok(true)
    }
);

mapping_visitor!(
    TokenVisitor,
    TokenConfig,
    "a mapping with `source` and `force`",
    &["source", "force"],
    |token, key, map| {
        match key {
            "source" => token.source = map.next_value()?,
            "force" => token.force = map.next_value()?,
            _ => return Ok(false),
        }
        Ok(true)
    }
);

/// Everything that the mapping form of a source may hold.
#[derive(Default)]
struct SourceMap {
    kind: Option<String>,
    model: Option<ModelName>,
    revision: Option<String>,
    lora: Option<ModelName>,
    token: Option<String>,
    token_id: Option<u32>,
}

mapping_visitor!(
    SourceMapVisitor,
    SourceMap,
    "a model, or a mapping with `kind`",
    &["kind", "model", "lora", "token", "token_id", "path", "revision"],
    |source, key, map| {
        match key {
            "kind" => source.kind = map.next_value()?,
            "model" => source.model = map.next_value()?,
            "lora" => source.lora = map.next_value()?,
            "token" => source.token = map.next_value()?,
            "token_id" => source.token_id = map.next_value()?,
            "path" => source.model = Some(ModelName(map.next_value()?)),
            "revision" => source.revision = map.next_value()?,
            _ => return Ok(false),
        }
        Ok(true)
    }
);

impl SourceMap {
    /// `base@revision+adapter`.
    fn model_name<E: de::Error>(&mut self) -> Result<String, E> {
        let mut name = self.model.take().ok_or_else(|| E::custom("key `model` is missing"))?.0;
        for (mark, part) in [('@', self.revision.take()), ('+', self.lora.take().map(|lora| lora.0))] {
            if let Some(part) = part {
                name.push(mark);
                name.push_str(&part);
            }
        }
        Ok(name)
    }

    fn embedding<E: de::Error>(mut self) -> Result<TokenEmbedding, E> {
        let tokens = (self.token.take(), self.token_id.take());
        match (self.kind.as_deref(), tokens) {
            (Some("zero"), (None, None)) if self.model.is_none() => Ok(TokenEmbedding::Zero),
            (Some("zero"), _) => Err(E::custom("kind `zero` takes no `model`, `token` or `token_id`")),
            (Some("model_token"), (Some(token), None)) => {
                Ok(TokenEmbedding::ModelToken { model: self.model_name()?, token })
            }
            (Some("model_token"), (None, Some(token_id))) => {
                Ok(TokenEmbedding::ModelTokenId { model: self.model_name()?, token_id })
            }
            (Some("model_token"), _) => {
                Err(E::custom("kind `model_token` takes exactly one of `token` and `token_id`"))
            }
            (Some(kind), _) => {
                Err(E::custom(format!("unknown kind `{kind}`; expected `zero` or `model_token`")))
            }
            (None, (None, None)) => Ok(TokenEmbedding::Model(self.model_name()?)),
            (None, _) => Err(E::custom("`token` and `token_id` need `kind: model_token`")),
        }
    }
}

/// A reference to a model, in its text or its mapping form.
struct ModelName(String);

macro_rules! text_or_map {
    ($target:ty, $visitor:ident, $map:ident, $text:expr, $finish:expr) => {
        struct $visitor;
        impl<'de> Visitor<'de> for $visitor {
            type Value = $target;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                $map.expecting(f)
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<Self::Value, E> {
                Ok($text(text))
            }
            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
                $finish($map.visit_map(map)?)
            }
        }
        impl<'de> Deserialize<'de> for $target {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                deserializer.deserialize_any($visitor)
            }
        }
    };
}

text_or_map!(
    ModelName,
    NameVisitor,
    SourceMapVisitor,
    |t: &str| ModelName(t.into()),
    |mut map: SourceMap| {
        if map.kind.is_some() || map.token.is_some() || map.token_id.is_some() {
            return Err(de::Error::custom("a model is a path, or a mapping with `model` and `lora`"));
        }
        Ok(ModelName(map.model_name()?))
    }
);
text_or_map!(
    TokenEmbedding,
    EmbeddingVisitor,
    SourceMapVisitor,
    |text: &str| TokenEmbedding::Model(text.into()),
    SourceMap::embedding
);

macro_rules! from_map {
    ($target:ty, $visitor:ident) => {
        impl<'de> Deserialize<'de> for $target {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                deserializer.deserialize_map($visitor)
            }
        }
    };
}

from_map!(TokenizerConfig, ConfigVisitor);
from_map!(Tokens, TokensVisitor);
from_map!(TokenConfig, TokenVisitor);

#[cfg(test)]
mod tests {
    use super::*;

    fn read(json: &str) -> Result<TokenizerConfig, String> {
        serde_json::from_str(json).map_err(|e| e.to_string())
    }

    #[test]
    fn every_form_of_the_section_is_read_and_written_back() {
        let config = read(
            r#"{"source": "base", "pad_to_multiple_of": 64, "tokens": {
                "z": {"source": "a/b", "force": true},
                "a": {"source": {"kind": "zero"}},
                "m": {"source": {"kind": "model_token", "model": "b", "token": "<s>"}},
                "i": {"source": {"kind": "model_token", "model": {"model": {"revision": "r", "path": "p"},
                      "lora": "l"}, "token_id": 7}},
                "n": null}}"#,
        )
        .unwrap();
        let expected = TokenizerConfig::new(VocabularySource::Base)
            .pad_to_multiple_of(64)
            .token("z", Some(TokenEmbedding::Model("a/b".into())), true)
            .token("a", Some(TokenEmbedding::Zero), false)
            .token("m", Some(TokenEmbedding::ModelToken { model: "b".into(), token: "<s>".into() }), false)
            .token("i", Some(TokenEmbedding::ModelTokenId { model: "p@r+l".into(), token_id: 7 }), false)
            .token("n", None, false);
        assert_eq!(config, expected);
        config.validate().unwrap();
        assert_eq!(read(&serde_json::to_string(&config).unwrap()).unwrap(), config);
        assert_eq!(read("{}").unwrap().source, VocabularySource::Union);
    }

    #[test]
    fn the_older_key_is_understood() {
        use VocabularySource::{Base, Model, Union};
        let cases =
            [("union", Union), ("base", Base), ("model:a/b", Model("a/b".into())), ("c", Model("c".into()))];
        for (text, source) in cases {
            assert_eq!(VocabularySource::from_legacy(text), source);
        }
    }

    #[test]
    fn wrong_sections_are_refused_with_the_reason() {
        for (json, reason) in [
            (r#"{"sauce": "base"}"#, "unknown key `sauce`; did you mean `source`?"),
            (r#"{"tokens": {"a": {"forced": true}}}"#, "unknown key `forced`; did you mean `force`?"),
            (r#"{"tokens": {"a": {"source": {"kind": "model_token", "model": "m"}}}}"#, "exactly one of"),
            (r#"{"tokens": {"a": {"source": {"kind": "model_token", "token": "x"}}}}"#, "`model` is missing"),
            (r#"{"tokens": {"a": {"source": {"kind": "one"}}}}"#, "unknown kind `one`; expected"),
            (r#"{"tokens": {"a": {"source": {"model": "m", "token": "x"}}}}"#, "need `kind: model_token`"),
            (r#"{"tokens": {"a": {"source": {"kind": "zero", "model": "m"}}}}"#, "takes no `model`"),
            (r#"{"pad_to_multiple_of": -1}"#, "invalid value"),
            (r#"{"tokens": ["a"]}"#, "a mapping from tokens to their settings"),
        ] {
            let error = read(json).unwrap_err();
            assert!(error.contains(reason), "{json}: {error}");
        }
        for (json, reason) in [
            (r#"{"pad_to_multiple_of": 0}"#, "tokenizer.pad_to_multiple_of: must be at least 1, but is 0"),
            (r#"{"tokens": {"a": {}, "a": {}}}"#, "tokenizer.tokens.a: is listed twice"),
            (r#"{"tokens": {"a": {"force": true}}}"#, "`force` needs a `source`"),
            (r#"{"tokens": {"": {}}}"#, "an empty text is no token"),
        ] {
            let error = read(json).unwrap().validate().unwrap_err().to_string();
            assert!(error.contains(reason), "{json}: {error}");
        }
    }
}
