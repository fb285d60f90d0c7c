//! The error type of the crate.
use std::path::PathBuf;

/// Everything that can go wrong with input a user controls.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A tensor argument has the wrong shape.
    #[error("`{name}` must have shape {expected}, but has {found:?}")]
    Shape {
        /// Argument or parameter as the caller names it.
        name: String,
        /// Shape in the notation of the docs, such as `[tasks, params]`.
        expected: String,
        /// Shape of the tensor given.
        found: Vec<i64>,
    },
    /// A hyper-parameter or argument is outside its range.
    #[error("`{field}` must be {must}, but is {value}")]
    Config {
        /// Field of the config struct, or argument.
        field: String,
        /// The accepted range, in words.
        must: String,
        /// The value given.
        value: String,
    },
    /// A loss, gradient or weight is NaN or infinite.
    #[error("`{name}` is not finite at index {index}")]
    NonFinite {
        /// Argument as the caller wrote it.
        name: String,
        /// First offending position along dimension 0.
        index: i64,
    },
    /// Training met a NaN or infinite loss or gradient.
    #[error("{what} of task `{task}` is not finite at step {step}{}", .param.as_ref().map(|p| format!(", first in parameter `{p}`")).unwrap_or_default())]
    Diverged {
        /// `loss` or `gradient`.
        what: &'static str,
        /// Name of the task whose loss it is.
        task: String,
        /// Optimiser step, from 0.
        step: u64,
        /// First parameter concerned, if it is known.
        param: Option<String>,
    },
    /// A solver did not reach the optimality conditions; its weights are not returned.
    #[error(
        "the solver `{solver}` left a residual of {residual:.1e} after {iterations} steps; at most 1e-9 is accepted"
    )]
    Solver {
        /// Solver concerned.
        solver: &'static str,
        /// Relative violation of the conditions.
        residual: f64,
        /// Newton steps taken.
        iterations: u32,
    },
    /// A name that nothing carries.
    #[error("unknown {kind} `{name}`{}", .similar.as_ref().map(|s| format!("; did you mean `{s}`?")).unwrap_or_default())]
    Unknown {
        /// What was looked up: `method`, `study`, `task`, `parameter` ….
        kind: &'static str,
        /// Name that was asked for.
        name: String,
        /// Nearest known name.
        similar: Option<String>,
    },
    /// A config that does not deserialise; the path names the field.
    #[error("{path}: {message}")]
    Parse {
        /// Path such as `method.beta`.
        path: String,
        /// What the parser said.
        message: String,
    },
    /// Reading or writing a file failed.
    #[error("cannot {action} `{}`: {source}", .path.display())]
    Io {
        /// `read`, `write`, `create`.
        action: &'static str,
        /// File concerned.
        path: PathBuf,
        /// Cause.
        source: std::io::Error,
    },
    /// A file is not what it should be; nothing of it was used.
    #[error("`{}`: {message}", .path.display())]
    Format {
        /// File concerned.
        path: PathBuf,
        /// What is wrong, where, and what would be right.
        message: String,
    },
    /// Parameters given and parameters expected differ.
    #[error("parameters of `{what}` do not fit: {differences}")]
    Mismatch {
        /// Model, file or state concerned.
        what: String,
        /// The differences, the first ten in full.
        differences: String,
    },
    /// More memory asked for than the machine can give.
    #[error("{what} needs {needed_mib} MiB, but only {available_mib} MiB are available")]
    Memory {
        /// What would have been allocated.
        what: String,
        /// Size asked for, MiB.
        needed_mib: u64,
        /// Size that may be used, MiB.
        available_mib: u64,
    },
    /// libtorch refused an operation; stack frames are cut off.
    #[error("libtorch: {0}")]
    Torch(String),
    /// A run was asked to stop; its state has been saved.
    #[error("interrupted")]
    Interrupted,
}

/// Result with this crate's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// An out-of-range value; see [`Error::Config`].
    pub fn config(field: impl Into<String>, must: impl Into<String>, value: impl ToString) -> Self {
        Self::Config { field: field.into(), must: must.into(), value: value.to_string() }
    }

    /// A tensor of the wrong shape; see [`Error::Shape`].
    pub fn shape(name: impl Into<String>, expected: impl Into<String>, found: Vec<i64>) -> Self {
        Self::Shape { name: name.into(), expected: expected.into(), found }
    }

    /// A damaged or mistaken file; see [`Error::Format`].
    pub fn format(path: impl Into<PathBuf>, message: impl Into<String>) -> Self {
        Self::Format { path: path.into(), message: message.into() }
    }

    /// A failed file operation; see [`Error::Io`].
    pub fn io(action: &'static str, path: impl Into<PathBuf>, source: std::io::Error) -> Self {
        Self::Io { action, path: path.into(), source }
    }

    /// An unknown name, with the nearest of the `known` ones as a suggestion.
    pub fn unknown<'a>(kind: &'static str, name: &str, known: impl IntoIterator<Item = &'a str>) -> Self {
        let similar = crate::registry::nearest(name, known).map(str::to_owned);
        Self::Unknown { kind, name: name.to_owned(), similar }
    }
}

#[cfg(feature = "torch")]
impl From<tch::TchError> for Error {
    fn from(err: tch::TchError) -> Self {
        Error::Torch(first_line(&err.to_string()))
    }
}

/// libtorch appends dozens of C++ stack frames; users need the first line only.
#[cfg(feature = "torch")]
pub(crate) fn first_line(text: &str) -> String {
    let line = text.lines().next().unwrap_or_default();
    line.trim_start_matches("Internal torch error: ").to_owned()
}
