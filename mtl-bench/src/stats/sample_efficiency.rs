//! How much data a method needs to reach a target.
use super::{Bootstrap, Curve, Interval, Replicates, mean};
use crate::metrics::Better;
use crate::{Error, Result};
use rand::RngExt;
use std::fmt;

/// Number of examples (or steps) that reach a target.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Needed {
    /// So many, interpolated in log n between measurements.
    At(f64),
    /// The smallest number measured reaches the target already.
    AtMost(f64),
    /// The largest number measured does not.
    MoreThan(f64),
}

impl Needed {
    /// The number, if it lies within the measurements.
    pub fn value(self) -> Option<f64> {
        match self {
            Self::At(n) => Some(n),
            Self::AtMost(_) | Self::MoreThan(_) => None,
        }
    }
}

impl fmt::Display for Needed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::At(n) => write!(f, "{n:.0}"),
            Self::AtMost(n) => write!(f, "≤ {n:.0}"),
            Self::MoreThan(n) => write!(f, "> {n:.0}"),
        }
    }
}

/// Smallest n at which `curve` reaches `target`, linear in log n between measurements; never extrapolated.
///
/// ```
/// use mtl_bench::{metrics::Better, stats::{Curve, Needed, samples_needed}};
///
/// let curve = Curve::new(vec![100.0, 400.0], vec![0.6, 0.8])?;
/// assert_eq!(samples_needed(&curve, 0.7, Better::Higher)?.to_string(), "200");
/// assert_eq!(samples_needed(&curve, 0.9, Better::Higher)?.to_string(), "> 400");
/// # Ok::<(), mtl_bench::Error>(())
/// ```
///
/// # Errors
///
/// [`Error::Argument`] when a position is not positive or the target is not finite.
pub fn samples_needed(curve: &Curve, target: f64, better: Better) -> Result<Needed> {
    if !target.is_finite() {
        return Err(Error::argument("target", "finite", target));
    }
    let (n, y) = (curve.x(), curve.y());
    if n[0] <= 0.0 {
        return Err(Error::argument("x", "positive numbers of examples", n[0]));
    }
    let reached = |v: f64| v == target || better.is_better(v, target);
    Ok(match y.iter().position(|&v| reached(v)) {
        None => Needed::MoreThan(n[n.len() - 1]),
        Some(0) if y[0] == target => Needed::At(n[0]),
        Some(0) => Needed::AtMost(n[0]),
        Some(i) => {
            let share = (target - y[i - 1]) / (y[i] - y[i - 1]);
            Needed::At((n[i - 1].ln() + share * (n[i] / n[i - 1]).ln()).exp())
        }
    })
}

/// How many times fewer examples a method needs than a baseline.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct EfficiencyRatio {
    /// Needed by the method, on the mean curve.
    pub method: Needed,
    /// Needed by the baseline, on the mean curve.
    pub baseline: Needed,
    /// Baseline over method: 2 means half the examples. `None` when either is not within the measurements.
    pub ratio: Option<f64>,
    /// Percentile interval of the ratio, over resampled seeds of both; `None` with the ratio, or when over 5 % of the
    /// resamples do not reach the target.
    pub interval: Option<Interval>,
}

/// Compares the mean curves of two methods, one curve per seed, all with the same positions.
///
/// # Errors
///
/// [`Error::Argument`] for fewer than 2 seeds on a side, curves with different positions, or as for
/// [`samples_needed`].
pub fn efficiency_ratio(
    method: &[Curve],
    baseline: &[Curve],
    target: f64,
    better: Better,
    options: &Bootstrap,
) -> Result<EfficiencyRatio> {
    options.check()?;
    let of = |curves: &[Curve], picks: &[usize]| -> Result<Needed> {
        let x = curves[0].x();
        let at = |i: usize| mean(&picks.iter().map(|&p| curves[p].y()[i]).collect::<Vec<_>>());
        samples_needed(&Curve::new(x.to_vec(), (0..x.len()).map(at).collect())?, target, better)
    };
    for curves in [method, baseline] {
        if curves.len() < 2 {
            return Err(Error::argument("curves", "of at least 2 seeds", curves.len()));
        }
        if let Some(i) = curves.iter().position(|c| c.x() != curves[0].x()) {
            return Err(Error::argument(
                "curves",
                "measured at the same positions",
                format!("different in curve {i}"),
            ));
        }
    }
    let all = |curves: &[Curve]| (0..curves.len()).collect::<Vec<_>>();
    let (needed, base) = (of(method, &all(method))?, of(baseline, &all(baseline))?);
    let ratio = needed.value().zip(base.value()).map(|(n, b)| b / n);
    let Some(estimate) = ratio else {
        return Ok(EfficiencyRatio { method: needed, baseline: base, ratio, interval: None });
    };
    let mut drawn = Vec::new();
    for replicate in 0..u64::from(options.replicates) {
        let mut rng = options.seed.stream("efficiency", replicate);
        let mut picks = |n: usize| (0..n).map(|_| rng.random_range(0..n)).collect::<Vec<_>>();
        let (a, b) = (picks(method.len()), picks(baseline.len()));
        if let (Some(n), Some(b)) = (of(method, &a)?.value(), of(baseline, &b)?.value()) {
            drawn.push(b / n);
        }
    }
    let enough = drawn.len() as f64 >= 0.95 * f64::from(options.replicates);
    let interval =
        if enough { Some(Replicates::new(estimate, drawn)?.percentile(options.level)) } else { None };
    Ok(EfficiencyRatio { method: needed, baseline: base, ratio, interval })
}
