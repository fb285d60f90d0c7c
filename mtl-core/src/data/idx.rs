//! IDX files, the format of MNIST and its kin, raw or gzip-compressed.
//!
//! Whether a file is compressed is seen from its first bytes, not from its name. The length that the header declares is
//! checked before anything is allocated for it, and nothing beyond it is unpacked.
use super::{RawValues, Samples};
use crate::{Error, Result, files, params::sniff};
use flate2::read::MultiGzDecoder;
use std::{
    io::{self, BufReader, Read, Seek},
    path::{Path, PathBuf},
};

/// Most bytes of values read from one file.
const MAX_BYTES: u64 = 4 << 30;
/// Deflate cannot shrink data by more than this factor.
const MAX_DEFLATE_RATIO: u64 = 1032;
/// Most dimensions of an array; colour images have four.
const MAX_DIMS: u8 = 4;

/// An array read from an IDX file.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct IdxArray {
    /// Dimensions, outermost first; for images `[samples, rows, columns]`.
    pub shape: Vec<usize>,
    /// Values in row-major order.
    pub values: RawValues,
}

/// Reads one IDX file of unsigned bytes or `f32`, raw or gzip-compressed.
///
/// ```
/// use mtl_core::data::{RawValues, idx};
///
/// let dir = tempfile::tempdir()?;
/// let path = dir.path().join("labels");
/// std::fs::write(&path, [0, 0, 8, 1, 0, 0, 0, 3, 7, 2, 1])?;
/// let labels = idx::read_idx(&path)?;
/// assert_eq!(labels.values, RawValues::U8(vec![7, 2, 1]));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
///
/// [`Error::Io`] when the file cannot be read; [`Error::Format`] when it is damaged or no IDX file, saying what is wrong.
pub fn read_idx(path: impl AsRef<Path>) -> Result<IdxArray> {
    let path = path.as_ref();
    let mut file = files::open_regular(path)?;
    let io_error = |source| Error::io("read", path, source);
    let file_len = file.metadata().map_err(io_error)?.len();
    let mut head = Vec::new();
    (&file).take(512).read_to_end(&mut head).map_err(io_error)?;
    file.rewind().map_err(io_error)?;
    let source = if head.starts_with(b"\x1F\x8B") {
        Source { reader: Box::new(MultiGzDecoder::new(BufReader::new(file))), file_len, gzip: true }
    } else {
        if let Some(what) = sniff::foreign(&head).filter(|_| !head.starts_with(&[0, 0])) {
            return Err(Error::format(path, format!("is {what}; expected an IDX file")));
        }
        Source { reader: Box::new(file), file_len, gzip: false }
    };
    source.read().map_err(|fault| match fault {
        Fault::Io(source) => io_error(source),
        Fault::Format(message) => Error::format(path, message),
    })
}

/// Reads images and their labels as samples of shape `[1, rows, columns]`.
///
/// # Errors
///
/// As [`read_idx`]; [`Error::Format`] also when the files were swapped, the counts differ, there is no image, or a label
/// is not below `n_classes`.
pub fn load_idx(images: impl AsRef<Path>, labels: impl AsRef<Path>, n_classes: usize) -> Result<Samples> {
    let (images_path, labels_path) = (images.as_ref(), labels.as_ref());
    let labels = read_labels(labels_path, n_classes)?;
    let IdxArray { shape, values } = read_idx(images_path)?;
    let fault = |message: String| Err(Error::format(images_path, message));
    let &[count, rows, columns] = shape.as_slice() else {
        return fault(match shape.len() {
            1 => format!("holds {} labels, not images; were the two files swapped?", shape[0]),
            n => format!("has {n} dimensions; expected 3: images, rows, columns"),
        });
    };
    if count != labels.len() {
        let labels_path = labels_path.display();
        return fault(format!("holds {count} images, but `{labels_path}` holds {} labels", labels.len()));
    }
    Samples::new(values, vec![1, rows, columns], labels)
}

