//! Claims about slimmable networks, and the records they are judged by.
use super::{
    performance::{TASKS, covered},
    run::INDIVIDUAL,
};
use crate::runner::{Claim, PairedTest};
use mtl_bench::{Comparison, Record, Results, metrics::Better, store::Key};
use std::collections::BTreeMap;

/// The distillation that the claims about one network for all requests are about.
pub(super) const DISTILLED: &str = "slice-mse";
/// Share of adjacent pairs in which the performance must not fall.
const KEPT: f64 = 0.8;
/// Share of the performance of networks of one width that one network of all widths must reach.
const REACHED: f64 = 0.95;

/// Names of what covers a volume.
pub(super) const REQUESTS: &str = "SuperNet, all requests";
pub(super) const UNIFORM: &str = "SuperNet, every part at one width";
pub(super) const FAMILY: &str = "one model per width";
pub(super) const RETRAINED: &str = "one model per width and preference";

/// Ratios of encoder and decoder in a setting.
pub(super) fn ratios(setting: &str) -> Option<(f64, f64)> {
    let (encoder, decoder) = setting.strip_prefix("encoder ")?.split_once(", decoder ")?;
    Some((encoder.parse().ok()?, decoder.parse().ok()?))
}

/// The ratio whose cost a setting has as its budget.
pub(super) fn budget_ratio(setting: &str) -> Option<f64> {
    setting.strip_prefix("budget of ")?.parse().ok()
}

/// Performances of a seed's networks of one width that are no wider than `widest`.
fn points(results: &Results, methods: &[&str], seed: u64, widest: f64) -> Vec<Vec<f64>> {
    let mut networks: BTreeMap<(&str, &str), BTreeMap<&str, f64>> = BTreeMap::new();
    for record in results.records() {
        let narrow = ratios(&record.setting).is_some_and(|(e, d)| e == d && e <= widest);
        if record.metric == "performance"
            && record.seed == seed
            && narrow
            && methods.contains(&&*record.method)
        {
            let network = networks.entry((&record.method, &record.setting)).or_default();
            network.insert(&record.task, record.value);
        }
    }
    let all = |network: BTreeMap<&str, f64>| {
        TASKS.iter().map(|(task, _)| network.get(task).copied()).collect::<Option<Vec<f64>>>()
    };
    networks.into_values().filter_map(all).collect()
}

/// The volume covered at each budget, by all that is compared.
pub(super) fn volumes(results: &Results) -> anyhow::Result<Results> {
    let favouring: Vec<String> = TASKS.iter().map(|(task, _)| super::run::favouring(task)).collect();
    let mut retrained = vec![INDIVIDUAL];
    retrained.extend(favouring.iter().map(String::as_str));
    let families: [(&str, &[&str]); 3] =
        [(UNIFORM, &[DISTILLED]), (FAMILY, &[INDIVIDUAL]), (RETRAINED, &retrained)];
    let mut volumes = Vec::new();
    for record in results.metric("hypervolume").method(DISTILLED).records() {
        let Some(widest) = budget_ratio(&record.setting) else { continue };
        let volume = |name: &str, value| {
            Record::new("hypervolume", value).method(name).setting(&record.setting).seed(record.seed)
        };
        volumes.push(volume(REQUESTS, record.value));
        // Every method must have each width that the whole network has.
        let needed = points(results, &[DISTILLED], record.seed, widest).len();
        for (name, methods) in families {
            let all = |method: &&str| points(results, &[method], record.seed, widest).len() == needed;
            if needed > 0 && methods.iter().all(all) {
                let covered = covered(&points(results, methods, record.seed, widest))?;
                volumes.push(volume(name, covered));
            }
        }
    }
    Ok(Results::from_records(volumes)?)
}

/// Mean over all settings of a metric, seed by seed, for the settings and methods of `results`.
fn mean_over_settings(results: &Results, name: &str) -> anyhow::Result<Vec<Record>> {
    let mut seeds: BTreeMap<(String, u64), Vec<f64>> = BTreeMap::new();
    for record in results.records() {
        seeds.entry((record.method.clone(), record.seed)).or_default().push(record.value);
    }
    // A run that lacks a setting is left out.
    let all = seeds.values().map(Vec::len).max().unwrap_or(0);
    let whole = seeds.into_iter().filter(|(_, values)| values.len() == all);
    Ok(whole
        .map(|((method, seed), values)| {
            let mean = values.iter().sum::<f64>() / values.len() as f64;
            Record::new(name, mean).method(method).seed(seed)
        })
        .collect())
}

