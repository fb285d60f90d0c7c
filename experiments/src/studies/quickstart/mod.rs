//! The quickstart: one small study for each family on the same images, in a few minutes.
//!
//! Joint training, mixtures of experts, merging, prompting and continual learning, and the mixture of experts on a modelled
//! FPGA; on the embedded digits, or on a folder of IDX files.
mod continual;
mod hardware;
mod joint;
mod merging;
mod report;
mod setup;
mod transfer;

use crate::runner::{Cell, CellContext, Report, Study};
use mtl_core::{Error, Record, data::idx};
use std::path::{Path, PathBuf};

/// The study.
pub(super) struct Quickstart;

/// The kinds of cells, each in a file of its own.
const KINDS: [&str; 7] = ["joint", "pretrain", "prompt", "finetune", "merge", "continual", "hardware"];

impl Study for Quickstart {
    fn name(&self) -> &'static str {
        "quickstart"
    }

    fn about(&self) -> &'static str {
        "One small study for each family, on embedded digits: tables, plots and a report in a few minutes."
    }

    fn revision(&self) -> u32 {
        5
    }

    fn grid(&self) -> &'static str {
        include_str!("../../../studies/quickstart.toml")
    }

    fn validate(&self, cell: &Cell) -> anyhow::Result<()> {
        match cell.kind() {
            "joint" => joint::Keys::of(cell).map(drop),
            "pretrain" => transfer::PretrainKeys::of(cell).map(drop),
            "prompt" => transfer::PromptKeys::of(cell).map(drop),
            "finetune" => merging::FinetuneKeys::of(cell).map(drop),
            "merge" => merging::MergeKeys::of(cell).map(drop),
            "continual" => continual::Keys::of(cell).map(drop),
            "hardware" => hardware::Keys::of(cell).map(drop),
            other => Err(Error::unknown("kind", other, KINDS).into()),
        }
    }

    fn run(&self, cell: &Cell, ctx: &mut CellContext) -> anyhow::Result<()> {
        mtl_core::set_threads(ctx.threads())?;
        // What libtorch refuses in the middle of a cell becomes that cell's error, in one line.
        mtl_core::isolate(|| Ok(run_kind(cell, ctx)))?
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

/// Runs a cell of a known kind.
fn run_kind(cell: &Cell, ctx: &mut CellContext) -> anyhow::Result<()> {
    match cell.kind() {
        "joint" => joint::run(cell, ctx),
        "pretrain" => transfer::pretrain(cell, ctx),
        "prompt" => transfer::prompt(cell, ctx),
        "finetune" => merging::finetune(cell, ctx),
        "merge" => merging::merge(cell, ctx),
        "continual" => continual::run(cell, ctx),
        _ => hardware::run(cell, ctx),
    }
}
