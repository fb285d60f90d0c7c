//! The run directory: who holds it, which cells are finished, what they recorded.
//!
//! ```text
//! results/<study>/
//!   manifest.json               what was asked for, by which version, on which machine; written first
//!   lock                        held by the one runner at work
//!   cells/<id>/cell.json        resolved configuration
//!   cells/<id>/last.safetensors newest checkpoint, with prev.safetensors before it, while the cell runs
//!   cells/<id>/records.jsonl    what it measured
//!   cells/<id>/artifacts/       what other cells read
//!   cells/<id>/DONE             checksums of the above; without it the cell is not finished
//!   cells/<id>/error.txt        why it failed
//!   cells/<id>/timing.json      wall times, which never enter the records
//!   records.csv failed.csv      rebuilt from the cells, in the order of the grid
//!   report/ logs/ run.log
//! ```
use super::{Cell, checkpoint};
use mtl_core::{
    Error, Record, Result,
    files::{sweep, write_atomic},
};
use serde::{Deserialize, Serialize};
use std::{
    collections::BTreeMap,
    fs::{self, File, TryLockError},
    io,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

/// Why a cell gave no result.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FailedCell {
    /// Identifier.
    pub cell: String,
    /// Kind.
    pub kind: String,
    /// Seed.
    pub seed: u64,
    /// Keys, as JSON.
    pub config: String,
    /// Error text.
    pub error: String,
}

/// State of a cell on disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// Finished, and its checksums match.
    Done,
    /// Said to be finished, but a file is missing or differs from its checksum.
    Damaged,
    /// Not finished.
    Open,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Done {
    files: BTreeMap<String, String>,
}

/// A run directory.
#[derive(Debug, Clone)]
pub struct Store {
    dir: PathBuf,
}

/// Exclusive use of something, until it is dropped or its holder dies.
#[derive(Debug)]
pub struct Lock {
    _file: File,
}

impl Store {
    /// The run directory `dir`, which need not exist yet.
    pub fn new(dir: impl Into<PathBuf>) -> Self {
        Self { dir: dir.into() }
    }

    /// Where it is.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// A file in the run directory.
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// Directory of all cells.
    pub fn cells_dir(&self) -> PathBuf {
        self.dir.join("cells")
    }

    fn cell_dir(&self, cell: &Cell) -> PathBuf {
        self.cells_dir().join(cell.id())
    }

    /// Makes the directory and takes its lock.
    ///
    /// # Errors
    ///
    /// [`Error::Format`] when another runner is at work on it, [`Error::Io`] when it cannot be made or written.
    pub fn open(&self) -> Result<Lock> {
        create_dir(&self.cells_dir())?;
        create_dir(&self.path("logs"))?;
        let lock = lock(&self.path("lock"), Duration::ZERO)?;
        let Some(lock) = lock else {
            return Err(Error::format(
                &self.dir,
                "another runner is at work on this directory; wait for it to end",
            ));
        };
        sweep(&self.dir)?;
        Ok(lock)
    }

    /// Takes the lock of a cell and removes what killed writers left behind; waits for a worker that is just dying.
    ///
    /// # Errors
    ///
    /// [`Error::Format`] when another process computes the cell, [`Error::Io`] when it cannot be written.
    pub(super) fn open_cell(&self, cell: &Cell) -> Result<Lock> {
        let dir = self.cell_dir(cell);
        create_dir(&dir)?;
        let Some(lock) = lock(&dir.join("lock"), Duration::from_secs(10))? else {
            return Err(Error::format(dir, "another process computes this cell"));
        };
        sweep(&dir)?;
        let artifacts = dir.join("artifacts");
        if artifacts.exists() {
            sweep(&artifacts)?;
        }
        let text = serde_json::to_string_pretty(cell).unwrap_or_default();
        write_atomic(&dir.join("cell.json"), |file| writeln!(file, "{text}"))?;
        Ok(lock)
    }

    /// Whether the cell is finished.
    ///
    /// # Errors
    ///
    /// [`Error::Io`] when a file is there but cannot be read.
    pub fn state(&self, cell: &Cell) -> Result<State> {
        let dir = self.cell_dir(cell);
        let text = match fs::read(dir.join("DONE")) {
            Ok(text) => text,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(State::Open),
            Err(e) => return Err(Error::io("read", dir.join("DONE"), e)),
        };
        let Ok(done) = serde_json::from_slice::<Done>(&text) else {
            return Ok(State::Damaged);
        };
        let intact = checksums(&dir).is_ok_and(|found| found == done.files);
        Ok(if intact { State::Done } else { State::Damaged })
    }

    /// Commits the records and marks the cell finished.
    ///
    /// # Errors
    ///
    /// [`Error::Io`] when a file cannot be written; the cell is then not finished.
    pub(super) fn finish(&self, cell: &Cell, records: &[Record], wall: Duration) -> Result<()> {
        let dir = self.cell_dir(cell);
        checkpoint::remove(&dir.join("error.txt"))?;
        let lines = checkpoint::lines(records)?;
        write_atomic(&dir.join("records.jsonl"), |file| file.write_all(lines.as_bytes()))?;
        let timing = serde_json::json!({ "wall_s": wall.as_secs_f64() });
        write_atomic(&dir.join("timing.json"), |file| writeln!(file, "{timing}"))?;
        let done = Done { files: checksums(&dir)? };
        let text = serde_json::to_string_pretty(&done).unwrap_or_default();
        write_atomic(&dir.join("DONE"), |file| writeln!(file, "{text}"))?;
        checkpoint::clear(&dir)
    }

