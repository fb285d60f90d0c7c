//! Aligned tables for terminals, and comma-separated values.
use std::fmt;

/// Rows of text; columns whose cells are numbers are aligned to the right.
#[derive(Debug, Clone)]
pub(crate) struct Table {
    head: Vec<String>,
    rows: Vec<Vec<String>>,
    bare: bool,
}

impl Table {
    pub(crate) fn new(head: &[&str]) -> Self {
        Self { head: head.iter().map(|h| (*h).to_owned()).collect(), rows: Vec::new(), bare: false }
    }

    /// The table without its head.
    pub(crate) fn bare(mut self) -> Self {
        self.bare = true;
        self
    }

    pub(crate) fn row(&mut self, cells: &[impl AsRef<str>]) {
        self.rows.push(cells.iter().map(|cell| cell.as_ref().to_owned()).collect());
    }

    /// The table as comma-separated values.
    pub(crate) fn csv(&self) -> String {
        let head = (!self.bare).then_some(&self.head);
        head.into_iter().chain(&self.rows).map(|row| csv_line(row)).collect()
    }
}

/// One line of comma-separated values, quoted where need be.
pub(crate) fn csv_line(cells: &[String]) -> String {
    let quote = |cell: &String| match cell.contains([',', '"', '\n', '\r']) {
        true => format!("\"{}\"", cell.replace('"', "\"\"")),
        false => cell.clone(),
    };
    cells.iter().map(quote).collect::<Vec<_>>().join(",") + "\n"
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lines = || (!self.bare).then_some(&self.head).into_iter().chain(&self.rows);
        let width = |c: usize| lines().filter_map(|row| Some(row.get(c)?.chars().count())).max().unwrap_or(0);
        let widths: Vec<usize> = (0..self.head.len()).map(width).collect();
        let numeric = |c: usize| {
            let mut cells =
                self.rows.iter().filter_map(|row| row.get(c)).filter(|cell| *cell != "-" && !cell.is_empty());
            cells.clone().next().is_some() && cells.all(|cell| cell.parse::<f64>().is_ok())
        };
        let right: Vec<bool> = (0..self.head.len()).map(numeric).collect();
        for row in lines() {
            let cells = row.iter().enumerate().map(|(c, cell)| match right.get(c) {
                Some(true) => format!("{cell:>width$}", width = widths[c]),
                _ => format!("{cell:<width$}", width = widths.get(c).copied().unwrap_or(0)),
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
        let mut table = Table::new(&["name", "norm"]);
        table.row(&["a", "1.5"]);
        table.row(&["layer", "-"]);
        insta::assert_snapshot!(table, @r"
        name   norm
        a       1.5
        layer     -
        ");
        assert_eq!(Table::csv(&table), "name,norm\na,1.5\nlayer,-\n");
    }

    #[test]
    fn commas_and_quotes_are_quoted() {
        assert_eq!(csv_line(&["a,b".to_owned(), "\"".to_owned(), "c".to_owned()]), "\"a,b\",\"\"\"\",c\n");
    }

    #[test]
    fn four_digits_whatever_the_size() {
        let shown: Vec<String> = [0.0, 1.0, -0.012345, 12345.6, 1e-9, 3e7].map(number).to_vec();
        assert_eq!(shown, ["0", "1.000", "-0.01235", "12346", "1.000e-9", "3.000e7"]);
    }
}
