//! The command line: exit codes, what goes to stdout, what goes to stderr.
#![allow(clippy::expect_used, clippy::unwrap_used, clippy::panic, clippy::print_stderr)]
mod help;
mod run;
mod sweep;
mod tools;

use assert_cmd::Command;
use mtl_core::params::{ParamView, write_params};
use std::path::{Path, PathBuf};

/// Checkpoints of the golden merges.
const INPUTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/inputs");

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

    /// Runs `mtl-merge` with these arguments; a word with spaces stands between single quotes.
    fn run(&self, words: &str) -> Answer {
        self.run_program(env!("CARGO_BIN_EXE_mtl-merge").as_ref(), words)
    }

    fn run_program(&self, program: &Path, words: &str) -> Answer {
        let words = shlex::split(words).unwrap();
        let mut command = Command::new(program);
        command.args(words).current_dir(self.0.path()).env_remove("MTL_LOG");
        let output = command.output().unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        let hide =
            |text: String| text.replace(INPUTS, "INPUTS").replace(self.0.path().to_str().unwrap(), "DIR");
        Answer {
            code: output.status.code().unwrap_or(-1),
            out: hide(text(output.stdout)),
            err: hide(text(output.stderr)),
        }
    }

    /// A recipe that adds three task vectors of the golden inputs.
    fn recipe(&self, name: &str) -> &Self {
        let model = |i: usize, weight: f64| serde_json::json!({ "model": format!("{INPUTS}/f32/ft{i}"), "parameters": { "weight": weight } });
        let recipe = serde_json::json!({
            "merge_method": "task_arithmetic",
            "base_model": format!("{INPUTS}/f32/base"),
            "models": [model(1, 0.4), model(2, 0.3), model(3, -0.2)],
            "parameters": { "lambda": 0.7 },
        });
        std::fs::write(self.path(name), recipe.to_string()).unwrap();
        self
    }

    /// A model with one tensor.
    fn model(&self, name: &str, values: &[f32]) -> &Self {
        write(&self.path(name), values);
        self
    }
}

impl Answer {
    fn expect(self, code: i32) -> Self {
        assert_eq!(self.code, code, "stdout:\n{}\nstderr:\n{}", self.out, self.err);
        self
    }
}

fn write(path: &Path, values: &[f32]) {
    let shape = [values.len()];
    let view = ParamView::f32("layers.0.w", &shape, values);
    write_params(path, &Default::default(), &[view]).unwrap();
}
