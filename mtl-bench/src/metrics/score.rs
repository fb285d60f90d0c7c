//! The score of a task from the raw outputs of its head.
use super::{Confusion, accuracy, mean_average_precision, mse};
use crate::{Error, Result};
use mtl_core::task::{Metric, TaskKind, TaskSpec};

/// What the outputs are compared with.
#[derive(Debug, Clone, Copy)]
pub enum Targets<'a> {
    /// Class indices: `[examples]`, or `[examples, height, width]` for a dense task.
    Labels(&'a [i64]),
    /// Numbers in the layout of the outputs.
    Values(&'a [f32]),
}

/// Scores raw `outputs` by the task's own metric.
///
/// Outputs are flat, row by row: logits `[examples, classes]`, scores `[examples, labels]`, numbers `[examples, dims]`,
/// or for dense tasks `[examples, classes, height, width]`. The class with the largest logit is the prediction, the first
/// of several.
///
/// ```
/// use mtl_bench::metrics::{Targets, score};
/// use mtl_core::TaskSpec;
///
/// let parity = TaskSpec::classification("parity", 2);
/// let logits = [0.1, 0.9, 2.0, -1.0];
/// assert_eq!(score(&parity, &logits, Targets::Labels(&[1, 1]))?, 0.5);
/// # Ok::<(), mtl_bench::Error>(())
/// ```
///
/// # Errors
///
/// [`Error::Metric`] naming metric and task, when sizes do not fit, a number is not finite or the task has no such metric.
pub fn score(task: &TaskSpec, outputs: &[f32], targets: Targets<'_>) -> Result<f64> {
    let name = task.metric.name();
    let attempt = || {
        super::finite(name, "output", outputs.iter().map(|&v| f64::from(v)))?;
        let (classes, area) = match task.kind {
            TaskKind::DenseClassification { classes, height, width } => (classes, height * width),
            _ => (task.outputs(), 1),
        };
        let (classes, area) = (usize::try_from(classes).unwrap_or(0), usize::try_from(area).unwrap_or(0));
        match (task.metric, targets) {
            (Metric::Accuracy, Targets::Labels(labels)) => {
                accuracy(&predictions(name, outputs, classes, area)?, labels)
            }
            (Metric::MacroF1, Targets::Labels(labels)) => {
                let predictions = predictions(name, outputs, classes, area)?;
                Ok(Confusion::of(name, &predictions, labels, classes, None)?.macro_f1())
            }
            (Metric::MeanIou, Targets::Labels(labels)) => {
                let predictions = predictions(name, outputs, classes, area)?;
                Ok(Confusion::of(name, &predictions, labels, classes, None)?.mean_iou())
            }
            (Metric::MeanSquaredError, Targets::Values(values)) => mse(outputs, values),
            (Metric::MeanAveragePrecision, Targets::Values(values)) => {
                mean_average_precision(outputs, values, classes)
            }
            (_, Targets::Labels(_)) => Err(Error::metric(name, "targets must be numbers, but are labels")),
            (_, Targets::Values(_)) => Err(Error::metric(name, "targets must be labels, but are numbers")),
        }
    };
    attempt().map_err(|e: Error| e.in_task(&task.name))
}

/// The largest of `classes` logits at each position; logits are `[examples, classes, area]`.
fn predictions(name: &'static str, outputs: &[f32], classes: usize, area: usize) -> Result<Vec<i64>> {
    let block = classes * area;
    if block == 0 || !outputs.len().is_multiple_of(block) {
        let message =
            format!("{} outputs are not a multiple of {classes} classes × {area} positions", outputs.len());
        return Err(Error::metric(name, message));
    }
    let mut labels = Vec::with_capacity(outputs.len() / classes);
    for example in outputs.chunks_exact(block) {
        for position in 0..area {
            let mut best = 0;
            for class in 1..classes {
                if example[class * area + position] > example[best * area + position] {
                    best = class;
                }
            }
            labels.push(best as i64);
        }
    }
    Ok(labels)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dense_outputs_are_read_channel_first() {
        let kind = TaskKind::DenseClassification { classes: 2, height: 1, width: 2 };
        let task = TaskSpec::new("edges", kind);
        // Position 0: class 1 wins; position 1: class 0.
        let score = score(&task, &[0.0, 5.0, 1.0, 2.0], Targets::Labels(&[1, 0])).unwrap();
        assert_eq!(score, 1.0);
    }

    #[test]
    fn faults_name_the_task() {
        let task = TaskSpec::classification("parity", 2);
        let fault = |outputs: &[f32], targets| score(&task, outputs, targets).unwrap_err().to_string();
        insta::assert_snapshot!(fault(&[f32::NAN, 0.0], Targets::Labels(&[0])), @"`accuracy` of task `parity`: output 0 is NaN");
        insta::assert_snapshot!(fault(&[0.0; 3], Targets::Labels(&[0])), @"`accuracy` of task `parity`: 3 outputs are not a multiple of 2 classes × 1 positions");
        insta::assert_snapshot!(fault(&[0.0; 2], Targets::Values(&[0.0])), @"`accuracy` of task `parity`: targets must be labels, but are numbers");
    }
}
