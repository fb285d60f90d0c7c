//! Area under the ROC curve: Hanley and McNeil, *The Meaning and Use of the Area under a ROC Curve*, Radiology 143, 1982.
use super::{finite, probability::labelled_rows, same_length};
use crate::{Error, Result};

/// Probability that a positive example scores above a negative one, ties counting half.
///
/// ```
/// assert_eq!(mtl_bench::metrics::auroc(&[0.9, 0.5, 0.5, 0.1], &[true, true, false, false])?, 0.875);
/// # Ok::<(), mtl_bench::Error>(())
/// ```
///
/// # Errors
///
/// [`Error::Metric`] when all examples are of one class, lengths differ or a score is not finite.
pub fn auroc<T: Into<f64> + Copy>(scores: &[T], positive: &[bool]) -> Result<f64> {
    same_length("auroc", scores.len(), positive.len())?;
    finite("auroc", "score", scores.iter().map(|&s| s.into()))?;
    let positives = positive.iter().filter(|&&p| p).count();
    let negatives = positive.len() - positives;
    if positives == 0 || negatives == 0 {
        let which = if positives == 0 { "no example is positive" } else { "no example is negative" };
        return Err(Error::metric("auroc", which));
    }
    let mut ranked: Vec<(f64, bool)> =
        scores.iter().map(|&s| s.into()).zip(positive.iter().copied()).collect();
    ranked.sort_by(|a, b| a.0.total_cmp(&b.0));
    let (mut below, mut area) = (0.0, 0.0);
    for group in ranked.chunk_by(|a, b| a.0 == b.0) {
        let hits = group.iter().filter(|(_, p)| *p).count() as f64;
        let misses = group.len() as f64 - hits;
        area += hits * (below + 0.5 * misses);
        below += misses;
    }
    Ok(area / (positives as f64 * negatives as f64))
}

/// Mean over classes of the [`auroc`] of each class against the rest; `scores` are `[examples, classes]`.
///
/// # Errors
///
/// [`Error::Metric`] when a class has no example or all of them, sizes do not fit, a label is out of range or a score is
/// not finite.
pub fn auroc_one_vs_rest<T: Into<f64> + Copy>(scores: &[T], labels: &[i64], classes: usize) -> Result<f64> {
    let rows = labelled_rows("auroc", scores, labels, classes)?;
    let mut sum = 0.0;
    for class in 0..classes {
        let column: Vec<f64> = rows.iter().map(|(row, _)| row[class]).collect();
        let positive: Vec<bool> = rows.iter().map(|(_, label)| *label == class).collect();
        sum += auroc(&column, &positive)
            .map_err(|_| Error::metric("auroc", format!("class {class} has no examples, or all of them")))?;
    }
    Ok(sum / classes as f64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn one_class_is_a_fault() {
        insta::assert_snapshot!(auroc(&[0.1], &[true]).unwrap_err(), @"`auroc`: no example is negative");
        insta::assert_snapshot!(auroc(&[f64::NAN, 0.1], &[true, false]).unwrap_err(), @"`auroc`: score 0 is NaN");
        let fault = auroc_one_vs_rest(&[0.1, 0.9, 0.2, 0.8], &[1, 1], 2).unwrap_err();
        insta::assert_snapshot!(fault, @"`auroc`: class 0 has no examples, or all of them");
    }

    proptest! {
        #[test]
        fn it_counts_pairs(values in prop::collection::vec((0_u8..5, any::<bool>()), 2..20)) {
            let scores: Vec<f64> = values.iter().map(|v| f64::from(v.0)).collect();
            let positive: Vec<bool> = values.iter().map(|v| v.1).collect();
            prop_assume!(positive.contains(&true) && positive.contains(&false));
            let (mut sum, mut pairs) = (0.0, 0.0);
            for a in values.iter().filter(|v| v.1) {
                for b in values.iter().filter(|v| !v.1) {
                    pairs += 1.0;
                    sum += if a.0 > b.0 { 1.0 } else if a.0 == b.0 { 0.5 } else { 0.0 };
                }
            }
            prop_assert!((auroc(&scores, &positive).unwrap() - sum / pairs).abs() < 1e-12);
        }
    }
}
