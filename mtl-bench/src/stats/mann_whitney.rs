//! Mann and Whitney, *On a Test of Whether One of Two Random Variables Is Stochastically Larger than the Other*,
//! Annals of Mathematical Statistics 18, 1947.
use super::ranks::tied_ranks;
use super::{check_values, phi};
use crate::metrics::Better;
use crate::{Error, Result};

/// Where p comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum MannWhitneyMethod {
    /// Exact without ties for up to 400 pairs, else normal.
    #[default]
    Auto,
    /// Normal, with tie and continuity correction.
    Normal,
    /// Exact; only without ties and for up to 10 000 pairs.
    Exact,
}

/// Result of [`mann_whitney`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct MannWhitney {
    /// U of the first sample: pairs in which it is larger, ties counted half.
    pub u: f64,
    /// Two-sided p; 1 when all values are equal.
    pub p: f64,
    /// Whether p is exact.
    pub exact: bool,
}

/// Tests whether values of `x` tend to be larger or smaller than those of `y`.
///
/// ```
/// use mtl_bench::stats::{MannWhitneyMethod, mann_whitney};
///
/// let test = mann_whitney(&[4.0, 5.0, 6.0], &[1.0, 2.0, 3.0], MannWhitneyMethod::Auto)?;
/// assert_eq!((test.u, test.p, test.exact), (9.0, 0.1, true)); // 2 of 20 orders
/// # Ok::<(), mtl_bench::Error>(())
/// ```
///
/// # Errors
///
/// [`Error::Argument`] for an empty sample, a value that is not finite, or an exact p asked for where there is none.
pub fn mann_whitney(x: &[f64], y: &[f64], method: MannWhitneyMethod) -> Result<MannWhitney> {
    check_values(x, 1)?;
    check_values(y, 1)?;
    let (n, m) = (x.len(), y.len());
    let (ranks, tie_term) = tied_ranks(&[x, y].concat(), Better::Lower);
    let rank_sum: f64 = ranks[..n].iter().sum();
    let u = rank_sum - (n * (n + 1)) as f64 / 2.0;
    let pairs = n.saturating_mul(m);
    let exact = match method {
        MannWhitneyMethod::Auto => tie_term == 0.0 && pairs <= 400,
        MannWhitneyMethod::Normal => false,
        MannWhitneyMethod::Exact if tie_term == 0.0 && pairs <= 10_000 => true,
        MannWhitneyMethod::Exact => {
            let found = format!("exact for {pairs} pairs{}", if tie_term > 0.0 { " with ties" } else { "" });
            return Err(Error::argument("method", "normal for ties or over 10000 pairs", found));
        }
    };
    let p = if exact { exact_p(u, n, m) } else { normal_p(u, n as f64, m as f64, tie_term) };
    Ok(MannWhitney { u, p, exact })
}

/// Counts the orders of n + m values by U; `ways[i][u]` for i values of the first sample and those of the second so
/// far.
fn exact_p(u: f64, n: usize, m: usize) -> f64 {
    let most = n * m;
    // Probabilities instead of counts, which overflow for large samples.
    let mut ways = vec![vec![0.0; most + 1]; n + 1];
    for row in &mut ways {
        row[0] = 1.0;
    }
    for j in 1..=m {
        for i in 1..=n {
            // The largest of i + j values is from the first sample with probability i/(i + j), and then beats all j.
            let (share, larger) = (i as f64 / (i + j) as f64, j);
            let (before, rest) = ways.split_at_mut(i);
            let (previous, current) = (&before[i - 1], &mut rest[0]);
            for sum in (0..=most).rev() {
                let first = if sum >= larger { previous[sum - larger] } else { 0.0 };
                current[sum] = share * first + (1.0 - share) * current[sum];
            }
        }
    }
    let lower = u.min(most as f64 - u) as usize;
    (2.0 * ways[n].iter().take(lower + 1).sum::<f64>()).min(1.0)
}

fn normal_p(u: f64, n: f64, m: f64, tie_term: f64) -> f64 {
    let total = n + m;
    let variance = n * m / 12.0 * (total + 1.0 - tie_term / (total * (total - 1.0)));
    if variance <= 0.0 {
        return 1.0;
    }
    let distance = (u - n * m / 2.0).abs() - 0.5;
    (2.0 * phi(-distance / variance.sqrt())).min(1.0)
}
