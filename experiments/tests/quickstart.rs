//! The quickstart at small size: every family runs, and a run that is killed again and again ends with the same records.
#![allow(clippy::expect_used, clippy::unwrap_used, clippy::panic)]
#![cfg(unix)]
mod common;

use common::{Lab, files, signal, wait_for};
use mtl_core::Seed;
use rand::RngExt;
use std::{fs, os::unix::process::CommandExt, path::PathBuf, thread, time::Duration};

/// Few images, few steps, a checkpoint every other step.
const SMALL: &str = "--seeds 0 --set train_examples=120 --set test_examples=40 --set batch=8 \
    --set checkpoint_every=2 --set joint.steps=40 --set joint.eval_every=20 --set pretrain.steps=30 \
    --set prompt.steps=20 --set prompt.shots=2 --set finetune.steps=20 --set continual.epochs=1 \
    --set continual.checkpoint_every=4 --set hardware.images=4 --workers 2";

#[test]
fn killed_ten_times_it_ends_with_the_same_records_tables_and_plots() {
    let lab = Lab::new();
    lab.run(&format!("run quickstart --out calm {SMALL}")).expect(0);
    let mut rng = Seed(5).stream("kills", 0);
    for kill in 0..10 {
        let mut child = lab
            .command(&format!("run quickstart --resume --out killed {SMALL}"))
            .process_group(0)
            .spawn()
            .unwrap();
        let side_files = |dir: &_| files(dir, &|name| name.starts_with("records-"));
        let before = side_files(&lab.path("killed"));
        wait_for("a checkpoint", || side_files(&lab.path("killed")) != before);
        thread::sleep(Duration::from_millis(rng.random_range(0..80)));
        let target = if kill % 2 == 0 { format!("-{}", child.id()) } else { child.id().to_string() };
        assert!(child.try_wait().unwrap().is_none(), "the run was over before kill {kill}");
        signal("-9", &target);
        child.wait().unwrap();
    }
    lab.run("resume --out killed --workers 2").expect(0);
    assert_eq!(lab.read("killed/failed.csv"), "cell,kind,seed,config,error\n");
    assert_eq!(lab.read("killed/records.csv"), lab.read("calm/records.csv"));
    let name = |path: &PathBuf| path.file_name().unwrap().to_owned();
    let mut compared = 0;
    for calm in files(&lab.path("calm/report"), &|name| !name.ends_with(".html")) {
        let killed = lab.path("killed/report").join(name(&calm));
        assert_eq!(fs::read(&calm).unwrap(), fs::read(&killed).unwrap(), "{}", killed.display());
        compared += 1;
    }
    assert!(compared > 20, "only {compared} files in the report");
}

#[test]
fn a_wrong_key_or_data_folder_is_named_before_any_work() {
    let lab = Lab::new();
    let answer = lab.run("run quickstart --out r --set joint.stps=3").expect(2);
    assert!(answer.err.contains("stps") && answer.err.contains("steps"), "{}", answer.err);
    fs::create_dir(lab.path("empty")).unwrap();
    let answer = lab.run("run quickstart --out r --data empty").expect(2);
    assert!(answer.err.contains("train-images-idx3-ubyte"), "{}", answer.err);
    for name in [
        "train-images-idx3-ubyte",
        "train-labels-idx1-ubyte",
        "t10k-images-idx3-ubyte",
        "t10k-labels-idx1-ubyte",
    ] {
        fs::write(lab.path("empty").join(name), [0, 0, 8, 3, 0, 0, 0, 9]).unwrap();
    }
    let answer = lab.run("run quickstart --out r --data empty").expect(2);
    assert!(answer.err.contains("train-labels-idx1-ubyte"), "{}", answer.err);
    assert!(!lab.path("r/cells").exists());
}

#[test]
#[cfg(target_os = "linux")]
fn a_cell_that_wants_more_memory_than_there_is_fails_alone() {
    let lab = Lab::new();
    let words =
        "--only kind=continual --only scenario=class-incremental --set continual.capacity=40000000000";
    lab.run(&format!("run quickstart --out r {words} {SMALL}")).expect(1);
    let failed = lab.read("r/failed.csv");
    assert!(failed.contains("replay memory needs") && failed.lines().count() == 2, "{failed}");
    assert!(lab.read("r/records.csv").contains("fine-tuning"), "the other cell goes on");
}
