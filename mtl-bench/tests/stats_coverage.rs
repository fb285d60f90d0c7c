//! How often intervals hold the truth, by simulation; bad input; the choice of tests.
#![allow(clippy::expect_used, clippy::unwrap_used)]
use mtl_bench::metrics::Better;
use mtl_bench::stats::*;
use mtl_core::Seed;
use rand::RngExt;

/// Sum of 12 uniforms: normal to the accuracy that coverage needs.
fn normal(rng: &mut impl rand::Rng) -> f64 {
    (0..12).map(|_| rng.random::<f64>()).sum::<f64>() - 6.0
}

/// Runs of tasks with the means `centres` and standard deviation 0.05.
fn study_of(centres: &[f64], runs: usize, rng: &mut impl rand::Rng) -> RunsByTasks {
    let rows: Vec<Vec<f64>> =
        (0..runs).map(|_| centres.iter().map(|c| c + 0.05 * normal(rng)).collect()).collect();
    RunsByTasks::from_rows(&rows).unwrap()
}

/// Share of simulated studies of 10 tasks whose interval of the IQM holds the true IQM, per rule.
fn coverage(runs: usize, studies: u64) -> [f64; 2] {
    let rules = [AggregateRule::Expanded, AggregateRule::Percentile];
    let mut covered = [0.0; 2];
    let centres: Vec<f64> = (0..10).map(|t| 0.3 + 0.05 * f64::from(t)).collect();
    let truth = Iqm.eval(&study_of(&centres, 4000, &mut Seed(1).stream("truth", 0)));
    for study in 0..studies {
        let scores = study_of(&centres, runs, &mut Seed(2).stream("study", study));
        let options = Bootstrap { replicates: 300, level: 0.95, seed: Seed(study) };
        for (hits, rule) in covered.iter_mut().zip(rules) {
            let interval = stratified_bootstrap(&scores, &Iqm, rule, &options).unwrap();
            *hits += f64::from(u8::from(interval.contains(truth))) / studies as f64;
        }
    }
    covered
}

#[test]
fn the_expanded_rule_covers_where_the_percentile_rule_does_not() {
    for runs in [3, 5] {
        let [expanded, percentile] = coverage(runs, 200);
        // 95 % nominal, standard error 1.6 points; 300 replicates cost about one point.
        assert!((0.895..=0.99).contains(&expanded), "{runs} runs: expanded {expanded}");
        assert!(percentile < expanded, "{runs} runs: percentile {percentile}, expanded {expanded}");
        if runs == 3 {
            assert!(percentile < 0.92, "{percentile}");
        }
    }
}

#[test]
fn resampling_depends_on_the_seed_alone() {
    let scores = RunsByTasks::from_rows(&[vec![0.1, 0.5], vec![0.3, 0.4], vec![0.2, 0.9]]).unwrap();
    let run = |seed| {
        let options = Bootstrap { replicates: 200, seed: Seed(seed), ..Bootstrap::default() };
        stratified_bootstrap(&scores, &MeanOfTasks, AggregateRule::Expanded, &options).unwrap()
    };
    assert_eq!(run(1), run(1));
    assert_ne!(run(1), run(2));
    let options = Bootstrap { replicates: 400, ..Bootstrap::default() };
    let fixed = stratified_bootstrap(&scores, &MeanOfTasks, AggregateRule::Percentile, &options).unwrap();
    let random = stratified_bootstrap(&scores, &MeanOfTasks, AggregateRule::TasksToo, &options).unwrap();
    assert!(random.half_width() > fixed.half_width());
    let groups: Vec<Vec<f64>> = scores.columns().to_vec();
    let nested = hierarchical_bootstrap(&groups, |g| mean(&g.concat()), &options).unwrap();
    assert!(nested.half_width() > fixed.half_width());
}

fn ordered(low: &[f64], centre: &[f64], high: &[f64]) {
    assert!(low.iter().zip(centre).chain(centre.iter().zip(high)).all(|(a, b)| a <= b));
}

