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

/// Whether any method is better than the plain sum: all of them, corrected together.
fn none_better(claim: Claim, gains: &Results) -> anyhow::Result<Claim> {
    let names = gains.names(Key::Method);
    let others = names.iter().filter(|name| *name != "equal");
    let test =
        others.fold(PairedTest::new(delta_m("Δm")).at_least(1), |test, name| test.pair(name, "equal"));
    let tested = claim.clone().paired(&test, gains)?;
    Ok(match tested.outcome {
        ClaimOutcome::NotTestable => tested,
        // The test looked for one method that is better.
        outcome => {
            let why = format!("looked for one that is better: {}", tested.why);
            tested.holds(outcome == ClaimOutcome::NotConfirmed, why)
        }
    })
}

/// Where there is nothing to balance.
fn litmus(gains: &Results) -> anyhow::Result<Claim> {
    let claim = Claim::new("litmus", "Reasonable Effectiveness of Random Weighting", "arXiv 2111.10603")
        .statement(
            "With aligned tasks of one scale there is nothing to balance: no method leads to a better relative gain than the \
             plain sum of losses.",
        );
    none_better(claim, &gains.setting(&setting("aligned", "hps")))
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
    none_better(claim, &gains.setting(&setting(suite, "hps")))
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
    let test = PairedTest::new(delta_m("Δm")).pair("mmoe", "hps").pair("ple", "hps").at_least(1);
    let claim = Claim::new("experts-akin", MMOE.0, MMOE.1).statement(
        "For nearly identical tasks (cosine 0.95) neither MMoE nor PLE leads to a better relative gain than a shared bottom.",
    );
    let tested = claim.paired(&test, &by_architecture(gains, "akin")?)?;
    Ok(match tested.outcome {
        ClaimOutcome::NotTestable => tested,
        outcome => {
            let why = format!("looked for one that is better: {}", tested.why);
            tested.holds(outcome == ClaimOutcome::NotConfirmed, why)
        }
    })
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
