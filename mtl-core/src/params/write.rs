//! Writing parameter files: the new file appears whole, or the old one stays.
use super::{
    Dtype, convert,
    header::{MAX_HEADER_BYTES, METADATA, check_name, sizes},
};
use crate::{Error, Result, files::AtomicFile};
use serde_json::json;
use std::{
    borrow::Cow,
    collections::{BTreeMap, BTreeSet},
    io::Write,
    path::{Path, PathBuf},
};

/// Name, type and shape of a tensor to be written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParamSpec {
    /// Name, such as `encoder.weight`.
    pub name: String,
    /// Element type in the file.
    pub dtype: Dtype,
    /// Dimensions, outermost first.
    pub shape: Vec<usize>,
}

impl ParamSpec {
    /// A tensor to be written.
    pub fn new(name: impl Into<String>, dtype: Dtype, shape: impl Into<Vec<usize>>) -> Self {
        Self { name: name.into(), dtype, shape: shape.into() }
    }
}

/// Sorts a plan so that every tensor is aligned to its type: larger elements first, then by name.
pub fn file_order(plan: &mut [ParamSpec]) {
    plan.sort_by(|a, b| b.dtype.size().cmp(&a.dtype.size()).then_with(|| a.name.cmp(&b.name)));
}

/// A tensor at hand, to be written.
#[derive(Debug, Clone)]
pub struct ParamView<'a> {
    /// Name, such as `encoder.weight`.
    pub name: &'a str,
    /// Element type.
    pub dtype: Dtype,
    /// Dimensions, outermost first.
    pub shape: &'a [usize],
    /// Elements, little-endian, in row-major order.
    pub bytes: Cow<'a, [u8]>,
}

impl<'a> ParamView<'a> {
    /// A tensor given as bytes.
    pub fn new(name: &'a str, dtype: Dtype, shape: &'a [usize], bytes: &'a [u8]) -> Self {
        Self { name, dtype, shape, bytes: Cow::Borrowed(bytes) }
    }

    /// A tensor of `f32`, borrowed.
    pub fn f32(name: &'a str, shape: &'a [usize], values: &'a [f32]) -> Self {
        Self { name, dtype: Dtype::F32, shape, bytes: f32_bytes(values) }
    }
}

/// The bytes of the values in the order of files.
fn f32_bytes(values: &[f32]) -> Cow<'_, [u8]> {
    if cfg!(target_endian = "little") {
        Cow::Borrowed(bytemuck::cast_slice(values))
    } else {
        Cow::Owned(values.iter().flat_map(|v| v.to_le_bytes()).collect())
    }
}

