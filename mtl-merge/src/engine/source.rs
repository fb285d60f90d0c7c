//! Where tensors come from: checkpoints on disk or maps in memory, seen alike by the engine.
use super::convert::to_f64;
use crate::{
    Error, HostTensor, Result, TensorMap,
    tensor::{PIECE, Values},
};
use mtl_core::{
    files::FileStamp,
    params::{Dtype, ParamFile, ParamStore, TensorInfo},
};
use std::{
    borrow::Cow,
    ops::Range,
    path::{Path, PathBuf},
};

/// Name, shape and type of a tensor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TensorMeta {
    pub(crate) name: String,
    pub(crate) shape: Vec<usize>,
    pub(crate) dtype: Dtype,
}

impl TensorMeta {
    pub(crate) fn numel(&self) -> usize {
        self.shape.iter().product()
    }
}

/// A checkpoint whose tensors can be read in pieces from many threads.
pub(crate) trait Source: Send + Sync {
    /// All tensors, sorted by name; the other calls take positions in this list.
    fn tensors(&self) -> &[TensorMeta];

    /// Path of the checkpoint, or name in memory, for messages.
    fn label(&self) -> String;

    /// File that holds the tensor, or name in memory, for messages.
    fn place(&self, tensor: usize) -> String;

    /// Elements `span` of a floating-point tensor; tells whether all are finite.
    fn read(&self, tensor: usize, span: Range<usize>, out: &mut [f64]) -> Result<bool>;

    /// Bytes of a tensor as stored.
    fn bytes(&self, tensor: usize) -> Result<Cow<'_, [u8]>>;

    /// Position of the tensor called `name`.
    fn find(&self, name: &str) -> Option<usize> {
        self.tensors().binary_search_by(|t| t.name.as_str().cmp(name)).ok()
    }

    /// The files that are read, as they were when they were opened; none in memory.
    fn files(&self) -> Vec<&InputFile> {
        Vec::new()
    }

    /// Checks that the files are as they were when they were opened.
    ///
    /// # Errors
    ///
    /// [`Error::InputChanged`] for the first that is not.
    fn unchanged(&self) -> Result<()> {
        self.files().into_iter().try_for_each(InputFile::unchanged)
    }
}

/// A file that was opened for reading.
#[derive(Debug, Clone)]
pub(crate) struct InputFile {
    pub(crate) path: PathBuf,
    pub(crate) stamp: FileStamp,
    /// Digest of the header.
    pub(crate) head: blake3::Hash,
}

impl InputFile {
    /// The files of an open store.
    pub(crate) fn all(store: &ParamStore) -> Vec<Self> {
        let known = |file: &ParamFile| {
            let head = blake3::hash(file.header_bytes());
            Some(Self { path: file.path().to_owned(), stamp: file.stamp()?, head })
        };
        store.files().iter().filter_map(known).collect()
    }

    fn unchanged(&self) -> Result<()> {
        let now = FileStamp::read(&self.path);
        let change = match now {
            Ok(now) if now == self.stamp => return Ok(()),
            Ok(now) if now.len != self.stamp.len => {
                format!("it has {} bytes instead of {}", now.len, self.stamp.len)
            }
            Ok(_) => "it was written to".to_owned(),
            Err(error) => error.to_string(),
        };
        Err(Error::InputChanged { file: self.path.display().to_string(), change })
    }
}

/// A checkpoint on disk, mapped into memory.
#[derive(Debug)]
pub(crate) struct FileSource {
    store: ParamStore,
    files: Vec<InputFile>,
    tensors: Vec<TensorMeta>,
}

impl FileSource {
    pub(crate) fn open(path: &Path) -> mtl_core::Result<Self> {
        let store = ParamStore::open(path)?;
        let meta = |(name, info): (&str, &TensorInfo)| TensorMeta {
            name: name.to_owned(),
            shape: info.shape.clone(),
            dtype: info.dtype,
        };
        let tensors = store.iter().map(meta).collect(); // Sorted by name already.
        Ok(Self { files: InputFile::all(&store), store, tensors })
    }
}