#[test]
fn bca_and_bands_hold_the_truth() {
    let mut covered = 0;
    for study in 0..200 {
        let mut rng = Seed(study).stream("test", 0);
        // Exponential, mean 1.
        let values: Vec<f64> = (0..40).map(|_| -(1.0 - rng.random::<f64>()).ln()).collect();
        let options = Bootstrap { replicates: 400, ..Bootstrap::default() };
        covered += u32::from(bca_bootstrap(&values, mean, &options).unwrap().contains(1.0));
    }
    assert!((174..=198).contains(&covered), "covered {covered} of 200");
    let scores = RunsByTasks::from_rows(&[vec![0.1, 0.5], vec![0.3, 0.4], vec![0.2, 0.9]]).unwrap();
    let options = Bootstrap { replicates: 400, ..Bootstrap::default() };
    let tau = [0.0, 0.2, 0.35, 0.45, 1.0];
    let band = |kind| profile_with_band(&scores, &tau, ProfileKind::Runs, kind, &options).unwrap();
    let (pointwise, all) = (band(BandKind::Pointwise), band(BandKind::Simultaneous));
    ordered(&pointwise.low, &pointwise.share, &pointwise.high);
    ordered(&all.low, &all.share, &all.high);
}

#[test]
fn power_agrees_with_simulation_and_published_sizes() {
    // Sample sizes of G*Power 3.1, paired t test, two tails, 80 % power.
    for (effect, n) in [(0.2, 199), (0.5, 34), (0.8, 15), (1.0, 10)] {
        assert_eq!(runs_needed(effect, 1.0, 0.8, 0.95).unwrap(), n);
    }
    let found = (0..1000).filter(|&study| {
        let mut rng = Seed(study).stream("power", 0);
        let d: Vec<f64> = (0..6).map(|_| 1.2 + normal(&mut rng)).collect();
        PairedDifference::of(&d, 0.95).unwrap().p.unwrap() < 0.05
    });
    let (share, power) = (found.count() as f64 / 1000.0, paired_power(1.2, 6, 0.95).unwrap());
    assert!((share - power).abs() < 0.05, "{share} simulated, {power} computed");
    let least = detectable_difference(2.0, 34, 0.8, 0.95).unwrap();
    assert!((paired_power(least / 2.0, 34, 0.95).unwrap() - 0.8).abs() < 1e-6);
    assert!(runs_needed(0.0, 1.0, 0.8, 0.95).is_err() && paired_power(0.5, 1, 0.95).is_err());
}

fn table(rows: &[(&str, &str, u64, f64)], policy: NonFinite) -> mtl_bench::Result<Scores> {
    let score = |&(method, task, seed, value): &(&str, &str, u64, f64)| Score {
        method: method.to_owned(),
        key: PairingKey { task: task.to_owned(), seed, fold: 0 },
        value,
    };
    Scores::new("accuracy", Better::Higher, rows.iter().map(score), policy)
}

#[test]
fn bad_tables_are_refused() {
    let rows = [("x", "t", 0, 0.5), ("x", "t", 1, f64::NAN), ("y", "t", 0, 0.4), ("y", "t", 1, 0.6)];
    let error = table(&rows, NonFinite::Refuse).unwrap_err().to_string();
    assert_eq!(error, "`score` of task `t`: `x` has NaN at seed 1");
    let worst = table(&rows, NonFinite::Worst).unwrap();
    assert_eq!(worst.runs_by_tasks("x").unwrap().flat(), [0.5, 0.4]);
    let dropped = table(&rows, NonFinite::Drop).unwrap();
    let error = dropped.pairs("x", "y").unwrap_err().to_string();
    assert!(error.contains("`x` at task `t` seed 1"), "{error}");
    assert_eq!(dropped.complete_blocks().1, 1);
    assert!(table(&[rows[0], rows[0]], NonFinite::Refuse).unwrap_err().to_string().contains("2 values"));
    assert!(table(&[], NonFinite::Refuse).is_err());
    let one = table(&rows[..1], NonFinite::Refuse).unwrap();
    assert!(compare(&one, &CompareOptions::default()).is_err());
    assert!(friedman(&[vec![1.0, 2.0], vec![2.0, 3.0]], Better::Higher).is_err());
    assert!(friedman(&[vec![1.0, 2.0, 3.0]], Better::Higher).is_err());
    let ties = friedman(&[vec![1.0; 3], vec![2.0; 3]], Better::Higher).unwrap();
    assert_eq!((ties.chi_squared, ties.p), (0.0, 1.0));
    assert!(RunsByTasks::from_rows(&[vec![1.0], vec![]]).is_err() && ItemsByRun::new(vec![vec![]]).is_err());
    let lonely = RunsByTasks::from_rows(&[vec![1.0], vec![2.0], vec![3.0]]).unwrap();
    let options = Bootstrap { replicates: 10, ..Bootstrap::default() };
    let error = stratified_bootstrap(&lonely, &Iqm, AggregateRule::Expanded, &options).unwrap_err();
    assert!(error.to_string().contains("use the t interval"));
    assert!(welch(&[1.0, 1.0], &[1.0, 1.0], 0.95).unwrap().is_none());
    assert_eq!(mann_whitney(&[1.0], &[1.0], MannWhitneyMethod::Auto).unwrap().p, 1.0);
    assert_eq!(wilcoxon(&[0.0, 0.0]).unwrap().p, 1.0);
    assert!(wilson(3, 2, 0.95).is_err() && wilson(0, 0, 0.95).is_err());
    assert!(studentised_range_sf(f64::NAN, 3, 5.0).is_err() && shapiro_wilk(&[1.0; 5]).is_err());
}

