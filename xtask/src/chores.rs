//! `demo`, `bench` and `check`.

use crate::workspace::{Workspace, exit_code, names_packages, status};
use crate::{Result, libtorch};

/// Runs the quickstart study, or resumes it.
pub(crate) fn demo(workspace: &Workspace, args: &[String]) -> Result<u8> {
    libtorch::ensure(workspace)?;
    let (out, given) = match out_of(args) {
        Some(out) => (out, true),
        None => ("results/quickstart".to_owned(), false),
    };
    let mut command = workspace.cargo();
    command.args(["run", "-p", "experiments", "--", "run", "quickstart"]);
    if !given {
        command.args(["--out", &out]);
    }
    if workspace.root().join(&out).exists() && !args.iter().any(|arg| arg == "--resume") {
        eprintln!("{out} exists: finished cells are kept; `rm -r {out}` starts afresh");
        command.arg("--resume");
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

/// The value of `--out`.
fn out_of(args: &[String]) -> Option<String> {
    args.iter().enumerate().find_map(|(i, arg)| match arg.strip_prefix("--out")? {
        "" => args.get(i + 1).cloned(),
        rest => rest.strip_prefix('=').map(str::to_owned),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_folder_of_a_demo_is_found_in_both_spellings() {
        let out = |line: &str| out_of(&line.split(' ').map(str::to_owned).collect::<Vec<_>>());
        assert_eq!(out("--data d --out r").as_deref(), Some("r"));
        assert_eq!(out("--out=r/x").as_deref(), Some("r/x"));
        assert_eq!(out("--data d"), None);
        assert_eq!(out("--out"), None);
    }
}
