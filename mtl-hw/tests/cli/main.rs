//! The command line: exit codes, what goes to stdout, what goes to stderr.
#![allow(clippy::expect_used, clippy::unwrap_used, clippy::panic)]
mod compare;
mod estimate;
mod explore;
mod help;
mod trace;

use assert_cmd::Command;
use std::path::PathBuf;

/// A folder for one test, and the command run in it.
struct Lab(tempfile::TempDir);

/// What the command answered.
struct Answer {
    code: i32,
    out: String,
    err: String,
}

impl Lab {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn file(&self, name: &str, text: &str) -> &Self {
        std::fs::write(self.path(name), text).unwrap();
        self
    }

    /// Runs `mtl-hw` with these words.
    fn run(&self, words: &str) -> Answer {
        let mut command = Command::new(env!("CARGO_BIN_EXE_mtl-hw"));
        let output = command.args(words.split_whitespace()).current_dir(self.0.path()).output().unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        Answer {
            code: output.status.code().unwrap_or(-1),
            out: text(output.stdout),
            err: text(output.stderr),
        }
    }

    fn json(&self, words: &str) -> serde_json::Value {
        serde_json::from_str(&self.run(words).expect(0).out).unwrap()
    }
}

impl Answer {
    fn expect(self, code: i32) -> Self {
        assert_eq!(self.code, code, "stdout:\n{}\nstderr:\n{}", self.out, self.err);
        self
    }
}
