//! Proper scores of predicted probabilities: Brier, *Verification of Forecasts Expressed in Terms of Probability*, Monthly
//! Weather Review 78, 1950; Gneiting and Raftery, *Strictly Proper Scoring Rules*, JASA 102, 2007.
use super::{finite, same_length};
use crate::{Error, Result};

/// Two Brier scores are in use; they differ by the number of classes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Brier {
    /// Squared errors summed over classes, from 0 to 2 (Brier 1950).
    pub sum: f64,
    /// Squared errors averaged over classes.
    pub mean: f64,
}

/// Brier score of class probabilities `[examples, classes]`, row by row.
///
/// ```
/// let brier = mtl_bench::metrics::brier(&[0.8, 0.2], &[0], 2)?;
/// assert!((brier.sum - 0.08).abs() < 1e-12 && (brier.mean - 0.04).abs() < 1e-12);
/// # Ok::<(), mtl_bench::Error>(())
/// ```
///
/// # Errors
///
/// [`Error::Metric`] when there are no examples, sizes do not fit, a label is out of range, or a row is not a distribution.
pub fn brier<T: Into<f64> + Copy>(probabilities: &[T], labels: &[i64], classes: usize) -> Result<Brier> {
    let rows = distributions("brier", probabilities, labels, classes)?;
    let squares = |(row, label): &(Vec<f64>, usize)| {
        row.iter().enumerate().map(|(c, p)| (p - f64::from(u8::from(c == *label))).powi(2)).sum::<f64>()
    };
    let sum = rows.iter().map(squares).sum::<f64>() / rows.len() as f64;
    Ok(Brier { sum, mean: sum / classes as f64 })
}

/// Brier score of probabilities of the positive class: their mean squared error, from 0 to 1.
///
/// # Errors
///
/// [`Error::Metric`] when there are no examples, lengths differ or a probability is not in \[0, 1\].
pub fn binary_brier<T: Into<f64> + Copy>(probabilities: &[T], positive: &[bool]) -> Result<f64> {
    same_length("brier", probabilities.len(), positive.len())?;
    let mut sum = 0.0;
    for (i, (&p, &positive)) in probabilities.iter().zip(positive).enumerate() {
        let p: f64 = p.into();
        in_unit("brier", i, p)?;
        sum += (p - f64::from(u8::from(positive))).powi(2);
    }
    Ok(sum / positive.len() as f64)
}

/// Mean negative log-likelihood of the labels, in nats; a probability of 0 counts as 2⁻⁵², as in scikit-learn.
///
/// # Errors
///
/// [`Error::Metric`] as [`brier()`].
pub fn negative_log_likelihood<T: Into<f64> + Copy>(
    probabilities: &[T],
    labels: &[i64],
    classes: usize,
) -> Result<f64> {
    let rows = distributions("nll", probabilities, labels, classes)?;
    let sum: f64 = rows.iter().map(|(row, label)| -row[*label].max(f64::EPSILON).ln()).sum();
    Ok(sum / rows.len() as f64)
}

fn in_unit(metric: &'static str, i: usize, p: f64) -> Result<()> {
    if (0.0..=1.0).contains(&p) {
        return Ok(());
    }
    Err(Error::metric(metric, format!("probability {i} is {p}, not in [0, 1]")))
}

/// Rows `[examples, columns]` with their labels, checked to fit.
pub(super) fn labelled_rows<T: Into<f64> + Copy>(
    metric: &'static str,
    values: &[T],
    labels: &[i64],
    columns: usize,
) -> Result<Vec<(Vec<f64>, usize)>> {
    if labels.is_empty() {
        return Err(Error::metric(metric, "there are no examples"));
    }
    if columns == 0 || labels.len().checked_mul(columns) != Some(values.len()) {
        let message = format!("{} numbers are not {} examples × {columns}", values.len(), labels.len());
        return Err(Error::metric(metric, message));
    }
    finite(metric, "number", values.iter().map(|&v| v.into()))?;
    let row = |(i, (row, &label)): (usize, (&[T], &i64))| match usize::try_from(label) {
        Ok(label) if label < columns => Ok((row.iter().map(|&v| v.into()).collect(), label)),
        _ => {
            Err(Error::metric(metric, format!("labels must be in 0..{columns}, but example {i} has {label}")))
        }
    };
    values.chunks_exact(columns).zip(labels).enumerate().map(row).collect()
}

fn distributions<T: Into<f64> + Copy>(
    metric: &'static str,
    probabilities: &[T],
    labels: &[i64],
    classes: usize,
) -> Result<Vec<(Vec<f64>, usize)>> {
    // Softmax in half precision sums to 1 within 2⁻¹⁰.
    const SLACK: f64 = 2e-3;
    let rows = labelled_rows(metric, probabilities, labels, classes)?;
    for (i, (row, _)) in rows.iter().enumerate() {
        for (c, &p) in row.iter().enumerate() {
            in_unit(metric, i * classes + c, p)?;
        }
        let sum: f64 = row.iter().sum();
        if (sum - 1.0).abs() > SLACK {
            return Err(Error::metric(
                metric,
                format!("the probabilities of example {i} sum to {sum:.4}, not 1"),
            ));
        }
    }
    Ok(rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_are_named() {
        let fault = |p: &[f64], labels: &[i64]| brier(p, labels, 2).unwrap_err();
        insta::assert_snapshot!(fault(&[0.5, 0.4], &[0]), @"`brier`: the probabilities of example 0 sum to 0.9000, not 1");
        insta::assert_snapshot!(fault(&[1.5, -0.5], &[0]), @"`brier`: probability 0 is 1.5, not in [0, 1]");
        insta::assert_snapshot!(fault(&[0.5, 0.5], &[2]), @"`brier`: labels must be in 0..2, but example 0 has 2");
        insta::assert_snapshot!(fault(&[0.5], &[0]), @"`brier`: 1 numbers are not 1 examples × 2");
        insta::assert_snapshot!(fault(&[f64::NAN, 0.5], &[0]), @"`brier`: number 0 is NaN");
    }
}
