use super::*;
use crate::metrics::Better;
use crate::stats::Estimate;

fn sample() -> Table {
    let columns = [
        Column::new("acc_top").better(Better::Higher).percent(),
        Column::new("latency").unit("ms").decimals(2).better(Better::Lower),
        Column::new("note"),
    ];
    let mut table = Table::new("method", columns).title("A & B");
    let runs = |values: &[f64]| Cell::from(Estimate::of(values, 0.95).unwrap());
    table.row("a|b", [runs(&[0.9, 0.92, 0.91]), 3.5.into(), "=1+1".into()]).unwrap();
    table.row("=cmd", [runs(&[0.95]), 2.25.into(), Cell::Empty]).unwrap();
    table
}

#[test]
fn markdown() {
    insta::assert_snapshot!(sample().to_markdown(), @r#"
    **A &amp; B**

    | method | acc\_top \[%\] ↑ | latency \[ms\] ↓ | note |
    |---|---:|---:|---:|
    | a\|b | 91.0 ± 2.5 (3) | 3.50 | =1+1 |
    | =cmd | **95.0** (1) | **2.25** | – |

    Mean ± half-width of the 95 % t interval; the number of runs in brackets.

    One run gives no interval.

    Best mean of a column marked; this alone does not make a difference significant.
    "#);
}

#[test]
fn latex() {
    insta::assert_snapshot!(sample().to_latex(), @r#"
    % \usepackage{booktabs}
    \begin{table}[t]
      \centering
      \caption{A \& B}
      \begin{tabular}{lrrr}
        \toprule
        method & acc\_top [\%] $\uparrow$ & latency [ms] $\downarrow$ & note \\
        \midrule
        a$\vert$b & 91.0 $\pm$ 2.5 (3) & 3.50 & =1+1 \\
        =cmd & \textbf{95.0} (1) & \textbf{2.25} & -- \\
        \bottomrule
      \end{tabular}

      \smallskip{\footnotesize Mean $\pm$ half-width of the 95~\% t interval; the number of runs in brackets.}

      \smallskip{\footnotesize One run gives no interval.}

      \smallskip{\footnotesize Best mean of a column marked; this alone does not make a difference significant.}
    \end{table}
    "#);
}

#[test]
fn csv_cannot_carry_formulas() {
    insta::assert_snapshot!(sample().to_csv(), @r#"
    method,acc_top [%] ↑,acc_top low,acc_top high,acc_top n,latency [ms] ↓,note
    a|b,91,88.51586228824966,93.48413771175034,3,3.5,'=1+1
    '=cmd,95,,,1,2.25,
    "#);
}

#[test]
fn text() {
    insta::assert_snapshot!(sample().to_text(), @r#"
    A & B
    method    acc_top [%] ↑  latency [ms] ↓   note
    ──────────────────────────────────────────────
    a|b     91.0 ± 2.5 (3)            3.50   =1+1
    =cmd          95.0 (1)*           2.25*     –
    Mean ± half-width of the 95 % t interval; the number of runs in brackets.
    One run gives no interval.
    Best mean of a column marked; this alone does not make a difference significant.
    "#);
}

#[test]
fn html() {
    insta::assert_snapshot!(sample().to_html(), @r#"
    <table>
    <caption>A &amp; B</caption>
    <thead><tr><th scope="col">method</th><th scope="col">acc_top [%] ↑</th><th scope="col">latency [ms] ↓</th><th scope="col">note</th></tr></thead>
    <tbody>
    <tr><th scope="row">a|b</th><td>91.0 <small>± 2.5</small> <small>(3)</small></td><td>3.50</td><td>=1+1</td></tr>
    <tr><th scope="row">=cmd</th><td><strong>95.0</strong> <small>(1)</small></td><td><strong>2.25</strong></td><td>–</td></tr>
    </tbody>
    <tfoot><tr><td colspan="4">Mean ± half-width of the 95 % t interval; the number of runs in brackets. One run gives no interval. Best mean of a column marked; this alone does not make a difference significant.</td></tr></tfoot>
    </table>
    "#);
}

#[test]
fn equal_as_printed_is_equally_good_and_zero_has_no_sign() {
    let mut table = Table::new("m", [Column::new("x").better(Better::Higher).decimals(1)]);
    for (name, value) in [("a", 0.91), ("b", 0.94), ("c", -0.01)] {
        table.row(name, [value.into()]).unwrap();
    }
    let text = table.to_text();
    assert_eq!(text.matches("0.9*").count(), 2);
    assert!(text.contains("0.0") && !text.contains("-0.0") && !text.contains("−0.0"));
}

#[test]
fn a_row_must_fit_the_columns() {
    let mut table = Table::new("m", [Column::new("x")]);
    insta::assert_snapshot!(table.row("a", []).unwrap_err(), @"`cells` must be 1 in number, but is 0");
    assert!(table.row("a", [f64::NAN.into()]).is_err());
}
