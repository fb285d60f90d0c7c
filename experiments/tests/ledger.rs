//! The ledger of claims, with a study of which one claim holds, one does not and one cannot be told.
#![allow(clippy::expect_used, clippy::unwrap_used, clippy::panic, clippy::needless_range_loop)]
mod common;

use common::Lab;

const SEEDS: &str = "--seeds 0,1,2,3 --quiet";

#[test]
fn the_ledger_tells_what_holds_what_does_not_and_what_was_not_run() {
    let lab = Lab::new();
    let before = lab.run("verify selftest").expect(1);
    assert_eq!(before.out.matches("run it by `experiments run selftest`").count(), 3, "{}", before.out);
    assert_eq!(before.err, "3 claims: 3 not run\n");
    let run = lab.run(&format!("run selftest {SEEDS}")).expect(0);
    let after = lab.run("verify selftest").expect(1);
    assert_eq!(after.err, "3 claims: 1 confirmed, 1 not confirmed, 1 not testable\n");
    insta::assert_snapshot!(after.out, @"
    claim                        paper                 effect  seeds         verdict
    ────────────────────────────────────────────────────────────────────────────────
    selftest/momentum-helps  no paper   -0.16 [-0.30, -0.01]      4       confirmed
    selftest/momentum-harms  no paper   +0.06 [-0.04, +0.16]      4   not confirmed
    selftest/nesterov-helps  no paper                      —      —    not testable

    selftest/momentum-helps: confirmed
      paper     Made up for the self-test, no paper
      claim     At a small learning rate, momentum lowers the loss after equally many steps.
      measured  loss: momentum − sgd: -0.16 [-0.30, -0.01] (p = 0.020); paired t test over seeds, one-sided, 95 % interval
      why       one-sided p = 0.020, below 0.05

    selftest/momentum-harms: not confirmed
      paper     Made up for the self-test, no paper
      claim     At a small learning rate, momentum lowers the accuracy after equally many steps.
      measured  accuracy: momentum − sgd: +0.06 [-0.04, +0.16] (p = 0.920); paired t test over seeds, one-sided, 95 % interval
      why       one-sided p = 0.920, not below 0.05; the mean difference does not point in the claimed direction

    selftest/nesterov-helps: not testable
      paper     Made up for the self-test, no paper
      claim     Nesterov's momentum lowers the loss further.
      why       no records of loss for `nesterov`
    ");
    // The report says the same, on the terminal and on its page.
    let page = lab.read("results/selftest/report/report.html");
    for text in [&run.out, &page, &lab.read("results/selftest/report/claims.md")] {
        assert!(text.contains("momentum-helps"), "{text}");
        assert!(text.contains("not confirmed") && text.contains("no records of loss for"), "{text}");
    }
}

#[test]
fn every_format_has_one_row_for_each_claim() {
    let lab = Lab::new();
    lab.run(&format!("run selftest --out r {SEEDS}")).expect(0);
    let markdown = lab.run("verify --out r --format markdown").expect(1).out;
    assert_eq!(markdown.lines().count(), 2 + 3, "{markdown}");
    let json = lab.run("verify selftest --out r --format json").expect(1).out;
    let rows: Vec<serde_json::Value> = json.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let outcomes: Vec<_> = rows.iter().map(|row| row["outcome"].as_str().unwrap()).collect();
    assert_eq!(outcomes, ["confirmed", "not-confirmed", "not-testable"]);
    let csv = lab.run("verify --out r --format csv").expect(1).out;
    let mut reader = csv::Reader::from_reader(csv.as_bytes());
    let names = reader.headers().unwrap().clone();
    let table: Vec<_> = reader.records().map(Result::unwrap).collect();
    let at = |row: usize, name: &str| table[row][names.iter().position(|n| n == name).unwrap()].to_owned();
    assert_eq!((table.len(), at(0, "seeds"), at(2, "seeds")), (3, "4".into(), String::new()));
    let number = |row: usize, name: &str| at(row, name).parse::<f64>().unwrap();
    for row in 0..2 {
        let effect = &rows[row]["effect"];
        assert_eq!(number(row, "effect"), effect["mean"].as_f64().unwrap());
        assert!(number(row, "low") < number(row, "effect") && number(row, "effect") < number(row, "high"));
    }
    // The loss falls, as claimed, and so does not the accuracy.
    assert!(number(0, "high") < 0.0 && number(0, "p") < 0.05 && number(1, "p") > 0.5, "{csv}");
}

#[test]
fn a_run_that_is_not_the_whole_study_is_told_from_one_that_is() {
    let lab = Lab::new();
    lab.run("run selftest --out r --quiet --seeds 0,1,2 --set steps=60 --only lr=0.1").expect(0);
    let whole = lab.run("verify --out r").expect(1).out;
    assert!(whole.contains("; made with --set steps=60 --only lr=0.1\n"), "{whole}");
    let done = common::files(&lab.path("r/cells"), &|name| name == "DONE");
    let trained = done.iter().find(|path| !path.with_file_name("artifacts").exists()).unwrap();
    std::fs::remove_file(trained).unwrap();
    let part = lab.run("verify --out r").expect(1).out;
    assert!(
        part.contains("the run is incomplete, 8 of 9 cells; go on by `experiments resume --out r`"),
        "{part}"
    );
    lab.run("run selftest --out one --quiet --seeds 0").expect(0);
    let one = lab.run("verify --out one").expect(1);
    assert!(one.out.contains("1 paired seeds, where at least 2 are needed"), "{}", one.out);
    assert_eq!(one.err, "3 claims: 3 not testable\n");
}

#[test]
fn bad_requests_are_refused_and_no_claims_are_no_failure() {
    let lab = Lab::new();
    assert!(lab.run("verify selftst").expect(2).err.contains("did you mean `selftest`?"));
    assert!(lab.run("verify --out nowhere").expect(2).err.contains("holds no run"));
    assert!(lab.run("verify selftest quickstart --out r").expect(2).err.contains("name one at most"));
    assert_eq!(lab.run("verify selftest --format yaml").expect(2).out, "");
    let none = lab.run("verify quickstart").expect(0);
    assert_eq!(
        (none.out.as_str(), none.err.lines().next()),
        ("", Some("note: the study `quickstart` makes no claim"))
    );
    assert!(!lab.path("results").exists(), "nothing is written");
}
