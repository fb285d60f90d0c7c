//! The figures as their SVG says them, and what they refuse.
#![allow(clippy::expect_used, clippy::unwrap_used)]
use mtl_bench::metrics::Better;
use mtl_bench::plot::*;
use mtl_bench::stats::*;

/// The texts of a figure in the order of painting, one a line.
fn texts(plot: &dyn Plot) -> String {
    let svg = plot.to_svg_string().unwrap();
    let parts = svg.split("<text ").skip(1).map(|part| {
        let inner = part.split_once('>').unwrap().1.split_once("</text>").unwrap().0;
        inner.trim().to_owned()
    });
    parts.collect::<Vec<_>>().join(" | ")
}

fn refusal(plot: &dyn Plot) -> String {
    plot.draw().unwrap_err().to_string().replace("cannot draw the figure: ", "")
}

#[test]
fn the_rank_diagram_shows_the_ranks_critical_difference_and_groups_of_the_golden_file() {
    let path = format!("{}/tests/golden/stat_tests.json", env!("CARGO_MANIFEST_DIR"));
    let golden: serde_json::Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    let list = |v: &serde_json::Value| -> Vec<f64> {
        v.as_array().unwrap().iter().map(|v| v.as_f64().unwrap()).collect()
    };
    for case in golden["friedman"].as_array().unwrap() {
        let blocks: Vec<Vec<f64>> =
            case["scores_blocks_by_method"].as_array().unwrap().iter().map(list).collect();
        let better = if case["higher_is_better"] == true { Better::Higher } else { Better::Lower };
        let names = ["m0", "m1", "m2", "m3", "m4", "m5"];
        let names = &names[..blocks[0].len()];
        let found = CriticalDifference::nemenyi(&friedman(&blocks, better).unwrap(), names, 0.95).unwrap();
        let diagram = CriticalDifferenceDiagram::nemenyi(&found);
        let shown = texts(&diagram);
        let ranks = list(&case["average_ranks"]);
        for (name, rank) in names.iter().zip(&ranks) {
            assert!(shown.contains(&format!("{rank:.2} | {name}")), "{name} at {rank}: {shown}");
        }
        let cd = case["nemenyi_cd_0.05"].as_f64().unwrap();
        assert!(shown.contains(&format!("CD = {cd:.2}")), "{shown}");
        let groups = case["cd_groups_by_sorted_position"].as_array().unwrap().len();
        let svg = diagram.to_svg_string().unwrap();
        assert_eq!(svg.matches("stroke-width=\"40\"").count(), groups);
    }
}

