//! CSV with one value per row and columns of any name, such as MLflow's `key,value,timestamp,step`.
use crate::store::Results;
use crate::{Error, Result};
use mtl_core::Record;
use std::path::Path;

/// Where a field of the records comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Field {
    /// The column with this header.
    Column(String),
    /// The same text in every record.
    Fixed(String),
}

impl Field {
    /// The column called `name`.
    pub fn column(name: impl Into<String>) -> Self {
        Self::Column(name.into())
    }

    /// The same `text` in every record.
    pub fn fixed(text: impl ToString) -> Self {
        Self::Fixed(text.to_string())
    }
}

/// Which columns of a CSV file become which fields of records. Fields that are not set are empty, seed and step 0.
///
/// ```
/// use mtl_bench::interchange::{ColumnMap, Field};
///
/// let map = ColumnMap::new("score", Field::fixed("accuracy")).method(Field::column("model")).seed(Field::column("run"));
/// assert_eq!(map, map.clone());
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ColumnMap {
    value: String,
    metric: Field,
    study: Field,
    cell: Field,
    method: Field,
    setting: Field,
    task: Field,
    seed: Field,
    step: Field,
    pub(super) delimiter: u8,
}

impl ColumnMap {
    /// The column of the numbers, and what they are.
    pub fn new(value: impl Into<String>, metric: Field) -> Self {
        let (empty, zero) = (Field::fixed(""), Field::fixed(0));
        Self {
            value: value.into(),
            metric,
            study: empty.clone(),
            cell: empty.clone(),
            method: empty.clone(),
            setting: empty.clone(),
            task: empty,
            seed: zero.clone(),
            step: zero,
            delimiter: b',',
        }
    }

    /// MLflow's metrics, `key,value,timestamp,step`; the timestamp is not used. Set method and seed as fixed.
    pub fn mlflow() -> Self {
        Self::new("value", Field::column("key")).step(Field::column("step"))
    }

    /// Sets the source of [`Record::study`].
    #[must_use]
    pub fn study(mut self, field: Field) -> Self {
        self.study = field;
        self
    }

    /// Sets the source of [`Record::cell`].
    #[must_use]
    pub fn cell(mut self, field: Field) -> Self {
        self.cell = field;
        self
    }

    /// Sets the source of [`Record::method`].
    #[must_use]
    pub fn method(mut self, field: Field) -> Self {
        self.method = field;
        self
    }

    /// Sets the source of [`Record::setting`].
    #[must_use]
    pub fn setting(mut self, field: Field) -> Self {
        self.setting = field;
        self
    }

    /// Sets the source of [`Record::task`].
    #[must_use]
    pub fn task(mut self, field: Field) -> Self {
        self.task = field;
        self
    }

    /// Sets the source of [`Record::seed`], a whole number.
    #[must_use]
    pub fn seed(mut self, field: Field) -> Self {
        self.seed = field;
        self
    }

    /// Sets the source of [`Record::step`], a whole number.
    #[must_use]
    pub fn step(mut self, field: Field) -> Self {
        self.step = field;
        self
    }

    /// Sets the separator of cells, such as `b';'` or `b'\t'`.
    #[must_use]
    pub fn delimiter(mut self, delimiter: u8) -> Self {
        self.delimiter = delimiter;
        self
    }
}

/// Reads a CSV file with one value per row through a map of columns. Columns that the map does not name are ignored.
///
/// # Errors
///
/// [`mtl_core::Error::Unknown`] for a column that the header lacks, [`Error::Row`] with line and column for a header
/// with a name twice, a ragged row, a value that is no finite number, or a seed or step that is no whole number;
/// [`Error::Ambiguous`] for two values of one measurement.
pub fn read_long_csv(path: &Path, map: &ColumnMap) -> Result<Results> {
    let mut sheet = Sheet::open(path, map.delimiter)?;
    let value = sheet.find(&map.value)?;
    let fields =
        [&map.metric, &map.study, &map.cell, &map.method, &map.setting, &map.task, &map.seed, &map.step];
    let mut sources = Vec::with_capacity(fields.len());
    for field in fields {
        sources.push(match field {
            Field::Column(name) => Source::Column(sheet.find(name)?),
            Field::Fixed(text) => Source::Fixed(text),
        });
    }
    let mut records = Vec::new();
    while let Some(row) = sheet.next()? {
        let [metric, study, cell, method, setting, task, seed, step] =
            [0, 1, 2, 3, 4, 5, 6, 7].map(|i| sources.get(i).map_or(("", ""), |s| s.of(&row)));
        records.push(Record {
            study: study.1.to_owned(),
            cell: cell.1.to_owned(),
            method: method.1.to_owned(),
            setting: setting.1.to_owned(),
            seed: row.whole(seed, "seed")?,
            task: task.1.to_owned(),
            step: row.whole(step, "step")?,
            metric: metric.1.to_owned(),
            value: row.number(row.cell(value))?,
        });
    }
    Results::from_records(records)
}

