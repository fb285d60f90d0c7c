//! The header of a safetensors file, parsed and checked in one pass.
use super::{
    Dtype,
    sniff::{self, shortened},
};
use crate::Error;
use serde::de::{self, DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use std::{collections::BTreeMap, fmt, ops::Range};

/// Longest header read, 16 MiB: room for some 200 000 tensors, so their number needs no limit of its own.
pub const MAX_HEADER_BYTES: usize = 16 << 20;
/// Longest name of a tensor in bytes.
const MAX_NAME_BYTES: usize = 512;
/// Most dimensions of a tensor.
const MAX_DIMS: usize = 16;
/// Key of the free-form part.
pub(super) const METADATA: &str = "__metadata__";

/// Type, shape and place of one stored tensor.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct TensorInfo {
    /// Element type.
    pub dtype: Dtype,
    /// Dimensions, outermost first; empty for a scalar.
    pub shape: Vec<usize>,
    /// Bytes of the data section, which begins right after the header.
    pub offsets: Range<usize>,
}

impl TensorInfo {
    /// Number of elements.
    pub fn numel(&self) -> usize {
        self.shape.iter().product()
    }

    /// Number of bytes.
    pub fn nbytes(&self) -> usize {
        self.offsets.len()
    }
}

/// Everything a header says.
#[derive(Debug, Default)]
pub(super) struct Header {
    pub(super) tensors: BTreeMap<String, TensorInfo>,
    pub(super) metadata: BTreeMap<String, String>,
    /// Where the data section begins in the file.
    pub(super) data_start: usize,
}

/// Reads the header of `file` and checks it against the length of the file; the error is a plain message.
pub(super) fn parse(file: &[u8]) -> Result<Header, String> {
    let json = locate(file)?;
    let mut deserializer = serde_json::Deserializer::from_str(json);
    let mut header = deserializer
        .deserialize_map(HeaderVisitor)
        .and_then(|header| deserializer.end().map(|()| header))
        .map_err(|e| format!("the header is damaged: {e}"))?;
    header.data_start = 8 + json.len();
    check_layout(&header.tensors, file.len() - header.data_start)?;
    Ok(header)
}

/// Finds the JSON text of the header.
fn locate(file: &[u8]) -> Result<&str, String> {
    let foreign = || sniff::foreign(&file[..file.len().min(512)]).map(|what| format!("is {what}"));
    let Some((length, rest)) = file.split_first_chunk::<8>() else {
        return Err(foreign().unwrap_or_else(|| match file.len() {
            0 => "is empty; expected a safetensors file".into(),
            n => format!("has only {n} bytes; the shortest safetensors file has 10"),
        }));
    };
    let length = u64::from_le_bytes(*length);
    if rest.first() != Some(&b'{')
        && let Some(message) = foreign()
    {
        return Err(message);
    }
    let length = match usize::try_from(length) {
        Ok(n @ 2..=MAX_HEADER_BYTES) => n,
        _ if file.trim_ascii_start().starts_with(b"{") => {
            return Err("is JSON text (a shard index or a config?), not safetensors".into());
        }
        _ => {
            return Err(format!(
                "is not safetensors: the header would have {length} bytes; expected 2 to {MAX_HEADER_BYTES}"
            ));
        }
    };
    let json = rest.get(..length).ok_or_else(|| {
        format!("is truncated: the header has {length} bytes, but only {} follow; fetch it again", rest.len())
    })?;
    if json[0] != b'{' {
        return Err("is not safetensors: the header does not begin with `{`".into());
    }
    std::str::from_utf8(json).map_err(|e| format!("the header is damaged: {e}"))
}

