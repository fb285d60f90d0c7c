//! Where things are, and how cargo is called.

use crate::{Error, Result};
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};

/// The checkout that `xtask` works on.
#[derive(Debug, Clone)]
pub(crate) struct Workspace {
    root: PathBuf,
}

impl Workspace {
    /// Finds the checkout from cargo's variables, or from where `xtask` was built.
    pub(crate) fn find() -> Result<Self> {
        let member = std::env::var_os("CARGO_MANIFEST_DIR")
            .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")), PathBuf::from);
        match member.parent() {
            Some(root) if root.join("Cargo.toml").is_file() => Ok(Self { root: root.to_owned() }),
            _ => Err(Error::new(
                format!("no workspace above `{}`", member.display()),
                "run `cargo xtask` inside the checkout",
            )),
        }
    }

    /// The top folder of the checkout.
    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// The folder of everything that set-up makes in the checkout.
    pub(crate) fn libtorch_dir(&self) -> PathBuf {
        self.root.join("target/libtorch")
    }

    /// Where `.cargo/config.toml` looks for libtorch: a link.
    pub(crate) fn libtorch_link(&self) -> PathBuf {
        self.libtorch_dir().join("torch")
    }

    /// A path in the checkout, as short as the current folder allows.
    pub(crate) fn located(&self, path: &str) -> PathBuf {
        match std::env::current_dir() {
            Ok(here) if here == self.root => PathBuf::from(path),
            _ => self.root.join(path),
        }
    }

    /// Whether the current folder is in the checkout: then paths in arguments are relative to it, and cargo finds
    /// its configuration from it.
    fn is_here(&self) -> bool {
        std::env::current_dir().is_ok_and(|here| here.starts_with(&self.root))
    }

    /// The libtorch that the user asks for, if any.
    pub(crate) fn user_libtorch(&self) -> Result<Option<PathBuf>> {
        user_libtorch(std::env::var_os("LIBTORCH"), &self.libtorch_link())
    }

    /// The build folder, when the user moved it out of the checkout.
    pub(crate) fn foreign_target_dir(&self) -> Option<PathBuf> {
        ["CARGO_TARGET_DIR", "CARGO_BUILD_TARGET_DIR"]
            .into_iter()
            .find_map(std::env::var_os)
            .map(PathBuf::from)
            .filter(|dir| self.root.join(dir) != self.root.join("target"))
    }

    /// A cargo command that sees the same `LIBTORCH` as one that the user types.
    pub(crate) fn cargo(&self) -> Command {
        let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        if !self.is_here() {
            command.current_dir(&self.root);
        }
        if let Ok(None) = self.user_libtorch() {
            // Cargo set it for us from its configuration and will do so again. Passing it on would make it
            // look like the user's.
            command.env_remove("LIBTORCH");
        }
        if self.foreign_target_dir().is_some() {
            // The run path in `.cargo/config.toml` is relative to the program, so it ends nowhere.
            let name =
                if cfg!(target_os = "macos") { "DYLD_FALLBACK_LIBRARY_PATH" } else { "LD_LIBRARY_PATH" };
            let mut paths = vec![self.libtorch_link().join("lib")];
            paths.extend(std::env::split_paths(&std::env::var_os(name).unwrap_or_default()));
            if let Ok(joined) = std::env::join_paths(paths) {
                command.env(name, joined);
            }
        }
        command
    }
}

/// Runs a command to its end on the same terminal.
pub(crate) fn status(command: &mut Command) -> Result<ExitStatus> {
    command.status().map_err(|error| cannot_start(command, &error))
}

/// The error of a program that cannot be started.
pub(crate) fn cannot_start(command: &Command, error: &std::io::Error) -> Error {
    Error::new(
        format!("cannot start `{}`: {error}", command.get_program().display()),
        "check that it is installed and on PATH",
    )
}

/// The exit code that passes a child's status on.
pub(crate) fn exit_code(status: ExitStatus) -> u8 {
    #[cfg(unix)]
    if let Some(signal) = std::os::unix::process::ExitStatusExt::signal(&status) {
        return u8::try_from(128 + signal).unwrap_or(1);
    }
    status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(1)
}

/// Whether the arguments for cargo name packages.
pub(crate) fn names_packages(args: &[String]) -> bool {
    args.iter().take_while(|arg| *arg != "--").any(|arg| {
        arg.starts_with("--package")
            || (arg.starts_with("-p") && !arg.starts_with("--"))
            || arg == "--workspace"
    })
}

/// Cargo's configuration sets `LIBTORCH` to the link when the user has not set it: that is no wish of the user's.
fn user_libtorch(value: Option<OsString>, link: &Path) -> Result<Option<PathBuf>> {
    let Some(value) = value else { return Ok(None) };
    let path = PathBuf::from(&value);
    if path == link {
        return Ok(None);
    }
    if value.is_empty() {
        return Err(Error::new("`LIBTORCH` is set but empty", "run `unset LIBTORCH`"));
    }
    if path.is_relative() {
        return Err(Error::new(
            format!("`LIBTORCH` must be an absolute path, found `{}`", path.display()),
            "builds run in other folders; export the full path, or run `unset LIBTORCH`",
        ));
    }
    Ok(Some(path))
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINK: &str = "/repo/target/libtorch/torch";

    fn wish(value: Option<&str>) -> Result<Option<PathBuf>> {
        user_libtorch(value.map(OsString::from), Path::new(LINK))
    }

    #[test]
    fn the_value_from_cargo_is_not_the_users() {
        assert_eq!(wish(None), Ok(None));
        assert_eq!(wish(Some(LINK)), Ok(None));
        assert_eq!(wish(Some("/repo/target/libtorch/torch/")), Ok(None));
        assert_eq!(wish(Some("/opt/libtorch")), Ok(Some("/opt/libtorch".into())));
    }

    #[test]
    fn an_empty_or_relative_wish_is_refused() {
        assert!(wish(Some("")).unwrap_err().to_string().contains("hint: run `unset LIBTORCH`"));
        assert!(wish(Some("libtorch")).unwrap_err().message().contains("absolute path, found `libtorch`"));
    }

    #[test]
    fn package_arguments_are_recognised_before_two_dashes_only() {
        let named = |line: &str| names_packages(&line.split(' ').map(str::to_owned).collect::<Vec<_>>());
        assert!(
            named("-p mtl-core") && named("-pmtl-core") && named("--package=mtl-hw") && named("--workspace")
        );
        assert!(!named("--release") && !named("-- -p") && !named("name"));
    }
}