impl Source for FileSource {
    fn tensors(&self) -> &[TensorMeta] {
        &self.tensors
    }

    fn label(&self) -> String {
        self.store.path().display().to_string()
    }

    fn place(&self, tensor: usize) -> String {
        let file = self.store.file_of(&self.tensors[tensor].name);
        file.map_or(self.store.path(), ParamFile::path).display().to_string()
    }

    fn read(&self, tensor: usize, span: Range<usize>, out: &mut [f64]) -> Result<bool> {
        let meta = &self.tensors[tensor];
        let size = meta.dtype.size();
        to_f64(meta.dtype, &self.store.bytes(&meta.name)?[span.start * size..span.end * size], out)
    }

    fn bytes(&self, tensor: usize) -> Result<Cow<'_, [u8]>> {
        Ok(Cow::Borrowed(self.store.bytes(&self.tensors[tensor].name)?))
    }

    fn files(&self) -> Vec<&InputFile> {
        self.files.iter().collect()
    }
}

/// Tensors in memory.
#[derive(Debug)]
pub(crate) struct MapSource<'m> {
    label: String,
    tensors: Vec<TensorMeta>,
    values: Vec<&'m HostTensor>,
}

impl<'m> MapSource<'m> {
    pub(crate) fn new(label: impl Into<String>, map: &'m TensorMap) -> Self {
        let meta = |(name, tensor): (&String, &HostTensor)| TensorMeta {
            name: name.clone(),
            shape: tensor.shape().to_vec(),
            dtype: Dtype::F32,
        };
        Self { label: label.into(), tensors: map.iter().map(meta).collect(), values: map.values().collect() }
    }
}

impl Source for MapSource<'_> {
    fn tensors(&self) -> &[TensorMeta] {
        &self.tensors
    }

    fn label(&self) -> String {
        self.label.clone()
    }

    fn place(&self, _tensor: usize) -> String {
        self.label.clone()
    }

    fn read(&self, tensor: usize, span: Range<usize>, out: &mut [f64]) -> Result<bool> {
        let mut largest = 0;
        for (out, &x) in out.iter_mut().zip(&self.values[tensor].data()[span]) {
            largest = largest.max(x.to_bits() & 0x7fff_ffff);
            *out = f64::from(x);
        }
        Ok(largest < 0x7f80_0000)
    }

    fn bytes(&self, tensor: usize) -> Result<Cow<'_, [u8]>> {
        Ok(Cow::Borrowed(bytemuck::cast_slice(self.values[tensor].data())))
    }
}

/// The error for a tensor known to hold a NaN or an infinity; counts them all.
pub(crate) fn non_finite(source: &dyn Source, place: usize) -> Result<Error> {
    let meta = &source.tensors()[place];
    let (mut count, mut first) = (0, None);
    let mut out = vec![0.0; PIECE];
    for start in (0..meta.numel()).step_by(PIECE) {
        let end = (start + PIECE).min(meta.numel());
        let out = &mut out[..end - start];
        source.read(place, start..end, out)?;
        for (i, x) in out.iter().enumerate() {
            if !x.is_finite() {
                count += 1;
                first.get_or_insert(start + i);
            }
        }
    }
    let index = first.unwrap_or_default();
    Ok(Error::NonFinite { tensor: meta.name.clone(), file: source.place(place), index, count })
}

/// A tensor of a source.
pub(crate) struct Stored<'a> {
    pub(crate) source: &'a dyn Source,
    pub(crate) tensor: usize,
}

impl Values for Stored<'_> {
    fn read(&self, span: Range<usize>, out: &mut [f64]) -> Result<bool> {
        self.source.read(self.tensor, span, out)
    }

    fn label(&self) -> String {
        self.source.place(self.tensor)
    }

    fn name(&self) -> &str {
        &self.source.tensors()[self.tensor].name
    }
}
