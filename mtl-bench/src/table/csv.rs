//! CSV for other programs, at full precision.
use super::{Cell, Table};

pub(super) fn render(table: &Table) -> String {
    let spread: Vec<bool> = (0..table.columns.len())
        .map(|c| table.rows.iter().any(|(_, cells)| cells[c].n().is_some()))
        .collect();
    let mut header = vec![harmless(&table.corner)];
    for (column, &spread) in table.columns.iter().zip(&spread) {
        header.push(harmless(&column.header()));
        if spread {
            header.extend(["low", "high", "n"].map(|part| harmless(&format!("{} {part}", column.name()))));
        }
    }
    let mut lines = vec![header];
    for (label, cells) in &table.rows {
        let mut line = vec![harmless(label)];
        for ((cell, column), &spread) in cells.iter().zip(&table.columns).zip(&spread) {
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
