//! Writing a parameter file from many threads at once.
use super::{ParamSpec, write::header_text};
use crate::{Error, Result, files::AtomicFile};
use std::{
    collections::BTreeMap,
    io::Write,
    path::{Path, PathBuf},
    sync::atomic::{AtomicU64, Ordering},
};

/// Writes a parameter file whose tensors come in any order, in parts, from many threads.
///
/// The file appears with [`ParamScatter::finish`]; a writer that is dropped before leaves the old file as it was.
///
/// ```
/// use mtl_core::params::{Dtype, ParamFile, ParamScatter, ParamSpec};
///
/// let dir = tempfile::tempdir()?;
/// let path = dir.path().join("model.safetensors");
/// let writer = ParamScatter::create(&path, &[ParamSpec::new("w", Dtype::U8, [4])], &Default::default())?;
/// writer.write_at(0, 2, &[3, 4])?;
/// writer.write_at(0, 0, &[1, 2])?;
/// writer.finish()?;
/// assert_eq!(ParamFile::open(&path)?.bytes("w")?, [1, 2, 3, 4]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
#[must_use = "the file appears only after `finish`"]
pub struct ParamScatter {
    path: PathBuf,
    file: AtomicFile,
    /// First byte and length of each tensor.
    places: Vec<(u64, u64)>,
    /// Bytes that have come.
    written: AtomicU64,
}

impl ParamScatter {
    /// Checks the plan and writes the header to a temporary file beside `path`.
    ///
    /// # Errors
    ///
    /// As [`ParamWriter::create`](super::ParamWriter::create).
    pub fn create(
        path: impl AsRef<Path>,
        plan: &[ParamSpec],
        metadata: &BTreeMap<String, String>,
    ) -> Result<Self> {
        let path = path.as_ref();
        let (header, data_len) = header_text(plan, metadata)?;
        let mut at = 8 + header.len() as u64;
        let mut file = AtomicFile::create(path, Some(at + data_len as u64))?;
        let written = file
            .write_all(&(header.len() as u64).to_le_bytes())
            .and_then(|()| file.write_all(&header))
            .and_then(|()| file.flush());
        written.map_err(|source| Error::io("write", path, source))?;
        let place = |spec: &ParamSpec| {
            let start = at;
            let len = (spec.shape.iter().product::<usize>() * spec.dtype.size()) as u64;
            at += len;
            (start, len)
        };
        let places = plan.iter().map(place).collect();
        Ok(Self { path: path.to_owned(), file, places, written: AtomicU64::new(0) })
    }

    /// Writes bytes of tensor number `tensor` of the plan, from byte `offset` of the tensor on.
    ///
    /// # Errors
    ///
    /// [`Error::Config`] when the tensor has no such bytes; [`Error::Io`] when writing fails.
    pub fn write_at(&self, tensor: usize, offset: u64, bytes: &[u8]) -> Result<()> {
        let (start, len) = self.places.get(tensor).copied().unwrap_or_default();
        if offset.saturating_add(bytes.len() as u64) > len {
            let found = format!("{} bytes from byte {offset} on", bytes.len());
            return Err(Error::config("bytes", format!("within the {len} bytes of tensor {tensor}"), found));
        }
        self.file.write_at(start + offset, bytes).map_err(|e| Error::io("write", &self.path, e))?;
        self.written.fetch_add(bytes.len() as u64, Ordering::Relaxed);
        Ok(())
    }

    /// Makes the file durable and gives it its name.
    ///
    /// # Errors
    ///
    /// [`Error::Config`] when not as many bytes came as the tensors have; [`Error::Io`] when writing fails. The old
    /// file is untouched then.
    pub fn finish(self) -> Result<()> {
        let wanted: u64 = self.places.iter().map(|(_, len)| len).sum();
        let found = self.written.into_inner();
        if found != wanted {
            return Err(Error::config("tensors", format!("{wanted} bytes in all"), found));
        }
        self.file.commit()
    }
}
