//! Names of metrics in task files.

/// A metric that a task may ask for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Metric {
    /// Score of the most probable choice, from 0 to 1.
    MultipleChoiceGrade,
    /// Mean squared distance of the choices' probabilities from their scores.
    MultipleChoiceBrierScore,
    /// Distance of confidence and accuracy in 10 bins.
    ExpectedCalibrationError,
    /// Share of answers equal to a target.
    ExactStrMatch,
    /// Corpus BLEU, 0 to 100.
    Bleu,
    /// Mean ROUGE F, 0 to 100; see [`Metric::parts`].
    Rouge,
    /// F1 averaged over the answers as classes.
    MacroF1,
    /// Learned metric, not supported: it needs a model of its own.
    Bleurt,
    /// Not supported: a [`System`](crate::system::System) gives log-probabilities up to a constant only.
    LogLikelihood,
}

/// Names in task files; the first one of a metric is also the one that is printed.
const NAMES: [(&str, Metric); 10] = [
    ("multiple_choice_grade", Metric::MultipleChoiceGrade),
    ("multiple_choice_brier_score", Metric::MultipleChoiceBrierScore),
    ("calibration_multiple_choice_brier_score", Metric::MultipleChoiceBrierScore),
    ("expected_calibration_error", Metric::ExpectedCalibrationError),
    ("exact_str_match", Metric::ExactStrMatch),
    ("bleu", Metric::Bleu),
    ("rouge", Metric::Rouge),
    ("macro_f1", Metric::MacroF1),
    ("bleurt", Metric::Bleurt),
    ("log_likelihood", Metric::LogLikelihood),
];

impl Metric {
    /// The metric of that name in a task file.
    ///
    /// # Errors
    ///
    /// [`mtl_core::Error`] for an unknown name, with a near one.
    pub fn from_name(name: &str) -> crate::Result<Self> {
        match NAMES.iter().find(|(known, _)| *known == name) {
            Some((_, metric)) => Ok(*metric),
            None => Err(mtl_core::Error::unknown("metric", name, NAMES.iter().map(|(n, _)| *n)).into()),
        }
    }

    /// The name in task files.
    pub fn name(self) -> &'static str {
        NAMES.iter().find(|(_, metric)| *metric == self).map_or("", |(name, _)| name)
    }

    /// Whether it needs log-probabilities of choices.
    pub fn needs_choices(self) -> bool {
        matches!(
            self,
            Self::MultipleChoiceGrade | Self::MultipleChoiceBrierScore | Self::ExpectedCalibrationError
        )
    }

    /// Whether it needs a generated answer; [`Metric::MacroF1`] takes one only where there are no choices.
    pub fn needs_text(self) -> bool {
        matches!(self, Self::ExactStrMatch | Self::Bleu | Self::Rouge)
    }

    /// Whether [`super::evaluate`] computes it.
    pub fn is_supported(self) -> bool {
        !matches!(self, Self::Bleurt | Self::LogLikelihood)
    }

    /// The value that counts as full marks; `None` where smaller is better or it is not computed.
    pub fn top(self) -> Option<f64> {
        match self {
            Self::MultipleChoiceGrade | Self::ExactStrMatch | Self::MacroF1 => Some(1.0),
            Self::Bleu | Self::Rouge => Some(100.0),
            _ => None,
        }
    }

    /// Names of further scores reported beside it: those of ROUGE; `rouge` itself is `rougeLsum`, as in the reference.
    pub fn parts(self) -> &'static [&'static str] {
        match self {
            Self::Rouge => &["rouge1", "rouge2", "rougeL", "rougeLsum"],
            _ => &[],
        }
    }
}
