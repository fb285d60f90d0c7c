//! Marks of significance on cells, and the footnote that says what they rest on: Bouthillier et al., *Accounting for
//! Variance in Machine Learning Benchmarks*, MLSys 2021; smallest p of few pairs: 2·2^(−n) over all sign patterns.
use super::Table;
use crate::stats::{PairComparison, ScoreComparison, Test, adjust, detectable_difference};
use crate::{Error, Result};

/// What a significant difference says about a cell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Mark {
    /// Significantly better than the baseline: †.
    Better,
    /// Significantly worse than the baseline: ‡.
    Worse,
}

impl Mark {
    /// The sign in a table.
    pub fn sign(self) -> &'static str {
        match self {
            Self::Better => "†",
            Self::Worse => "‡",
        }
    }

    /// The word in a CSV file.
    pub fn word(self) -> &'static str {
        match self {
            Self::Better => "better",
            Self::Worse => "worse",
        }
    }
}

/// Power of the note about differences that could have been found.
const POWER: f64 = 0.8;

impl Table {
    /// Marks the cells of `column` whose method differs significantly from the control of `found`, after its
    /// correction, and explains the marks below the table: test, n, correction, family, α, smallest attainable p, and
    /// the smallest difference that could have been found.
    ///
    /// Rows without a comparison stay unmarked. The marks never change which value is best.
    ///
    /// ```
    /// use mtl_bench::{Pivot, Record, Results, metrics::Better, stats::{CompareOptions, Scores, compare}, store::Key};
    ///
    /// let run = |method: &str, seed, value| Record::new("accuracy", value).method(method).task("t").seed(seed);
    /// let records = (0..6).flat_map(|s| [run("new", s, 0.8 + 0.01 * s as f64), run("old", s, 0.7 + 0.012 * s as f64)]);
    /// let results = Results::from_records(records)?;
    /// let options = CompareOptions { control: Some("old".into()), ..CompareOptions::default() };
    /// let found = compare(&Scores::from_results(&results, "accuracy", Better::Higher)?, &options)?;
    /// let table = Pivot::new(Key::Method, Key::Task).percent().table(&results)?.significance("t", &found)?;
    /// assert!(table.to_markdown().contains("| new | **82.5**†"));
    /// assert!(table.to_markdown().contains("smallest attainable p = 0.031"));
    /// # Ok::<(), mtl_bench::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`mtl_core::Error::Unknown`] for a column or method that the table lacks, [`Error::Argument`] for a comparison
    /// that is not against one control, or a column of reported figures, which never enter tests.
    pub fn significance(mut self, column: &str, found: &ScoreComparison) -> Result<Self> {
        let names = || self.columns.iter().map(|c| c.name());
        let Some(c) = names().position(|name| name == column) else {
            return Err(mtl_core::Error::unknown("column", column, names()).into());
        };
        if self.columns[c].is_reported() {
            return Err(Error::argument(
                "column",
                "of figures measured here",
                format!("`{column}`, reported"),
            ));
        }
        let Some(first) = found.pairs.first() else {
            return Err(Error::argument("found", "a comparison of at least one pair", 0));
        };
        if let Some(other) = found.pairs.iter().find(|p| p.other != first.other) {
            let pairs = format!("against `{}` and `{}`", first.other, other.other);
            return Err(Error::argument("found", "comparisons against one control", pairs));
        }
        for pair in &found.pairs {
            let labels = || self.rows.iter().map(|r| r.0.as_str());
            let Some(r) = labels().position(|label| label == pair.method) else {
                return Err(mtl_core::Error::unknown("row", &pair.method, labels()).into());
            };
            let ahead = pair.gain.map_or(pair.median_gain, |g| g.mean);
            match pair.adjusted_p {
                Some(p) if p < pair.alpha && ahead > 0.0 => self.marks.insert((r, c), Mark::Better),
                Some(p) if p < pair.alpha && ahead < 0.0 => self.marks.insert((r, c), Mark::Worse),
                _ => self.marks.remove(&(r, c)),
            };
        }
        let text = self.statement(c, found, first)?;
        self.statements.retain(|(name, _)| name != column);
        self.statements.push((column.to_owned(), text));
        Ok(self)
    }

