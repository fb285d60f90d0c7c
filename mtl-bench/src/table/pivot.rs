//! From results to a table: rows by one key, columns by another, means over seeds in the cells.
use super::{Cell, Column, Table};
use crate::metrics::Better;
use crate::store::{Key, Results, by_seed};
use crate::{Estimate, Record, Result};
use std::collections::HashMap;

/// How to lay out [`Results`] as a [`Table`].
///
/// ```
/// use mtl_bench::{Pivot, Record, Results, store::Key};
///
/// let run = |task: &str, seed, value| Record::new("accuracy", value).method("pcgrad").task(task).seed(seed);
/// let results = Results::from_records([run("parity", 0, 0.9), run("parity", 1, 0.8), run("digit", 0, 0.7), run("digit", 1, 0.7)])?;
/// let table = Pivot::new(Key::Method, Key::Task).percent().with_mean().table(&results)?;
/// assert!(table.to_markdown().starts_with(r"| method | digit \[%\] ↑ | parity \[%\] ↑ | mean \[%\] ↑ |"));
/// # Ok::<(), mtl_bench::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct Pivot {
    rows: Key,
    columns: Key,
    row_order: Vec<String>,
    column_order: Vec<String>,
    formats: Vec<(String, Column)>,
    percent: bool,
    decimals: Option<usize>,
    mean: bool,
    level: f64,
}

impl Pivot {
    /// Rows by one key, columns by another, in natural order, with intervals at 0.95.
    pub fn new(rows: Key, columns: Key) -> Self {
        Self {
            rows,
            columns,
            row_order: Vec::new(),
            column_order: Vec::new(),
            formats: Vec::new(),
            percent: false,
            decimals: None,
            mean: false,
            level: 0.95,
        }
    }

    /// Fixes rows and their order.
    #[must_use]
    pub fn rows(mut self, names: &[&str]) -> Self {
        self.row_order = names.iter().map(|&n| n.to_owned()).collect();
        self
    }

    /// Fixes columns and their order.
    #[must_use]
    pub fn columns(mut self, names: &[&str]) -> Self {
        self.column_order = names.iter().map(|&n| n.to_owned()).collect();
        self
    }

    /// Sets the format of the column called `name`.
    #[must_use]
    pub fn format(mut self, name: impl Into<String>, column: Column) -> Self {
        self.formats.push((name.into(), column));
        self
    }

    /// Shows shares as percentages.
    #[must_use]
    pub fn percent(mut self) -> Self {
        self.percent = true;
        self
    }

    /// Sets the number of decimals.
    #[must_use]
    pub fn decimals(mut self, decimals: usize) -> Self {
        self.decimals = Some(decimals);
        self
    }

    /// Adds the mean over tasks as a last column; for columns by task.
    #[must_use]
    pub fn with_mean(mut self) -> Self {
        self.mean = true;
        self
    }

    /// Sets the confidence level.
    #[must_use]
    pub fn level(mut self, level: f64) -> Self {
        self.level = level;
        self
    }

    /// Builds the table; each cell must have one value per seed.
    ///
    /// # Errors
    ///
    /// [`crate::Error::Ambiguous`] when a cell has several values of a seed: filter by setting, metric or step first;
    /// [`mtl_core::Error::Unknown`] for a row or column without records.
    pub fn table(&self, results: &Results) -> Result<Table> {
        let rows = names(results, self.rows, &self.row_order)?;
        let columns = names(results, self.columns, &self.column_order)?;
        let means = if self.mean { results.mean_over_tasks()? } else { Results::default() };
        let metrics = results.names(Key::Metric);
        let single = metrics.first().filter(|_| metrics.len() == 1).and_then(|m| Better::of_metric(m));
        let mut formats: Vec<Column> = columns.iter().map(|name| self.column(name, single)).collect();
        if self.mean {
            formats.push(self.column("mean", single));
        }
        let mut table = Table::new(self.rows.name(), formats);
        let mut runs: HashMap<(&str, &str), Vec<&Record>> = HashMap::new();
        // Neighbours mostly belong to one cell.
        let together = |a: &Record, b: &Record| [self.rows, self.columns].iter().all(|k| k.of(a) == k.of(b));
        for neighbours in results.records().chunk_by(together) {
            if let Some(first) = neighbours.first() {
                runs.entry((self.rows.of(first), self.columns.of(first))).or_default().extend(neighbours);
            }
        }
        for name in rows {
            let mut cells = Vec::with_capacity(columns.len() + 1);
            for column in &columns {
                let cell = runs.get(&(name.as_str(), column.as_str()));
                cells.push(self.cell(cell.map_or(&[], Vec::as_slice))?);
            }
            if self.mean {
                let mean: Vec<&Record> = means.records().iter().filter(|r| self.rows.of(r) == name).collect();
                cells.push(self.cell(&mean)?);
            }
            table.row(name, cells)?;
        }
        Ok(table)
    }

    fn cell(&self, runs: &[&Record]) -> Result<Cell> {
        if runs.is_empty() {
            return Ok(Cell::Empty);
        }
        let values: Vec<f64> = by_seed(runs.iter().copied())?.into_values().collect();
        Ok(Estimate::of(&values, self.level)?.into())
    }

    fn column(&self, name: &str, single: Option<Better>) -> Column {
        if let Some((_, column)) = self.formats.iter().find(|(n, _)| n == name) {
            return column.clone();
        }
        let mut column = Column::new(if name.is_empty() { "all tasks" } else { name });
        let better = if self.columns == Key::Metric { Better::of_metric(name) } else { single };
        if let Some(better) = better {
            column = column.better(better);
        }
        if self.percent {
            column = column.percent();
        }
        if let Some(decimals) = self.decimals {
            column = column.decimals(decimals);
        }
        column
    }
}

fn names(results: &Results, key: Key, order: &[String]) -> Result<Vec<String>> {
    let known = results.names(key);
    if order.is_empty() {
        return Ok(known);
    }
    match order.iter().find(|name| !known.contains(name)) {
        Some(name) => {
            Err(mtl_core::Error::unknown(key.name(), name, known.iter().map(String::as_str)).into())
        }
        None => Ok(order.to_vec()),
    }
}
