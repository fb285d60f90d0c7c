//! Which test fits which comparison, and why: Demšar, JMLR 7, 2006; Dror et al., *The Hitchhiker's Guide to Testing
//! Statistical Significance in Natural Language Processing*, ACL 2018; Herbold, *Autorank*, JOSS 5, 2020.
use super::{constant, shapiro_wilk};
use std::fmt;

/// A test of this crate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Test {
    /// [`super::PairedDifference`].
    PairedT,
    /// [`super::wilcoxon`].
    Wilcoxon,
    /// [`super::sign_flip`].
    SignFlip,
    /// [`super::sign_test`].
    Sign,
    /// [`super::welch`].
    Welch,
    /// [`super::mann_whitney`].
    MannWhitney,
    /// [`super::mcnemar`].
    McNemar,
    /// [`super::correlated_t`].
    CorrelatedT,
    /// [`super::friedman`], then [`super::CriticalDifference`].
    FriedmanNemenyi,
    /// [`super::friedman`], then [`super::Friedman::against_control`].
    FriedmanControl,
    /// [`super::wilcoxon`] of every pair, corrected.
    PairwiseWilcoxon,
    /// [`super::repeated_measures_anova`].
    RepeatedMeasures,
    /// [`super::percentile_bootstrap`] over test items.
    ItemBootstrap,
}

impl Test {
    /// Whether p comes from the signs or signed ranks of the differences, so that n pairs cannot give p below 2^(1 − n).
    pub fn by_signs(self) -> bool {
        matches!(self, Self::Wilcoxon | Self::SignFlip | Self::Sign | Self::PairwiseWilcoxon)
    }

    /// Name for footnotes.
    pub fn name(self) -> &'static str {
        match self {
            Self::PairedT => "paired t test",
            Self::Wilcoxon => "Wilcoxon signed-rank test",
            Self::SignFlip => "exact sign-flip permutation test",
            Self::Sign => "sign test",
            Self::Welch => "Welch's t test",
            Self::MannWhitney => "Mann–Whitney U test",
            Self::McNemar => "McNemar's test",
            Self::CorrelatedT => "correlated t test",
            Self::FriedmanNemenyi => "Friedman test with Nemenyi's comparison of all pairs",
            Self::FriedmanControl => "Friedman test with comparisons against the control",
            Self::PairwiseWilcoxon => "pairwise Wilcoxon signed-rank tests",
            Self::RepeatedMeasures => "repeated-measures ANOVA with Tukey's test",
            Self::ItemBootstrap => "bootstrap over test items",
        }
    }
}

/// What is being compared.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub enum Situation<'a> {
    /// Two methods on one task with the same seeds.
    PairedRuns {
        /// Differences, one per seed.
        differences: &'a [f64],
    },
    /// Two methods on one task with seeds of their own.
    UnpairedRuns,
    /// Two classifiers on one test set, one run each.
    OneTestSet,
    /// Two methods over the folds of repeated cross-validation.
    CrossValidation,
    /// Two methods over several tasks.
    TwoMethodsManyTasks {
        /// Number of tasks.
        tasks: usize,
    },
    /// Three or more methods over several tasks, all pairs.
    ManyMethods {
        /// Number of methods.
        methods: usize,
        /// Number of tasks.
        tasks: usize,
    },
    /// Three or more methods over several tasks, each against one control.
    AgainstControl {
        /// Number of methods with the control.
        methods: usize,
        /// Number of tasks.
        tasks: usize,
    },
}

/// A test, its alternative and the reason.
#[derive(Debug, Clone, PartialEq)]
pub struct Recommendation {
    /// Test to use; `None` when nothing can be tested.
    pub test: Option<Test>,
    /// What else is acceptable.
    pub alternatives: Vec<Test>,
    /// The reason, in words.
    pub reason: String,
}

impl fmt::Display for Recommendation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.test {
            Some(test) => write!(f, "{}: {}", test.name(), self.reason),
            None => write!(f, "no test: {}", self.reason),
        }
    }
}

