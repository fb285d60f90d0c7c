//! The command `mtl-hw`: data goes to stdout, everything else to stderr.
mod args;
mod compare;
mod estimate;
mod explore;
mod files;
mod input;
mod models;
mod platforms;
mod plots;
mod progress;
mod simulate;
mod table;
mod trace;
mod trace_args;
mod validate;

use anyhow::Context;
use args::{Cli, Command};
use clap::{CommandFactory, Parser};
use std::io::{self, Write};
use std::process::ExitCode;

/// Ran, but the design does not fit, or no design meets the constraints.
const UNMET: u8 = 1;
/// Bad usage or input.
const USAGE: u8 = 2;
/// Stopped by a signal.
const INTERRUPTED: u8 = 130;

/// Runs the command with the arguments of the process.
///
/// The exit code is 0 when all went well, 1 if a design does not fit its board or no design meets the constraints, 2 for
/// bad usage and input, 130 after a signal.
#[must_use]
pub fn main() -> ExitCode {
    let result = match Cli::parse().command {
        Command::Estimate(args) => estimate::estimate(&args),
        Command::Simulate(args) => simulate::simulate(&args),
        Command::Explore(args) => explore::explore(&args),
        Command::Compare(args) => compare::compare(&args),
        Command::Trace { command } => trace::trace(&command),
        Command::Platforms(args) => platforms::platforms(&args),
        Command::Validate(args) => validate::validate(&args),
        Command::Completions { shell } => completions(shell),
    };
    ExitCode::from(result.unwrap_or_else(|e| {
        say(&format!("error: {}", tell(&e)));
        USAGE
    }))
}

/// The error and its causes, each once: many messages contain that of their cause already.
fn tell(error: &anyhow::Error) -> String {
    error.chain().map(ToString::to_string).fold(String::new(), |told, cause| match told.is_empty() {
        true => cause,
        false if told.contains(&cause) => told,
        false => format!("{told}: {cause}"),
    })
}

/// A line to stderr; a closed stderr is nobody's fault.
fn say(line: &str) {
    drop(writeln!(io::stderr(), "{line}"));
}

/// Text to stdout; a reader that has seen enough, as in `| head`, is no error.
fn print(text: &str) -> anyhow::Result<()> {
    let mut stdout = io::stdout().lock();
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        Err(e) if e.kind() != io::ErrorKind::BrokenPipe => Err(e).context("cannot write to stdout"),
        _ => Ok(()),
    }
}

fn print_json(value: &impl serde::Serialize) -> anyhow::Result<()> {
    print(&(serde_json::to_string_pretty(value)? + "\n"))
}

fn completions(shell: clap_complete::Shell) -> anyhow::Result<u8> {
    let mut text = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "mtl-hw", &mut text);
    print(&String::from_utf8_lossy(&text))?;
    Ok(0)
}
