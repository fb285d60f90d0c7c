//! `records.csv`: a header and one row per record.
use crate::{Error, Result};
use mtl_core::Record;
use std::io::{self, Write};
use std::path::Path;

const HEADER: [&str; 9] = ["study", "cell", "method", "setting", "seed", "task", "step", "metric", "value"];

pub(super) fn write(records: &[Record], out: &mut dyn Write) -> io::Result<()> {
    let mut writer = csv::WriterBuilder::new().has_headers(false).from_writer(out);
    writer.write_record(HEADER)?;
    for record in records {
        writer.serialize(record)?;
    }
    writer.flush()
}

pub(super) fn read(path: &Path) -> Result<Vec<Record>> {
    let file = std::fs::File::open(path).map_err(|e| mtl_core::Error::io("read", path, e))?;
    let row = |line: u64, message: String| Error::Row { path: path.to_owned(), line, message };
    let mut reader = csv::Reader::from_reader(file);
    let header = reader.headers().map_err(|e| row(1, explain(&e)))?.clone();
    if header.iter().ne(HEADER) {
        let found: Vec<&str> = header.iter().take(12).collect();
        return Err(row(
            1,
            format!("the header must be `{}`, but is `{}`", HEADER.join(","), found.join(",")),
        ));
    }
    let mut records = Vec::new();
    let mut raw = csv::StringRecord::new();
    loop {
        let next = reader.read_record(&mut raw);
        let line = raw.position().map_or(0, csv::Position::line);
        match next {
            Err(e) => return Err(row(e.position().map_or(line, csv::Position::line), explain(&e))),
            Ok(false) => return Ok(records),
            Ok(true) => {}
        }
        let record: Record = raw.deserialize(Some(&header)).map_err(|e| row(line, explain(&e)))?;
        record.check().map_err(|e| row(line, e.to_string()))?;
        records.push(record);
    }
}

/// The csv crate's message without its own line number, which counts records.
fn explain(error: &csv::Error) -> String {
    match error.kind() {
        csv::ErrorKind::UnequalLengths { expected_len, len, .. } => {
            format!("a row must have {expected_len} cells, but this one has {len}")
        }
        csv::ErrorKind::Utf8 { .. } => "the text is not UTF-8".to_owned(),
        csv::ErrorKind::Deserialize { err, .. } => match err.field().and_then(|i| HEADER.get(i as usize)) {
            Some(name) => format!("`{name}`: {}", err.kind()),
            None => err.kind().to_string(),
        },
        _ => error.to_string(),
    }
}