#[test]
fn comparisons_explain_themselves() {
    let mut rows = Vec::new();
    let names: Vec<String> = (0..8).map(|t| format!("task {t}")).collect();
    for (t, name) in names.iter().enumerate() {
        for seed in 0..3 {
            let base = 0.5 + 0.04 * t as f64 + 0.003 * seed as f64;
            rows.push(("a", name.as_str(), seed, base + 0.05 + 0.001 * (t * t) as f64));
            rows.push(("b", name.as_str(), seed, base));
            rows.push(("c", name.as_str(), seed, base + if t % 2 == 0 { 0.004 } else { -0.005 }));
        }
    }
    let scores = table(&rows, NonFinite::Refuse).unwrap();
    let options = CompareOptions {
        bootstrap: Bootstrap { replicates: 200, ..Bootstrap::default() },
        ..CompareOptions::default()
    };
    let found = compare(&scores, &options).unwrap();
    assert_eq!(found.recommendation.test, Some(Test::FriedmanNemenyi));
    assert!(found.friedman.as_ref().unwrap().p < 0.01);
    assert_eq!(found.pairs.len(), 3);
    // Eight equal signs: p = 2/2⁸, three comparisons.
    assert!((found.pairs[0].adjusted_p.unwrap() - 3.0 / 128.0).abs() < 1e-12);
    let sentence = found.pairs[0].to_string();
    assert!(sentence.starts_with("a beats b on 8 of 8 tasks; median gain 0.0"), "{sentence}");
    assert!(sentence.contains("(Holm, 3 comparisons)"), "{sentence}");
    assert!(found.pairs[2].to_string().starts_with("no difference shown"), "{}", found.pairs[2]);
    assert!(found.warnings[0].contains("`a` has 3 runs"));
    let control = CompareOptions { control: Some("b".to_owned()), ..options.clone() };
    let against = compare(&scores, &control).unwrap();
    assert_eq!(against.recommendation.test, Some(Test::FriedmanControl));
    assert_eq!(against.pairs.len(), 2);
    let unknown = CompareOptions { control: Some("z".to_owned()), ..options.clone() };
    assert!(compare(&scores, &unknown).is_err());
    let wrong = CompareOptions { test: Some(Test::McNemar), ..options };
    assert!(compare(&scores, &wrong).is_err());
}

#[test]
fn lower_is_better_turns_the_sentence() {
    let rows = |m: &'static str, shift: f64| {
        (0..8).map(move |s| Score {
            method: m.to_owned(),
            key: PairingKey { task: "t".to_owned(), seed: s, fold: 0 },
            value: 1.0 + shift * (1.0 + 0.1 * s as f64),
        })
    };
    let all = rows("a", -0.2).chain(rows("b", 0.0));
    let scores = Scores::new("loss", Better::Lower, all, NonFinite::Refuse).unwrap();
    let options = CompareOptions {
        bootstrap: Bootstrap { replicates: 100, ..Bootstrap::default() },
        ..CompareOptions::default()
    };
    let found = compare(&scores, &options).unwrap();
    assert_eq!(found.pairs[0].test, Test::SignFlip);
    assert!(
        found.pairs[0].to_string().starts_with("a beats b on 8 of 8 runs; median gain 0.27"),
        "{}",
        found.pairs[0]
    );
    let unpaired = compare(&scores, &CompareOptions { test: Some(Test::Welch), ..options }).unwrap();
    assert!(unpaired.pairs[0].interval.unwrap().low > 0.0);
}

