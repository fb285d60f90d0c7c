//! `records.jsonl`: one JSON object per line.
use crate::{Error, Result};
use mtl_core::Record;
use std::io::{self, BufRead, BufReader, Write};
use std::path::Path;

pub(super) fn write(records: &[Record], out: &mut dyn Write) -> io::Result<()> {
    for record in records {
        serde_json::to_writer(&mut *out, record)?;
        out.write_all(b"\n")?;
    }
    Ok(())
}

pub(super) fn read(path: &Path) -> Result<Vec<Record>> {
    let file = std::fs::File::open(path).map_err(|e| mtl_core::Error::io("read", path, e))?;
    let mut records = Vec::new();
    for (i, line) in BufReader::new(file).lines().enumerate() {
        let row = |message: String| Error::Row { path: path.to_owned(), line: i as u64 + 1, message };
        let text = line.map_err(|e| row(e.to_string()))?;
        let record: Record = serde_json::from_str(&text).map_err(|e| row(e.to_string()))?;
        record.check().map_err(|e| row(e.to_string()))?;
        records.push(record);
    }
    Ok(records)
}
