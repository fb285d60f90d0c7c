//! Cost vectors of configurations: one row per engine, per attention engine and per memory configuration, in flat arrays.
//!
//! The cycles of a network are a sum over transitions between large layers. Transitions without experts are laid out in
//! lanes of eight, so that a whole network is a short loop over arrays.
use super::design::{Linear, attention_cycles};
use super::moe::{MOE_LOADS, MoeCycles, MoeLoads, MoeWork};
use super::workload::{Segment, Step, Work, Workload};
use crate::cost::{Accelerator, GateUnit, MoeSchedule};
use crate::math::{bytes, product, sum};
use crate::{HwError, Result};

/// Lanes that are computed at once.
const LANES: usize = 8;
/// Cycles are whole numbers in floating point up to this.
const EXACT: f64 = 9_007_199_254_740_992.0;

/// Rows of equal length.
#[derive(Debug, Clone, Default)]
pub(super) struct Table {
    stride: usize,
    data: Vec<f64>,
}

impl Table {
    pub(super) fn push(&mut self, row: &[f64]) {
        self.stride = row.len();
        self.data.extend_from_slice(row);
    }

    pub(super) fn row(&self, index: usize) -> &[f64] {
        self.data.get(index * self.stride..(index + 1) * self.stride).unwrap_or_default()
    }
}

/// Where things are in the rows of one workload.
#[derive(Debug, Clone)]
pub(super) struct Plan {
    pub(super) workload: Workload,
    /// Transitions without experts, in lanes, and how often each occurs; padded with transitions that never occur.
    lanes: Vec<Segment>,
    counts: Vec<f64>,
    /// Transitions from or to experts.
    moe_segments: Vec<(Segment, f64)>,
    /// Steps with experts, and where their engine rows begin.
    moe_steps: Vec<(usize, usize)>,
    /// Small layers of the longest lane.
    small: usize,
    moe_len: usize,
}

/// Parts of a row of products: attention on either engine.
#[derive(Debug, Clone, Copy)]
pub(super) struct Products<'a> {
    lanes: &'a [f64],
    steps: &'a [f64],
    pub(super) total: f64,
}

/// Parts of an engine row.
#[derive(Debug, Clone, Copy)]
pub(super) struct EngineRow<'a> {
    lanes: &'a [f64],
    steps: &'a [f64],
    moe: &'a [f64],
    /// Cycles of all layers with weights, gates and vector work, without experts.
    pub(super) total: f64,
    /// The part of `total` in which the linear engine works.
    pub(super) linear: f64,
    /// Attention on this engine.
    pub(super) products: Products<'a>,
}

/// Parts of a memory row.
#[derive(Debug, Clone, Copy)]
pub(super) struct LoadRow<'a> {
    lanes: &'a [f64],
    steps: &'a [f64],
    moe: &'a [f64],
    /// Bytes of one image, without expert weights.
    pub(super) bytes: f64,
}

/// Cycles and traffic of one routing.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Total {
    pub(super) cycles: f64,
    pub(super) moe_compute: f64,
    /// Expert weights loaded, in elements.
    pub(super) expert_params: f64,
}

impl Plan {
    pub(super) fn new(workload: Workload) -> Self {
        let is_moe =
            |i: &Option<usize>| i.and_then(|i| workload.steps.get(i)).is_some_and(|s| s.moe().is_some());
        let mut lanes = Vec::new();
        let mut counts = Vec::new();
        let mut moe_segments = Vec::new();
        for (segment, n) in &workload.segments {
            if is_moe(&segment.start) || is_moe(&segment.next) {
                moe_segments.push((segment.clone(), *n as f64));
            } else {
                lanes.push(segment.clone());
                counts.push(*n as f64);
            }
        }
        while !lanes.len().is_multiple_of(LANES) {
            lanes.push(Segment { start: None, small: Vec::new(), next: None });
            counts.push(0.0);
        }
        let mut moe_steps = Vec::new();
        let mut moe_len = 0;
        for (i, step) in workload.steps.iter().enumerate() {
            if let Some(work) = step.moe() {
                moe_steps.push((i, moe_len));
                moe_len += work.row_len();
            }
        }
        let small = lanes.iter().map(|s| s.small.len()).max().unwrap_or(0);
        Self { workload, lanes, counts, moe_segments, moe_steps, small, moe_len }
    }

