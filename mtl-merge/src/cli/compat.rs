//! What makes a command line written for mergekit work: its options without a meaning here, and no subcommand.
use clap::{Arg, ArgAction, ArgMatches, Args, Command, CommandFactory, FromArgMatches, error::ErrorKind};
use std::{
    ffi::{OsStr, OsString},
    path::Path,
};

/// Switches, their `--no-` forms, and why they have no effect.
const SWITCHES: [(&str, &str, &str); 10] = [
    ("clone-tensors", "no-clone-tensors", "repeated tensors are always written in full"),
    ("lazy-unpickle", "no-lazy-unpickle", "there are no pickled checkpoints"),
    ("cuda", "no-cuda", "merging is done on the CPU"),
    ("low-cpu-memory", "no-low-cpu-memory", "memory is bounded by `--max-memory`"),
    ("read-to-gpu", "no-read-to-gpu", "merging is done on the CPU"),
    ("multi-gpu", "no-multi-gpu", "merging is done on the CPU"),
    ("gpu-rich", "no-gpu-rich", "merging is done on the CPU"),
    ("async-write", "no-async-write", "results are always written while others are computed"),
    ("safe-serialization", "no-safe-serialization", "models are always written as safetensors"),
    ("trust-remote-code", "no-trust-remote-code", ""),
];

/// Options with a value.
const VALUES: [(&str, &str); 5] = [
    ("transformers-cache", "nothing is downloaded; set HF_HUB_CACHE for models of the local cache"),
    ("lora-merge-cache", "adapters are applied on the fly"),
    ("lora-merge-dtype", "adapters are applied in float64"),
    ("device", "merging is done on the CPU"),
    ("write-threads", "threads are set by `--num-threads`"),
];

/// Options of mergekit that were given and change nothing here.
#[derive(Debug, Clone, Default)]
pub(crate) struct Ignored(Vec<(String, &'static str)>);

impl Ignored {
    /// One line on what was ignored, if anything was.
    pub(crate) fn note(&self) -> Option<String> {
        let tell = |(option, why): &(String, &str)| format!("`{option}` ({why})");
        let told: Vec<String> = self.0.iter().map(tell).collect();
        (!told.is_empty()).then(|| format!("note: without effect here: {}", told.join(", ")))
    }
}

impl FromArgMatches for Ignored {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        if matches.get_flag("trust-remote-code") {
            let message = "`--trust-remote-code` is refused: no code of a checkpoint is ever run";
            return Err(clap::Error::raw(ErrorKind::InvalidValue, message));
        }
        let given = |id: &str| matches.value_source(id) == Some(clap::parser::ValueSource::CommandLine);
        let mut found = Vec::new();
        for (name, no, why) in SWITCHES {
            // The default of mergekit is no news: only what differs from it is worth a note.
            let (default, other) = if name == "safe-serialization" { (name, no) } else { (no, name) };
            if given(other) && !given(default) {
                found.push((format!("--{other}"), why));
            }
        }
        let values = VALUES.iter().filter(|(name, _)| given(name));
        found.extend(values.map(|&(name, why)| (format!("--{name}"), why)));
        Ok(Self(found))
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

impl Args for Ignored {
    fn augment_args(mut command: Command) -> Command {
        const HEADING: &str = "Options of mergekit, accepted without effect";
        for (name, no, why) in SWITCHES {
            let flag = |id: &'static str| {
                let arg = Arg::new(id).long(id).action(ArgAction::SetTrue);
                arg.hide_short_help(true).help_heading(HEADING)
            };
            let help = match why {
                "" => "Refused: no code of a checkpoint is ever run".to_owned(),
                why => format!("Without effect: {why}"),
            };
            command = command.arg(flag(name).overrides_with(no).help(help));
            command = command.arg(flag(no).hide(true));
        }
        for (name, why) in VALUES {
            let arg = Arg::new(name).long(name).value_name("VALUE").action(ArgAction::Set);
            command = command
                .arg(arg.hide_short_help(true).help_heading(HEADING).help(format!("Without effect: {why}")));
        }
        command
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

/// The arguments with `run` put in where a command line of mergekit has no subcommand.
pub(crate) fn with_subcommand(mut args: Vec<OsString>) -> Vec<OsString> {
    let command = crate::cli::Cli::command();
    let is_subcommand = |arg: &OsStr| arg == "help" || command.find_subcommand(arg).is_some();
    let Some(first) = args.get(1) else { return args };
    let text = first.to_string_lossy();
    let own = ["-h", "--help", "-V", "--version"].contains(&&*text);
    let starts_run = if text.starts_with('-') {
        !own && !args[1..].iter().any(|arg| is_subcommand(arg))
    } else {
        !is_subcommand(first) && (text.contains(['.', '/']) || Path::new(first).exists())
    };
    if starts_run {
        args.insert(1, "run".into());
    }
    args
}

#[cfg(test)]
mod tests {
    use super::*;

    fn completed(args: &[&str]) -> Vec<String> {
        let args = std::iter::once(&"mtl-merge").chain(args).map(OsString::from).collect();
        with_subcommand(args).into_iter().skip(1).map(|a| a.into_string().unwrap()).collect()
    }

    #[test]
    fn a_command_line_of_mergekit_is_a_run() {
        assert_eq!(completed(&["c.yml", "out", "--quiet"])[0], "run");
        assert_eq!(completed(&["--out-shard-size", "5B", "c", "out"])[0], "run");
        assert_eq!(completed(&["Cargo.toml", "out"])[0], "run");
    }

    #[test]
    fn subcommands_and_misspelled_ones_stay() {
        for args in
            [&["check", "c.yml"][..], &["--help"], &["chekc", "c.yml"], &["-v", "check", "c.yml"], &[]]
        {
            assert_eq!(completed(args), args);
        }
    }
}
