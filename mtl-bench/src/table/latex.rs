//! LaTeX with `booktabs`.
use super::{Shown, Table};

pub(super) fn render(table: &Table) -> String {
    let mut out = "% \\usepackage{booktabs}\n\\begin{table}[t]\n  \\centering\n".to_owned();
    if let Some(title) = &table.title {
        out += &format!("  \\caption{{{}}}\n", escape(title));
    }
    let headers: Vec<String> = table.headers().iter().map(|h| escape(h)).collect();
    out += &format!("  \\begin{{tabular}}{{l{}}}\n    \\toprule\n", "r".repeat(headers.len() - 1));
    out += &format!("    {} \\\\\n    \\midrule\n", headers.join(" & "));
    for (label, cells) in table.shown() {
        let row: Vec<String> = std::iter::once(escape(label)).chain(cells.iter().map(cell)).collect();
        out += &format!("    {} \\\\\n", row.join(" & "));
    }
    out += "    \\bottomrule\n  \\end{tabular}\n";
    for note in table.all_notes() {
        out += &format!("\n  \\smallskip{{\\footnotesize {}}}\n", escape(&note));
    }
    out + "\\end{table}\n"
}

fn cell(cell: &Shown) -> String {
    let mut text = escape(&cell.value);
    if cell.best {
        text = format!("\\textbf{{{text}}}");
    }
    if let Some(mark) = cell.mark {
        text += &format!("$^{{{}}}$", escape(mark.sign()).trim_matches('$'));
    }
    if let Some(margin) = &cell.margin {
        text += &format!(" $\\pm$ {margin}");
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
            '&' | '%' | '$' | '#' | '_' | '{' | '}' => out.extend(['\\', c]),
            '\\' => out += "\\textbackslash{}",
            '~' => out += "\\textasciitilde{}",
            '^' => out += "\\textasciicircum{}",
            '<' | '>' | '|' => {
                out += &format!(
                    "${}$",
                    if c == '|' {
                        "\\vert"
                    } else if c == '<' {
                        "<"
                    } else {
                        ">"
                    }
                )
            }
            '↑' => out += "$\\uparrow$",
            '↓' => out += "$\\downarrow$",
            '−' => out += "$-$",
            '±' => out += "$\\pm$",
            '†' => out += "$\\dagger$",
            '‡' => out += "$\\ddagger$",
            'α' => out += "$\\alpha$",
            'Δ' => out += "$\\Delta$",
            '×' => out += "$\\times$",
            '–' => out += "--",
            '\u{a0}' => out += "~",
            '\n' | '\r' => out.push(' '),
            _ => out.push(c),
        }
    }
    out
}
