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
}

impl Column {
    /// A column of plain numbers with three decimals and no direction.
    pub fn new(name: impl Into<String>) -> Self {
        Self { name: name.into(), unit: None, better: None, decimals: 3, scale: 1.0 }
    }

    /// Says which values are good: an arrow in the header, the best value marked.
    #[must_use]
    pub fn better(mut self, better: Better) -> Self {
        self.better = Some(better);
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

    pub(super) fn scale(&self) -> f64 {
        self.scale
    }

    pub(super) fn header(&self) -> String {
        let unit = self.unit.as_ref().map(|u| format!(" [{u}]")).unwrap_or_default();
        let arrow = self.better.map(|b| format!(" {}", b.arrow())).unwrap_or_default();
        format!("{}{unit}{arrow}", self.name)
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
}

impl Cell {
    pub(super) fn value(&self) -> Option<f64> {
        match self {
            Self::Number(value) => Some(*value),
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
            Self::Estimate(estimate) => estimate.interval,
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