    fn lane_len(&self) -> usize {
        self.lanes.len() * (1 + self.small)
    }

    fn moe_work(&self, index: usize) -> Option<(&MoeWork, usize)> {
        let &(step, offset) = self.moe_steps.get(index)?;
        Some((self.workload.steps.get(step)?.moe()?, offset))
    }

    pub(super) fn moe_works(&self) -> impl Iterator<Item = (&MoeWork, u64)> {
        let one = |&(step, _): &(usize, usize)| {
            Some((self.workload.steps.get(step)?.moe()?, *self.workload.counts.get(step)?))
        };
        self.moe_steps.iter().filter_map(one)
    }

    /// Lays step values out in lanes: for each block of lanes the start, then each small layer.
    fn spread(&self, steps: &[f64], out: &mut Vec<f64>) {
        let value = |i: Option<usize>| i.and_then(|i| steps.get(i)).copied().unwrap_or(0.0);
        for block in self.lanes.chunks(LANES) {
            out.extend(block.iter().map(|s| value(s.start)));
            for k in 0..self.small {
                out.extend(block.iter().map(|s| value(s.small.get(k).copied())));
            }
        }
    }

    /// Values of all steps times how often each occurs.
    fn weighted(&self, steps: &[f64]) -> Result<f64> {
        let total: f64 = steps.iter().zip(&self.workload.counts).map(|(c, &n)| c * n as f64).sum();
        if total < EXACT { Ok(total) } else { Err(HwError::Overflow { what: "cycles".to_owned() }) }
    }

    fn push_products(&self, steps: &[f64], out: &mut Vec<f64>) -> Result<()> {
        self.spread(steps, out);
        out.extend_from_slice(steps);
        out.push(self.weighted(steps)?);
        Ok(())
    }

    /// Cycles on a linear engine: `[lanes][steps][total][linear][products][experts]`.
    pub(super) fn engine_row(&self, linear: &Linear, base: &Accelerator) -> Result<Vec<f64>> {
        let steps = &self.workload.steps;
        let mut row = Vec::with_capacity(2 * (self.lane_len() + steps.len()) + self.moe_len + 3);
        let cycles = steps.iter().map(|s| linear_cycles(s, linear, base)).collect::<Result<Vec<_>>>()?;
        let all: Vec<f64> = cycles.iter().map(|c| c.0).collect();
        let engine: Vec<f64> = cycles.iter().map(|c| c.1).collect();
        self.spread(&all, &mut row);
        row.extend_from_slice(&all);
        row.extend([self.weighted(&all)?, self.weighted(&engine)?]);
        let on_engine = |s: &Step| match s.work {
            Work::Products { heads, queries, inner, cols, .. } => linear.batched(heads, queries, inner, cols),
            _ => Ok(0),
        };
        let products = steps.iter().map(|s| Ok(on_engine(s)? as f64)).collect::<Result<Vec<_>>>()?;
        self.push_products(&products, &mut row)?;
        for step in steps {
            if let Some(work) = step.moe() {
                work.row(&|m, k, n| linear.gemm(m, k, n), &mut row)?;
            }
        }
        Ok(row)
    }

