//! One line of progress while a child process fills a folder.

use crate::Result;
use crate::workspace::cannot_start;
use std::fs;
use std::io::{IsTerminal, Read, Write};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

const MIB: u64 = 1 << 20;

/// What to show of a long-running child process.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Watch<'a> {
    /// What the child is doing.
    pub(crate) label: &'a str,
    /// The folder that grows.
    pub(crate) dir: &'a Path,
    /// Its size at the end, in bytes.
    pub(crate) total: u64,
}

/// Runs a command and returns its status and what it wrote to its standard error.
///
/// On a terminal one line is drawn again and again; elsewhere a line is logged every ten seconds.
pub(crate) fn run(command: &mut Command, watch: Watch<'_>) -> Result<(ExitStatus, String)> {
    let spawned = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn();
    let mut child = spawned.map_err(|error| cannot_start(command, &error))?;
    // Kept in memory: a file could not be written on the full disk that it should tell of.
    let errors = child.stderr.take();
    let reader = std::thread::spawn(move || {
        let mut text = Vec::new();
        errors.map(|mut errors| errors.read_to_end(&mut text));
        String::from_utf8_lossy(&text).into_owned()
    });
    let status = wait(&mut child, watch).map_err(|error| cannot_start(command, &error))?;
    Ok((status, reader.join().unwrap_or_default()))
}

fn wait(child: &mut Child, watch: Watch<'_>) -> std::io::Result<ExitStatus> {
    let terminal = std::io::stderr().is_terminal();
    let interval = Duration::from_secs(if terminal { 1 } else { 10 });
    let start = Instant::now();
    let mut shown = start;
    loop {
        let ended = child.try_wait()?;
        let elapsed = start.elapsed();
        if terminal && (ended.is_some() || shown.elapsed() >= interval) {
            eprint!("\r\x1b[K{}", line(watch, size(watch.dir), elapsed));
            shown = Instant::now();
        } else if !terminal && ended.is_none() && shown.elapsed() >= interval {
            eprintln!("{}", line(watch, size(watch.dir), elapsed));
            shown = Instant::now();
        }
        if let Some(status) = ended {
            if terminal {
                eprintln!();
            }
            return Ok(status);
        }
        // Showing progress is not worth an error.
        let _ = std::io::stderr().flush();
        std::thread::sleep(Duration::from_millis(100));
    }
}

fn line(watch: Watch<'_>, bytes: u64, elapsed: Duration) -> String {
    let seconds = elapsed.as_secs();
    let time = if seconds < 60 {
        format!("{seconds} s")
    } else {
        format!("{} min {} s", seconds / 60, seconds % 60)
    };
    // pip copies a file before it removes the first: that is no more progress.
    let bytes = bytes.min(watch.total);
    format!("{}: {} of {} MiB, {time}", watch.label, bytes / MIB, watch.total.div_ceil(MIB))
}

/// The size of all files below a folder; what cannot be read counts nothing.
pub(crate) fn size(dir: &Path) -> u64 {
    let Ok(entries) = fs::read_dir(dir) else { return 0 };
    entries
        .flatten()
        .map(|entry| match entry.metadata() {
            Ok(meta) if meta.is_dir() => size(&entry.path()),
            Ok(meta) => meta.len(),
            Err(_) => 0,
        })
        .sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_tells_amount_and_time() {
        let watch = Watch { label: "downloading libtorch", dir: Path::new("/"), total: 10 * MIB + 1 };
        assert_eq!(
            line(watch, 3 * MIB + 5, Duration::from_secs(9)),
            "downloading libtorch: 3 of 11 MiB, 9 s"
        );
        assert!(line(watch, 0, Duration::from_secs(75)).ends_with("1 min 15 s"));
    }

    #[test]
    fn the_size_of_a_missing_folder_is_zero() {
        assert_eq!(size(Path::new("/nonexistent")), 0);
    }
}