/// Reads the four files of MNIST or a data set of the same layout, training split first.
///
/// The names are `train-images-idx3-ubyte`, `train-labels-idx1-ubyte`, `t10k-images-idx3-ubyte` and
/// `t10k-labels-idx1-ubyte`, each possibly with `.gz`; labels are 0 to 9.
///
/// # Errors
///
/// [`Error::Format`] when files are missing, naming all of them; else as [`load_idx`].
pub fn load_idx_folder(dir: impl AsRef<Path>) -> Result<(Samples, Samples)> {
    const N_CLASSES: usize = 10;
    let dir = dir.as_ref();
    let [train_images, train_labels, test_images, test_labels] = folder_files(dir)?;
    let train = load_idx(train_images, train_labels, N_CLASSES)?;
    let test = load_idx(test_images, test_labels, N_CLASSES)?;
    if train.shape != test.shape {
        let (a, b) = (&train.shape[1..], &test.shape[1..]);
        return Err(Error::format(
            dir,
            format!("has training images of {a:?} pixels, but test images of {b:?}"),
        ));
    }
    Ok((train, test))
}

/// The four files that [`load_idx_folder`] reads: training images and labels, test images and labels.
///
/// # Errors
///
/// [`Error::Io`] when the folder cannot be read, [`Error::Format`] naming every file that is missing.
pub fn folder_files(dir: impl AsRef<Path>) -> Result<[PathBuf; 4]> {
    let dir = dir.as_ref();
    std::fs::read_dir(dir).map_err(|source| Error::io("read", dir, source))?;
    let find = |name: &str| -> std::result::Result<PathBuf, String> {
        let candidates = [name.to_owned(), format!("{name}.gz"), name.replace("-idx", ".idx")];
        let found = candidates.iter().map(|n| dir.join(n)).find(|path| path.exists());
        found.ok_or_else(|| format!("`{name}[.gz]`"))
    };
    let names = [
        "train-images-idx3-ubyte",
        "train-labels-idx1-ubyte",
        "t10k-images-idx3-ubyte",
        "t10k-labels-idx1-ubyte",
    ];
    let found = names.map(find);
    let missing: Vec<&str> = found.iter().filter_map(|f| f.as_ref().err()).map(String::as_str).collect();
    if !missing.is_empty() {
        return Err(Error::format(dir, format!("has no {}", missing.join(", "))));
    }
    Ok(found.map(std::result::Result::unwrap_or_default))
}

fn read_labels(path: &Path, n_classes: usize) -> Result<Vec<i64>> {
    let IdxArray { shape, values } = read_idx(path)?;
    let fault = |message: String| Err(Error::format(path, message));
    let labels = match values {
        RawValues::U8(labels) if shape.len() == 1 => labels,
        _ if shape.len() == 3 => {
            return fault(format!("holds {} images, not labels; were the two files swapped?", shape[0]));
        }
        _ => return fault(format!("has shape {shape:?}; expected one byte per label")),
    };
    if let Some(at) = labels.iter().position(|&label| usize::from(label) >= n_classes) {
        return fault(format!("label {at} (from 0) is {}; expected less than {n_classes}", labels[at]));
    }
    Ok(labels.into_iter().map(i64::from).collect())
}

/// Why reading failed; the path is added outside.
enum Fault {
    Io(io::Error),
    Format(String),
}

impl From<String> for Fault {
    fn from(message: String) -> Self {
        Self::Format(message)
    }
}

/// The bytes of an array, unpacked.
struct Source {
    reader: Box<dyn Read>,
    file_len: u64,
    gzip: bool,
}

impl Source {
    fn read(mut self) -> std::result::Result<IdxArray, Fault> {
        let (magic, n) = self.up_to(4)?;
        if n < 4 {
            return Err(self.short("header", 4, n));
        }
        let (code, dims) = match magic[..] {
            [0, 0, code, dims] => (code, dims),
            _ => {
                return Err(format!(
                    "is no IDX file: it begins with {magic:02x?}, expected [00, 00, type, dims]"
                )
                .into());
            }
        };
        let size = element_size(code)?;
        if !(1..=MAX_DIMS).contains(&dims) {
            return Err(format!("declares {dims} dimensions; expected 1 to {MAX_DIMS}").into());
        }
        let header_len = 4 * usize::from(dims);
        let (header, n) = self.up_to(header_len)?;
        if n < header_len {
            return Err(self.short("list of dimensions", header_len, n));
        }
        let shape: Vec<u32> = header.as_chunks::<4>().0.iter().map(|&dim| u32::from_be_bytes(dim)).collect();
        let wanted = self.check_size(&shape, size, 4 + header_len)?;
        let bytes = self.payload(wanted)?;
        let values = if size == 1 { RawValues::U8(bytes) } else { RawValues::F32(floats(&bytes)?) };
        Ok(IdxArray { shape: shape.into_iter().map(|dim| dim as usize).collect(), values })
    }

