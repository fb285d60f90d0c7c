//! Cells, and columns that know how to print them.
use crate::metrics::Better;
use crate::stats::{Estimate, Interval};

/// A column: its name, direction and number format.
#[derive(Debug, Clone, PartialEq)]
pub struct Column {
    name: String,
    unit: Option<String>,
    better: Option<Better>,
    decimals: usize,
    scale: f64,
    origin: Origin,
}

/// Where the figures of a column come from. They never mix: a reader must see which ones were checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Origin {
    /// Measured or computed here.
    #[default]
    Measured,
    /// Printed in a paper and not reproduced here.
    Reported,
}

impl Column {
    /// A column of plain numbers with three decimals and no direction.
    pub fn new(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            unit: None,
            better: None,
            decimals: 3,
            scale: 1.0,
            origin: Origin::Measured,
        }
    }

    /// Says which values are good: an arrow in the header, the best value marked.
    #[must_use]
    pub fn better(mut self, better: Better) -> Self {
        self.better = Some(better);
        self
    }

    /// Makes this a column of [`Cell::reported`] figures: labelled so, without a best value, and never tested.
    #[must_use]
    pub fn reported(mut self) -> Self {
        self.origin = Origin::Reported;
        self
    }

    /// Sets the number of decimals.
    #[must_use]
    pub fn decimals(mut self, decimals: usize) -> Self {
        self.decimals = decimals.min(15);
        self
    }

    /// Sets the unit, shown in the header.
    #[must_use]
    pub fn unit(mut self, unit: impl Into<String>) -> Self {
        self.unit = Some(unit.into());
        self
    }

    /// Shows shares as percentages with one decimal.
    #[must_use]
    pub fn percent(mut self) -> Self {
        (self.scale, self.decimals, self.unit) = (100.0, 1, Some("%".to_owned()));
        self
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn direction(&self) -> Option<Better> {
        self.better
    }

    pub(super) fn is_reported(&self) -> bool {
        self.origin == Origin::Reported
    }

    pub(super) fn places(&self) -> usize {
        self.decimals
    }

    pub(super) fn unit_text(&self) -> Option<&str> {
        self.unit.as_deref()
    }

    pub(super) fn scale(&self) -> f64 {
        self.scale
    }

    pub(super) fn header(&self) -> String {
        let unit = self.unit.as_ref().map(|u| format!(" [{u}]")).unwrap_or_default();
        let arrow = self.better.map(|b| format!(" {}", b.arrow())).unwrap_or_default();
        let origin = if self.is_reported() { " (reported)" } else { "" };
        format!("{}{origin}{unit}{arrow}", self.name)
    }

    fn format(&self, value: f64) -> String {
        let text = format!("{:.*}", self.decimals, value * self.scale);
        match text.strip_prefix('-') {
            Some(zero) if zero.chars().all(|c| c == '0' || c == '.') => zero.to_owned(), // No negative zero.
            Some(digits) => format!("−{digits}"),
            None => text,
        }
    }
}

/// What a table shows at one place.
#[derive(Debug, Clone, PartialEq)]
pub enum Cell {
    /// Nothing is known.
    Empty,
    /// Words.
    Text(String),
    /// A number without uncertainty.
    Number(f64),
    /// A mean over runs with its interval.
    Estimate(Estimate),
    /// A number that a paper prints.
    Reported {
        /// The number.
        value: f64,
        /// Where it is printed: authors, year, table.
        source: String,
    },
}

impl Cell {
    /// A number printed in `source`, for a column that is [`Column::reported`].
    pub fn reported(value: f64, source: impl Into<String>) -> Self {
        Self::Reported { value, source: source.into() }
    }

    /// Where the number comes from; `None` for words and empty cells, which fit everywhere.
    pub fn origin(&self) -> Option<Origin> {
        match self {
            Self::Empty | Self::Text(_) => None,
            Self::Number(_) | Self::Estimate(_) => Some(Origin::Measured),
            Self::Reported { .. } => Some(Origin::Reported),
        }
    }

    pub(super) fn fits(&self, column: &Column) -> bool {
        self.origin().is_none_or(|origin| origin == column.origin)
    }

    pub(super) fn value(&self) -> Option<f64> {
        match self {
            Self::Number(value) | Self::Reported { value, .. } => Some(*value),
            Self::Estimate(estimate) => Some(estimate.mean),
            Self::Empty | Self::Text(_) => None,
        }
    }

    pub(super) fn n(&self) -> Option<usize> {
        match self {
            Self::Estimate(estimate) => Some(estimate.n),
            _ => None,
        }
    }

    pub(super) fn interval(&self) -> Option<Interval> {
        match self {
            // One run says nothing about the spread, whatever the estimate claims.
            Self::Estimate(estimate) => estimate.interval.filter(|_| estimate.n > 1),
            _ => None,
        }
    }

    pub(super) fn margin(&self, column: &Column) -> Option<String> {
        self.interval().map(|i| column.format(i.half_width()))
    }

    pub(super) fn show(&self, column: &Column) -> String {
        match self {
            Self::Text(text) => text.clone(),
            _ => self.value().map_or_else(|| "–".to_owned(), |v| column.format(v)),
        }
    }
}

impl From<Estimate> for Cell {
    fn from(estimate: Estimate) -> Self {
        Self::Estimate(estimate)
    }
}

impl From<f64> for Cell {
    fn from(value: f64) -> Self {
        Self::Number(value)
    }
}

impl From<&str> for Cell {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl From<String> for Cell {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}
