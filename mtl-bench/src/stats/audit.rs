//! How often the statistics of this crate would mislead: simulated studies whose truth is known.
use super::{
    AggregateRule, Bootstrap, CompareOptions, Estimate, MeanOfTasks, RunsByTasks, Scores, compare,
    paired_power, stratified_bootstrap,
};
use super::{PairedDifference, clopper_pearson};
use crate::metrics::Better;
use crate::stats::Interval;
use crate::{Comparison, Error, Outcome, Record, Result, Results};
use mtl_core::Seed;
use rand::RngExt;
use serde::Serialize;
use std::f64::consts::TAU;
use std::fmt;

/// A share of simulated studies, with what it should be.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Share {
    /// What was counted.
    pub what: String,
    /// Studies in which it happened.
    pub hits: u64,
    /// Studies simulated.
    pub studies: u64,
    /// The least share that is right.
    pub least: f64,
    /// The largest share that is right.
    pub most: f64,
}

impl Share {
    /// Hits over studies.
    pub fn share(&self) -> f64 {
        self.hits as f64 / self.studies as f64
    }

    /// The share's exact 99.9 % interval: an audit has many shares, and none should miss by chance.
    ///
    /// # Errors
    ///
    /// [`Error::Argument`] without studies.
    pub fn interval(&self) -> Result<Interval> {
        clopper_pearson(self.hits, self.studies, 0.999)
    }

    /// Whether the share lies where it should, as far as this number of studies can tell: its interval meets the range.
    ///
    /// # Errors
    ///
    /// As [`Share::interval`].
    pub fn holds(&self) -> Result<bool> {
        let interval = self.interval()?;
        Ok(interval.low <= self.most && self.least <= interval.high)
    }
}

impl fmt::Display for Share {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let range = match (self.least, self.most) {
            (least, most) if least <= 0.0 => format!("at most {:.1} %", 100.0 * most),
            (least, most) => format!("{:.1} to {:.1} %", 100.0 * least, 100.0 * most),
        };
        write!(f, "{}: {:.1} % of {} studies ({range})", self.what, 100.0 * self.share(), self.studies)
    }
}

/// Simulates studies and counts how often verdicts, tests and intervals are wrong.
///
/// - One method under two names: the share of verdicts and of recommended tests that claim a difference.
/// - A planted difference: the share that finds it, beside the power that theory gives.
/// - Intervals of a mean over 3, 5 and 10 seeds, and of a mean over tasks: the share that holds the truth.
///
/// Scores are normal with a spread of 0.02 between seeds, shared in half by both methods of a pair. The same seed gives the
/// same counts.
///
/// ```
/// let shares = mtl_bench::stats::audit(50, mtl_core::Seed(0))?;
/// for share in &shares {
///     assert!(share.holds()?, "{share}");
/// }
/// # Ok::<(), mtl_bench::Error>(())
/// ```
///
/// # Errors
///
/// [`Error::Argument`] for no studies.
pub fn audit(studies: u64, seed: Seed) -> Result<Vec<Share>> {
    if studies == 0 {
        return Err(Error::argument("studies", "positive", studies));
    }
    let mut shares = Vec::new();
    let share = |what: String, hits: u64, least: f64, most: f64| Share { what, hits, studies, least, most };
    for runs in [3, 5, 10] {
        let (verdicts, tests) = claims(studies, runs, 0.0, seed)?;
        shares.push(share(
            format!("verdicts on one method under two names, {runs} seeds"),
            verdicts,
            0.0,
            0.05,
        ));
        shares.push(share(format!("recommended tests on the same, {runs} seeds"), tests, 0.0, 0.05));
    }
    for (runs, effect) in [(5, 2.0), (10, 1.0)] {
        let (verdicts, _) = claims(studies, runs, effect, seed)?;
        let power = paired_power(effect, runs, 0.95)?;
        let what = format!(
            "verdicts that find {effect} standard deviations with {runs} seeds, theory {:.1} %",
            100.0 * power
        );
        shares.push(share(what, verdicts, power - 0.05, power + 0.05));
    }
    for runs in [3, 5, 10] {
        let (mean, difference, tasks) = coverage(studies, runs, seed)?;
        shares.push(share(format!("t intervals that hold the mean, {runs} seeds"), mean, 0.93, 0.97));
        shares.push(share(
            format!("t intervals that hold the difference, {runs} seeds"),
            difference,
            0.93,
            0.97,
        ));
        shares.push(share(
            format!("expanded bootstrap intervals that hold the mean of 10 tasks, {runs} seeds"),
            tasks,
            0.93,
            0.97,
        ));
    }
    Ok(shares)
}