    fn statement(&self, c: usize, found: &ScoreComparison, first: &PairComparison) -> Result<String> {
        let pairs = &found.pairs;
        let n = range(pairs.iter().map(|p| p.n as f64), 0);
        let (correction, family) = first.family;
        let corrected = match family {
            0 | 1 => "one comparison, no correction needed".to_owned(),
            m => format!("{} over {m} comparisons", correction.name()),
        };
        let mut text = format!(
            "† better, ‡ worse than {}: {}, n = {n} {}, {corrected}, α = {}",
            first.other,
            first.test.name(),
            first.over,
            plain(first.alpha),
        );
        // The pair with the most units can reach the smallest p.
        let most = pairs.iter().map(|p| p.n).max().unwrap_or(0);
        let floor = smallest_p(first.test, most);
        if let Some(floor) = floor {
            text += &format!(", smallest attainable p = {}", plain(floor));
            let all = adjust(&vec![floor; family.max(1)], correction)?;
            let least = all.into_iter().fold(f64::INFINITY, f64::min);
            if least > floor {
                text += &format!(" ({} after correction)", plain(least));
            }
            if least >= first.alpha {
                text += &format!(
                    "; with so few {} no difference can ever be significant here, however large",
                    first.over
                );
            }
        }
        text.push('.');
        if first.over == "runs" && most < 5 {
            text += " Fewer than 5 runs are few for a claim.";
        }
        let untested = pairs.iter().filter(|p| p.p.is_none()).count();
        if untested > 0 {
            text += &format!(" {untested} of {} comparisons could not be tested.", pairs.len());
        }
        Ok(text + &self.detectable(c, pairs, first.alpha))
    }

    /// Which differences could have been found; nothing where no spread is known.
    fn detectable(&self, c: usize, pairs: &[PairComparison], alpha: f64) -> String {
        let column = &self.columns[c];
        let smallest = |p: &PairComparison| {
            let std = p.gain.and_then(|g| g.std)?;
            detectable_difference(std, p.n, POWER, 1.0 - alpha).ok().map(|d| d * column.scale().abs())
        };
        let found: Vec<f64> = pairs.iter().filter_map(smallest).collect();
        if found.is_empty() {
            return String::new();
        }
        let decimals = column.places();
        let unit = column.unit_text().map(|u| if u == "%" { " points" } else { u }).unwrap_or_default();
        let space = if unit.is_empty() || unit.starts_with(' ') { "" } else { " " };
        format!(
            " With this spread and n, a paired t test without correction finds a difference of {}{space}{unit} with \
             probability {POWER}; smaller ones may well be missed.",
            range(found.into_iter(), decimals)
        )
    }
}

/// The smallest two-sided p that `n` pairs can give by a test on signs or signed ranks; `None` where there is no limit.
fn smallest_p(test: Test, n: usize) -> Option<f64> {
    match test {
        Test::SignFlip | Test::Sign | Test::Wilcoxon | Test::PairwiseWilcoxon if (1..=25).contains(&n) => {
            Some(2_f64.powi(1 - n as i32).min(1.0))
        }
        _ => None,
    }
}

/// `2.5`, or `2.5 to 3.1` when the values differ as printed.
fn range(values: impl Iterator<Item = f64>, decimals: usize) -> String {
    let (low, high) = values.fold((f64::INFINITY, f64::NEG_INFINITY), |(l, h), v| (l.min(v), h.max(v)));
    let (low, high) = (format!("{low:.decimals$}"), format!("{high:.decimals$}"));
    if low == high { low } else { format!("{low} to {high}") }
}

/// Three significant digits and no trailing zeros: 0.05, 0.0625, 0.00781.
fn plain(p: f64) -> String {
    if p < 0.001 {
        return format!("{p:.1e}");
    }
    let decimals = (2.0 - p.log10().floor()) as usize;
    format!("{p:.decimals$}").trim_end_matches('0').trim_end_matches('.').to_owned()
}
