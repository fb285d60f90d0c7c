//! Budget to width: monotonicity, budgets, methods against each other, tables.
#![allow(clippy::expect_used, clippy::unwrap_used, clippy::print_stdout)]

use mtl_hw::cost::engine::{Dataflow, Engine, Systolic};
use mtl_hw::explore::width::{
    AccuracyRow, AccuracyTable, AdditiveScore, BetaRule, CostSource, CostTables, Method, Query, Score,
    SearchConfig, SlimLayer, SlimNet, WidthBudget, WidthSpace, Widths, normalise, search, search_with,
};
use mtl_hw::presets::zcu104_m3vit;
use proptest::prelude::*;

const TASKS: usize = 3;

fn layer(positions: u64, kernel: u64, channels: u64) -> SlimLayer {
    SlimLayer { positions, kernel, channels, fixed: false }
}

/// Four stages and three decoders, the size of a small digit network.
fn net() -> SlimNet {
    let head = |classes| {
        vec![layer(16, 1, 60), SlimLayer { positions: 1, kernel: 1, channels: classes, fixed: true }]
    };
    SlimNet {
        input_channels: 1,
        encoder: vec![
            vec![layer(784, 3, 20)],
            vec![layer(196, 3, 36)],
            vec![layer(49, 3, 68)],
            vec![layer(16, 3, 100)],
        ],
        decoders: vec![head(10), head(2), head(5)],
    }
}

fn space() -> WidthSpace {
    WidthSpace::uniform(4, &[0.6, 0.7, 0.8, 0.9, 1.0], TASKS, &[0.5, 0.6, 0.7, 0.8, 0.9, 1.0])
}

fn tables(round_to: u64) -> CostTables {
    CostTables::build(&space(), &net(), round_to, &CostSource::Macs).unwrap()
}

/// Diminishing returns of width.
fn additive() -> AdditiveScore {
    let space = space();
    let curve = |gain: f64| move |w: &f64| gain * w.sqrt();
    AdditiveScore {
        encoder: space
            .encoder
            .iter()
            .zip([0.1, 0.2, 0.3, 0.4])
            .map(|(l, g)| l.iter().map(curve(g)).collect())
            .collect(),
        decoders: space
            .decoders
            .iter()
            .zip([1.0, 0.5, 0.8])
            .map(|(l, g)| l.iter().map(curve(g)).collect())
            .collect(),
    }
}

fn score_of(additive: &AdditiveScore, preferences: &[f64], w: &Widths) -> f64 {
    let encoder: f64 = w.encoder.iter().zip(&additive.encoder).map(|(&i, t)| t[i]).sum();
    let decoders = w.decoders.iter().zip(&additive.decoders).zip(preferences);
    encoder + decoders.map(|((&i, t), r)| r * t[i]).sum::<f64>()
}

fn query(costs: &CostTables, share: f64, preferences: &[f64]) -> Query {
    let (low, high) = (costs.cost(&space().narrowest()), costs.cost(&space().widest()));
    let budget = low + share * (high - low);
    Query { budget: WidthBudget::Macs(budget.ceil() as u64), preferences: normalise(preferences).unwrap() }
}

fn preferences() -> impl Strategy<Value = Vec<f64>> {
    proptest::collection::vec(0.0..1.0f64, TASKS)
        .prop_filter("not all zero", |p| p.iter().sum::<f64>() > 0.01)
}

