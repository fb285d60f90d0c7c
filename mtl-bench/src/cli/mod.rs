//! The command `mtl-bench`: data goes to stdout, everything else to stderr.
mod args;
mod audit;
mod eval;
mod input;
mod plots;
mod stats;
mod table;

use anyhow::Context;
use args::{Cli, Command};
use clap::{CommandFactory, Parser};
use std::io::{self, Write};
use std::process::ExitCode;

/// Ran, but an audit found a share outside its range.
const UNMET: u8 = 1;
/// Bad usage or input.
const USAGE: u8 = 2;

/// Runs the command with the arguments of the process.
///
/// The exit code is 0 when all went well, 1 when an audit fails, 2 for bad usage and input.
#[must_use]
pub fn main() -> ExitCode {
    let result = match Cli::parse().command {
        Command::Eval(args) => eval::eval(&args),
        Command::Stats(args) => stats::stats(&args),
        Command::Table(args) => table::table(&args),
        Command::Plot(args) => plots::plot(&args),
        Command::Audit(args) => audit::audit(&args),
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
    clap_complete::generate(shell, &mut Cli::command(), "mtl-bench", &mut text);
    print(&String::from_utf8_lossy(&text))?;
    Ok(0)
}
