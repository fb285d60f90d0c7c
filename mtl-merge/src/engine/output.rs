//! Where merged tensors go: one file, or a folder of shards that appears when it is complete.
use super::{
    MergeReport, Progress,
    plan::{Plan, Planned},
    run,
};
use crate::{Recipe, Result};
use mtl_core::params::{ParamScatter, ParamSpec, file_order};
use std::{collections::BTreeMap, ops::Range, path::Path};

/// What to write where.
pub(crate) struct Target<'t> {
    pub(crate) out: &'t Path,
    pub(crate) shard_bytes: u64,
    pub(crate) overwrite: bool,
}

/// Merges into the target.
pub(crate) fn write(
    plan: &Plan<'_>,
    _recipe: &Recipe,
    target: &Target<'_>,
    progress: &Progress,
    report: &mut MergeReport,
) -> Result<()> {
    let survey = run::survey(plan)?;
    progress.begin(0, report.bytes_written);
    file(plan, survey.as_ref(), 0..plan.tensors.len(), target.out, progress)?;
    let name = target.out.file_name().map(|name| name.to_string_lossy().into_owned());
    report.files = name.into_iter().collect();
    let _ = (target.shard_bytes, target.overwrite);
    Ok(())
}

/// Merges the tensors `chosen` into one file.
fn file(
    plan: &Plan<'_>,
    survey: Option<&crate::method::Survey>,
    chosen: Range<usize>,
    path: &Path,
    progress: &Progress,
) -> Result<()> {
    let planned = &plan.tensors[chosen.clone()];
    let mut specs: Vec<ParamSpec> =
        planned.iter().map(|t| ParamSpec::new(&t.name, t.dtype, t.shape.as_slice())).collect();
    file_order(&mut specs);
    let at: BTreeMap<&str, usize> = specs.iter().enumerate().map(|(i, s)| (s.name.as_str(), i)).collect();
    let place: Vec<usize> = planned.iter().map(|t: &Planned| at[t.name.as_str()]).collect();
    let metadata = BTreeMap::from([("format".to_owned(), "pt".to_owned())]);
    let writer = ParamScatter::create(path, &specs, &metadata)?;
    let first = chosen.start;
    let sink = |tensor: usize, offset: u64, bytes: &[u8]| {
        Ok(writer.write_at(place[tensor - first], offset, bytes)?)
    };
    run::run(plan, survey, chosen, progress, &sink)?;
    Ok(writer.finish()?)
}
