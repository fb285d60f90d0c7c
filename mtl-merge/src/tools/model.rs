//! Checkpoints named by a command or a configuration, and the files beside their weights.
use crate::{
    Error, ModelRef, Result,
    engine::{
        lora::LoraSource,
        source::{FileSource, Source},
    },
};
use mtl_core::files;
use serde_json::{Map, Value};
use std::{
    io::Read,
    path::{Path, PathBuf},
};

/// Largest configuration file that is read.
const MAX_CONFIG: u64 = 16 << 20;
/// Files of a tokenizer and of text generation, in the layout of Hugging Face.
const COMPANIONS: [&str; 11] = [
    "added_tokens.json",
    "chat_template.jinja",
    "chat_template.json",
    "generation_config.json",
    "merges.txt",
    "special_tokens_map.json",
    "spiece.model",
    "tokenizer.json",
    "tokenizer.model",
    "tokenizer_config.json",
    "vocab.json",
];

/// Opens `checkpoint` or `checkpoint+adapter`; `role` says in errors who named it.
pub(crate) fn open(role: &str, name: &str) -> Result<Box<dyn Source>> {
    let (path, adapter) = locate(role, name)?;
    let wrap = |source| Error::Open { role: role.to_owned(), source };
    let source = Box::new(FileSource::open(&path).map_err(wrap)?);
    Ok(match adapter {
        Some(adapter) => Box::new(LoraSource::open(source, &adapter)?),
        None => source,
    })
}

/// Where a checkpoint and its adapter are.
fn locate(role: &str, name: &str) -> Result<(PathBuf, Option<PathBuf>)> {
    if Path::new(name).exists() {
        return Ok((name.into(), None)); // Whatever characters its name has.
    }
    let place = |error: Error| {
        let message = match error {
            Error::Recipe { message, .. } => message,
            other => other.to_string(),
        };
        Error::Recipe { path: role.to_owned(), message }
    };
    let parsed = ModelRef::parse(name).map_err(place)?;
    let cwd = Path::new("");
    Ok((parsed.locate(cwd).map_err(place)?, parsed.locate_lora(cwd).map_err(place)?))
}

/// The folder of a checkpoint: itself, or where its file lies.
pub(crate) fn folder(name: &str) -> PathBuf {
    let path = locate("", name).map_or_else(|_| PathBuf::from(name), |(path, _)| path);
    if path.is_dir() { path } else { path.parent().unwrap_or(Path::new(".")).to_owned() }
}

/// Text of a small file, if it is there.
pub(crate) fn read_text(path: &Path) -> Result<Option<String>> {
    if !path.exists() {
        return Ok(None);
    }
    let mut text = String::new();
    let read = files::open_regular(path)?.take(MAX_CONFIG + 1).read_to_string(&mut text);
    read.map_err(|source| mtl_core::Error::io("read", path, source))?;
    if text.len() as u64 > MAX_CONFIG {
        return Err(mtl_core::Error::format(path, format!("is longer than {MAX_CONFIG} bytes")).into());
    }
    Ok(Some(text))
}

/// A JSON object in a file, if the file is there.
pub(crate) fn read_object(path: &Path) -> Result<Option<Map<String, Value>>> {
    let Some(text) = read_text(path)? else { return Ok(None) };
    let parsed = serde_json::from_str(&text);
    Ok(Some(parsed.map_err(|e| mtl_core::Error::format(path, format!("is no JSON object: {e}")))?))
}

/// `config.json` of a checkpoint.
///
/// # Errors
///
/// [`Error::Core`] when it is missing or damaged.
pub(crate) fn config(name: &str) -> Result<Map<String, Value>> {
    let path = folder(name).join("config.json");
    let missing = || mtl_core::Error::io("read", &path, std::io::ErrorKind::NotFound.into());
    Ok(read_object(&path)?.ok_or_else(missing)?)
}

/// Writes pretty JSON.
pub(crate) fn write_json(path: &Path, value: &impl serde::Serialize) -> Result<()> {
    let mut text = serde_json::to_vec_pretty(value)
        .map_err(|e| mtl_core::Error::format(path, format!("cannot be written as JSON: {e}")))?;
    text.push(b'\n');
    write_text(path, &text)
}

/// Writes a small file.
pub(crate) fn write_text(path: &Path, text: &[u8]) -> Result<()> {
    Ok(files::write_atomic(path, |out| out.write_all(text))?)
}

/// Copies tokenizer, chat template and generation settings; gives the names copied.
pub(crate) fn copy_companions(from: &Path, to: &Path) -> Result<Vec<String>> {
    let mut copied = Vec::new();
    for name in COMPANIONS {
        let source = from.join(name);
        if !source.is_file() {
            continue;
        }
        let mut file = files::open_regular(&source)?;
        let target = to.join(name);
        files::write_atomic(&target, |out| std::io::copy(&mut file, out).map(|_| ()))?;
        copied.push(name.to_owned());
    }
    Ok(copied)
}
