//! Executes a plan: pieces in parallel, results in order, memory bounded.
use super::{
    plan::{Action, Plan, Planned},
    source::Source,
};
use crate::{Error, FloatType, Result, TensorGroup};
use mtl_core::params::convert;
use rayon::prelude::*;
use std::ops::Range;

/// Elements of one piece: the unit of parallel work within divisible tensors.
const PIECE: usize = 1 << 18;
/// Elements a divisible method sees at once: inputs and sums stay in the second-level cache.
const BLOCK: usize = 1 << 12;

/// Receives the bytes of the output in order: tensor number, bytes, whether they are the tensor's last.
pub(crate) type Sink<'s> = dyn FnMut(usize, &[u8], bool) -> Result<()> + Send + 's;

/// A piece of one tensor's output.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Job {
    tensor: usize,
    span: Range<usize>,
    bytes: usize,
    last: bool,
}

/// Runs the plan on the current rayon pool; buffers hold about `budget` bytes.
///
/// While one batch of pieces is computed, the one before is written. What is written does not depend on the number
/// of threads, and neither does the error of a plan that fails: it is the first in the order of the output.
pub(crate) fn run(plan: &Plan<'_>, budget: usize, sink: &mut Sink<'_>) -> Result<()> {
    let jobs = jobs(plan);
    let (mut ready, mut ready_jobs) = (Vec::new(), 0..0);
    let mut spare = Vec::new();
    let mut next = 0;
    while next < jobs.len() || !ready_jobs.is_empty() {
        let batch = next..batch_end(plan, &jobs, next, budget / 2);
        next = batch.end;
        let (computed, written) = rayon::join(
            || compute(plan, &jobs[batch.clone()], &mut spare),
            || write(&jobs[ready_jobs.clone()], &ready, &mut *sink),
        );
        written?;
        computed?;
        std::mem::swap(&mut ready, &mut spare);
        ready_jobs = batch;
    }
    Ok(())
}

fn jobs(plan: &Plan<'_>) -> Vec<Job> {
    let mut jobs = Vec::new();
    for (tensor, planned) in plan.tensors.iter().enumerate() {
        let step = if plan.divisible() { PIECE } else { planned.numel.max(1) };
        let mut start = 0;
        loop {
            let end = (start + step).min(planned.numel);
            let bytes = (end - start) * planned.dtype.size();
            jobs.push(Job { tensor, span: start..end, bytes, last: end == planned.numel });
            start = end;
            if start == planned.numel {
                break; // Empty tensors have one empty job, so that the sink hears of them.
            }
        }
    }
    jobs
}

/// End of the batch that starts at `start`: as many jobs as fit, and at least one.
fn batch_end(plan: &Plan<'_>, jobs: &[Job], start: usize, budget: usize) -> usize {
    let mut used = 0;
    for (i, job) in jobs.iter().enumerate().skip(start) {
        // A method that needs whole tensors may need all of its inputs converted.
        let scratch = if plan.divisible() { 0 } else { (plan.sources.len() + 1) * job.span.len() * 4 };
        used += job.bytes + scratch;
        if used > budget && i > start {
            return i;
        }
    }
    jobs.len()
}

/// Fills one buffer per job; buffers keep their capacity from batch to batch.
fn compute(plan: &Plan<'_>, jobs: &[Job], buffers: &mut Vec<Vec<u8>>) -> Result<()> {
    buffers.resize_with(jobs.len(), Vec::new);
    let work = jobs.par_iter().zip(buffers.par_iter_mut());
    let results: Vec<Result<()>> = work
        .map_init(Scratch::default, |scratch, (job, out)| {
            out.clear();
            out.reserve_exact(job.bytes);
            piece(plan, job, out, scratch)
        })
        .collect();
    results.into_iter().collect()
}

fn write(jobs: &[Job], buffers: &[Vec<u8>], sink: &mut Sink<'_>) -> Result<()> {
    jobs.iter().zip(buffers).try_for_each(|(job, bytes)| sink(job.tensor, bytes, job.last))
}

/// Buffers of one worker, kept from piece to piece.
#[derive(Debug, Default)]
struct Scratch {
    inputs: Vec<Vec<f32>>,
    merged: Vec<f32>,
}

