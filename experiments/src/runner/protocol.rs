//! What the runner and its workers say to each other: one JSON object a line, over the worker's stdin and stdout.
use super::Cell;
use serde::{Deserialize, Serialize};
use std::io::{self, Write};

/// From the runner to a worker.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Command {
    /// Compute this cell.
    Run(Box<Cell>),
    /// Save and leave.
    Stop,
}

/// From a worker to the runner.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Event {
    /// Started and waiting for cells.
    Ready,
    /// How far the running cell is.
    Progress { done: u64, total: u64 },
    /// The cell is finished and committed.
    Done,
    /// The cell failed; the worker may be `leaving`, unfit for another.
    Failed { error: String, leaving: bool },
    /// The cell stopped on request and can be resumed.
    Stopped,
}

/// An error and its causes, without those that the text before already tells.
pub(crate) fn tell_error(error: &anyhow::Error) -> String {
    error.chain().map(ToString::to_string).fold(String::new(), |text, cause| match text.as_str() {
        "" => cause,
        known if known.contains(&cause) => text,
        known => format!("{known}: {cause}"),
    })
}

/// Writes one message.
///
/// # Errors
///
/// The other side is gone.
pub(super) fn send(to: &mut dyn Write, message: &impl Serialize) -> io::Result<()> {
    let mut line = serde_json::to_string(message).map_err(io::Error::other)?;
    line.push('\n');
    to.write_all(line.as_bytes())?;
    to.flush()
}
