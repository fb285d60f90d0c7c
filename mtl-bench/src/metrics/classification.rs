//! Accuracy, F1 and the confusion matrix.
use super::same_length;
use crate::{Error, Result};

/// The table of counts grows with the square of the number of classes: 2 GiB.
const MAX_CLASSES: usize = 1 << 14;

/// Share of predictions equal to their target.
///
/// # Errors
///
/// [`Error::Metric`] when there are no examples or the lengths differ.
pub fn accuracy(predictions: &[i64], targets: &[i64]) -> Result<f64> {
    same_length("accuracy", predictions.len(), targets.len())?;
    let correct = predictions.iter().zip(targets).filter(|(p, t)| p == t).count();
    Ok(correct as f64 / targets.len() as f64)
}

/// Mean over `classes` of the F1 score; a class with no target and no prediction is left out.
///
/// # Errors
///
/// [`Error::Metric`] as [`Confusion::of`].
pub fn macro_f1(predictions: &[i64], targets: &[i64], classes: usize) -> Result<f64> {
    Ok(Confusion::of("macro_f1", predictions, targets, classes, None)?.macro_f1())
}

/// Counts of (target, prediction) pairs.
///
/// ```
/// use mtl_bench::metrics::Confusion;
///
/// let mut counts = Confusion::new(2);
/// counts.add(0, 0)?;
/// counts.add(0, 1)?; // target 0, predicted 1
/// assert_eq!(counts.accuracy(), 0.5);
/// # Ok::<(), mtl_bench::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Confusion {
    classes: usize,
    counts: Vec<u64>,
}

impl Confusion {
    /// No examples yet.
    pub fn new(classes: usize) -> Self {
        Self { classes, counts: vec![0; classes * classes] }
    }

    /// Counts all pairs; targets equal to `ignore` are skipped. `metric` is the name in errors.
    ///
    /// # Errors
    ///
    /// [`Error::Metric`] when there are no examples, lengths differ or a label is out of range.
    pub fn of(
        metric: &'static str,
        predictions: &[i64],
        targets: &[i64],
        classes: usize,
        ignore: Option<i64>,
    ) -> Result<Self> {
        same_length(metric, predictions.len(), targets.len())?;
        if classes > MAX_CLASSES {
            return Err(Error::metric(
                metric,
                format!("at most {MAX_CLASSES} classes are supported, not {classes}"),
            ));
        }
        let mut counts = Self::new(classes);
        for (i, (&p, &t)) in predictions.iter().zip(targets).enumerate() {
            if Some(t) != ignore {
                counts.add(t, p).map_err(|_| {
                    let message = format!(
                        "labels must be in 0..{classes}, but example {i} has target {t} and prediction {p}"
                    );
                    Error::metric(metric, message)
                })?;
            }
        }
        if counts.total() == 0 {
            return Err(Error::metric(metric, "every target is ignored"));
        }
        Ok(counts)
    }

    /// Counts one example.
    ///
    /// # Errors
    ///
    /// [`Error::Metric`] when a label is not in `0..classes`.
    pub fn add(&mut self, target: i64, prediction: i64) -> Result<()> {
        let class = |label: i64| usize::try_from(label).ok().filter(|&c| c < self.classes);
        let (Some(t), Some(p)) = (class(target), class(prediction)) else {
            let message = format!("labels must be in 0..{}, but are {target} and {prediction}", self.classes);
            return Err(Error::metric("confusion", message));
        };
        self.counts[t * self.classes + p] += 1;
        Ok(())
    }

    /// Examples of `target` that were taken for `prediction`; 0 for classes that do not exist.
    pub fn count(&self, target: usize, prediction: usize) -> u64 {
        if target < self.classes && prediction < self.classes {
            self.counts[target * self.classes + prediction]
        } else {
            0
        }
    }

    /// Number of classes.
    pub fn classes(&self) -> usize {
        self.classes
    }

