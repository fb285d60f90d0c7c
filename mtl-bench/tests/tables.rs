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
    insta::assert_snapshot!(marked.to_markdown(), @r#"
    | method | t&amp;x \[%\] ↑ |
    |---|---:|
    | bad\|1 | 60.6‡ ± 0.3 |
    | base | 80.5 ± 0.3 |
    | new\_1 | **83.5**† ± 0.3 |

    Mean ± half-width of the 95 % t interval; 8 runs.

    Best mean of a column marked; this alone does not make a difference significant.

    t&amp;x: † better, ‡ worse than base: exact sign-flip permutation test, n = 8 runs, Holm over 2 comparisons, α = 0.05, smallest attainable p = 0.00781 (0.0156 after correction). With this spread and n, a paired t test without correction finds a difference of 0.4 to 0.7 points with probability 0.8; smaller ones may well be missed.
    "#);
    insta::assert_snapshot!(marked.to_latex(), @r#"
    % \usepackage{booktabs}
    \begin{table}[t]
      \centering
      \begin{tabular}{lr}
        \toprule
        method & t\&x [\%] $\uparrow$ \\
        \midrule
        bad$\vert$1 & 60.6$^{\ddagger}$ $\pm$ 0.3 \\
        base & 80.5 $\pm$ 0.3 \\
        new\_1 & \textbf{83.5}$^{\dagger}$ $\pm$ 0.3 \\
        \bottomrule
      \end{tabular}

      \smallskip{\footnotesize Mean $\pm$ half-width of the 95~\% t interval; 8 runs.}

      \smallskip{\footnotesize Best mean of a column marked; this alone does not make a difference significant.}

      \smallskip{\footnotesize t\&x: $\dagger$ better, $\ddagger$ worse than base: exact sign-flip permutation test, n = 8 runs, Holm over 2 comparisons, $\alpha$ = 0.05, smallest attainable p = 0.00781 (0.0156 after correction). With this spread and n, a paired t test without correction finds a difference of 0.4 to 0.7 points with probability 0.8; smaller ones may well be missed.}
    \end{table}
    "#);
    insta::assert_snapshot!(marked.to_csv(), @r#"
    method,t&x [%] ↑,t&x low,t&x high,t&x n,t&x significance
    bad|1,60.5625,60.290908062787686,60.83409193721231,8,worse
    base,80.52499999999999,80.23625706700764,80.81374293299234,8,
    new_1,83.475,83.18625706700765,83.76374293299234,8,better
    "#);
    insta::assert_snapshot!(marked.to_text(), @r#"
    method     t&x [%] ↑
    ────────────────────
    bad|1   60.6‡ ± 0.3
    base     80.5 ± 0.3
    new_1   83.5† ± 0.3*
    Mean ± half-width of the 95 % t interval; 8 runs.
    Best mean of a column marked; this alone does not make a difference significant.
    t&x: † better, ‡ worse than base: exact sign-flip permutation test, n = 8 runs, Holm over 2 comparisons, α = 0.05, smallest attainable p = 0.00781 (0.0156 after correction). With this spread and n, a paired t test without correction finds a difference of 0.4 to 0.7 points with probability 0.8; smaller ones may well be missed.
    "#);
    insta::assert_snapshot!(marked.to_html(), @r#"
    <table>
    <thead><tr><th scope="col">method</th><th scope="col">t&amp;x [%] ↑</th></tr></thead>
    <tbody>
    <tr><th scope="row">bad|1</th><td>60.6<sup>‡</sup> <small>± 0.3</small></td></tr>
    <tr><th scope="row">base</th><td>80.5 <small>± 0.3</small></td></tr>
    <tr><th scope="row">new_1</th><td><strong>83.5</strong><sup>†</sup> <small>± 0.3</small></td></tr>
    </tbody>
    <tfoot><tr><td colspan="2">Mean ± half-width of the 95 % t interval; 8 runs. Best mean of a column marked; this alone does not make a difference significant. t&amp;x: † better, ‡ worse than base: exact sign-flip permutation test, n = 8 runs, Holm over 2 comparisons, α = 0.05, smallest attainable p = 0.00781 (0.0156 after correction). With this spread and n, a paired t test without correction finds a difference of 0.4 to 0.7 points with probability 0.8; smaller ones may well be missed.</td></tr></tfoot>
    </table>
    "#);
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
    insta::assert_snapshot!(errors.join("\n"), @r#"
    unknown column `accuracy`
    unknown row `bad|1`
    `found` must be a comparison of at least one pair, but is 0
    `found` must be comparisons against one control, but is against `base` and `new_1`
    `column` must be of figures measured here, but is `x`, reported
    "#);
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
    insta::assert_snapshot!(errors.join("\n"), @r#"
    `cells` must be measured in a column of measured figures; put others in a `Column::reported`, but is reported in `accuracy`
    `cells` must be `Cell::reported` in a column of reported figures, but is measured in `accuracy`
    "#);
    insta::assert_snapshot!(table.to_markdown(), @r#"
    | method | accuracy \[%\] ↑ | accuracy (reported) \[%\] ↑ |
    |---|---:|---:|
    | ours | **91.0** | – |
    | theirs | 90.0 | 95.0 |
    | others | – | 97.0 |

    Best mean of a column marked; this alone does not make a difference significant.

    Reported figures are as printed in Doe &amp; Roe 2020, Table 2; Poe 2021; they were not reproduced here and enter no test.
    "#);
}
