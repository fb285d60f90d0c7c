//! Wilcoxon signed-rank test: Wilcoxon, *Individual Comparisons by Ranking Methods*, Biometrics Bulletin 1, 1945.
use super::check_values;
use crate::{Error, Result};
use statrs::distribution::{ContinuousCDF, Normal};

/// Result of [`wilcoxon`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Wilcoxon {
    /// The smaller of the two rank sums.
    pub statistic: f64,
    /// Differences that are not zero; zeros are dropped.
    pub n: usize,
    /// Two-sided p; 1 when every difference is zero.
    pub p: f64,
    /// Whether p comes from the exact distribution; else from the normal one with tie correction.
    pub exact: bool,
}

/// What becomes of differences that are exactly 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Zeros {
    /// They are dropped.
    #[default]
    Drop,
    /// They are ranked with the others, then dropped (Pratt, JASA 54, 1959); p is never exact.
    Pratt,
}

/// Options of [`wilcoxon_with`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WilcoxonOptions {
    /// What becomes of zeros.
    pub zeros: Zeros,
    /// Whether the normal p has a continuity correction.
    pub continuity: bool,
    /// Up to this many differences without ties or zeros p is exact; at most 60, 0 for never.
    pub exact_up_to: usize,
}

impl Default for WilcoxonOptions {
    fn default() -> Self {
        Self { zeros: Zeros::Drop, continuity: false, exact_up_to: 25 }
    }
}

/// Tests whether paired `differences` are centred at 0: exact up to 25 differences without ties, else normal.
///
/// ```
/// let test = mtl_bench::stats::wilcoxon(&[1.0, 2.0, 3.0, 4.0, -5.0])?;
/// assert_eq!((test.statistic, test.p, test.exact), (5.0, 0.625, true));
/// # Ok::<(), mtl_bench::Error>(())
/// ```
///
/// # Errors
///
/// [`Error::Argument`] when there are no differences or one is not finite.
pub fn wilcoxon(differences: &[f64]) -> Result<Wilcoxon> {
    wilcoxon_with(differences, WilcoxonOptions::default())
}

/// As [`wilcoxon`], with a choice of details.
///
/// # Errors
///
/// [`Error::Argument`] as for [`wilcoxon`], or when `exact_up_to` is over 60.
pub fn wilcoxon_with(differences: &[f64], options: WilcoxonOptions) -> Result<Wilcoxon> {
    check_values(differences, 1)?;
    if options.exact_up_to > 60 {
        return Err(Error::argument("exact_up_to", "at most 60", options.exact_up_to));
    }
    // Subtraction of rounded scores leaves noise in the last bits; it must make neither signs nor order.
    let noise = 1e-12 * differences.iter().fold(0.0_f64, |m, d| m.max(d.abs()));
    let mut kept: Vec<f64> = differences.iter().copied().filter(|d| d.abs() > noise).collect();
    kept.sort_by(|a, b| a.abs().total_cmp(&b.abs()));
    let (n, zeros) = (kept.len(), differences.len() - kept.len());
    if n == 0 {
        return Ok(Wilcoxon { statistic: 0.0, n, p: 1.0, exact: true });
    }
    let below = if options.zeros == Zeros::Pratt { zeros as f64 } else { 0.0 };
    let (mut positive, mut negative, mut tie_term, mut rank) = (0.0, 0.0, 0.0, below);
    for group in kept.chunk_by(|a, b| b.abs() - a.abs() <= noise) {
        let size = group.len() as f64;
        let shared = rank + (size + 1.0) / 2.0;
        rank += size;
        tie_term += size.powi(3) - size;
        for d in group {
            *(if *d > 0.0 { &mut positive } else { &mut negative }) += shared;
        }
    }
    let statistic = f64::min(positive, negative);
    let exact = tie_term == 0.0 && zeros == 0 && n <= options.exact_up_to;
    let p = if exact {
        exact_p(statistic, n)
    } else {
        normal_p(statistic, n as f64 + below, below, tie_term, options.continuity)
    };
    Ok(Wilcoxon { statistic, n, p, exact })
}

/// Counts the subsets of ranks 1..=n whose sum is at most the statistic.
fn exact_p(statistic: f64, n: usize) -> f64 {
    let most = n * (n + 1) / 2;
    let mut ways = vec![0.0; most + 1];
    ways[0] = 1.0;
    for rank in 1..=n {
        for sum in (rank..=most).rev() {
            ways[sum] += ways[sum - rank];
        }
    }
    let tail: f64 = ways.iter().take(statistic as usize + 1).sum();
    (2.0 * tail / 2_f64.powi(n as i32)).min(1.0)
}

/// Normal p of the smaller rank sum of `ranked` values, the lowest `zeros` of which were dropped.
fn normal_p(statistic: f64, ranked: f64, zeros: f64, tie_term: f64, continuity: bool) -> f64 {
    let pairs = |n: f64| n * (n + 1.0);
    let centre = (pairs(ranked) - pairs(zeros)) / 4.0;
    let spread = |n: f64| pairs(n) * (2.0 * n + 1.0) / 24.0;
    let variance = spread(ranked) - spread(zeros) - tie_term / 48.0;
    let shift = if continuity { (0.5_f64).min(centre - statistic) } else { 0.0 };
    (2.0 * Normal::standard().cdf((statistic - centre + shift) / variance.sqrt())).min(1.0)
}
