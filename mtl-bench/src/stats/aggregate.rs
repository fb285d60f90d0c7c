//! Aggregates over tasks: Agarwal et al., *Deep Reinforcement Learning at the Edge of the Statistical Precipice*,
//! NeurIPS 2021, arXiv 2108.13264. Normalise the scores per task first.
use super::{RunsByTasks, mean};
use std::fmt::Debug;

/// One number for a method over all tasks and runs.
pub trait Aggregate: Debug + Send + Sync {
    /// Name for tables.
    fn name(&self) -> &'static str;
    /// The number.
    fn eval(&self, scores: &RunsByTasks) -> f64;
}

/// Mean over tasks of the task means.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct MeanOfTasks;

/// Median over tasks of the task means.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct MedianOfTasks;

/// Interquartile mean: the mean of the middle half of all runs and tasks.
///
/// ```
/// use mtl_bench::stats::{Aggregate, Iqm, RunsByTasks};
///
/// let scores = RunsByTasks::from_rows(&[vec![0.0], vec![1.0], vec![2.0], vec![100.0]])?;
/// assert_eq!(Iqm.eval(&scores), 1.5);
/// # Ok::<(), mtl_bench::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Iqm;

/// How far the scores stay below `gamma` on average; lower is better.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct OptimalityGap {
    /// Score beyond which more does not count.
    pub gamma: f64,
}

impl Default for OptimalityGap {
    fn default() -> Self {
        Self { gamma: 1.0 }
    }
}

impl Aggregate for MeanOfTasks {
    fn name(&self) -> &'static str {
        "mean"
    }

    fn eval(&self, scores: &RunsByTasks) -> f64 {
        mean(&scores.task_means())
    }
}

impl Aggregate for MedianOfTasks {
    fn name(&self) -> &'static str {
        "median"
    }

    fn eval(&self, scores: &RunsByTasks) -> f64 {
        median(&scores.task_means())
    }
}

impl Aggregate for Iqm {
    fn name(&self) -> &'static str {
        "IQM"
    }

    fn eval(&self, scores: &RunsByTasks) -> f64 {
        interquartile_mean(&mut scores.flat())
    }
}

impl Aggregate for OptimalityGap {
    fn name(&self) -> &'static str {
        "optimality gap"
    }

    fn eval(&self, scores: &RunsByTasks) -> f64 {
        let capped: f64 = scores.columns().iter().flatten().map(|s| s.min(self.gamma)).sum();
        self.gamma - capped / scores.n_scores() as f64
    }
}

/// Mean without the lowest and the highest ⌊n/4⌋ values, which are reordered; NaN of nothing.
pub fn interquartile_mean(values: &mut [f64]) -> f64 {
    let cut = values.len() / 4;
    if cut == 0 {
        return mean(values);
    }
    // Selection instead of sorting: this runs once per bootstrap replicate.
    let (_, _, upper) = values.select_nth_unstable_by(cut - 1, f64::total_cmp);
    let kept = upper.len() - cut;
    upper.select_nth_unstable_by(kept, f64::total_cmp);
    mean(&upper[..kept])
}

/// Middle value, or the mean of the two middle values; NaN of nothing.
pub fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    super::quantile(&sorted, 0.5)
}