fn methods() -> impl Strategy<Value = Option<Method>> {
    prop_oneof![
        Just(Some(Method::Exhaustive)),
        Just(Some(Method::DynamicProgramming)),
        Just(Some(Method::Evolutionary))
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn budgets_are_respected_and_more_budget_never_scores_less(
        p in preferences(), a in 0.0..1.2f64, more in 0.0..0.5f64, best in any::<bool>(), method in methods(), round in prop_oneof![Just(1u64), Just(8)],
    ) {
        let (costs, score) = (tables(round), additive());
        let beta = if best { BetaRule::Best } else { BetaRule::Nested };
        let config = SearchConfig { beta, method, seed: 3 };
        let run = |share| {
            let q = query(&costs, share, &p);
            let c = search_with(&space(), &costs, Score::Additive(&score), &q, &config).unwrap();
            let WidthBudget::Macs(budget) = q.budget else { unreachable!() };
            assert!(c.cost <= budget as f64);
            assert_eq!(c.cost, costs.cost(&c.widths));
            assert!((c.score - score_of(&score, &q.preferences, &c.widths)).abs() < 1e-12);
            assert!(c.front.is_sorted_by(|x, y| x.0 < y.0 && x.1 < y.1));
            c
        };
        let (less, more) = (run(a), run(a + more));
        prop_assert!(more.score >= less.score, "{less:?} {more:?}");
    }

    #[test]
    fn a_larger_preference_never_narrows_a_decoder(
        p in preferences(), task in 0..TASKS, extra in 0.0..2.0f64, share in 0.0..1.2f64, fixed in proptest::option::of(0.0..0.5f64),
    ) {
        let (costs, score) = (tables(8), additive());
        let beta = fixed.map_or(BetaRule::Nested, BetaRule::Fixed);
        let config = SearchConfig { beta, ..SearchConfig::default() };
        let run = |p: &[f64]| search_with(&space(), &costs, Score::Additive(&score), &query(&costs, share, p), &config);
        let mut shifted = p.clone();
        shifted[task] += extra;
        // With a fixed share a budget may not cover the decoders.
        if let (Ok(before), Ok(after)) = (run(&p), run(&shifted)) {
            prop_assert!(after.widths.decoders[task] >= before.widths.decoders[task]);
        } else {
            prop_assert!(fixed.is_some());
        }
    }

    #[test]
    fn dynamic_programming_equals_the_exhaustive_search(p in preferences(), share in 0.0..1.2f64, round in 1u64..=16) {
        let (costs, score) = (tables(round), additive());
        let run = |method, score: Score<'_>| {
            let config = SearchConfig { beta: BetaRule::Best, method: Some(method), seed: 0 };
            search_with(&space(), &costs, score, &query(&costs, share, &p), &config).unwrap()
        };
        let exact = run(Method::Exhaustive, Score::Additive(&score));
        let dynamic = run(Method::DynamicProgramming, Score::Additive(&score));
        prop_assert!((exact.score - dynamic.score).abs() < 1e-12);
        let scaled = normalise(&p).unwrap();
        let closure = |w: &Widths| score_of(&score, &scaled, w);
        let by_closure = run(Method::Exhaustive, Score::Closure(&closure));
        prop_assert!((exact.score - by_closure.score).abs() < 1e-12);
        let evolved = run(Method::Evolutionary, Score::Closure(&closure));
        prop_assert!(evolved.score <= exact.score + 1e-12 && evolved.score >= 0.99 * exact.score);
    }
}

#[test]
fn searched_widths_dominate_a_larger_volume_than_uniform_ones() {
    let (costs, score) = (tables(1), additive());
    let (space, p) = (space(), vec![0.5, 0.3, 0.2]);
    let low = costs.cost(&space.narrowest());
    let high = costs.cost(&space.widest());
    let volume = |points: &[(f64, f64)]| {
        let rows: Vec<Vec<f64>> = points.iter().map(|&(c, s)| vec![c, -s]).collect();
        mtl_hw::explore::hypervolume(&rows, &[high * 1.01, 0.0]).unwrap()
    };
    let uniform: Vec<(f64, f64)> = (0..5)
        .map(|i| Widths { encoder: vec![i; 4], decoders: vec![i + 1; TASKS] })
        .map(|w| (costs.cost(&w), score_of(&score, &p, &w)))
        .collect();
    let searched = |beta| -> Vec<(f64, f64)> {
        let shares = (0..=40).map(|i| f64::from(i) / 40.0);
        shares
            .map(|s| {
                let config = SearchConfig { beta, ..SearchConfig::default() };
                let c = search_with(&space, &costs, Score::Additive(&score), &query(&costs, s, &p), &config)
                    .unwrap();
                (c.cost, c.score)
            })
            .collect()
    };
    let (nested, best) = (volume(&searched(BetaRule::Nested)), volume(&searched(BetaRule::Best)));
    println!("uniform {}, nested {nested}, best {best}, from {low}", volume(&uniform));
    // Growth tied to the budget alone costs a little; the sweep beats equal widths.
    assert!(best >= volume(&uniform) && nested >= 0.95 * volume(&uniform));
}

