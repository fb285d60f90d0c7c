//! The command `mtl-merge`, for programs that bring merge methods of their own: data goes to stdout, everything else to
//! stderr.
//!
//! A program whose `main` is `mtl_merge::cli::main(Methods::default().with(&Mine))` is `mtl-merge` with one method more:
//! `run`, `check`, `sweep`, `methods` and the rest know it by name. `examples/own_method.rs` is one.
use crate::Methods;

mod args;
mod check;
mod compat;
mod diff;
mod extract_lora;
mod inspect;
mod methods;
mod moe;
mod plots;
mod progress;
mod run;
mod size;
mod sweep;
mod table;

use anyhow::Context;
use args::{Cli, Command};
use clap::{CommandFactory, Parser};
use std::{
    io::{self, Write},
    process::ExitCode,
};
use tracing_subscriber::{EnvFilter, filter::LevelFilter};

/// Ran, but the checkpoints differ or a point of a sweep failed.
const DIFFERS: u8 = 1;
/// Bad usage, recipe or checkpoint.
const USAGE: u8 = 2;
/// Stopped by a signal.
const INTERRUPTED: u8 = 130;

/// Runs the command with the arguments of the process, and these methods.
///
/// The exit code is 0 when all went well, 1 if checkpoints differ or a point of a sweep failed, 2 for bad usage, recipes and
/// checkpoints, 130 after a signal.
#[must_use]
pub fn main(methods: Methods) -> ExitCode {
    let cli = Cli::parse_from(compat::with_subcommand(std::env::args_os().collect()));
    log(cli.command.verbosity());
    if let Err(error) = mtl_core::params::guard_mapped_files() {
        tracing::warn!("{error}");
    }
    let result = match cli.command {
        Command::Run(args) => run::run(&args, &methods),
        Command::Check(args) => check::check(&args, &methods),
        Command::Inspect(args) => inspect::inspect(&args),
        Command::Diff(args) => diff::diff(&args),
        Command::ExtractLora(args) => extract_lora::extract_lora(&args),
        Command::Moe(args) => moe::moe(&args),
        Command::Sweep(args) => sweep::sweep(&args, &methods),
        Command::Methods(args) => methods::methods(&args, &methods),
        Command::Completions { shell } => completions(shell),
    };
    ExitCode::from(result.unwrap_or_else(|e| {
        if matches!(e.downcast_ref(), Some(crate::Error::Interrupted)) {
            say("interrupted; run the same command again to go on");
            return INTERRUPTED;
        }
        say(&format!("error: {}", tell(&e)));
        USAGE
    }))
}

/// Sends the library's log to stderr; `MTL_LOG` wins over `-v`.
fn log(verbosity: u8) {
    let level = [LevelFilter::WARN, LevelFilter::INFO, LevelFilter::DEBUG][usize::from(verbosity.min(2))];
    let filter = EnvFilter::builder().with_env_var("MTL_LOG").with_default_directive(level.into());
    tracing_subscriber::fmt().with_env_filter(filter.from_env_lossy()).with_writer(io::stderr).init();
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
    clap_complete::generate(shell, &mut Cli::command(), "mtl-merge", &mut text);
    print(&String::from_utf8_lossy(&text))?;
    Ok(0)
}
