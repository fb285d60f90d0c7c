//! Precision, recall and F1 of tasks with any subset of labels: Zhang and Zhou, *A Review on Multi-Label Learning
//! Algorithms*, TKDE 26, 2014; CF1 and OF1 as in Wang et al., *CNN-RNN*, CVPR 2016, arXiv 1604.04573.
use super::{finite, same_length};
use crate::{Error, Result};

/// Which labels are predicted from the scores.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Selection {
    /// Those with at least this score.
    AtLeast(f64),
    /// This many with the largest scores, of equal ones those with the smaller index; at least 1.
    Top(usize),
}

/// Scores of predicted label sets, each from 0 to 1; a quotient without cases counts as 0.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct MultiLabelScores {
    /// CP: precision averaged over labels.
    pub class_precision: f64,
    /// CR: recall averaged over labels.
    pub class_recall: f64,
    /// CF1: harmonic mean of CP and CR, not the mean of the F1 of the labels.
    pub class_f1: f64,
    /// OP: precision over all pairs of example and label.
    pub overall_precision: f64,
    /// OR: recall over all pairs.
    pub overall_recall: f64,
    /// OF1: harmonic mean of OP and OR.
    pub overall_f1: f64,
    /// Share of wrong pairs; lower is better.
    pub hamming_loss: f64,
    /// Share of examples with every label right.
    pub subset_accuracy: f64,
    /// F1 averaged over examples.
    pub example_f1: f64,
}

/// Scores label sets; `scores` and `targets` are `[examples, labels]`, row by row, targets 0 or 1.
///
/// ```
/// use mtl_bench::metrics::{Selection, multi_label_scores};
///
/// let scores = multi_label_scores(&[0.9, 0.2, 0.8, 0.7], &[1.0, 0.0, 1.0, 0.0], 2, Selection::AtLeast(0.5))?;
/// assert_eq!((scores.subset_accuracy, scores.hamming_loss), (0.5, 0.25));
/// # Ok::<(), mtl_bench::Error>(())
/// ```
///
/// # Errors
///
/// [`Error::Metric`] when there are no examples, sizes do not fit, a score is not finite or a target is neither 0 nor 1;
/// [`Error::Argument`] for a selection out of range.
pub fn multi_label_scores<T: Into<f64> + Copy>(
    scores: &[T],
    targets: &[T],
    labels: usize,
    selection: Selection,
) -> Result<MultiLabelScores> {
    const NAME: &str = "multi_label";
    same_length(NAME, scores.len(), targets.len())?;
    if labels == 0 || !scores.len().is_multiple_of(labels) {
        let message = format!("{} scores are not a multiple of {labels} labels", scores.len());
        return Err(Error::metric(NAME, message));
    }
    finite(NAME, "score", scores.iter().map(|&s| s.into()))?;
    match selection {
        Selection::Top(k) if !(1..=labels).contains(&k) => {
            return Err(Error::argument("top", format!("from 1 to {labels}"), k));
        }
        Selection::AtLeast(t) if t.is_nan() => return Err(Error::argument("threshold", "a number", t)),
        _ => {}
    }
    if let Some((i, t)) =
        targets.iter().map(|&t| t.into()).enumerate().find(|&(_, t): &(_, f64)| t != 0.0 && t != 1.0)
    {
        return Err(Error::metric(NAME, format!("targets must be 0 or 1, but target {i} is {t}")));
    }
    let examples = scores.len() / labels;
    let mut per_label = vec![Counts::default(); labels];
    let (mut exact, mut f1_sum, mut wrong) = (0, 0.0, 0);
    for (row, truth) in scores.chunks_exact(labels).zip(targets.chunks_exact(labels)) {
        let row: Vec<f64> = row.iter().map(|&s| s.into()).collect();
        let mut own = Counts::default();
        for (label, predicted) in select(&row, selection).into_iter().enumerate() {
            let expected = truth[label].into() == 1.0;
            own.add(predicted, expected);
            per_label[label].add(predicted, expected);
        }
        let errors = own.predicted + own.expected - 2 * own.hits;
        wrong += errors;
        exact += usize::from(errors == 0);
        f1_sum += own.f1();
    }
    let mut overall = Counts::default();
    for label in &per_label {
        overall.hits += label.hits;
        overall.predicted += label.predicted;
        overall.expected += label.expected;
    }
    let mean = |value: fn(&Counts) -> f64| per_label.iter().map(value).sum::<f64>() / labels as f64;
    let (class_precision, class_recall) = (mean(Counts::precision), mean(Counts::recall));
    let sum = class_precision + class_recall;
    Ok(MultiLabelScores {
        class_precision,
        class_recall,
        class_f1: if sum > 0.0 { 2.0 * class_precision * class_recall / sum } else { 0.0 },
        overall_precision: overall.precision(),
        overall_recall: overall.recall(),
        overall_f1: overall.f1(),
        hamming_loss: wrong as f64 / scores.len() as f64,
        subset_accuracy: exact as f64 / examples as f64,
        example_f1: f1_sum / examples as f64,
    })
}

fn select(row: &[f64], selection: Selection) -> Vec<bool> {
    match selection {
        Selection::AtLeast(threshold) => row.iter().map(|&s| s >= threshold).collect(),
        Selection::Top(k) => {
            let mut order: Vec<usize> = (0..row.len()).collect();
            order.sort_by(|&a, &b| (row[b] + 0.0).total_cmp(&(row[a] + 0.0)));
            let mut chosen = vec![false; row.len()];
            order.into_iter().take(k).for_each(|label| chosen[label] = true);
            chosen
        }
    }
}

#[derive(Debug, Clone, Copy, Default)]
struct Counts {
    hits: usize,
    predicted: usize,
    expected: usize,
}

impl Counts {
    fn add(&mut self, predicted: bool, expected: bool) {
        self.hits += usize::from(predicted && expected);
        self.predicted += usize::from(predicted);
        self.expected += usize::from(expected);
    }

    fn precision(&self) -> f64 {
        self.hits as f64 / self.predicted.max(1) as f64
    }

    fn recall(&self) -> f64 {
        self.hits as f64 / self.expected.max(1) as f64
    }

    fn f1(&self) -> f64 {
        2.0 * self.hits as f64 / (self.predicted + self.expected).max(1) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_are_named() {
        let fault = |scores: &[f64], targets: &[f64], selection| {
            multi_label_scores(scores, targets, 2, selection).unwrap_err()
        };
        insta::assert_snapshot!(fault(&[0.0, 1.0], &[0.0, 0.5], Selection::Top(1)), @"`multi_label`: targets must be 0 or 1, but target 1 is 0.5");
        insta::assert_snapshot!(fault(&[0.0, 1.0], &[0.0, 1.0], Selection::Top(3)), @"`top` must be from 1 to 2, but is 3");
        insta::assert_snapshot!(fault(&[0.0; 3], &[0.0; 3], Selection::Top(1)), @"`multi_label`: 3 scores are not a multiple of 2 labels");
    }
}
