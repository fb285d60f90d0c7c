//! A model as it lies on disk: one file, or shards with an index.
use super::{
    ParamFile, TensorInfo,
    index::{Index, locate_shard},
};
use crate::{Error, Result};
use std::{
    borrow::Cow,
    collections::BTreeMap,
    path::{Path, PathBuf},
};

/// File of a model that is not sharded.
const MODEL: &str = "model.safetensors";
/// Index of a sharded model.
const INDEX: &str = "model.safetensors.index.json";

/// The parameters of a model on disk, in one file or in shards.
///
/// ```
/// use mtl_core::params::{ParamStore, ParamView, write_params};
///
/// let dir = tempfile::tempdir()?;
/// let weight = ParamView::f32("weight", &[1, 2], &[3.0, 4.0]);
/// write_params(dir.path().join("model.safetensors"), &Default::default(), &[weight])?;
/// let store = ParamStore::open(dir.path())?;
/// assert_eq!(store.info("weight").map(|t| t.shape.clone()), Some(vec![1, 2]));
/// assert_eq!(*store.f32s("weight")?, [3.0, 4.0]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone)]
pub struct ParamStore {
    path: PathBuf,
    files: Vec<ParamFile>,
    /// Tensor → position in `files`.
    home: BTreeMap<String, usize>,
    metadata: BTreeMap<String, String>,
}

impl ParamStore {
    /// Opens a safetensors file, an index (`….json`), or a directory with `model.safetensors` or
    /// `model.safetensors.index.json` and its shards.
    ///
    /// # Errors
    ///
    /// [`Error::Io`] when something cannot be read; [`Error::Format`] when a file is damaged or not what it should be,
    /// or index and shards differ.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let found = if path.is_dir() { find(path)? } else { path.to_owned() };
        if found.extension().is_some_and(|e| e == "json") {
            return Self::open_sharded(path, &found);
        }
        let file = ParamFile::open(found)?;
        let home = file.names().map(|name| (name.to_owned(), 0)).collect();
        Ok(Self { path: path.to_owned(), metadata: file.metadata().clone(), files: vec![file], home })
    }

    fn open_sharded(path: &Path, index_path: &Path) -> Result<Self> {
        let index = Index::read(index_path)?;
        let shards: Vec<&str> = index.shards().into_iter().collect();
        let mut files = Vec::with_capacity(shards.len());
        for shard in &shards {
            files.push(ParamFile::open(locate_shard(index_path, shard)?)?);
        }
        let home =
            match_shards(&index, &shards, &files).map_err(|message| Error::format(index_path, message))?;
        let metadata = common_metadata(&files);
        Ok(Self { path: path.to_owned(), files, home, metadata })
    }

    /// The path it was opened with.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The files: one, or the shards in the order of their names.
    pub fn files(&self) -> &[ParamFile] {
        &self.files
    }

    /// Names of the tensors, sorted.
    pub fn names(&self) -> impl ExactSizeIterator<Item = &str> {
        self.home.keys().map(String::as_str)
    }

    /// Names and descriptions of the tensors, sorted by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &TensorInfo)> {
        self.names().filter_map(|name| Some((name, self.info(name)?)))
    }

    /// Number of tensors.
    pub fn len(&self) -> usize {
        self.home.len()
    }

    /// Whether there is no tensor.
    pub fn is_empty(&self) -> bool {
        self.home.is_empty()
    }

    /// Bytes of all tensors together.
    pub fn nbytes(&self) -> usize {
        self.files.iter().map(ParamFile::nbytes).sum()
    }

    /// Free-form entries of the header; of shards, those that all have in common.
    pub fn metadata(&self) -> &BTreeMap<String, String> {
        &self.metadata
    }

    /// The file that holds a tensor.
    ///
    /// # Errors
    ///
    /// [`Error::Unknown`] when none does, with the nearest name.
    pub fn file_of(&self, name: &str) -> Result<&ParamFile> {
        let file = self.home.get(name).and_then(|&at| self.files.get(at));
        file.ok_or_else(|| Error::unknown("parameter", name, self.names()))
    }

    /// Type and shape of a tensor, if it is there.
    pub fn info(&self, name: &str) -> Option<&TensorInfo> {
        self.files.get(*self.home.get(name)?)?.info(name)
    }

    /// Type and shape of a tensor.
    ///
    /// # Errors
    ///
    /// [`Error::Unknown`] when it is not there, with the nearest name.
    pub fn expect_info(&self, name: &str) -> Result<&TensorInfo> {
        self.file_of(name)?.expect_info(name)
    }

    /// The bytes of a tensor; see [`ParamFile::bytes`].
    ///
    /// # Errors
    ///
    /// As [`ParamFile::bytes`].
    pub fn bytes(&self, name: &str) -> Result<&[u8]> {
        self.file_of(name)?.bytes(name)
    }

    /// The elements of a floating-point tensor; see [`ParamFile::f32s`].
    ///
    /// # Errors
    ///
    /// As [`ParamFile::f32s`].
    pub fn f32s(&self, name: &str) -> Result<Cow<'_, [f32]>> {
        self.file_of(name)?.f32s(name)
    }
}

