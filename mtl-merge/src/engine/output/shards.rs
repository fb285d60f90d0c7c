//! How the tensors of the output are spread over files.
use super::super::plan::Plan;
use mtl_core::{
    files::write_atomic,
    params::{ParamFile, ParamSpec, file_order},
};
use serde_json::json;
use std::{collections::BTreeMap, ops::Range, path::Path};

/// Name of the index.
pub(super) const INDEX: &str = "model.safetensors.index.json";

/// One file of tensors.
#[derive(Debug)]
pub(super) struct Shard {
    pub(super) name: String,
    /// Positions in the plan.
    pub(super) tensors: Range<usize>,
    /// In the order of the file.
    pub(super) specs: Vec<ParamSpec>,
    /// For each tensor its position in `specs`.
    pub(super) places: Vec<usize>,
    /// Bytes of the tensors.
    pub(super) bytes: u64,
}

/// Free-form part of the header; loaders of PyTorch models look for it.
pub(super) fn metadata() -> BTreeMap<String, String> {
    BTreeMap::from([("format".to_owned(), "pt".to_owned())])
}

impl Shard {
    pub(super) fn new(plan: &Plan<'_>, name: String, tensors: Range<usize>) -> Self {
        let planned = &plan.tensors[tensors.clone()];
        let mut specs: Vec<ParamSpec> =
            planned.iter().map(|t| ParamSpec::new(&t.name, t.dtype, t.shape.as_slice())).collect();
        file_order(&mut specs);
        let at: BTreeMap<&str, usize> =
            specs.iter().enumerate().map(|(i, spec)| (spec.name.as_str(), i)).collect();
        let places = planned.iter().map(|t| at[t.name.as_str()]).collect();
        let bytes = planned.iter().map(|t| (t.numel * t.dtype.size()) as u64).sum();
        Self { name, tensors, specs, places, bytes }
    }

    /// Closes a shard when the next tensor would take it beyond `limit` bytes; 0 is no limit.
    pub(super) fn split(plan: &Plan<'_>, limit: u64) -> Vec<Self> {
        let sizes = plan.tensors.iter().map(|t| (t.numel * t.dtype.size()) as u64);
        let ranges = cut(sizes, limit);
        let n = ranges.len();
        let name = |i: usize| match n {
            1 => "model.safetensors".to_owned(),
            _ => format!("model-{:05}-of-{n:05}.safetensors", i + 1),
        };
        ranges.into_iter().enumerate().map(|(i, range)| Self::new(plan, name(i), range)).collect()
    }

    /// Whether the file in `dir` holds this shard, as far as header and length tell.
    pub(super) fn is_in(&self, dir: &Path) -> bool {
        let Ok(file) = ParamFile::open(dir.join(&self.name)) else { return false };
        let same = |spec: &ParamSpec| {
            file.info(&spec.name).is_some_and(|info| info.dtype == spec.dtype && info.shape == spec.shape)
        };
        *file.metadata() == metadata() && file.len() == self.specs.len() && self.specs.iter().all(same)
    }
}

/// Runs of items whose sizes sum up to at most `limit`, or of a single larger one.
fn cut(sizes: impl Iterator<Item = u64>, limit: u64) -> Vec<Range<usize>> {
    let mut ranges = Vec::new();
    let (mut start, mut end, mut sum) = (0, 0, 0_u64);
    for size in sizes {
        if limit > 0 && end > start && sum.saturating_add(size) > limit {
            ranges.push(start..end);
            (start, sum) = (end, 0);
        }
        sum = sum.saturating_add(size);
        end += 1;
    }
    ranges.push(start..end);
    ranges
}

/// Writes the index of several shards into `dir`; one shard needs none.
///
/// # Errors
///
/// As [`write_atomic`].
pub(super) fn write_index(shards: &[Shard], dir: &Path) -> mtl_core::Result<()> {
    if shards.len() < 2 {
        return Ok(());
    }
    let total: u64 = shards.iter().map(|shard| shard.bytes).sum();
    let homes = shards.iter().flat_map(|shard| shard.specs.iter().map(move |spec| (&spec.name, &shard.name)));
    let map: BTreeMap<&String, &String> = homes.collect();
    let index = json!({ "metadata": { "total_size": total }, "weight_map": map });
    write_atomic(&dir.join(INDEX), |out| {
        serde_json::to_writer_pretty(&mut *out, &index)?;
        out.write_all(b"\n")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shard_is_closed_when_the_next_tensor_would_exceed_it() {
        let cut = |sizes: &[u64], limit| cut(sizes.iter().copied(), limit);
        assert_eq!(cut(&[4, 4, 4], 8), [0..2, 2..3]);
        assert_eq!(cut(&[9, 1, 9, 0, 1], 8), [0..1, 1..2, 2..3, 3..5]);
        assert_eq!(cut(&[4, 4, 4], 0), vec![0..3; 1]);
        assert_eq!(cut(&[u64::MAX, u64::MAX], u64::MAX - 1), [0..1, 1..2]);
        assert_eq!(cut(&[], 8), vec![0..0; 1]);
    }
}
