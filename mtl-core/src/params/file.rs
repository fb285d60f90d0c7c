//! One safetensors file.
use super::{
    Dtype, TensorInfo, convert,
    header::{self, Header},
    mmap::Bytes,
};
use crate::{
    Error, Result,
    files::{self, FileStamp},
};
use std::{
    borrow::Cow,
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::Arc,
};

/// A checked safetensors file; tensors are read where they lie, without a copy where the type allows.
///
/// The file must not be changed in place while it is open: truncating a mapped file kills the readers of its pages (with
/// a line that says so after [`guard_mapped_files`](super::guard_mapped_files)). The writers of this crate replace files and never change them, so an open file keeps its old content.
///
/// ```
/// use mtl_core::params::{ParamFile, ParamView, write_params};
///
/// let dir = tempfile::tempdir()?;
/// let path = dir.path().join("model.safetensors");
/// write_params(&path, &Default::default(), &[ParamView::f32("bias", &[2], &[0.5, -1.0])])?;
/// let file = ParamFile::open(&path)?;
/// assert_eq!(*file.f32s("bias")?, [0.5, -1.0]);
/// assert_eq!(file.f32s("bais").unwrap_err().to_string(), "unknown parameter `bais`; did you mean `bias`?");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone)]
pub struct ParamFile {
    path: PathBuf,
    bytes: Bytes,
    header: Arc<Header>,
    stamp: Option<FileStamp>,
}

impl ParamFile {
    /// Maps a file and checks its header.
    ///
    /// # Errors
    ///
    /// [`Error::Io`] when it cannot be read or is no regular file; [`Error::Format`] when it is damaged or not
    /// safetensors, saying what it is.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let file = files::open_regular(path)?;
        let read = |source| Error::io("read", path, source);
        let stamp = FileStamp::of(&file.metadata().map_err(read)?);
        let bytes = Bytes::map(&file).map_err(read)?;
        Ok(Self { stamp: Some(stamp), ..Self::parse(path.to_owned(), bytes)? })
    }

    /// Takes the content of a file from memory.
    ///
    /// # Errors
    ///
    /// [`Error::Format`] as for [`ParamFile::open`]; the path shown is `<memory>`.
    pub fn from_bytes(bytes: Vec<u8>) -> Result<Self> {
        Self::parse("<memory>".into(), Bytes::Owned(Arc::new(bytes)))
    }

    fn parse(path: PathBuf, bytes: Bytes) -> Result<Self> {
        match header::parse(&bytes) {
            Ok(header) => Ok(Self { path, bytes, header: Arc::new(header), stamp: None }),
            Err(message) => Err(Error::format(path, message)),
        }
    }

    /// The path it was opened with.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Length and time of change of the file when it was opened; `None` for content from memory.
    pub fn stamp(&self) -> Option<FileStamp> {
        self.stamp
    }

    /// The bytes before the data: the length of the header and the header.
    pub fn header_bytes(&self) -> &[u8] {
        &self.bytes[..self.header.data_start]
    }

    /// Names of the tensors, sorted.
    pub fn names(&self) -> impl ExactSizeIterator<Item = &str> {
        self.header.tensors.keys().map(String::as_str)
    }

    /// Names and descriptions of the tensors, sorted by name.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&str, &TensorInfo)> {
        self.header.tensors.iter().map(|(name, info)| (name.as_str(), info))
    }

    /// Number of tensors.
    pub fn len(&self) -> usize {
        self.header.tensors.len()
    }

    /// Whether there is no tensor.
    pub fn is_empty(&self) -> bool {
        self.header.tensors.is_empty()
    }

    /// Bytes of all tensors together.
    pub fn nbytes(&self) -> usize {
        self.bytes.len() - self.header.data_start
    }

    /// Free-form entries of the header.
    pub fn metadata(&self) -> &BTreeMap<String, String> {
        &self.header.metadata
    }

    /// Type and shape of a tensor, if it is there.
    pub fn info(&self, name: &str) -> Option<&TensorInfo> {
        self.header.tensors.get(name)
    }

    /// Type and shape of a tensor.
    ///
    /// # Errors
    ///
    /// [`Error::Unknown`] when it is not there, with the nearest name.
    pub fn expect_info(&self, name: &str) -> Result<&TensorInfo> {
        self.info(name).ok_or_else(|| Error::unknown("parameter", name, self.names()))
    }

    /// The bytes of a tensor, little-endian, in row-major order.
    ///
    /// # Errors
    ///
    /// [`Error::Unknown`] when it is not there; [`Error::Format`] when a `BOOL` holds another byte than 0 and 1.
    pub fn bytes(&self, name: &str) -> Result<&[u8]> {
        let info = self.expect_info(name)?;
        let bytes = &self.bytes[self.header.data_start..][info.offsets.clone()];
        if info.dtype == Dtype::Bool
            && let Some(at) = bytes.iter().position(|&b| b > 1)
        {
            let message =
                format!("tensor `{name}` is BOOL, but element {at} is {}; expected 0 or 1", bytes[at]);
            return Err(Error::format(&self.path, message));
        }
        Ok(bytes)
    }

    /// The elements of a floating-point tensor, borrowed if they are stored as aligned `f32`, else converted.
    ///
    /// # Errors
    ///
    /// [`Error::Unknown`] when it is not there; [`Error::Format`] when its elements are not floating-point.
    pub fn f32s(&self, name: &str) -> Result<Cow<'_, [f32]>> {
        let info = self.expect_info(name)?;
        let bytes = self.bytes(name)?;
        if !info.dtype.is_float() {
            let message = format!("tensor `{name}` is {}; expected a floating-point type", info.dtype);
            return Err(Error::format(&self.path, message));
        }
        if info.dtype == Dtype::F32
            && cfg!(target_endian = "little")
            && let Ok(values) = bytemuck::try_cast_slice(bytes)
        {
            return Ok(Cow::Borrowed(values));
        }
        let mut values = vec![0.0; info.numel()];
        convert::to_f32(info.dtype, bytes, &mut values)?;
        Ok(Cow::Owned(values))
    }
}