    pub(super) fn engine<'a>(&self, row: &'a [f64]) -> EngineRow<'a> {
        let (lanes, rest) = split(row, self.lane_len());
        let (steps, rest) = split(rest, self.workload.steps.len());
        let (totals, rest) = split(rest, 2);
        let (products, moe) = split(rest, self.lane_len() + self.workload.steps.len() + 1);
        let at = |i: usize| totals.get(i).copied().unwrap_or(0.0);
        EngineRow { lanes, steps, moe, total: at(0), linear: at(1), products: self.products(products) }
    }

    /// Cycles on an attention engine: `[lanes][steps][total]`.
    pub(super) fn attention_row(&self, p: u32, u: u32) -> Result<Vec<f64>> {
        let cycles = |s: &Step| match s.work {
            Work::Products { heads, queries, keys, head_dim, .. } => {
                attention_cycles(queries, keys, product("channels", &[heads, head_dim])?, p, u)
            }
            _ => Ok(0),
        };
        let steps = self.workload.steps.iter().map(|s| Ok(cycles(s)? as f64)).collect::<Result<Vec<_>>>()?;
        let mut row = Vec::new();
        self.push_products(&steps, &mut row)?;
        Ok(row)
    }

    pub(super) fn products<'a>(&self, row: &'a [f64]) -> Products<'a> {
        let (lanes, rest) = split(row, self.lane_len());
        let (steps, rest) = split(rest, self.workload.steps.len());
        Products { lanes, steps, total: rest.first().copied().unwrap_or(0.0) }
    }

    /// Loads with a weight buffer of `weight_bytes`: `[lanes][load and chunks of steps][experts][bytes]`, the lanes as
    /// load per chunk, chunks, their reciprocal, first load of the next layer, loads of small layers.
    pub(super) fn load_row(&self, acc: &Accelerator, weight_bytes: u64, resident: bool) -> Result<Vec<f64>> {
        let steps = &self.workload.steps;
        let mut loads = Vec::with_capacity(steps.len());
        let mut total = 0.0;
        for (step, &count) in steps.iter().zip(&self.workload.counts) {
            let load = step_load(step, acc, weight_bytes / 2, resident)?;
            total += load.bytes * count as f64;
            loads.push(load);
        }
        let get = |i: Option<usize>| i.and_then(|i| loads.get(i)).copied().unwrap_or(StepLoad::NONE);
        let mut row = Vec::with_capacity(self.lanes.len() * (4 + self.small) + 2 * steps.len() + 1);
        for block in self.lanes.chunks(LANES) {
            row.extend(block.iter().map(|s| get(s.start).cycles));
            row.extend(block.iter().map(|s| get(s.start).chunks));
            row.extend(block.iter().map(|s| 1.0 / get(s.start).chunks));
            row.extend(block.iter().map(|s| get(s.next).cycles));
            for k in 0..self.small {
                row.extend(block.iter().map(|s| get(s.small.get(k).copied()).cycles));
            }
        }
        row.extend(loads.iter().flat_map(|l| [l.cycles, l.chunks]));
        for (work, count) in self.moe_works() {
            let (l, traffic) = work.loads(acc, resident)?;
            row.extend([l.whole, l.first, l.second, l.all, l.activations]);
            total += traffic as f64 * count as f64;
        }
        row.push(total);
        Ok(row)
    }

    pub(super) fn loads<'a>(&self, row: &'a [f64]) -> LoadRow<'a> {
        let (lanes, rest) = split(row, self.lanes.len() * (4 + self.small));
        let (steps, rest) = split(rest, 2 * self.workload.steps.len());
        let (moe, rest) = split(rest, MOE_LOADS * self.moe_steps.len());
        LoadRow { lanes, steps, moe, bytes: rest.first().copied().unwrap_or(0.0) }
    }

    /// Cycles of all transitions without experts.
    pub(super) fn dense(&self, engine: &EngineRow<'_>, products: &Products<'_>, loads: &LoadRow<'_>) -> f64 {
        let width = LANES * (1 + self.small);
        let blocks = engine.lanes.chunks_exact(width).zip(products.lanes.chunks_exact(width));
        let blocks = blocks.zip(loads.lanes.chunks_exact(LANES * (4 + self.small)));
        let mut cycles = 0.0;
        for (((linear, products), loads), counts) in blocks.zip(self.counts.chunks_exact(LANES)) {
            cycles += lanes(linear, products, loads, counts);
        }
        cycles
    }

    /// Cycles of an image under one routing, given the cycles of [`Plan::dense`].
    pub(super) fn total(
        &self,
        dense: f64,
        schedule: MoeSchedule,
        routing: usize,
        engine: &EngineRow<'_>,
        products: &Products<'_>,
        loads: &LoadRow<'_>,
    ) -> Total {
        let mut total = Total { cycles: dense, ..Total::default() };
        if self.moe_steps.is_empty() {
            return total;
        }
        let experts: Vec<(usize, MoeCycles)> = (0..self.moe_steps.len())
            .filter_map(|i| {
                let &(step, _) = self.moe_steps.get(i)?;
                Some((step, self.experts(i, schedule, routing, engine, loads)?))
            })
            .collect();
        for (step, c) in &experts {
            let count = self.workload.counts.get(*step).map_or(0.0, |&n| n as f64);
            total.moe_compute += count * c.compute;
            total.expert_params += count * c.loads * self.expert_params(*step);
        }
        for (segment, count) in &self.moe_segments {
            total.cycles += count * chain(segment, engine, products, loads, &experts);
        }
        total
    }

    fn expert_params(&self, step: usize) -> f64 {
        let work = self.workload.steps.get(step).and_then(Step::moe);
        work.and_then(|w| w.shape().expert_params().ok()).map_or(0.0, |n| n as f64)
    }

    /// Fewest expert weights loaded under any schedule, in elements.
    pub(super) fn least_expert_params(&self, routing: usize) -> f64 {
        let one = |((work, count), &(step, _)): ((&MoeWork, u64), &(usize, usize))| {
            count as f64 * work.least_loads(routing) * self.expert_params(step)
        };
        self.moe_works().zip(&self.moe_steps).map(one).sum()
    }

    fn experts(
        &self,
        index: usize,
        schedule: MoeSchedule,
        routing: usize,
        engine: &EngineRow<'_>,
        loads: &LoadRow<'_>,
    ) -> Option<MoeCycles> {
        let (work, offset) = self.moe_work(index)?;
        let row = engine.moe.get(offset..offset + work.row_len())?;
        let l = loads.moe.get(MOE_LOADS * index..MOE_LOADS * (index + 1))?;
        let &[whole, first, second, all, activations] = l else { return None };
        let loads = MoeLoads { whole, first, second, all, activations };
        Some(work.cycles(schedule, routing, row, &loads))
    }

    /// Cycles in which experts compute, under one routing.
    pub(super) fn moe_compute(&self, engine: &EngineRow<'_>, schedule: MoeSchedule, routing: usize) -> f64 {
        self.moe_works()
            .zip(&self.moe_steps)
            .map(|((work, count), &(_, offset))| {
                let row = engine.moe.get(offset..offset + work.row_len()).unwrap_or_default();
                count as f64 * work.compute(schedule, routing, row)
            })
            .sum()
    }
}

