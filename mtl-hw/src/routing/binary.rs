//! The binary variant of `mtl-route/1`.
//!
//! All numbers are little-endian. A file is the eight bytes `MTLROUT1`; the length of the header as `u32` and the header
//! as JSON; the number of records as `u64`; the records. A record is image `u64`, task `u32`, index of the layer `u32`,
//! flags `u8`, then either `experts` counts `u64` (flag 1: histogram), or the ids `u16` of all tokens, preceded by each
//! token's number of ids `u16` where a capacity limit dropped some (flag 4), and followed by as many weights `f32` where
//! recorded (flag 2).
use super::packed::RawRecord;
use super::{PackedTrace, TraceHeader, TraceLayer};
use crate::math::product;
use crate::{HwError, Result, text};
use std::io::{Read, Write};

const MAGIC: &[u8; 8] = b"MTLROUT1";
const HISTOGRAM: u8 = 1;
const WEIGHTS: u8 = 2;
const DROPPED: u8 = 4;
/// Longest header that is read.
const MAX_HEADER: u64 = 16 << 20;

impl PackedTrace {
    /// Reads the binary variant of the format: the magic `MTLROUT1`, the header in JSON, and records in little-endian
    /// numbers. The documentation of the module's source file gives the layout.
    ///
    /// # Errors
    ///
    /// [`HwError::Trace`] for anything malformed, cut off or left over; its line is the one that the record has in JSON.
    pub fn read_binary<R: Read>(reader: R) -> Result<Self> {
        let mut input = Input { reader, line: 1 };
        if input.take(8, "the magic")? != MAGIC {
            return Err(input.at("expected a binary trace that starts with `MTLROUT1`".to_owned()));
        }
        let length = u64::from(input.u32("the header's length")?);
        if length > MAX_HEADER {
            return Err(input.at(format!("the header is longer than {MAX_HEADER} bytes")));
        }
        let json = input.take(length, "the header")?;
        let json = String::from_utf8(json).map_err(|e| input.at(format!("the header is not UTF-8: {e}")))?;
        let header: TraceHeader = text::from_json("header", &json).map_err(|e| input.wrap(&e))?;
        let mut trace = Self::new(header).map_err(|e| input.wrap(&e))?;
        let records = input.u64("the number of records")?;
        for _ in 0..records {
            input.line += 1;
            let record = input.record(trace.header())?;
            trace.push_parts(record).map_err(|e| input.wrap(&e))?;
        }
        input.line += 1;
        let mut rest = [0];
        match input.reader.read(&mut rest) {
            Ok(0) => Ok(trace),
            Ok(_) => Err(input.at(format!("expected the end after {records} records, but there is more"))),
            Err(e) => Err(input.at(e.to_string())),
        }
    }

    /// Writes the binary variant that [`PackedTrace::read_binary`] reads. Wrap files in a
    /// [`BufWriter`](std::io::BufWriter).
    ///
    /// # Errors
    ///
    /// [`HwError::Trace`] naming the record at which writing failed, as the line that it has in JSON.
    pub fn write_binary<W: Write>(&self, writer: &mut W) -> Result<()> {
        let at = |line: usize| move |e: std::io::Error| HwError::Trace { line, reason: e.to_string() };
        let header = serde_json::to_string(self.header())
            .map_err(|e| HwError::Write { what: "routing trace", reason: e.to_string() })?;
        let length = u32::try_from(header.len())
            .map_err(|_| HwError::config("header", "shorter than 2³² bytes", header.len()))?;
        let mut bytes = MAGIC.to_vec();
        bytes.extend(length.to_le_bytes());
        bytes.extend(header.as_bytes());
        bytes.extend((self.len() as u64).to_le_bytes());
        writer.write_all(&bytes).map_err(at(1))?;
        for (i, r) in self.records().enumerate() {
            bytes.clear();
            bytes.extend(r.image.to_le_bytes());
            bytes.extend(r.task.to_le_bytes());
            bytes.extend((r.layer as u32).to_le_bytes());
            let flag = |on: bool, bit: u8| if on { bit } else { 0 };
            bytes.push(
                flag(r.histogram.is_some(), HISTOGRAM)
                    | flag(r.weights.is_some(), WEIGHTS)
                    | flag(r.capacity_dropped, DROPPED),
            );
            r.histogram.iter().copied().flatten().for_each(|n| bytes.extend(n.to_le_bytes()));
            if let Some(choices) = r.choices {
                if r.capacity_dropped {
                    choices.rows().for_each(|row| bytes.extend((row.len() as u16).to_le_bytes()));
                }
                choices.ids().for_each(|id| bytes.extend(id.to_le_bytes()));
            }
            r.weights.iter().copied().flatten().for_each(|w| bytes.extend(w.to_le_bytes()));
            writer.write_all(&bytes).map_err(at(i + 2))?;
        }
        writer.flush().map_err(at(self.len() + 1))
    }
}