/// Recommends a test.
///
/// ```
/// use mtl_bench::stats::{Situation, Test, recommend};
///
/// let advice = recommend(Situation::PairedRuns { differences: &[0.1, 0.2, 0.3] });
/// assert_eq!(advice.test, Some(Test::SignFlip));
/// assert!(advice.reason.contains("cannot give p below 0.25"));
/// ```
pub fn recommend(situation: Situation<'_>) -> Recommendation {
    let advise = |test, alternatives: &[Test], reason: String| Recommendation {
        test: Some(test),
        alternatives: alternatives.to_vec(),
        reason,
    };
    match situation {
        Situation::PairedRuns { differences } => paired(differences),
        Situation::UnpairedRuns => advise(
            Test::Welch,
            &[Test::MannWhitney],
            "two independent samples of runs, whose variances need not be equal".to_owned(),
        ),
        Situation::OneTestSet => advise(
            Test::McNemar,
            &[Test::ItemBootstrap],
            "two classifiers on the same items with one run each; the answer is about these two models, not about \
             new seeds"
                .to_owned(),
        ),
        Situation::CrossValidation => advise(
            Test::CorrelatedT,
            &[],
            "training sets of the folds overlap, so a plain t test would take the scores for independent".to_owned(),
        ),
        Situation::TwoMethodsManyTasks { tasks: 0 | 1 } => nothing("one task has no distribution over tasks"),
        Situation::TwoMethodsManyTasks { tasks } => advise(
            Test::Wilcoxon,
            &[Test::Sign],
            format!("two methods over {tasks} tasks, whose scores are not on one scale; tested on task means{}", few(tasks)),
        ),
        Situation::ManyMethods { methods, tasks } if methods < 3 => {
            recommend(Situation::TwoMethodsManyTasks { tasks })
        }
        Situation::ManyMethods { tasks: 0 | 1, .. } | Situation::AgainstControl { tasks: 0 | 1, .. } => {
            nothing("ranks over tasks need at least 2 tasks")
        }
        Situation::ManyMethods { methods, tasks } => advise(
            Test::FriedmanNemenyi,
            &[Test::PairwiseWilcoxon, Test::RepeatedMeasures],
            format!(
                "{methods} methods over {tasks} tasks, ranked per task; the answer for a pair depends on the other \
                 methods, unlike that of pairwise tests"
            ),
        ),
        Situation::AgainstControl { methods, tasks } if methods < 3 => {
            recommend(Situation::TwoMethodsManyTasks { tasks })
        }
        Situation::AgainstControl { methods, tasks } => advise(
            Test::FriedmanControl,
            &[Test::PairwiseWilcoxon],
            format!("{methods} methods over {tasks} tasks, of which only the comparisons with the control matter"),
        ),
    }
}

fn nothing(reason: &str) -> Recommendation {
    Recommendation { test: None, alternatives: Vec::new(), reason: reason.to_owned() }
}

/// The smallest p of a two-sided test by signs or signed ranks.
fn few(n: usize) -> String {
    if n < 6 { format!("; {n} cannot give p below {}", 2_f64.powi(1 - n as i32)) } else { String::new() }
}

fn paired(differences: &[f64]) -> Recommendation {
    let n = differences.len();
    if n < 2 {
        return nothing("one run says nothing about the spread over seeds");
    }
    if differences.iter().any(|d| !d.is_finite()) {
        return nothing("a difference is not finite");
    }
    let advise = |test, alternatives: Vec<Test>, reason: String| Recommendation {
        test: Some(test),
        alternatives,
        reason,
    };
    if n < 10 {
        let reason = format!(
            "{n} pairs are too few for a normal approximation, and all sign patterns can be tried{}",
            few(n)
        );
        let alternatives = if n < 6 { Vec::new() } else { vec![Test::Wilcoxon] };
        return advise(Test::SignFlip, alternatives, reason);
    }
    let normal = !constant(differences) && shapiro_wilk(differences).is_ok_and(|s| s.p >= 0.05);
    let mut alternatives = Vec::new();
    if normal {
        alternatives.push(Test::PairedT);
    }
    if n <= 16 {
        alternatives.push(Test::SignFlip);
    }
    let shape = if normal { "pass" } else { "do not pass" };
    let reason = format!("{n} pairs on one task; the differences {shape} the Shapiro–Wilk test of normality");
    advise(Test::Wilcoxon, alternatives, reason)
}