    /// Removes the checkpoints of a finished cell whose worker was killed before it could.
    ///
    /// # Errors
    ///
    /// [`Error::Io`] when a file cannot be removed.
    pub(super) fn tidy(&self, cell: &Cell) -> Result<()> {
        let dir = self.cell_dir(cell);
        sweep(&dir)?;
        checkpoint::clear(&dir)
    }

    /// Notes why the cell failed.
    ///
    /// # Errors
    ///
    /// [`Error::Io`] when the file cannot be written.
    pub(super) fn fail(&self, cell: &Cell, error: &str) -> Result<()> {
        create_dir(&self.cell_dir(cell))?;
        write_atomic(&self.cell_dir(cell).join("error.txt"), |file| writeln!(file, "{error}"))
    }

    /// The error text of a cell that failed earlier.
    pub fn error_of(&self, cell: &Cell) -> Option<String> {
        fs::read_to_string(self.cell_dir(cell).join("error.txt")).ok().map(|text| text.trim_end().to_owned())
    }

    /// Forgets results of a cell, so that it runs from the start; its checkpoints go too if `all`.
    ///
    /// # Errors
    ///
    /// [`Error::Io`] when a file cannot be removed.
    pub(super) fn reset(&self, cell: &Cell, all: bool) -> Result<()> {
        let dir = self.cell_dir(cell);
        ["DONE", "records.jsonl", "error.txt", "timing.json"]
            .iter()
            .try_for_each(|n| checkpoint::remove(&dir.join(n)))?;
        if all && dir.exists() {
            checkpoint::clear(&dir)?;
            remove_tree(&dir.join("artifacts"))?;
        }
        Ok(())
    }

    /// Records of the finished cells, in the order of `cells`.
    ///
    /// # Errors
    ///
    /// [`Error::Io`] or [`Error::Format`] when the records of a finished cell cannot be read.
    pub fn records<'a>(&self, cells: impl IntoIterator<Item = &'a Cell>) -> Result<Vec<Record>> {
        let mut records = Vec::new();
        for cell in cells {
            let path = self.cell_dir(cell).join("records.jsonl");
            let text = fs::read_to_string(&path).map_err(|e| Error::io("read", &path, e))?;
            records.extend(checkpoint::parse_lines(&path, &text)?);
        }
        Ok(records)
    }

    /// Rebuilds `records.csv` and `failed.csv`.
    ///
    /// # Errors
    ///
    /// [`Error::Io`] when a file cannot be written.
    pub fn write_tables(&self, records: &[Record], failed: &[FailedCell]) -> Result<()> {
        let columns = ["study", "cell", "method", "setting", "seed", "task", "step", "metric", "value"];
        write_csv(&self.path("records.csv"), &columns, records)?;
        write_csv(&self.path("failed.csv"), &["cell", "kind", "seed", "config", "error"], failed)
    }
}

fn write_csv<R: Serialize>(path: &Path, columns: &[&str], rows: &[R]) -> Result<()> {
    write_atomic(path, |file| {
        let mut writer = csv::WriterBuilder::new().has_headers(false).from_writer(file);
        writer.write_record(columns)?; // Also where there are no rows.
        rows.iter().try_for_each(|row| writer.serialize(row))?;
        writer.flush()
    })
}

/// Locks `path`, waiting for `patience`; `None` when someone else keeps it.
fn lock(path: &Path, patience: Duration) -> Result<Option<Lock>> {
    let file = File::options().create(true).truncate(false).write(true).open(path);
    let file = file.map_err(|e| Error::io("create", path, e))?;
    let start = Instant::now();
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(Some(Lock { _file: file })),
            Err(TryLockError::WouldBlock) if start.elapsed() < patience => {
                std::thread::sleep(Duration::from_millis(20));
            }
            Err(TryLockError::WouldBlock) => return Ok(None),
            Err(TryLockError::Error(e)) => return Err(Error::io("lock", path, e)),
        }
    }
}

/// Hashes of what makes a finished cell: its configuration, its records, its artifacts.
fn checksums(dir: &Path) -> Result<BTreeMap<String, String>> {
    let mut files = BTreeMap::new();
    for name in ["cell.json", "records.jsonl"] {
        files.insert(name.to_owned(), checkpoint::hash_file(&dir.join(name))?);
    }
    let artifacts = dir.join("artifacts");
    if artifacts.exists() {
        for entry in fs::read_dir(&artifacts).map_err(|e| Error::io("read", &artifacts, e))? {
            let entry = entry.map_err(|e| Error::io("read", &artifacts, e))?;
            let name = entry.file_name().to_string_lossy().into_owned();
            if !name.starts_with(".tmp-") {
                files.insert(format!("artifacts/{name}"), checkpoint::hash_file(&entry.path())?);
            }
        }
    }
    Ok(files)
}

/// Makes a directory and its parents.
///
/// # Errors
///
/// [`Error::Io`] naming it.
pub(super) fn create_dir(dir: &Path) -> Result<()> {
    fs::create_dir_all(dir).map_err(|e| Error::io("create", dir, e))
}

/// Removes a directory and all in it; one that is not there is fine.
///
/// # Errors
///
/// [`Error::Io`] naming it.
pub(super) fn remove_tree(dir: &Path) -> Result<()> {
    match fs::remove_dir_all(dir) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(Error::io("remove", dir, e)),
        _ => Ok(()),
    }
}
