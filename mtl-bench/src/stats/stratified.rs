//! Bootstrap of score matrices: runs inside each task (Agarwal et al., arXiv 2108.13264), tasks too, or nested
//! groups.
use super::{Aggregate, Bootstrap, Interval, IntervalMethod, Replicates, RunsByTasks, phi, t_critical};
use crate::{Error, Result};
use rand::{Rng, RngExt};

/// How the interval of an aggregate is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum AggregateRule {
    /// Percentile interval at levels widened for few runs: Hesterberg, *What Teachers Should Know about the
    /// Bootstrap*, The American Statistician 69, 2015.
    #[default]
    Expanded,
    /// Plain percentile interval, as in published tables; too narrow for few runs.
    Percentile,
    /// Tasks are resampled too: for claims about new tasks.
    TasksToo,
}

/// Interval of an aggregate over tasks, from resamples of the runs inside each task.
///
/// The plain percentile rule covers the truth in about 86 % of cases with 3 runs instead of 95 %; the expanded rule
/// takes the quantiles at α′ = Φ(−√(n/(n−1))·t), with t the critical value at T(n−1) degrees of freedom.
///
/// ```
/// use mtl_bench::stats::{AggregateRule, Bootstrap, Iqm, RunsByTasks, stratified_bootstrap};
///
/// let scores = RunsByTasks::from_rows(&[vec![0.5, 0.7, 0.2], vec![0.6, 0.8, 0.3], vec![0.4, 0.6, 0.4]])?;
/// let options = Bootstrap { replicates: 500, ..Bootstrap::default() };
/// let wide = stratified_bootstrap(&scores, &Iqm, AggregateRule::Expanded, &options)?;
/// let narrow = stratified_bootstrap(&scores, &Iqm, AggregateRule::Percentile, &options)?;
/// assert!(wide.half_width() > narrow.half_width());
/// # Ok::<(), mtl_bench::Error>(())
/// ```
///
/// # Errors
///
/// [`Error::Argument`] for a task with one run, for a single task with 5 runs or fewer (where no bootstrap works: use
/// the t interval of [`super::Estimate`]) unless the rule is `Percentile`, and as for
/// [`super::percentile_bootstrap`].
pub fn stratified_bootstrap(
    scores: &RunsByTasks,
    aggregate: &dyn Aggregate,
    rule: AggregateRule,
    options: &Bootstrap,
) -> Result<Interval> {
    check_runs(scores, rule)?;
    let replicates =
        stratified_replicates(scores, |s| aggregate.eval(s), rule == AggregateRule::TasksToo, options)?;
    let tail = match rule {
        AggregateRule::Expanded => expanded_tail(scores, options.level)?,
        _ => (1.0 - options.level) / 2.0,
    };
    let method = match rule {
        AggregateRule::Expanded => IntervalMethod::ExpandedBootstrap,
        AggregateRule::Percentile => IntervalMethod::StratifiedBootstrap,
        AggregateRule::TasksToo => IntervalMethod::TaskBootstrap,
    };
    Ok(replicates.between(tail, 1.0 - tail, options.level, method))
}

fn check_runs(scores: &RunsByTasks, rule: AggregateRule) -> Result<()> {
    let fewest = scores.fewest_runs();
    if fewest < 2 {
        return Err(Error::argument("scores", "of at least 2 runs per task for an interval", fewest));
    }
    if scores.n_tasks() == 1 && fewest <= 5 && rule != AggregateRule::Percentile {
        let must = "of more than one task or more than 5 runs; use the t interval of `Estimate`";
        return Err(Error::argument("scores", must, format!("1 task with {fewest} runs")));
    }
    Ok(())
}

/// α′ of the expanded rule. With unequal numbers of runs, (n−1)/n is averaged over tasks.
pub(super) fn expanded_tail(scores: &RunsByTasks, level: f64) -> Result<f64> {
    let runs = scores.columns().iter().map(|c| c.len() as f64);
    let df = runs.clone().map(|n| n - 1.0).sum();
    let shrink = runs.map(|n| (n - 1.0) / n).sum::<f64>() / scores.n_tasks() as f64;
    Ok(phi(-t_critical(level, df)? / shrink.sqrt()))
}

/// A statistic of resampled score matrices; replicate i draws from its own stream.
///
/// # Errors
///
/// [`Error::Argument`] for no replicates, a level out of range or a statistic that is not finite.
pub fn stratified_replicates(
    scores: &RunsByTasks,
    statistic: impl Fn(&RunsByTasks) -> f64,
    tasks_too: bool,
    options: &Bootstrap,
) -> Result<Replicates> {
    options.check()?;
    let mut sample = scores.clone();
    let draw = |replicate| {
        let mut rng = options.seed.stream("stratified-bootstrap", replicate);
        resample(scores, &mut sample, tasks_too, &mut rng);
        statistic(&sample)
    };
    let drawn = (0..u64::from(options.replicates)).map(draw).collect();
    Replicates::new(statistic(scores), drawn)
}

/// Fills `sample`, a copy of `scores`, with runs drawn with replacement inside each task.
pub(super) fn resample(scores: &RunsByTasks, sample: &mut RunsByTasks, tasks_too: bool, rng: &mut impl Rng) {
    let columns = scores.columns();
    for (task, target) in sample.columns_mut().iter_mut().enumerate() {
        let source = if tasks_too { &columns[rng.random_range(0..columns.len())] } else { &columns[task] };
        target.clear();
        target.extend((0..source.len()).map(|_| source[rng.random_range(0..source.len())]));
    }
}

/// Interval of a statistic of nested data: groups (judges, subjects, seeds) are resampled, then the values inside
/// them.
///
/// # Errors
///
/// [`Error::Argument`] for fewer than 2 groups, an empty group, values or statistics that are not finite, no
/// replicates or a level out of range.
pub fn hierarchical_bootstrap(
    groups: &[Vec<f64>],
    statistic: impl Fn(&[Vec<f64>]) -> f64,
    options: &Bootstrap,
) -> Result<Interval> {
    options.check()?;
    if groups.len() < 2 {
        return Err(Error::argument("groups", "at least 2", groups.len()));
    }
    groups.iter().try_for_each(|g| super::check_values(g, 1))?;
    let mut sample = groups.to_vec();
    let draw = |replicate| {
        let mut rng = options.seed.stream("hierarchical-bootstrap", replicate);
        for target in &mut sample {
            let source = &groups[rng.random_range(0..groups.len())];
            target.clear();
            target.extend((0..source.len()).map(|_| source[rng.random_range(0..source.len())]));
        }
        statistic(&sample)
    };
    let drawn = (0..u64::from(options.replicates)).map(draw).collect();
    let tail = (1.0 - options.level) / 2.0;
    let replicates = Replicates::new(statistic(groups), drawn)?;
    Ok(replicates.between(tail, 1.0 - tail, options.level, IntervalMethod::HierarchicalBootstrap))
}
