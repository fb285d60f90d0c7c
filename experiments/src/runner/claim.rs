//! Claims: statements of papers as verdicts that can be executed.
use super::judge::PairedTest;
use mtl_bench::{Comparison, Results, stats::PairedDifference};
use serde::Serialize;
use std::fmt;

/// Where a claim comes from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Paper {
    /// Title.
    pub title: String,
    /// Where it appeared, such as `arXiv 2211.13723`.
    pub source: String,
}

/// What a run says about a claim.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum ClaimOutcome {
    /// The run shows what the paper says.
    Confirmed,
    /// The run does not show it, or shows the contrary.
    NotConfirmed,
    /// The run cannot tell: records are missing, seeds are too few, or the effect is too small for this scale.
    NotTestable,
}

impl ClaimOutcome {
    /// In words.
    pub fn name(self) -> &'static str {
        match self {
            Self::Confirmed => "confirmed",
            Self::NotConfirmed => "not confirmed",
            Self::NotTestable => "not testable",
        }
    }
}

/// A mean difference over seeds: method minus baseline, whatever direction is good.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Effect {
    /// Mean, in `unit`.
    pub mean: f64,
    /// Ends of the confidence interval; `None` for one seed, or when all seeds differ by the same.
    pub interval: Option<(f64, f64)>,
    /// Level of the interval.
    pub level: f64,
    /// Unit of the mean and the interval; may be empty.
    pub unit: String,
    /// Number of seeds.
    pub seeds: usize,
    /// The test behind `p`.
    pub test: String,
    /// One-sided p of the claimed direction; `None` as for the interval.
    pub p: Option<f64>,
}

impl Effect {
    /// The effect behind one difference for each seed, method minus baseline.
    ///
    /// # Errors
    ///
    /// [`mtl_bench::Error::Argument`] when there are none or one is not finite.
    pub fn paired(differences: &[f64], comparison: &Comparison) -> mtl_bench::Result<Self> {
        let found = PairedDifference::of(differences, comparison.level)?;
        let scale = comparison.scale;
        let claimed = comparison.better.is_better(found.mean, 0.0);
        Ok(Self {
            mean: found.mean * scale,
            interval: found.interval.map(|i| (i.low * scale, i.high * scale)),
            level: comparison.level,
            unit: comparison.unit.clone(),
            seeds: found.n,
            test: "paired t test over seeds, one-sided".to_owned(),
            // Half of the two-sided p lies on the side of the mean.
            p: found.p.map(|p| if claimed { p / 2.0 } else { 1.0 - p / 2.0 }),
        })
    }
}

impl fmt::Display for Effect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Two digits of the interval's half-width, or of the mean.
        let size = self.interval.map_or(self.mean.abs(), |(low, high)| (high - low) / 2.0);
        let places = if size > 0.0 { (1.0 - size.log10().floor()).clamp(0.0, 8.0) as usize } else { 1 };
        let signed = |value: f64| {
            let text = format!("{value:+.places$}");
            if text.chars().all(|c| "+-0.".contains(c)) { text[1..].to_owned() } else { text }
        };
        write!(f, "{}", signed(self.mean))?;
        if let Some((low, high)) = self.interval {
            write!(f, " [{}, {}]", signed(low), signed(high))?;
        }
        if self.unit.is_empty() { Ok(()) } else { write!(f, " {}", self.unit) }
    }
}

/// A statement of a paper, what was measured about it, and the verdict.
///
/// ```
/// use experiments::runner::{Claim, ClaimOutcome, PairedTest};
/// use mtl_bench::{Comparison, Record, Results, metrics::Better};
///
/// let run = |method: &str, seed, value| Record::new("accuracy", value).method(method).seed(seed);
/// let results = Results::from_records([
///     run("equal", 0, 0.90), run("equal", 1, 0.88), run("equal", 2, 0.91),
///     run("pcgrad", 0, 0.92), run("pcgrad", 1, 0.90), run("pcgrad", 2, 0.931),
/// ])?;
/// let test = PairedTest::new(Comparison::new("accuracy", Better::Higher).points()).pair("pcgrad", "equal");
/// let claim = Claim::new("surgery", "Gradient Surgery for Multi-Task Learning", "arXiv 2001.06782")
///     .statement("Projecting conflicting gradients raises accuracy over adding up the losses.")
///     .paired(&test, &results)?;
/// assert_eq!(claim.outcome, ClaimOutcome::Confirmed);
/// assert_eq!(claim.effect.unwrap().to_string(), "+2.03 [+1.89, +2.18] points");
/// # Ok::<(), mtl_bench::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Claim {
    /// Name, unique in the study: lower-case, hyphenated.
    pub name: String,
    /// Where it comes from.
    pub paper: Paper,
    /// What the paper says, in one sentence.
    pub statement: String,
    /// What was measured, in one line; empty when nothing was.
    pub measured: String,
    /// The size of it, where it is a difference over seeds.
    pub effect: Option<Effect>,
    /// The verdict.
    pub outcome: ClaimOutcome,
    /// Why the verdict is what it is.
    pub why: String,
}

impl Claim {
    /// A claim about which nothing was measured yet.
    pub fn new(name: impl Into<String>, title: impl Into<String>, source: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            paper: Paper { title: title.into(), source: source.into() },
            statement: String::new(),
            measured: String::new(),
            effect: None,
            outcome: ClaimOutcome::NotTestable,
            why: "nothing was measured".to_owned(),
        }
    }

    /// Sets what the paper says, in one sentence.
    #[must_use]
    pub fn statement(mut self, statement: impl Into<String>) -> Self {
        self.statement = statement.into();
        self
    }

    /// Sets what was measured, in one line.
    #[must_use]
    pub fn measured(mut self, measured: impl Into<String>) -> Self {
        self.measured = measured.into();
        self
    }

    /// Sets the size of it.
    #[must_use]
    pub fn effect(mut self, effect: Effect) -> Self {
        self.effect = Some(effect);
        self
    }

    /// Confirms the claim or does not, for a reason; for what needs no test, such as a count.
    #[must_use]
    pub fn holds(self, holds: bool, why: impl Into<String>) -> Self {
        let outcome = if holds { ClaimOutcome::Confirmed } else { ClaimOutcome::NotConfirmed };
        self.verdict(outcome, why)
    }

    /// Says why nothing can be said.
    #[must_use]
    pub fn not_testable(self, why: impl Into<String>) -> Self {
        self.verdict(ClaimOutcome::NotTestable, why)
    }

    /// Lets a test of differences over paired seeds decide.
    ///
    /// Missing records and too few seeds make a claim that is not testable, not an error.
    ///
    /// # Errors
    ///
    /// [`mtl_bench::Error::Ambiguous`] when the results hold several values for one method and seed.
    pub fn paired(self, test: &PairedTest, results: &Results) -> mtl_bench::Result<Self> {
        test.judge(self, results)
    }

    fn verdict(mut self, outcome: ClaimOutcome, why: impl Into<String>) -> Self {
        (self.outcome, self.why) = (outcome, why.into());
        self
    }
}
