//! Writing a folder: shard after shard, each one kept for a later run should this one be interrupted.
use super::{Target, fingerprint::fingerprint, merge, shards, shards::Shard, site::Site, unchanged};
use crate::{
    Error, Recipe, Result, checkpoint,
    engine::{MergeReport, Progress, plan::Plan, run},
};
use std::thread::{ScopedJoinHandle, scope};

/// Merges into a folder, which appears when it is complete.
pub(super) fn write(
    plan: &Plan<'_>,
    recipe: &Recipe,
    target: &Target<'_>,
    progress: &Progress,
    report: &mut MergeReport,
) -> Result<()> {
    let shards = Shard::split(plan, target.shard_bytes);
    let site = Site::claim(target.out, target.overwrite)?;
    match fill(plan, recipe, target, &shards, &site, progress, report) {
        Ok(()) => site.publish(),
        Err(error) => {
            let finished = || shards.iter().any(|shard| site.dir().join(&shard.name).exists());
            // A later run can go on where this one was stopped, or where the disk was full.
            let resumable = matches!(error, Error::Interrupted | Error::Core(mtl_core::Error::Io { .. }));
            if !(resumable && finished()) {
                site.abandon();
            }
            Err(error)
        }
    }
}

fn fill(
    plan: &Plan<'_>,
    recipe: &Recipe,
    target: &Target<'_>,
    shards: &[Shard],
    site: &Site,
    progress: &Progress,
    report: &mut MergeReport,
) -> Result<()> {
    let dir = site.dir();
    let own = |name: &str| shards.iter().any(|shard| shard.name == name && shard.is_in(&dir));
    site.prepare(&fingerprint(plan, recipe, target, shards), own)?;
    let (kept, due): (Vec<&Shard>, Vec<&Shard>) =
        shards.iter().partition(|shard| dir.join(&shard.name).exists());
    progress.begin(kept.iter().map(|shard| shard.bytes).sum(), report.bytes_written);
    let survey = if due.is_empty() { None } else { run::survey(plan)? };
    // While a shard goes to the disk the next one is computed; no more than these two are under way.
    scope(|threads| {
        let mut writing: Option<Finishing<'_>> = None;
        for shard in due {
            unchanged(plan)?;
            let writer = merge(plan, survey.as_ref(), shard, &dir.join(&shard.name), progress)?;
            finish(writing.take())?;
            writing = Some(threads.spawn(move || writer.finish()));
        }
        finish(writing)
    })?;
    unchanged(plan)?;
    shards::write_index(shards, &dir)?;
    checkpoint::write(plan, recipe, target.extras, &site.title(), &dir)?;
    report.files = shards.iter().map(|shard| shard.name.clone()).collect();
    report.resumed = kept.len();
    Ok(())
}

/// A shard on its way to the disk.
type Finishing<'s> = ScopedJoinHandle<'s, mtl_core::Result<()>>;

fn finish(writing: Option<Finishing<'_>>) -> Result<()> {
    match writing.map(ScopedJoinHandle::join) {
        None => Ok(()),
        Some(Ok(finished)) => Ok(finished?),
        Some(Err(panic)) => std::panic::resume_unwind(panic),
    }
}
