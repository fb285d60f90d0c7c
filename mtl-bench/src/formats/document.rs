//! JSON in file order, with the place of every value for error messages.
use crate::{Error, Result};
use serde::de::{self, Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::Value;
use std::collections::BTreeSet;
use std::io::Read;
use std::path::{Path, PathBuf};

/// A JSON value whose objects keep the order of the file and have no key twice.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Json {
    /// `null`, a truth value, a number or a text.
    Scalar(Value),
    List(Vec<Json>),
    Object(Vec<(String, Json)>),
}

impl Json {
    /// The value without the order of keys.
    pub(crate) fn to_value(&self) -> Value {
        match self {
            Self::Scalar(value) => value.clone(),
            Self::List(items) => items.iter().map(Self::to_value).collect(),
            Self::Object(fields) => {
                Value::Object(fields.iter().map(|(k, v)| (k.clone(), v.to_value())).collect())
            }
        }
    }
}

impl<'de> Deserialize<'de> for Json {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        deserializer.deserialize_any(JsonVisitor)
    }
}

struct JsonVisitor;

impl<'de> Visitor<'de> for JsonVisitor {
    type Value = Json;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> std::result::Result<Json, E> {
        Ok(Json::Scalar(Value::Null))
    }

    fn visit_bool<E>(self, v: bool) -> std::result::Result<Json, E> {
        Ok(Json::Scalar(v.into()))
    }

    fn visit_i64<E>(self, v: i64) -> std::result::Result<Json, E> {
        Ok(Json::Scalar(v.into()))
    }

    fn visit_u64<E>(self, v: u64) -> std::result::Result<Json, E> {
        Ok(Json::Scalar(v.into()))
    }

    fn visit_f64<E>(self, v: f64) -> std::result::Result<Json, E> {
        Ok(Json::Scalar(v.into()))
    }

