//! Correlation coefficients with two-sided tests: Pearson, 1895; Spearman, 1904; Kendall, *A New Measure of Rank
//! Correlation*, Biometrika 30, 1938, with the correction for ties (τ-b) of 1945.
use super::{finite, same_length};
use crate::{Error, Result};
use statrs::distribution::{ContinuousCDF, StudentsT};
use statrs::function::erf::erfc;

/// A coefficient from −1 to 1 and the probability of one as large without any relation.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Correlation {
    /// The coefficient.
    pub value: f64,
    /// Two-sided p; 1 for two examples.
    pub p: f64,
}

/// Pearson's correlation; p is exact for normal data.
///
/// ```
/// let r = mtl_bench::metrics::pearson(&[1.0, 2.0, 3.0], &[1.0, 2.0, 4.0])?;
/// assert!((r.value - 0.981981).abs() < 1e-6);
/// # Ok::<(), mtl_bench::Error>(())
/// ```
///
/// # Errors
///
/// [`Error::Metric`] for fewer than 2 examples, unequal lengths, a number that is not finite or constant numbers.
pub fn pearson<T: Into<f64> + Copy>(x: &[T], y: &[T]) -> Result<Correlation> {
    let (x, y) = numbers("pearson", x, y)?;
    product_moment("pearson", &x, &y)
}

/// Spearman's rank correlation: Pearson's of the ranks, ties sharing their mean rank.
///
/// # Errors
///
/// As [`pearson`].
pub fn spearman<T: Into<f64> + Copy>(x: &[T], y: &[T]) -> Result<Correlation> {
    let (x, y) = numbers("spearman", x, y)?;
    product_moment("spearman", &ranks(&x), &ranks(&y))
}

/// Kendall's τ-b; p is exact without ties up to 33 examples, else normal with the correction for ties, as in SciPy.
///
/// # Errors
///
/// As [`pearson`].
pub fn kendall<T: Into<f64> + Copy>(x: &[T], y: &[T]) -> Result<Correlation> {
    let (x, y) = numbers("kendall", x, y)?;
    let n = x.len();
    let (mut balance, mut discordant) = (0.0, 0_usize);
    for i in 0..n {
        for j in 0..i {
            let sign = |v: &[f64]| f64::from(i8::from(v[i] > v[j]) - i8::from(v[i] < v[j]));
            let product = sign(&x) * sign(&y);
            balance += product;
            discordant += usize::from(product < 0.0);
        }
    }
    let (tx, ty) = (Ties::of(&x), Ties::of(&y));
    let pairs = n as f64 * (n as f64 - 1.0) / 2.0;
    let scale = (pairs - tx.pairs).sqrt() * (pairs - ty.pairs).sqrt();
    let value = (balance / scale).clamp(-1.0, 1.0);
    let p = if tx.pairs == 0.0 && ty.pairs == 0.0 && n <= 33 {
        exact_kendall(n, discordant)
    } else {
        let n = n as f64;
        let m = n * (n - 1.0);
        let mut variance =
            (m * (2.0 * n + 5.0) - tx.second - ty.second) / 18.0 + 2.0 * tx.pairs * ty.pairs / m;
        if n > 2.0 {
            variance += tx.third * ty.third / (9.0 * m * (n - 2.0));
        }
        erfc(balance.abs() / variance.sqrt() / std::f64::consts::SQRT_2)
    };
    Ok(Correlation { value, p: p.min(1.0) })
}

fn numbers<T: Into<f64> + Copy>(metric: &'static str, x: &[T], y: &[T]) -> Result<(Vec<f64>, Vec<f64>)> {
    same_length(metric, x.len(), y.len())?;
    if x.len() < 2 {
        return Err(Error::metric(metric, "at least 2 examples are needed"));
    }
    // −0 and 0 are equal.
    let read = |values: &[T]| values.iter().map(|&v| v.into() + 0.0).collect::<Vec<f64>>();
    let (x, y) = (read(x), read(y));
    for (name, values) in [("first number", &x), ("second number", &y)] {
        finite(metric, name, values.iter().copied())?;
        if values.iter().all(|v| *v == values[0]) {
            return Err(Error::metric(metric, format!("every {name} is {}", values[0])));
        }
    }
    Ok((x, y))
}

