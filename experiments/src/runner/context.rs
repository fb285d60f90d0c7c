//! What a study sees of the runner while one of its cells runs.
use super::{Cell, checkpoint};
use mtl_core::{Error, Record, Result};
use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

/// The surroundings of a running cell: records, artifacts, checkpoints, the wish to stop.
pub struct CellContext {
    study: String,
    cell: String,
    seed: u64,
    dir: PathBuf,
    needs: BTreeMap<String, PathBuf>,
    data: Option<PathBuf>,
    threads: usize,
    stop: Arc<AtomicBool>,
    records: Vec<Record>,
    progress: Box<dyn FnMut(u64, u64)>,
}

impl std::fmt::Debug for CellContext {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CellContext")
            .field("cell", &self.cell)
            .field("dir", &self.dir)
            .finish_non_exhaustive()
    }
}

/// What a context is made of besides the cell.
pub(super) struct Surroundings<'a> {
    pub(super) study: &'a str,
    /// Directory of all cells.
    pub(super) cells: &'a Path,
    pub(super) data: Option<&'a Path>,
    pub(super) threads: usize,
    pub(super) stop: Arc<AtomicBool>,
    pub(super) progress: Box<dyn FnMut(u64, u64)>,
}

impl CellContext {
    pub(super) fn new(cell: &Cell, around: Surroundings<'_>) -> Self {
        let artifacts = |id: &String| around.cells.join(id).join("artifacts");
        Self {
            study: around.study.to_owned(),
            cell: cell.id().to_owned(),
            seed: cell.seed().0,
            dir: around.cells.join(cell.id()),
            needs: cell.needs().iter().map(|(name, id)| (name.clone(), artifacts(id))).collect(),
            data: around.data.map(Path::to_owned),
            threads: around.threads,
            stop: around.stop,
            records: Vec::new(),
            progress: around.progress,
        }
    }

    /// Keeps a record; study, cell and seed are filled in.
    ///
    /// Records must not depend on the clock or the machine: they are the same bits on every run.
    ///
    /// # Errors
    ///
    /// [`Error::Config`] when the value is NaN or infinite.
    pub fn record(&mut self, mut record: Record) -> Result<()> {
        record.check()?;
        record.study.clone_from(&self.study);
        record.cell.clone_from(&self.cell);
        record.seed = self.seed;
        self.records.push(record);
        Ok(())
    }

    /// Directory with the artifacts of the prerequisite called `name` in the grid.
    ///
    /// # Errors
    ///
    /// [`Error::Unknown`] when the cell's `needs` do not list it.
    pub fn need(&self, name: &str) -> Result<PathBuf> {
        let known = || self.needs.keys().map(String::as_str);
        self.needs.get(name).cloned().ok_or_else(|| Error::unknown("prerequisite", name, known()))
    }

    /// Path at which to write the artifact `name`, a plain file name, for cells that need this one.
    ///
    /// # Errors
    ///
    /// [`Error::Config`] for a name with a path in it, [`Error::Io`] when the directory cannot be made.
    pub fn artifact(&self, name: &str) -> Result<PathBuf> {
        if name.is_empty() || name.starts_with('.') || name.contains(['/', '\\', '\0']) {
            return Err(Error::config("artifact", "a plain file name", name));
        }
        let dir = self.dir.join("artifacts");
        fs::create_dir_all(&dir).map_err(|e| Error::io("create", &dir, e))?;
        Ok(dir.join(name))
    }

    /// State file of the newest undamaged checkpoint; the records made before it are restored.
    ///
    /// Call it once, before any record is made. A damaged last checkpoint falls back to the one before it.
    ///
    /// # Errors
    ///
    /// [`Error::Io`] when a file cannot be read.
    pub fn load_checkpoint(&mut self) -> Result<Option<PathBuf>> {
        Ok(checkpoint::load(&self.dir)?.map(|(path, records)| {
            self.records = records;
            path
        }))
    }

    /// Commits the state that `write` writes, together with the records so far; two generations are kept.
    ///
    /// The state must tell how far the run is, such as by its step.
    ///
    /// # Errors
    ///
    /// [`Error::Io`] when a file cannot be written; earlier checkpoints are untouched.
    pub fn save_checkpoint(
        &mut self,
        write: &mut dyn FnMut(&mut dyn io::Write) -> io::Result<()>,
    ) -> Result<()> {
        checkpoint::save(&self.dir, &self.records, write)
    }

    /// Like [`CellContext::save_checkpoint`], for writers that want a path, such as those of parameter files.
    ///
    /// # Errors
    ///
    /// What `write` returns, or [`Error::Io`]; earlier checkpoints are untouched.
    pub fn save_checkpoint_file<E: From<Error>>(
        &mut self,
        write: impl FnOnce(&Path) -> Result<(), E>,
    ) -> Result<(), E> {
        checkpoint::save_file(&self.dir, &self.records, write)
    }

    /// Whether the user asked to stop: finish the step, save a checkpoint, return [`Error::Interrupted`].
    pub fn stop_requested(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    /// Leaves the cell when the user asked to stop; call it right after saving a checkpoint.
    ///
    /// # Errors
    ///
    /// [`Error::Interrupted`] when a stop was asked for.
    pub fn check_stop(&self) -> Result<()> {
        if self.stop_requested() { Err(Error::Interrupted) } else { Ok(()) }
    }

    /// The flag behind [`CellContext::stop_requested`], for training loops that poll one themselves.
    pub fn stop_flag(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.stop)
    }

    /// Tells how far the cell is, in any unit.
    pub fn progress(&mut self, done: u64, total: u64) {
        (self.progress)(done, total);
    }

    /// Folder given with `--data`.
    pub fn data_dir(&self) -> Option<&Path> {
        self.data.as_deref()
    }

    /// Threads the cell may compute with.
    pub fn threads(&self) -> usize {
        self.threads
    }

    pub(super) fn into_records(self) -> Vec<Record> {
        self.records
    }
}
