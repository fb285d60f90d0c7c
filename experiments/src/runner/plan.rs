//! A plan: what was asked for, resolved to cells and written to the manifest before any work.
use super::{
    Cell, FailedCell, Grid, Machine, Overrides, Scope, State, Store, Study, checkpoint, source::Source,
};
use mtl_core::{Error, Result, files::write_atomic};
use serde::{Deserialize, Serialize};
use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
    path::PathBuf,
};

/// First field of a manifest; tells our run directories from others.
const FORMAT: &str = "mtl experiments, run directory 1";

/// What the user asked for; enough to ask for it again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Request {
    /// Name of the grid in messages: its path, or `built-in <study>.toml`.
    pub grid_name: String,
    /// The grid as TOML.
    pub grid: String,
    /// Changes made on the command line.
    pub overrides: Overrides,
    /// Threads each cell computes with.
    pub threads: usize,
    /// Folder given with `--data`, absolute.
    pub data: Option<PathBuf>,
}

impl Request {
    /// The study's own grid, on one thread a cell.
    pub fn new(study: &dyn Study) -> Self {
        Self {
            grid_name: format!("built-in {}.toml", study.name()),
            grid: study.grid().to_owned(),
            overrides: Overrides::default(),
            threads: 1,
            data: None,
        }
    }
}

/// The user's data files.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DataSource {
    /// blake3 of each file, by name.
    pub files: BTreeMap<String, String>,
}

/// What `manifest.json` holds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    format: String,
    /// Name of the study.
    pub study: String,
    /// Package version and revision of the study.
    pub code: String,
    /// What was asked for.
    pub request: Request,
    /// Hashes of the user's data.
    pub data: DataSource,
    /// Machine of the last run.
    pub machine: Machine,
    /// All cells, prerequisites first.
    pub cells: Vec<Cell>,
}

impl Manifest {
    /// Reads the manifest of a run directory; `None` when there is none.
    ///
    /// # Errors
    ///
    /// [`Error::Format`] when it is not one of ours, [`Error::Io`] when it cannot be read.
    pub fn read(store: &Store) -> Result<Option<Self>> {
        let path = store.path("manifest.json");
        let text = match fs::read(&path) {
            Ok(text) => text,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(Error::io("read", path, e)),
        };
        let manifest: Self = serde_json::from_slice(&text)
            .map_err(|e| Error::format(&path, format!("is damaged or no manifest of a run: {e}")))?;
        if manifest.format != FORMAT {
            return Err(Error::format(
                path,
                format!("has format `{}`, expected `{FORMAT}`", manifest.format),
            ));
        }
        Ok(Some(manifest))
    }
}

/// A study resolved to cells, in a run directory.
pub struct Plan {
    /// The study.
    pub study: &'static dyn Study,
    /// Its run directory.
    pub store: Store,
    /// What was asked for and what it resolves to.
    pub manifest: Manifest,
}

impl std::fmt::Debug for Plan {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Plan")
            .field("study", &self.study.name())
            .field("store", &self.store)
            .finish_non_exhaustive()
    }
}

impl Plan {
    /// Resolves `request` and has the study validate every cell. Nothing is written.
    ///
    /// # Errors
    ///
    /// Whatever is wrong with the grid, the overrides, the data folder or the keys of a cell.
    pub fn new(study: &'static dyn Study, store: Store, request: Request) -> anyhow::Result<Self> {
        if request.threads == 0 {
            return Err(Error::config("--threads", "at least 1", 0).into());
        }
        let data = hash_data(study, &request)?;
        let scope = Scope {
            study: study.name().to_owned(),
            code: code(study),
            data: data.files.iter().map(|(name, hash)| format!("{name}:{hash};")).collect(),
            threads: request.threads,
        };
        let cells = Grid::parse(&request.grid_name, &request.grid, &request.overrides)?.cells(&scope)?;
        for cell in &cells {
            study.validate(cell).map_err(|e| Source::locate(&request.grid_name, cell, &e))?;
        }
        let manifest = Manifest {
            format: FORMAT.to_owned(),
            study: scope.study,
            code: scope.code,
            request,
            data,
            machine: Machine::this(),
            cells,
        };
        Ok(Self { study, store, manifest })
    }

    /// The cells, prerequisites before those that need them, otherwise in the order of the grid.
    pub fn cells(&self) -> &[Cell] {
        &self.manifest.cells
    }

    /// The version that a run made now would have.
    pub fn code_now(&self) -> String {
        code(self.study)
    }

    /// Writes the manifest.
    ///
    /// # Errors
    ///
    /// [`Error::Io`] when it cannot be written, [`Error::Format`] when a path in it is not UTF-8.
    pub fn write_manifest(&self) -> Result<()> {
        let path = self.store.path("manifest.json");
        let text =
            serde_json::to_string_pretty(&self.manifest).map_err(|e| Error::format(&path, e.to_string()))?;
        write_atomic(&path, |file| writeln!(file, "{text}"))
    }

    /// State of every cell on disk, checksums verified.
    ///
    /// # Errors
    ///
    /// [`Error::Io`] when a file is there but cannot be read.
    pub fn states(&self) -> Result<Vec<State>> {
        self.cells().iter().map(|cell| self.store.state(cell)).collect()
    }

    /// The row of a failed cell.
    pub fn failed_cell(&self, cell: &Cell, error: String) -> FailedCell {
        let config = serde_json::Value::Object(cell.keys().clone()).to_string();
        FailedCell {
            cell: cell.id().to_owned(),
            kind: cell.kind().to_owned(),
            seed: cell.seed().0,
            config,
            error,
        }
    }

    /// What a reader of the report should know about the run.
    pub fn facts(&self) -> Vec<(String, String)> {
        let manifest = &self.manifest;
        let seeds: BTreeSet<u64> = manifest.cells.iter().map(|cell| cell.seed().0).collect();
        let seeds: Vec<String> = seeds.iter().map(u64::to_string).collect();
        let data = match &manifest.request.data {
            Some(_) => manifest.data.files.keys().map(String::as_str).collect::<Vec<_>>().join(", "),
            None => "built in".to_owned(),
        };
        let machine = &manifest.machine;
        let fact = |name: &str, value: String| (name.to_owned(), value);
        vec![
            fact("study", manifest.study.clone()),
            fact("version", manifest.code.clone()),
            fact("cells", manifest.cells.len().to_string()),
            fact("seeds", seeds.join(", ")),
            fact("threads per cell", manifest.request.threads.to_string()),
            fact("data", data),
            fact(
                "machine",
                format!("{} {} {}, {} cores", machine.os, machine.arch, machine.cpu, machine.cores),
            ),
        ]
    }
}

/// Version of the code that decides a study's results.
fn code(study: &dyn Study) -> String {
    format!("{}+r{}", env!("CARGO_PKG_VERSION"), study.revision())
}

fn hash_data(study: &dyn Study, request: &Request) -> anyhow::Result<DataSource> {
    let Some(dir) = &request.data else {
        return Ok(DataSource::default());
    };
    if !dir.is_dir() {
        return Err(Error::config("--data", "a folder that exists", dir.display()).into());
    }
    let mut files = BTreeMap::new();
    for path in study.data_files(dir)? {
        let name = path.strip_prefix(dir).unwrap_or(&path).to_string_lossy().into_owned();
        files.insert(name, checkpoint::hash_file(&path)?);
    }
    Ok(DataSource { files })
}
