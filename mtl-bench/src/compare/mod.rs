//! Verdicts in plain words: what beat what, by how much, and what cannot be said.
use crate::metrics::Better;
use crate::stats::{PairedDifference, holm};
use crate::store::{Key, Results};
use crate::{Error, Result};
use std::fmt;

/// What to compare, and how to say it.
///
/// The defaults are a level of 0.95, raw units, and Holm's correction over the methods compared in one call.
#[derive(Debug, Clone, PartialEq)]
pub struct Comparison {
    /// Metric in the records.
    pub metric: String,
    /// Its name in sentences, such as `mean accuracy`.
    pub label: String,
    /// Which values are good.
    pub better: Better,
    /// Multiplies differences in sentences: 100 turns shares into points.
    pub scale: f64,
    /// Unit of scaled differences, such as `points` or `ms`; may be empty.
    pub unit: String,
    /// Confidence level.
    pub level: f64,
}

impl Comparison {
    /// Compares by `metric`.
    pub fn new(metric: impl Into<String>, better: Better) -> Self {
        let metric = metric.into();
        Self { label: metric.replace('_', " "), metric, better, scale: 1.0, unit: String::new(), level: 0.95 }
    }

    /// Sets the name of the metric in sentences.
    #[must_use]
    pub fn label(mut self, label: impl Into<String>) -> Self {
        self.label = label.into();
        self
    }

    /// Says differences of shares in percentage points.
    #[must_use]
    pub fn points(mut self) -> Self {
        (self.scale, self.unit) = (100.0, "points".to_owned());
        self
    }

    /// Sets the unit of differences.
    #[must_use]
    pub fn unit(mut self, unit: impl Into<String>) -> Self {
        self.unit = unit.into();
        self
    }

    /// Compares each of `methods` with `baseline` on the seeds they share.
    ///
    /// The results must hold one value per method and seed for the metric: filter by setting, task and step first, or take
    /// [`Results::mean_over_tasks`].
    ///
    /// ```
    /// use mtl_bench::{Comparison, Record, Results, metrics::Better};
    ///
    /// let run = |method: &str, seed, value| Record::new("accuracy", value).method(method).seed(seed);
    /// let results = Results::from_records([
    ///     run("equal-weights", 0, 0.90), run("equal-weights", 1, 0.88), run("equal-weights", 2, 0.91),
    ///     run("pcgrad", 0, 0.92), run("pcgrad", 1, 0.90), run("pcgrad", 2, 0.931),
    /// ])?;
    /// let verdicts = Comparison::new("accuracy", Better::Higher).points().against(&results, "equal-weights", &["pcgrad"])?;
    /// assert_eq!(
    ///     verdicts[0].to_string(),
    ///     "pcgrad beat equal-weights on accuracy by 2.03 points [1.89, 2.18] (paired over 3 seeds)",
    /// );
    /// # Ok::<(), mtl_bench::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`mtl_core::Error::Unknown`] for a method without records, [`Error::Missing`] when two methods share no seed,
    /// [`Error::Ambiguous`] when a seed has several values.
    pub fn against(&self, results: &Results, baseline: &str, methods: &[&str]) -> Result<Vec<Verdict>> {
        let results = results.metric(&self.metric);
        let known = results.names(Key::Method);
        for &name in methods.iter().chain([&baseline]) {
            if !known.iter().any(|k| k == name) {
                return Err(mtl_core::Error::unknown("method", name, known.iter().map(String::as_str)).into());
            }
        }
        let base = results.method(baseline);
        let mut verdicts = Vec::with_capacity(methods.len());
        for &method in methods {
            let pairs = Results::pair(&results.method(method), &base)?;
            if pairs.pairs.is_empty() {
                return Err(Error::Missing {
                    what: format!("a seed that `{method}` and `{baseline}` share"),
                });
            }
            let difference = PairedDifference::of(&pairs.differences(), self.level)?;
            verdicts.push(Verdict {
                method: method.to_owned(),
                baseline: baseline.to_owned(),
                comparison: self.clone(),
                difference,
                adjusted_p: difference.p,
                family: 1,
                unpaired: pairs.unpaired,
            });
        }
        correct(&mut verdicts)?;
        Ok(verdicts)
    }
}

