//! Verdicts on claims from paired seeds.
use super::claim::{Claim, Effect};
use mtl_bench::{
    Comparison, Result, Results,
    stats::{format_p, holm},
    store::Key,
};
use std::collections::{BTreeMap, BTreeSet};

/// A claim about methods and their baselines, tested over the seeds they share.
///
/// Each pair gives a paired t test in the direction that the comparison calls better, at its level; the p of several pairs
/// are corrected by Holm's method. The claim holds when enough of them do (all, unless [`at_least`](Self::at_least) says
/// otherwise), or with [`on_average`](Self::on_average) when the mean over the pairs does, which is one test.
#[derive(Debug, Clone, PartialEq)]
pub struct PairedTest {
    comparison: Comparison,
    pairs: Vec<(String, String)>,
    at_least: Option<usize>,
    on_average: bool,
    min_seeds: usize,
    negligible: Option<f64>,
}

/// One pair, measured.
struct Pair<'a> {
    method: &'a str,
    baseline: &'a str,
    by_seed: BTreeMap<u64, f64>,
    effect: Effect,
    adjusted_p: Option<f64>,
}

impl PairedTest {
    /// A test by `comparison`, with no pair yet and at least 3 seeds.
    pub fn new(comparison: Comparison) -> Self {
        Self {
            comparison,
            pairs: Vec::new(),
            at_least: None,
            on_average: false,
            min_seeds: 3,
            negligible: None,
        }
    }

    /// Adds a method and what it is claimed to be better than.
    #[must_use]
    pub fn pair(mut self, method: impl Into<String>, baseline: impl Into<String>) -> Self {
        self.pairs.push((method.into(), baseline.into()));
        self
    }

    /// Sets how many of the pairs must hold.
    #[must_use]
    pub fn at_least(mut self, pairs: usize) -> Self {
        self.at_least = Some(pairs);
        self
    }

    /// Tests the mean over the pairs instead of each of them.
    #[must_use]
    pub fn on_average(mut self) -> Self {
        self.on_average = true;
        self
    }

    /// Sets how many seeds each pair must share for anything to be said.
    #[must_use]
    pub fn min_seeds(mut self, min_seeds: usize) -> Self {
        self.min_seeds = min_seeds;
        self
    }

    /// Calls mean differences smaller than `margin`, in the metric's own unit, too small to be told at this scale.
    #[must_use]
    pub fn negligible(mut self, margin: f64) -> Self {
        self.negligible = Some(margin);
        self
    }

    /// Fills in `claim`; [`Claim::paired`] is the way to call it.
    pub(super) fn judge(&self, claim: Claim, results: &Results) -> Result<Claim> {
        let results = results.metric(&self.comparison.metric);
        let known: BTreeSet<String> = results.names(Key::Method).into_iter().collect();
        let names = self.pairs.iter().flat_map(|(method, baseline)| [method, baseline]);
        let missing: BTreeSet<&str> = names.filter(|name| !known.contains(*name)).map(|n| &**n).collect();
        if self.pairs.is_empty() || !missing.is_empty() {
            let missing = missing.into_iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
            return Ok(claim.not_testable(format!("no records of {} for {missing}", self.comparison.label)));
        }
        let mut pairs = Vec::with_capacity(self.pairs.len());
        for (method, baseline) in &self.pairs {
            let found = Results::pair(&results.method(method), &results.method(baseline))?;
            let by_seed: BTreeMap<u64, f64> = found.pairs.iter().map(|p| (p.seed, p.a - p.b)).collect();
            if by_seed.is_empty() {
                return Ok(claim.not_testable(format!("`{method}` and `{baseline}` share no seed")));
            }
            let effect = Effect::paired(&found.differences(), &self.comparison)?;
            pairs.push(Pair { method, baseline, by_seed, adjusted_p: effect.p, effect });
        }
        let tested: Vec<f64> = pairs.iter().filter_map(|pair| pair.effect.p).collect();
        let mut adjusted = holm(&tested)?.into_iter();
        for pair in pairs.iter_mut().filter(|pair| pair.effect.p.is_some()) {
            pair.adjusted_p = adjusted.next();
        }
        let claim = claim.measured(self.tell(&pairs));
        let Some(effect) = self.mean_effect(&pairs)? else {
            return Ok(claim.not_testable("the pairs share no seed"));
        };
        let fewest = pairs.iter().map(|pair| pair.effect.seeds).fold(effect.seeds, usize::min);
        let claim = claim.effect(effect.clone());
        if fewest < self.min_seeds {
            let why = format!("{fewest} paired seeds, where at least {} are needed", self.min_seeds);
            return Ok(claim.not_testable(why));
        }
        Ok(self.decide(claim, &pairs, &effect))
    }

