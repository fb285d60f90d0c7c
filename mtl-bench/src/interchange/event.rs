//! Events of TensorBoard: the protobuf messages `Event`, `Summary` and `HistogramProto`, with fields in tag order.
use super::protobuf::{
    FIXED32, Reader, VARINT, Wire, doubles, floats, put_bytes, put_double, put_key, put_varint,
};

/// One event.
#[derive(Debug, Clone, PartialEq)]
pub struct Event {
    /// Time of writing, seconds since 1970.
    pub wall_time: f64,
    /// Step of the run.
    pub step: i64,
    /// What happened.
    pub content: Content,
}

/// Content of an [`Event`].
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Content {
    /// The first event of a file: `brain.Event:2`.
    FileVersion(String),
    /// Numbers by tag.
    Summary(Vec<Summary>),
    /// Anything else, such as a graph; skipped when read.
    Other,
}

/// A number or histogram under its tag.
#[derive(Debug, Clone, PartialEq)]
pub struct Summary {
    /// Name, such as `loss/train`.
    pub tag: String,
    /// The value.
    pub data: Data,
}

/// Value of a [`Summary`].
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Data {
    /// A scalar; TensorBoard keeps 32 bits. Scalars inside a tensor are read too.
    Scalar(f32),
    /// A histogram.
    Histogram(Histogram),
    /// Anything else, such as an image; skipped when read.
    Other,
}

/// A histogram: bucket i counts the values above limit i − 1 and up to limit i.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Histogram {
    /// Smallest value.
    pub min: f64,
    /// Largest value.
    pub max: f64,
    /// Number of values.
    pub num: f64,
    /// Their sum.
    pub sum: f64,
    /// Sum of their squares.
    pub sum_squares: f64,
    /// Upper end of each bucket.
    pub bucket_limit: Vec<f64>,
    /// Count of each bucket.
    pub bucket: Vec<f64>,
}

impl Event {
    /// The event that opens a file.
    pub fn file_version(wall_time: f64) -> Self {
        Self { wall_time, step: 0, content: Content::FileVersion("brain.Event:2".to_owned()) }
    }

    /// One scalar.
    pub fn scalar(wall_time: f64, step: i64, tag: impl Into<String>, value: f32) -> Self {
        let summary = Summary { tag: tag.into(), data: Data::Scalar(value) };
        Self { wall_time, step, content: Content::Summary(vec![summary]) }
    }

    /// The protobuf message. [`Content::Other`] and [`Data::Other`] have no bytes of their own.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        nonzero(&mut out, 1, self.wall_time);
        if self.step != 0 {
            put_key(&mut out, 2, VARINT);
            put_varint(&mut out, self.step as u64);
        }
        match &self.content {
            Content::FileVersion(version) => put_bytes(&mut out, 3, version.as_bytes()),
            Content::Summary(values) => {
                let mut summary = Vec::new();
                for value in values {
                    put_bytes(&mut summary, 1, &value.encode());
                }
                put_bytes(&mut out, 5, &summary);
            }
            Content::Other => {}
        }
        out
    }

    /// The event of a protobuf message; fields that this crate does not know are skipped.
    pub(super) fn decode(bytes: &[u8]) -> Result<Self, String> {
        let mut event = Self { wall_time: 0.0, step: 0, content: Content::Other };
        let mut reader = Reader::new(bytes);
        while let Some((field, wire)) = reader.field()? {
            match (field, wire) {
                (1, Wire::Fixed64(bits)) => event.wall_time = f64::from_bits(bits),
                (2, Wire::Varint(step)) => event.step = step as i64,
                (3, Wire::Bytes(text)) => event.content = Content::FileVersion(utf8(text, "file_version")?),
                (5, Wire::Bytes(summary)) => event.content = Content::Summary(summaries(summary)?),
                (1 | 2 | 3 | 5, _) => return Err(format!("field {field} of the event has a wrong type")),
                _ => {}
            }
        }
        Ok(event)
    }
}

fn nonzero(out: &mut Vec<u8>, field: u32, value: f64) {
    // Only +0 is the default that protobuf leaves out.
    if value.to_bits() != 0 {
        put_double(out, field, value);
    }
}

fn utf8(bytes: &[u8], what: &str) -> Result<String, String> {
    String::from_utf8(bytes.to_vec()).map_err(|_| format!("`{what}` is not UTF-8"))
}

