//! One slimmable network for every preference and budget: what distilling its widest encoder brings, whether a preference
//! controls what it is meant to, and how it compares with networks trained at one width.
//!
//! Aich et al., *Efficient Controllable Multi-Task Architectures*, ICCV 2023, arXiv 2308.11744 (ECMT).
mod claims;
mod performance;
mod report;
mod requests;
mod run;

use crate::runner::{Cell, CellContext, Claim, Report, Study};
use mtl_bench::Results;
use mtl_core::{Record, data::idx};
use std::path::{Path, PathBuf};

/// The study.
pub(super) struct Slimmable;

impl Study for Slimmable {
    fn name(&self) -> &'static str {
        "slimmable"
    }

    fn about(&self) -> &'static str {
        "One slimmable network for every preference and budget, against networks of one width."
    }

    fn revision(&self) -> u32 {
        1
    }

    fn grid(&self) -> &'static str {
        include_str!("../../../studies/slimmable.toml")
    }

    fn validate(&self, cell: &Cell) -> anyhow::Result<()> {
        run::Plan::of(cell).map(drop)
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
