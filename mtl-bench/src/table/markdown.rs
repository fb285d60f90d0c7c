//! GitHub Markdown.
use super::{Shown, Table};

pub(super) fn render(table: &Table) -> String {
    let mut out = String::new();
    if let Some(title) = &table.title {
        out += &format!("**{}**\n\n", escape(title));
    }
    let headers: Vec<String> = table.headers().iter().map(|h| escape(h)).collect();
    out += &line(&headers);
    out += &format!("|---|{}\n", "---:|".repeat(headers.len() - 1));
    for (label, cells) in table.shown() {
        let row: Vec<String> = std::iter::once(escape(label)).chain(cells.iter().map(cell)).collect();
        out += &line(&row);
    }
    for note in table.all_notes() {
        out += &format!("\n{}\n", escape(&note));
    }
    out
}

fn line(cells: &[String]) -> String {
    format!("| {} |\n", cells.join(" | "))
}

fn cell(cell: &Shown) -> String {
    let mut text = escape(&cell.value);
    if cell.best {
        text = format!("**{text}**");
    }
    if let Some(mark) = cell.mark {
        text += mark.sign();
    }
    if let Some(margin) = &cell.margin {
        text += &format!(" ± {margin}");
    }
    if let Some(n) = cell.n {
        text += &format!(" ({n})");
    }
    text
}

fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '|' | '*' | '_' | '`' | '[' | ']' | '\\' | '$' => out.extend(['\\', c]),
            '<' => out += "&lt;",
            '&' => out += "&amp;",
            '\n' | '\r' => out.push(' '),
            _ => out.push(c),
        }
    }
    out
}
