//! Scores of predictions, of multi-task gain and of continual learning. One file per family.
pub mod classification;
pub mod continual;
pub mod dense;
pub mod gain;
pub mod multi_label;
pub mod pareto;
pub mod regression;
mod score;

pub use classification::{Confusion, accuracy, macro_f1};
pub use continual::{AccuracyMatrix, Forgetting};
pub use dense::mean_iou;
pub use gain::{Averaging, DeltaM, DeltaMOptions, GainSign, TaskScores, delta_m};
pub use multi_label::{average_precision, mean_average_precision};
pub use pareto::{hypervolume, non_dominated};
pub use regression::mse;
pub use score::{Targets, score};

use crate::{Error, Result};

/// Which values of a metric are good.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Better {
    /// Larger is better: accuracy.
    Higher,
    /// Smaller is better: loss, latency.
    Lower,
}

impl Better {
    /// The direction of the metrics this workspace records, by name; `None` for an unknown name.
    ///
    /// ```
    /// use mtl_bench::metrics::Better;
    ///
    /// assert_eq!(Better::of_metric("latency_ms"), Some(Better::Lower));
    /// assert_eq!(Better::of_metric("colour"), None);
    /// ```
    pub fn of_metric(name: &str) -> Option<Self> {
        const HIGHER: [&str; 11] = [
            "accuracy",
            "macro_f1",
            "map",
            "miou",
            "delta_m",
            "auroc",
            "backward_transfer",
            "forward_transfer",
            "learning_accuracy",
            "throughput",
            "hypervolume",
        ];
        const LOWER: [&str; 9] =
            ["mse", "mae", "rmse", "loss", "error", "forgetting", "latency", "energy", "memory"];
        let is = |known: &&str| {
            name == *known || name.starts_with(&format!("{known}_")) || name.ends_with(&format!("_{known}"))
        };
        if LOWER.iter().any(is) {
            return Some(Self::Lower);
        }
        HIGHER.iter().any(is).then_some(Self::Higher)
    }

    /// Whether `a` is strictly better than `b`.
    pub fn is_better(self, a: f64, b: f64) -> bool {
        match self {
            Self::Higher => a > b,
            Self::Lower => a < b,
        }
    }

    /// +1 if higher is better, −1 otherwise.
    pub fn sign(self) -> f64 {
        match self {
            Self::Higher => 1.0,
            Self::Lower => -1.0,
        }
    }

    /// `↑` or `↓`, for table headers.
    pub fn arrow(self) -> &'static str {
        match self {
            Self::Higher => "↑",
            Self::Lower => "↓",
        }
    }
}

fn same_length(metric: &'static str, predictions: usize, targets: usize) -> Result<()> {
    if predictions == targets && targets > 0 {
        return Ok(());
    }
    let what = if targets == 0 {
        "there are no examples".to_owned()
    } else {
        format!("{predictions} predictions, but {targets} targets")
    };
    Err(Error::metric(metric, what))
}

fn finite(metric: &'static str, name: &str, values: impl IntoIterator<Item = f64>) -> Result<()> {
    match values.into_iter().enumerate().find(|(_, v)| !v.is_finite()) {
        Some((i, v)) => Err(Error::metric(metric, format!("{name} {i} is {v}"))),
        None => Ok(()),
    }
}
