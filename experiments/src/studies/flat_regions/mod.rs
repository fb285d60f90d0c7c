//! Flat regions for each task: Phan et al., *Improving Multi-task Learning via Seeking Task-based Flat Regions*, arXiv
//! 2211.13723, on pairs of overlaid images.
//!
//! Every balancer is trained plainly, plainly for twice the epochs (as many backward passes as flat-region training makes),
//! with plain SAM, and with flat-region training in its decomposed and its direct form. The radius of each is chosen on a
//! validation part of the training images with a seed of its own (`studies/flat-regions-tuning.toml`); the test images are
//! only reported on.
mod cell;
mod report;

use crate::runner::{Cell, CellContext, Claim, Report, Study};
use mtl_bench::Results;
use mtl_core::{Error, Record, data::idx};
use std::path::{Path, PathBuf};

/// The study.
pub(super) struct FlatRegions;

impl Study for FlatRegions {
    fn name(&self) -> &'static str {
        "flat-regions"
    }

    fn about(&self) -> &'static str {
        "F-MTL: flat regions for each task, on overlaid pairs of digits; against plain balancers and SAM."
    }

    fn revision(&self) -> u32 {
        2
    }

    fn grid(&self) -> &'static str {
        include_str!("../../../studies/flat-regions.toml")
    }

    fn validate(&self, cell: &Cell) -> anyhow::Result<()> {
        match cell.kind() {
            "train" | "tune" => cell::Keys::of(cell).map(drop),
            other => Err(Error::unknown("kind", other, ["train", "tune"]).into()),
        }
    }

    fn run(&self, cell: &Cell, ctx: &mut CellContext) -> anyhow::Result<()> {
        mtl_core::set_threads(ctx.threads())?;
        mtl_core::isolate(|| Ok(cell::run(cell, ctx)))?
    }

    fn claims(&self, results: &Results) -> anyhow::Result<Vec<Claim>> {
        report::claims(results)
    }

    fn report(&self, records: &[Record], report: &mut Report) -> anyhow::Result<String> {
        report::write(records, report)
    }

    fn data_files(&self, dir: &Path) -> anyhow::Result<Vec<PathBuf>> {
        // Read once here, so that a damaged file is one error before any work and not one in every cell.
        idx::load_idx_folder(dir)?;
        Ok(idx::folder_files(dir)?.into())
    }
}
