//! Average precision, for tasks with any subset of labels.
use super::{finite, same_length};
use crate::{Error, Result};

/// Area under the step-wise precision–recall curve; equal scores form one threshold.
///
/// ```
/// let ap = mtl_bench::metrics::average_precision(&[0.9, 0.8, 0.7], &[true, false, true])?;
/// assert!((ap - (1.0 + 2.0 / 3.0) / 2.0).abs() < 1e-12);
/// # Ok::<(), mtl_bench::Error>(())
/// ```
///
/// # Errors
///
/// [`Error::Metric`] when no example is positive, lengths differ or a score is not finite.
pub fn average_precision<T: Into<f64> + Copy>(scores: &[T], positive: &[bool]) -> Result<f64> {
    same_length("map", scores.len(), positive.len())?;
    finite("map", "score", scores.iter().map(|&s| s.into()))?;
    let positives = positive.iter().filter(|&&p| p).count();
    if positives == 0 {
        return Err(Error::metric("map", "no example is positive"));
    }
    let mut ranked: Vec<(f64, bool)> =
        scores.iter().map(|&s| s.into()).zip(positive.iter().copied()).collect();
    ranked.sort_by(|a, b| b.0.total_cmp(&a.0));
    let (mut seen, mut hits, mut area) = (0, 0, 0.0);
    for group in ranked.chunk_by(|a, b| a.0 == b.0) {
        let new_hits = group.iter().filter(|(_, p)| *p).count();
        seen += group.len();
        hits += new_hits;
        area += new_hits as f64 * hits as f64 / seen as f64;
    }
    Ok(area / positives as f64)
}

/// [`average_precision`] over all pairs of example and label at once; targets are 0 or 1.
///
/// # Errors
///
/// [`Error::Metric`] when no target is positive, lengths differ, a score is not finite or a target is neither 0 nor 1.
pub fn micro_average_precision<T: Into<f64> + Copy>(scores: &[T], targets: &[T]) -> Result<f64> {
    same_length("map", scores.len(), targets.len())?;
    zero_or_one(targets)?;
    let positive: Vec<bool> = targets.iter().map(|&t| t.into() == 1.0).collect();
    average_precision(scores, &positive)
}

fn zero_or_one<T: Into<f64> + Copy>(targets: &[T]) -> Result<()> {
    match targets.iter().enumerate().find(|&(_, &t)| t.into() != 0.0 && t.into() != 1.0) {
        Some((i, &t)) => {
            Err(Error::metric("map", format!("targets must be 0 or 1, but target {i} is {}", t.into())))
        }
        None => Ok(()),
    }
}

/// Mean over labels of [`average_precision`]; `scores` and `targets` are `[examples, labels]`, row by row, targets 0 or 1.
///
/// Labels without a positive example are left out of the mean.
///
/// # Errors
///
/// [`Error::Metric`] when no label has a positive, sizes do not fit, or a target is neither 0 nor 1.
pub fn mean_average_precision<T: Into<f64> + Copy>(
    scores: &[T],
    targets: &[T],
    labels: usize,
) -> Result<f64> {
    same_length("map", scores.len(), targets.len())?;
    if labels == 0 || !scores.len().is_multiple_of(labels) {
        return Err(Error::metric(
            "map",
            format!("{} scores are not a multiple of {labels} labels", scores.len()),
        ));
    }
    zero_or_one(targets)?;
    let (mut sum, mut counted) = (0.0, 0);
    for label in 0..labels {
        let column = |values: &[T]| -> Vec<f64> {
            values.iter().skip(label).step_by(labels).map(|&v| v.into()).collect()
        };
        let positive: Vec<bool> = column(targets).iter().map(|&t| t == 1.0).collect();
        let scores = column(scores);
        if positive.contains(&true) {
            sum += average_precision(&scores, &positive)?;
            counted += 1;
        } else {
            finite("map", "score", scores)?;
        }
    }
    if counted == 0 {
        return Err(Error::metric("map", "no label has a positive example"));
    }
    Ok(sum / f64::from(counted))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn order_of_examples_does_not_matter_even_with_ties(values in prop::collection::vec((0_u8..4, any::<bool>()), 1..20)) {
            prop_assume!(values.iter().any(|v| v.1));
            let split = |v: &[(u8, bool)]| v.iter().map(|x| (f64::from(x.0), x.1)).unzip::<f64, bool, Vec<_>, Vec<_>>();
            let (s, p) = split(&values);
            let reversed: Vec<_> = values.iter().rev().copied().collect();
            let (s2, p2) = split(&reversed);
            prop_assert_eq!(average_precision(&s, &p).unwrap(), average_precision(&s2, &p2).unwrap());
        }
    }

    #[test]
    fn a_label_without_positives_is_left_out() {
        let scores = [0.9, 0.1, 0.2, 0.3];
        assert_eq!(mean_average_precision(&scores, &[1.0, 0.0, 0.0, 0.0], 2).unwrap(), 1.0);
        assert!(mean_average_precision(&scores, &[0.0; 4], 2).is_err());
        assert!(mean_average_precision(&scores, &[0.5; 4], 2).is_err());
    }
}