/// Standard normal, by Box and Muller.
fn normal(rng: &mut impl rand::Rng) -> f64 {
    let (u, v): (f64, f64) = (rng.random(), rng.random());
    (-2.0 * (1.0 - u).ln()).sqrt() * (TAU * v).cos()
}

const SPREAD: f64 = 0.02;

/// Scores of two methods on the same seeds; the second is better by `effect` standard deviations of the difference.
fn pairs(runs: usize, effect: f64, rng: &mut impl rand::Rng) -> Vec<(f64, f64)> {
    let half = SPREAD * 0.5_f64.sqrt();
    let one = |rng: &mut _| {
        let shared = half * normal(rng);
        let (a, b) = (half * normal(rng), half * normal(rng));
        // The difference of two independent halves has the standard deviation SPREAD.
        (0.8 + shared + a, 0.8 + shared + b + effect * SPREAD)
    };
    (0..runs).map(|_| one(rng)).collect()
}

/// Studies with a difference claimed: by verdicts in words, and by the recommended test.
fn claims(studies: u64, runs: usize, effect: f64, seed: Seed) -> Result<(u64, u64)> {
    let (mut verdicts, mut tests) = (0, 0);
    let options = CompareOptions {
        bootstrap: Bootstrap { replicates: 10, ..Bootstrap::default() },
        ..CompareOptions::default()
    };
    for study in 0..studies {
        let mut rng = seed.stream(&format!("audit/claims/{runs}/{effect}"), study);
        let pairs = pairs(runs, effect, &mut rng);
        let record = |method: &str, seed: usize, value| {
            Record::new("accuracy", value).method(method).seed(seed as u64)
        };
        let records =
            pairs.iter().enumerate().flat_map(|(s, &(a, b))| [record("a", s, a), record("b", s, b)]);
        let results = Results::from_records(records)?;
        let found = Comparison::new("accuracy", Better::Higher).against(&results, "a", &["b"])?;
        let claimed = |v: &crate::Verdict| match v.outcome() {
            Outcome::Better => true,
            Outcome::Worse => effect == 0.0,
            _ => false,
        };
        verdicts += u64::from(found.iter().any(claimed));
        let scores = Scores::from_results(&results, "accuracy", Better::Higher)?;
        let compared = compare(&scores, &options)?;
        tests += u64::from(compared.pairs.iter().any(|p| p.adjusted_p.is_some_and(|p| p < 0.05)));
    }
    Ok((verdicts, tests))
}

/// Studies whose intervals hold the truth: of a mean, of a difference, of a mean over tasks.
fn coverage(studies: u64, runs: usize, seed: Seed) -> Result<(u64, u64, u64)> {
    const TASKS: usize = 10;
    let (mut means, mut differences, mut tasks) = (0, 0, 0);
    for study in 0..studies {
        let mut rng = seed.stream(&format!("audit/coverage/{runs}"), study);
        let pairs = pairs(runs, 1.0, &mut rng);
        let first: Vec<f64> = pairs.iter().map(|p| p.0).collect();
        let holds = |interval: Option<Interval>, truth| interval.is_some_and(|i| i.contains(truth));
        means += u64::from(holds(Estimate::of(&first, 0.95)?.interval, 0.8));
        let gains: Vec<f64> = pairs.iter().map(|(a, b)| b - a).collect();
        differences += u64::from(holds(PairedDifference::of(&gains, 0.95)?.interval, SPREAD));
        let centre = |task: usize| 0.4 + 0.05 * task as f64;
        let rows: Vec<Vec<f64>> =
            (0..runs).map(|_| (0..TASKS).map(|t| centre(t) + SPREAD * normal(&mut rng)).collect()).collect();
        let scores = RunsByTasks::from_rows(&rows)?;
        let options = Bootstrap { replicates: 400, level: 0.95, seed: Seed(study) };
        let interval = stratified_bootstrap(&scores, &MeanOfTasks, AggregateRule::Expanded, &options)?;
        let truth = (0..TASKS).map(centre).sum::<f64>() / TASKS as f64;
        tasks += u64::from(interval.contains(truth));
    }
    Ok((means, differences, tasks))
}
