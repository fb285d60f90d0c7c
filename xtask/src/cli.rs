//! The command line.

use crate::{Error, Result};

/// One command with the arguments that it passes on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Command {
    Help(Option<&'static str>),
    Setup,
    Demo(Vec<String>),
    Test(Vec<String>),
    Bench(Vec<String>),
    Check,
}

const NAMES: [&str; 6] = ["setup", "demo", "test", "bench", "check", "help"];

const OVERVIEW: &str = "\
Set-up and chores of the workspace.

Usage: cargo xtask <command> [arguments]

Commands:
  setup   Make libtorch available at target/libtorch/torch
  demo    Run the quickstart study: results/quickstart/report.html
  test    Run all tests and print their counts
  bench   Run all benches
  check   Check formatting, lints and documentation
  help    Show this text, or that of one command

All commands but `help` call `setup` when it is needed. Exit codes: 0 done; 1 a test, lint or cell failed;
2 bad usage or set-up; 130 interrupted.
";

const SETUP: &str = "\
Make libtorch available at target/libtorch/torch, so that plain cargo commands work.

Usage: cargo xtask setup

The first of these is used, after a check of its version and a load test:
  1. the libtorch that the environment variable LIBTORCH names (an absolute path)
  2. what is at target/libtorch/torch already
  3. the copy in the cache folder ($XDG_CACHE_HOME or ~/.cache; ~/Library/Caches on macOS), mtl-lab/
  4. a download with python3 and pip into that cache: 0.5 GB, once per user

An interrupted download resumes where it stopped. A C++ compiler is needed (c++, or the one CXX names).
";

const DEMO: &str = "\
Run the quickstart study and print its tables and the path of its report.

Usage: cargo xtask demo [arguments of `experiments run`]

A second call resumes results/quickstart: finished cells are not computed again.

Examples:
  cargo xtask demo
  cargo xtask demo --data DIR --out results/mnist   the same study on a folder of IDX files
";

const TEST: &str = "\
Run all tests, documentation examples included, and end with `N passed, N failed, N skipped`.

Usage: cargo xtask test [arguments of `cargo test`]

MTL_DATA is set to ../shared/data when that folder exists and MTL_DATA is not set; OMP_NUM_THREADS to 1 when
it is not set. With -p/--package only those packages are tested. A test program that crashes counts as one failure.

Examples:
  cargo xtask test
  cargo xtask test -p mtl-core -- balancing
";

const BENCH: &str = "\
Run the benches of all packages, or with -p/--package of some.

Usage: cargo xtask bench [arguments of `cargo bench`]

Examples:
  cargo xtask bench
  cargo xtask bench -p mtl-core -- step
";

const CHECK: &str = "\
Check formatting, lints and documentation; every warning is an error.

Usage: cargo xtask check
";

/// Reads the arguments after `cargo xtask`.
pub(crate) fn parse(args: &[String]) -> Result<Command> {
    let Some((name, rest)) = args.split_first() else {
        return Err(Error::new("a command is missing", format!("one of: {}", NAMES.join(", "))));
    };
    let own = rest.iter().take_while(|arg| *arg != "--");
    let wants_help = own.clone().any(|arg| arg == "--help" || arg == "-h");
    match name.as_str() {
        "-h" | "--help" => return Ok(Command::Help(None)),
        "help" => {
            return rest.first().map_or(Ok(Command::Help(None)), |topic| {
                known(topic).map(|topic| Command::Help(Some(topic)))
            });
        }
        _ => {}
    }
    let name = known(name)?;
    if wants_help {
        return Ok(Command::Help(Some(name)));
    }
    match name {
        "demo" => Ok(Command::Demo(rest.to_vec())),
        "test" => Ok(Command::Test(rest.to_vec())),
        "bench" => Ok(Command::Bench(rest.to_vec())),
        _ => match rest.first() {
            Some(arg) => Err(Error::new(
                format!("`{name}` takes no arguments, found `{arg}`"),
                format!("see `cargo xtask help {name}`"),
            )),
            None if name == "setup" => Ok(Command::Setup),
            None => Ok(Command::Check),
        },
    }
}