    /// Number of examples.
    pub fn total(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// Share of correct examples; 0 when there are none.
    pub fn accuracy(&self) -> f64 {
        let correct: u64 = (0..self.classes).map(|c| self.count(c, c)).sum();
        correct as f64 / self.total().max(1) as f64
    }

    /// Per class: true positives, targets, predictions.
    fn class_counts(&self) -> impl Iterator<Item = (u64, u64, u64)> + '_ {
        (0..self.classes).map(|c| {
            let targets = (0..self.classes).map(|p| self.count(c, p)).sum();
            let predictions = (0..self.classes).map(|t| self.count(t, c)).sum();
            (self.count(c, c), targets, predictions)
        })
    }

    /// Precision, recall and F1 of each class.
    pub fn per_class(&self) -> Vec<ClassScores> {
        let scores = |(hits, targets, predictions): (u64, u64, u64)| ClassScores {
            precision: hits as f64 / predictions.max(1) as f64,
            recall: hits as f64 / targets.max(1) as f64,
            f1: 2.0 * hits as f64 / (targets + predictions).max(1) as f64,
            support: targets,
        };
        self.class_counts().map(scores).collect()
    }

    /// F1 of the counts summed over classes; with one label per example it equals [`Confusion::accuracy`].
    pub fn micro_f1(&self) -> f64 {
        self.accuracy()
    }

    /// Mean F1 over classes, weighted by their targets; 0 when there are no examples.
    pub fn weighted_f1(&self) -> f64 {
        let sum: f64 = self.per_class().iter().map(|c| c.support as f64 * c.f1).sum();
        sum / self.total().max(1) as f64
    }

    /// Mean recall over the classes that occur as a target, also called mean class accuracy.
    pub fn balanced_accuracy(&self) -> f64 {
        mean(self.per_class().into_iter().filter(|c| c.support > 0).map(|c| c.recall))
    }

    /// Mean F1 over the classes that occur as a target or a prediction.
    pub fn macro_f1(&self) -> f64 {
        mean(
            self.class_counts()
                .filter(|c| c.1 + c.2 > 0)
                .map(|(hits, t, p)| 2.0 * hits as f64 / (t + p) as f64),
        )
    }

    /// Intersection over union of each class; `None` for a class that neither occurs nor is predicted.
    pub fn iou(&self) -> Vec<Option<f64>> {
        self.class_counts()
            .map(|(hits, t, p)| (t + p > 0).then(|| hits as f64 / (t + p - hits) as f64))
            .collect()
    }

    /// Mean intersection over union over the classes that occur or are predicted.
    pub fn mean_iou(&self) -> f64 {
        mean(self.iou().into_iter().flatten())
    }
}

/// Scores of one class; a quotient without cases is 0.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ClassScores {
    /// Share of its predictions that are right.
    pub precision: f64,
    /// Share of its targets that are found.
    pub recall: f64,
    /// Harmonic mean of both.
    pub f1: f64,
    /// Number of its targets.
    pub support: u64,
}

fn mean(values: impl Iterator<Item = f64>) -> f64 {
    let (sum, n) = values.fold((0.0, 0_usize), |(sum, n), v| (sum + v, n + 1));
    sum / n.max(1) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_and_labels_are_checked() {
        insta::assert_snapshot!(accuracy(&[1], &[1, 2]).unwrap_err(), @"`accuracy`: 1 predictions, but 2 targets");
        insta::assert_snapshot!(accuracy(&[], &[]).unwrap_err().in_task("parity"), @"`accuracy` of task `parity`: there are no examples");
        insta::assert_snapshot!(macro_f1(&[0, 3], &[0, 1], 3).unwrap_err(), @"`macro_f1`: labels must be in 0..3, but example 1 has target 1 and prediction 3");
    }

    #[test]
    fn an_absent_class_does_not_count() {
        assert_eq!(macro_f1(&[0, 1], &[0, 1], 5).unwrap(), 1.0);
        let counts = Confusion::of("miou", &[0, 0], &[0, 0], 3, None).unwrap();
        assert_eq!(counts.iou(), [Some(1.0), None, None]);
    }
}
