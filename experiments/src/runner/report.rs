//! Where a study puts its tables and plots.
use super::{FailedCell, Store, store::create_dir};
use mtl_core::{
    Error, Result,
    files::{sweep, write_atomic},
};
use std::{
    io::{self, Write},
    path::{Path, PathBuf},
};

/// The report directory of a run, and the facts that belong on its pages.
#[derive(Debug)]
pub struct Report {
    dir: PathBuf,
    failed: Vec<FailedCell>,
    facts: Vec<(String, String)>,
}

impl Report {
    /// The directory `report/` of a run, made if need be.
    ///
    /// # Errors
    ///
    /// [`Error::Io`] when it cannot be made.
    pub fn new(store: &Store, failed: Vec<FailedCell>, facts: Vec<(String, String)>) -> Result<Self> {
        let dir = store.path("report");
        create_dir(&dir)?;
        sweep(&dir)?;
        Ok(Self { dir, failed, facts })
    }

    /// The directory.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Path of a file in it.
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// Writes a file atomically; the page to open first is called `report.html`.
    ///
    /// # Errors
    ///
    /// [`Error::Config`] for a name with a path in it, [`Error::Io`] when the file cannot be written.
    pub fn write(&self, name: &str, write: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> Result<PathBuf> {
        if name.is_empty() || name.contains(['/', '\\', '\0']) {
            return Err(Error::config("name", "a plain file name", name));
        }
        let path = self.path(name);
        write_atomic(&path, write)?;
        Ok(path)
    }

    /// Cells that failed; a report says so.
    pub fn failed(&self) -> &[FailedCell] {
        &self.failed
    }

    /// Facts about the run, such as its seeds, threads and machine, with their names.
    pub fn facts(&self) -> &[(String, String)] {
        &self.facts
    }

    /// What to open: the page if the study wrote one, otherwise the directory.
    pub fn entry(&self) -> PathBuf {
        let page = self.path("report.html");
        if page.exists() { page } else { self.dir.clone() }
    }
}
