//! Aligned tables for terminals, and comma-separated values.
use std::fmt;

/// A value: rounded in tables, exact in comma-separated values.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Cell {
    Text(String),
    Int(u64),
    Number(f64),
    None,
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

impl From<u64> for Cell {
    fn from(n: u64) -> Self {
        Self::Int(n)
    }
}

impl From<f64> for Cell {
    fn from(x: f64) -> Self {
        Self::Number(x)
    }
}

impl<T: Into<Self>> From<Option<T>> for Cell {
    fn from(value: Option<T>) -> Self {
        value.map_or(Self::None, Into::into)
    }
}

impl Cell {
    fn shown(&self) -> String {
        match self {
            Self::Text(text) => text.clone(),
            Self::Int(n) => n.to_string(),
            Self::Number(x) => number(*x),
            Self::None => "-".to_owned(),
        }
    }

    fn exact(&self) -> String {
        match self {
            Self::Text(text) if text.contains([',', '"', '\n', '\r']) => {
                format!("\"{}\"", text.replace('"', "\"\""))
            }
            Self::Text(text) => text.clone(),
            Self::Int(n) => n.to_string(),
            Self::Number(x) => x.to_string(),
            Self::None => String::new(),
        }
    }

    fn numeric(&self) -> bool {
        matches!(self, Self::Int(_) | Self::Number(_))
    }
}

/// Rows under a head; columns of numbers are aligned to the right.
#[derive(Debug, Clone)]
pub(crate) struct Table {
    head: Vec<String>,
    rows: Vec<Vec<Cell>>,
}

impl Table {
    pub(crate) fn new<S: Into<String>>(head: impl IntoIterator<Item = S>) -> Self {
        Self { head: head.into_iter().map(Into::into).collect(), rows: Vec::new() }
    }

    pub(crate) fn row(&mut self, cells: impl IntoIterator<Item = Cell>) {
        self.rows.push(cells.into_iter().collect());
    }

    pub(crate) fn len(&self) -> usize {
        self.rows.len()
    }

    /// The first `n` rows; all if 0.
    pub(crate) fn first(mut self, n: usize) -> Self {
        if n > 0 {
            self.rows.truncate(n);
        }
        self
    }

    /// The table as comma-separated values.
    pub(crate) fn csv(&self) -> String {
        let head = self.head.iter().map(|h| Cell::from(h.as_str()).exact()).collect::<Vec<_>>().join(",");
        let line = |row: &Vec<Cell>| row.iter().map(Cell::exact).collect::<Vec<_>>().join(",") + "\n";
        std::iter::once(head + "\n").chain(self.rows.iter().map(line)).collect()
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown: Vec<Vec<String>> = std::iter::once(self.head.clone())
            .chain(self.rows.iter().map(|row| row.iter().map(Cell::shown).collect()))
            .collect();
        let width = |c: usize| shown.iter().filter_map(|row| Some(row.get(c)?.chars().count())).max();
        let widths: Vec<usize> = (0..self.head.len()).map(|c| width(c).unwrap_or(0)).collect();
        let numeric = |c: usize| {
            let mut cells = self.rows.iter().filter_map(|row| row.get(c)).filter(|&cell| *cell != Cell::None);
            cells.clone().next().is_some() && cells.all(Cell::numeric)
        };
        let right: Vec<bool> = (0..self.head.len()).map(numeric).collect();
        for row in &shown {
            let cells = row.iter().zip(&widths).zip(&right).map(|((cell, &width), &right)| {
                if right { format!("{cell:>width$}") } else { format!("{cell:<width$}") }
            });
            writeln!(f, "{}", cells.collect::<Vec<_>>().join("  ").trim_end())?;
        }
        Ok(())
    }
}

/// A number in four significant digits.
pub(crate) fn number(x: f64) -> String {
    let size = x.abs();
    if x == 0.0 {
        "0".to_owned()
    } else if (1e-3..1e5).contains(&size) {
        let digits = (3 - size.log10().floor() as i32).max(0) as usize;
        format!("{x:.digits$}")
    } else {
        format!("{x:.3e}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_go_right_and_text_goes_left() {
        let mut table = Table::new(["name", "norm"]);
        table.row(["a".into(), 1.5.into()]);
        table.row(["layer, deep".into(), Cell::None]);
        insta::assert_snapshot!(table, @r"
        name          norm
        a            1.500
        layer, deep      -
        ");
        assert_eq!(table.csv(), "name,norm\na,1.5\n\"layer, deep\",\n");
    }

    #[test]
    fn four_digits_whatever_the_size() {
        let shown: Vec<String> = [0.0, 1.0, -0.012345, 12345.6, 1e-9, 3e7].map(number).to_vec();
        assert_eq!(shown, ["0", "1.000", "-0.01235", "12346", "1.000e-9", "3.000e7"]);
    }
}
