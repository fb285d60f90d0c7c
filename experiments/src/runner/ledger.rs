//! The ledger: each claim, what was measured and the verdict, as text, Markdown, CSV, JSON or a part of a page.
use super::claim::{Claim, ClaimOutcome};
use mtl_bench::{
    Section, Table,
    table::{Cell, Column},
};
use serde::Serialize;

/// One claim of one study.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct LedgerRow {
    /// Study; empty within the report of one.
    pub study: String,
    /// The claim.
    #[serde(flatten)]
    pub claim: Claim,
    /// Whether there is a run to judge it by; the claim's `why` then holds the command that makes one.
    pub run: bool,
}

impl LedgerRow {
    /// The verdict in words; `not run` where there is no run.
    pub fn verdict(&self) -> &'static str {
        if self.run { self.claim.outcome.name() } else { "not run" }
    }

    fn name(&self) -> String {
        if self.study.is_empty() {
            self.claim.name.clone()
        } else {
            format!("{}/{}", self.study, self.claim.name)
        }
    }

    fn effect(&self) -> String {
        self.claim.effect.as_ref().map_or_else(|| "—".to_owned(), ToString::to_string)
    }

    fn seeds(&self) -> String {
        self.claim.effect.as_ref().map_or_else(|| "—".to_owned(), |effect| effect.seeds.to_string())
    }

    /// What is known about it in whole sentences, by name; nothing that is empty.
    fn details(&self) -> impl Iterator<Item = (&'static str, String)> {
        let claim = &self.claim;
        let test = claim.effect.as_ref().map_or_else(String::new, |effect| {
            format!("; {}, {:.0} % interval", effect.test, 100.0 * effect.level)
        });
        let measured =
            if claim.measured.is_empty() { String::new() } else { format!("{}{test}", claim.measured) };
        let paper = format!("{}, {}", claim.paper.title, claim.paper.source);
        let all = [
            ("paper", paper),
            ("claim", claim.statement.clone()),
            ("measured", measured),
            ("why", claim.why.clone()),
        ];
        all.into_iter().filter(|(_, text)| !text.is_empty())
    }
}

/// Claims with their verdicts, in the order of the studies.
///
/// ```
/// use experiments::runner::{Claim, Ledger, LedgerRow};
///
/// let claim = Claim::new("half", "On Halves", "arXiv 0000.00000").statement("Two halves are one.");
/// let claim = claim.measured("0.5 + 0.5 = 1").holds(true, "the sum is exactly 1");
/// let ledger = Ledger::new(vec![LedgerRow { study: "sums".into(), claim, run: true }]);
/// assert!(ledger.all_confirmed());
/// assert!(ledger.to_markdown()?.contains("| sums/half | On Halves, arXiv 0000.00000 | Two halves are one. |"));
/// # Ok::<(), mtl_bench::Error>(())
/// ```
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Ledger {
    rows: Vec<LedgerRow>,
}

impl Ledger {
    /// A ledger of `rows`.
    pub fn new(rows: Vec<LedgerRow>) -> Self {
        Self { rows }
    }

    /// The claims of one study that has been run.
    pub fn of_claims(claims: &[Claim]) -> Self {
        let row = |claim: &Claim| LedgerRow { study: String::new(), claim: claim.clone(), run: true };
        Self::new(claims.iter().map(row).collect())
    }

    /// The rows.
    pub fn rows(&self) -> &[LedgerRow] {
        &self.rows
    }

    /// Whether every claim has a run that confirms it.
    pub fn all_confirmed(&self) -> bool {
        self.rows.iter().all(|row| row.run && row.claim.outcome == ClaimOutcome::Confirmed)
    }

    /// How many claims have which verdict, in one line.
    pub fn counts(&self) -> String {
        let count = |name: &str| self.rows.iter().filter(|row| row.verdict() == name).count();
        let each = ["confirmed", "not confirmed", "not testable", "not run"];
        let each = each.map(|name| (count(name), name)).into_iter().filter(|(n, _)| *n > 0);
        let each: Vec<String> = each.map(|(n, name)| format!("{n} {name}")).collect();
        if each.is_empty() {
            return "no claims".to_owned();
        }
        format!("{} claims: {}", self.rows.len(), each.join(", "))
    }

