//! Cells that fail become rows while the study goes on; disks that are full or closed lose nothing.
#![allow(clippy::expect_used, clippy::unwrap_used, clippy::panic)]
mod common;

use common::Lab;
use std::fs;

const FAULTS: &str = "seeds = [0]
[kinds.data]
points = 40
dims = 3
[kinds.train]
method = 'sgd'
lr = 0.1
steps = 40
checkpoint_every = 10
sleep_ms = 0
[prerequisites.data]
kind = 'data'
[[grid]]
kind = 'train'
fault = ['nan', 'panic', 'memory', 'kill', 'abort', 'fail', 'none']
needs = ['data']
";

/// `failed.csv` as lines of `fault: error`.
fn failures(lab: &Lab, dir: &str) -> String {
    let text = lab.read(&format!("{dir}/failed.csv"));
    let mut reader = csv::Reader::from_reader(text.as_bytes());
    let rows = reader.records().map(|row| {
        let row = row.unwrap();
        let config: serde_json::Value = serde_json::from_str(&row[3]).unwrap();
        // Without the place in the source, which moves.
        let error =
            row[4].rsplit_once("selftest.rs:").map_or(&row[4], |(_, rest)| rest.split_once(": ").unwrap().1);
        format!("{}: {error}", config["fault"].as_str().unwrap())
    });
    rows.collect::<Vec<_>>().join("\n")
}

#[test]
fn every_way_to_fail_is_a_row_with_its_reason_and_the_study_goes_on() {
    let lab = Lab::new();
    fs::write(lab.path("faults.toml"), FAULTS).unwrap();
    let answer = lab.run("run selftest --config faults.toml --out r --workers 1 --quiet").expect(1);
    insta::assert_snapshot!(failures(&lab, "r"), @r"
    nan: loss of task `sgd` is not finite at step 20
    panic: panicked on request at step 20
    memory: a tensor of shape [1048576, 1048576] needs 4194304 MiB, but only 1024 MiB are available
    kill: worker was killed by signal 9, perhaps out of memory; see `logs/worker-0.log`
    abort: worker was killed by signal 6, an abort inside a native library; see `logs/worker-0.log`
    fail: `fault` must be `none` for success, but is fail
    ");
    assert!(answer.err.contains("6 cells failed; see r/failed.csv"), "{answer:?}");
    let records = lab.read("r/records.csv");
    assert_eq!(records.lines().count(), 1 + 1 + 8, "the good cell and its data: {records}");
    assert!(answer.out.contains("| sgd | lr 0.1 |"), "{answer:?}");

    let log = || lab.read("r/run.log").matches(": started on worker").count();
    let before = log();
    lab.run("resume --out r --keep-failed --quiet").expect(1);
    assert_eq!(log(), before, "failed cells are left alone");
    lab.run("resume --out r --quiet").expect(1);
    assert_eq!(log(), before + 6, "failed cells are tried again");
    assert_eq!(lab.read("r/records.csv"), records);
    let report = lab.run("report --out r").expect(0);
    assert_eq!(report.out, answer.out);
}

#[cfg(unix)]
#[test]
fn a_full_disk_fails_cells_with_the_file_named_and_resume_completes_them() {
    let lab = Lab::new();
    lab.run("run selftest --out calm --seeds 0 --quiet").expect(0);
    // The data file alone is larger than this limit; the manifest is smaller.
    let answer = lab.run_under("ulimit -f 32", "run selftest --out r --seeds 0 --workers 2").expect(1);
    assert!(answer.err.contains("points.json`: File too large"), "{answer:?}");
    assert!(answer.err.contains("0 of 5 cells done, 5 failed"), "{answer:?}");
    assert!(lab.read("r/failed.csv").contains("its prerequisite data"), "{answer:?}");
    lab.run("resume --out r --quiet").expect(0);
    assert_eq!(lab.read("r/records.csv"), lab.read("calm/records.csv"));

    let answer = lab.run_under("ulimit -f 0", "run selftest --out none --seeds 0").expect(2);
    assert!(answer.err.starts_with("error: cannot write `none/manifest.json`: File too large"), "{answer:?}");
    lab.run("run selftest --out none --seeds 0 --quiet").expect(0);
}

#[cfg(target_os = "linux")]
#[test]
fn places_that_cannot_hold_a_run_are_refused() {
    // Root may write to read-only folders; /proc takes new folders from nobody.
    let lab = Lab::new();
    fs::write(lab.path("file"), "").unwrap();
    fs::create_dir(lab.path("mine")).unwrap();
    fs::write(lab.path("mine/thesis.tex"), "").unwrap();
    let long = "x".repeat(300);
    let refuse = |out: &str| lab.run(&format!("run selftest --out {out}")).expect(2).err.replace(&long, "x…");
    let shown =
        [refuse("/proc/results"), refuse("file"), refuse("file/below"), refuse("mine"), refuse(&long)];
    insta::assert_snapshot!(shown.concat(), @r"
    error: cannot create `/proc/results/cells`: No such file or directory (os error 2)
    error: cannot create `file/cells`: Not a directory (os error 20)
    error: cannot create `file/below/cells`: Not a directory (os error 20)
    error: `mine`: is not empty and holds no run; choose another directory with `--out`
    error: cannot create `x…/cells`: File name too long (os error 36)
    ");
    assert_eq!(fs::read_dir(lab.path("mine")).unwrap().count(), 1);
}

#[cfg(target_os = "linux")]
#[test]
fn names_that_are_not_unicode_are_refused_or_work_but_never_break() {
    use std::os::unix::ffi::OsStrExt;
    let lab = Lab::new();
    let name = std::ffi::OsStr::from_bytes(b"r\xff");
    let output = lab.command("run selftest --seeds 0 --quiet --out").arg(name).output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert!(lab.path("").join(name).join("records.csv").exists());
}
