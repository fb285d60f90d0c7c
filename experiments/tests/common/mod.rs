//! A scratch folder and the binary under test.
#![allow(clippy::expect_used, clippy::unwrap_used, clippy::panic, unreachable_pub, dead_code)]
use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
    time::{Duration, Instant},
};

pub struct Lab {
    dir: tempfile::TempDir,
}

impl Lab {
    pub fn new() -> Self {
        Self { dir: tempfile::tempdir().unwrap() }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap_or_else(|e| panic!("{name}: {e}"))
    }

    /// `experiments` with these words, in the scratch folder.
    pub fn command(&self, words: &str) -> Command {
        let mut command = Command::new(assert_cmd::cargo::cargo_bin!("experiments"));
        command.args(words.split_whitespace()).current_dir(self.dir.path());
        command.env_remove("MTL_LOG").stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    pub fn run(&self, words: &str) -> Answer {
        Answer::of(self.command(words).output().unwrap())
    }

    /// The command behind a shell line such as `ulimit -f 0`.
    pub fn run_under(&self, shell: &str, words: &str) -> Answer {
        let binary = assert_cmd::cargo::cargo_bin!("experiments");
        let line = format!("{shell}; exec '{}' {words}", binary.display());
        Answer::of(Command::new("sh").args(["-c", &line]).current_dir(self.dir.path()).output().unwrap())
    }
}

#[derive(Debug)]
pub struct Answer {
    pub code: i32,
    pub out: String,
    pub err: String,
}

impl Answer {
    pub fn of(output: Output) -> Self {
        Self {
            code: output.status.code().unwrap_or(-1),
            out: String::from_utf8(output.stdout).unwrap(),
            err: String::from_utf8(output.stderr).unwrap(),
        }
    }

    #[track_caller]
    pub fn expect(self, code: i32) -> Self {
        assert_eq!(self.code, code, "{self:#?}");
        self
    }
}

/// Sends a signal through the system's `kill`; a target that is gone is fine.
pub fn signal(name: &str, target: &str) {
    Command::new("kill").args([name, "--", target]).stderr(Stdio::null()).status().unwrap();
}

/// Waits until `ready` holds.
#[track_caller]
pub fn wait_for(what: &str, mut ready: impl FnMut() -> bool) {
    let start = Instant::now();
    while !ready() {
        assert!(start.elapsed() < Duration::from_secs(20), "{what} did not happen");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Names of all files below `dir` for which `wanted` holds.
pub fn files(dir: &Path, wanted: &dyn Fn(&str) -> bool) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        if entry.path().is_dir() {
            found.extend(files(&entry.path(), wanted));
        } else if wanted(&entry.file_name().to_string_lossy()) {
            found.push(entry.path());
        }
    }
    found
}