fn summaries(bytes: &[u8]) -> Result<Vec<Summary>, String> {
    let (mut found, mut reader) = (Vec::new(), Reader::new(bytes));
    while let Some((field, wire)) = reader.field()? {
        match (field, wire) {
            (1, Wire::Bytes(value)) => found.push(Summary::decode(value)?),
            (1, _) => return Err("`summary.value` has a wrong type".to_owned()),
            _ => {}
        }
    }
    Ok(found)
}

impl Summary {
    fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        if !self.tag.is_empty() {
            put_bytes(&mut out, 1, self.tag.as_bytes());
        }
        match &self.data {
            Data::Scalar(value) => {
                put_key(&mut out, 2, FIXED32);
                out.extend(value.to_le_bytes());
            }
            Data::Histogram(histogram) => put_bytes(&mut out, 5, &histogram.encode()),
            Data::Other => {}
        }
        out
    }

    fn decode(bytes: &[u8]) -> Result<Self, String> {
        let mut found = Self { tag: String::new(), data: Data::Other };
        let mut reader = Reader::new(bytes);
        while let Some((field, wire)) = reader.field()? {
            match (field, wire) {
                (1, Wire::Bytes(tag)) => found.tag = utf8(tag, "tag")?,
                (2, Wire::Fixed32(bits)) => found.data = Data::Scalar(f32::from_bits(bits)),
                (5, Wire::Bytes(histogram)) => found.data = Data::Histogram(Histogram::decode(histogram)?),
                (8, Wire::Bytes(tensor)) => {
                    if let Some(value) = tensor_scalar(tensor)? {
                        found.data = Data::Scalar(value);
                    }
                }
                (1 | 2 | 5 | 8, _) => {
                    return Err(format!("field {field} of `{}` has a wrong type", found.tag));
                }
                _ => {}
            }
        }
        Ok(found)
    }
}

/// The value of a `TensorProto` with one element of type float or double: how newer writers store scalars.
fn tensor_scalar(bytes: &[u8]) -> Result<Option<f32>, String> {
    let (mut kind, mut values, mut content) = (0, Vec::new(), None);
    let mut reader = Reader::new(bytes);
    while let Some((field, wire)) = reader.field()? {
        match (field, wire) {
            (1, Wire::Varint(dtype)) => kind = dtype,
            (4, Wire::Bytes(raw)) => content = Some(raw),
            (5, wire) => values.extend(floats(wire)?),
            (6, wire) => values.extend(doubles(wire)?.into_iter().map(|v| v as f32)),
            _ => {}
        }
    }
    match (kind, content) {
        (1, Some(raw)) if raw.len() == 4 => values = floats(Wire::Bytes(raw))?,
        (2, Some(raw)) if raw.len() == 8 => {
            values = doubles(Wire::Bytes(raw))?.into_iter().map(|v| v as f32).collect();
        }
        _ => {}
    }
    Ok(match values[..] {
        [value] if kind == 1 || kind == 2 => Some(value),
        _ => None,
    })
}

impl Histogram {
    fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        let numbers = [self.min, self.max, self.num, self.sum, self.sum_squares];
        for (field, value) in (1..).zip(numbers) {
            nonzero(&mut out, field, value);
        }
        for (field, values) in [(6, &self.bucket_limit), (7, &self.bucket)] {
            if !values.is_empty() {
                let packed: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
                put_bytes(&mut out, field, &packed);
            }
        }
        out
    }

    fn decode(bytes: &[u8]) -> Result<Self, String> {
        let (mut found, mut reader) = (Self::default(), Reader::new(bytes));
        while let Some((field, wire)) = reader.field()? {
            let number = || wire.double().ok_or_else(|| format!("field {field} of a histogram is no double"));
            match field {
                1 => found.min = number()?,
                2 => found.max = number()?,
                3 => found.num = number()?,
                4 => found.sum = number()?,
                5 => found.sum_squares = number()?,
                6 => found.bucket_limit.extend(doubles(wire)?),
                7 => found.bucket.extend(doubles(wire)?),
                _ => {}
            }
        }
        if found.bucket.len() != found.bucket_limit.len() {
            let (counts, limits) = (found.bucket.len(), found.bucket_limit.len());
            return Err(format!("a histogram has {counts} counts for {limits} limits"));
        }
        Ok(found)
    }
}
