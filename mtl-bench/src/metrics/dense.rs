//! Dense prediction: a class for every position.
use super::Confusion;
use crate::Result;

/// Mean intersection over union over the classes that occur or are predicted; targets equal to `ignore` do not count.
///
/// ```
/// // Class 0: 1 of 2, class 1: 1 of 2; the position marked 255 is left out.
/// let miou = mtl_bench::metrics::mean_iou(&[0, 1, 1, 0], &[0, 1, 0, 255], 2, Some(255))?;
/// assert_eq!(miou, 0.5);
/// # Ok::<(), mtl_bench::Error>(())
/// ```
///
/// # Errors
///
/// [`crate::Error::Metric`] when nothing is left, lengths differ or a label is out of range.
pub fn mean_iou(predictions: &[i64], targets: &[i64], classes: usize, ignore: Option<i64>) -> Result<f64> {
    Ok(Confusion::of("miou", predictions, targets, classes, ignore)?.mean_iou())
}