#[test]
fn latency_on_an_array_chooses_other_widths_than_macs() {
    let mut a = zcu104_m3vit().unwrap();
    a.engine = Engine::Systolic(Systolic { rows: 16, cols: 32, flow: Dataflow::OutputStationary });
    let source = CostSource::Latency(Box::new(a));
    let latency = CostTables::build(&space(), &net(), 8, &source).unwrap();
    let (macs, score, p) = (tables(8), additive(), vec![1.0 / 3.0; 3]);
    let mut differ = 0;
    let mut faster_at_no_loss = 0;
    for i in 0..40 {
        let config = SearchConfig { beta: BetaRule::Best, ..SearchConfig::default() };
        let q = query(&macs, f64::from(i) / 40.0, &p);
        let by_macs = search_with(&space(), &macs, Score::Additive(&score), &q, &config).unwrap();
        let budget = latency.cost(&by_macs.widths);
        let q = Query { budget: WidthBudget::LatencyS(budget), preferences: p.clone() };
        let by_latency = search_with(&space(), &latency, Score::Additive(&score), &q, &config).unwrap();
        assert!(by_latency.cost <= budget);
        differ += usize::from(by_latency.widths != by_macs.widths);
        // The decoders' shares differ with the unit, so the score may also fall.
        faster_at_no_loss +=
            usize::from(by_latency.cost < budget && by_latency.score >= by_macs.score - 1e-12);
    }
    println!("{differ} of 40 differ, {faster_at_no_loss} are faster at no lower score");
    assert!(differ > 0 && faster_at_no_loss > 0);
}

#[test]
fn costs_follow_the_rounded_channels() {
    let exact = tables(1);
    // 784 positions, 9 taps, 1 input, round(0.7 · 20) outputs
    assert_eq!(exact.stage(0, 0, 1), 784.0 * 9.0 * 14.0);
    assert_eq!(tables(8).stage(0, 0, 1), 784.0 * 9.0 * 16.0);
    assert_eq!(exact.stage(1, 1, 4), 196.0 * 9.0 * 14.0 * 36.0);
    assert_eq!(exact.decoder(1, 4, 5), 16.0 * 100.0 * 60.0 + 60.0 * 2.0);
    let text = exact.to_json().unwrap();
    assert_eq!(CostTables::from_json(&text, &space()).unwrap(), exact);
}

#[test]
fn stale_tables_are_noticed() {
    let costs = tables(1);
    costs.check(&space(), &net(), 1, &CostSource::Macs).unwrap();
    assert!(costs.check(&space(), &net(), 8, &CostSource::Macs).unwrap_err().to_string().contains("stale"));
    let mut other = net();
    other.encoder[0][0].channels += 1;
    assert!(costs.check(&space(), &other, 1, &CostSource::Macs).is_err());
    let source = CostSource::Energy(Box::new(zcu104_m3vit().unwrap()));
    assert!(costs.check(&space(), &net(), 1, &source).is_err());
}

#[test]
fn measured_accuracies_choose_among_measured_networks() {
    let space = WidthSpace::uniform(1, &[0.5, 1.0], 2, &[0.5, 1.0]);
    let csv = "encoder.0,decoder.0,decoder.1,task.0,task.1\n0.5,0.5,0.5,0.6,0.6\n1,0.5,0.5,0.7,0.72\n1,1,1,0.9,0.8\n";
    let table = AccuracyTable::from_csv(&space, csv).unwrap();
    let net = SlimNet {
        input_channels: 4,
        encoder: vec![vec![layer(10, 1, 16)]],
        decoders: vec![vec![layer(10, 1, 8)], vec![layer(10, 1, 8)]],
    };
    let costs = CostTables::build(&space, &net, 1, &CostSource::Macs).unwrap();
    let run = |budget| {
        let q = Query { budget: WidthBudget::Macs(budget), preferences: vec![0.5, 0.5] };
        let config = SearchConfig { beta: BetaRule::Best, ..SearchConfig::default() };
        search_with(&space, &costs, Score::Table(&table), &q, &config).unwrap()
    };
    assert_eq!((run(1000).score, run(1000).widths), (0.6, space.narrowest()));
    assert!((run(2000).score - 0.71).abs() < 1e-12);
    assert_eq!(run(100_000).widths, space.widest());
    let error = |csv: &str| AccuracyTable::from_csv(&space, csv).unwrap_err().to_string();
    insta::assert_snapshot!(error(&csv.replace("0.72", "nan")), @"`accuracy[1].tasks` must be 2 finite numbers, one per task, but is [0.7, NaN]");
    insta::assert_snapshot!(error(&csv.replace("0.72", "good")), @"accuracy table: `line 3, task.1`: expected a number, found `good`");
    insta::assert_snapshot!(error(&csv.replace("task.1", "task.2")), @"accuracy table: `task.2`: unknown or repeated column");
    insta::assert_snapshot!(error("encoder.0\n"), @"accuracy table: `decoder.0`: missing column");
    insta::assert_snapshot!(error(&csv.replace("1,1,1,0.9", "0.3,1,1,0.9")), @"`accuracy[2].encoder` must be among [0.5, 1.0], but is 0.3");
    insta::assert_snapshot!(error(&csv.replace("1,1,1,0.9", "1,1,0.9")), @"accuracy table: `line 4`: expected 5 cells, found 4");
    let rows = [AccuracyRow { encoder: vec![0.5], decoders: vec![0.5, 0.5], tasks: vec![0.1, 0.2] }];
    let json = serde_json::to_string(&rows).unwrap();
    assert!(AccuracyTable::from_json(&space, &json).unwrap().get(&space.narrowest()).is_some());
}