#[test]
fn recommendations_follow_the_table() {
    let test = |s| recommend(s).test;
    let normal: Vec<f64> = (0..12).map(|i| f64::from(i) - 5.0).collect();
    let advice = recommend(Situation::PairedRuns { differences: &normal });
    assert_eq!(
        (advice.test, advice.alternatives),
        (Some(Test::Wilcoxon), vec![Test::PairedT, Test::SignFlip])
    );
    assert_eq!(test(Situation::PairedRuns { differences: &[0.1] }), None);
    assert_eq!(test(Situation::UnpairedRuns), Some(Test::Welch));
    assert_eq!(test(Situation::OneTestSet), Some(Test::McNemar));
    assert_eq!(test(Situation::CrossValidation), Some(Test::CorrelatedT));
    assert_eq!(test(Situation::TwoMethodsManyTasks { tasks: 9 }), Some(Test::Wilcoxon));
    assert_eq!(test(Situation::ManyMethods { methods: 4, tasks: 1 }), None);
    assert_eq!(test(Situation::AgainstControl { methods: 4, tasks: 9 }), Some(Test::FriedmanControl));
}

#[test]
fn equivalence_groups_and_normal_tests() {
    let d = [0.01, -0.02, 0.0, 0.01, 0.02, -0.01];
    let found = equivalence(&d, 0.03, 0.05).unwrap().unwrap();
    assert!(found.p < 0.05 && found.interval.high < 0.03 && found.interval.low > -0.03);
    let found = equivalence(&d, 0.005, 0.05).unwrap().unwrap();
    assert!(found.p > 0.05 && equivalence(&d, -1.0, 0.05).is_err());
    let test = welch(&d, &[0.0, 0.01, -0.01, 0.005], 0.95).unwrap().unwrap();
    assert!(test.equivalence(0.1, 0.05).unwrap().p < 1e-3);
    // 0–1 and 1–2 alike, 0–2 different; 3 apart.
    let p = [
        vec![1.0, 0.5, 0.01, 0.001],
        vec![0.5, 1.0, 0.6, 0.001],
        vec![0.01, 0.6, 1.0, 0.001],
        vec![0.001, 0.001, 0.001, 1.0],
    ];
    assert_eq!(maximal_groups(&p, 0.05).unwrap(), [vec![0, 1], vec![1, 2]]);
    // Two methods: F is the square of the paired t.
    let blocks: Vec<Vec<f64>> = (0..6).map(|i| vec![f64::from(i), f64::from(i * i % 5) + 1.0]).collect();
    let anova = repeated_measures_anova(&blocks).unwrap();
    let t = PairedDifference::of(&blocks.iter().map(|b| b[0] - b[1]).collect::<Vec<_>>(), 0.95).unwrap();
    assert!((anova.p - t.p.unwrap()).abs() < 1e-9);
    assert!((anova.tukey(0, 1).unwrap() - anova.p).abs() < 1e-9 && anova.tukey(0, 2).is_err());
    let region = bayesian_signed_rank(&[0.001, -0.001, 0.0, 0.002], 0.01, 500, Seed(0)).unwrap();
    assert!(region.rope > 0.99);
}

#[test]
fn curves_over_seeds() {
    let curve = |shift: f64| {
        Curve::new(vec![100.0, 200.0, 400.0, 800.0], [0.5, 0.6, 0.7, 0.8].map(|y| y + shift).to_vec())
            .unwrap()
    };
    let fast: Vec<Curve> = [0.1, 0.11, 0.09, 0.1].map(curve).to_vec();
    let slow: Vec<Curve> = [0.0, 0.01, -0.01, 0.0].map(curve).to_vec();
    let options = Bootstrap { replicates: 200, ..Bootstrap::default() };
    let found = efficiency_ratio(&fast, &slow, 0.75, Better::Higher, &options).unwrap();
    assert!((found.ratio.unwrap() - 2.0).abs() < 1e-9 && found.interval.unwrap().contains(2.0));
    assert!(efficiency_ratio(&fast, &slow, 0.85, Better::Higher, &options).unwrap().ratio.is_none());
    let x = [100.0, 300.0, 800.0];
    for kind in [CurveBand::Mean { level: 0.95 }, CurveBand::Iqm(options), CurveBand::Quartiles] {
        let band = curve_band(&fast, &x, Interpolation::Linear, kind).unwrap();
        ordered(&band.low, &band.centre, &band.high);
        assert!((band.centre[1] - 0.75).abs() < 0.01);
    }
    assert!(curve_band(&fast, &[900.0], Interpolation::Linear, CurveBand::Quartiles).is_err());
    assert_eq!(fast[0].at(300.0, Interpolation::Previous), Some(fast[0].y()[1]));
    assert_eq!(fast[0].smoothed(0.0).unwrap(), fast[0]);
    assert!(Curve::new(vec![1.0, 1.0], vec![0.0, 0.0]).is_err());
}
