//! `mtl-bench stats`: what the records allow to say.
use super::args::Stats;
use super::{input, print, print_json, say};
use crate::Results;
use crate::metrics::Better;
use crate::stats::{
    Bootstrap, CompareOptions, PairComparison, PairingKey, ScoreComparison, Scores, Test, compare,
    detectable_difference, format_p,
};
use anyhow::Context;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::fmt::Write;

/// Power at which the smallest difference that could have been found is told.
const POWER: f64 = 0.8;

pub(super) fn stats(args: &Stats) -> anyhow::Result<u8> {
    let results = input::results(&args.input, false)?;
    let metric = input::metric(&results)?;
    let better = direction(&metric, args.better.map(Into::into))?;
    let mut scores = Scores::from_results(&results, &metric, better)?;
    if args.complete {
        let (complete, dropped) = scores.complete_blocks();
        if dropped > 0 {
            say(&format!("remark: {dropped} pairs of task and seed left out, as some method lacks them"));
        }
        scores = complete;
    }
    let unpaired = args.unpaired || !paired(&scores)?;
    let bootstrap = Bootstrap { level: args.level, seed: mtl_core::Seed(args.seed), ..Bootstrap::default() };
    let options = CompareOptions {
        control: args.baseline.clone(),
        correction: args.correction.into(),
        level: args.level,
        bootstrap: Bootstrap { replicates: 2_000, ..bootstrap },
        test: (unpaired && scores.tasks().len() == 1).then_some(Test::Welch),
    };
    let found = compare(&scores, &options)?;
    if args.json {
        print_json(&as_json(&found, args.level)?)?;
    } else {
        print(&text(&metric, better, &scores, &results, &found, args.level)?)?;
    }
    Ok(0)
}

/// Whether all methods have the same tasks and seeds; false when no two share any. Refuses what lies between.
fn paired(scores: &Scores) -> anyhow::Result<bool> {
    let methods = scores.methods();
    let keys = |method: &str| Ok(scores.pairs(method, method)?.into_iter().map(|(k, ..)| k).collect());
    let keys: Vec<BTreeSet<PairingKey>> = methods.iter().map(|m| keys(m)).collect::<crate::Result<_>>()?;
    let mut all = true;
    for (i, a) in keys.iter().enumerate() {
        for (j, b) in keys.iter().enumerate().skip(i + 1) {
            if a == b {
                continue;
            }
            all = false;
            if !a.is_disjoint(b) {
                scores
                    .pairs(methods[i], methods[j])
                    .context("`--complete` leaves such keys out, `--unpaired` takes runs for independent")?;
            }
        }
    }
    Ok(all)
}

pub(super) fn direction(metric: &str, given: Option<Better>) -> anyhow::Result<Better> {
    given.or_else(|| Better::of_metric(metric)).with_context(|| {
        format!("which values of `{metric}` are good is not known; say `--better higher` or `--better lower`")
    })
}

fn text(
    metric: &str,
    better: Better,
    scores: &Scores,
    results: &Results,
    found: &ScoreComparison,
    level: f64,
) -> anyhow::Result<String> {
    let mut out = String::new();
    let (methods, tasks, seeds) = (scores.methods().len(), scores.tasks().len(), results.seeds().len());
    writeln!(out, "{metric} {}: {methods} methods, {tasks} tasks, {seeds} seeds", better.arrow())?;
    writeln!(out, "test: {}", found.recommendation)?;
    if let Some(f) = &found.friedman {
        writeln!(
            out,
            "all methods at once: Friedman χ² = {:.2}, {}; Iman–Davenport F = {:.2}, {}",
            f.chi_squared,
            format_p(f.chi_squared_p),
            f.f,
            format_p(f.p)
        )?;
    }
    writeln!(out)?;
    for pair in &found.pairs {
        writeln!(out, "{pair}")?;
        writeln!(out, "  {}", reach(pair, level)?)?;
    }
    if !found.warnings.is_empty() {
        writeln!(out)?;
    }
    for warning in &found.warnings {
        writeln!(out, "note: {warning}")?;
    }
    Ok(out)
}

/// What a comparison could have shown: the smallest difference, and the smallest p.
fn reach(pair: &PairComparison, level: f64) -> anyhow::Result<String> {
    let mut text = match pair.gain.and_then(|g| g.std).filter(|s| *s > 0.0) {
        Some(std) => format!(
            "smallest difference that {} {} find with a probability of {:.0} %: {:.3}",
            pair.n,
            pair.over,
            100.0 * POWER,
            detectable_difference(std, pair.n, POWER, level)?
        ),
        None => "no spread, so nothing can be said about smaller differences".to_owned(),
    };
    let least = 2_f64.powi(1 - i32::try_from(pair.n).unwrap_or(i32::MAX).min(1000));
    if pair.test.by_signs() && least > 1e-4 {
        write!(text, "; the smallest p of this test is {least:.4}")?;
        if least >= 1.0 - level {
            text.push_str(", so it can never show a difference");
        }
    }
    Ok(text)
}

fn as_json(found: &ScoreComparison, level: f64) -> anyhow::Result<Value> {
    let pair = |p: &PairComparison| -> anyhow::Result<Value> {
        let detectable = match p.gain.and_then(|g| g.std).filter(|s| *s > 0.0) {
            Some(std) => Some(detectable_difference(std, p.n, POWER, level)?),
            None => None,
        };
        Ok(json!({
            "method": p.method,
            "other": p.other,
            "test": p.test.name(),
            "n": p.n,
            "over": p.over,
            "wins": p.wins.0, "ties": p.wins.1, "losses": p.wins.2,
            "median_gain": p.median_gain,
            "mean_gain": p.gain.map(|g| g.mean),
            "interval": p.interval.map(|i| [i.low, i.high]),
            "p": p.p,
            "adjusted_p": p.adjusted_p,
            "correction": p.family.0.name(),
            "comparisons": p.family.1,
            "probability_of_improvement": p.improvement.probability,
            "detectable_difference": detectable,
            "sentence": p.to_string(),
        }))
    };
    Ok(json!({
        "recommendation": found.recommendation.to_string(),
        "friedman_p": found.friedman.as_ref().map(|f| f.p),
        "pairs": found.pairs.iter().map(pair).collect::<anyhow::Result<Vec<_>>>()?,
        "warnings": found.warnings,
    }))
}
