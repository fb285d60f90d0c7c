//! Result tables: built once, rendered as Markdown, LaTeX, CSV, plain text and HTML.
mod cell;
mod csv;
mod html;
mod latex;
mod markdown;
mod pivot;
mod significance;
mod text;

pub use cell::{Cell, Column, Origin};
pub use pivot::Pivot;
pub use significance::Mark;

use crate::{Error, Result};
use std::collections::BTreeMap;

/// A table with one label per row, and the best value of each directed column marked.
///
/// ```
/// use mtl_bench::{Estimate, Table, metrics::Better, table::{Cell, Column}};
///
/// let mut table = Table::new("method", [Column::new("accuracy").better(Better::Higher).percent()]);
/// table.row("equal-weights", [Cell::from(Estimate::of(&[0.90, 0.91, 0.92], 0.95)?)])?;
/// table.row("pcgrad", [Cell::from(Estimate::of(&[0.93, 0.94, 0.92], 0.95)?)])?;
/// assert!(table.to_markdown().contains("| pcgrad | **93.0** ± 2.5 |"));
/// # Ok::<(), mtl_bench::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct Table {
    title: Option<String>,
    corner: String,
    columns: Vec<Column>,
    rows: Vec<(String, Vec<Cell>)>,
    notes: Vec<String>,
    /// Marks by row and column.
    marks: BTreeMap<(usize, usize), Mark>,
    /// What the marks of a column rest on.
    statements: Vec<(String, String)>,
}

/// A cell as every format shows it, before escaping.
struct Shown {
    value: String,
    margin: Option<String>,
    n: Option<usize>,
    best: bool,
    mark: Option<Mark>,
}

impl Table {
    /// An empty table; `corner` heads the column of row labels.
    pub fn new(corner: impl Into<String>, columns: impl IntoIterator<Item = Column>) -> Self {
        let columns = columns.into_iter().collect();
        Self {
            title: None,
            corner: corner.into(),
            columns,
            rows: Vec::new(),
            notes: Vec::new(),
            marks: BTreeMap::new(),
            statements: Vec::new(),
        }
    }

    /// Sets the caption.
    #[must_use]
    pub fn title(mut self, title: impl Into<String>) -> Self {
        self.title = Some(title.into());
        self
    }

    /// Adds a sentence below the table.
    #[must_use]
    pub fn note(mut self, note: impl Into<String>) -> Self {
        self.notes.push(note.into());
        self
    }

    /// Adds a row.
    ///
    /// # Errors
    ///
    /// [`Error::Argument`] when there is not one cell per column, a number or an end of an interval is not finite, or a
    /// reported figure would stand among measured ones or the other way round.
    pub fn row(&mut self, label: impl Into<String>, cells: impl IntoIterator<Item = Cell>) -> Result<()> {
        let cells: Vec<Cell> = cells.into_iter().collect();
        if cells.len() != self.columns.len() {
            return Err(Error::argument("cells", format!("{} in number", self.columns.len()), cells.len()));
        }
        if let Some(bad) = cells.iter().filter_map(Cell::value).find(|v| !v.is_finite()) {
            return Err(Error::argument("cells", "finite; use `Cell::Empty` for what is not known", bad));
        }
        let ends = cells.iter().filter_map(Cell::interval).flat_map(|i| [i.low, i.high]);
        if let Some(bad) = ends.into_iter().find(|v| !v.is_finite()) {
            return Err(Error::argument("cells", "of finite intervals", bad));
        }
        if let Some((_, column)) = cells.iter().zip(&self.columns).find(|(cell, column)| !cell.fits(column)) {
            let (must, found) = if column.is_reported() {
                ("`Cell::reported` in a column of reported figures", "measured")
            } else {
                ("measured in a column of measured figures; put others in a `Column::reported`", "reported")
            };
            return Err(Error::argument("cells", must, format!("{found} in `{}`", column.name())));
        }
        self.rows.push((label.into(), cells));
        Ok(())
    }

    /// Number of rows.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether there are no rows.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Header cells, the corner first.
    fn headers(&self) -> Vec<String> {
        std::iter::once(self.corner.clone()).chain(self.columns.iter().map(Column::header)).collect()
    }

