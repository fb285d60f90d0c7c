//! Executes a plan: tensors and blocks in parallel, each result written where it belongs.
use super::source::non_finite;
use super::{
    convert::{from_f64, overflow},
    plan::{Action, Input, Plan, Planned},
};
use crate::{
    Error, FloatType, Piece, Result, Work,
    method::Survey,
    tensor::{BLOCK, PIECE},
};
use rayon::prelude::*;
use std::{
    ops::Range,
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
};

/// Receives bytes of the output from many threads: tensor number, first byte within the tensor, bytes.
pub(crate) type Sink<'s> = dyn Fn(usize, u64, &[u8]) -> Result<()> + Sync + 's;

/// How far a run is, for progress bars; and whether it is to stop.
#[derive(Debug, Default)]
pub struct Progress {
    /// Bytes of output written.
    done: AtomicU64,
    /// Bytes of output in all.
    total: AtomicU64,
    stop: AtomicBool,
}

impl Progress {
    /// Bytes of output written, and in all; (0, 0) before the run begins.
    #[must_use]
    pub fn bytes(&self) -> (u64, u64) {
        (self.done.load(Ordering::Relaxed), self.total.load(Ordering::Relaxed))
    }

    /// Asks the run to stop; it ends with [`Error::Interrupted`].
    pub fn stop(&self) {
        self.stop.store(true, Ordering::Relaxed);
    }

    pub(crate) fn begin(&self, done: u64, total: u64) {
        self.total.store(total, Ordering::Relaxed);
        self.done.store(done, Ordering::Relaxed);
    }

    pub(crate) fn add(&self, bytes: u64) {
        self.done.fetch_add(bytes, Ordering::Relaxed);
    }

    pub(crate) fn check(&self) -> Result<()> {
        if self.stop.load(Ordering::Relaxed) { Err(Error::Interrupted) } else { Ok(()) }
    }
}

/// Bytes that the merge takes besides mapped files, roughly: per thread a block of output and a piece of every input, or
/// the largest tensor with all its versions.
pub(crate) fn memory(plan: &Plan<'_>, threads: usize) -> usize {
    let of = |planned: &Planned| match plan.whole_bytes(planned) {
        0 => {
            let pieces = (Plan::inputs(planned).len() + 1) * 8 * PIECE.min(planned.numel);
            threads * (BLOCK.min(planned.numel) * planned.dtype.size() + pieces)
        }
        whole => whole,
    };
    plan.tensors.iter().map(of).max().unwrap_or(0)
}

/// Refuses a plan whose whole-tensor work exceeds `budget` bytes.
pub(crate) fn check_memory(plan: &Plan<'_>, budget: usize) -> Result<()> {
    let largest = plan.tensors.iter().max_by_key(|t| plan.whole_bytes(t));
    let Some((tensor, needed)) = largest.map(|t| (t, plan.whole_bytes(t))) else { return Ok(()) };
    if needed <= budget {
        return Ok(());
    }
    Err(Error::Memory {
        method: plan.method.spec().info.name.to_owned(),
        tensor: tensor.name.clone(),
        needed_mib: needed.div_ceil(1 << 20),
        limit_mib: budget >> 20,
    })
}

/// Lets the method look over the whole model, if it wants to.
pub(crate) fn survey(plan: &Plan<'_>) -> Result<Option<Survey>> {
    if !plan.method.spec().surveys {
        return Ok(None);
    }
    let merged = plan.tensors.iter().filter_map(|planned| match &planned.action {
        Action::Merge { params, .. } => Some((plan.tensor(planned, None)?, params)),
        _ => None,
    });
    plan.method.survey(&merged.collect::<Vec<_>>()).map(Some)
}

