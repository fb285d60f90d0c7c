//! Checkpoints of a cell: two generations of a state file, each committed together with the records made before it.
//!
//! The state goes to `next.safetensors`, the records so far to a side file whose name carries the hash of that state,
//! and then two renames make `last` the previous generation and `next` the last one. Whatever instant a kill strikes,
//! a complete pair is there: a state counts only when the side file that its hash names is there and undamaged.
use mtl_core::{Error, Record, Result, files::write_atomic};
use std::{
    fs::{self, File},
    io::{self, Write},
    path::{Path, PathBuf},
};

const LAST: &str = "last.safetensors";
const PREV: &str = "prev.safetensors";
const NEXT: &str = "next.safetensors";
const SIDE: &str = "records-";

/// The state file of the newest undamaged checkpoint of the cell in `dir`, and the records made before it.
///
/// # Errors
///
/// [`Error::Io`] when the directory or a file cannot be read; damage is not an error but a warning.
pub(super) fn load(dir: &Path) -> Result<Option<(PathBuf, Vec<Record>)>> {
    for (state, name) in [(dir.join(LAST), LAST), (dir.join(PREV), PREV)] {
        if !state.exists() {
            continue;
        }
        let hash = hash_file(&state)?;
        match read_side(&side(dir, &hash)) {
            Some(records) => return Ok(Some((state, records))),
            None => {
                tracing::warn!(
                    "checkpoint `{name}` in `{}` is damaged; falling back to an older one",
                    dir.display()
                );
            }
        }
    }
    Ok(None)
}

/// Commits a state, written by `write`, and `records` as the newest checkpoint of the cell in `dir`.
///
/// # Errors
///
/// [`Error::Io`] when a file cannot be written; the checkpoints before it are then still there.
pub(super) fn save(
    dir: &Path,
    records: &[Record],
    write: &mut dyn FnMut(&mut dyn Write) -> io::Result<()>,
) -> Result<()> {
    let next = dir.join(NEXT);
    let mut hasher = blake3::Hasher::new();
    write_atomic(&next, |file| write(&mut Tee { file, hasher: &mut hasher }))?;
    commit(dir, records, &hasher.finalize().to_hex())
}

/// Like [`save`], for writers that want a path.
///
/// # Errors
///
/// What `write` returns, and [`Error::Io`]; the checkpoints before it are then still there.
pub(super) fn save_file<E: From<Error>>(
    dir: &Path,
    records: &[Record],
    write: impl FnOnce(&Path) -> Result<(), E>,
) -> Result<(), E> {
    let next = dir.join(NEXT);
    write(&next)?;
    let hash = hash_file(&next)?;
    Ok(commit(dir, records, &hash)?)
}

/// Makes the complete file `next` the newest checkpoint.
fn commit(dir: &Path, records: &[Record], hash: &str) -> Result<()> {
    let next = dir.join(NEXT);
    let lines = lines(records)?;
    let check = blake3::hash(lines.as_bytes()).to_hex();
    write_atomic(&side(dir, hash), |file| write!(file, "{check}\n{lines}"))?;
    let last = dir.join(LAST);
    if last.exists() {
        rename(&last, &dir.join(PREV))?;
    }
    rename(&next, &last)?;
    sync(dir)?;
    drop_sides(dir, hash)
}

/// Removes all checkpoints of the cell in `dir`.
///
/// # Errors
///
/// [`Error::Io`] when a file cannot be removed.
pub(super) fn clear(dir: &Path) -> Result<()> {
    [LAST, PREV, NEXT].iter().try_for_each(|name| remove(&dir.join(name)))?;
    sides(dir)?.iter().try_for_each(|path| remove(path))
}

/// Whether `name` belongs to a checkpoint rather than to the results of a cell.
pub(super) fn owns(name: &str) -> bool {
    [LAST, PREV, NEXT].contains(&name) || (name.starts_with(SIDE) && name.ends_with(".jsonl"))
}

/// Keeps the side files of the last and the previous generation only.
fn drop_sides(dir: &Path, newest: &str) -> Result<()> {
    let mut sides = sides(dir)?;
    if sides.len() <= 2 {
        return Ok(()); // The common case: no need to hash the previous state.
    }
    let prev = dir.join(PREV);
    let kept = if prev.exists() { hash_file(&prev)? } else { String::new() };
    sides.retain(|path| *path != side(dir, newest) && *path != side(dir, &kept));
    sides.iter().try_for_each(|path| remove(path))
}

fn sides(dir: &Path) -> Result<Vec<PathBuf>> {
    let entries = fs::read_dir(dir).map_err(|e| Error::io("read", dir, e))?;
    let names = entries.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned());
    Ok(names.filter(|name| name.starts_with(SIDE) && owns(name)).map(|name| dir.join(name)).collect())
}

fn side(dir: &Path, hash: &str) -> PathBuf {
    dir.join(format!("{SIDE}{}.jsonl", hash.get(..16).unwrap_or(hash)))
}

