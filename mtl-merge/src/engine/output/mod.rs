//! Where merged tensors go: one file, or a folder of shards that appears when it is complete.
mod apart;
mod fingerprint;
mod folder;
mod shards;
mod site;

use super::{MergeReport, Progress, plan::Plan, run};
use crate::{Recipe, Result, checkpoint::Extras, method::Survey};
use mtl_core::params::ParamScatter;
use shards::Shard;
use std::path::Path;

/// What to write where.
#[derive(Debug)]
pub(crate) struct Target<'t> {
    pub(crate) out: &'t Path,
    pub(crate) shard_bytes: u64,
    pub(crate) overwrite: bool,
    pub(crate) extras: &'t Extras,
}

/// Merges into the target.
///
/// # Errors
///
/// [`crate::Error::OutputOverInput`], [`crate::Error::OutputExists`], [`crate::Error::OutputBusy`],
/// [`crate::Error::InputChanged`], and those of [`run::run`] and of writing.
pub(crate) fn write(
    plan: &Plan<'_>,
    recipe: &Recipe,
    target: &Target<'_>,
    progress: &Progress,
    report: &mut MergeReport,
) -> Result<()> {
    apart::check(&plan.opened, target.out)?;
    if target.out.extension().is_some_and(|e| e == "safetensors") {
        return file(plan, target.out, progress, report);
    }
    folder::write(plan, recipe, target, progress, report)
}

/// Merges everything into one file.
fn file(plan: &Plan<'_>, path: &Path, progress: &Progress, report: &mut MergeReport) -> Result<()> {
    progress.begin(0, report.bytes_written);
    let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let shard = Shard::new(plan, name.clone(), 0..plan.tensors.len());
    let survey = run::survey(plan)?;
    let writer = merge(plan, survey.as_ref(), &shard, path, progress)?;
    unchanged(plan)?;
    writer.finish()?;
    report.files = vec![name];
    Ok(())
}

/// Merges the tensors of a shard into a file that is not finished yet.
fn merge(
    plan: &Plan<'_>,
    survey: Option<&Survey>,
    shard: &Shard,
    path: &Path,
    progress: &Progress,
) -> Result<ParamScatter> {
    let writer = ParamScatter::create(path, &shard.specs, &shards::metadata())?;
    let first = shard.tensors.start;
    let sink = |tensor: usize, offset: u64, bytes: &[u8]| {
        Ok(writer.write_at(shard.places[tensor - first], offset, bytes)?)
    };
    run::run(plan, survey, shard.tensors.clone(), progress, &sink)?;
    Ok(writer)
}

/// Refuses to go on with inputs that are not what they were when they were opened.
fn unchanged(plan: &Plan<'_>) -> Result<()> {
    plan.opened.iter().try_for_each(|opened| opened.source.unchanged())
}