/// The text of `cargo xtask help [topic]`.
pub(crate) fn help(topic: Option<&str>) -> &'static str {
    match topic {
        Some("setup") => SETUP,
        Some("demo") => DEMO,
        Some("test") => TEST,
        Some("bench") => BENCH,
        Some("check") => CHECK,
        _ => OVERVIEW,
    }
}

fn known(name: &str) -> Result<&'static str> {
    if let Some(known) = NAMES.into_iter().find(|known| *known == name) {
        return Ok(known);
    }
    let closest = NAMES.into_iter().min_by_key(|known| distance(known, name));
    let hint = match closest.filter(|known| distance(known, name) <= 2) {
        Some(known) => format!("did you mean `{known}`? See `cargo xtask help`"),
        None => format!("one of: {}", NAMES.join(", ")),
    };
    Err(Error::new(format!("unknown command `{name}`"), hint))
}

/// Levenshtein distance in characters.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, ca) in a.chars().enumerate() {
        let mut diagonal = i;
        row[0] = i + 1;
        for (j, cb) in b.iter().enumerate() {
            let substituted = diagonal + usize::from(ca != *cb);
            diagonal = row[j + 1];
            row[j + 1] = substituted.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(line: &str) -> Result<Command> {
        parse(&line.split_whitespace().map(str::to_owned).collect::<Vec<_>>())
    }

    fn refused(line: &str) -> String {
        parsed(line).unwrap_err().to_string()
    }

    #[test]
    fn commands_are_read_with_their_arguments() {
        assert_eq!(parsed("setup"), Ok(Command::Setup));
        assert_eq!(parsed("check"), Ok(Command::Check));
        assert_eq!(parsed("demo --data d"), Ok(Command::Demo(vec!["--data".into(), "d".into()])));
        assert_eq!(parsed("bench"), Ok(Command::Bench(vec![])));
    }

    #[test]
    fn help_is_found_in_every_usual_place() {
        for line in ["help", "--help", "-h"] {
            assert_eq!(parsed(line), Ok(Command::Help(None)));
        }
        for line in ["help setup", "setup --help", "setup -h"] {
            assert_eq!(parsed(line), Ok(Command::Help(Some("setup"))));
        }
        let topics = NAMES.map(|name| help(Some(name)));
        assert!(topics.iter().all(|text| text.contains("Usage: cargo xtask") && text.ends_with('\n')));
    }

    #[test]
    fn arguments_after_two_dashes_are_not_ours() {
        let args = vec!["--".into(), "--help".into()];
        assert_eq!(parsed("test -- --help"), Ok(Command::Test(args)));
    }

    #[test]
    fn a_misspelt_command_gets_a_suggestion() {
        assert_eq!(
            refused("setpu"),
            "error: unknown command `setpu`\nhint: did you mean `setup`? See `cargo xtask help`"
        );
        assert!(refused("help tset").contains("did you mean `test`?"));
    }

    #[test]
    fn a_word_like_no_command_gets_the_list() {
        assert!(refused("deploy-all").contains("hint: one of: setup, demo, test, bench, check, help"));
        assert!(refused("").contains("a command is missing"));
    }

    #[test]
    fn setup_and_check_refuse_arguments() {
        assert!(refused("setup --force").contains("`setup` takes no arguments, found `--force`"));
        assert!(refused("check now").contains("see `cargo xtask help check`"));
    }

    #[test]
    fn distance_counts_edits() {
        assert_eq!(distance("test", "test"), 0);
        assert_eq!(distance("test", "tset"), 2);
        assert_eq!(distance("demo", "dem"), 1);
        assert_eq!(distance("", "abc"), 3);
    }
}