/// Holm over the verdicts that have a p.
fn correct(verdicts: &mut [Verdict]) -> Result<()> {
    let tested: Vec<f64> = verdicts.iter().filter_map(|v| v.difference.p).collect();
    let mut adjusted = holm(&tested)?.into_iter();
    for verdict in verdicts.iter_mut().filter(|v| v.difference.p.is_some()) {
        verdict.adjusted_p = adjusted.next();
        verdict.family = tested.len();
    }
    Ok(())
}

/// What the data allow to say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Outcome {
    /// The method is better, after correction.
    Better,
    /// The method is worse, after correction.
    Worse,
    /// No difference was shown, which does not mean that there is none.
    NotShown,
    /// The difference is the same on every seed, so no test applies.
    Constant,
    /// There is one seed, so nothing can be tested.
    NotTestable,
}

/// A method against a baseline; [`fmt::Display`] gives the sentence.
#[derive(Debug, Clone, PartialEq)]
pub struct Verdict {
    /// Method concerned.
    pub method: String,
    /// What it was compared with.
    pub baseline: String,
    /// What was compared.
    pub comparison: Comparison,
    /// Method minus baseline, unscaled.
    pub difference: PairedDifference,
    /// p after Holm's correction; `None` when no test applies.
    pub adjusted_p: Option<f64>,
    /// Number of tests corrected for.
    pub family: usize,
    /// Seeds that only one of the two has; they were left out.
    pub unpaired: Vec<u64>,
}

impl Verdict {
    /// What the data allow to say.
    pub fn outcome(&self) -> Outcome {
        if self.difference.n < 2 {
            return Outcome::NotTestable;
        }
        let Some(p) = self.adjusted_p else { return Outcome::Constant };
        if p >= 1.0 - self.comparison.level {
            return Outcome::NotShown;
        }
        if self.comparison.better.is_better(self.difference.mean, 0.0) {
            Outcome::Better
        } else {
            Outcome::Worse
        }
    }

    fn amount(&self, value: f64, decimals: usize) -> String {
        let text = format!("{:.decimals$}", value * self.comparison.scale);
        if text.trim_start_matches('-').chars().all(|c| c == '0' || c == '.') {
            text.trim_start_matches('-').to_owned()
        } else {
            text
        }
    }

    /// Decimals that show two digits of the interval's width, or of the difference.
    fn decimals(&self) -> usize {
        let size = self.difference.interval.map_or(self.difference.mean.abs(), |i| i.half_width())
            * self.comparison.scale;
        if size > 0.0 { (1.0 - size.log10().floor()).clamp(0.0, 8.0) as usize } else { 1 }
    }