#[test]
fn a_rank_diagram() {
    let ranks =
        [("best", 1.25), ("middle", 2.0), ("worst", 2.75)].map(|(name, rank)| (name.to_owned(), rank));
    let diagram = CriticalDifferenceDiagram::new(ranks.to_vec(), vec![vec![0, 1]]).title("AUC");
    insta::assert_snapshot!(texts(&diagram), @r#"AUC | average rank, 1 is best | 1 | 2 | 3 | 1.25 | best | 2.00 | middle | 2.75 | worst"#);
    insta::assert_snapshot!(texts(&diagram.critical_difference(2.5).best_right()), @r#"AUC | average rank, 1 is best | CD = 2.50, longer than the axis | 1 | 2 | 3 | 2.75 | worst | 2.00 | middle | 1.25 | best"#);
    // A group that skips the method in the middle shows its members as dots.
    let gap = CriticalDifferenceDiagram::new(ranks.to_vec(), vec![vec![0, 2]]);
    assert_eq!(gap.to_svg_string().unwrap().matches("<circle").count(), 2);
}

#[test]
fn a_rank_diagram_refuses_what_it_cannot_show() {
    let pair = |rank| vec![("a".to_owned(), 1.0), ("b".to_owned(), rank)];
    let one = CriticalDifferenceDiagram::new(pair(2.0)[..1].to_vec(), vec![]);
    let errors = [
        refusal(&one),
        refusal(&CriticalDifferenceDiagram::new(vec![], vec![])),
        refusal(&CriticalDifferenceDiagram::new(pair(f64::NAN), vec![])),
        refusal(&CriticalDifferenceDiagram::new(pair(2.5), vec![])),
        refusal(&CriticalDifferenceDiagram::new(pair(2.0), vec![vec![0, 2]])),
        refusal(&CriticalDifferenceDiagram::new(pair(2.0), vec![]).critical_difference(0.0)),
    ];
    insta::assert_snapshot!(errors.join("\n"), @r#"
    a critical-difference diagram needs 2 methods, but there are 1
    a critical-difference diagram needs 2 methods, but there are 0
    rank of `b` has the value NaN
    rank of `b` must lie in 1 to 2, but is 2.5
    a group names method 2, but there are 2
    the critical difference must be positive, but is 0
    "#);
}

fn profile(share: [f64; 3]) -> Profile {
    let ends = |by: f64| share.iter().map(|s| (s + by).clamp(0.0, 1.0)).collect();
    Profile { tau: vec![0.0, 0.5, 1.0], share: share.to_vec(), low: ends(-0.1), high: ends(0.1) }
}

#[test]
fn profiles() {
    let plot = ProfilePlot::new("accuracy τ")
        .profile("a", profile([1.0, 0.4, 0.0]))
        .profile("b", profile([1.0, 0.7, 0.1]));
    insta::assert_snapshot!(texts(&plot), @r#"a | b | 0 | 0.2 | 0.4 | 0.6 | 0.8 | 1.0 | 0 | 0.2 | 0.4 | 0.6 | 0.8 | 1.0 | accuracy τ | share of runs × tasks above τ"#);
    let edit = |change: &dyn Fn(&mut Profile)| {
        let mut p = profile([1.0, 0.4, 0.0]);
        change(&mut p);
        refusal(&ProfilePlot::new("τ").profile("a", p))
    };
    let errors = [
        refusal(&ProfilePlot::new("τ")),
        edit(&|p| p.share[1] = f64::NAN),
        edit(&|p| p.share[1] = 1.5),
        edit(&|p| p.tau[2] = 0.5),
        edit(&|p| p.low.truncate(1)),
        edit(&|p| p.tau.truncate(1)),
    ];
    insta::assert_snapshot!(errors.join("\n"), @r#"
    there are no profiles
    profile `a` has the value NaN
    profile `a` has the share 1.5, which is not in 0 to 1
    profile `a` needs ascending thresholds
    profile `a` must have one share and both ends of the band per threshold
    profile `a` needs 2 thresholds, but has 1
    "#);
}

#[test]
fn radar() {
    let plot = Radar::new(["digit", "parity", "order"], "relative score")
        .range(0.5, 1.0)
        .series("a", vec![0.9, 0.8, 0.5]);
    insta::assert_snapshot!(texts(&plot), @r#"a | digit | parity | order | 0.625 | 0.75 | 0.875 | relative score: 0.5 at the centre, 1 at the rim"#);
    let radar = || Radar::new(["x", "y", "z"], "score");
    let errors = [
        refusal(&radar()),
        refusal(&Radar::new(["x", "y"], "score").series("a", vec![0.5; 2])),
        refusal(&Radar::new((0..9).map(|i| i.to_string()), "score").series("a", vec![0.5; 9])),
        refusal(&radar().series("a", vec![0.5; 2])),
        refusal(&radar().series("a", vec![0.5, f64::INFINITY, 0.1])),
        refusal(&radar().series("a", vec![0.5, 1.2, 0.1])),
        refusal(&radar().range(1.0, 1.0).series("a", vec![1.0; 3])),
    ];
    insta::assert_snapshot!(errors.join("\n"), @r#"
    there are no series
    a radar plot has 3 to 8 axes, but this one 2; use dots
    a radar plot has 3 to 8 axes, but this one 9; use dots
    series `a` has 2 values for 3 axes
    series `a` has the value inf
    series `a` has 1.2 on `y`, outside 0 to 1
    the rim (1) must lie above the centre (1)
    "#);
}

#[test]
fn forest() {
    let plot = ForestPlot::new("gain [points]")
        .row("clear", Estimate::of(&[1.0, 1.4, 0.9], 0.95).unwrap())
        .row("one run", Estimate::of(&[-0.2], 0.95).unwrap())
        .pooled("all", Estimate::of(&[0.4, 1.0, -0.5], 0.95).unwrap())
        .sides("worse", "better");
    insta::assert_snapshot!(texts(&plot), @r#"effect [95 %] | n | −1 | 0 | 1 | 2 | gain [points] | clear | 1.10 [0.44, 1.76] | 3 | one run | −0.20 [no interval] | 1 | all | 0.30 [−1.58, 2.18] | 3 | ← worse | better →"#);
    let odd = Interval { low: 2.0, high: 3.0, level: 0.95, method: IntervalMethod::T };
    let odd = Estimate { interval: Some(odd), n: 3, ..Estimate::exact(1.0) };
    let errors = [
        refusal(&ForestPlot::new("gain")),
        refusal(&ForestPlot::new("gain").row("a", Estimate::exact(f64::NAN))),
        refusal(&ForestPlot::new("gain").row("a", odd)),
        refusal(&ForestPlot::new("gain").row("a", Estimate::exact(1.0)).no_effect(f64::INFINITY)),
    ];
    insta::assert_snapshot!(errors.join("\n"), @r#"
    there are no effects
    effect `a` has the value NaN
    effect `a` lies outside its interval
    the line of no effect has the value inf
    "#);
}

#[test]
fn power_law() {
    let x = [100.0, 200.0, 400.0, 800.0, 1600.0, 3200.0];
    let y = [0.41, 0.30, 0.256, 0.204, 0.178, 0.151];
    let fit = fit_power_law(&x, &y, &FitOptions::default()).unwrap();
    let plot = PowerLawPlot::new("examples", "error [share]", &x, &y, fit.clone()).unwrap();
    insta::assert_snapshot!(texts(&plot.clone().extend_to(1e5)), @r#"measured | fit y = 3.99·x^(−0.568) + 0.114 | 95 % interval of the fit | limit c = 0.114 [0.0440, 0.185] | 0.15 | 0.2 | 0.3 | 0.4 | 100 | 200 | 500 | 1000 | 2000 | 5000 | 10k | 20k | 50k | 100k | examples | error [share]"#);
    let mut negative = y;
    negative[5] = -0.1;
    let shifted = PowerLawPlot::new("n", "e", &x, &negative, fit.clone()).unwrap();
    assert!(shifted.clone().linear_y().draw().is_ok());
    let errors = [
        refusal(&shifted),
        refusal(&plot.clone().extend_to(0.0)),
        refusal(&plot.extend_to(f64::NAN)),
        PowerLawPlot::new("n", "e", &x[..3], &y[..3], fit).unwrap_err().to_string(),
    ];
    insta::assert_snapshot!(errors.join("\n"), @r#"
    the point (3200, -0.1) is not positive on a logarithmic axis
    cannot extend to the size 0 on a logarithmic axis
    the size to extend to has the value NaN
    cannot draw the figure: a fit to 6 points cannot be shown with 3 x and 3 y
    "#);
}

#[test]
fn a_diverging_map_is_symmetric_about_its_centre() {
    let tasks = ["a".to_owned(), "b".to_owned()];
    let map =
        HeatMap::affinity(&tasks, &tasks, vec![vec![None, Some(2.0)], vec![Some(-0.5), Some(0.0)]]).unwrap();
    insta::assert_snapshot!(texts(&map), @r#"a | – | +2.00 | b | −0.50 | 0.00 | a | b | target task | source task | −2.00 | 0.00 | +2.00 | transfer"#);
    let svg = map.to_svg_string().unwrap();
    assert!(svg.contains("#8A3D00"), "2 is as far as the scale goes");
    assert!(!svg.contains("fill=\"#00476F\" stroke=\"none\" x=\"9"), "−0.5 is not");
    let unknown = HeatMap::affinity(&tasks, &tasks, vec![vec![None; 2]; 2]).unwrap();
    assert!(unknown.draw().is_ok());
    assert_eq!(refusal(&map.diverging(f64::NAN)), "the centre of the scale has the value NaN");
}

#[test]
fn one_run_never_shows_an_interval() {
    let interval = Interval { low: 0.1, high: 0.9, level: 0.95, method: IntervalMethod::T };
    let claimed = Estimate { interval: Some(interval), ..Estimate::exact(0.5) };
    let honest = Estimate::exact(0.5);
    let bars = |e| BarChart::new("score").points().bar("a", "b", e).to_svg_string().unwrap();
    let forest = |e| ForestPlot::new("score").row("a", e).pooled("all", e).to_svg_string().unwrap();
    assert_eq!(bars(claimed), bars(honest));
    assert_eq!(forest(claimed), forest(honest));
    assert_ne!(forest(Estimate { n: 2, ..claimed }), forest(honest));
}