#[test]
fn nonsense_is_refused() {
    let (costs, score) = (tables(1), additive());
    let error = |budget, preferences: &[f64]| {
        let q = Query { budget, preferences: preferences.to_vec() };
        search(&space(), &costs, Score::Additive(&score), &q, 0).unwrap_err().to_string()
    };
    let plenty = WidthBudget::Macs(u64::MAX);
    let thirds = [1.0 / 3.0; 3];
    insta::assert_snapshot!(error(WidthBudget::Macs(1), &thirds), @"`budget` must be at least 1389300 MACs, the cost of the narrowest network, but is 1");
    insta::assert_snapshot!(error(WidthBudget::LatencyS(1.0), &thirds), @"`budget` must be in MACs, the unit of the cost tables, but is s");
    insta::assert_snapshot!(error(plenty, &[0.5, 0.6, -0.1]), @"`preferences` must be not negative, not all zero, and finite, but is [0.5, 0.6, -0.1]");
    insta::assert_snapshot!(error(plenty, &[0.0; 3]), @"`preferences` must be not negative, not all zero, and finite, but is [0.0, 0.0, 0.0]");
    insta::assert_snapshot!(error(plenty, &[1.0, 1.0, 2.0]), @"`preferences` must be of sum 1; normalised they would be [0.25, 0.25, 0.5], but is of sum 4");
    insta::assert_snapshot!(error(plenty, &[0.5, 0.5]), @"`preferences` must be 3, one per decoder, but is 2");
    assert!(error(plenty, &[f64::NAN, 0.5, 0.5]).contains("NaN"));
    let nan = |_: &Widths| f64::NAN;
    let q = Query { budget: plenty, preferences: thirds.to_vec() };
    let refused = search(&space(), &costs, Score::Closure(&nan), &q, 0).unwrap_err().to_string();
    assert!(refused.starts_with("`score` must be finite, but is NaN at "), "{refused}");
    let mut bad = space();
    bad.encoder[1] = vec![0.5, 0.5];
    insta::assert_snapshot!(bad.validate().unwrap_err(), @"`widths.encoder[1]` must be rising ratios in (0, 1], at least one, but is [0.5, 0.5]");
    assert!(WidthSpace { encoder: vec![], decoders: vec![] }.validate().is_err());
    assert!(CostTables::build(&space(), &net(), 0, &CostSource::Macs).is_err());
    let mut broken = tables(1);
    broken.decoders.pop();
    assert!(search(&space(), &broken, Score::Additive(&score), &q, 0).is_err());
    let mut huge = net();
    huge.encoder[0][0].positions = u64::MAX;
    assert!(CostTables::build(&space(), &huge, 1, &CostSource::Macs).is_err());
    for beta in [-0.1, f64::NAN, 2.0] {
        let config = SearchConfig { beta: BetaRule::Fixed(beta), ..SearchConfig::default() };
        assert!(search_with(&space(), &costs, Score::Additive(&score), &q, &config).is_err());
    }
}