fn product_moment(metric: &'static str, x: &[f64], y: &[f64]) -> Result<Correlation> {
    let n = x.len() as f64;
    let centred = |v: &[f64]| {
        let mean = v.iter().sum::<f64>() / n;
        v.iter().map(|a| a - mean).collect::<Vec<_>>()
    };
    let (x, y) = (centred(x), centred(y));
    let norm = |v: &[f64]| v.iter().map(|a| a * a).sum::<f64>().sqrt();
    let scale = norm(&x) * norm(&y);
    if !(scale > 0.0 && scale.is_finite()) {
        return Err(Error::metric(metric, "the numbers are too close or too large"));
    }
    let value = (x.iter().zip(&y).map(|(a, b)| a * b).sum::<f64>() / scale).clamp(-1.0, 1.0);
    let freedom = n - 2.0;
    if freedom < 1.0 {
        return Ok(Correlation { value, p: 1.0 });
    }
    let t = value.abs() * (freedom / ((1.0 - value) * (1.0 + value))).sqrt();
    let distribution = StudentsT::new(0.0, 1.0, freedom).map_err(|e| Error::metric(metric, e.to_string()))?;
    let p = if t.is_finite() { 2.0 * distribution.sf(t) } else { 0.0 };
    Ok(Correlation { value, p })
}

/// Ranks from 1; ties share the mean of theirs.
fn ranks(values: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..values.len()).collect();
    order.sort_by(|&a, &b| values[a].total_cmp(&values[b]));
    let (mut ranks, mut before) = (vec![0.0; values.len()], 0.0);
    for group in order.chunk_by(|&a, &b| values[a] == values[b]) {
        let size = group.len() as f64;
        group.iter().for_each(|&i| ranks[i] = before + (size + 1.0) / 2.0);
        before += size;
    }
    ranks
}

/// Sums over groups of t equal values.
#[derive(Debug, Default)]
struct Ties {
    /// t (t − 1) / 2.
    pairs: f64,
    /// t (t − 1) (2t + 5).
    second: f64,
    /// t (t − 1) (t − 2).
    third: f64,
}

impl Ties {
    fn of(values: &[f64]) -> Self {
        let mut sorted = values.to_vec();
        sorted.sort_by(f64::total_cmp);
        let mut sums = Self::default();
        for group in sorted.chunk_by(|a, b| a == b) {
            let t = group.len() as f64;
            sums.pairs += t * (t - 1.0) / 2.0;
            sums.second += t * (t - 1.0) * (2.0 * t + 5.0);
            sums.third += t * (t - 1.0) * (t - 2.0);
        }
        sums
    }
}

/// Share of the orders of n values with at most, or at least, as many inversions; twice the smaller one.
fn exact_kendall(n: usize, discordant: usize) -> f64 {
    let most = n * (n - 1) / 2;
    let extreme = discordant.min(most - discordant);
    if 2 * extreme == most {
        return 1.0;
    }
    // share[k] of orders of the first i values with k inversions; the next value adds 0 to i of them.
    let mut share = vec![0.0; extreme + 1];
    share[0] = 1.0;
    for i in 2..=n {
        let mut next = vec![0.0; extreme + 1];
        for (k, slot) in next.iter_mut().enumerate() {
            *slot = share[k.saturating_sub(i - 1)..=k].iter().sum::<f64>() / i as f64;
        }
        share = next;
    }
    2.0 * share.iter().sum::<f64>()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exact_p_counts_orders() {
        // One of 24 orders has no inversion, one has all 6.
        let tau = kendall(&[1.0, 2.0, 3.0, 4.0], &[1.0, 2.0, 3.0, 4.0]).unwrap();
        assert_eq!(tau.value, 1.0);
        assert!((tau.p - 2.0 / 24.0).abs() < 1e-12);
    }

    #[test]
    fn faults_are_named() {
        insta::assert_snapshot!(pearson(&[1.0, 1.0], &[1.0, 2.0]).unwrap_err(), @"`pearson`: every first number is 1");
        insta::assert_snapshot!(spearman(&[1.0], &[1.0]).unwrap_err(), @"`spearman`: at least 2 examples are needed");
        insta::assert_snapshot!(kendall(&[1.0, f64::NAN], &[1.0, 2.0]).unwrap_err(), @"`kendall`: first number 1 is NaN");
        assert!(pearson(&[1.0, 2.0, 3.0], &[2.0, 4.0, 6.0]).unwrap().p < 1e-6);
    }
}
