//! What papers say about balancers and architectures, as verdicts.
use super::{
    report::{baseline_of, setting},
    run::SINGLE,
};
use crate::{
    runner::{Claim, ClaimOutcome, PairedTest},
    studies::pages::gains,
};
use mtl_bench::{Comparison, Record, Results, metrics::Better, store::Key};

/// Every claim of the study.
pub(super) fn all(results: &Results) -> anyhow::Result<Vec<Claim>> {
    let scores = results.filter(|r| r.metric != "gate_divergence");
    let gains = gains(&scores, SINGLE, &baseline_of)?;
    Ok(vec![
        conflict(&gains)?,
        litmus(&gains)?,
        digits(&gains, "multi-digits")?,
        digits(&gains, "attributes")?,
        kinship(&gains, "unrelated")?,
        kinship_tie(&gains)?,
        gates(results)?,
    ])
}

fn delta_m(label: impl Into<String>) -> Comparison {
    Comparison::new("delta_m", Better::Higher).label(label).unit("%")
}

/// Methods made for conflict, where there is conflict.
fn conflict(gains: &Results) -> anyhow::Result<Claim> {
    let test = ["nash_mtl", "imtl", "aligned_mtl", "cagrad", "db_mtl"]
        .into_iter()
        .fold(PairedTest::new(delta_m("Δm")), |test, method| test.pair(method, "equal"));
    let claim = Claim::new("conflict", "Multi-Task Learning as a Bargaining Game, and four others", "arXiv 2202.01017")
        .statement(
            "Where task gradients conflict and losses differ in scale, Nash-MTL, IMTL, Aligned-MTL, CAGrad and DB-MTL each \
             lead to a better relative gain over single-task models than the plain sum of losses.",
        );
    Ok(claim.paired(&test, &gains.setting(&setting("conflict", "hps")))?)
}

/// Gains in Δm below this many percent do not count as better.
const MARGIN: f64 = 2.0;

/// A claim that none of `methods` is better than `baseline`. That one is better, after Holm's correction, refutes it; that all
/// 95 % intervals end below [`MARGIN`] confirms it; and else nothing is shown, for not finding a difference is not finding
/// that there is none.
fn none_better(claim: Claim, gains: &Results, methods: &[String], baseline: &str) -> anyhow::Result<Claim> {
    let test = PairedTest::new(delta_m("Δm")).at_least(1);
    let test = methods.iter().fold(test, |test, name| test.pair(name, baseline));
    let tested = claim.clone().paired(&test, gains)?;
    match tested.outcome {
        ClaimOutcome::NotTestable => return Ok(tested),
        ClaimOutcome::Confirmed => {
            let why = format!("at least one is better: {}", tested.why);
            return Ok(tested.holds(false, why));
        }
        ClaimOutcome::NotConfirmed => {}
    }
    let mut open = Vec::new();
    for name in methods {
        let alone = claim.clone().paired(&PairedTest::new(delta_m("Δm")).pair(name, baseline), gains)?;
        let high = alone.effect.and_then(|effect| effect.interval).map_or(f64::INFINITY, |(_, high)| high);
        if high >= MARGIN {
            open.push(name.as_str());
        }
    }
    let none = format!("none of {} is significantly better after Holm's correction", methods.len());
    if open.is_empty() {
        let why = format!("{none}, and all 95 % intervals end below a gain of {MARGIN} %");
        return Ok(tested.holds(true, why));
    }
    let why = format!("{none}, but gains above {MARGIN} % cannot be excluded for {}", open.join(", "));
    Ok(tested.not_testable(why))
}

/// Every method but the plain sum.
fn all_others(gains: &Results) -> Vec<String> {
    gains.names(Key::Method).into_iter().filter(|name| name != "equal").collect()
}

/// Where there is nothing to balance.
fn litmus(gains: &Results) -> anyhow::Result<Claim> {
    let claim = Claim::new("litmus", "Reasonable Effectiveness of Random Weighting", "arXiv 2111.10603")
        .statement(
            "With aligned tasks of one scale there is nothing to balance: no method leads to a better relative gain than the \
             plain sum of losses.",
        );
    let gains = gains.setting(&setting("aligned", "hps"));
    none_better(claim, &gains, &all_others(&gains), "equal")
}

/// Ordinary tasks of one kind.
fn digits(gains: &Results, suite: &str) -> anyhow::Result<Claim> {
    let claim = Claim::new(
        format!("plain-sum-{suite}"),
        "Do Current Multi-Task Optimization Methods in Deep Learning Even Help?",
        "NeurIPS 2022",
    )
    .statement(format!(
        "On ordinary classification tasks ({suite}) no method leads to a better relative gain than the plain sum of losses."
    ));
    let gains = gains.setting(&setting(suite, "hps"));
    none_better(claim, &gains, &all_others(&gains), "equal")
}

/// The gains on one suite with equal weights, by architecture.
fn by_architecture(gains: &Results, suite: &str) -> anyhow::Result<Results> {
    let prefix = format!("{suite}, ");
    let rows = gains.method("equal");
    let renamed = rows.records().iter().filter_map(|r| {
        let architecture = r.setting.strip_prefix(&prefix)?;
        Some(Record { method: architecture.to_owned(), setting: suite.to_owned(), ..r.clone() })
    });
    Ok(Results::from_records(renamed)?)
}

const MMOE: (&str, &str) = (
    "Modeling Task Relationships in Multi-task Learning with Multi-gate Mixture-of-Experts",
    "KDD 2018, doi 10.1145/3219819.3220007",
);

fn kinship(gains: &Results, suite: &str) -> anyhow::Result<Claim> {
    let test = PairedTest::new(delta_m("Δm")).pair("mmoe", "hps").pair("ple", "hps");
    let claim = Claim::new(format!("experts-{suite}"), MMOE.0, MMOE.1).statement(
        "For unrelated tasks (cosine 0) mixtures of experts, MMoE and PLE, lead to a better relative gain than a shared \
         bottom.",
    );
    Ok(claim.paired(&test, &by_architecture(gains, suite)?)?)
}

fn kinship_tie(gains: &Results) -> anyhow::Result<Claim> {
    let claim = Claim::new("experts-akin", MMOE.0, MMOE.1).statement(
        "For nearly identical tasks (cosine 0.95) neither MMoE nor PLE leads to a better relative gain than a shared bottom.",
    );
    none_better(claim, &by_architecture(gains, "akin")?, &["mmoe", "ple"].map(str::to_owned), "hps")
}

fn gates(results: &Results) -> anyhow::Result<Claim> {
    let comparison = Comparison::new("gate_divergence", Better::Higher)
        .label("symmetric Kullback–Leibler divergence between the mean gates of two tasks")
        .unit("nats");
    let rows = results.metric("gate_divergence").method("equal");
    let renamed = rows.records().iter().filter_map(|r| {
        let suite = r.setting.strip_suffix(", mmoe").filter(|s| ["unrelated", "akin"].contains(s))?;
        Some(Record { method: suite.to_owned(), setting: "mmoe".to_owned(), ..r.clone() })
    });
    let claim = Claim::new("gates", MMOE.0, MMOE.1).statement(
        "The gates of MMoE keep unrelated tasks (cosine 0) further apart than nearly identical ones (cosine 0.95).",
    );
    Ok(claim
        .paired(&PairedTest::new(comparison).pair("unrelated", "akin"), &Results::from_records(renamed)?)?)
}
