//! Tables of numbers in CSV files.
use super::{RawValues, Samples};
use crate::{Error, Result, files, params::sniff};
use csv::{ReaderBuilder, StringRecord};
use std::{
    collections::BTreeSet,
    fs::File,
    io::{self, Read, Seek},
    path::Path,
};

/// Longest line read; a table of a million columns has lines of a few MiB.
const MAX_LINE_BYTES: usize = 16 << 20;
/// Labels are class numbers, and networks get an output for each.
const MAX_LABEL: i64 = 999_999;

/// Reads a CSV file with a header, numbers in every cell, and class numbers in the column `label`.
///
/// Separators are commas; cells may be quoted; a byte-order mark and blank lines are ignored. Nothing is guessed: a cell
/// that is empty, not a number, or not finite is an error with its line and column.
///
/// ```
/// use mtl_core::data::{RawValues, csv};
///
/// let dir = tempfile::tempdir()?;
/// let path = dir.path().join("flowers.csv");
/// std::fs::write(&path, "width,species,height\n0.5,1,2\n1.5,0,3\n")?;
/// let flowers = csv::load_csv(&path, "species")?;
/// assert_eq!(flowers.features, RawValues::F32(vec![0.5, 2.0, 1.5, 3.0]));
/// assert_eq!(flowers.labels, [1, 0]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
///
/// [`Error::Io`] when the file cannot be read; [`Error::Unknown`] when no column is named `label`; [`Error::Format`]
/// with the line when the table is not as described.
pub fn load_csv(path: impl AsRef<Path>, label: &str) -> Result<Samples> {
    let path = path.as_ref();
    let mut file = files::open_regular(path)?;
    let mut head = Vec::new();
    file.by_ref().take(512).read_to_end(&mut head).map_err(|source| Error::io("read", path, source))?;
    if let Some(what) = sniff::foreign(&head) {
        return Err(Error::format(path, format!("is {what}; expected a CSV table")));
    }
    let checked = CheckedLines { inner: io::Cursor::new(head).chain(file), line: 1, line_len: 0 };
    let mut reader = ReaderBuilder::new().has_headers(false).flexible(true).from_reader(checked);
    let table = Table { path, label };
    let mut record = StringRecord::new();
    if !table.next(&mut reader, &mut record)? {
        return Err(Error::format(path, "is empty; expected a header and rows of numbers"));
    }
    let header = Header::new(&table, &record)?;
    let (mut features, mut labels) = (Vec::new(), Vec::new());
    while table.next(&mut reader, &mut record)? {
        header.read_row(&table, &record, &mut features, &mut labels)?;
    }
    if labels.is_empty() {
        return Err(Error::format(path, "has a header, but no rows"));
    }
    let Header { mut names, label_at } = header;
    names.remove(label_at);
    let mut samples = Samples::new(RawValues::F32(features), vec![names.len()], labels)?;
    samples.feature_names = names;
    Ok(samples)
}

/// The file being read, for messages.
struct Table<'a> {
    path: &'a Path,
    label: &'a str,
}

impl Table<'_> {
    fn fault(&self, line: u64, message: impl std::fmt::Display) -> Error {
        Error::format(self.path, format!("line {line}: {message}"))
    }

    fn record_fault(&self, record: &StringRecord, message: impl std::fmt::Display) -> Error {
        let start = record.position().cloned().unwrap_or_else(csv::Position::new);
        // The position is where the reader began to look; blank lines may come before the record.
        let skipped = File::open(self.path).and_then(|mut file| {
            file.seek(io::SeekFrom::Start(start.byte()))?;
            let breaks = io::BufReader::new(file).bytes().map_while(io::Result::ok);
            Ok(breaks.take_while(|b| b"\r\n".contains(b)).filter(|&b| b == b'\n').count())
        });
        self.fault(start.line() + skipped.unwrap_or(0) as u64, message)
    }

    /// Reads the next record; `false` at the end.
    fn next(&self, reader: &mut csv::Reader<impl Read>, record: &mut StringRecord) -> Result<bool> {
        let line = reader.position().line();
        let more = reader.read_record(record).map_err(|e| {
            let line = e.position().map_or(line, csv::Position::line);
            match e.into_kind() {
                csv::ErrorKind::Io(e) if e.kind() == io::ErrorKind::InvalidData => {
                    Error::format(self.path, e.to_string())
                }
                csv::ErrorKind::Io(source) => Error::io("read", self.path, source),
                csv::ErrorKind::Utf8 { err, .. } => self.fault(line, format!("is not UTF-8: {err}")),
                other => self.fault(line, format!("{other:?}")),
            }
        })?;
        if let Some(cell) = record.iter().find(|cell| cell.contains(['\n', '\r'])) {
            let cell = sniff::shortened(cell);
            return Err(self.fault(
                line,
                format!("the quoted cell {cell:?} runs over several lines; is a quote missing?"),
            ));
        }
        Ok(more)
    }
}

