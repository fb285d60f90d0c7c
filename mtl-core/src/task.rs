//! What a task is: its name, the kind of its targets and how it is scored.
use serde::{Deserialize, Serialize};

/// Kind of a task's targets.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
#[non_exhaustive]
pub enum TaskKind {
    /// One of `classes` labels; targets are class indices `[batch]`.
    Classification {
        /// Number of classes.
        classes: i64,
    },
    /// Any subset of `labels`; targets are 0 or 1, `[batch, labels]`.
    MultiLabel {
        /// Number of labels.
        labels: i64,
    },
    /// `dims` real numbers; targets are `[batch, dims]`.
    Regression {
        /// Numbers per example.
        dims: i64,
    },
    /// A class for every position of a `height` × `width` map; targets are class indices `[batch, height, width]`.
    DenseClassification {
        /// Number of classes.
        classes: i64,
        /// Rows of the map.
        height: i64,
        /// Columns of the map.
        width: i64,
    },
    /// `channels` real numbers for every position of a map; targets are `[batch, channels, height, width]`.
    DenseRegression {
        /// Numbers per position.
        channels: i64,
        /// Rows of the map.
        height: i64,
        /// Columns of the map.
        width: i64,
    },
    /// Text in, text out.
    SequenceToSequence,
    /// The next token of a text.
    LanguageModelling,
    /// An order over candidates.
    Ranking,
    /// The relevant documents of a collection.
    Retrieval,
}

/// Number by which a task is judged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Metric {
    /// Share of correct answers.
    Accuracy,
    /// F1 score, mean over classes.
    MacroF1,
    /// Mean squared error.
    MeanSquaredError,
    /// Mean over labels of average precision.
    MeanAveragePrecision,
    /// Mean over classes of intersection over union.
    MeanIou,
}

impl Metric {
    /// Name in records and tables.
    pub fn name(self) -> &'static str {
        match self {
            Self::Accuracy => "accuracy",
            Self::MacroF1 => "macro_f1",
            Self::MeanSquaredError => "mse",
            Self::MeanAveragePrecision => "map",
            Self::MeanIou => "miou",
        }
    }

    /// Whether a larger number is a better one.
    pub fn higher_is_better(self) -> bool {
        !matches!(self, Self::MeanSquaredError)
    }
}

/// A task: its name, the kind of its targets and its metric.
///
/// ```
/// use mtl_core::{TaskSpec, task::Metric};
///
/// let parity = TaskSpec::classification("parity", 2);
/// assert_eq!((parity.metric, parity.outputs()), (Metric::Accuracy, 2));
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TaskSpec {
    /// Name in records and tables.
    pub name: String,
    /// Kind of the targets.
    pub kind: TaskKind,
    /// How predictions are scored.
    pub metric: Metric,
}

impl TaskSpec {
    /// A task of `kind` with the metric that is usual for it.
    pub fn new(name: impl Into<String>, kind: TaskKind) -> Self {
        let metric = match kind {
            TaskKind::MultiLabel { .. } => Metric::MeanAveragePrecision,
            TaskKind::Regression { .. } | TaskKind::DenseRegression { .. } => Metric::MeanSquaredError,
            TaskKind::DenseClassification { .. } => Metric::MeanIou,
            _ => Metric::Accuracy,
        };
        Self { name: name.into(), kind, metric }
    }

    /// A classification task scored by accuracy.
    pub fn classification(name: impl Into<String>, classes: i64) -> Self {
        Self::new(name, TaskKind::Classification { classes })
    }

    /// Numbers a head must put out per example or, for a dense task, per position; 0 where there is no head.
    pub fn outputs(&self) -> i64 {
        match self.kind {
            TaskKind::Classification { classes } | TaskKind::DenseClassification { classes, .. } => classes,
            TaskKind::MultiLabel { labels } => labels,
            TaskKind::Regression { dims } => dims,
            TaskKind::DenseRegression { channels, .. } => channels,
            _ => 0,
        }
    }
}
