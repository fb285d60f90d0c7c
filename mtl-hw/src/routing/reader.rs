//! Reading traces as JSON lines, one record at a time.
use super::record::FORMAT;
use super::{TraceHeader, TraceRecord};
use crate::{HwError, Result, text};
use serde::de::DeserializeOwned;
use std::collections::BTreeSet;
use std::io::{BufRead, Read};

/// Longest line that is read: a wrong file must not fill the memory.
const MAX_LINE: u64 = 16 << 20;

/// Iterator over the checked records of a trace in JSON lines; only one record is in memory. Blank lines are skipped.
///
/// It ends after the first error, which names the line.
///
/// ```
/// use mtl_hw::routing::TraceReader;
/// let text = r#"{"format":"mtl-route/1","model":"toy","layers":[{"id":"blk.1","experts":4,"top_k":1,"d_model":8,"d_hidden":8}],"tasks":["digit"],"tokens_per_image":2,"token_order":"class,row-major"}
/// {"image":0,"task":0,"layer":"blk.1","experts":[[3],[0]]}"#;
/// let mut reader = TraceReader::new(text.as_bytes())?;
/// assert_eq!(reader.header().model, "toy");
/// assert_eq!(reader.next().unwrap()?.experts.unwrap(), [[3], [0]]);
/// assert!(reader.next().is_none());
/// # Ok::<(), mtl_hw::HwError>(())
/// ```
#[derive(Debug)]
pub struct TraceReader<R> {
    reader: R,
    header: TraceHeader,
    line: usize,
    text: Vec<u8>,
    seen: BTreeSet<(u64, u32, usize)>,
    ended: bool,
}

impl<R: BufRead> TraceReader<R> {
    /// Reads and checks the header.
    ///
    /// # Errors
    ///
    /// [`HwError::Trace`] naming the line, also for an input without a header.
    pub fn new(reader: R) -> Result<Self> {
        let mut this = Self {
            reader,
            header: TraceHeader::new("", Vec::new(), 0, Vec::new()),
            line: 0,
            text: Vec::new(),
            seen: BTreeSet::new(),
            ended: false,
        };
        if !this.next_line()? {
            let reason = format!("expected a header of `{FORMAT}`, but found nothing");
            return Err(HwError::Trace { line: 1, reason });
        }
        let header: TraceHeader = this.parse("header")?;
        header.validate().map_err(|e| this.at(e.to_string()))?;
        this.header = header;
        Ok(this)
    }

    /// The header.
    #[must_use]
    pub fn header(&self) -> &TraceHeader {
        &self.header
    }

    /// The line of the last record, from 1.
    #[must_use]
    pub fn line(&self) -> usize {
        self.line
    }

    fn at(&self, reason: String) -> HwError {
        HwError::Trace { line: self.line, reason }
    }

    /// Reads the next line that is not blank; false at the end.
    fn next_line(&mut self) -> Result<bool> {
        loop {
            self.text.clear();
            self.line += 1;
            let read = Read::by_ref(&mut self.reader).take(MAX_LINE + 1).read_until(b'\n', &mut self.text);
            match read {
                Err(e) => return Err(self.at(e.to_string())),
                Ok(0) => return Ok(false),
                Ok(_) if self.text.len() as u64 > MAX_LINE => {
                    return Err(self.at(format!("longer than {MAX_LINE} bytes")));
                }
                Ok(_) if self.text.trim_ascii().is_empty() => {}
                Ok(_) => return Ok(true),
            }
        }
    }

    fn parse<T: DeserializeOwned>(&self, what: &'static str) -> Result<T> {
        let line = std::str::from_utf8(&self.text).map_err(|e| self.at(format!("not UTF-8: {e}")))?;
        text::from_json(what, line.trim_end()).map_err(|e| {
            let cut = !line.ends_with('\n') && !line.trim_end().ends_with('}');
            let hint = if cut {
                "; the line is cut off"
            } else if ["NaN", "Infinity"].iter().any(|word| line.contains(word)) {
                "; weights must be finite numbers"
            } else {
                ""
            };
            self.at(format!("{e}{hint}"))
        })
    }

    fn record(&mut self) -> Result<Option<TraceRecord>> {
        if !self.next_line()? {
            return Ok(None);
        }
        let record: TraceRecord = self.parse("record")?;
        let fault =
            |reason: String| self.at(HwError::Routing { layer: record.layer.clone(), reason }.to_string());
        let layer = self.header.check(&record).map_err(fault)?;
        if !self.seen.insert((record.image, record.task, layer)) {
            let reason = format!("image {}, task {} is recorded twice", record.image, record.task);
            return Err(self.at(HwError::Routing { layer: record.layer, reason }.to_string()));
        }
        Ok(Some(record))
    }
}

impl<R: BufRead> Iterator for TraceReader<R> {
    type Item = Result<TraceRecord>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.ended {
            return None;
        }
        let record = self.record().transpose();
        self.ended = !matches!(record, Some(Ok(_)));
        record
    }
}
