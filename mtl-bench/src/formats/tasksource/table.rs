//! Tables of JSON values.
use crate::formats::document::{Document, read_text};
use crate::{Error, Result};
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use std::path::Path;

/// A row: column name to value.
pub type Row = Map<String, Value>;

/// Splits by name.
pub type Dataset = BTreeMap<String, Table>;

/// Rows of values, which may nest.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Table {
    /// The rows. A column may be missing in some of them.
    pub rows: Vec<Row>,
}

impl Table {
    /// Reads `.csv`, `.tsv`, `.json` (a list of objects) or `.jsonl`, by the file's ending. Delimited files have a header;
    /// their columns become integers or numbers where all cells are such, and an empty cell is null.
    ///
    /// # Errors
    ///
    /// [`mtl_core::Error::Io`] when it cannot be read; [`Error::Format`] for another ending, a row of another length than
    /// the header, two columns of one name, or a row that is not an object.
    pub fn read(path: &Path) -> Result<Self> {
        match path.extension().and_then(|e| e.to_str()) {
            Some("csv") => Self::read_delimited(path, b',', None),
            Some("tsv") => Self::read_delimited(path, b'\t', None),
            Some("json") => {
                let document = Document::read(path)?;
                let rows = document.root().items()?;
                Ok(Self { rows: rows.iter().map(row).collect::<Result<_>>()? })
            }
            Some("jsonl") => {
                let text = read_text(path)?;
                let lines = text.lines().enumerate().filter(|(_, l)| !l.trim().is_empty());
                let read = |(i, line): (usize, &str)| {
                    row(&Document::parse(path, format!("line {}", i + 1), line)?.root())
                };
                Ok(Self { rows: lines.map(read).collect::<Result<_>>()? })
            }
            _ => Err(Error::Format {
                path: path.to_owned(),
                record: None,
                message: "must end in .csv, .tsv, .json or .jsonl".into(),
            }),
        }
    }

    /// Reads a delimited file; with `columns`, it has no header. Quotes are read in comma-separated files only.
    ///
    /// # Errors
    ///
    /// As [`Table::read`].
    pub fn read_delimited(path: &Path, delimiter: u8, columns: Option<&[&str]>) -> Result<Self> {
        let text = read_text(path)?;
        let format = |record: Option<String>, message: String| Error::Format {
            path: path.to_owned(),
            record,
            message,
        };
        let mut reader = csv::ReaderBuilder::new()
            .delimiter(delimiter)
            .quoting(delimiter == b',')
            .has_headers(columns.is_none())
            .flexible(true)
            .from_reader(text.as_bytes());
        let names: Vec<String> = match columns {
            Some(columns) => columns.iter().map(|c| (*c).to_owned()).collect(),
            None => {
                let headers = reader.headers().map_err(|e| format(Some("line 1".into()), e.to_string()))?;
                headers.iter().map(str::to_owned).collect()
            }
        };
        if let Some((_, twice)) =
            names.iter().enumerate().find(|(i, n)| names.iter().skip(i + 1).any(|m| m == *n))
        {
            return Err(format(None, format!("has two columns `{twice}`")));
        }
        let mut cells: Vec<Vec<String>> = vec![Vec::new(); names.len()];
        for record in reader.records() {
            let record = record.map_err(|e| format(None, e.to_string()))?;
            if record.len() != names.len() {
                let line = record.position().map(|p| format!("line {}", p.line()));
                return Err(format(
                    line,
                    format!("has {} cells, but there are {} columns", record.len(), names.len()),
                ));
            }
            for (column, cell) in cells.iter_mut().zip(&record) {
                column.push(cell.to_owned());
            }
        }
        let mut rows = vec![Row::new(); cells.first().map_or(0, Vec::len)];
        for (name, column) in names.iter().zip(cells) {
            for (row, value) in rows.iter_mut().zip(typed(column)) {
                row.insert(name.clone(), value);
            }
        }
        Ok(Self { rows })
    }

    /// Kinds of values in each column (`null`, `boolean`, `integer`, `number`, `text`, `list`, `object`), from the first
    /// `rows` rows.
    pub fn schema(&self, rows: usize) -> BTreeMap<String, Vec<&'static str>> {
        let mut schema: BTreeMap<String, Vec<&'static str>> = BTreeMap::new();
        for (name, value) in self.rows.iter().take(rows).flatten() {
            let kinds = schema.entry(name.clone()).or_default();
            if !kinds.contains(&kind(value)) {
                kinds.push(kind(value));
            }
        }
        schema
    }
}

fn row(node: &crate::formats::document::Node<'_>) -> Result<Row> {
    Ok(node.fields()?.into_iter().map(|(k, v)| (k.to_owned(), v.json().to_value())).collect())
}

fn typed(column: Vec<String>) -> Vec<Value> {
    let full = || column.iter().filter(|c| !c.is_empty());
    let some = full().next().is_some();
    let value: fn(&str) -> Value = if some && full().all(|c| c.parse::<i64>().is_ok()) {
        |c| c.parse::<i64>().map_or(Value::Null, Value::from)
    } else if some && full().all(|c| c.parse::<f64>().is_ok_and(f64::is_finite)) {
        |c| c.parse::<f64>().map_or(Value::Null, Value::from)
    } else {
        |c| if c.is_empty() { Value::Null } else { c.into() }
    };
    column.iter().map(|c| value(c)).collect()
}

pub(super) fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(n) if n.is_f64() => "number",
        Value::Number(_) => "integer",
        Value::String(_) => "text",
        Value::Array(_) => "list",
        Value::Object(_) => "object",
    }
}
