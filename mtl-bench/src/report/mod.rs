//! One self-contained HTML file: sentences, tables and figures, readable in light, dark and print.
use crate::Result;
use crate::plot::Plot;
use crate::table::Table;
use minijinja::value::{Serde, Value};
use minijinja::{Environment, context};
use serde::Serialize;
use std::path::Path;

const TEMPLATE: &str = include_str!("report.html");

/// A report: title, summary, sections, and the manifest of the run at its end.
///
/// ```
/// use mtl_bench::report::{Report, Section};
///
/// let report = Report::new("Quickstart")
///     .summary("pcgrad beat equal-weights.")
///     .section(Section::new("Joint training").text("Three seeds & two methods."))
///     .manifest("seeds", "0, 1, 2");
/// let html = report.to_html()?;
/// assert!(html.contains("Three seeds &amp; two methods.") && !html.contains("http"));
/// # Ok::<(), mtl_bench::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Report {
    title: String,
    summary: Vec<String>,
    sections: Vec<Section>,
    manifest: Vec<(String, String)>,
}

impl Report {
    /// An empty report.
    pub fn new(title: impl Into<String>) -> Self {
        Self { title: title.into(), summary: Vec::new(), sections: Vec::new(), manifest: Vec::new() }
    }

    /// Adds a sentence to the summary.
    #[must_use]
    pub fn summary(mut self, sentence: impl Into<String>) -> Self {
        self.summary.push(sentence.into());
        self
    }

    /// Adds a section.
    #[must_use]
    pub fn section(mut self, section: Section) -> Self {
        self.sections.push(section);
        self
    }

    /// Adds a fact about the run to the footer: seeds, threads, versions.
    #[must_use]
    pub fn manifest(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.manifest.push((name.into(), value.into()));
        self
    }

    /// The report as one HTML document without external resources.
    ///
    /// # Errors
    ///
    /// [`crate::Error::Template`] when the template fails.
    pub fn to_html(&self) -> Result<String> {
        let mut environment = Environment::new();
        environment.add_template("report.html", TEMPLATE)?;
        Ok(environment
            .get_template("report.html")?
            .render(context! { report => Value::from(Serde(self)) })?)
    }

    /// Writes the report to `path`.
    ///
    /// # Errors
    ///
    /// As [`Report::to_html`], and [`mtl_core::Error::Io`] when the file cannot be written.
    pub fn save(&self, path: &Path) -> Result<()> {
        let html = self.to_html()?;
        Ok(mtl_core::files::write_atomic(path, |w| w.write_all(html.as_bytes()))?)
    }
}

/// A headed part of a report; what is added comes in order.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Section {
    heading: String,
    blocks: Vec<Block>,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
enum Block {
    Text { text: String },
    List { items: Vec<String> },
    Table { html: String },
    Figure { svg: String, caption: String },
}

impl Section {
    /// An empty section.
    pub fn new(heading: impl Into<String>) -> Self {
        Self { heading: heading.into(), blocks: Vec::new() }
    }

    /// Adds a paragraph.
    #[must_use]
    pub fn text(mut self, text: impl Into<String>) -> Self {
        self.blocks.push(Block::Text { text: text.into() });
        self
    }

    /// Adds a list, such as verdicts.
    #[must_use]
    pub fn list<T: ToString>(mut self, items: impl IntoIterator<Item = T>) -> Self {
        self.blocks.push(Block::List { items: items.into_iter().map(|i| i.to_string()).collect() });
        self
    }

    /// Adds a table.
    #[must_use]
    pub fn table(mut self, table: &Table) -> Self {
        self.blocks.push(Block::Table { html: table.to_html() });
        self
    }

    /// Adds a figure with its caption.
    ///
    /// # Errors
    ///
    /// [`crate::Error::Draw`] when it cannot be drawn.
    pub fn plot(mut self, plot: &dyn Plot, caption: impl Into<String>) -> Result<Self> {
        self.blocks.push(Block::Figure { svg: plot.to_svg_string()?, caption: caption.into() });
        Ok(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plot::{HeatMap, Plot};

    #[test]
    fn text_is_escaped_and_nothing_is_loaded_from_outside() {
        let script = "<script>alert(1)</script>";
        let map = HeatMap::new(&[script.into()], &["b".into()], vec![vec![Some(0.25)]]).unwrap();
        let mut table = Table::new(script, [crate::table::Column::new(script)]);
        table.row(script, [script.into()]).unwrap();
        let section =
            Section::new(script).text(script).list([script]).table(&table).plot(&map, script).unwrap();
        let report = Report::new(script).summary(script).section(section).manifest(script, script);
        let html = report.to_html().unwrap();
        assert!(!html.contains("<script"), "markup must not pass");
        let outside = html.replace("http://www.w3.org/2000/svg", "");
        assert!(["http", "url(", "@import", "src="].iter().all(|s| !outside.contains(s)));
        assert_eq!(html, report.to_html().unwrap());
        assert!(html.contains("<svg") && map.to_svg_string().is_ok());
    }
}
