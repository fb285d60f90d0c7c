//! `test`: runs all tests and counts them.

use crate::workspace::{Workspace, cannot_start, names_packages};
use crate::{Error, Result, libtorch};
use std::fmt;
use std::io::{BufRead, BufReader, Write};
use std::process::Stdio;

/// How many tests ended how.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Counts {
    passed: u64,
    failed: u64,
    skipped: u64,
}

impl Counts {
    /// Adds the numbers of a `test result:` line; any other line adds nothing.
    fn add_line(&mut self, line: &str) {
        let plain = without_colours(line);
        let Some(result) = plain.trim_start().strip_prefix("test result: ") else { return };
        let Some((_, numbers)) = result.split_once(". ") else { return };
        for part in numbers.split(';') {
            let Some((count, what)) = part.trim().split_once(' ') else { continue };
            let Ok(count) = count.parse::<u64>() else { continue };
            match what {
                "passed" => self.passed += count,
                "failed" => self.failed += count,
                "ignored" => self.skipped += count,
                _ => {}
            }
        }
    }
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} passed, {} failed, {} skipped", self.passed, self.failed, self.skipped)
    }
}

/// Runs the tests, passing their output on, and prints the counts in the last line.
pub(crate) fn run(workspace: &Workspace, args: &[String]) -> Result<u8> {
    libtorch::ensure(workspace)?;
    let mut command = workspace.cargo();
    command.args(["test", "--no-fail-fast"]);
    if !names_packages(args) {
        command.arg("--workspace");
    }
    command.args(args).stdout(Stdio::piped());
    if std::env::var_os("OMP_NUM_THREADS").is_none() {
        // Tests run side by side already; threads of libtorch on top of that make small steps many times slower.
        command.env("OMP_NUM_THREADS", "1");
    }
    let data = workspace.root().join("../shared/data").canonicalize();
    if let (None, Ok(data)) = (std::env::var_os("MTL_DATA"), data) {
        eprintln!("MTL_DATA={}", data.display());
        command.env("MTL_DATA", data);
    }
    let mut child = command.spawn().map_err(|error| cannot_start(&command, &error))?;
    let mut counts = Counts::default();
    if let Some(output) = child.stdout.take() {
        pass_on(BufReader::new(output), &mut std::io::stdout().lock(), &mut counts)
            .map_err(|error| Error::new(format!("cannot pass on the output: {error}"), "run it again"))?;
    }
    let status = child.wait().map_err(|error| cannot_start(&command, &error))?;
    if !status.success() && counts.failed == 0 {
        counts.failed = 1;
        eprintln!(
            "cargo ended with {status}: a build failed or a test program crashed, which counts as 1 failed"
        );
    }
    println!("{counts}");
    Ok(u8::from(counts.failed > 0))
}

fn pass_on(mut input: impl BufRead, output: &mut impl Write, counts: &mut Counts) -> std::io::Result<()> {
    let mut line = Vec::new();
    while input.read_until(b'\n', &mut line)? > 0 {
        output.write_all(&line)?;
        output.flush()?;
        counts.add_line(&String::from_utf8_lossy(&line));
        line.clear();
    }
    Ok(())
}

/// The text without the escape sequences of a terminal.
fn without_colours(line: &str) -> String {
    let mut plain = String::with_capacity(line.len());
    let mut rest = line;
    while let Some((before, after)) = rest.split_once('\x1b') {
        plain.push_str(before);
        rest = after.find(|c: char| c.is_ascii_alphabetic()).map_or("", |end| &after[end + 1..]);
    }
    plain + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counted(text: &str) -> Counts {
        let mut counts = Counts::default();
        let mut copy = Vec::new();
        pass_on(text.as_bytes(), &mut copy, &mut counts).unwrap();
        assert_eq!(copy, text.as_bytes());
        counts
    }

    #[test]
    fn results_of_all_programs_are_summed() {
        let text = "running 3 tests\ntest a ... ok\n\n\
            test result: ok. 3 passed; 0 failed; 1 ignored; 0 measured; 2 filtered out; finished in 0.00s\n\
            test result: FAILED. 4 passed; 2 failed; 0 ignored; 5 measured; 0 filtered out; finished in 1.10s\n";
        assert_eq!(counted(text), Counts { passed: 7, failed: 2, skipped: 1 });
        assert_eq!(counted(text).to_string(), "7 passed, 2 failed, 1 skipped");
    }

    #[test]
    fn colours_do_not_hide_a_result() {
        let text =
            "test result: \x1b[32mok\x1b[0m. 5 passed; 0 failed; 0 ignored; 0 measured; finished in 0.1s\n";
        assert_eq!(counted(text), Counts { passed: 5, failed: 0, skipped: 0 });
    }

    #[test]
    fn other_lines_count_nothing() {
        let text = "9 passed; 9 failed\nprinted: test result: ok. 9 passed; 0 failed\ntest result: \n";
        assert_eq!(counted(text), Counts::default());
    }

    #[test]
    fn a_last_line_without_an_end_is_passed_on() {
        assert_eq!(counted("no newline"), Counts::default());
    }
}