enum Source<'a> {
    Column(usize),
    Fixed(&'a str),
}

impl<'a> Source<'a> {
    /// Name of the column, empty for a fixed text, and the text.
    fn of(&self, row: &'a Row<'_>) -> (&'a str, &'a str) {
        match self {
            Self::Column(i) => row.cell(*i),
            Self::Fixed(text) => ("", text),
        }
    }
}

/// A CSV file with a header of distinct names.
pub(super) struct Sheet<'p> {
    path: &'p Path,
    reader: csv::Reader<std::fs::File>,
    pub(super) header: Vec<String>,
    raw: csv::StringRecord,
}

/// One row of it.
pub(super) struct Row<'s> {
    path: &'s Path,
    line: u64,
    header: &'s [String],
    raw: &'s csv::StringRecord,
}

impl<'p> Sheet<'p> {
    pub(super) fn open(path: &'p Path, delimiter: u8) -> Result<Self> {
        let file = std::fs::File::open(path).map_err(|e| mtl_core::Error::io("read", path, e))?;
        let mut reader = csv::ReaderBuilder::new().delimiter(delimiter).from_reader(file);
        let fault = |message: String| Error::Row { path: path.to_owned(), line: 1, message };
        let header: Vec<String> =
            reader.headers().map_err(|e| fault(explain(&e)))?.iter().map(|h| h.trim().to_owned()).collect();
        if header.iter().all(String::is_empty) {
            return Err(fault("there is no header".to_owned()));
        }
        let mut sorted: Vec<&String> = header.iter().collect();
        sorted.sort();
        if let Some(twins) = sorted.windows(2).find(|w| w[0] == w[1]) {
            return Err(fault(format!("two columns are called `{}`", twins[0])));
        }
        Ok(Self { path, reader, header, raw: csv::StringRecord::new() })
    }

    /// Position of the column called `name`.
    pub(super) fn find(&self, name: &str) -> Result<usize> {
        let known = || self.header.iter().map(String::as_str);
        match known().position(|h| h == name) {
            Some(i) => Ok(i),
            None => Err(mtl_core::Error::unknown("column", name, known()).into()),
        }
    }

    /// The next row; `None` at the end.
    pub(super) fn next(&mut self) -> Result<Option<Row<'_>>> {
        let found = self.reader.read_record(&mut self.raw);
        let line = self.raw.position().map_or(0, csv::Position::line);
        match found {
            Ok(false) => Ok(None),
            Ok(true) => Ok(Some(Row { path: self.path, line, header: &self.header, raw: &self.raw })),
            Err(e) => {
                let line = e.position().map_or(line, csv::Position::line);
                Err(Error::Row { path: self.path.to_owned(), line, message: explain(&e) })
            }
        }
    }
}

impl Row<'_> {
    /// Header and text of a column.
    pub(super) fn cell(&self, i: usize) -> (&str, &str) {
        (self.header.get(i).map_or("", String::as_str), self.raw.get(i).unwrap_or("").trim())
    }

    fn fault(&self, (column, text): (&str, &str), must: &str) -> Error {
        let message = format!("`{column}` must be {must}, but is `{text}`");
        Error::Row { path: self.path.to_owned(), line: self.line, message }
    }

    /// A finite number.
    pub(super) fn number(&self, cell: (&str, &str)) -> Result<f64> {
        cell.1.parse().ok().filter(|v: &f64| v.is_finite()).ok_or_else(|| self.fault(cell, "a finite number"))
    }

    /// A whole number, also written as `10.0` or `1e3`.
    pub(super) fn whole(&self, cell: (&str, &str), field: &str) -> Result<u64> {
        if let Ok(number) = cell.1.parse() {
            return Ok(number);
        }
        let float: Option<f64> = cell.1.parse().ok();
        // Above 2^53 a float may stand for several whole numbers.
        match float.filter(|v| v.fract() == 0.0 && (0.0..9_007_199_254_740_992.0).contains(v)) {
            Some(v) => Ok(v as u64),
            None => {
                let name = if cell.0.is_empty() { field } else { cell.0 };
                Err(self.fault((name, cell.1), "a whole number from 0 up"))
            }
        }
    }
}

/// The csv crate's message without its own line number, which counts records.
fn explain(error: &csv::Error) -> String {
    match error.kind() {
        csv::ErrorKind::UnequalLengths { expected_len, len, .. } => {
            format!("a row must have {expected_len} cells, but this one has {len}")
        }
        csv::ErrorKind::Utf8 { .. } => "the text is not UTF-8".to_owned(),
        _ => error.to_string(),
    }
}
