//! Corrections for several comparisons. Family-wise error: Bonferroni; Šidák, JASA 62, 1967; Holm 1979; Hochberg,
//! Biometrika 75, 1988; Hommel, Biometrika 75, 1988. False discovery rate: Benjamini and Hochberg, JRSS B 57, 1995;
//! Benjamini and Yekutieli, Annals of Statistics 29, 2001.
use super::holm;
use crate::{Error, Result};

/// A correction for several comparisons.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Correction {
    /// None.
    None,
    /// Bonferroni: any dependence.
    Bonferroni,
    /// Šidák: independent tests.
    Sidak,
    /// Holm: any dependence, never worse than Bonferroni.
    #[default]
    Holm,
    /// Holm's steps with Šidák's levels.
    HolmSidak,
    /// Hochberg: independent or positively dependent tests.
    Hochberg,
    /// Hommel: as Hochberg, more powerful.
    Hommel,
    /// Benjamini–Hochberg: false discovery rate, positive dependence.
    BenjaminiHochberg,
    /// Benjamini–Yekutieli: false discovery rate, any dependence.
    BenjaminiYekutieli,
}

impl Correction {
    /// Name for footnotes.
    pub fn name(self) -> &'static str {
        match self {
            Self::None => "no correction",
            Self::Bonferroni => "Bonferroni",
            Self::Sidak => "Šidák",
            Self::Holm => "Holm",
            Self::HolmSidak => "Holm–Šidák",
            Self::Hochberg => "Hochberg",
            Self::Hommel => "Hommel",
            Self::BenjaminiHochberg => "Benjamini–Hochberg",
            Self::BenjaminiYekutieli => "Benjamini–Yekutieli",
        }
    }
}

/// Adjusts the p values of one family of comparisons; the order is kept.
///
/// ```
/// use mtl_bench::stats::{Correction, adjust};
///
/// assert_eq!(adjust(&[0.01, 0.04, 0.03], Correction::BenjaminiHochberg)?, [0.03, 0.04, 0.04]);
/// # Ok::<(), mtl_bench::Error>(())
/// ```
///
/// # Errors
///
/// [`Error::Argument`] for a p outside 0..=1.
pub fn adjust(p: &[f64], correction: Correction) -> Result<Vec<f64>> {
    if let Some(bad) = p.iter().find(|p| !(0.0..=1.0).contains(*p)) {
        return Err(Error::argument("p", "between 0 and 1", bad));
    }
    let m = p.len() as f64;
    // 1 − (1 − p)^count without cancellation.
    let sidak = |p: f64, count: f64| -(count * (-p).ln_1p()).exp_m1();
    let each = |f: &dyn Fn(f64) -> f64| p.iter().map(|&p| f(p).min(1.0)).collect();
    Ok(match correction {
        Correction::None => p.to_vec(),
        Correction::Bonferroni => each(&|p| p * m),
        Correction::Sidak => each(&|p| sidak(p, m)),
        Correction::Holm => return holm(p),
        Correction::HolmSidak => step_down(p, sidak),
        Correction::Hochberg => step_up(p, |p, rank| p * (m - rank + 1.0)),
        Correction::Hommel => hommel(p),
        Correction::BenjaminiHochberg => step_up(p, |p, rank| p * m / rank),
        Correction::BenjaminiYekutieli => {
            let harmonic: f64 = (1..=p.len()).map(|i| 1.0 / i as f64).sum();
            step_up(p, |p, rank| p * m / rank * harmonic)
        }
    })
}

fn ascending(p: &[f64]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..p.len()).collect();
    order.sort_by(|&a, &b| p[a].total_cmp(&p[b]));
    order
}

/// From the smallest p on, `f(p, hypotheses left)`, never falling.
fn step_down(p: &[f64], f: impl Fn(f64, f64) -> f64) -> Vec<f64> {
    let (mut adjusted, mut running) = (vec![0.0; p.len()], 0.0_f64);
    for (done, &i) in ascending(p).iter().enumerate() {
        running = running.max(f(p[i], (p.len() - done) as f64)).min(1.0);
        adjusted[i] = running;
    }
    adjusted
}

/// From the largest p down, `f(p, rank from 1)`, never rising.
fn step_up(p: &[f64], f: impl Fn(f64, f64) -> f64) -> Vec<f64> {
    let (mut adjusted, mut running) = (vec![0.0; p.len()], 1.0_f64);
    for (rank, &i) in ascending(p).iter().enumerate().rev() {
        running = running.min(f(p[i], (rank + 1) as f64));
        adjusted[i] = running;
    }
    adjusted
}

/// Adjusted p by the algorithm of Wright, Biometrics 48, 1992.
fn hommel(p: &[f64]) -> Vec<f64> {
    let order = ascending(p);
    let sorted: Vec<f64> = order.iter().map(|&i| p[i]).collect();
    let n = sorted.len();
    let simes = sorted.iter().enumerate().map(|(i, p)| n as f64 * p / (i + 1) as f64);
    let mut best = vec![simes.fold(1.0, f64::min); n];
    for m in (2..n).rev() {
        let (small, large) = sorted.split_at(n - m + 1);
        let size = m as f64;
        let bound =
            large.iter().enumerate().map(|(i, p)| size * p / (i + 2) as f64).fold(f64::INFINITY, f64::min);
        let mut last = 0.0;
        for (b, p) in best.iter_mut().zip(small) {
            last = bound.min(size * p);
            *b = b.max(last);
        }
        for b in &mut best[n - m + 1..] {
            *b = b.max(last);
        }
    }
    let mut adjusted = vec![0.0; n];
    for (&i, (b, p)) in order.iter().zip(best.iter().zip(&sorted)) {
        adjusted[i] = b.max(*p);
    }
    adjusted
}
