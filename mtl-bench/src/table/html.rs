//! An HTML table for the report.
use super::{Shown, Table};

pub(super) fn render(table: &Table) -> String {
    let mut out = "<table>\n".to_owned();
    if let Some(title) = &table.title {
        out += &format!("<caption>{}</caption>\n", escape(title));
    }
    out += "<thead><tr>";
    for header in table.headers() {
        out += &format!("<th scope=\"col\">{}</th>", escape(&header));
    }
    out += "</tr></thead>\n<tbody>\n";
    for (label, cells) in table.shown() {
        out += &format!("<tr><th scope=\"row\">{}</th>", escape(label));
        for shown in &cells {
            out += &format!("<td>{}</td>", cell(shown));
        }
        out += "</tr>\n";
    }
    out += "</tbody>\n";
    let notes = table.all_notes();
    if !notes.is_empty() {
        let text = escape(&notes.join(" "));
        out += &format!("<tfoot><tr><td colspan=\"{}\">{text}</td></tr></tfoot>\n", table.columns.len() + 1);
    }
    out + "</table>\n"
}

fn cell(cell: &Shown) -> String {
    let mut text = escape(&cell.value);
    if cell.best {
        text = format!("<strong>{text}</strong>");
    }
    if let Some(mark) = cell.mark {
        text += &format!("<sup>{}</sup>", mark.sign());
    }
    if let Some(margin) = &cell.margin {
        text += &format!(" <small>± {margin}</small>");
    }
    if let Some(n) = cell.n {
        text += &format!(" <small>({n})</small>");
    }
    text
}

pub(crate) fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}