    /// Row labels and cells, as text.
    fn shown(&self) -> Vec<(&str, Vec<Shown>)> {
        let best: Vec<Option<String>> = (0..self.columns.len()).map(|c| self.best(c)).collect();
        let common = self.common_n();
        let show = |r: usize, c: usize, cell: &Cell| {
            let column = &self.columns[c];
            let value = cell.show(column);
            Shown {
                margin: cell.margin(column),
                n: cell.n().filter(|_| common.is_none()),
                best: cell.value().is_some() && best[c].as_ref() == Some(&value),
                mark: self.marks.get(&(r, c)).copied(),
                value,
            }
        };
        let row =
            |r: usize, cells: &[Cell]| cells.iter().enumerate().map(|(c, cell)| show(r, c, cell)).collect();
        self.rows.iter().enumerate().map(|(r, (label, cells))| (label.as_str(), row(r, cells))).collect()
    }

    /// The best value of a directed column as printed: values that print the same are equally good.
    fn best(&self, c: usize) -> Option<String> {
        let better = self.columns[c].direction().filter(|_| !self.columns[c].is_reported())?;
        let values: Vec<f64> = self.rows.iter().filter_map(|(_, cells)| cells[c].value()).collect();
        if values.len() < 2 {
            return None;
        }
        let best = values.into_iter().reduce(|a, b| if better.is_better(b, a) { b } else { a })?;
        Some(Cell::Number(best).show(&self.columns[c]))
    }

    /// The number of runs, when all estimates have the same.
    fn common_n(&self) -> Option<usize> {
        let mut counts = self.rows.iter().flat_map(|(_, cells)| cells).filter_map(Cell::n);
        let first = counts.next()?;
        counts.all(|n| n == first).then_some(first)
    }

    /// The notes, and what `±`, n and bold mean in this table.
    fn all_notes(&self) -> Vec<String> {
        let mut notes = self.notes.clone();
        let cells = || self.rows.iter().flat_map(|(_, cells)| cells);
        if let Some(interval) = cells().find_map(Cell::interval) {
            let runs =
                self.common_n().map_or("the number of runs in brackets".to_owned(), |n| format!("{n} runs"));
            notes.push(format!(
                "Mean ± half-width of the {}\u{a0}% {}; {runs}.",
                interval.level * 100.0,
                interval.method.name()
            ));
        }
        if cells().any(|c| c.n() == Some(1)) {
            notes.push("One run gives no interval.".to_owned());
        }
        if (0..self.columns.len()).any(|c| self.best(c).is_some()) {
            notes.push(
                "Best mean of a column marked; this alone does not make a difference significant.".to_owned(),
            );
        }
        notes.extend(self.explained());
        let mut sources: Vec<&str> = Vec::new();
        for cell in cells() {
            match cell {
                Cell::Reported { source, .. } if !sources.contains(&source.as_str()) => sources.push(source),
                _ => {}
            }
        }
        if !sources.is_empty() {
            notes.push(format!(
                "Reported figures are as printed in {}; they were not reproduced here and enter no test.",
                sources.join("; ")
            ));
        }
        notes
    }

    /// What marks rest on; columns with the same statement share it.
    fn explained(&self) -> Vec<String> {
        let mut groups: Vec<(Vec<&str>, &str)> = Vec::new();
        for (column, text) in &self.statements {
            match groups.iter_mut().find(|(_, known)| known == text) {
                Some((columns, _)) => columns.push(column),
                None => groups.push((vec![column], text)),
            }
        }
        groups.into_iter().map(|(columns, text)| format!("{}: {text}", columns.join(", "))).collect()
    }

    /// GitHub Markdown; the best values are bold.
    pub fn to_markdown(&self) -> String {
        markdown::render(self)
    }

    /// LaTeX with `booktabs`; the best values are bold.
    pub fn to_latex(&self) -> String {
        latex::render(self)
    }

    /// CSV at full precision, with the ends of intervals and n in columns of their own; no cell can act as a formula.
    pub fn to_csv(&self) -> String {
        csv::render(self)
    }

    /// Aligned plain text for a terminal; the best values carry a `*`.
    pub fn to_text(&self) -> String {
        text::render(self)
    }

    /// An HTML `<table>`; the best values are bold.
    pub fn to_html(&self) -> String {
        html::render(self)
    }
}

#[cfg(test)]
mod tests;
