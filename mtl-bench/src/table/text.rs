//! Aligned plain text.
use super::{Shown, Table};

pub(super) fn render(table: &Table) -> String {
    let mut lines = vec![table.headers()];
    for (label, cells) in table.shown() {
        lines.push(std::iter::once(printable(label)).chain(cells.iter().map(cell)).collect());
    }
    let width = |c: usize| lines.iter().map(|line| line[c].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..lines[0].len()).map(width).collect();
    let mut out = String::new();
    if let Some(title) = &table.title {
        out += &format!("{title}\n");
    }
    for (i, line) in lines.iter().enumerate() {
        let mut text = format!("{:<1$}", line[0], widths[0]);
        for (cell, width) in line.iter().zip(&widths).skip(1) {
            text += &format!("  {cell:>width$}");
        }
        out += &format!("{}\n", text.trim_end());
        if i == 0 {
            let total = widths.iter().sum::<usize>() + 2 * (widths.len() - 1);
            out += &format!("{}\n", "─".repeat(total));
        }
    }
    for note in table.all_notes() {
        out += &format!("{note}\n");
    }
    out
}

fn cell(cell: &Shown) -> String {
    let margin = cell.margin.as_ref().map(|m| format!(" ± {m}")).unwrap_or_default();
    let n = cell.n.map(|n| format!(" ({n})")).unwrap_or_default();
    let mark = if cell.best { "*" } else { " " };
    let sign = cell.mark.map_or("", super::Mark::sign);
    printable(&format!("{}{sign}{margin}{n}{mark}", cell.value))
}

/// Control characters could move the cursor or recolour the terminal.
fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}