struct Input<R> {
    reader: R,
    line: usize,
}

impl<R: Read> Input<R> {
    fn at(&self, reason: String) -> HwError {
        HwError::Trace { line: self.line, reason }
    }

    fn wrap(&self, error: &HwError) -> HwError {
        self.at(error.to_string())
    }

    /// `n` bytes. Memory grows with what the file holds, not with what it claims.
    fn take(&mut self, n: u64, what: &str) -> Result<Vec<u8>> {
        let mut bytes = Vec::new();
        match Read::by_ref(&mut self.reader).take(n).read_to_end(&mut bytes) {
            Ok(read) if read as u64 == n => Ok(bytes),
            Ok(read) => Err(self.at(format!("the file is cut off: {read} of {n} bytes of {what}"))),
            Err(e) => Err(self.at(e.to_string())),
        }
    }

    fn array<const N: usize>(&mut self, what: &str) -> Result<[u8; N]> {
        let mut bytes = [0; N];
        self.reader.read_exact(&mut bytes).map_err(|e| match e.kind() {
            std::io::ErrorKind::UnexpectedEof => self.at(format!("the file is cut off in {what}")),
            _ => self.at(e.to_string()),
        })?;
        Ok(bytes)
    }

    fn u32(&mut self, what: &str) -> Result<u32> {
        self.array(what).map(u32::from_le_bytes)
    }

    fn u64(&mut self, what: &str) -> Result<u64> {
        self.array(what).map(u64::from_le_bytes)
    }

    fn record(&mut self, header: &TraceHeader) -> Result<RawRecord> {
        let image = self.u64("a record's image")?;
        let task = self.u32("a record's task")?;
        let layer = self.u32("a record's layer")?;
        let [flags] = self.array("a record's flags")?;
        if flags > (HISTOGRAM | WEIGHTS | DROPPED) || flags & HISTOGRAM > 0 && flags & WEIGHTS > 0 {
            return Err(self.at(format!("unknown combination of flags {flags:#x}")));
        }
        let Some(shape) = header.layers.get(layer as usize) else {
            return Err(
                self.at(format!("layer {layer} is out of range; the header names {}", header.layers.len()))
            );
        };
        let mut record =
            RawRecord { image, task, layer, dropped: flags & DROPPED > 0, ..RawRecord::default() };
        if flags & HISTOGRAM > 0 {
            let bytes = self.take(8 * shape.experts, "a histogram")?; // at most 65536 experts
            record.counts = Some(numbers(&bytes, u64::from_le_bytes));
            return Ok(record);
        }
        let pairs = if record.dropped {
            self.lengths(header, shape, &mut record)?
        } else {
            header.pairs(shape).map_err(|e| self.wrap(&e))?
        };
        let size = |width| product("bytes", &[pairs, width]);
        let bytes = size(2).map_err(|e| self.wrap(&e))?;
        record.ids = numbers(&self.take(bytes, "expert ids")?, u16::from_le_bytes);
        if flags & WEIGHTS > 0 {
            let bytes = size(4).map_err(|e| self.wrap(&e))?;
            record.weights = numbers(&self.take(bytes, "weights")?, f32::from_le_bytes);
        }
        Ok(record)
    }

    /// Reads the tokens' numbers of ids; returns their sum.
    fn lengths(&mut self, header: &TraceHeader, shape: &TraceLayer, record: &mut RawRecord) -> Result<u64> {
        let bytes = product("bytes", &[header.tokens_per_image, 2]).map_err(|e| self.wrap(&e))?;
        let bytes = self.take(bytes, "numbers of ids")?;
        let mut end = 0u32;
        let mut ends = Vec::with_capacity(bytes.len() / 2);
        for n in numbers(&bytes, u16::from_le_bytes) {
            let sum = end.checked_add(n.into()).filter(|_| u64::from(n) <= shape.top_k);
            let Some(sum) = sum else {
                return Err(self.at(format!(
                    "token {} has {n} experts, but top-K is {}",
                    ends.len(),
                    shape.top_k
                )));
            };
            end = sum;
            ends.push(end);
        }
        record.ends = Some(ends);
        Ok(end.into())
    }
}

/// Numbers of `N` bytes each.
fn numbers<T, const N: usize>(bytes: &[u8], from: impl Fn([u8; N]) -> T) -> Vec<T> {
    bytes.as_chunks::<N>().0.iter().map(|&chunk| from(chunk)).collect()
}
