//! The index of a sharded checkpoint, `model.safetensors.index.json`.
use super::{
    header::{StringMap, check_name},
    sniff::{foreign, shortened},
};
use crate::{Error, Result, files};
use serde::de::{self, Deserializer, MapAccess, Visitor};
use serde_json::Value;
use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    io::Read,
    path::{Path, PathBuf},
};

/// Longest index read.
const MAX_INDEX_BYTES: u64 = 64 << 20;

/// Which shard holds which tensor.
#[derive(Debug, Default)]
pub(super) struct Index {
    /// Tensor → file name of its shard.
    pub(super) weight_map: BTreeMap<String, String>,
    /// Bytes of all tensors, if the index says so.
    pub(super) total_size: Option<u64>,
}

impl Index {
    /// Reads an index and checks all that can be checked without the shards.
    pub(super) fn read(path: &Path) -> Result<Self> {
        let file = files::open_regular(path)?;
        let mut bytes = Vec::new();
        let read = file.take(MAX_INDEX_BYTES + 1).read_to_end(&mut bytes);
        read.map_err(|source| Error::io("read", path, source))?;
        Self::parse(&bytes).map_err(|message| Error::format(path, message))
    }

    fn parse(bytes: &[u8]) -> Result<Self, String> {
        if bytes.len() as u64 > MAX_INDEX_BYTES {
            return Err(format!("is longer than {} MiB; that is no shard index", MAX_INDEX_BYTES >> 20));
        }
        if let Some(what) = foreign(bytes) {
            return Err(format!("is {what}"));
        }
        let text = std::str::from_utf8(bytes).map_err(|e| format!("is no shard index: {e}"))?;
        let mut deserializer = serde_json::Deserializer::from_str(text);
        let index = deserializer
            .deserialize_map(IndexVisitor)
            .and_then(|index| deserializer.end().map(|()| index))
            .map_err(|e| format!("is no valid shard index: {e}"))?;
        if index.weight_map.is_empty() {
            return Err("`weight_map` is empty; expected tensor names and their shards".into());
        }
        for (name, shard) in &index.weight_map {
            check_name(name)?;
            check_shard(shard).map_err(|why| format!("shard {:?} of `{name}` {why}", shortened(shard)))?;
        }
        Ok(index)
    }

    /// The shards, each once, sorted.
    pub(super) fn shards(&self) -> BTreeSet<&str> {
        self.weight_map.values().map(String::as_str).collect()
    }
}

/// A shard must be a plain file name: an index from elsewhere must not reach outside of its directory.
fn check_shard(name: &str) -> Result<(), &'static str> {
    match name {
        "" => Err("has no name"),
        _ if name.contains(['/', '\\', ':']) || name == ".." => {
            Err("is not a plain file name; shards must lie beside their index")
        }
        _ if name.chars().any(char::is_control) => Err("has control characters in its name"),
        _ if name.len() > 255 => Err("has a name of more than 255 bytes"),
        _ if name.ends_with(".bin") => Err("is a PyTorch pickle; expected a `.safetensors` file"),
        _ if !name.ends_with(".safetensors") => Err("is not a `.safetensors` file"),
        _ => Ok(()),
    }
}

/// Finds a shard and follows links only within the checkpoint, or to `blobs/` in the cache layout of Hugging Face
/// (`models--…/snapshots/<revision>/` with links to `models--…/blobs/`).
pub(super) fn locate_shard(index: &Path, shard: &str) -> Result<PathBuf> {
    let dir = index.parent().filter(|d| !d.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let path = dir.join(shard);
    let canonical = |path: &Path| path.canonicalize().map_err(|source| Error::io("read", path, source));
    if let Err(e) = path.symlink_metadata()
        && e.kind() == std::io::ErrorKind::NotFound
    {
        return Err(Error::format(
            index,
            format!("shard `{shard}` is missing; fetch it into the same directory"),
        ));
    }
    let (home, target) = (canonical(dir)?, canonical(&path)?);
    let blobs =
        home.parent().filter(|p| p.ends_with("snapshots")).and_then(Path::parent).map(|p| p.join("blobs"));
    if target.starts_with(&home) || blobs.is_some_and(|blobs| target.starts_with(blobs)) {
        return Ok(path);
    }
    let message = format!("shard `{shard}` is a link to {}, outside of the checkpoint", target.display());
    Err(Error::format(index, message))
}

struct IndexVisitor;

impl<'de> Visitor<'de> for IndexVisitor {
    type Value = Index;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a map with `weight_map` and `metadata`")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Index, A::Error> {
        let (mut weight_map, mut metadata) = (None, None);
        while let Some(key) = map.next_key::<String>()? {
            let twice = match key.as_str() {
                "weight_map" => weight_map.replace(map.next_value_seed(StringMap("tensor"))?).is_some(),
                "metadata" => metadata.replace(map.next_value::<BTreeMap<String, Value>>()?).is_some(),
                _ => return Err(de::Error::custom(format!("unknown key {:?}", shortened(&key)))),
            };
            if twice {
                return Err(de::Error::custom(format!("`{key}` is there twice")));
            }
        }
        let weight_map = weight_map.ok_or_else(|| de::Error::missing_field("weight_map"))?;
        let total_size = metadata.and_then(|m| m.get("total_size").cloned());
        let total_size = total_size.map(|size| bytes_of(&size)).transpose().map_err(de::Error::custom)?;
        Ok(Index { weight_map, total_size })
    }
}

/// Some tools write the size as a float.
fn bytes_of(size: &Value) -> Result<u64, String> {
    let whole = |x: f64| (x >= 0.0 && x.fract() == 0.0 && x < 2f64.powi(53)).then_some(x as u64);
    size.as_u64().or_else(|| size.as_f64().and_then(whole)).ok_or_else(|| {
        format!("`metadata.total_size` must be a number of bytes, but is {}", shortened(&size.to_string()))
    })
}
