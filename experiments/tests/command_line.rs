//! What the command line answers to good and bad requests.
#![allow(clippy::expect_used, clippy::unwrap_used, clippy::panic)]
mod common;

use common::Lab;
use std::fs;

#[test]
fn mistakes_are_named_with_what_was_probably_meant() {
    let lab = Lab::new();
    let base = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/studies/selftest.toml")).unwrap();
    let mut shown = String::new();
    let mut refuse = |words: &str| {
        let answer = lab.run(words).expect(2);
        shown += &answer.err.replace(lab.path("").to_str().unwrap(), "");
        assert_eq!(answer.out, "");
        assert!(!lab.path("results").exists(), "nothing is written: {words}");
    };
    for words in [
        "run selftset",
        "run selftest --only method=momentun",
        "run selftest --only metod=sgd",
        "run selftest --set stesp=1",
        "run selftest --set steps=0",
        "run selftest --set steps=many",
        "run selftest --set method=adam",
        "run selftest --seeds 0,0",
        "run selftest --workers 0",
        "run selftest --threads 0",
        "run selftest --data /",
        "run selftest --data nowhere",
        "run selftest --config missing.toml",
        "resume selftest",
        "resume",
        "report --out nowhere",
        "clean selftest --yes",
    ] {
        refuse(words);
    }
    for (from, to) in [
        ("steps = 200", "stpes = 200"),
        ("lr = [0.1, 0.5]", "lr = [0.1, 'high']"),
        ("lr = [0.1, 0.5]", "lr = [0.1, -0.5]"),
        ("kind = \"train\"", "kind = \"trian\""),
        ("needs = [\"data\"]", "needs = [\"dta\"]"),
        ("[kinds.train]", "[kindz.train]"),
    ] {
        assert!(base.contains(from));
        fs::write(lab.path("grid.toml"), base.replace(from, to)).unwrap();
        refuse("run selftest --config grid.toml");
    }
    insta::assert_snapshot!(shown, @r#"
    error: unknown study `selftset`; did you mean `selftest`?
    error: unknown method `momentun`; did you mean `momentum`?
    error: unknown key `metod`; did you mean `method`?
    error: unknown key `stesp`; did you mean `steps`?
    error: `built-in selftest.toml`: line 9: `steps` must be between 1 and 1000000, but is 0 (cell `train checkpoint_every=10 fault=none lr=0.1 method=sgd sleep_ms=0 steps=0 seed=0`)
    error: `built-in selftest.toml`: line 9: steps: invalid type: string "many", expected u64 (cell `train checkpoint_every=10 fault=none lr=0.1 method=sgd sleep_ms=0 steps=many seed=0`)
    error: `built-in selftest.toml`: line 19: method: unknown variant `adam`, expected `sgd` or `momentum` (cell `train checkpoint_every=10 fault=none lr=0.1 method=adam sleep_ms=0 steps=200 seed=0`)
    error: `built-in selftest.toml`: line 2: `seeds` lists 0 twice
    error: invalid value '0' for '--workers <WORKERS>': 0 is not in 1..=65535

    For more information, try '--help'.
    error: invalid value '0' for '--threads <THREADS>': 0 is not in 1..=65535

    For more information, try '--help'.
    error: `--data` must be left out, because the study `selftest` brings its own data, but is /
    error: `--data` must be a folder that exists, but is nowhere
    error: cannot read `missing.toml`: No such file or directory (os error 2)
    error: `results/selftest`: holds no run; start one with `experiments run`
    error: name a study or give its run directory with `--out`
    error: `nowhere`: holds no run; start one with `experiments run`
    error: `results/selftest`: holds no run; start one with `experiments run`
    error: `grid.toml`: line 9: stpes: unknown field `stpes`, expected one of `method`, `lr`, `steps`, `checkpoint_every`, `fault`, `sleep_ms`; did you mean `steps`? (cell `train checkpoint_every=10 fault=none lr=0.1 method=sgd sleep_ms=0 stpes=200 seed=0`)
    error: `grid.toml`: line 20: lr: invalid type: string "high", expected f64 (cell `train checkpoint_every=10 fault=none lr=high method=sgd sleep_ms=0 steps=200 seed=0`)
    error: `grid.toml`: line 20: `lr` must be positive, but is -0.5 (cell `train checkpoint_every=10 fault=none lr=-0.5 method=sgd sleep_ms=0 steps=200 seed=0`)
    error: `grid.toml`: line 8: [kinds.train] fits no cell: unknown kind `train`; did you mean `trian`?
    error: `grid.toml`: line 17: unknown prerequisite `dta`; did you mean `data`?
    error: `grid.toml`: line 8: unknown field `kindz`, expected one of `seeds`, `defaults`, `kinds`, `prerequisites`, `grid`; did you mean `kinds`?
    "#);
}

#[test]
fn a_second_run_is_refused_and_resume_adds_seeds_without_repeating() {
    let lab = Lab::new();
    lab.run("run selftest --seeds 0 --only method=sgd --only lr=0.5 --quiet").expect(0);
    let refused = lab.run("run selftest --seeds 0").expect(2);
    insta::assert_snapshot!(refused.err, @"error: `results/selftest`: already holds a run; go on with it by `experiments resume selftest`, or remove it by `experiments clean selftest`");
    lab.run("resume selftest --seeds 0,1 --only all --quiet").expect(0);
    let log = lab.read("results/selftest/run.log");
    assert_eq!(log.matches(": started on worker").count(), 10, "{log}");
    lab.run("resume selftest --quiet").expect(0);
    assert_eq!(lab.read("results/selftest/run.log"), log, "nothing was left to do");
    lab.run("run selftest --out fresh --quiet").expect(0);
    assert_eq!(lab.read("results/selftest/records.csv"), lab.read("fresh/records.csv"));
}

#[test]
fn data_goes_to_stdout_in_the_format_asked_for() {
    let lab = Lab::new();
    let text = lab.run("run selftest --quiet --seeds 0 --workers 2").expect(0);
    assert_eq!(text.err, "report: results/selftest/report/report.html\n");
    insta::assert_snapshot!(text.out.split("\n\nClaims\n").next().unwrap(), @r"
    | method | setting | accuracy | seeds |
    |---|---|---|---|
    | momentum | lr 0.1 | 0.835 | 1 |
    | momentum | lr 0.5 | 0.840 | 1 |
    | sgd | lr 0.1 | 0.815 | 1 |
    | sgd | lr 0.5 | 0.830 | 1 |
    ");
    let csv = lab.run("report selftest --format csv").expect(0);
    assert_eq!(csv.out, lab.read("results/selftest/records.csv"));
    let json = lab.run("report selftest --format json").expect(0);
    assert_eq!(json.out.lines().count() + 1, csv.out.lines().count());
    let manifest: serde_json::Value =
        serde_json::from_str(&lab.read("results/selftest/manifest.json")).unwrap();
    assert_eq!(manifest["study"], "selftest");
    assert!(manifest["machine"]["cores"].as_u64() > Some(0));
}

#[test]
fn list_shows_studies_and_cells() {
    let lab = Lab::new();
    assert!(!lab.run("list").expect(0).out.contains("selftest"));
    assert!(lab.run("list --all").expect(0).out.contains("selftest"));
    let cells = lab.run("list selftest --seeds 7 --only lr=0.5").expect(0).out;
    let labels: Vec<_> = cells.lines().map(|line| &line[18..]).collect();
    insta::assert_snapshot!(labels.join("\n"), @r"
    data dims=8 points=400 seed=7
    train checkpoint_every=10 fault=none lr=0.5 method=sgd sleep_ms=0 steps=200 seed=7
    train checkpoint_every=10 fault=none lr=0.5 method=momentum sleep_ms=0 steps=200 seed=7
    ");
    let help = lab.run("run --help").expect(0).out;
    assert!(help.contains("experiments run quickstart --seeds 0,1"), "{help}");
}

#[test]
fn clean_removes_our_files_only_and_only_when_told() {
    let lab = Lab::new();
    fs::create_dir(lab.path("other")).unwrap();
    fs::write(lab.path("other/manifest.json"), "{}").unwrap();
    assert!(lab.run("clean --out other --yes").expect(2).err.contains("no manifest of a run"));
    lab.run("run selftest --seeds 0 --quiet").expect(0);
    assert!(lab.run("clean selftest").expect(2).err.contains("`--yes` must be"));
    assert!(lab.path("results/selftest/records.csv").exists());
    fs::write(lab.path("results/selftest/notes.txt"), "mine").unwrap();
    assert!(lab.run("clean selftest --yes").expect(0).err.contains("stays"));
    assert_eq!(lab.read("results/selftest/notes.txt"), "mine");
    assert_eq!(fs::read_dir(lab.path("results/selftest")).unwrap().count(), 1);
}

#[test]
fn a_manifest_that_was_damaged_is_refused() {
    let lab = Lab::new();
    lab.run("run selftest --seeds 0 --quiet").expect(0);
    let path = lab.path("results/selftest/manifest.json");
    let text = fs::read_to_string(&path).unwrap();
    for damaged in [&text[..text.len() / 2], "", "[]", &text.replace("run directory 1", "run directory 9")] {
        fs::write(&path, damaged).unwrap();
        let answer = lab.run("resume selftest").expect(2);
        assert!(answer.err.contains("manifest.json`: "), "{answer:?}");
    }
}