/// The records of a side file, or nothing when it is missing or damaged.
fn read_side(path: &Path) -> Option<Vec<Record>> {
    let text = fs::read_to_string(path).ok()?;
    let (check, lines) = text.split_once('\n')?;
    (blake3::hash(lines.as_bytes()).to_hex().as_str() == check).then(|| parse_lines(path, lines).ok())?
}

/// Records as JSON, one a line.
///
/// # Errors
///
/// [`Error::Parse`] for a record that JSON cannot hold.
pub(super) fn lines(records: &[Record]) -> Result<String> {
    let mut text = String::new();
    for record in records {
        let line = serde_json::to_string(record);
        text += &line.map_err(|e| Error::Parse { path: record.metric.clone(), message: e.to_string() })?;
        text.push('\n');
    }
    Ok(text)
}

/// Reads what [`lines`] wrote.
///
/// # Errors
///
/// [`Error::Format`] naming the line.
pub(super) fn parse_lines(path: &Path, text: &str) -> Result<Vec<Record>> {
    let parse = |(i, line)| {
        serde_json::from_str(line).map_err(|e| Error::format(path, format!("line {}: {e}", i + 1)))
    };
    text.lines().enumerate().map(parse).collect()
}

/// blake3 of a file, hexadecimal.
///
/// # Errors
///
/// [`Error::Io`] when it cannot be read.
pub(super) fn hash_file(path: &Path) -> Result<String> {
    let mut hasher = blake3::Hasher::new();
    let mut file = File::open(path).map_err(|e| Error::io("read", path, e))?;
    io::copy(&mut file, &mut hasher).map_err(|e| Error::io("read", path, e))?;
    Ok(hasher.finalize().to_hex().to_string())
}

/// Removes a file; one that is not there is fine.
///
/// # Errors
///
/// [`Error::Io`] when it is there and stays.
pub(super) fn remove(path: &Path) -> Result<()> {
    match fs::remove_file(path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(Error::io("remove", path, e)),
        _ => Ok(()),
    }
}

fn rename(from: &Path, to: &Path) -> Result<()> {
    fs::rename(from, to).map_err(|e| Error::io("write", to, e))
}

fn sync(dir: &Path) -> Result<()> {
    File::open(dir).and_then(|d| d.sync_all()).map_err(|e| Error::io("write", dir, e))
}

/// Hashes what passes through.
struct Tee<'a> {
    file: &'a mut dyn Write,
    hasher: &'a mut blake3::Hasher,
}

impl Write for Tee<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let n = self.file.write(bytes)?;
        self.hasher.update(&bytes[..n]);
        Ok(n)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn save_step(dir: &Path, step: u64) {
        let records: Vec<Record> = (0..step).map(|s| Record::new("loss", 0.1 * s as f64).step(s)).collect();
        save(dir, &records, &mut |w| write!(w, "state after step {step}")).unwrap();
    }

    fn loaded(dir: &Path) -> Option<(String, usize)> {
        load(dir).unwrap().map(|(path, records)| (fs::read_to_string(path).unwrap(), records.len()))
    }

    #[test]
    fn the_newest_state_comes_back_with_its_records() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(loaded(dir.path()), None);
        (1..=4).for_each(|step| save_step(dir.path(), step));
        assert_eq!(loaded(dir.path()), Some(("state after step 4".into(), 4)));
        let (_, records) = load(dir.path()).unwrap().unwrap();
        assert_eq!(records[3].value.to_bits(), (0.1 * 3.0_f64).to_bits());
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 4, "two states and their side files");
        clear(dir.path()).unwrap();
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    }

    #[test]
    fn damage_to_either_file_of_the_last_generation_falls_back_to_the_previous() {
        for damage_side in [false, true] {
            let dir = tempfile::tempdir().unwrap();
            (1..=3).for_each(|step| save_step(dir.path(), step));
            let last = dir.path().join(LAST);
            let victim = if damage_side { side(dir.path(), &hash_file(&last).unwrap()) } else { last };
            let mut bytes = fs::read(&victim).unwrap();
            bytes.truncate(bytes.len() - 1);
            fs::write(&victim, bytes).unwrap();
            assert_eq!(loaded(dir.path()), Some(("state after step 2".into(), 2)));
            save_step(dir.path(), 3);
            assert_eq!(loaded(dir.path()), Some(("state after step 3".into(), 3)));
        }
    }

    #[test]
    fn every_instant_between_the_renames_leaves_a_complete_pair() {
        let dir = tempfile::tempdir().unwrap();
        (1..=2).for_each(|step| save_step(dir.path(), step));
        fs::rename(dir.path().join(LAST), dir.path().join(PREV)).unwrap();
        assert_eq!(loaded(dir.path()), Some(("state after step 2".into(), 2)));
    }

    #[test]
    fn a_failing_writer_keeps_the_old_checkpoint() {
        let dir = tempfile::tempdir().unwrap();
        save_step(dir.path(), 1);
        let error = save(dir.path(), &[], &mut |_| Err(io::ErrorKind::StorageFull.into())).unwrap_err();
        assert!(error.to_string().starts_with("cannot write"), "{error}");
        assert_eq!(loaded(dir.path()), Some(("state after step 1".into(), 1)));
    }
}
