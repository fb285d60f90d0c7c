//! Where a study puts its tables and plots.
use super::{Claim, FailedCell, Ledger, Store, store::create_dir};
use mtl_bench::Section;
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
    claims: Vec<Claim>,
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
        Ok(Self { dir, failed, facts, claims: Vec::new() })
    }

    /// Adds what the records say about the study's claims.
    #[must_use]
    pub fn with_claims(mut self, claims: Vec<Claim>) -> Self {
        self.claims = claims;
        self
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

    /// The study's claims with their verdicts.
    pub fn claims(&self) -> &[Claim] {
        &self.claims
    }

    /// A page that begins with the claims and the cells that failed and ends with the facts; the study adds its sections and
    /// saves it as `report.html`.
    ///
    /// # Errors
    ///
    /// [`mtl_bench::Error`] when the table of claims cannot be made.
    pub fn page(&self, title: impl Into<String>) -> mtl_bench::Result<mtl_bench::Report> {
        let mut page = mtl_bench::Report::new(title);
        if !self.claims.is_empty() {
            page = page.section(Ledger::of_claims(&self.claims).section()?);
        }
        if !self.failed.is_empty() {
            let rows = self.failed.iter();
            let rows = rows.map(|cell| format!("{} (seed {}): {}", cell.kind, cell.seed, cell.error));
            page = page.section(Section::new("Cells that failed").list(rows));
        }
        Ok(self.facts.iter().fold(page, |page, (name, value)| page.manifest(name, value)))
    }

    /// What to open: the page if the study wrote one, otherwise the directory.
    pub fn entry(&self) -> PathBuf {
        let page = self.path("report.html");
        if page.exists() { page } else { self.dir.clone() }
    }
}
