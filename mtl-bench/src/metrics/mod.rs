//! Scores of predictions, of multi-task gain and of continual learning. One file per family.
pub mod agreement;
pub mod auroc;
pub mod calibration;
pub mod classification;
pub mod continual;
pub mod correlation;
pub mod dense;
pub mod depth;
pub mod gain;
pub mod instruction;
pub mod multi_label;
pub mod multi_label_f1;
pub mod multiple_choice;
pub mod normals;
pub mod pairwise;
pub mod pareto;
pub mod probability;
pub mod ranking;
pub mod regression;
pub mod saliency;
mod score;
pub mod skill_mix;
pub mod temperature;
pub mod text;
pub mod top_k;

pub use agreement::KappaWeights;
pub use auroc::{auroc, auroc_one_vs_rest};
pub use calibration::{Bin, Binning, Calibration};
pub use classification::{ClassScores, Confusion, accuracy, macro_f1};
pub use continual::{AccuracyMatrix, Forgetting};
pub use correlation::{Correlation, kendall, pearson, spearman};
pub use dense::mean_iou;
pub use depth::{DepthErrors, depth_errors};
pub use gain::{Averaging, DeltaM, DeltaMOptions, GainSign, TaskScores, delta_m};
pub use instruction::{InstructionAccuracy, TurnChange, instruction_accuracy, turn_change};
pub use multi_label::{average_precision, mean_average_precision, micro_average_precision};
pub use multi_label_f1::{MultiLabelScores, Selection, multi_label_scores};
pub use multiple_choice::{Choice, ChoiceScores, choice_scores};
pub use normals::{NormalErrors, normal_errors};
pub use pareto::{hypervolume, non_dominated};
pub use probability::{Brier, binary_brier, brier, negative_log_likelihood};
pub use ranking::{Gain, NextItem, Ranked, RankingScores, next_item, rank_of, ranking_scores};
pub use regression::{explained_variance, mae, mse, r_squared, rmse};
pub use saliency::{Saliency, saliency};
pub use score::{Targets, score};
pub use skill_mix::{SkillGrade, SkillMix, skill_mix};
pub use temperature::{Temperature, fit_temperature};
pub use top_k::top_k_accuracy;

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
        const HIGHER: [&str; 18] = [
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
            "ndcg",
            "mrr",
            "bleu",
            "chrf",
            "rouge",
            "cider",
            "exact_match",
        ];
        const LOWER: [&str; 12] = [
            "mse",
            "mae",
            "rmse",
            "loss",
            "error",
            "forgetting",
            "latency",
            "energy",
            "memory",
            "ece",
            "brier",
            "nll",
        ];
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
