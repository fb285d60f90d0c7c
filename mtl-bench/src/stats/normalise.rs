//! Scores on a common scale, before they are averaged over tasks.
use super::{RunsByTasks, mean, std};
use crate::{Error, Result};

/// The two scores of a task that become 0 and 1: chance and human, chance and single-task.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Reference {
    /// Score that becomes 0.
    pub low: f64,
    /// Score that becomes 1.
    pub high: f64,
}

/// `(x − low)/(high − low)` with one reference per task.
///
/// # Errors
///
/// [`Error::Argument`] for another number of references, or one whose ends are equal or not finite.
pub fn normalise_by_reference(scores: &RunsByTasks, references: &[Reference]) -> Result<RunsByTasks> {
    if references.len() != scores.n_tasks() {
        let must = format!("one per task ({})", scores.n_tasks());
        return Err(Error::argument("references", must, references.len()));
    }
    for (task, r) in scores.tasks().iter().zip(references) {
        if r.low == r.high || !(r.high - r.low).is_finite() {
            let found = format!("{} and {} for task `{task}`", r.low, r.high);
            return Err(Error::argument("references", "two different finite scores", found));
        }
    }
    scores.map(|task, x| {
        let Reference { low, high } = references[task];
        (x - low) / (high - low)
    })
}

/// Lowest and highest run per task over all `methods`, as references. They depend on the methods that are compared,
/// so that adding a method changes every number.
///
/// # Errors
///
/// [`Error::Argument`] when there are no methods or their tasks differ.
pub fn min_max_references(methods: &[&RunsByTasks]) -> Result<Vec<Reference>> {
    Ok(pooled(methods)?
        .iter()
        .map(|values| Reference {
            low: values.iter().copied().fold(f64::INFINITY, f64::min),
            high: values.iter().copied().fold(f64::NEG_INFINITY, f64::max),
        })
        .collect())
}

/// References for z-scores per task over all `methods`: the mean becomes 0, one standard deviation above it 1.
///
/// # Errors
///
/// As [`min_max_references`].
pub fn z_score_references(methods: &[&RunsByTasks]) -> Result<Vec<Reference>> {
    let reference = |values: &Vec<f64>| {
        let low = mean(values);
        Reference { low, high: low + std(values).unwrap_or(0.0) }
    };
    Ok(pooled(methods)?.iter().map(reference).collect())
}

/// The scores of each task over all methods.
fn pooled(methods: &[&RunsByTasks]) -> Result<Vec<Vec<f64>>> {
    let Some(first) = methods.first() else {
        return Err(Error::argument("methods", "at least 1", 0));
    };
    methods.iter().try_for_each(|m| super::ranks::same_tasks(first, m))?;
    let task = |t: usize| methods.iter().flat_map(|m| m.columns()[t].iter().copied()).collect();
    Ok((0..first.n_tasks()).map(task).collect())
}
