//! JSON files of which all but a few entries must stay as they are, byte for byte.
use mtl_core::{Error, Result, files};
use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{self, MapAccess, Visitor},
};
use serde_json::value::RawValue;
use std::{
    fmt,
    io::{self, Read},
    path::Path,
};

/// Bytes that a tokenizer's file may have; the largest in use have about 35 MB.
const MAX_BYTES: u64 = 256 << 20;

/// Whole content of a file of the tokenizer; `None` when there is no such file.
pub(super) fn read(path: &Path) -> Result<Option<Vec<u8>>> {
    let file = match files::open_regular(path) {
        Err(Error::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => return Ok(None),
        opened => opened?,
    };
    let mut bytes = Vec::new();
    file.take(MAX_BYTES + 1).read_to_end(&mut bytes).map_err(|source| Error::io("read", path, source))?;
    if bytes.len() as u64 > MAX_BYTES {
        return Err(Error::format(
            path,
            format!("has more than {} MiB; expected a tokenizer's file", MAX_BYTES >> 20),
        ));
    }
    Ok(Some(bytes))
}

/// Parses a file's content as JSON.
pub(super) fn parse<'de, T: Deserialize<'de>>(path: &Path, bytes: &'de [u8]) -> Result<T> {
    serde_json::from_slice(bytes).map_err(|e| Error::format(path, e.to_string()))
}

/// Reads a JSON file if it is there.
pub(super) fn read_json<T: for<'de> Deserialize<'de>>(path: &Path) -> Result<Option<T>> {
    read(path)?.map(|bytes| parse(path, &bytes)).transpose()
}

/// Reads a text file if it is there.
pub(super) fn read_text(path: &Path) -> Result<Option<String>> {
    let text = |bytes| String::from_utf8(bytes).map_err(|_| Error::format(path, "is not UTF-8 text"));
    read(path)?.map(text).transpose()
}

/// A JSON object whose entries keep their order and their text; no key occurs twice.
#[derive(Debug, Clone, Default)]
pub(super) struct RawObject(Vec<(String, Box<RawValue>)>);

impl RawObject {
    /// The entry's value, `None` when it is missing or null.
    pub(super) fn get<'de, T: Deserialize<'de>>(&'de self, path: &Path, key: &str) -> Result<Option<T>> {
        let Some((_, raw)) = self.0.iter().find(|(k, _)| k == key) else { return Ok(None) };
        serde_json::from_str(raw.get()).map_err(|e| Error::format(path, format!("`{key}`: {e}")))
    }

    pub(super) fn contains(&self, key: &str) -> bool {
        self.0.iter().any(|(k, _)| k == key)
    }

    /// Replaces the entry, or appends it.
    pub(super) fn set(&mut self, path: &Path, key: &str, value: &impl Serialize) -> Result<()> {
        let indented = to_json(path, value)?.replace('\n', "\n  ");
        let raw = RawValue::from_string(indented).map_err(|e| Error::format(path, e.to_string()))?;
        match self.0.iter_mut().find(|(k, _)| k == key) {
            Some((_, old)) => *old = raw,
            None => self.0.push((key.to_owned(), raw)),
        }
        Ok(())
    }

    /// The text of the file, entries as they were or as they were set.
    pub(super) fn to_bytes(&self, path: &Path) -> Result<Vec<u8>> {
        Ok(to_json(path, self)?.into_bytes())
    }
}

/// Pretty JSON with two spaces, as the tokenizer libraries write it.
pub(super) fn to_json(path: &Path, value: &impl Serialize) -> Result<String> {
    serde_json::to_string_pretty(value).map_err(|e| Error::format(path, e.to_string()))
}

impl Serialize for RawObject {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(key, raw)| (key, raw)))
    }
}

impl<'de> Deserialize<'de> for RawObject {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Self(deserializer.deserialize_map(Entries(std::marker::PhantomData))?))
    }
}

/// A JSON object as a list of its entries in the order of the file; duplicate keys are refused by the reader of it.
pub(super) struct OrderedMap<T>(pub(super) Vec<(String, T)>);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for OrderedMap<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Self(deserializer.deserialize_map(Entries(std::marker::PhantomData))?))
    }
}

impl<T: Serialize> Serialize for OrderedMap<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(key, value)| (key, value)))
    }
}

struct Entries<T>(std::marker::PhantomData<T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for Entries<T> {
    type Value = Vec<(String, T)>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut entries = Vec::new();
        let mut seen = std::collections::HashSet::new();
        while let Some(key) = map.next_key::<String>()? {
            if !seen.insert(key.clone()) {
                return Err(de::Error::custom(format!("`{key}` is there twice")));
            }
            entries.push((key, map.next_value()?));
        }
        Ok(entries)
    }
}
