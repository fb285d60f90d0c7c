//! What went wrong and what to do about it.

use std::fmt;
use std::path::Path;

/// The result of a step of `xtask`.
pub(crate) type Result<T> = std::result::Result<T, Error>;

/// A failure that the user can act on: every one ends the command with exit code 2.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Error {
    message: String,
    hint: String,
}

impl Error {
    /// A failure with the next step to take.
    pub(crate) fn new(message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { message: message.into(), hint: hint.into() }
    }

    /// A failed operation on a file or folder.
    pub(crate) fn io(doing: &str, path: &Path, error: &std::io::Error) -> Self {
        let hint = match error.kind() {
            std::io::ErrorKind::StorageFull => "make room on that disk and run the command again",
            std::io::ErrorKind::PermissionDenied | std::io::ErrorKind::ReadOnlyFilesystem => {
                "make the folder writable; XDG_CACHE_HOME moves the cache, a clone elsewhere the rest"
            }
            _ => "check the path and run the command again",
        };
        Self::new(format!("cannot {doing} `{}`: {error}", path.display()), hint)
    }

    /// What went wrong, without the hint.
    pub(crate) fn message(&self) -> &str {
        &self.message
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "error: {}\nhint: {}", self.message, self.hint)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_shows_its_next_step() {
        let error = Error::new("`python3` was not found", "install Python 3");
        assert_eq!(error.to_string(), "error: `python3` was not found\nhint: install Python 3");
    }

    #[test]
    fn a_full_disk_asks_for_room() {
        let full = std::io::Error::from(std::io::ErrorKind::StorageFull);
        let shown = Error::io("write", Path::new("/cache/x"), &full).to_string();
        assert!(shown.starts_with("error: cannot write `/cache/x`: "), "{shown}");
        assert!(shown.contains("hint: make room"), "{shown}");
    }
}
