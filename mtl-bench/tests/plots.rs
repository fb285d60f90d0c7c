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

fn nemenyi() -> CriticalDifference {
    // Demšar 2006, table 6: AUC of C4.5 with and without pruning and tuning, on 14 data sets.
    let auc = [
        [0.763, 0.768, 0.771, 0.798],
        [0.599, 0.591, 0.590, 0.569],
        [0.954, 0.971, 0.968, 0.967],
        [0.628, 0.661, 0.654, 0.657],
        [0.882, 0.888, 0.886, 0.898],
        [0.936, 0.931, 0.916, 0.931],
        [0.661, 0.668, 0.609, 0.685],
        [0.583, 0.583, 0.563, 0.625],
        [0.775, 0.838, 0.866, 0.875],
        [1.000, 1.000, 1.000, 1.000],
        [0.940, 0.962, 0.965, 0.962],
        [0.619, 0.666, 0.614, 0.669],
        [0.972, 0.981, 0.975, 0.975],
        [0.957, 0.978, 0.946, 0.970],
    ];
    let blocks: Vec<Vec<f64>> = auc.iter().map(|row| row.to_vec()).collect();
    let names = ["C4.5", "C4.5+m", "C4.5+cf", "C4.5+m+cf"];
    CriticalDifference::nemenyi(&friedman(&blocks, Better::Higher).unwrap(), &names, 0.90).unwrap()
}

#[test]
fn the_rank_diagram_shows_the_published_ranks_and_groups() {
    let found = nemenyi();
    // The paper: average ranks 3.143, 2.000, 2.893, 1.964; CD at 0.10 is 1.12; two groups.
    insta::assert_snapshot!(texts(&CriticalDifferenceDiagram::nemenyi(&found).title("AUC")), @"");
    assert_eq!(found.groups.len(), 2);
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
    insta::assert_snapshot!(errors.join("\n"), @"");
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
    insta::assert_snapshot!(texts(&plot), @"");
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
    insta::assert_snapshot!(errors.join("\n"), @"");
}

#[test]
fn radar() {
    let plot = Radar::new(["digit", "parity", "order"], "relative score")
        .range(0.5, 1.0)
        .series("a", vec![0.9, 0.8, 0.5]);
    insta::assert_snapshot!(texts(&plot), @"");
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
    insta::assert_snapshot!(errors.join("\n"), @"");
}

#[test]
fn forest() {
    let plot = ForestPlot::new("gain [points]")
        .row("clear", Estimate::of(&[1.0, 1.4, 0.9], 0.95).unwrap())
        .row("one run", Estimate::of(&[-0.2], 0.95).unwrap())
        .pooled("all", Estimate::of(&[0.4, 1.0, -0.5], 0.95).unwrap())
        .sides("worse", "better");
    insta::assert_snapshot!(texts(&plot), @"");
    let odd = Interval { low: 2.0, high: 3.0, level: 0.95, method: IntervalMethod::T };
    let odd = Estimate { interval: Some(odd), n: 3, ..Estimate::exact(1.0) };
    let errors = [
        refusal(&ForestPlot::new("gain")),
        refusal(&ForestPlot::new("gain").row("a", Estimate::exact(f64::NAN))),
        refusal(&ForestPlot::new("gain").row("a", odd)),
        refusal(&ForestPlot::new("gain").row("a", Estimate::exact(1.0)).no_effect(f64::INFINITY)),
    ];
    insta::assert_snapshot!(errors.join("\n"), @"");
}

#[test]
fn power_law() {
    let x = [100.0, 200.0, 400.0, 800.0, 1600.0, 3200.0];
    let y = [0.41, 0.30, 0.256, 0.204, 0.178, 0.151];
    let fit = fit_power_law(&x, &y, &FitOptions::default()).unwrap();
    let plot = PowerLawPlot::new("examples", "error [share]", &x, &y, fit.clone()).unwrap();
    insta::assert_snapshot!(texts(&plot.clone().extend_to(1e5)), @"");
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
    insta::assert_snapshot!(errors.join("\n"), @"");
}

#[test]
fn a_diverging_map_is_symmetric_about_its_centre() {
    let tasks = ["a".to_owned(), "b".to_owned()];
    let map =
        HeatMap::affinity(&tasks, &tasks, vec![vec![None, Some(2.0)], vec![Some(-0.5), Some(0.0)]]).unwrap();
    insta::assert_snapshot!(texts(&map), @"");
    let svg = map.to_svg_string().unwrap();
    assert!(svg.contains("#8A3D00"), "2 is as far as the scale goes");
    assert!(!svg.contains("fill=\"#00476F\" stroke=\"none\" x=\"9"), "−0.5 is not");
    let unknown = HeatMap::affinity(&tasks, &tasks, vec![vec![None; 2]; 2]).unwrap();
    assert!(unknown.draw().is_ok());
    assert_eq!(refusal(&map.diverging(f64::NAN)), "the centre of the scale has the value NaN");
}