fn split(row: &[f64], at: usize) -> (&[f64], &[f64]) {
    row.split_at(at.min(row.len()))
}

/// One block of lanes: a large layer in chunks, small layers behind it, and what is left of the next first load.
fn lanes(linear: &[f64], products: &[f64], loads: &[f64], counts: &[f64]) -> f64 {
    let mut total = [0.0f64; LANES];
    let mut credit = [0.0f64; LANES];
    let (per_chunk, rest) = split(loads, LANES);
    let (chunks, rest) = split(rest, LANES);
    let (reciprocal, rest) = split(rest, LANES);
    let (next, small_loads) = split(rest, LANES);
    let start = linear.iter().zip(per_chunk).zip(chunks.iter().zip(reciprocal));
    for ((t, c), ((&cycles, &load), (&n, &r))) in total.iter_mut().zip(&mut credit).zip(start) {
        // A division would be slower; with one chunk both are exact.
        let step = cycles * r;
        *t = cycles.max(step + (n - 1.0) * load);
        *c = step;
    }
    let small = linear.chunks_exact(LANES).zip(products.chunks_exact(LANES)).skip(1);
    for ((linear, products), loads) in small.zip(small_loads.chunks_exact(LANES)) {
        let work = linear.iter().zip(products).zip(loads);
        for ((t, c), ((&linear, &products), &load)) in total.iter_mut().zip(&mut credit).zip(work) {
            let cycles = linear + products;
            *t += cycles + (load - *c).max(0.0);
            *c = (*c - load).max(0.0) + cycles;
        }
    }
    for ((t, c), &load) in total.iter_mut().zip(&credit).zip(next) {
        *t += (load - *c).max(0.0);
    }
    total.iter().zip(counts).map(|(t, n)| t * n).sum()
}

