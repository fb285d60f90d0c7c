//! From a preference and a budget to widths: Aich et al., ICCV 2023, arXiv 2308.11744, as reconstructed.
use super::{AccuracyTable, SlimmableNet, WidthConfig, WidthRatio, evolve};
use crate::{Error, MultiTaskModel, Result, Seed};
use serde::{Deserialize, Serialize};
use std::{collections::BTreeMap, fmt};

/// What a user asks for.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UserConstraint {
    /// Preference for each task: at least 0, summing to 1.
    pub preference: Vec<f64>,
    /// Multiply-accumulates of one example that may not be exceeded, the encoder and every decoder together.
    pub max_macs: u64,
}

/// How the budget is split between encoder and decoders.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum EncoderRule {
    /// By an encoder that is chosen for equal preferences. The decoders share what it leaves, and then the encoder with
    /// the best score beside these decoders is taken. Raising a preference never narrows its decoder.
    #[default]
    Anchored,
    /// Each encoder brings the decoders that fit beside it, and the pair with the best score is taken: the rule as the
    /// paper states it. A preference can move the encoder, and with it narrow a decoder that became more preferred.
    Joint,
}

/// Settings of [`search`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct SearchConfig {
    /// How the budget is split.
    pub rule: EncoderRule,
    /// Lets each encoder stage have a width of its own; by evolution where there are more than
    /// `population · generations` of them, else all.
    pub per_stage: bool,
    /// Encoders kept and made in each generation. At least 2.
    pub population: usize,
    /// Generations. At least 1.
    pub generations: usize,
    /// Where the chance of the evolution comes from.
    pub seed: Seed,
}

impl Default for SearchConfig {
    fn default() -> Self {
        Self { rule: EncoderRule::Anchored, per_stage: false, population: 50, generations: 20, seed: Seed(0) }
    }
}

impl SearchConfig {
    /// Sets how the budget is split.
    #[must_use]
    pub fn rule(mut self, rule: EncoderRule) -> Self {
        self.rule = rule;
        self
    }

    /// Sets whether encoder stages have widths of their own.
    #[must_use]
    pub fn per_stage(mut self, per_stage: bool) -> Self {
        self.per_stage = per_stage;
        self
    }

    /// Sets the size of a generation.
    #[must_use]
    pub fn population(mut self, population: usize) -> Self {
        self.population = population;
        self
    }

    /// Sets the number of generations.
    #[must_use]
    pub fn generations(mut self, generations: usize) -> Self {
        self.generations = generations;
        self
    }

    /// Sets where the chance of the evolution comes from.
    #[must_use]
    pub fn seed(mut self, seed: Seed) -> Self {
        self.seed = seed;
        self
    }
}

/// How good a network is at some widths: one number per task, larger is better, such as accuracy relative to full width.
pub enum Calibration<'a> {
    /// Measures on demand, each network once.
    Measure(&'a mut dyn FnMut(&WidthConfig) -> Result<Vec<f64>>),
    /// Measured beforehand; networks that are absent are not chosen.
    Table(&'a AccuracyTable),
}

impl fmt::Debug for Calibration<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Measure(_) => "Measure",
            Self::Table(_) => "Table",
        })
    }
}

/// The answer of [`search`].
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct WidthChoice {
    /// The widths.
    pub widths: WidthConfig,
    /// Multiply-accumulates of one example.
    pub macs: u64,
    /// Preference-weighted sum of the tasks' calibration scores.
    pub score: f64,
    /// Networks that were scored.
    pub scored: usize,
}

