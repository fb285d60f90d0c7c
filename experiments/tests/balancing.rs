//! The balancing study at small size: every method runs, the report and the ledger cope with part of the grid.
#![allow(clippy::expect_used, clippy::unwrap_used, clippy::panic)]
mod common;

use common::Lab;

const SMALL: &str =
    "--quiet --workers 2 --set train_examples=60 --set test_examples=40 --set steps=4 --set batch=12";

#[test]
fn methods_suites_and_architectures_are_measured() {
    let lab = Lab::new();
    let run = lab.run(&format!("run balancing --out r --seeds 0,1 --only suite=conflict {SMALL}")).expect(0);
    for text in ["Conflict: three regressions", "single-task", "nash_mtl", "famo", "sdmgrad", "Δm"] {
        assert!(run.out.contains(text), "no {text} in {}", run.out);
    }
    let ledger = lab.run("verify --out r").expect(1);
    assert_eq!(ledger.err, "7 claims: 7 not testable\n", "two seeds are too few: {}", ledger.out);
    assert!(lab.path("r/report/conflict.png").exists() && lab.path("r/report/report.html").exists());
    let words = "run balancing --out a --seeds 0 --only suite=attributes --only method=equal";
    lab.run(&format!("{words} {SMALL}")).expect(0);
    let records = lab.read("a/records.csv");
    for name in
        ["hps", "cross-stitch", "nddr", "mtan", "mmoe", "cgc", "ple", "ltb", "dselect-k", "task-embedding"]
    {
        assert!(records.contains(&format!("attributes, {name}")), "{name}");
    }
    assert!(records.contains("gate_divergence"));
}

#[test]
fn architectures_and_balancers_make_a_table_and_a_picture() {
    let lab = Lab::new();
    let only = [
        "suite=multi-digits",
        "method=single-task",
        "method=equal",
        "method=pcgrad",
        "architecture=hps",
        "architecture=mmoe",
    ]
    .map(|value| format!("--only {value}"))
    .join(" ");
    let run = lab.run(&format!("run balancing --out r --seeds 0,1 {only} {SMALL}")).expect(0);
    for text in
        ["Δm of architectures and balancers, multi-digits", "Balancers beside the plain sum, multi-digits"]
    {
        assert!(run.out.contains(text), "no {text} in {}", run.out);
    }
    let table = lab.read("r/report/architectures-multi-digits.csv");
    let head = table.lines().next().unwrap();
    assert!(head.contains("hps") && head.contains("mmoe") && table.contains("pcgrad"), "{table}");
    assert!(lab.path("r/report/architectures-multi-digits.png").exists());
}

#[test]
fn unknown_methods_are_refused_with_the_nearest_name() {
    let lab = Lab::new();
    let refusal = |method: &str, architecture: &str| {
        let keys = "suite = 'conflict'\nwidths = { list = [4] }\ntrain_examples = 9\ntest_examples = 9\nbatch = 9\n\
                    steps = 1\nlr = 0.1\n";
        let names = format!("method = '{method}'\narchitecture = '{architecture}'\n");
        let text = format!("seeds = [0]\n[[grid]]\nkind = 'train'\n{keys}{names}");
        std::fs::write(lab.path("grid.toml"), text).unwrap();
        lab.run("run balancing --out r --config grid.toml").expect(2).err
    };
    let error = refusal("pcgrd", "hps");
    assert!(error.contains("did you mean `pcgrad`?"), "{error}");
    let error = refusal("equal", "mmo");
    assert!(error.contains("did you mean `mmoe`?"), "{error}");
}
