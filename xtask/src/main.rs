//! Set-up of libtorch and the developers' commands: `cargo xtask help`.
//!
//! Only the standard library is used, so that the first command after a clone starts within seconds.
#![allow(clippy::print_stdout, clippy::print_stderr)]

mod chores;
mod cli;
mod error;
mod install;
mod libtorch;
mod platform;
mod progress;
mod test_run;
mod verify;
mod workspace;

use cli::Command;
use error::{Error, Result};
use std::process::ExitCode;
use workspace::Workspace;

fn main() -> ExitCode {
    let args = std::env::args_os().skip(1).map(|arg| arg.to_string_lossy().into_owned());
    let outcome = cli::parse(&args.collect::<Vec<_>>()).and_then(run);
    match outcome {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            eprintln!("{error}");
            ExitCode::from(2)
        }
    }
}

/// Runs one command and returns the exit code.
fn run(command: Command) -> Result<u8> {
    if let Command::Help(topic) = &command {
        print!("{}", cli::help(*topic));
        return Ok(0);
    }
    let workspace = Workspace::find()?;
    match command {
        Command::Help(_) => Ok(0),
        Command::Setup => libtorch::ensure(&workspace).map(|ready| {
            println!("{ready}");
            if let Some(dir) = workspace.foreign_target_dir() {
                println!(
                    "note: programs under CARGO_TARGET_DIR={} find libtorch only through LD_LIBRARY_PATH={}",
                    dir.display(),
                    workspace.libtorch_link().join("lib").display()
                );
            }
            0
        }),
        Command::Demo(args) => chores::demo(&workspace, &args),
        Command::Test(args) => test_run::run(&workspace, &args),
        Command::Bench(args) => chores::bench(&workspace, &args),
        Command::Check => chores::check(&workspace),
    }
}