/// The file to read in a directory.
fn find(dir: &Path) -> Result<PathBuf> {
    for name in [MODEL, INDEX] {
        // A link that leads nowhere counts as found, so that opening it says so.
        if dir.join(name).symlink_metadata().is_ok() {
            return Ok(dir.join(name));
        }
    }
    let entries = std::fs::read_dir(dir).map_err(|source| Error::io("read", dir, source))?;
    let names = entries.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned());
    let mut others: Vec<String> = names
        .filter(|n| [".safetensors", ".bin", ".pt", ".pth", ".gguf"].iter().any(|e| n.ends_with(e)))
        .collect();
    others.sort();
    let hint = match others.iter().find(|n| n.ends_with(".safetensors")).or(others.first()) {
        Some(name) if name.ends_with(".safetensors") => format!("; there is `{name}`: name that file itself"),
        Some(name) => format!("; there is `{name}`: convert it with `safetensors.torch.save_file` in Python"),
        None => String::new(),
    };
    Err(Error::format(dir, format!("has neither `{MODEL}` nor `{INDEX}`{hint}")))
}

/// Compares index and shards both ways; gives the position of each tensor's shard.
fn match_shards(
    index: &Index,
    shards: &[&str],
    files: &[ParamFile],
) -> Result<BTreeMap<String, usize>, String> {
    let mut home = BTreeMap::new();
    for (at, (&shard, file)) in shards.iter().zip(files).enumerate() {
        for name in file.names() {
            match index.weight_map.get(name) {
                Some(mapped) if mapped == shard => home.insert(name.to_owned(), at),
                Some(mapped) => {
                    return Err(format!(
                        "tensor `{name}` is in shard `{shard}`, but the index puts it in `{mapped}`"
                    ));
                }
                None => return Err(format!("tensor `{name}` of shard `{shard}` is not in the index")),
            };
        }
    }
    if let Some((name, shard)) = index.weight_map.iter().find(|(name, _)| !home.contains_key(*name)) {
        return Err(format!("tensor `{name}` is not in shard `{shard}`, where the index puts it"));
    }
    let nbytes: usize = files.iter().map(ParamFile::nbytes).sum();
    match index.total_size {
        Some(total) if total != nbytes as u64 => Err(format!(
            "`metadata.total_size` is {total}, but the shards hold {nbytes} bytes; \
             if the shards are of one version, correct or remove the entry"
        )),
        _ => Ok(home),
    }
}

/// Entries that are equal in all files.
fn common_metadata(files: &[ParamFile]) -> BTreeMap<String, String> {
    let Some((first, rest)) = files.split_first() else { return BTreeMap::new() };
    let shared =
        first.metadata().iter().filter(|(k, v)| rest.iter().all(|f| f.metadata().get(*k) == Some(*v)));
    shared.map(|(k, v)| (k.clone(), v.clone())).collect()
}