/// Tensors must tile the data section: no overlap, no hole, nothing beyond the end.
fn check_layout(tensors: &BTreeMap<String, TensorInfo>, data_len: usize) -> Result<(), String> {
    let mut placed: Vec<_> = tensors.iter().map(|(name, t)| (t.offsets.start, t.offsets.end, name)).collect();
    placed.sort_unstable();
    let mut end = 0;
    let mut before: Option<&String> = None;
    for &(start, stop, name) in &placed {
        match before {
            Some(other) if start < end => {
                return Err(format!("tensors {other:?} and {name:?} overlap at byte {start} of the data"));
            }
            _ if start > end => {
                return Err(format!(
                    "bytes {end} to {start} of the data, before tensor {name:?}, belong to no tensor"
                ));
            }
            _ => (),
        }
        if stop > data_len {
            return Err(format!(
                "tensor {name:?} ends at byte {stop} of the data, but the file has only {data_len}; \
                 it is truncated or its header is wrong: fetch it again"
            ));
        }
        (end, before) = (stop, Some(name));
    }
    match data_len - end {
        0 => Ok(()),
        extra => Err(format!("{extra} bytes follow the last tensor and belong to none")),
    }
}

/// Rules for names of tensors, for reading and for writing.
pub(super) fn check_name(name: &str) -> Result<(), String> {
    let why = match name {
        "" => "is empty",
        _ if name.len() > MAX_NAME_BYTES => "is longer than 512 bytes",
        _ if name.chars().any(char::is_control) => "has control characters",
        _ if name.split(['/', '\\']).any(|part| part == "..") => "has a `..` segment",
        _ => return Ok(()),
    };
    Err(format!("the name of tensor {:?} {why}", shortened(name)))
}

/// Number of elements and of bytes; `None` if either does not fit.
pub(super) fn sizes(dtype: Dtype, shape: &[usize]) -> Option<(usize, usize)> {
    let numel = shape.iter().try_fold(1usize, |n, &dim| n.checked_mul(dim))?;
    Some((numel, numel.checked_mul(dtype.size())?))
}

/// Inserts into a map and refuses a key that is there.
pub(super) fn insert_once<T, E: de::Error>(
    map: &mut BTreeMap<String, T>,
    what: &str,
    key: String,
    value: T,
) -> Result<(), E> {
    match map.entry(key) {
        std::collections::btree_map::Entry::Occupied(entry) => {
            Err(E::custom(format!("{what} {:?} is there twice", shortened(entry.key()))))
        }
        std::collections::btree_map::Entry::Vacant(entry) => {
            entry.insert(value);
            Ok(())
        }
    }
}

/// The whole header: name → record, and the metadata.
struct HeaderVisitor;

impl<'de> Visitor<'de> for HeaderVisitor {
    type Value = Header;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a map of tensors")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Header, A::Error> {
        let mut header = Header::default();
        let mut seen_metadata = false;
        while let Some(name) = map.next_key::<String>()? {
            if name == METADATA {
                if std::mem::replace(&mut seen_metadata, true) {
                    return Err(de::Error::custom("`__metadata__` is there twice"));
                }
                header.metadata = map.next_value_seed(StringMap("metadata key"))?;
                continue;
            }
            check_name(&name).map_err(de::Error::custom)?;
            let info = map.next_value_seed(RecordSeed(&name))?;
            insert_once(&mut header.tensors, "tensor", name, info)?;
        }
        Ok(header)
    }
}

/// A map of strings to strings with each key once; the field says what a key is.
pub(super) struct StringMap(pub(super) &'static str);

impl<'de> DeserializeSeed<'de> for StringMap {
    type Value = BTreeMap<String, String>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for StringMap {
    type Value = BTreeMap<String, String>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a map of strings to strings")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut strings = BTreeMap::new();
        while let Some((key, value)) = map.next_entry::<String, String>()? {
            insert_once(&mut strings, self.0, key, value)?;
        }
        Ok(strings)
    }
}

/// The record of the tensor named.
struct RecordSeed<'a>(&'a str);

impl<'de> DeserializeSeed<'de> for RecordSeed<'_> {
    type Value = TensorInfo;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<TensorInfo, D::Error> {
        let name = self.0;
        deserializer.deserialize_map(self).map_err(|e| de::Error::custom(format!("tensor {name:?}: {e}")))
    }
}