/// Widths for a request. Every decoder gets its smallest width; of what encoder and smallest decoders leave of the
/// budget each task may spend its preference's share on a wider one. Among encoders the best score wins, then fewer
/// multiply-accumulates, then smaller widths.
///
/// ```
/// use mtl_core::TaskSpec;
/// use mtl_core::slimmable::{Calibration, SearchConfig, SlimmableConfig, UserConstraint, WidthConfig, search};
///
/// let tasks = vec![TaskSpec::classification("digit", 10), TaskSpec::classification("parity", 2)];
/// let net = SlimmableConfig::default().build(tasks)?;
/// let max_macs = net.macs(&net.full())? / 2;
/// let mut wide_is_good = |w: &WidthConfig| Ok(w.decoders.iter().map(|d| d.get() + w.encoder[0].get()).collect());
/// let request = UserConstraint { preference: vec![0.9, 0.1], max_macs };
/// let config = SearchConfig::default();
/// let choice = search(&net, &request, Calibration::Measure(&mut wide_is_good), &config)?;
/// assert!(choice.macs <= max_macs && choice.widths.decoders[0] > choice.widths.decoders[1]);
/// # Ok::<(), mtl_core::Error>(())
/// ```
///
/// # Departures
///
/// The paper gives task k the widest decoder of at most `r_k · C_dec` in all. Here the smallest decoders are set aside
/// first, so that a task with little preference does not make the request infeasible. With [`EncoderRule::Anchored`]
/// the split does not depend on the preferences.
///
/// # Errors
///
/// [`Error::Config`] for preferences that are negative, do not sum to 1 or are not one per task; for a budget below the
/// smallest network, whose cost it states; for a score that is not one finite number per task; when no network within
/// the budget was measured.
pub fn search(
    net: &SlimmableNet,
    constraint: &UserConstraint,
    calibration: Calibration<'_>,
    config: &SearchConfig,
) -> Result<WidthChoice> {
    let tasks = net.tasks().len();
    check_preference(&constraint.preference, tasks)?;
    if config.population < 2 || config.generations < 1 {
        let value = format!("{} and {}", config.population, config.generations);
        return Err(Error::config("population and generations", "at least 2 and 1", value));
    }
    let minimum = net.macs(&net.smallest())?;
    if constraint.max_macs < minimum {
        let must = format!("at least {minimum} MACs, the cost of the smallest network");
        return Err(Error::config("max_macs", must, constraint.max_macs));
    }
    let mut scorer = Scorer { net, calibration, known: BTreeMap::new() };
    // With decoders given and an encoder that is known to fit beside them, or with decoders that depend on the encoder.
    let mut best = |preference: &[f64], given: Option<(&[WidthRatio], &[WidthRatio])>| {
        let mut evaluate = |encoder: &[WidthRatio]| {
            let decoders = match given {
                Some((decoders, _)) => decoders.to_vec(),
                None => match decoders_beside(net, encoder, preference, constraint.max_macs) {
                    Some(decoders) => decoders,
                    None => return Ok(None),
                },
            };
            let widths = WidthConfig { encoder: encoder.to_vec(), decoders };
            let macs = net.macs(&widths)?;
            if macs > constraint.max_macs {
                return Ok(None);
            }
            Ok(scorer.score(&widths, preference)?.map(|score| Candidate { widths, macs, score }))
        };
        evolve::best(net, config, given.map(|(_, anchor)| anchor), &mut evaluate)
    };
    let found = match config.rule {
        EncoderRule::Joint => best(&constraint.preference, None)?,
        EncoderRule::Anchored => {
            let equal = vec![1.0 / tasks as f64; tasks];
            let beside = |encoder: Vec<WidthRatio>| {
                let decoders = decoders_beside(net, &encoder, &constraint.preference, constraint.max_macs)?;
                Some((decoders, encoder))
            };
            match best(&equal, None)?.and_then(|anchor| beside(anchor.widths.encoder)) {
                Some((decoders, anchor)) => best(&constraint.preference, Some((&decoders, &anchor)))?,
                None => None,
            }
        }
    };
    let Some(Candidate { widths, macs, score }) = found else {
        let must = "measured for a network that the rule allows within the budget";
        return Err(Error::config("calibration", must, "measured for none"));
    };
    Ok(WidthChoice { widths, macs, score, scored: scorer.known.len() })
}

