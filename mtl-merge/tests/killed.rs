//! A merge that is killed at any moment leaves no half output, and the next run completes it to the same bytes.
#![allow(clippy::expect_used, clippy::unwrap_used)]
mod common;
use common::{Folder, SLOW_MS, engine};
use mtl_core::Seed;
use mtl_merge::{Engine, MergeReport, Recipe};
use rand::RngExt;
use std::{
    env, fs,
    path::Path,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

const CHILD: &str = "MTL_MERGE_TEST_KILLED";
/// Number of kills; 5 unless this variable says otherwise.
const KILLS: &str = "MTL_MERGE_KILLS";

/// Shards and elements of each: 16 of 0.5 MiB in float32, or 32 of 2 MiB for more kills than usual.
fn size() -> (usize, usize) {
    if env::var_os(KILLS).is_some() { (32, 1 << 19) } else { (16, 1 << 17) }
}

fn merge(dir: &Path, out: &str) -> mtl_merge::Result<MergeReport> {
    let path = |name: &str| dir.join(name).to_string_lossy().into_owned();
    let recipe = Recipe::new("dropout").input(path("a")).input(path("b")).seed(Seed(3));
    let engine: Engine = engine().threads(1).shard_bytes(4 * size().1 as u64).overwrite(true);
    engine.run(&recipe, &dir.join(out))
}

/// The process that is killed.
#[test]
fn the_child() {
    let Some(dir) = env::var_os(CHILD) else { return };
    merge(dir.as_ref(), "out").unwrap();
}

fn start(dir: &Folder) -> Child {
    Command::new(env::current_exe().unwrap())
        .args(["the_child", "--exact"])
        .env(CHILD, dir.0.path())
        .env(SLOW_MS, "10")
        .stdout(Stdio::null())
        .spawn()
        .unwrap()
}

/// Shards that are finished and have their names.
fn finished(dir: &Folder) -> usize {
    let Ok(entries) = fs::read_dir(dir.path(".out.partial/new")) else { return 0 };
    entries.flatten().filter(|e| e.file_name().to_string_lossy().starts_with("model-")).count()
}

#[test]
fn a_killed_merge_leaves_all_or_nothing_and_is_completed_to_the_same_bytes() {
    let kills: u32 = env::var(KILLS).ok().and_then(|n| n.parse().ok()).unwrap_or(5);
    let dir = Folder::new();
    let (shards, elements) = size();
    dir.model("a", shards, elements, "{}").model("b", shards, elements, "{}");
    merge(dir.0.path(), "undisturbed/out").unwrap();
    let expected = dir.content("undisturbed/out");
    assert_eq!(expected.len(), shards + 4);
    let began = Instant::now();
    assert!(start(&dir).wait().unwrap().success());
    let whole = began.elapsed();
    assert!(dir.content("out") == expected);

    let mut rng = Seed(u64::from(std::process::id())).stream("kill", 0);
    let (mut resumed, mut hit) = (0, 0);
    for kill in 0..kills {
        // Every other time an older folder is to be replaced.
        fs::remove_dir_all(dir.path("out")).unwrap();
        let older = kill % 2 == 1;
        if older {
            fs::create_dir(dir.path("out")).unwrap();
            dir.text("out/older", "");
        }
        let mut child = start(&dir);
        // At a random moment of the whole run, or when a random number of shards is finished.
        if kill % 3 == 0 {
            std::thread::sleep(whole.mul_f64(rng.random::<f64>()).max(Duration::from_millis(5)));
        } else {
            let wanted = rng.random_range(1..shards - 2);
            while finished(&dir) < wanted && child.try_wait().unwrap().is_none() {
                std::thread::sleep(Duration::from_millis(1));
            }
        }
        child.kill().unwrap();
        child.wait().unwrap();
        // What a kill between the two renames leaves is put back by the next run.
        let aside = fs::exists(dir.path(".out.partial/old")).unwrap();
        match fs::read_dir(dir.path("out")) {
            Err(_) => assert!(!older || aside, "the older folder is gone"),
            Ok(_) if older && dir.names("out") == ["older"] => {}
            Ok(_) => assert!(dir.content("out") == expected, "a folder that is not complete"),
        }
        hit += u32::from(fs::exists(dir.path(".out.partial")).unwrap());
        let report = merge(dir.0.path(), "out").unwrap();
        assert!(dir.content("out") == expected, "after kill {kill} with {} shards kept", report.resumed);
        assert_eq!(dir.names(""), ["a", "b", "out", "undisturbed"]);
        resumed += report.resumed;
    }
    assert!(kills < 3 || (hit > 0 && resumed > 0), "{hit} kills hit a run, {resumed} shards were kept");
}
