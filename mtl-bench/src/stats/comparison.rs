//! From a table of scores to corrected comparisons of methods, with the reasons in words.
use super::{
    Bootstrap, Correction, Friedman, Improvement, Interval, PairedDifference, Recommendation, Scores, Sides,
    Situation, Test, adjust, check_level, friedman, median, probability_of_improvement, recommend, sign_flip,
    sign_test, welch, wilcoxon,
};
use crate::metrics::Better;
use crate::{Error, Result};
use std::fmt;

/// Options of [`compare`].
#[derive(Debug, Clone, PartialEq)]
pub struct CompareOptions {
    /// Method that all others are compared with; `None` for all pairs.
    pub control: Option<String>,
    /// Test of each comparison; `None` for the recommended one.
    pub test: Option<Test>,
    /// Correction over the family, which is all comparisons made.
    pub correction: Correction,
    /// Confidence level; α is one minus it.
    pub level: f64,
    /// Resampling of the probability of improvement.
    pub bootstrap: Bootstrap,
}

impl Default for CompareOptions {
    fn default() -> Self {
        let bootstrap = Bootstrap { replicates: 2_000, ..Bootstrap::default() };
        Self { control: None, test: None, correction: Correction::Holm, level: 0.95, bootstrap }
    }
}

/// One method against another; [`fmt::Display`] gives the sentence.
#[derive(Debug, Clone, PartialEq)]
pub struct PairComparison {
    /// Method whose advantage is described.
    pub method: String,
    /// What it is compared with.
    pub other: String,
    /// Test that gave p.
    pub test: Test,
    /// Number of units tested: tasks, or paired runs of a single task.
    pub n: usize,
    /// What the units are.
    pub over: &'static str,
    /// Units on which the method is better, equal, worse.
    pub wins: (usize, usize, usize),
    /// Median advantage over the units; positive when the method is better, whatever the direction of the metric.
    pub median_gain: f64,
    /// Mean advantage, with a t interval where it is defined; `None` for unpaired runs.
    pub gain: Option<PairedDifference>,
    /// Interval of the mean advantage.
    pub interval: Option<Interval>,
    /// p without correction; `None` when the test is undefined, as for runs without spread.
    pub p: Option<f64>,
    /// p after correction.
    pub adjusted_p: Option<f64>,
    /// Probability that a run of the method beats a run of the other.
    pub improvement: Improvement,
    /// Correction and size of its family.
    pub family: (Correction, usize),
    /// α of the statement.
    pub alpha: f64,
}

/// Result of [`compare`].
#[derive(Debug, Clone, PartialEq)]
pub struct ScoreComparison {
    /// The test recommended and why.
    pub recommendation: Recommendation,
    /// Test over all methods at once, for three or more methods over several tasks.
    pub friedman: Option<Friedman>,
    /// The comparisons, in the order of the methods' names.
    pub pairs: Vec<PairComparison>,
    /// What a reader must know: few runs, keys dropped.
    pub warnings: Vec<String>,
}