/// Names of the columns and the place of the label.
struct Header {
    names: Vec<String>,
    label_at: usize,
}

impl Header {
    fn new(table: &Table<'_>, record: &StringRecord) -> Result<Self> {
        let fault = |message: String| Err(table.record_fault(record, message));
        let names: Vec<String> = record.iter().map(|name| name.trim().to_owned()).collect();
        if let [only] = names.as_slice() {
            return match [(';', "semicolon"), ('\t', "tab"), ('|', "bar")]
                .iter()
                .find(|(c, _)| only.contains(*c))
            {
                Some((_, separator)) => fault(format!("looks {separator}-separated; expected commas")),
                None => fault("has one column; expected features and a label, separated by commas".into()),
            };
        }
        if names.iter().all(|name| name.parse::<f64>().is_ok()) {
            return fault("has only numbers; expected a header with the names of the columns".into());
        }
        let mut seen = BTreeSet::new();
        for (at, name) in names.iter().enumerate() {
            if name.is_empty() {
                return fault(format!("column {} has no name", at + 1));
            }
            if !seen.insert(name) {
                return fault(format!("column `{}` is there twice", sniff::shortened(name)));
            }
        }
        let label_at = names.iter().position(|name| name == table.label);
        let label_at = label_at
            .ok_or_else(|| Error::unknown("column", table.label, names.iter().map(String::as_str)))?;
        Ok(Self { names, label_at })
    }

    /// Appends the numbers of a row.
    fn read_row(
        &self,
        table: &Table<'_>,
        record: &StringRecord,
        features: &mut Vec<f32>,
        labels: &mut Vec<i64>,
    ) -> Result<()> {
        if record.len() != self.names.len() {
            let (found, expected) = (record.len(), self.names.len());
            return Err(table
                .record_fault(record, format!("has {found} cells; expected {expected}, as the header has")));
        }
        for ((at, cell), name) in record.iter().map(str::trim).enumerate().zip(&self.names) {
            let read = if at == self.label_at {
                class(cell).map(|label| labels.push(label))
            } else {
                number(cell).map(|value| features.push(value))
            };
            read.map_err(|why| {
                table.record_fault(record, format!("column `{}` {why}", sniff::shortened(name)))
            })?;
        }
        Ok(())
    }
}

fn number(cell: &str) -> Result<f32, String> {
    if cell.is_empty() {
        return Err("is empty; expected a number".into());
    }
    match cell.parse::<f32>() {
        Ok(value) if value.is_finite() => Ok(value),
        Ok(_) => Err(format!("is `{}`; expected a finite number", sniff::shortened(cell))),
        Err(_) if cell.contains(',') => Err(format!(
            "is `{}`; expected a number with a decimal point and no other marks",
            sniff::shortened(cell)
        )),
        Err(_) => Err(format!("is `{}`; expected a number", sniff::shortened(cell))),
    }
}

fn class(cell: &str) -> Result<i64, String> {
    match cell.parse::<i64>() {
        Ok(label @ 0..=MAX_LABEL) => Ok(label),
        _ => Err(format!("is `{}`; expected a class number from 0 to {MAX_LABEL}", sniff::shortened(cell))),
    }
}

/// Passes bytes on and refuses what no table of numbers has: NUL bytes and endless lines.
struct CheckedLines<R> {
    inner: R,
    line: u64,
    line_len: usize,
}

impl<R: Read> Read for CheckedLines<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = self.inner.read(buffer)?;
        for &byte in &buffer[..n] {
            self.line_len += 1;
            let why = match byte {
                b'\n' | b'\r' => {
                    self.line += u64::from(byte == b'\n');
                    self.line_len = 0;
                    continue;
                }
                0 => "has a NUL byte; is it UTF-16 or a binary file?",
                _ if self.line_len > MAX_LINE_BYTES => "is longer than 16 MiB",
                _ => continue,
            };
            return Err(io::Error::new(io::ErrorKind::InvalidData, format!("line {}: {why}", self.line)));
        }
        Ok(n)
    }
}
