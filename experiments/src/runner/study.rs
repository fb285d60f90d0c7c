//! What a study must say.
use super::{Cell, CellContext, Claim, Report};
use mtl_bench::Results;
use mtl_core::{Error, Record};
use std::path::{Path, PathBuf};

/// A grid of cells, how to run one, and what to make of the records.
///
/// ```
/// use experiments::runner::{Cell, CellContext, Report, Study};
/// use mtl_core::Record;
/// use serde::Deserialize;
///
/// #[derive(Deserialize)]
/// #[serde(deny_unknown_fields)]
/// struct Keys {
///     power: i32,
/// }
///
/// struct Powers;
///
/// impl Study for Powers {
///     fn name(&self) -> &'static str {
///         "powers"
///     }
///     fn about(&self) -> &'static str {
///         "Two to the power of something."
///     }
///     fn revision(&self) -> u32 {
///         1
///     }
///     fn grid(&self) -> &'static str {
///         "seeds = [0]\n[[grid]]\nkind = 'power'\npower = [1, 2, 3]\n"
///     }
///     fn validate(&self, cell: &Cell) -> anyhow::Result<()> {
///         cell.config::<Keys>()?;
///         Ok(())
///     }
///     fn run(&self, cell: &Cell, context: &mut CellContext) -> anyhow::Result<()> {
///         let keys: Keys = cell.config()?;
///         context.record(Record::new("value", 2_f64.powi(keys.power)))?;
///         Ok(())
///     }
///     fn report(&self, records: &[Record], _report: &mut Report) -> anyhow::Result<String> {
///         Ok(format!("{} values", records.len()))
///     }
/// }
/// assert_eq!(Powers.name(), "powers");
/// ```
pub trait Study: Sync {
    /// Name on the command line and of the result directory: lower-case, hyphenated.
    fn name(&self) -> &'static str;

    /// What it shows, in one line.
    fn about(&self) -> &'static str;

    /// Raised whenever a change of the code changes results; results of another revision are not reused.
    fn revision(&self) -> u32;

    /// The grid as TOML; `--config` replaces it.
    fn grid(&self) -> &'static str;

    /// Refuses a cell whose keys it does not understand; every cell is asked before any of them runs.
    ///
    /// # Errors
    ///
    /// Whatever is wrong with the keys; names in backticks are looked up in the grid file for the line.
    fn validate(&self, cell: &Cell) -> anyhow::Result<()>;

    /// Computes one cell, in a worker process.
    ///
    /// # Errors
    ///
    /// What went wrong, which becomes the cell's row in `failed.csv`; [`Error::Interrupted`] leaves it resumable.
    fn run(&self, cell: &Cell, context: &mut CellContext) -> anyhow::Result<()>;

    /// Writes tables and plots from the records and returns the text to print.
    ///
    /// Called with whatever there is: cells may be missing because they failed or have not run yet.
    ///
    /// # Errors
    ///
    /// What kept the report from being written.
    fn report(&self, records: &[Record], report: &mut Report) -> anyhow::Result<String>;

    /// What papers claim and what the records say about it; `verify` and the report show it.
    ///
    /// Called with whatever there is, also with nothing at all: a claim without records is not testable, and no error.
    ///
    /// # Errors
    ///
    /// Records that contradict each other.
    fn claims(&self, _results: &Results) -> anyhow::Result<Vec<Claim>> {
        Ok(Vec::new())
    }

    /// The files it reads from the folder given with `--data`; their content is part of every cell's identity.
    ///
    /// # Errors
    ///
    /// A missing file; by default, that the study takes no folder.
    fn data_files(&self, dir: &Path) -> anyhow::Result<Vec<PathBuf>> {
        let must = format!("left out, because the study `{}` brings its own data", self.name());
        Err(Error::config("--data", must, dir.display()).into())
    }

    /// Left out of `list` unless `--all` is given.
    fn hidden(&self) -> bool {
        false
    }
}