/// Compares the methods of `scores`: over tasks when there are several, else over the runs of the one task.
///
/// All pairs, or all methods against the control, are one family for the correction.
///
/// ```
/// use mtl_bench::{Record, Results, metrics::Better, stats::{CompareOptions, Scores, Test, compare}};
///
/// let run = |method: &str, seed, value| Record::new("accuracy", value).method(method).task("t").seed(seed);
/// let records = (0..6).flat_map(|s| [run("x", s, 0.8 + 0.01 * s as f64), run("y", s, 0.7 + 0.012 * s as f64)]);
/// let scores = Scores::from_results(&Results::from_records(records)?, "accuracy", Better::Higher)?;
/// let found = compare(&scores, &CompareOptions::default())?;
/// assert_eq!((found.pairs[0].test, found.pairs[0].adjusted_p), (Test::SignFlip, Some(0.03125)));
/// assert!(found.pairs[0].to_string().starts_with("x beats y on 6 of 6 runs"));
/// # Ok::<(), mtl_bench::Error>(())
/// ```
///
/// # Errors
///
/// [`Error::Argument`] for fewer than 2 methods or options out of range or a test that does not apply,
/// [`Error::Missing`] for an unknown control or runs and tasks that one method lacks.
pub fn compare(scores: &Scores, options: &CompareOptions) -> Result<ScoreComparison> {
    check_level(options.level)?;
    options.bootstrap.check()?;
    let (methods, tasks) = (scores.methods(), scores.tasks());
    if methods.len() < 2 {
        return Err(Error::argument("scores", "of at least 2 methods", methods.len()));
    }
    let pairs = pairs_of(&methods, options.control.as_deref(), &scores.metric)?;
    let blocks = scores.task_means()?; // [tasks, methods]
    let several = tasks.len() > 1;
    let recommendation = if several {
        let (methods, tasks) = (methods.len(), tasks.len());
        recommend(match options.control {
            Some(_) => Situation::AgainstControl { methods, tasks },
            None => Situation::ManyMethods { methods, tasks },
        })
    } else {
        // One set of keys for all methods, or no pairing at all.
        let paired: Option<Vec<_>> =
            pairs.iter().map(|&(a, b)| scores.pairs(methods[a], methods[b]).ok()).collect();
        match paired.as_deref() {
            Some([rows, ..]) => {
                let differences: Vec<f64> = rows.iter().map(|(_, x, y)| x - y).collect();
                recommend(Situation::PairedRuns { differences: &differences })
            }
            _ => recommend(Situation::UnpairedRuns),
        }
    };
    let overall = if several && methods.len() > 2 { Some(friedman(&blocks, scores.better)?) } else { None };
    // Each pair of methods over tasks is tested on its own, so that other methods do not change the answer.
    let test = match (options.test, recommendation.test) {
        (Some(test), _) => Some(test),
        (None, Some(Test::FriedmanNemenyi | Test::FriedmanControl)) => Some(Test::Wilcoxon),
        (None, test) => test,
    };
    let mut compared = Vec::new();
    for (a, b) in pairs {
        let columns = several.then(|| blocks.iter().map(|row| (row[a], row[b])).collect::<Vec<_>>());
        compared.push(pair(scores, methods[a], methods[b], columns, test, options)?);
    }
    correct(&mut compared, options.correction)?;
    let warnings = warnings(scores, several)?;
    Ok(ScoreComparison { recommendation, friedman: overall, pairs: compared, warnings })
}

fn pairs_of(methods: &[&str], control: Option<&str>, metric: &str) -> Result<Vec<(usize, usize)>> {
    let Some(name) = control else {
        return Ok((0..methods.len()).flat_map(|a| (a + 1..methods.len()).map(move |b| (a, b))).collect());
    };
    let Some(control) = methods.iter().position(|m| *m == name) else {
        return Err(Error::Missing { what: format!("{metric} of the control `{name}`") });
    };
    Ok((0..methods.len()).filter(|&m| m != control).map(|m| (m, control)).collect())
}

fn pair(
    scores: &Scores,
    method: &str,
    other: &str,
    columns: Option<Vec<(f64, f64)>>,
    test: Option<Test>,
    options: &CompareOptions,
) -> Result<PairComparison> {
    let (a, b) = (scores.runs_by_tasks(method)?, scores.runs_by_tasks(other)?);
    let sign = scores.better.sign();
    let over = if columns.is_some() { "tasks" } else { "runs" };
    let unpaired = columns.is_none() && matches!(test, Some(Test::Welch | Test::MannWhitney));
    let improvement =
        probability_of_improvement(&a, &b, scores.better, Sides::Independent, &options.bootstrap)?;
    let units = match columns {
        Some(columns) => columns,
        None if unpaired => a.flat().into_iter().zip(b.flat()).collect(),
        None => scores.pairs(method, other)?.into_iter().map(|(_, x, y)| (x, y)).collect(),
    };
    let differences: Vec<f64> = units.iter().map(|(x, y)| sign * (x - y)).collect();
    let gain = if unpaired { None } else { Some(PairedDifference::of(&differences, options.level)?) };
    let (mut interval, used) = (gain.and_then(|g| g.interval), test.unwrap_or(Test::SignFlip));
    let p = match test {
        None => None,
        Some(Test::Wilcoxon) => Some(wilcoxon(&differences)?.p),
        Some(Test::SignFlip) => Some(sign_flip(&differences)?.p),
        Some(Test::Sign) => Some(sign_test(&differences)?.p),
        Some(Test::PairedT) => gain.and_then(|g| g.p),
        Some(Test::MannWhitney) if unpaired => {
            Some(super::mann_whitney(&a.flat(), &b.flat(), super::MannWhitneyMethod::Auto)?.p)
        }
        Some(Test::Welch) if unpaired && a.fewest_runs().min(b.fewest_runs()) < 2 => None,
        Some(Test::Welch) if unpaired => {
            let oriented = |s: &super::RunsByTasks| s.flat().iter().map(|v| sign * v).collect::<Vec<f64>>();
            let found = welch(&oriented(&a), &oriented(&b), options.level)?;
            interval = found.map(|t| t.interval);
            found.map(|t| t.p)
        }
        Some(test) => {
            let must = format!("a test of pairs over {over}");
            return Err(Error::argument("test", must, test.name()));
        }
    };
    let count = |better: Better| units.iter().filter(|(x, y)| better.is_better(*x, *y)).count();
    let (won, lost) = match scores.better {
        Better::Higher => (count(Better::Higher), count(Better::Lower)),
        Better::Lower => (count(Better::Lower), count(Better::Higher)),
    };
    let median_gain =
        if unpaired { sign * (median(&a.flat()) - median(&b.flat())) } else { median(&differences) };
    Ok(PairComparison {
        method: method.to_owned(),
        other: other.to_owned(),
        test: used,
        n: units.len(),
        over,
        wins: (won, units.len() - won - lost, lost),
        median_gain,
        gain,
        interval,
        p,
        adjusted_p: None,
        improvement,
        family: (options.correction, 0),
        alpha: 1.0 - options.level,
    })
}