    fn visit_str<E>(self, v: &str) -> std::result::Result<Json, E> {
        Ok(Json::Scalar(v.into()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> std::result::Result<Json, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = seq.next_element()? {
            items.push(item);
        }
        Ok(Json::List(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> std::result::Result<Json, A::Error> {
        let (mut fields, mut seen) = (Vec::new(), BTreeSet::new());
        while let Some(key) = map.next_key::<String>()? {
            if !seen.insert(key.clone()) {
                return Err(de::Error::custom(format!("the key `{key}` is there twice")));
            }
            fields.push((key, map.next_value()?));
        }
        Ok(Json::Object(fields))
    }
}

/// The text of a regular file of a benchmark.
pub(crate) fn read_text(path: &Path) -> Result<String> {
    let mut bytes = Vec::new();
    let mut file = mtl_core::files::open_regular(path)?;
    file.read_to_end(&mut bytes).map_err(|e| mtl_core::Error::io("read", path, e))?;
    if bytes.starts_with(b"version https://git-lfs") {
        let message = "is a Git LFS pointer, not the file; fetch it with `git lfs pull`".into();
        return Err(Error::Format { path: path.to_owned(), record: None, message });
    }
    String::from_utf8(bytes).map_err(|e| Error::Format {
        path: path.to_owned(),
        record: None,
        message: format!("is not UTF-8 at byte {}", e.utf8_error().valid_up_to()),
    })
}

/// One JSON value of a file, or of one line of it.
#[derive(Debug)]
pub(crate) struct Document {
    path: PathBuf,
    /// What stands before the place of a value, such as `line 3`.
    prefix: String,
    json: Json,
}

impl Document {
    pub(crate) fn read(path: &Path) -> Result<Self> {
        Self::parse(path, String::new(), &read_text(path)?)
    }

    pub(crate) fn parse(path: &Path, prefix: String, text: &str) -> Result<Self> {
        let format = |record: String, message: String| Error::Format {
            path: path.to_owned(),
            record: (!record.is_empty()).then_some(record),
            message,
        };
        let mut deserializer = serde_json::Deserializer::from_str(text);
        let json = serde_path_to_error::deserialize(&mut deserializer).map_err(|e| {
            let at = e.path().to_string();
            format(join(&prefix, if at == "." { "" } else { &at }), e.inner().to_string())
        })?;
        deserializer.end().map_err(|e| format(prefix.clone(), e.to_string()))?;
        Ok(Self { path: path.to_owned(), prefix, json })
    }

    pub(crate) fn root(&self) -> Node<'_> {
        Node { path: &self.path, at: self.prefix.clone(), json: &self.json }
    }
}

fn join(prefix: &str, at: &str) -> String {
    match (prefix.is_empty(), at.is_empty()) {
        (true, _) => at.to_owned(),
        (_, true) => prefix.to_owned(),
        _ => format!("{prefix}, {at}"),
    }
}

/// A value and its place.
#[derive(Debug, Clone)]
pub(crate) struct Node<'a> {
    path: &'a Path,
    at: String,
    json: &'a Json,
}

impl<'a> Node<'a> {
    pub(crate) fn error(&self, message: impl Into<String>) -> Error {
        Error::Format {
            path: self.path.to_owned(),
            record: (!self.at.is_empty()).then(|| self.at.clone()),
            message: message.into(),
        }
    }

    pub(crate) fn json(&self) -> &'a Json {
        self.json
    }

    fn expected(&self, what: &str) -> Error {
        let found = match self.json {
            Json::Scalar(Value::Null) => "null",
            Json::Scalar(Value::Bool(_)) => "a truth value",
            Json::Scalar(Value::Number(_)) => "a number",
            Json::Scalar(_) => "a text",
            Json::List(_) => "a list",
            Json::Object(_) => "an object",
        };
        self.error(format!("must be {what}, but is {found}"))
    }

    fn child(&self, step: &str, json: &'a Json) -> Self {
        let dot = if self.at.is_empty() || step.starts_with('[') { "" } else { "." };
        Self { path: self.path, at: format!("{}{dot}{step}", self.at), json }
    }

    pub(crate) fn fields(&self) -> Result<Vec<(&'a str, Self)>> {
        match self.json {
            Json::Object(fields) => Ok(fields.iter().map(|(k, v)| (k.as_str(), self.child(k, v))).collect()),
            _ => Err(self.expected("an object")),
        }
    }

    /// The value of `key`; `null` counts as absent.
    pub(crate) fn get(&self, key: &str) -> Result<Option<Self>> {
        let Json::Object(fields) = self.json else { return Err(self.expected("an object")) };
        let found = fields.iter().find(|(k, _)| k == key).map(|(_, v)| v);
        Ok(found.filter(|v| **v != Json::Scalar(Value::Null)).map(|v| self.child(key, v)))
    }

    pub(crate) fn need(&self, key: &str) -> Result<Self> {
        self.get(key)?.ok_or_else(|| self.child(key, self.json).error("is missing"))
    }

    pub(crate) fn items(&self) -> Result<Vec<Self>> {
        match self.json {
            Json::List(items) => {
                Ok(items.iter().enumerate().map(|(i, v)| self.child(&format!("[{i}]"), v)).collect())
            }
            _ => Err(self.expected("a list")),
        }
    }

    pub(crate) fn text(&self) -> Result<&'a str> {
        match self.json {
            Json::Scalar(Value::String(text)) => Ok(text),
            _ => Err(self.expected("a text")),
        }
    }

    pub(crate) fn number(&self) -> Result<f64> {
        match self.json {
            Json::Scalar(Value::Number(n)) => n.as_f64().ok_or_else(|| self.expected("a finite number")),
            _ => Err(self.expected("a number")),
        }
    }

    pub(crate) fn flag(&self) -> Result<bool> {
        match self.json {
            Json::Scalar(Value::Bool(flag)) => Ok(*flag),
            _ => Err(self.expected("true or false")),
        }
    }

    pub(crate) fn texts(&self) -> Result<Vec<String>> {
        self.items()?.iter().map(|item| item.text().map(str::to_owned)).collect()
    }

    /// A text, or a list of texts.
    pub(crate) fn text_or_texts(&self) -> Result<Vec<String>> {
        match self.json {
            Json::Scalar(Value::String(text)) => Ok(vec![text.clone()]),
            Json::List(_) => self.texts(),
            _ => Err(self.expected("a text or a list of texts")),
        }
    }

    /// The text of an optional key.
    pub(crate) fn text_of(&self, key: &str) -> Result<Option<String>> {
        self.get(key)?.map(|n| n.text().map(str::to_owned)).transpose()
    }

    /// The texts of an optional key; none when absent.
    pub(crate) fn texts_of(&self, key: &str) -> Result<Vec<String>> {
        self.get(key)?.map_or_else(|| Ok(Vec::new()), |n| n.text_or_texts())
    }
}
