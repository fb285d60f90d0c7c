//! `demo`, `bench` and `check`.

use crate::workspace::{Workspace, exit_code, names_packages, status};
use crate::{Result, libtorch};

/// Runs the quickstart study, or goes on with it.
pub(crate) fn demo(workspace: &Workspace, args: &[String]) -> Result<u8> {
    libtorch::ensure(workspace)?;
    let mut command = workspace.cargo();
    command.args(["run", "-p", "experiments", "--", "run", "quickstart"]);
    let given = |name: &str| args.iter().any(|arg| arg == name || arg.starts_with(&format!("{name}=")));
    if !given("--resume") {
        // A second demo shows what the first one found instead of refusing its directory.
        command.arg("--resume");
    }
    if !given("--out") {
        command.arg("--out").arg(workspace.located("results/quickstart"));
    }
    status(command.args(args)).map(exit_code)
}

/// Runs the benches.
pub(crate) fn bench(workspace: &Workspace, args: &[String]) -> Result<u8> {
    libtorch::ensure(workspace)?;
    let mut command = workspace.cargo();
    command.arg("bench");
    if !names_packages(args) {
        command.arg("--workspace");
    }
    // Only bench targets: the test programs of the libraries would stumble over the arguments of a bench.
    if !args.iter().take_while(|arg| *arg != "--").any(|arg| arg.starts_with("--bench")) {
        command.args(["--bench", "*"]);
    }
    status(command.args(args)).map(exit_code)
}

/// Checks formatting, lints and documentation, all of them even if one fails.
pub(crate) fn check(workspace: &Workspace) -> Result<u8> {
    libtorch::ensure(workspace)?;
    let steps: [&[&str]; 3] = [
        &["fmt", "--all", "--check"],
        &["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"],
        &["doc", "--workspace", "--no-deps"],
    ];
    let mut failed = Vec::new();
    for step in steps {
        eprintln!("==> cargo {}", step.join(" "));
        let mut command = workspace.cargo();
        if !status(command.args(step).env("RUSTDOCFLAGS", "-D warnings"))?.success() {
            failed.push(step[0]);
        }
    }
    if failed.is_empty() {
        println!("formatting, lints and documentation are clean");
        return Ok(0);
    }
    eprintln!("failed: {}", failed.join(", "));
    Ok(1)
}
