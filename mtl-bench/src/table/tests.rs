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
    insta::assert_snapshot!(sample().to_markdown(), @"");
}

#[test]
fn latex() {
    insta::assert_snapshot!(sample().to_latex(), @"");
}

#[test]
fn csv_cannot_carry_formulas() {
    insta::assert_snapshot!(sample().to_csv(), @"");
}

#[test]
fn text() {
    insta::assert_snapshot!(sample().to_text(), @"");
}

#[test]
fn html() {
    insta::assert_snapshot!(sample().to_html(), @"");
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