    fn with_unit(&self, amount: String) -> String {
        if self.comparison.unit.is_empty() { amount } else { format!("{amount} {}", self.comparison.unit) }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (method, baseline, label) = (&self.method, &self.baseline, &self.comparison.label);
        let (d, decimals) = (&self.difference, self.decimals());
        let outcome = self.outcome();
        // A win is told as a positive margin, whatever the direction of the metric.
        let won = matches!(outcome, Outcome::Better);
        let lost = matches!(outcome, Outcome::Worse);
        let flip = if (won || lost) && d.mean < 0.0 { -1.0 } else { 1.0 };
        let mean = self.with_unit(self.amount(flip * d.mean, decimals));
        let interval = d.interval.map(|i| {
            let (a, b) = if flip < 0.0 { (-i.high, -i.low) } else { (i.low, i.high) };
            format!(" [{}, {}]", self.amount(a, decimals), self.amount(b, decimals))
        });
        let interval = interval.unwrap_or_default();
        let difference =
            if d.mean.abs() == 0.0 { "no difference".to_owned() } else { format!("a difference of {mean}") };
        match outcome {
            Outcome::Better => write!(f, "{method} beat {baseline} on {label} by {mean}{interval}")?,
            Outcome::Worse => write!(f, "{method} was worse than {baseline} on {label} by {mean}{interval}")?,
            Outcome::NotShown => {
                write!(f, "no difference shown: {method} minus {baseline} on {label} is {mean}{interval}")?;
            }
            Outcome::Constant if d.mean == 0.0 => {
                write!(f, "{method} and {baseline} have the same {label} on every seed")?
            }
            Outcome::Constant => write!(f, "{method} minus {baseline} on {label} is {mean} on every seed")?,
            Outcome::NotTestable => {
                write!(
                    f,
                    "not testable with one seed: {method} against {baseline} on {label} shows {difference}"
                )?;
            }
        }
        let mut notes = Vec::new();
        if d.n > 1 {
            notes.push(format!("paired over {} seeds", d.n));
        }
        if self.family > 1 {
            notes.push(format!("Holm over {} comparisons", self.family));
        }
        if !self.unpaired.is_empty() {
            notes.push(format!("seeds {:?} left out, as only one of the two has them", self.unpaired));
        }
        if notes.is_empty() { Ok(()) } else { write!(f, " ({})", notes.join("; ")) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use mtl_core::Record;

    fn results(a: &[f64], b: &[f64]) -> Results {
        let runs = |name: &str, values: &[f64]| -> Vec<Record> {
            let run = |(seed, &v): (usize, &f64)| Record::new("loss", v).method(name).seed(seed as u64);
            values.iter().enumerate().map(run).collect()
        };
        Results::from_records([runs("a", a), runs("b", b)].concat()).unwrap()
    }

    fn say(a: &[f64], b: &[f64]) -> String {
        let verdicts = Comparison::new("loss", Better::Lower).against(&results(a, b), "b", &["a"]).unwrap();
        verdicts[0].to_string()
    }

    #[test]
    fn sentences_say_what_was_shown_and_no_more() {
        insta::assert_snapshot!(say(&[1.0, 1.1, 1.2], &[2.0, 2.2, 2.1]), @"a beat b on loss by 1.00 [0.75, 1.25] (paired over 3 seeds)");
        insta::assert_snapshot!(say(&[2.0, 2.2, 2.1], &[1.0, 1.1, 1.2]), @"a was worse than b on loss by 1.00 [0.75, 1.25] (paired over 3 seeds)");
        insta::assert_snapshot!(say(&[1.0, 2.0], &[1.1, 1.8]), @"no difference shown: a minus b on loss is 0.0 [-1.9, 2.0] (paired over 2 seeds)");
        insta::assert_snapshot!(say(&[1.0], &[2.0]), @"not testable with one seed: a against b on loss shows a difference of -1.0");
        insta::assert_snapshot!(say(&[1.0, 2.0], &[1.5, 2.5]), @"a minus b on loss is -0.50 on every seed (paired over 2 seeds)");
        insta::assert_snapshot!(say(&[1.0, 2.0], &[1.0, 2.0]), @"a and b have the same loss on every seed (paired over 2 seeds)");
        insta::assert_snapshot!(say(&[1.0, 1.1, 1.2, 9.0], &[2.0, 2.2, 2.1]), @"a beat b on loss by 1.00 [0.75, 1.25] (paired over 3 seeds; seeds [3] left out, as only one of the two has them)");
    }

    #[test]
    fn several_methods_are_corrected_together() {
        let mut records = results(&[1.0, 1.1, 1.25], &[1.4, 1.6, 1.6]).records().to_vec();
        records.extend(
            [0.9, 0.95, 1.3]
                .iter()
                .enumerate()
                .map(|(s, &v)| Record::new("loss", v).method("c").seed(s as u64)),
        );
        let all = Results::from_records(records).unwrap();
        let alone = Comparison::new("loss", Better::Lower).against(&all, "b", &["a"]).unwrap();
        let both = Comparison::new("loss", Better::Lower).against(&all, "b", &["a", "c"]).unwrap();
        assert!(both[0].adjusted_p > alone[0].adjusted_p);
        assert!(both[0].to_string().contains("Holm over 2 comparisons"));
    }

    #[test]
    fn an_unknown_method_gets_a_suggestion() {
        let error = Comparison::new("loss", Better::Lower)
            .against(&results(&[1.0], &[1.0]), "b", &["aa"])
            .unwrap_err();
        assert!(error.to_string().starts_with("unknown method `aa`"));
    }
}