/// Writes tensors that are all at hand; equal content gives equal bytes, whatever the order of `tensors`.
///
/// # Errors
///
/// [`Error::Config`] when a name is unusable or there twice, or bytes and shape differ; [`Error::Io`] when writing
/// fails. The old file is untouched then.
pub fn write_params(
    path: impl AsRef<Path>,
    metadata: &BTreeMap<String, String>,
    tensors: &[ParamView<'_>],
) -> Result<()> {
    let mut plan: Vec<_> = tensors.iter().map(|t| ParamSpec::new(t.name, t.dtype, t.shape)).collect();
    file_order(&mut plan);
    let by_name: BTreeMap<_, _> = tensors.iter().map(|t| (t.name, &t.bytes)).collect();
    let mut writer = ParamWriter::create(path, &plan, metadata)?;
    for spec in &plan {
        writer.write(&spec.name, by_name.get(spec.name.as_str()).map_or(&[], |bytes| bytes))?;
    }
    writer.finish()
}

/// Writes a parameter file tensor by tensor, for models larger than memory.
///
/// The plan gives the tensors in the order in which they will come. The file appears with [`ParamWriter::finish`]; a
/// writer that is dropped before leaves the old file as it was.
///
/// ```
/// use mtl_core::params::{Dtype, ParamFile, ParamSpec, ParamWriter, file_order};
///
/// let dir = tempfile::tempdir()?;
/// let path = dir.path().join("model.safetensors");
/// let mut plan = vec![ParamSpec::new("b", Dtype::Bf16, [2]), ParamSpec::new("a", Dtype::F32, [1])];
/// file_order(&mut plan); // `a` comes first now: its elements are larger.
/// let mut writer = ParamWriter::create(&path, &plan, &Default::default())?;
/// writer.write_f32s("a", &[0.1])?;
/// writer.write_f32s("b", &[1.0, 2.0])?;
/// writer.finish()?;
/// assert_eq!(*ParamFile::open(&path)?.f32s("b")?, [1.0, 2.0]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
#[must_use = "the file appears only after `finish`"]
pub struct ParamWriter {
    path: PathBuf,
    file: AtomicFile,
    plan: Vec<ParamSpec>,
    next: usize,
    /// Bytes of the next tensor that are written already.
    part: usize,
    scratch: Vec<u8>,
}

impl ParamWriter {
    /// Checks the plan and writes the header to a temporary file beside `path`.
    ///
    /// # Errors
    ///
    /// [`Error::Config`] when a name is unusable or there twice, a size does not fit, a tensor would not be aligned
    /// ([`file_order`] cures that), or the header exceeds [`MAX_HEADER_BYTES`]; [`Error::Io`] when writing fails.
    pub fn create(
        path: impl AsRef<Path>,
        plan: &[ParamSpec],
        metadata: &BTreeMap<String, String>,
    ) -> Result<Self> {
        let path = path.as_ref();
        let (header, data_len) = header_text(plan, metadata)?;
        let mut file = AtomicFile::create(path, Some((8 + header.len() + data_len) as u64))?;
        let written =
            file.write_all(&(header.len() as u64).to_le_bytes()).and_then(|()| file.write_all(&header));
        written.map_err(|source| Error::io("write", path, source))?;
        Ok(Self { path: path.to_owned(), file, plan: plan.to_vec(), next: 0, part: 0, scratch: Vec::new() })
    }

    /// The tensor that must come next, until all are written.
    pub fn expected(&self) -> Option<&ParamSpec> {
        self.plan.get(self.next)
    }

    /// Writes the next tensor of the plan from its bytes, little-endian, in row-major order.
    ///
    /// # Errors
    ///
    /// [`Error::Config`] when another tensor is due or the number of bytes is wrong; [`Error::Io`] when writing fails.
    pub fn write(&mut self, name: &str, bytes: &[u8]) -> Result<()> {
        let spec = self.due(name)?;
        let wanted = spec.shape.iter().product::<usize>() * spec.dtype.size();
        if bytes.len() != wanted || self.part > 0 {
            let must = format!("{wanted} bytes long for {} of shape {:?}", spec.dtype, spec.shape);
            return Err(Error::config(name, must, bytes.len()));
        }
        self.write_part(name, bytes)
    }

    /// Writes the next bytes of the next tensor of the plan, for tensors larger than memory.
    ///
    /// The tensor after it is due as soon as all bytes have come.
    ///
    /// # Errors
    ///
    /// As [`ParamWriter::write`], but fewer bytes than the tensor has are accepted.
    pub fn write_part(&mut self, name: &str, bytes: &[u8]) -> Result<()> {
        let spec = self.due(name)?;
        let left = spec.shape.iter().product::<usize>() * spec.dtype.size() - self.part;
        if bytes.len() > left {
            let must =
                format!("at most {left} bytes long, the rest of {} of shape {:?}", spec.dtype, spec.shape);
            return Err(Error::config(name, must, bytes.len()));
        }
        self.file.write_all(bytes).map_err(|source| Error::io("write", &self.path, source))?;
        self.part += bytes.len();
        if bytes.len() == left {
            (self.next, self.part) = (self.next + 1, 0);
        }
        Ok(())
    }

    /// Writes the next tensor of the plan, rounded to the type the plan gives it.
    ///
    /// # Errors
    ///
    /// As [`ParamWriter::write`]; [`Error::Config`] also when the plan gives it a type that is not floating-point.
    pub fn write_f32s(&mut self, name: &str, values: &[f32]) -> Result<()> {
        let dtype = self.due(name)?.dtype;
        if dtype == Dtype::F32 {
            return self.write(name, &f32_bytes(values));
        }
        let mut scratch = std::mem::take(&mut self.scratch);
        scratch.clear();
        let written =
            convert::from_f32(dtype, values, &mut scratch).and_then(|()| self.write(name, &scratch));
        self.scratch = scratch;
        written
    }

    fn due(&self, name: &str) -> Result<&ParamSpec> {
        match self.expected() {
            Some(spec) if spec.name == name => Ok(spec),
            Some(spec) => Err(Error::config("name", format!("`{}`, the next in the plan", spec.name), name)),
            None => Err(Error::config("name", "absent, as the plan is complete", name)),
        }
    }

    /// Makes the file appear under its name, durably.
    ///
    /// # Errors
    ///
    /// [`Error::Config`] when tensors of the plan are missing; [`Error::Io`] when the file cannot be completed.
    pub fn finish(self) -> Result<()> {
        if let Some(spec) = self.expected() {
            let must = format!("complete; `{}` comes next", spec.name);
            return Err(Error::config("plan", must, format!("written up to tensor {}", self.next)));
        }
        self.file.commit()
    }
}

/// The header, padded so that the data begins at a multiple of 8, and the length of the data.
pub(super) fn header_text(
    plan: &[ParamSpec],
    metadata: &BTreeMap<String, String>,
) -> Result<(Vec<u8>, usize)> {
    let mut names = BTreeSet::new();
    let mut records = Vec::with_capacity(plan.len() + 1);
    if !metadata.is_empty() {
        records.push(format!("{}:{}", json!(METADATA), json!(metadata)));
    }
    let mut end = 0usize;
    for spec in plan {
        let (name, start) = (&spec.name, end);
        check_name(name).map_err(|why| Error::config("name", "a usable name of a tensor", why))?;
        if name == METADATA || !names.insert(name) {
            return Err(Error::config("name", "different for each tensor", format!("`{name}` again")));
        }
        if start % spec.dtype.size() != 0 {
            let must = "in an order that aligns every tensor to its type; `file_order` sorts it so";
            return Err(Error::config("plan", must, format!("`{name}` ({}) at byte {start}", spec.dtype)));
        }
        end = sizes(spec.dtype, &spec.shape)
            .and_then(|(_, nbytes)| start.checked_add(nbytes))
            .filter(|&end| i64::try_from(end).is_ok())
            .ok_or_else(|| {
                Error::config("shape", "of at most 2^63 - 1 bytes", format!("{:?}", spec.shape))
            })?;
        let record = json!({ "dtype": spec.dtype.name(), "shape": spec.shape, "data_offsets": [start, end] });
        records.push(format!("{}:{record}", json!(name)));
    }
    let mut header = format!("{{{}}}", records.join(",")).into_bytes();
    header.resize(header.len().next_multiple_of(8), b' ');
    if header.len() > MAX_HEADER_BYTES {
        let must = format!("at most {MAX_HEADER_BYTES} bytes long; split the tensors over several files");
        return Err(Error::config("header", must, header.len()));
    }
    Ok((header, end))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::params::ParamFile;

    #[test]
    fn a_tensor_may_come_in_parts_and_must_come_whole() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("m.safetensors");
        let plan = [ParamSpec::new("a", Dtype::U8, [3]), ParamSpec::new("b", Dtype::U8, [1])];
        let mut writer = ParamWriter::create(&path, &plan, &BTreeMap::new()).unwrap();
        writer.write_part("a", &[1, 2]).unwrap();
        assert!(writer.write("a", &[1, 2, 3]).is_err(), "two bytes of it are written");
        assert!(writer.write_part("a", &[3, 4]).unwrap_err().to_string().contains("at most 1 bytes"));
        assert!(writer.write_part("b", &[9]).is_err(), "`a` is not complete");
        writer.write_part("a", &[3]).unwrap();
        writer.write("b", &[4]).unwrap();
        writer.finish().unwrap();
        assert_eq!(ParamFile::open(&path).unwrap().bytes("a").unwrap(), [1, 2, 3]);
    }
}