/// Mean performance over the widths of networks whose parts have one width.
pub(super) fn uniform_means(results: &Results, methods: &[&str]) -> anyhow::Result<Vec<Record>> {
    let uniform = results.filter(|r| {
        r.metric == "performance"
            && methods.contains(&&*r.method)
            && ratios(&r.setting).is_some_and(|(e, d)| e == d)
    });
    mean_over_settings(&uniform.mean_over_tasks()?, "performance")
}

/// What the paper and we claim, judged by `results`.
pub(super) fn all(results: &Results) -> anyhow::Result<Vec<Claim>> {
    let ecmt =
        |name: &str| Claim::new(name, "Efficient Controllable Multi-Task Architectures", "arXiv 2308.11744");
    let distillation = ecmt("distillation")
        .statement(
            "Distilling the widest encoder into narrower ones (mean squared error of the first channels) raises the mean \
             performance of all networks.",
        )
        .paired(
            &PairedTest::new(
                Comparison::new("mean_performance", Better::Higher).label("mean performance").points(),
            )
            .pair(DISTILLED, "none")
            .min_seeds(5),
            results,
        )?;
    Ok(vec![
        distillation,
        widths(ecmt("decoder-width"), results)?,
        kept(ecmt("task-performance"), results)?,
        volume(ecmt("hypervolume"), results)?,
        reached(results)?,
    ])
}

/// Raising a preference never narrows the task's decoder: an exact property, and so a count.
fn widths(claim: Claim, results: &Results) -> anyhow::Result<Claim> {
    let claim = claim.statement(
        "At a fixed budget, raising the preference for a task never narrows its decoder, in any network.",
    );
    let shares = results.metric("wide_share");
    let values = |rule: &str| -> Vec<f64> {
        shares.setting(rule).records().iter().map(|record| record.value).collect()
    };
    let (anchored, joint) = (values("anchored"), values("joint"));
    let pairs: f64 = results.metric("pairs").setting("anchored").records().iter().map(|r| r.value).sum();
    if anchored.is_empty() || pairs == 0.0 {
        return Ok(claim.not_testable("no records of pairs of requests"));
    }
    let mean = |values: &[f64]| 100.0 * values.iter().sum::<f64>() / values.len().max(1) as f64;
    let narrowed = anchored.iter().filter(|share| **share < 1.0).count();
    let why = format!("{narrowed} of {} networks narrow a decoder whose preference rises", anchored.len());
    let measured = format!(
        "pairs of adjacent requests without a narrower decoder: {:.2} % of {pairs} by the anchored rule, {:.2} % by the joint \
         one, which is the paper's as reconstructed",
        mean(&anchored),
        mean(&joint)
    );
    Ok(claim.measured(measured).holds(narrowed == 0, why))
}

/// The measured performance follows the preference in most pairs.
fn kept(claim: Claim, results: &Results) -> anyhow::Result<Claim> {
    let ours = results.method(DISTILLED).setting("anchored");
    let shares = ours.metric("kept_share");
    let mut records = Vec::new();
    for record in shares.records() {
        let share = |method: &str, value| Record::new("share", value).method(method).seed(record.seed);
        records.extend([share("pairs", record.value), share("80 %", KEPT)]);
    }
    let comparison = Comparison::new("share", Better::Higher)
        .label("share of pairs without a loss on test images")
        .points();
    let test = PairedTest::new(comparison).pair("pairs", "80 %").min_seeds(5);
    let mut claim = claim
        .statement(
            "At a fixed budget, raising the preference for a task does not lower its measured performance in at least 80 % of \
             pairs of adjacent requests.",
        )
        .paired(&test, &Results::from_records(records)?)?;
    let mean = |metric: &str| -> Option<f64> {
        let found = ours.metric(metric);
        let values: Vec<f64> = found.records().iter().map(|record| 100.0 * record.value).collect();
        (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64)
    };
    if let (Some(kept), Some(moved), Some(moved_kept)) =
        (mean("kept_share"), mean("moved_share"), mean("moved_kept_share"))
    {
        claim.measured += &format!(
            "; {kept:.1} % of all pairs, ties included; in {moved:.1} % of pairs the task's network changes at all, and of \
             these {moved_kept:.1} % do not lose"
        );
    }
    Ok(claim)
}

