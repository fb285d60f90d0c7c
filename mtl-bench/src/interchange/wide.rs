//! CSV with a column of steps and one column per metric, such as histories and charts exported from W&B.
use super::columns::Sheet;
use crate::store::Results;
use crate::{Error, Result};
use mtl_core::Record;
use std::path::Path;

/// How a wide CSV file becomes records.
///
/// ```
/// use mtl_bench::{Record, interchange::WideMap};
///
/// let map = WideMap::new("_step").run(Record::new("", 0.0).method("pcgrad").seed(3)).metric("val/acc", "accuracy", "parity");
/// assert_ne!(map, WideMap::new("_step"));
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct WideMap {
    step: String,
    run: Record,
    metrics: Vec<(String, String, String)>,
    run_separator: Option<String>,
    skip_non_finite: bool,
    delimiter: u8,
}

impl WideMap {
    /// The column of steps; every other column is a metric until [`WideMap::metric`] names some.
    pub fn new(step: impl Into<String>) -> Self {
        Self {
            step: step.into(),
            run: Record::new("", 0.0),
            metrics: Vec::new(),
            run_separator: None,
            skip_non_finite: false,
            delimiter: b',',
        }
    }

    /// A chart exported from W&B: columns `Step` and `RUN - METRIC`. The run becomes the method; the columns
    /// `…__MIN` and `…__MAX` beside each are left out.
    pub fn wandb_chart() -> Self {
        Self { run_separator: Some(" - ".to_owned()), ..Self::new("Step") }
    }

    /// Sets study, cell, method, setting and seed of all records.
    #[must_use]
    pub fn run(mut self, run: Record) -> Self {
        self.run = run;
        self
    }

    /// Takes the column as this metric of this task (empty: of all tasks); columns that are not named are left out.
    #[must_use]
    pub fn metric(
        mut self,
        column: impl Into<String>,
        metric: impl Into<String>,
        task: impl Into<String>,
    ) -> Self {
        self.metrics.push((column.into(), metric.into(), task.into()));
        self
    }

    /// Leaves out NaN and infinite values, instead of refusing the file.
    #[must_use]
    pub fn skip_non_finite(mut self) -> Self {
        self.skip_non_finite = true;
        self
    }

    /// Sets the separator of cells.
    #[must_use]
    pub fn delimiter(mut self, delimiter: u8) -> Self {
        self.delimiter = delimiter;
        self
    }

    /// Position and blank record of every column of numbers.
    fn targets(&self, sheet: &Sheet<'_>, step: usize) -> Result<Vec<(usize, Record)>> {
        let mut found = Vec::new();
        if !self.metrics.is_empty() {
            for (column, metric, task) in &self.metrics {
                let record = Record { metric: metric.clone(), task: task.clone(), ..self.run.clone() };
                found.push((sheet.find(column)?, record));
            }
            return Ok(found);
        }
        for (i, name) in sheet.header.iter().enumerate().filter(|(i, _)| *i != step) {
            let mut record = Record { metric: name.clone(), ..self.run.clone() };
            if let Some(separator) = &self.run_separator {
                if name.ends_with("__MIN") || name.ends_with("__MAX") {
                    continue;
                }
                let Some((run, metric)) = name.rsplit_once(separator.as_str()) else { continue };
                (record.method, record.metric) = (run.to_owned(), metric.to_owned());
            }
            found.push((i, record));
        }
        if found.is_empty() {
            return Err(Error::Missing { what: format!("a metric beside the column `{}`", self.step) });
        }
        Ok(found)
    }
}

/// Reads a wide CSV file. An empty cell or `null` means that the metric was not logged at this step.
///
/// # Errors
///
/// [`mtl_core::Error::Unknown`] for a column that the header lacks, [`Error::Row`] with line and column for a header
/// with a name twice, a ragged row, or a cell that is no number; [`Error::Missing`] without metric columns;
/// [`Error::Ambiguous`] for a step that is there twice.
pub fn read_wide_csv(path: &Path, map: &WideMap) -> Result<Results> {
    let mut sheet = Sheet::open(path, map.delimiter)?;
    let step_column = sheet.find(&map.step)?;
    let targets = map.targets(&sheet, step_column)?;
    let mut records = Vec::new();
    while let Some(row) = sheet.next()? {
        let step = row.whole(row.cell(step_column), "step")?;
        for (i, blank) in &targets {
            let cell = row.cell(*i);
            let absent = cell.1.is_empty() || cell.1 == "null";
            let odd = || cell.1.parse().is_ok_and(|v: f64| !v.is_finite());
            if absent || (map.skip_non_finite && odd()) {
                continue;
            }
            records.push(Record { step, value: row.number(cell)?, ..blank.clone() });
        }
    }
    Results::from_records(records)
}
