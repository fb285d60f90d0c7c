//! Balancers and architectures for joint training, each against one model per task: on synthetic tasks whose conflict and
//! scale are chosen, on pairs of overlaid digits, and on attributes of digits.
mod architectures;
mod claims;
mod report;
mod run;

use crate::runner::{Cell, CellContext, Claim, Report, Study};
use mtl_bench::Results;
use mtl_core::{Error, Record, data::idx};
use std::path::{Path, PathBuf};

/// The study.
pub(super) struct Balancing;

impl Study for Balancing {
    fn name(&self) -> &'static str {
        "balancing"
    }

    fn about(&self) -> &'static str {
        "Balancers and architectures of joint training, on tasks with and without conflict."
    }

    fn revision(&self) -> u32 {
        2
    }

    fn grid(&self) -> &'static str {
        include_str!("../../../studies/balancing.toml")
    }

    fn validate(&self, cell: &Cell) -> anyhow::Result<()> {
        match cell.kind() {
            "train" => run::Keys::of(cell).map(drop),
            other => Err(Error::unknown("kind", other, ["train"]).into()),
        }
    }

    fn run(&self, cell: &Cell, ctx: &mut CellContext) -> anyhow::Result<()> {
        mtl_core::set_threads(ctx.threads())?;
        mtl_core::isolate(|| Ok(run::run(cell, ctx)))?
    }

    fn report(&self, records: &[Record], report: &mut Report) -> anyhow::Result<String> {
        report::write(records, report)
    }

    fn claims(&self, results: &Results) -> anyhow::Result<Vec<Claim>> {
        claims::all(results)
    }

    fn data_files(&self, dir: &Path) -> anyhow::Result<Vec<PathBuf>> {
        idx::load_idx_folder(dir)?;
        Ok(idx::folder_files(dir)?.into())
    }
}
