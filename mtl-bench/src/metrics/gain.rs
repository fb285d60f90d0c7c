//! Δm: the relative gain of a multi-task model over single-task baselines.
use super::Better;
use crate::{Error, Result};
use serde::{Deserialize, Serialize};

/// The metrics of one task, for a method and for its single-task baseline trained with the same budget.
#[derive(Debug, Clone, PartialEq)]
pub struct TaskScores {
    /// Task concerned.
    pub task: String,
    /// Per metric: name, direction, value of the method, value of the baseline.
    pub metrics: Vec<(String, Better, f64, f64)>,
}

/// How Δm averages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Averaging {
    /// Over the metrics of a task, then over tasks (LibMTL, M³ViT).
    Tasks,
    /// Over all metrics at once (Nash-MTL, FAMO).
    Metrics,
}

/// Which sign of Δm is an improvement.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum GainSign {
    /// Positive numbers are improvements (LibMTL).
    HigherIsBetter,
    /// Negative numbers are improvements (Nash-MTL, FAMO: "Δm% ↓").
    LowerIsBetter,
}

/// Conventions of [`delta_m`]; the default is a mean over tasks where positive means better.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DeltaMOptions {
    /// How to average.
    pub averaging: Averaging,
    /// Which sign is an improvement.
    pub sign: GainSign,
}

impl Default for DeltaMOptions {
    fn default() -> Self {
        Self { averaging: Averaging::Tasks, sign: GainSign::HigherIsBetter }
    }
}

/// Relative gain, in percent.
#[derive(Debug, Clone, PartialEq)]
pub struct DeltaM {
    /// Gain over all tasks.
    pub percent: f64,
    /// Gain of each task, in the order given; the mean over its metrics.
    pub per_task: Vec<f64>,
    /// The conventions used: print them beside the number.
    pub options: DeltaMOptions,
}

/// Relative multi-task gain 100·mean s·(M − B)/B, where s is −1 for a metric of which less is better.
///
/// ```
/// use mtl_bench::metrics::{Better, DeltaMOptions, TaskScores, delta_m};
///
/// let task = |name: &str, better, new, base| TaskScores {
///     task: name.into(),
///     metrics: vec![("metric".into(), better, new, base)],
/// };
/// let tasks = [task("a", Better::Higher, 0.88, 0.80), task("b", Better::Lower, 1.02, 1.00)];
/// let gain = delta_m(&tasks, DeltaMOptions::default())?;
/// assert!((gain.percent - (10.0 - 2.0) / 2.0).abs() < 1e-9);
/// # Ok::<(), mtl_bench::Error>(())
/// ```
///
/// # Errors
///
/// [`Error::Metric`] naming task and metric when a baseline is 0 or a value is not finite, or when a task has no metric.
pub fn delta_m(tasks: &[TaskScores], options: DeltaMOptions) -> Result<DeltaM> {
    if tasks.is_empty() {
        return Err(Error::metric("delta_m", "there are no tasks"));
    }
    let gains: Vec<Vec<f64>> =
        tasks.iter().map(|task| task_gains(task, options.sign)).collect::<Result<_>>()?;
    let mean = |values: &[f64]| values.iter().sum::<f64>() / values.len() as f64;
    let per_task: Vec<f64> = gains.iter().map(|g| mean(g)).collect();
    let percent = match options.averaging {
        Averaging::Tasks => mean(&per_task),
        Averaging::Metrics => mean(&gains.concat()),
    };
    Ok(DeltaM { percent, per_task, options })
}

fn task_gains(task: &TaskScores, sign: GainSign) -> Result<Vec<f64>> {
    let fault = |message: String| Err(Error::metric("delta_m", message).in_task(&task.task));
    if task.metrics.is_empty() {
        return fault("the task has no metric".to_owned());
    }
    let flip = if sign == GainSign::HigherIsBetter { 1.0 } else { -1.0 };
    let mut gains = Vec::with_capacity(task.metrics.len());
    for (name, better, new, base) in &task.metrics {
        if *base == 0.0 {
            return fault(format!("the baseline of `{name}` is 0, so there is no relative gain"));
        }
        if !new.is_finite() || !base.is_finite() {
            return fault(format!("`{name}` is {new} against a baseline of {base}"));
        }
        gains.push(100.0 * flip * better.sign() * (new - base) / base);
    }
    Ok(gains)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_baseline_of_zero_names_task_and_metric() {
        let task =
            TaskScores { task: "depth".into(), metrics: vec![("rmse".into(), Better::Lower, 1.0, 0.0)] };
        let error = delta_m(&[task], DeltaMOptions::default()).unwrap_err();
        insta::assert_snapshot!(error, @"`delta_m` of task `depth`: the baseline of `rmse` is 0, so there is no relative gain");
    }
}