    /// A table in short, then what there is to say about each claim.
    ///
    /// # Errors
    ///
    /// [`mtl_bench::Error`] when the table cannot be made.
    pub fn to_text(&self) -> mtl_bench::Result<String> {
        let mut text = self.short_table()?.to_text();
        for row in &self.rows {
            text += &format!("\n{}: {}\n", row.name(), row.verdict());
            row.details().for_each(|(name, detail)| text += &format!("  {name:<9} {detail}\n"));
        }
        Ok(text)
    }

    /// One table with everything.
    ///
    /// # Errors
    ///
    /// [`mtl_bench::Error`] when the table cannot be made.
    pub fn to_markdown(&self) -> mtl_bench::Result<String> {
        let names = ["paper", "statement", "measured", "effect", "seeds", "verdict", "why"];
        let mut table = Table::new("claim", names.map(Column::new));
        for row in &self.rows {
            let Claim { paper, statement, measured, why, .. } = &row.claim;
            let paper = format!("{}, {}", paper.title, paper.source);
            let cells =
                [&paper, statement, measured, &row.effect(), &row.seeds(), row.verdict(), why].map(text);
            table.row(row.name(), cells)?;
        }
        Ok(table.to_markdown())
    }

    /// CSV with a header, numbers at full precision.
    ///
    /// # Errors
    ///
    /// [`csv::Error`] when a row cannot be written.
    pub fn to_csv(&self) -> Result<String, csv::Error> {
        let mut writer = csv::Writer::from_writer(Vec::new());
        writer.write_record([
            "study",
            "claim",
            "title",
            "source",
            "statement",
            "measured",
            "effect",
            "low",
            "high",
            "level",
            "unit",
            "seeds",
            "test",
            "p",
            "verdict",
            "why",
        ])?;
        for row in &self.rows {
            let claim = &row.claim;
            let effect = claim.effect.as_ref();
            let number = |value: Option<f64>| value.map_or_else(String::new, |v| v.to_string());
            let word = |value: Option<&String>| value.cloned().unwrap_or_default();
            let interval = effect.and_then(|e| e.interval);
            writer.write_record([
                &row.study,
                &claim.name,
                &claim.paper.title,
                &claim.paper.source,
                &claim.statement,
                &claim.measured,
                &number(effect.map(|e| e.mean)),
                &number(interval.map(|i| i.0)),
                &number(interval.map(|i| i.1)),
                &number(effect.map(|e| e.level)),
                &word(effect.map(|e| &e.unit)),
                &effect.map_or_else(String::new, |e| e.seeds.to_string()),
                &word(effect.map(|e| &e.test)),
                &number(effect.and_then(|e| e.p)),
                row.verdict(),
                &claim.why,
            ])?;
        }
        let bytes = writer.into_inner().map_err(|e| csv::Error::from(e.into_error()))?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    /// One JSON object a line.
    ///
    /// # Errors
    ///
    /// [`serde_json::Error`] when a row cannot be written.
    pub fn to_json_lines(&self) -> serde_json::Result<String> {
        self.rows.iter().map(|row| serde_json::to_string(row).map(|line| line + "\n")).collect()
    }

    /// Part of a page.
    ///
    /// # Errors
    ///
    /// [`mtl_bench::Error`] when the table cannot be made.
    pub fn section(&self) -> mtl_bench::Result<Section> {
        let mut section = Section::new("Claims").table(&self.short_table()?);
        for row in &self.rows {
            let details = row.details().map(|(name, text)| format!("{name}: {text}"));
            section = section.text(format!("{}: {}", row.name(), row.verdict())).list(details);
        }
        Ok(section)
    }

    fn short_table(&self) -> mtl_bench::Result<Table> {
        let mut table = Table::new("claim", ["paper", "effect", "seeds", "verdict"].map(Column::new));
        for row in &self.rows {
            let cells = [&row.claim.paper.source, &row.effect(), &row.seeds(), row.verdict()].map(text);
            table.row(row.name(), cells)?;
        }
        Ok(table)
    }
}

fn text(text: &str) -> Cell {
    Cell::Text(text.to_owned())
}
