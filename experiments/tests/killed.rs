//! Whatever instant a run is killed at, the records come out bit for bit as if it had not been.
#![allow(clippy::expect_used, clippy::unwrap_used, clippy::panic)]
#![cfg(unix)]
mod common;

use common::{Lab, files, signal, wait_for};
use mtl_core::Seed;
use rand::RngExt;
use std::{
    fs,
    os::unix::process::CommandExt,
    thread,
    time::{Duration, Instant},
};

const SLOW: &str = "--set steps=700 --set sleep_ms=1 --set checkpoint_every=4 --workers 2";

#[test]
fn ten_kills_at_random_moments_leave_identical_records() {
    let lab = Lab::new();
    let undisturbed = thread::spawn(|| {
        let lab = Lab::new();
        lab.run(&format!("run selftest --out calm {SLOW}")).expect(0);
        (lab.read("calm/records.csv"), lab.read("calm/report/table.md"))
    });
    let mut rng = Seed(3).stream("kills", 0);
    let saved = |lab: &Lab| files(&lab.path("killed/cells"), &|name| name == "last.safetensors").len();
    let (mut kills, mut checkpoints) = (0, 0);
    while kills < 10 {
        let mut child = lab
            .command(&format!("run selftest --resume --out killed {SLOW}"))
            .process_group(0)
            .spawn()
            .unwrap();
        // Some while the processes start, most in the middle of the work: starting takes most of a short life.
        if kills % 4 != 3 {
            let side_files = |dir: &_| files(dir, &|name| name.starts_with("records"));
            let before = side_files(&lab.path("killed"));
            wait_for("progress", || side_files(&lab.path("killed")) != before);
        }
        // However slow the machine is, one kill at least leaves a checkpoint behind.
        if kills == 8 {
            wait_for("a checkpoint", || saved(&lab) > 0);
        }
        thread::sleep(Duration::from_millis(rng.random_range(0..250)));
        let running = child.try_wait().unwrap().is_none();
        // By turns everything at once, and the runner alone so that its workers have to notice.
        let target = if kills % 2 == 0 { format!("-{}", child.id()) } else { child.id().to_string() };
        signal("-9", &target);
        child.wait().unwrap();
        assert!(running, "the run was over before kill {kills}; make it longer");
        kills += 1;
        checkpoints += saved(&lab);
    }
    assert!(checkpoints > 0, "the kills struck before any checkpoint");
    lab.run("resume --out killed --workers 2").expect(0);
    let (records, table) = undisturbed.join().unwrap();
    assert_eq!(lab.read("killed/records.csv"), records);
    assert_eq!(lab.read("killed/report/table.md"), table);
    assert_eq!(lab.read("killed/failed.csv"), "cell,kind,seed,config,error\n");
    assert_eq!(
        files(&lab.path("killed"), &|name| name.starts_with(".tmp-")),
        Vec::<std::path::PathBuf>::new()
    );
    assert_eq!(files(&lab.path("killed"), &|name| name.ends_with(".safetensors")).len(), 0);
}

#[test]
fn an_interrupt_saves_and_resume_goes_on() {
    let lab = Lab::new();
    let options = "--seeds 4 --set steps=300 --set sleep_ms=1 --workers 4";
    lab.run(&format!("run selftest --out calm {options}")).expect(0);
    for (name, to_group) in [("-INT", true), ("-TERM", false)] {
        let out = format!("stopped{name}");
        let mut child =
            lab.command(&format!("run selftest --out {out} {options}")).process_group(0).spawn().unwrap();
        let cells = lab.path(&format!("{out}/cells"));
        wait_for("a checkpoint", || !files(&cells, &|name| name == "last.safetensors").is_empty());
        let asked = Instant::now();
        signal(name, &if to_group { format!("-{}", child.id()) } else { child.id().to_string() });
        let code = child.wait().unwrap().code();
        assert_eq!(code, Some(130), "{}", lab.read(&format!("{out}/run.log")));
        assert!(asked.elapsed() < Duration::from_secs(5));
        let saved = files(&cells, &|name| name == "last.safetensors").len();
        assert!(saved > 0);
        lab.run(&format!("resume --out {out} --workers 4")).expect(0);
        assert_eq!(lab.read(&format!("{out}/records.csv")), lab.read("calm/records.csv"));
    }
}