    /// Bytes of the payload that the header declares, if the file can hold as many.
    fn check_size(&self, shape: &[u32], size: usize, header_len: usize) -> std::result::Result<usize, Fault> {
        if shape.contains(&0) {
            return Err(format!("declares an empty array of shape {shape:?}").into());
        }
        let wanted = shape.iter().try_fold(size as u64, |n, &dim| n.checked_mul(u64::from(dim)));
        let Some(wanted) = wanted.filter(|&n| n <= MAX_BYTES) else {
            return Err(format!("declares shape {shape:?}; at most {} MiB are read", MAX_BYTES >> 20).into());
        };
        let held = self.file_len.saturating_sub(header_len as u64);
        if !self.gzip && held != wanted {
            let comparison =
                if held < wanted { "it is truncated: fetch it again" } else { "its header is wrong" };
            return Err(format!(
                "declares {wanted} bytes of shape {shape:?}, but holds {held}; {comparison}"
            )
            .into());
        }
        if self.gzip && wanted / MAX_DEFLATE_RATIO > self.file_len {
            let held = self.file_len;
            return Err(format!(
                "declares {wanted} bytes of shape {shape:?}, which {held} compressed bytes cannot hold"
            )
            .into());
        }
        Ok(wanted as usize)
    }

    /// The declared bytes, and not one more.
    fn payload(&mut self, wanted: usize) -> std::result::Result<Vec<u8>, Fault> {
        let (mut bytes, n) = self.up_to(wanted)?;
        if n < wanted {
            return Err(self.short("data", wanted, n));
        }
        // Reading on to the end also makes the decoder compare the checksum.
        match self.up_to(1)? {
            (_, 0) => (),
            _ => return Err(format!("goes on after the {wanted} bytes that its header declares").into()),
        }
        bytes.shrink_to_fit();
        Ok(bytes)
    }

    /// Reads `wanted` bytes, or what there is.
    fn up_to(&mut self, wanted: usize) -> std::result::Result<(Vec<u8>, usize), Fault> {
        let mut bytes = Vec::new();
        let reserved = bytes.try_reserve_exact(wanted);
        reserved.map_err(|_| format!("declares {wanted} bytes, more than there is memory for"))?;
        let read = self.reader.by_ref().take(wanted as u64).read_to_end(&mut bytes);
        match read {
            Ok(n) => Ok((bytes, n)),
            Err(e) if self.gzip => Err(format!("the gzip data is damaged: {e}; fetch it again").into()),
            Err(e) => Err(Fault::Io(e)),
        }
    }

    fn short(&self, what: &str, wanted: usize, found: usize) -> Fault {
        match self.file_len {
            0 => "is empty; expected an IDX file".to_owned().into(),
            _ => format!("is truncated: the {what} has {found} of {wanted} bytes; fetch it again").into(),
        }
    }
}

fn element_size(code: u8) -> std::result::Result<usize, Fault> {
    let unread = match code {
        0x08 => return Ok(1),
        0x0D => return Ok(4),
        0x09 => "signed bytes",
        0x0B => "16-bit integers",
        0x0C => "32-bit integers",
        0x0E => "64-bit floats",
        _ => return Err(format!("has the unknown type code {code:#04x}; expected 0x08 or 0x0d").into()),
    };
    Err(format!("holds {unread}; expected unsigned bytes (0x08) or 32-bit floats (0x0d)").into())
}

fn floats(bytes: &[u8]) -> std::result::Result<Vec<f32>, Fault> {
    let values: Vec<f32> = bytes.as_chunks::<4>().0.iter().map(|&b| f32::from_be_bytes(b)).collect();
    match values.iter().position(|v| !v.is_finite()) {
        Some(at) => Err(format!("value {at} (from 0) is {}; expected finite numbers", values[at]).into()),
        None => Ok(values),
    }
}
