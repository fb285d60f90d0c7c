//! Marks of significance, their footnotes, and the origin of figures, in all five formats.
#![allow(clippy::expect_used, clippy::unwrap_used)]
use mtl_bench::metrics::Better;
use mtl_bench::stats::*;
use mtl_bench::store::Key;
use mtl_bench::table::{Cell, Column};
use mtl_bench::{Pivot, Record, Results, Table};

/// `n` seeds of three methods on one task: `new_1` is 3 points ahead of `base`, `bad|1` far behind.
fn results(n: u64) -> Results {
    let noise = |seed: u64, m: u64| 0.001 * ((seed * 7 + m * 5) % 11) as f64;
    let methods = [("base", 0.80, 0), ("new_1", 0.83, 1), ("bad|1", 0.60, 2)];
    let run = |(method, level, m): (&str, f64, u64), seed| {
        Record::new("accuracy", level + noise(seed, m)).method(method).task("t&x").seed(seed)
    };
    Results::from_records((0..n).flat_map(|seed| methods.map(|m| run(m, seed)))).unwrap()
}

fn comparison(n: u64, test: Option<Test>) -> ScoreComparison {
    let scores = Scores::from_results(&results(n), "accuracy", Better::Higher).unwrap();
    let bootstrap = Bootstrap { replicates: 100, ..Bootstrap::default() };
    let options =
        CompareOptions { control: Some("base".into()), test, bootstrap, ..CompareOptions::default() };
    compare(&scores, &options).unwrap()
}

fn table(n: u64) -> Table {
    Pivot::new(Key::Method, Key::Task).percent().table(&results(n)).unwrap()
}

#[test]
fn marks_and_their_footnote() {
    let marked = table(8).significance("t&x", &comparison(8, None)).unwrap();
    insta::assert_snapshot!(marked.to_markdown(), @"");
    insta::assert_snapshot!(marked.to_latex(), @"");
    insta::assert_snapshot!(marked.to_csv(), @"");
    insta::assert_snapshot!(marked.to_text(), @"");
    insta::assert_snapshot!(marked.to_html(), @"");
}

#[test]
fn five_paired_seeds_are_never_significant_on_one_task() {
    let found = comparison(5, None);
    assert!(found.pairs.iter().all(|p| p.test == Test::SignFlip && p.p == Some(0.0625)));
    let text = table(5).significance("t&x", &found).unwrap().to_text();
    assert!(!text.contains("82.8†") && !text.contains("‡ ±"), "{text}");
    assert!(text.contains("smallest attainable p = 0.0625 (0.125 after correction)"), "{text}");
    assert!(text.contains("with so few runs no difference can ever be significant here"), "{text}");
    // A t test assumes more, and has no such limit.
    let text = table(5).significance("t&x", &comparison(5, Some(Test::PairedT))).unwrap().to_text();
    assert!(
        text.contains('†') && !text.contains("attainable") && !text.contains("ever be significant"),
        "{text}"
    );
}

#[test]
fn the_detectable_difference_is_that_of_the_power_module() {
    let found = comparison(8, None);
    let gains: Vec<f64> = found.pairs.iter().map(|p| p.gain.unwrap().std.unwrap()).collect();
    let found_by = |std: f64| 100.0 * detectable_difference(std, 8, 0.8, 0.95).unwrap();
    let mut ends: Vec<String> = gains.into_iter().map(|s| format!("{:.1}", found_by(s))).collect();
    ends.sort();
    ends.dedup();
    let text = table(8).significance("t&x", &found).unwrap().to_text();
    assert!(text.contains(&format!("a difference of {} points with", ends.join(" to "))), "{text}");
}

#[test]
fn a_comparison_must_belong_to_the_table() {
    let found = comparison(6, None);
    let errors = [
        table(6).significance("accuracy", &found).unwrap_err().to_string(),
        Pivot::new(Key::Method, Key::Task)
            .rows(&["base"])
            .table(&results(6))
            .unwrap()
            .significance("t&x", &found)
            .unwrap_err()
            .to_string(),
        table(6)
            .significance("t&x", &ScoreComparison { pairs: vec![], ..found.clone() })
            .unwrap_err()
            .to_string(),
        {
            let mut mixed = found.clone();
            mixed.pairs[1].other = "new_1".into();
            table(6).significance("t&x", &mixed).unwrap_err().to_string()
        },
        Table::new("m", [Column::new("x").reported()]).significance("x", &found).unwrap_err().to_string(),
    ];
    insta::assert_snapshot!(errors.join("\n"), @"");
}

#[test]
fn one_run_never_prints_an_interval() {
    let interval = Interval { low: 0.1, high: 0.9, level: 0.95, method: IntervalMethod::T };
    let mut table = Table::new("m", [Column::new("x")]);
    table
        .row("claimed", [Cell::from(Estimate { interval: Some(interval), ..Estimate::exact(0.5) })])
        .unwrap();
    table.row("honest", [Cell::from(Estimate::of(&[0.5], 0.95).unwrap())]).unwrap();
    for text in [table.to_markdown(), table.to_latex(), table.to_text(), table.to_html(), table.to_csv()] {
        assert!(!text.contains('±') && !text.contains("\\pm") && !text.contains("0.9"), "{text}");
    }
    assert!(table.to_text().contains("One run gives no interval."));
    let open = Interval { high: f64::INFINITY, ..interval };
    let open = Estimate { interval: Some(open), n: 3, ..Estimate::exact(0.5) };
    assert!(table.row("open", [Cell::from(open)]).is_err());
}

#[test]
fn reported_and_measured_figures_never_share_a_column() {
    let columns = [
        Column::new("accuracy").better(Better::Higher).percent(),
        Column::new("accuracy").better(Better::Higher).percent().reported(),
    ];
    let mut table = Table::new("method", columns);
    let cited = || Cell::reported(0.95, "Doe & Roe 2020, Table 2");
    table.row("ours", [0.91.into(), Cell::Empty]).unwrap();
    table.row("theirs", [0.90.into(), cited()]).unwrap();
    table.row("others", [Cell::Empty, Cell::reported(0.97, "Poe 2021")]).unwrap();
    let errors = [table.row("x", [cited(), Cell::Empty]), table.row("x", [0.9.into(), 0.9.into()])];
    let errors = errors.map(|e| e.unwrap_err().to_string());
    insta::assert_snapshot!(errors.join("\n"), @"");
    insta::assert_snapshot!(table.to_markdown(), @"");
}
