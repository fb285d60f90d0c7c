//! The flat-region study at small size: cells of every variant run, and the report and the ledger cope with part of the grid.
#![allow(clippy::expect_used, clippy::unwrap_used, clippy::panic)]
mod common;

use common::Lab;

const SMALL: &str =
    "--quiet --workers 2 --set train_examples=200 --set test_examples=60 --set rounds=1 --set epochs=2";

#[test]
fn every_variant_is_measured_and_the_claims_are_judged() {
    let lab = Lab::new();
    let run = lab.run(&format!("run flat-regions --out r --seeds 0,1 {SMALL}")).expect(0);
    for name in ["f-mgda-direct", "cagrad-2x", "sam-pcgrad", "f-cagrad-direct"] {
        assert!(run.out.contains(name), "{}", run.out);
    }
    let mut reader = csv::Reader::from_path(lab.path("r/records.csv")).unwrap();
    let names = reader.headers().unwrap().clone();
    let rows: Vec<_> = reader.records().map(Result::unwrap).collect();
    let at =
        |row: &csv::StringRecord, name: &str| row[names.iter().position(|n| n == name).unwrap()].to_owned();
    let value = |method: &str, metric: &str| -> Vec<f64> {
        let found = rows.iter().filter(|row| at(row, "method") == method && at(row, "metric") == metric);
        found.map(|row| at(row, "value").parse().unwrap()).collect()
    };
    // Two seeds, for accuracy and sharpness of two tasks each; twice the steps where twice the epochs.
    assert_eq!((value("f-cagrad", "accuracy").len(), value("f-cagrad", "conflict_share").len()), (4, 2));
    assert!(value("f-cagrad", "sharpness").iter().all(|rise| *rise > 0.0));
    assert_eq!(value("cagrad-2x", "steps")[0], 2.0 * value("cagrad", "steps")[0]);
    assert_eq!(value("f-mgda", "backward_passes")[0], 2.0 * value("mgda", "backward_passes")[0]);
    assert_ne!(value("f-pcgrad", "sharpness"), value("f-pcgrad-direct", "sharpness"));
    let ledger = lab.run("verify --out r").expect(1);
    assert_eq!(ledger.err, "5 claims: 5 not testable\n", "two seeds are too few");
    assert!(lab.path("r/report/differences.png").exists());
    lab.run(&format!("run flat-regions --out one --seeds 0 --only variant=flat {SMALL}")).expect(0);
    let ledger = lab.run("verify --out one").expect(1).out;
    assert!(ledger.contains("for `cagrad`, `mgda`, `pcgrad`"), "{ledger}");
}

#[test]
fn a_radius_where_there_is_none_is_refused() {
    let lab = Lab::new();
    let answer = lab.run("run flat-regions --out r --set rho=0.1").expect(2);
    assert!(answer.err.contains("`rho` must be positive for `sam`, `flat` and `direct`"), "{}", answer.err);
}
