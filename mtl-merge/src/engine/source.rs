//! Where tensors come from: checkpoints on disk or maps in memory, seen alike by the engine.
use crate::{HostTensor, Result, TensorMap};
use mtl_core::params::{Dtype, ParamFile, ParamStore, TensorInfo, convert};
use std::{ops::Range, path::Path};

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
pub(crate) trait Source: Sync {
    /// All tensors, sorted by name; the other calls take positions in this list.
    fn tensors(&self) -> &[TensorMeta];

    /// Path of the checkpoint, or name in memory, for messages.
    fn label(&self) -> String;

    /// File that holds the tensor, or name in memory, for messages.
    fn place(&self, tensor: usize) -> String;

    /// Elements `span` of a floating-point tensor, converted into `scratch` unless they can be borrowed.
    fn read<'a>(&'a self, tensor: usize, span: Range<usize>, scratch: &'a mut Vec<f32>) -> Result<&'a [f32]>;

    /// Bytes of a tensor as stored.
    fn bytes(&self, tensor: usize) -> Result<&[u8]>;

    /// Position of the tensor called `name`.
    fn find(&self, name: &str) -> Option<usize> {
        self.tensors().binary_search_by(|t| t.name.as_str().cmp(name)).ok()
    }
}

/// A checkpoint on disk, mapped into memory.
#[derive(Debug)]
pub(crate) struct FileSource {
    store: ParamStore,
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
        Ok(Self { store, tensors })
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

    fn read<'a>(&'a self, tensor: usize, span: Range<usize>, scratch: &'a mut Vec<f32>) -> Result<&'a [f32]> {
        let meta = &self.tensors[tensor];
        let size = meta.dtype.size();
        let bytes = &self.store.bytes(&meta.name)?[span.start * size..span.end * size];
        if meta.dtype == Dtype::F32
            && cfg!(target_endian = "little")
            && let Ok(values) = bytemuck::try_cast_slice(bytes)
        {
            return Ok(values);
        }
        scratch.resize(span.len(), 0.0);
        convert::to_f32(meta.dtype, bytes, scratch)?;
        Ok(scratch)
    }

    fn bytes(&self, tensor: usize) -> Result<&[u8]> {
        Ok(self.store.bytes(&self.tensors[tensor].name)?)
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

    fn read<'a>(
        &'a self,
        tensor: usize,
        span: Range<usize>,
        _scratch: &'a mut Vec<f32>,
    ) -> Result<&'a [f32]> {
        Ok(&self.values[tensor].data()[span])
    }

    fn bytes(&self, tensor: usize) -> Result<&[u8]> {
        Ok(bytemuck::cast_slice(self.values[tensor].data()))
    }
}