fn piece(plan: &Plan<'_>, job: &Job, out: &mut Vec<u8>, scratch: &mut Scratch) -> Result<()> {
    let tensor = &plan.tensors[job.tensor];
    let Action::Merge(float) = tensor.action else { return copy(plan, tensor, job, out) };
    let block = if plan.divisible() { BLOCK } else { job.span.len().max(1) };
    for start in job.span.clone().step_by(block) {
        let span = start..(start + block).min(job.span.end);
        merge_block(plan, tensor, span, scratch)?;
        check_range(tensor, float, start, &scratch.merged)?;
        convert::from_f32(float.dtype(), &scratch.merged, out)?;
    }
    Ok(())
}

/// Merges elements `span` of a tensor into `scratch.merged`.
fn merge_block(plan: &Plan<'_>, tensor: &Planned, span: Range<usize>, scratch: &mut Scratch) -> Result<()> {
    scratch.inputs.resize_with(plan.sources.len(), Vec::new);
    scratch.merged.resize(span.len(), 0.0);
    let mut inputs = Vec::with_capacity(plan.sources.len());
    for ((source, &place), scratch) in plan.sources.iter().zip(&tensor.places).zip(&mut scratch.inputs) {
        let values = source.read(place, span.clone(), scratch)?;
        if largest_bits(values) >= INFINITE {
            return Err(non_finite(*source, place)?);
        }
        inputs.push(values);
    }
    let (base, models) = match inputs.split_first() {
        Some((base, models)) if plan.has_base => (Some(*base), models),
        _ => (None, inputs.as_slice()),
    };
    let group = TensorGroup {
        name: &tensor.name,
        shape: &tensor.shape,
        start: span.start,
        base,
        models,
        seed: plan.seed,
    };
    plan.method.merge(&group, &plan.params, &mut scratch.merged)
}

fn copy(plan: &Plan<'_>, tensor: &Planned, job: &Job, out: &mut Vec<u8>) -> Result<()> {
    let size = tensor.dtype.size();
    let mut first: Option<(&[u8], String)> = None;
    for (source, &place) in plan.sources.iter().zip(&tensor.places) {
        let bytes = &source.bytes(place)?[job.span.start * size..job.span.end * size];
        match &first {
            None => {
                out.extend_from_slice(bytes);
                first = Some((bytes, source.place(place)));
            }
            Some((expected, first)) if *expected != bytes => {
                return Err(Error::NotMergeable {
                    tensor: tensor.name.clone(),
                    dtype: tensor.dtype.to_string(),
                    first: first.clone(),
                    second: source.place(place),
                });
            }
            Some(_) => {}
        }
    }
    Ok(())
}

/// Bits of the smallest `f32` that is not finite, the sign aside.
const INFINITE: u32 = 0x7f80_0000;

/// The largest magnitude as bits; infinities and NaNs are at or above [`INFINITE`].
pub(crate) fn largest_bits(values: &[f32]) -> u32 {
    values.iter().fold(0, |largest, x| largest.max(x.to_bits() & 0x7fff_ffff))
}

/// The error for a tensor known to hold a NaN or an infinity; counts them all.
pub(crate) fn non_finite(source: &dyn Source, place: usize) -> Result<Error> {
    let meta = &source.tensors()[place];
    let (mut count, mut first) = (0, None);
    let mut scratch = Vec::new();
    for start in (0..meta.numel()).step_by(BLOCK) {
        let span = start..(start + BLOCK).min(meta.numel());
        for (i, x) in source.read(place, span, &mut scratch)?.iter().enumerate() {
            if !x.is_finite() {
                count += 1;
                first.get_or_insert(start + i);
            }
        }
    }
    Ok(Error::NonFinite {
        tensor: meta.name.clone(),
        file: source.place(place),
        index: first.unwrap_or_default(),
        count,
    })
}

/// Refuses values that `float` would round to infinity.
fn check_range(tensor: &Planned, float: FloatType, start: usize, merged: &[f32]) -> Result<()> {
    let (limit, dtype) = match float {
        FloatType::F32 => (INFINITE, "float32"),
        FloatType::F16 => (65520_f32.to_bits(), "float16"),
        FloatType::Bf16 => (0x7f7f_8000, "bfloat16"), // Halfway between the largest value and infinity.
    };
    if largest_bits(merged) < limit {
        return Ok(());
    }
    let index = merged.iter().position(|x| x.to_bits() & 0x7fff_ffff >= limit).unwrap_or_default();
    Err(Error::Overflow { tensor: tensor.name.clone(), dtype, index: start + index })
}
