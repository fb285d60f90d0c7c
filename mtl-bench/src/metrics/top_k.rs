//! Top-k accuracy: Russakovsky et al., *ImageNet Large Scale Visual Recognition Challenge*, IJCV 2015, arXiv 1409.0575.
use super::{probability::labelled_rows, rank_of};
use crate::{Error, Result};

/// Share of examples whose label is among the k classes with the largest scores, `[examples, classes]`.
///
/// Of equal scores the class with the smaller index comes first.
///
/// ```
/// let scores = [0.5, 0.3, 0.2, 0.5, 0.3, 0.2];
/// assert_eq!(mtl_bench::metrics::top_k_accuracy(&scores, &[1, 2], 3, 2)?, 0.5);
/// # Ok::<(), mtl_bench::Error>(())
/// ```
///
/// # Errors
///
/// [`Error::Metric`] when there are no examples, sizes do not fit, a label is out of range or a score is not finite;
/// [`Error::Argument`] unless k is from 1 to the number of classes.
pub fn top_k_accuracy<T: Into<f64> + Copy>(
    scores: &[T],
    labels: &[i64],
    classes: usize,
    k: usize,
) -> Result<f64> {
    let rows = labelled_rows("top_k_accuracy", scores, labels, classes)?;
    if !(1..=classes).contains(&k) {
        return Err(Error::argument("k", format!("from 1 to {classes}"), k));
    }
    let mut hits = 0;
    for (row, label) in &rows {
        hits += usize::from(rank_of(row, *label)? <= k);
    }
    Ok(hits as f64 / rows.len() as f64)
}