/// The widest decoders beside `encoder`; none where not even the smallest fit.
///
/// The share of a task depends on its own preference and on the encoder alone, and so its width rises with the
/// preference.
fn decoders_beside(
    net: &SlimmableNet,
    encoder: &[WidthRatio],
    preference: &[f64],
    max_macs: u64,
) -> Option<Vec<WidthRatio>> {
    let last = encoder.last().copied().unwrap_or(WidthRatio::FULL);
    let ratios = &net.config().widths;
    let smallest = *ratios.first()?;
    let least: u64 = (0..preference.len()).map(|task| net.decoder_macs(task, last, smallest)).sum();
    let pool = max_macs.checked_sub(net.encoder_macs(encoder))?.checked_sub(least)?;
    // Preferences may sum to 1 + 1e-12 and products are rounded; both together stay below one operation.
    let pool = pool as f64 * (1.0 - if pool > 1 << 38 { 4e-12 } else { 0.0 });
    let slack = 0.25 / preference.len() as f64;
    let widest = |(task, share): (usize, &f64)| {
        let smallest_macs = net.decoder_macs(task, last, smallest);
        let fits = |width: &&WidthRatio| {
            let extra = net.decoder_macs(task, last, **width).saturating_sub(smallest_macs);
            extra as f64 <= share * pool + slack
        };
        ratios.iter().rev().find(fits).copied().unwrap_or(smallest)
    };
    Some(preference.iter().enumerate().map(widest).collect())
}

fn check_preference(preference: &[f64], tasks: usize) -> Result<()> {
    if preference.len() != tasks {
        let must = format!("one number for each of {tasks} tasks");
        return Err(Error::config("preference", must, format!("{} numbers", preference.len())));
    }
    let sum: f64 = preference.iter().sum();
    let fine = preference.iter().all(|r| 0.0 <= *r && r.is_finite());
    if fine && (sum - 1.0).abs() <= 1e-12 {
        return Ok(());
    }
    Err(Error::config("preference", "at least 0 and of sum 1", format!("{preference:?} of sum {sum}")))
}

/// A network within the budget.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Candidate {
    pub(super) widths: WidthConfig,
    pub(super) macs: u64,
    pub(super) score: f64,
}

impl Candidate {
    /// Higher score, then fewer multiply-accumulates, then smaller widths.
    pub(super) fn order(&self, other: &Self) -> std::cmp::Ordering {
        let score = other.score.total_cmp(&self.score);
        score.then_with(|| self.macs.cmp(&other.macs)).then_with(|| self.widths.cmp(&other.widths))
    }
}

/// Calibration scores, each network measured once.
#[derive(Debug)]
struct Scorer<'n, 'c> {
    net: &'n SlimmableNet,
    calibration: Calibration<'c>,
    known: BTreeMap<WidthConfig, Vec<f64>>,
}

impl Scorer<'_, '_> {
    /// `Σ r_k · score_k`; none for a network that the table lacks.
    fn score(&mut self, widths: &WidthConfig, preference: &[f64]) -> Result<Option<f64>> {
        if !self.known.contains_key(widths) {
            let scores = match &mut self.calibration {
                Calibration::Measure(measure) => measure(widths)?,
                Calibration::Table(table) => match table.get(widths) {
                    Some(scores) => scores.to_vec(),
                    None => return Ok(None),
                },
            };
            self.check(&scores, widths)?;
            self.known.insert(widths.clone(), scores);
        }
        let scores = self.known.get(widths);
        Ok(scores.map(|scores| scores.iter().zip(preference).map(|(s, r)| s * r).sum()))
    }

    fn check(&self, scores: &[f64], widths: &WidthConfig) -> Result<()> {
        let tasks = self.net.tasks();
        if scores.len() != tasks.len() {
            let must = format!("one number for each of {} tasks", tasks.len());
            return Err(Error::config(
                format!("score at {widths}"),
                must,
                format!("{} numbers", scores.len()),
            ));
        }
        match scores.iter().zip(tasks).find(|(score, _)| !score.is_finite()) {
            Some((score, task)) => {
                let field = format!("score of task `{}` at {widths}", task.name);
                Err(Error::config(field, "finite", score))
            }
            None => Ok(()),
        }
    }
}