/// The volume over all requests against that of one model per width.
fn volume(claim: Claim, results: &Results) -> anyhow::Result<Claim> {
    let means = mean_over_settings(&volumes(results)?, "hypervolume")?;
    let comparison = Comparison::new("hypervolume", Better::Higher)
        .label("volume over the performances at all tasks, mean over budgets")
        .points();
    let test = PairedTest::new(comparison).pair(REQUESTS, FAMILY).min_seeds(5);
    Ok(claim
        .statement(
            "Over all preferences, one network covers a larger volume of performances than a family of models of one width \
             each that cost no more.",
        )
        .paired(&test, &Results::from_records(means)?)?)
}

/// One network against models that were trained for one width.
fn reached(results: &Results) -> anyhow::Result<Claim> {
    const BAR: &str = "95 % of one model per width";
    let means = uniform_means(results, &[DISTILLED, INDIVIDUAL])?;
    let scaled = means.into_iter().map(|record| {
        if record.method == INDIVIDUAL {
            Record { value: REACHED * record.value, method: BAR.to_owned(), ..record }
        } else {
            record
        }
    });
    let results = Results::from_records(scaled)?;
    let comparison = Comparison::new("performance", Better::Higher)
        .label("mean performance over widths and tasks")
        .points();
    let test = PairedTest::new(comparison).pair(DISTILLED, BAR).min_seeds(5);
    Ok(Claim::new("one-for-all", "No paper: a bar of this study's own", "none")
        .statement("One network of all widths reaches at least 95 % of the mean performance of models of one width each.")
        .paired(&test, &results)?)
}

/// Settings of `results` that have a ratio, from small to large ones.
pub(super) fn by_ratio(results: &Results, ratio: impl Fn(&str) -> Option<f64>) -> Vec<(f64, String)> {
    let names = results.names(Key::Setting).into_iter();
    let mut found: Vec<(f64, String)> = names.filter_map(|name| Some((ratio(&name)?, name))).collect();
    found.sort_by(|a, b| a.0.total_cmp(&b.0));
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runner::ClaimOutcome;

    #[test]
    fn nothing_is_not_testable() {
        let claims = all(&Results::from_records([]).unwrap()).unwrap();
        assert_eq!(claims.len(), 5);
        assert!(claims.iter().all(|claim| claim.outcome == ClaimOutcome::NotTestable));
    }

    #[test]
    fn a_family_that_lacks_a_width_covers_nothing_yet() {
        let run = |method: &str, width: &str| {
            let setting = format!("encoder {width}, decoder {width}");
            let record = |(task, _): (&str, f64)| {
                Record::new("performance", 0.9).method(method).setting(&setting).task(task)
            };
            TASKS.map(record)
        };
        let volume = Record::new("hypervolume", 0.5).method(DISTILLED).setting("budget of 1");
        let supernet = [run(DISTILLED, "0.5"), run(DISTILLED, "1")].concat();
        let whole: Vec<Record> = supernet.into_iter().chain([volume]).chain(run(INDIVIDUAL, "0.5")).collect();
        let family = |records: &[Record]| {
            volumes(&Results::from_records(records.iter().cloned()).unwrap()).unwrap().method(FAMILY).len()
        };
        assert_eq!(family(&whole), 0);
        assert_eq!(family(&[whole, run(INDIVIDUAL, "1").to_vec()].concat()), 1);
    }

    #[test]
    fn one_narrowed_decoder_refutes_the_exact_property() {
        let run = |seed, share| {
            let record = |metric: &str, value| {
                Record::new(metric, value).method(DISTILLED).setting("anchored").seed(seed)
            };
            [record("wide_share", share), record("pairs", 100.0)]
        };
        let outcome = |last| {
            let results = Results::from_records(run(0, 1.0).into_iter().chain(run(1, last))).unwrap();
            all(&results).unwrap()[1].outcome
        };
        assert_eq!(outcome(1.0), ClaimOutcome::Confirmed);
        assert_eq!(outcome(0.99), ClaimOutcome::NotConfirmed);
    }
}