/// Computes the tensors `chosen` on the current rayon pool. What is written does not depend on the number of threads;
/// the error of a run that fails is that of the first tensor, in the order of the output, that failed.
pub(crate) fn run(
    plan: &Plan<'_>,
    survey: Option<&Survey>,
    chosen: Range<usize>,
    progress: &Progress,
    sink: &Sink<'_>,
) -> Result<()> {
    let one = |at: usize| tensor(plan, survey, at, progress, sink);
    if plan.method.spec().work == Work::Tensors {
        return chosen.into_iter().try_for_each(one); // Whole tensors in memory: one at a time.
    }
    // Small tensors side by side; a large one alone, its blocks in parallel, so that few are under way at a time.
    let large = |at: usize| plan.tensors[at].numel > 4 * BLOCK;
    let mut at = chosen.start;
    while at < chosen.end {
        if large(at) {
            one(at)?;
            at += 1;
            continue;
        }
        let end = (at..chosen.end).find(|&i| large(i)).unwrap_or(chosen.end);
        let results: Vec<Result<()>> = (at..end).into_par_iter().with_max_len(1).map(one).collect();
        results.into_iter().collect::<Result<()>>()?;
        at = end;
    }
    Ok(())
}

fn tensor(
    plan: &Plan<'_>,
    survey: Option<&Survey>,
    at: usize,
    progress: &Progress,
    sink: &Sink<'_>,
) -> Result<()> {
    progress.check()?;
    let planned = &plan.tensors[at];
    match &planned.action {
        Action::Copy { inputs } => copy(plan, planned, inputs, at, progress, sink),
        Action::Convert { float, input } => {
            let values = plan.values(planned, *input);
            let block = |span: Range<usize>| {
                let mut out = vec![0.0; span.len()];
                if !values.read(span.clone(), &mut out)? && !plan.allow_non_finite {
                    return Err(non_finite(&*plan.opened[input.model].source, input.tensor)?);
                }
                let mut bytes = Vec::new();
                encode(plan, planned, *float, span.start, &out, &mut bytes)?;
                progress.add(bytes.len() as u64);
                sink(at, (span.start * planned.dtype.size()) as u64, &bytes)
            };
            blocks(planned.numel).into_par_iter().map(block).collect()
        }
        Action::Merge { float, params, .. } => {
            let Some(tensor) = plan.tensor(planned, survey) else { return Ok(()) };
            let kernel = plan.method.prepare(&tensor, params)?;
            let block = |span: Range<usize>| {
                progress.check()?;
                let start = span.start;
                let mut bytes = Vec::with_capacity(span.len() * planned.dtype.size());
                let mut out = Vec::new();
                tensor.pieces(span, |piece: &Piece<'_>| {
                    out.clear();
                    out.resize(piece.len(), 0.0);
                    kernel(piece, &mut out);
                    encode(plan, planned, *float, piece.start, &out, &mut bytes)
                })?;
                progress.add(bytes.len() as u64);
                sink(at, (start * planned.dtype.size()) as u64, &bytes)
            };
            let spans = tensor.spans();
            match spans.as_slice() {
                [one] => block(one.clone()),
                _ => spans.into_par_iter().map(block).collect::<Vec<Result<()>>>().into_iter().collect(),
            }
        }
    }
}

fn encode(
    plan: &Plan<'_>,
    planned: &Planned,
    float: FloatType,
    start: usize,
    values: &[f64],
    bytes: &mut Vec<u8>,
) -> Result<()> {
    from_f64(float, values, plan.allow_non_finite, bytes)
        .map_err(|at| overflow(&planned.name, float, start + at))
}

fn blocks(numel: usize) -> Vec<Range<usize>> {
    (0..numel).step_by(BLOCK).map(|start| start..(start + BLOCK).min(numel)).collect()
}

fn copy(
    plan: &Plan<'_>,
    planned: &Planned,
    inputs: &[Input],
    at: usize,
    progress: &Progress,
    sink: &Sink<'_>,
) -> Result<()> {
    let source = |input: &Input| &plan.opened[input.model].source;
    let Some((first, others)) = inputs.split_first() else { return Ok(()) };
    let expected = source(first).bytes(first.tensor)?;
    for other in others {
        if source(other).bytes(other.tensor)? != expected {
            return Err(Error::NotMergeable {
                tensor: planned.name.clone(),
                dtype: planned.dtype.to_string(),
                first: source(first).place(first.tensor),
                second: source(other).place(other.tensor),
            });
        }
    }
    progress.add(expected.len() as u64);
    sink(at, 0, &expected)
}