fn correct(pairs: &mut [PairComparison], correction: Correction) -> Result<()> {
    let p: Vec<f64> = pairs.iter().filter_map(|c| c.p).collect();
    let mut adjusted = adjust(&p, correction)?.into_iter();
    for pair in pairs {
        pair.family.1 = p.len();
        if pair.p.is_some() {
            pair.adjusted_p = adjusted.next();
        }
    }
    Ok(())
}

fn warnings(scores: &Scores, several: bool) -> Result<Vec<String>> {
    let mut found = Vec::new();
    for method in scores.methods() {
        let n = scores.runs_by_tasks(method)?.fewest_runs();
        if n < 5 {
            found.push(format!(
                "`{method}` has {n} run{} on some task; few for a claim",
                if n == 1 { "" } else { "s" }
            ));
        }
    }
    let n = scores.tasks().len();
    if several && n < 6 {
        found.push(format!("{n} tasks: tests over tasks cannot give p below {}", 2_f64.powi(1 - n as i32)));
    }
    Ok(found)
}

/// `p = 0.02`, `p < 1e-16` instead of 0.
pub fn format_p(p: f64) -> String {
    if p < 1e-16 {
        "p < 1e-16".to_owned()
    } else if p < 1e-4 {
        format!("p = {p:.1e}")
    } else {
        let decimals = if p < 0.001 {
            5
        } else if p < 0.01 {
            4
        } else {
            3
        };
        format!("p = {p:.decimals$}")
    }
}

impl fmt::Display for PairComparison {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { method, other, n, over, .. } = self;
        let ahead = if self.wins.0 >= self.wins.2 { "beats" } else { "trails" };
        let count = if ahead == "beats" { self.wins.0 } else { self.wins.2 };
        let side = if self.median_gain < 0.0 { "loss" } else { "gain" };
        match self.adjusted_p {
            Some(p) if p < self.alpha => write!(f, "{method} {ahead} {other} on {count} of {n} {over}")?,
            _ => write!(
                f,
                "no difference shown: {method} is ahead of {other} on {} of {n} {over}",
                self.wins.0
            )?,
        }
        write!(f, "; median {side} {:.3}", self.median_gain.abs())?;
        match self.adjusted_p {
            Some(p) => write!(f, "; {} over {over} {}", self.test.name(), format_p(p))?,
            None => f.write_str("; not testable")?,
        }
        if self.family.1 > 1 && self.family.0 != Correction::None {
            write!(f, " ({}, {} comparisons)", self.family.0.name(), self.family.1)?;
        }
        write!(f, "; probability of improvement {:.2}", self.improvement.probability)?;
        match self.improvement.interval {
            Some(i) => write!(f, " [{:.2}, {:.2}]", i.low, i.high),
            None => Ok(()),
        }
    }
}