impl<'de> Visitor<'de> for RecordSeed<'_> {
    type Value = TensorInfo;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a record with `dtype`, `shape` and `data_offsets`")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<TensorInfo, A::Error> {
        let (mut dtype, mut shape, mut offsets) = (None, None, None);
        while let Some(field) = map.next_key_seed(Text("a field", field))? {
            let twice = match field {
                DTYPE => dtype.replace(map.next_value_seed(Text("a string", dtype_of))?).is_some(),
                SHAPE => shape.replace(map.next_value_seed(Numbers("dimensions", MAX_DIMS))?).is_some(),
                _ => offsets.replace(map.next_value_seed(Numbers(OFFSETS, 2))?).is_some(),
            };
            if twice {
                return Err(de::Error::custom(format!("`{field}` is there twice")));
            }
        }
        let dtype = dtype.ok_or_else(|| de::Error::missing_field(DTYPE))?;
        let shape = shape.ok_or_else(|| de::Error::missing_field(SHAPE))?;
        let offsets: Vec<usize> = offsets.ok_or_else(|| de::Error::missing_field(OFFSETS))?;
        record(dtype, shape, &offsets).map_err(de::Error::custom)
    }
}

const DTYPE: &str = "dtype";
const SHAPE: &str = "shape";
const OFFSETS: &str = "data_offsets";

fn field(name: &str) -> Result<&'static str, String> {
    let known = [DTYPE, SHAPE, OFFSETS].into_iter().find(|&known| known == name);
    known.ok_or_else(|| format!("unknown field {:?}", shortened(name)))
}

fn dtype_of(name: &str) -> Result<Dtype, String> {
    name.parse().map_err(|_| {
        Error::unknown("dtype", &shortened(name), Dtype::ALL.iter().map(|d| d.name())).to_string()
    })
}

/// A string that is looked at and not kept: what it is, and what becomes of it.
struct Text<T>(&'static str, fn(&str) -> Result<T, String>);

impl<'de, T> DeserializeSeed<'de> for Text<T> {
    type Value = T;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<T, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl<T> Visitor<'_> for Text<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<T, E> {
        self.1(text).map_err(E::custom)
    }
}

/// Checks what a record says against itself.
fn record(dtype: Dtype, shape: Vec<usize>, offsets: &[usize]) -> Result<TensorInfo, String> {
    let &[start, end] = offsets else {
        return Err(format!("`data_offsets` must be [begin, end], but has {} numbers", offsets.len()));
    };
    if start > end {
        return Err(format!("`data_offsets` end before they begin: [{start}, {end}]"));
    }
    let Some((_, nbytes)) = sizes(dtype, &shape) else {
        return Err(format!("the size of shape {shape:?} does not fit 64 bits"));
    };
    if nbytes != end - start {
        return Err(format!(
            "{dtype} of shape {shape:?} needs {nbytes} bytes, but `data_offsets` [{start}, {end}] hold {}",
            end - start
        ));
    }
    Ok(TensorInfo { dtype, shape, offsets: start..end })
}

/// A short list of sizes: what they are, and at most how many.
struct Numbers(&'static str, usize);

impl<'de> DeserializeSeed<'de> for Numbers {
    type Value = Vec<usize>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Vec<usize>, D::Error> {
        deserializer.deserialize_seq(self)
    }
}

impl<'de> Visitor<'de> for Numbers {
    type Value = Vec<usize>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a list of at most {} {}", self.1, self.0)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Vec<usize>, A::Error> {
        let mut numbers = Vec::with_capacity(4);
        while let Some(number) = seq.next_element::<u64>()? {
            if numbers.len() == self.1 {
                return Err(de::Error::custom(format!("more than {} {}", self.1, self.0)));
            }
            // libtorch counts in i64, so a larger number can never be used.
            let fits = i64::try_from(number).ok().and_then(|_| usize::try_from(number).ok());
            numbers.push(
                fits.ok_or_else(|| de::Error::custom(format!("{number} exceeds 2^63 - 1 in {}", self.0)))?,
            );
        }
        Ok(numbers)
    }
}
