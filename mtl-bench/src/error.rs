//! The error type of the crate.
use std::path::PathBuf;

/// Everything that can go wrong with records, scores, figures and reports.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// An error of the shared vocabulary: files, names, configs.
    #[error(transparent)]
    Core(#[from] mtl_core::Error),
    /// A row of a results file is wrong; nothing of the file was used.
    #[error("`{}` line {line}: {message}", .path.display())]
    Row {
        /// File concerned.
        path: PathBuf,
        /// Line, from 1.
        line: u64,
        /// What is wrong, and what would be right.
        message: String,
    },
    /// A metric is not defined on the numbers given.
    #[error("`{metric}`{}: {message}", .task.as_ref().map(|t| format!(" of task `{t}`")).unwrap_or_default())]
    Metric {
        /// Metric concerned.
        metric: &'static str,
        /// Task concerned, if it is known.
        task: Option<String>,
        /// What is wrong, and where.
        message: String,
    },
    /// An argument is outside its range.
    #[error("`{argument}` must be {must}, but is {found}")]
    Argument {
        /// Argument as the caller names it.
        argument: &'static str,
        /// The accepted range, in words.
        must: String,
        /// The value given.
        found: String,
    },
    /// Records that should be there are not.
    #[error("no records of {what}")]
    Missing {
        /// What was looked for.
        what: String,
    },
    /// Two records claim to be the same measurement.
    #[error("{count} values of {what} where one is expected; filter by setting, task or step first")]
    Ambiguous {
        /// The measurement.
        what: String,
        /// How many values it has.
        count: usize,
    },
    /// A system under evaluation did not answer.
    #[error("system `{system}`: {message}")]
    System {
        /// Name of the system.
        system: String,
        /// What went wrong.
        message: String,
    },
    /// A benchmark's file does not hold what its format prescribes; nothing of the file was used.
    #[error("`{}`{}: {message}", .path.display(), .record.as_ref().map(|r| format!(", {r}")).unwrap_or_default())]
    Format {
        /// File concerned.
        path: PathBuf,
        /// Record concerned, such as `examples[3].target`, if there is one.
        record: Option<String>,
        /// What is wrong, and what would be right.
        message: String,
    },
    /// A figure could not be drawn.
    #[error("cannot draw the figure: {0}")]
    Draw(String),
    /// The report's template failed.
    #[error("cannot render the report: {0}")]
    Template(#[from] minijinja::Error),
}

/// Result with this crate's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    pub(crate) fn metric(metric: &'static str, message: impl Into<String>) -> Self {
        Self::Metric { metric, task: None, message: message.into() }
    }

    pub(crate) fn argument(argument: &'static str, must: impl Into<String>, found: impl ToString) -> Self {
        Self::Argument { argument, must: must.into(), found: found.to_string() }
    }

    /// Names the task that a [`Error::Metric`] is about; other errors stay as they are.
    #[must_use]
    pub fn in_task(mut self, name: &str) -> Self {
        if let Self::Metric { task, .. } = &mut self {
            *task = Some(name.to_owned());
        }
        self
    }
}
