//! Mean, standard deviation and t interval.
use super::{check_level, check_values, t_critical};
use crate::Result;

/// How an interval was computed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum IntervalMethod {
    /// Student's t.
    T,
    /// Quantiles of a bootstrap.
    PercentileBootstrap,
    /// Quantiles of a bootstrap, mirrored at the estimate.
    BasicBootstrap,
    /// Bootstrap, corrected for bias and acceleration.
    Bca,
    /// Bootstrap of runs inside each task.
    StratifiedBootstrap,
    /// Bootstrap of runs inside each task, at levels widened for few runs.
    ExpandedBootstrap,
    /// Bootstrap of tasks and of the runs inside them: about new tasks.
    TaskBootstrap,
    /// Bootstrap of groups and of the values inside them.
    HierarchicalBootstrap,
    /// Wilson's score interval of a proportion.
    Wilson,
    /// Exact interval of a proportion.
    ClopperPearson,
}

impl IntervalMethod {
    /// Name for footnotes.
    pub fn name(self) -> &'static str {
        match self {
            Self::T => "t interval",
            Self::PercentileBootstrap => "percentile bootstrap interval",
            Self::BasicBootstrap => "basic bootstrap interval",
            Self::Bca => "BCa bootstrap interval",
            Self::StratifiedBootstrap => "stratified percentile bootstrap interval",
            Self::ExpandedBootstrap => "stratified bootstrap interval, expanded for few runs",
            Self::TaskBootstrap => "bootstrap interval over tasks and runs",
            Self::HierarchicalBootstrap => "hierarchical bootstrap interval",
            Self::Wilson => "Wilson interval",
            Self::ClopperPearson => "Clopper-Pearson interval",
        }
    }
}

/// A confidence interval.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Interval {
    /// Lower end.
    pub low: f64,
    /// Upper end.
    pub high: f64,
    /// Confidence level, such as 0.95.
    pub level: f64,
    /// How it was computed.
    pub method: IntervalMethod,
}

impl Interval {
    /// Half of the width: the number after `±`.
    pub fn half_width(&self) -> f64 {
        (self.high - self.low) / 2.0
    }

    /// Whether `value` lies inside or on an end.
    pub fn contains(&self, value: f64) -> bool {
        self.low <= value && value <= self.high
    }
}

/// A mean over runs, with what can be said about its uncertainty.
///
/// ```
/// use mtl_bench::Estimate;
///
/// let estimate = Estimate::of(&[0.90, 0.92, 0.94], 0.95)?;
/// let interval = estimate.interval.unwrap();
/// assert_eq!(format!("{:.3} [{:.3}, {:.3}]", estimate.mean, interval.low, interval.high), "0.920 [0.870, 0.970]");
/// assert_eq!(Estimate::of(&[0.9], 0.95)?.interval, None); // one run says nothing about the spread
/// # Ok::<(), mtl_bench::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Estimate {
    /// Mean of the runs.
    pub mean: f64,
    /// Standard deviation with n − 1; `None` for a single run.
    pub std: Option<f64>,
    /// Number of runs.
    pub n: usize,
    /// Interval of the mean; `None` for a single run.
    pub interval: Option<Interval>,
}

impl Estimate {
    /// Mean of `values` with a t interval at `level`.
    ///
    /// # Errors
    ///
    /// [`crate::Error::Argument`] when there are no values, one is not finite, or the level is not between 0 and 1.
    pub fn of(values: &[f64], level: f64) -> Result<Self> {
        check_level(level)?;
        check_values(values, 1)?;
        let (mean, n) = (mean(values), values.len());
        let Some(std) = std(values) else {
            return Ok(Self { mean, std: None, n, interval: None });
        };
        let half = t_critical(level, (n - 1) as f64)? * std / (n as f64).sqrt();
        let interval = Interval { low: mean - half, high: mean + half, level, method: IntervalMethod::T };
        Ok(Self { mean, std: Some(std), n, interval: Some(interval) })
    }

    /// A number without uncertainty, such as one that was computed and not measured.
    pub fn exact(value: f64) -> Self {
        Self { mean: value, std: None, n: 1, interval: None }
    }
}

/// Arithmetic mean; NaN of nothing.
pub fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

/// Standard deviation with n − 1; `None` for fewer than two values.
pub fn std(values: &[f64]) -> Option<f64> {
    if values.len() < 2 {
        return None;
    }
    let centre = mean(values);
    let squares: f64 = values.iter().map(|v| (v - centre).powi(2)).sum();
    Some((squares / (values.len() - 1) as f64).sqrt())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn intervals_hold_the_mean_and_move_with_the_data(values in prop::collection::vec(-1e3..1e3_f64, 2..8), shift in -10.0..10.0_f64) {
            let here = Estimate::of(&values, 0.95).unwrap();
            let moved: Vec<f64> = values.iter().map(|v| v + shift).collect();
            let there = Estimate::of(&moved, 0.95).unwrap();
            let (a, b) = (here.interval.unwrap(), there.interval.unwrap());
            prop_assert!(a.contains(here.mean));
            prop_assert!((b.low - a.low - shift).abs() < 1e-6 && (b.high - a.high - shift).abs() < 1e-6);
            prop_assert!(Estimate::of(&values, 0.99).unwrap().interval.unwrap().half_width() >= a.half_width());
        }
    }

    #[test]
    fn nonsense_is_refused() {
        assert!(Estimate::of(&[], 0.95).is_err());
        insta::assert_snapshot!(Estimate::of(&[0.0, f64::NAN], 0.95).unwrap_err(), @"`values` must be finite, but is NaN at index 1");
        insta::assert_snapshot!(Estimate::of(&[0.0], 95.0).unwrap_err(), @"`level` must be between 0 and 1, such as 0.95, but is 95");
    }
}
