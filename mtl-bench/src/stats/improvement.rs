//! Probability of improvement: Agarwal et al., arXiv 2108.13264; thresholds of Bouthillier et al., *Accounting for
//! Variance in Machine Learning Benchmarks*, MLSys 2021, arXiv 2103.03098.
use super::ranks::same_tasks;
use super::stratified::resample;
use super::{Bootstrap, Interval, IntervalMethod, Replicates, RunsByTasks, mean};
use crate::metrics::Better;
use crate::{Error, Result};

/// Probability that a run of one method beats a run of another on a task drawn at random.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Improvement {
    /// Mean over tasks of the share of pairs that are won, ties counted half.
    pub probability: f64,
    /// Bootstrap interval; `None` when it was not asked for or a task has one run.
    pub interval: Option<Interval>,
}

impl Improvement {
    /// Whether the interval lies above ½; `None` without an interval.
    pub fn is_significant(&self) -> Option<bool> {
        Some(self.interval?.low > 0.5)
    }

    /// Whether the interval lies above ½ and reaches over ¾; `None` without an interval.
    pub fn is_meaningful(&self) -> Option<bool> {
        Some(self.is_significant()? && self.interval?.high > 0.75)
    }
}

/// Share of the pairs (x, y) in which x is better, ties counted half; NaN when a side is empty.
pub(super) fn superiority(x: &[f64], y: &[f64], better: Better) -> f64 {
    let mut sorted: Vec<f64> = y.iter().map(|v| better.sign() * v).collect();
    sorted.sort_by(f64::total_cmp);
    let won = |v: &f64| {
        let v = better.sign() * v;
        let (below, not_above) = (sorted.partition_point(|w| *w < v), sorted.partition_point(|w| *w <= v));
        (below + not_above) as f64 / 2.0
    };
    x.iter().map(won).sum::<f64>() / (x.len() * y.len()) as f64
}

fn probability(a: &RunsByTasks, b: &RunsByTasks, better: Better) -> f64 {
    let shares: Vec<f64> =
        a.columns().iter().zip(b.columns()).map(|(x, y)| superiority(x, y, better)).collect();
    mean(&shares)
}

/// How the two sides of [`probability_of_improvement`] are resampled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Sides {
    /// Each side on its own.
    #[default]
    Independent,
    /// The same runs on both sides, which must be paired.
    Paired,
}

/// Probability that `a` improves on `b`, with a stratified bootstrap interval when every task has 2 runs or more.
///
/// ```
/// use mtl_bench::{metrics::Better, stats::*};
///
/// let a = RunsByTasks::from_rows(&[vec![0.9], vec![0.7]])?;
/// let b = RunsByTasks::from_rows(&[vec![0.8], vec![0.6]])?;
/// let options = Bootstrap { replicates: 200, ..Bootstrap::default() };
/// let found = probability_of_improvement(&a, &b, Better::Higher, Sides::Independent, &options)?;
/// assert_eq!(found.probability, 0.75);
/// # Ok::<(), mtl_bench::Error>(())
/// ```
///
/// # Errors
///
/// [`Error::Argument`] when the tasks differ, paired sides have different numbers of runs, or as for
/// [`super::percentile_bootstrap`].
pub fn probability_of_improvement(
    a: &RunsByTasks,
    b: &RunsByTasks,
    better: Better,
    sides: Sides,
    options: &Bootstrap,
) -> Result<Improvement> {
    same_tasks(a, b)?;
    options.check()?;
    let lengths = |s: &RunsByTasks| s.columns().iter().map(Vec::len).collect::<Vec<_>>();
    if sides == Sides::Paired && lengths(a) != lengths(b) {
        return Err(Error::argument("sides", "independent unless both have the same runs", "paired"));
    }
    let estimate = probability(a, b, better);
    if a.fewest_runs().min(b.fewest_runs()) < 2 {
        return Ok(Improvement { probability: estimate, interval: None });
    }
    let (mut x, mut y) = (a.clone(), b.clone());
    let draw = |replicate| {
        let mut rng = options.seed.stream("improvement-a", replicate);
        resample(a, &mut x, false, &mut rng);
        // The same stream again draws the same runs.
        let purpose = if sides == Sides::Paired { "improvement-a" } else { "improvement-b" };
        resample(b, &mut y, false, &mut options.seed.stream(purpose, replicate));
        probability(&x, &y, better)
    };
    let drawn = (0..u64::from(options.replicates)).map(draw).collect();
    let tail = (1.0 - options.level) / 2.0;
    let replicates = Replicates::new(estimate, drawn)?;
    let interval = replicates.between(tail, 1.0 - tail, options.level, IntervalMethod::StratifiedBootstrap);
    Ok(Improvement { probability: estimate, interval: Some(interval) })
}
