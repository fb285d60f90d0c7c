//! CSV for other programs, at full precision.
use super::{Cell, Table};

pub(super) fn render(table: &Table) -> String {
    let spread: Vec<bool> = (0..table.columns.len())
        .map(|c| table.rows.iter().any(|(_, cells)| cells[c].n().is_some()))
        .collect();
    let marked: Vec<bool> =
        (0..table.columns.len()).map(|c| table.marks.keys().any(|&(_, column)| column == c)).collect();
    let mut header = vec![harmless(&table.corner)];
    for ((column, &spread), &marked) in table.columns.iter().zip(&spread).zip(&marked) {
        header.push(harmless(&column.header()));
        if spread {
            header.extend(["low", "high", "n"].map(|part| harmless(&format!("{} {part}", column.name()))));
        }
        if marked {
            header.push(harmless(&format!("{} significance", column.name())));
        }
    }
    let mut lines = vec![header];
    for (r, (label, cells)) in table.rows.iter().enumerate() {
        let mut line = vec![harmless(label)];
        for (c, ((cell, column), &spread)) in cells.iter().zip(&table.columns).zip(&spread).enumerate() {
            let number =
                |value: Option<f64>| value.map_or(String::new(), |v| (v * column.scale()).to_string());
            line.push(match cell {
                Cell::Text(text) => harmless(text),
                _ => number(cell.value()),
            });
            if spread {
                line.push(number(cell.interval().map(|i| i.low)));
                line.push(number(cell.interval().map(|i| i.high)));
                line.push(cell.n().map_or(String::new(), |n| n.to_string()));
            }
            if marked[c] {
                line.push(table.marks.get(&(r, c)).map_or(String::new(), |m| m.word().to_owned()));
            }
        }
        lines.push(line);
    }
    let quoted = |line: Vec<String>| line.iter().map(|cell| quote(cell)).collect::<Vec<_>>().join(",") + "\n";
    lines.into_iter().map(quoted).collect()
}

/// A spreadsheet would run text that starts like this as a formula; the quote mark makes it text.
fn harmless(text: &str) -> String {
    if text.starts_with(['=', '+', '-', '@', '\t', '\r']) { format!("'{text}") } else { text.to_owned() }
}

fn quote(text: &str) -> String {
    if text.contains([',', '"', '\n', '\r']) {
        format!("\"{}\"", text.replace('"', "\"\""))
    } else {
        text.to_owned()
    }
}
