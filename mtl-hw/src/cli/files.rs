//! Files: read with their name in every error, written complete or not at all.
use crate::routing::PackedTrace;
use anyhow::{Context, bail};
use std::fs::{self, File};
use std::io::{BufReader, BufWriter, Read, Seek, Write};
use std::path::{Path, PathBuf};

/// First bytes of binary traces.
const MAGIC: &[u8; 8] = b"MTLROUT1";

/// The text of a file.
pub(crate) fn read(path: &Path) -> anyhow::Result<String> {
    fs::read_to_string(path).with_context(|| format!("cannot read `{}`", path.display()))
}

/// Reads a routing trace, JSON lines or binary.
pub(crate) fn read_trace(path: &Path) -> anyhow::Result<PackedTrace> {
    let name = || format!("`{}`", path.display());
    let mut file = File::open(path).with_context(|| format!("cannot read {}", name()))?;
    let mut first = Vec::new();
    Read::by_ref(&mut file).take(8).read_to_end(&mut first).with_context(name)?;
    file.rewind().with_context(name)?;
    let reader = BufReader::new(file);
    let trace = if first == MAGIC { PackedTrace::read_binary(reader) } else { PackedTrace::read(reader) };
    trace.with_context(name)
}

/// Writes a file under another name first, so that it appears complete or not at all.
pub(crate) fn write(
    path: &Path,
    fill: impl FnOnce(&mut dyn Write) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let Some(name) = path.file_name() else { bail!("`{}` names no file", path.display()) };
    let mut draft = name.to_owned();
    draft.push(format!(".{}.tmp", std::process::id()));
    let draft = path.with_file_name(draft);
    let done = (|| {
        let mut out = BufWriter::new(File::create(&draft)?);
        fill(&mut out)?;
        out.flush()?;
        Ok::<(), anyhow::Error>(())
    })()
    .and_then(|()| Ok(fs::rename(&draft, path)?));
    if done.is_err() {
        drop(fs::remove_file(&draft));
    }
    done.with_context(|| format!("cannot write `{}`", path.display()))
}

/// A path that a file names, relative to that file.
pub(crate) fn beside(file: &Path, named: &str) -> PathBuf {
    file.parent().unwrap_or(Path::new("")).join(named)
}

/// Whether a text names a file and not a built-in.
pub(crate) fn is_path(text: &str) -> bool {
    text.contains(['/', '\\']) || text.ends_with(".toml") || text.ends_with(".json")
}