/// One transition from or to experts.
fn chain(
    segment: &Segment,
    engine: &EngineRow<'_>,
    products: &Products<'_>,
    loads: &LoadRow<'_>,
    experts: &[(usize, MoeCycles)],
) -> f64 {
    let get = |row: &[f64], i: usize| row.get(i).copied().unwrap_or(0.0);
    let expert = |step: usize| experts.iter().find(|(s, _)| *s == step).map(|(_, c)| *c);
    let (mut total, mut credit) = (0.0, 0.0);
    if let Some(step) = segment.start {
        (total, credit) = match expert(step) {
            Some(c) => (c.steady, c.tail),
            None => {
                let (cycles, load, n) =
                    (get(engine.steps, step), get(loads.steps, 2 * step), get(loads.steps, 2 * step + 1));
                let chunk = cycles * (1.0 / n);
                (cycles.max(chunk + (n - 1.0) * load), chunk)
            }
        };
    }
    for &step in &segment.small {
        let cycles = get(engine.steps, step) + get(products.steps, step);
        let load = get(loads.steps, 2 * step);
        total += cycles + (load - credit).max(0.0);
        credit = (credit - load).max(0.0) + cycles;
    }
    if let Some(step) = segment.next {
        let (load, hidden) = match expert(step) {
            Some(c) => (c.first, if c.early { credit } else { 0.0 }),
            None => (get(loads.steps, 2 * step), credit),
        };
        total += (load - hidden).max(0.0);
    }
    total
}

/// Cycles of a step apart from attention and experts, and the part of them on the linear engine.
fn linear_cycles(step: &Step, linear: &Linear, base: &Accelerator) -> Result<(f64, f64)> {
    let (cycles, engine) = match step.work {
        Work::Gemm { rows, prefix, inner, cols } => {
            let prefix = if base.embed_prefix_rows { prefix } else { 0 };
            let cycles = linear.gemm(sum("rows", [rows, prefix])?, inner, cols)?;
            (cycles, cycles)
        }
        Work::Gate { tokens, dim, experts } => match base.gate {
            GateUnit::PerToken { cycles } => (product("cycles", &[tokens, cycles.into()])?, 0),
            GateUnit::MatrixEngine => {
                let scores = linear.gemm(tokens, dim, experts)?;
                (sum("cycles", [scores, product("cycles", &[tokens, experts])?])?, scores)
            }
        },
        Work::Vector { rows, elements } => match &base.vector {
            Some(unit) => (unit.cycles(rows, elements)?, 0),
            None => (0, 0),
        },
        Work::Products { .. } | Work::Moe(_) => (0, 0),
    };
    Ok((cycles as f64, engine as f64))
}

/// Load of a step: cycles per chunk, chunks, bytes in total.
#[derive(Debug, Clone, Copy)]
struct StepLoad {
    cycles: f64,
    chunks: f64,
    bytes: f64,
}

impl StepLoad {
    const NONE: Self = Self { cycles: 0.0, chunks: 1.0, bytes: 0.0 };
}

/// Weights in chunks of at most half the buffer. Activations that do not stay on chip come once per chunk and go out once.
fn step_load(step: &Step, acc: &Accelerator, half: u64, resident: bool) -> Result<StepLoad> {
    if step.moe().is_some() {
        return Ok(StepLoad::NONE);
    }
    let weights = acc.weight_bytes(step.params)?;
    let chunks = if step.large() { weights.div_ceil(half.max(1)).max(1) } else { 1 };
    let streamed = |elements: u64| {
        if resident { Ok(0) } else { bytes("activation bytes", elements, acc.precision.activation_bits) }
    };
    let (read, written) = (streamed(step.read)?, streamed(step.written)?);
    let per_chunk = sum("bytes", [weights.div_ceil(chunks), read, written.div_ceil(chunks)])?;
    let total = sum("bytes", [weights, product("bytes", &[read, chunks])?, written])?;
    Ok(StepLoad { cycles: acc.load_cycles(per_chunk)? as f64, chunks: chunks as f64, bytes: total as f64 })
}