#[test]
fn of_two_runners_on_one_directory_one_works_and_the_other_is_refused() {
    let lab = Lab::new();
    let words = "run selftest --resume --out shared --set steps=200 --set sleep_ms=1 --workers 2 --quiet";
    let children: Vec<_> = (0..2).map(|_| lab.command(words).spawn().unwrap()).collect();
    let outputs: Vec<_> = children.into_iter().map(|child| child.wait_with_output().unwrap()).collect();
    let mut codes: Vec<_> = outputs.iter().map(|output| output.status.code()).collect();
    codes.sort();
    assert_eq!(codes, [Some(0), Some(2)], "{outputs:?}");
    let refused = outputs.iter().find(|output| output.status.code() == Some(2)).unwrap();
    let text = String::from_utf8_lossy(&refused.stderr);
    assert!(text.contains("another runner is at work on this directory"), "{text}");
    let log = lab.read("shared/run.log");
    assert_eq!(log.matches(": started on worker").count(), 10, "{log}");
    assert_eq!(log.matches(": finished after").count(), 10, "{log}");
}

#[test]
fn two_workers_given_the_same_cell_compute_it_once() {
    let lab = Lab::new();
    lab.run(
        "run selftest --out r --seeds 0 --only method=sgd --only lr=0.1 --set steps=300 --set sleep_ms=1",
    )
    .expect(0);
    let done = files(&lab.path("r/cells"), &|name| name == "DONE");
    let cell =
        done.iter().map(|path| path.parent().unwrap()).find(|dir| !dir.join("artifacts").exists()).unwrap();
    let expected = fs::read(cell.join("records.jsonl")).unwrap();
    fs::remove_file(cell.join("DONE")).unwrap();
    let spec: serde_json::Value = serde_json::from_slice(&fs::read(cell.join("cell.json")).unwrap()).unwrap();
    let start = || {
        let mut worker = lab.command("worker selftest --out r --threads 1");
        let mut child = worker.stdin(std::process::Stdio::piped()).spawn().unwrap();
        let mut stdin = child.stdin.take().unwrap();
        std::io::Write::write_all(&mut stdin, format!("{}\n", serde_json::json!({ "run": spec })).as_bytes())
            .unwrap();
        (child, stdin)
    };
    let workers = [start(), start()];
    wait_for("the cell", || cell.join("DONE").exists());
    let finished = fs::metadata(cell.join("DONE")).unwrap().modified().unwrap();
    thread::sleep(Duration::from_millis(400)); // The other has had its turn by now.
    for (child, stdin) in workers {
        drop(stdin);
        let out = String::from_utf8(child.wait_with_output().unwrap().stdout).unwrap();
        assert!(out.contains("\"done\""), "{out}");
    }
    assert_eq!(fs::metadata(cell.join("DONE")).unwrap().modified().unwrap(), finished);
    assert_eq!(fs::read(cell.join("records.jsonl")).unwrap(), expected);
}

#[test]
fn a_damaged_result_is_computed_again_with_a_warning() {
    let lab = Lab::new();
    lab.run("run selftest --out r --seeds 0 --quiet").expect(0);
    let before = lab.read("r/records.csv");
    for victim in ["points.json", "records.jsonl", "DONE"] {
        let path = files(&lab.path("r/cells"), &|name| name == victim).remove(0);
        let mut bytes = fs::read(&path).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        fs::write(&path, bytes).unwrap();
        let report = lab.run("report --out r").expect(0);
        assert!(report.err.contains("are damaged and left out"), "{report:?}");
        let resumed = lab.run("resume --out r").expect(0);
        assert!(resumed.err.contains("are damaged; it is computed again"), "{resumed:?}");
        assert_eq!(lab.read("r/records.csv"), before, "after damage to {victim}");
    }
}
