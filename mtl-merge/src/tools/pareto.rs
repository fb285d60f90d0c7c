//! Which of several results no other one beats.

/// Tells for each row of `scores`, `[rows, metrics]`, whether no other row is at least as good in every metric and better in
/// one. Larger is better; rows with a NaN are never in front.
///
/// ```
/// use mtl_merge::tools::pareto_front;
///
/// let front = pareto_front(&[vec![0.9, 0.5], vec![0.7, 0.8], vec![0.6, 0.7]]);
/// assert_eq!(front, [true, true, false]); // The last is worse than the second in both.
/// ```
#[must_use]
pub fn pareto_front(scores: &[Vec<f64>]) -> Vec<bool> {
    let beats = |a: &[f64], b: &[f64]| {
        let pairs = || a.iter().zip(b);
        pairs().all(|(x, y)| x >= y) && pairs().any(|(x, y)| x > y)
    };
    let sound = |row: &[f64]| !row.iter().any(|x| x.is_nan());
    scores.iter().map(|row| sound(row) && !scores.iter().any(|other| beats(other, row))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_rows_are_in_front_together_and_a_nan_never_is() {
        let front = pareto_front(&[vec![1.0], vec![1.0], vec![0.5], vec![f64::NAN]]);
        assert_eq!(front, [true, true, false, false]);
        assert_eq!(pareto_front(&[]), [] as [bool; 0]);
    }
}