    /// The mean over the pairs for each seed that all of them have.
    fn mean_effect(&self, pairs: &[Pair<'_>]) -> Result<Option<Effect>> {
        let Some(first) = pairs.first() else { return Ok(None) };
        let all = |seed: &u64| -> Option<Vec<f64>> {
            pairs.iter().map(|pair| pair.by_seed.get(seed).copied()).collect()
        };
        let means = first.by_seed.keys().filter_map(all);
        let differences: Vec<f64> = means.map(|d| d.iter().sum::<f64>() / d.len() as f64).collect();
        if differences.is_empty() {
            return Ok(None);
        }
        Effect::paired(&differences, &self.comparison).map(Some)
    }

    /// What was measured, pair by pair.
    fn tell(&self, pairs: &[Pair<'_>]) -> String {
        let holm = pairs.iter().filter(|pair| pair.effect.p.is_some()).count() > 1 && !self.on_average;
        let each = pairs.iter().map(|pair| {
            let Pair { method, baseline, effect, .. } = pair;
            let p = if self.on_average { effect.p } else { pair.adjusted_p };
            let note = if holm { ", Holm" } else { "" };
            let p = p.map(|p| format!(" ({}{note})", format_p(p))).unwrap_or_default();
            format!("{method} − {baseline}: {effect}{p}")
        });
        format!("{}: {}", self.comparison.label, each.collect::<Vec<_>>().join("; "))
    }

    fn decide(&self, claim: Claim, pairs: &[Pair<'_>], effect: &Effect) -> Claim {
        let alpha = 1.0 - self.comparison.level;
        let scale = self.comparison.scale;
        if let Some(margin) = self.negligible
            && effect.mean.abs() < margin * scale
        {
            let limit = format!("{:.3} {}", margin * scale, effect.unit);
            return claim.not_testable(format!(
                "the mean difference {effect} is below {}, too small to be told at this scale",
                limit.trim_end()
            ));
        }
        let decided = if self.on_average || pairs.len() == 1 {
            effect.p.map(|p| {
                let compared = if p < alpha { "below" } else { "not below" };
                (p < alpha, format!("one-sided {}, {compared} {alpha:.2}", format_p(p)))
            })
        } else {
            let needed = self.at_least.unwrap_or(pairs.len());
            let tested: Vec<f64> = pairs.iter().filter_map(|pair| pair.adjusted_p).collect();
            let held = tested.iter().filter(|p| **p < alpha).count();
            let why = format!(
                "{held} of {} differences have a one-sided p < {alpha:.2} after Holm's correction; {needed} needed",
                pairs.len()
            );
            (!tested.is_empty()).then_some((held >= needed, why))
        };
        let Some((holds, mut why)) = decided else {
            return claim.not_testable("every seed shows the same difference, so no test applies");
        };
        let mean = effect.mean / scale;
        if !holds && effect.p.is_some_and(|p| p > 1.0 - alpha) {
            why += "; the mean difference is significant in the other direction";
        } else if !holds && !self.comparison.better.is_better(mean, 0.0) {
            why += "; the mean difference does not point in the claimed direction";
        }
        claim.holds(holds, why)
    }
}
