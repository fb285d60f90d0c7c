//! Ranks with ties averaged, average ranks over tasks, and counts of wins.
use super::RunsByTasks;
use crate::metrics::Better;
use crate::{Error, Result};

/// Ranks of `values`, 1 for the best, ties averaged; and Σ(t³ − t) over groups of t ties.
pub(super) fn tied_ranks(values: &[f64], better: Better) -> (Vec<f64>, f64) {
    let mut order: Vec<usize> = (0..values.len()).collect();
    order.sort_by(|&a, &b| (better.sign() * values[b]).total_cmp(&(better.sign() * values[a])));
    let (mut ranks, mut tie_term, mut before) = (vec![0.0; values.len()], 0.0, 0.0);
    for group in order.chunk_by(|&a, &b| values[a] == values[b]) {
        let size = group.len() as f64;
        for &i in group {
            ranks[i] = before + (size + 1.0) / 2.0;
        }
        before += size;
        tie_term += size.powi(3) - size;
    }
    (ranks, tie_term)
}

/// Ranks of `values`, 1 for the best, ties averaged.
///
/// ```
/// use mtl_bench::{metrics::Better, stats::ranks};
///
/// assert_eq!(ranks(&[0.3, 0.9, 0.3], Better::Higher)?, [2.5, 1.0, 2.5]);
/// # Ok::<(), mtl_bench::Error>(())
/// ```
///
/// # Errors
///
/// [`Error::Argument`] when there are no values or one is not finite.
pub fn ranks(values: &[f64], better: Better) -> Result<Vec<f64>> {
    super::check_values(values, 1)?;
    Ok(tied_ranks(values, better).0)
}

/// Average rank of each method over all blocks `[blocks, methods]`, 1 for the best.
///
/// # Errors
///
/// [`Error::Argument`] when there are no blocks, their lengths differ, or a score is not finite.
pub fn average_ranks(blocks: &[Vec<f64>], better: Better) -> Result<Vec<f64>> {
    check_blocks(blocks, 1)?;
    let mut sums = vec![0.0; blocks[0].len()];
    for block in blocks {
        for (sum, rank) in sums.iter_mut().zip(tied_ranks(block, better).0) {
            *sum += rank;
        }
    }
    Ok(sums.iter().map(|s| s / blocks.len() as f64).collect())
}

/// Checks scores `[blocks, methods]`.
pub(super) fn check_blocks(blocks: &[Vec<f64>], at_least_methods: usize) -> Result<()> {
    let methods = blocks.first().map_or(0, Vec::len);
    if methods < at_least_methods {
        return Err(Error::argument("blocks", format!("of at least {at_least_methods} methods"), methods));
    }
    for (i, block) in blocks.iter().enumerate() {
        if block.len() != methods {
            let found = format!("{} in block {i}", block.len());
            return Err(Error::argument("blocks", format!("of {methods} methods each"), found));
        }
        if let Some(j) = block.iter().position(|v| !v.is_finite()) {
            let found = format!("{} for method {j} in block {i}", block[j]);
            return Err(Error::argument("blocks", "finite", found));
        }
    }
    Ok(())
}

/// On how many tasks the mean of `a` is better than, equal to and worse than the mean of `b`.
///
/// # Errors
///
/// [`Error::Argument`] when the tasks differ.
pub fn win_tie_loss(a: &RunsByTasks, b: &RunsByTasks, better: Better) -> Result<(usize, usize, usize)> {
    same_tasks(a, b)?;
    let mut counts = (0, 0, 0);
    for (x, y) in a.task_means().into_iter().zip(b.task_means()) {
        if better.is_better(x, y) {
            counts.0 += 1;
        } else if x == y {
            counts.1 += 1;
        } else {
            counts.2 += 1;
        }
    }
    Ok(counts)
}

/// The task with the worst mean, and that mean; the first of several.
pub fn worst_task(scores: &RunsByTasks, better: Better) -> (usize, f64) {
    let means = scores.task_means();
    let worst = (1..means.len()).fold(0, |w, i| if better.is_better(means[w], means[i]) { i } else { w });
    (worst, means[worst])
}

pub(super) fn same_tasks(a: &RunsByTasks, b: &RunsByTasks) -> Result<()> {
    if a.tasks() == b.tasks() {
        return Ok(());
    }
    let missing = a.tasks().iter().filter(|t| !b.tasks().contains(t));
    let names: Vec<&String> = missing.chain(b.tasks().iter().filter(|t| !a.tasks().contains(t))).collect();
    Err(Error::argument("tasks", "the same in both, in the same order", format!("different in {names:?}")))
}
