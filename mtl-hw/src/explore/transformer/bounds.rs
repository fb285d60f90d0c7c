//! Admissible bounds on partial designs.
//!
//! A bound runs the operations of the cost itself, in their order, on smaller inputs: rounding is monotone, so the result is
//! never above the cost of a point below. Only the bound on traffic is lowered by a hair, its order of summation being another.
use super::design;
use super::evaluator::Transformer;
use super::fabric::{Activity, Used, bandwidth};
use super::tables::{EngineRow, Plan, Table};
use crate::cost::MoeSchedule;
use crate::explore::{Bound, Objectives, Partial, Violation};
use crate::math::bytes;
use crate::{HwError, Result};
use std::ops::Range;

/// Lowers quantities that are summed in another order than the cost.
const SLACK: f64 = 1.0 - 1e-9;

/// Least cost over a range of linear engines.
#[derive(Debug, Clone, Copy)]
struct Least {
    units: u64,
    cycles: f64,
    /// Multipliers times busy cycles.
    work: f64,
}

/// Minima over engines that agree in their first parameters.
#[derive(Debug, Clone)]
pub(super) struct EngineBounds {
    /// By number of assigned engine parameters: kind, rows, columns, copies.
    levels: Vec<Vec<Least>>,
    /// Cycles of experts per engine: for each routing expert by expert, then for each routing token by token.
    moe: Table,
    /// Cycles of the products of attention, by separate engine; none where it is shared.
    attention: Vec<Option<f64>>,
    /// Bytes of weights without experts, by weight width.
    weight_bytes: Vec<f64>,
}

impl EngineBounds {
    pub(super) fn new(t: &Transformer, workload: usize) -> Result<Self> {
        let plan = t.plan(workload)?;
        let dims = &t.spec.dims;
        let attention: Vec<Option<f64>> = t
            .attention_engines
            .iter()
            .enumerate()
            .map(|(i, e)| e.map(|_| plan.products(t.attention_row(workload, i)).total))
            .collect();
        let classes = [MoeSchedule::AllResident, MoeSchedule::TokenByToken { cache_experts: 0 }];
        let mut moe = Table::default();
        let mut least = Vec::with_capacity(dims.engines());
        for index in 0..dims.engines() {
            let Some(linear) = dims.linear(index) else { continue };
            let engine = plan.engine(t.engine_row(workload, index));
            let row: Vec<f64> = classes
                .iter()
                .flat_map(|&s| (0..plan.workload.routings).map(move |r| (s, r)))
                .map(|(s, r)| plan.moe_compute(&engine, s, r))
                .collect();
            moe.push(&row);
            let experts = row.iter().copied().fold(f64::INFINITY, f64::min);
            let units = linear.units();
            let mut one = Least { units, cycles: f64::INFINITY, work: f64::INFINITY };
            for (separate, cycles) in t.attention_engines.iter().zip(&attention) {
                let (attention, width) = match (separate, cycles) {
                    (Some((p, u)), Some(c)) => (*c, u64::from(*p) * u64::from(*u)),
                    _ => (engine.products.total, units),
                };
                let overlap = t.spec.overlap_images && separate.is_some();
                one.cycles = one.cycles.min(together(attention, engine.total + experts, overlap));
                one.work = one.work.min(units as f64 * (engine.linear + experts) + width as f64 * attention);
            }
            least.push(one);
        }
        let mut levels = vec![least];
        for n in [dims.copies.len(), dims.cols.len(), dims.rows.len(), dims.kinds.len()] {
            let fine = levels.last().map_or(&[][..], Vec::as_slice);
            let coarse: Vec<Least> = fine.chunks(n).filter_map(|c| c.iter().copied().reduce(min)).collect();
            levels.push(coarse);
        }
        levels.reverse();
        let of_width = |&bits: &u32| {
            let steps = plan.workload.steps.iter().zip(&plan.workload.counts);
            let one = |s: &super::workload::Step| bytes("bytes", s.params, bits);
            let dense = steps.filter(|(s, _)| s.moe().is_none());
            dense.map(|(s, &n)| Ok(one(s)? as f64 * n as f64)).sum::<Result<f64>>()
        };
        let weight_bytes = dims.weight_bits.iter().map(of_width).collect::<Result<Vec<_>>>()?;
        Ok(Self { levels, moe, attention, weight_bytes })
    }
}

fn min(a: Least, b: Least) -> Least {
    Least { units: a.units.min(b.units), cycles: a.cycles.min(b.cycles), work: a.work.min(b.work) }
}

/// Cycles of an attention part and the rest, one after the other or side by side.
fn together(attention: f64, rest: f64, overlap: bool) -> f64 {
    if overlap { attention.max(rest) } else { rest + attention }
}

/// Lower limits of everything that the cost of a design depends on.
struct Lower {
    /// Per routing.
    cycles: Vec<f64>,
    dsp_cycles: f64,
    used: Used,
}

impl Transformer {
    /// The bound below a partial design, or which constraint everything below breaks.
    pub(super) fn bound(&self, partial: &Partial<'_>) -> Result<Bound> {
        let assigned = partial.prefix().len();
        let Some((&workload, _)) = partial.prefix().split_first() else { return Ok(Bound::Unknown) };
        let workload = workload as usize;
        let (Some(bounds), plan) = (self.bounds.get(workload), self.plan(workload)?) else {
            return Ok(Bound::Unknown);
        };
        let open = Open::new(self, partial);
        let lower = if assigned > design::COPIES {
            self.known_engine(plan, bounds, workload, &open)?
        } else {
            self.open_engine(plan, bounds, partial, &open)?
        };
        let mut broken = Vec::new();
        self.over(&lower.used, false, &mut broken);
        if let Some(violation) = broken.pop() {
            return Ok(Bound::Infeasible(violation));
        }
        if let Some(violation) = self.tile_footprint(partial, &open)? {
            return Ok(Bound::Infeasible(violation));
        }
        let objectives = self.objectives(plan, bounds, &open, &lower)?;
        self.beyond(&objectives, &mut broken);
        if let (Some(floor), Some(best)) = (self.spec.limits.accuracy, objectives.accuracy) {
            broken.extend(Violation::below("accuracy", best, floor));
        }
        Ok(broken.pop().map_or(Bound::AtLeast(objectives), Bound::Infeasible))
    }

    /// Engine parameters open: the least over the range of engines.
    fn open_engine(
        &self,
        plan: &Plan,
        bounds: &EngineBounds,
        partial: &Partial<'_>,
        open: &Open,
    ) -> Result<Lower> {
        let level = partial.prefix().len() - 1;
        let mut index = 0usize;
        for (dim, &i) in partial.prefix().iter().enumerate().skip(1) {
            index = index * partial.space().size(dim) as usize + i as usize;
        }
        let least = bounds.levels.get(level).and_then(|l| l.get(index));
        let least = least.copied().ok_or_else(|| HwError::config("point", "a point of the space", index))?;
        let used = self.logic(least.units, 0, open.bits, open.ports.0)?;
        // Blocks per multiplier, from a number of multipliers that every packing divides.
        let kind = self.spec.base.platform.dsp_kind;
        let each = |b: u32| Ok::<f64, HwError>(self.spec.fabric.dsp(kind, 12, open.bits.0, b)? as f64 / 12.0);
        let ratio = each(open.bits.0)?.min(each(open.bits.1)?);
        Ok(Lower {
            cycles: vec![least.cycles; plan.workload.routings],
            dsp_cycles: least.work * ratio * SLACK,
            used,
        })
    }

    /// Engine known: its exact cycles with the best open schedule and attention.
    fn known_engine(
        &self,
        plan: &Plan,
        bounds: &EngineBounds,
        workload: usize,
        open: &Open,
    ) -> Result<Lower> {
        let linear = self.spec.dims.linear(open.engine);
        let linear = linear.ok_or_else(|| HwError::config("point", "a point of the space", open.engine))?;
        let engine: EngineRow<'_> = plan.engine(self.engine_row(workload, open.engine));
        let kind = self.spec.base.platform.dsp_kind;
        let fabric = &self.spec.fabric;
        let linear_dsp = fabric.dsp(kind, linear.units(), open.bits.0, open.bits.1)? as f64;
        let n = plan.workload.routings;
        let experts: Vec<f64> = (0..n).map(|r| self.least_moe(bounds, open, n, r)).collect();
        let busy: f64 = experts.iter().map(|m| (engine.linear + m) / n as f64).fold(0.0, |a, b| a + b);
        let mut lower =
            Lower { cycles: vec![f64::INFINITY; n], dsp_cycles: f64::INFINITY, used: Used::default() };
        let mut used: Option<Used> = None;
        for index in open.attention.clone() {
            let separate = self.attention_engines.get(index).copied().flatten();
            let cycles = bounds.attention.get(index).copied().flatten().unwrap_or(engine.products.total);
            let units = separate.map_or(0, |(p, u)| u64::from(p) * u64::from(u));
            let overlap = self.spec.overlap_images && separate.is_some();
            for (slot, m) in lower.cycles.iter_mut().zip(&experts) {
                *slot = slot.min(together(cycles, engine.total + m, overlap));
            }
            let dsp = if separate.is_some() {
                fabric.dsp(kind, units, open.bits.0, open.bits.0)? as f64
            } else {
                linear_dsp
            };
            lower.dsp_cycles = lower.dsp_cycles.min(linear_dsp * busy + dsp * cycles);
            let logic = self.logic(linear.units(), units, open.bits, open.ports.0)?;
            used = Some(used.map_or(logic, |u| Used {
                dsp: u.dsp.min(logic.dsp),
                lut: u.lut.min(logic.lut),
                ff: u.ff.min(logic.ff),
                ..u
            }));
        }
        lower.used = used.unwrap_or_default();
        // Wider words can take fewer block memories: every open width counts.
        let dims = &self.spec.dims;
        let activations = u64::from(open.activation_kib) * 1024;
        let mut memories: Option<(u64, u64)> = None;
        for &weight in dims.weight_bits.get(open.weight_widths.clone()).unwrap_or_default() {
            let stores = open.schedules.iter();
            let stores = stores.map(|&s| self.weight_store(plan, s, weight, open.weight_kib.0));
            let store = stores.collect::<Result<Vec<_>>>()?.into_iter().min().unwrap_or(0);
            for &activation in dims.activation_bits.get(open.activation_widths.clone()).unwrap_or_default() {
                for &storage in &open.storages {
                    let (b, u) =
                        self.memories(&linear, (activation, weight), (activations, store), storage)?;
                    memories = Some(memories.map_or((b, u), |(x, y)| (x.min(b), y.min(u))));
                }
            }
        }
        if let Some((ramb18, uram)) = memories {
            (lower.used.ramb18, lower.used.uram) = (ramb18 as f64, uram as f64);
        }
        Ok(lower)
    }

    fn least_moe(&self, bounds: &EngineBounds, open: &Open, routings: usize, routing: usize) -> f64 {
        let row = bounds.moe.row(open.engine);
        let class = |s: &MoeSchedule| usize::from(matches!(s, MoeSchedule::TokenByToken { .. }));
        let cycles = |s| row.get(class(s) * routings + routing).copied().unwrap_or(0.0);
        open.schedules.iter().map(cycles).fold(f64::INFINITY, f64::min)
    }

    /// The largest open weight buffer against the tile of a known engine.
    fn tile_footprint(&self, partial: &Partial<'_>, open: &Open) -> Result<Option<Violation>> {
        if partial.prefix().len() <= design::COPIES {
            return Ok(None);
        }
        let Some(linear) = self.spec.dims.linear(open.engine) else { return Ok(None) };
        let tile = u64::from(linear.rows) * u64::from(linear.cols) * u64::from(open.bits.1);
        let largest = f64::from(open.weight_kib.1) * 1024.0;
        Ok(Violation::below("weight-buffer", largest, 2.0 * tile as f64 / 8.0))
    }

    fn objectives(
        &self,
        plan: &Plan,
        bounds: &EngineBounds,
        open: &Open,
        lower: &Lower,
    ) -> Result<Objectives> {
        let base = &self.spec.base;
        let hz = (f64::from(open.clock_mhz) * 1e6).round();
        let rate = bandwidth(&base.platform, base.port.width_bits, open.ports.1, hz, base.dram_efficiency);
        let dense = open.weight_widths.clone().filter_map(|i| bounds.weight_bytes.get(i)).copied();
        let dense = dense.fold(f64::INFINITY, f64::min);
        let n = plan.workload.routings;
        let (mut cycles, mut latency_s, mut traffic, mut least_s) = (0.0, 0.0, 0.0, f64::INFINITY);
        for (routing, &c) in lower.cycles.iter().enumerate() {
            let experts = plan.least_expert_params(routing) * f64::from(open.bits.1) / 8.0;
            let bytes = (dense + experts) * SLACK;
            // The port works one image at a time unless images overlap.
            let port_s = if self.spec.overlap_images { 0.0 } else { bytes / rate * SLACK };
            let seconds = (c / hz).max(port_s);
            cycles += c / n as f64;
            latency_s += seconds / n as f64;
            traffic += bytes / n as f64;
            least_s = seconds.min(least_s);
        }
        let used = &lower.used;
        let energy_j = self.spec.energy.joules(&Activity {
            latency_s,
            dsp_cycles: lower.dsp_cycles,
            cycles,
            ramb18: used.ramb18,
            uram: used.uram,
            lut: used.lut,
            bytes: traffic,
        });
        let schedules = open.schedules.iter();
        let stores = schedules.map(|&s| self.weight_store(plan, s, open.bits.1, open.weight_kib.0));
        let store = stores.collect::<Result<Vec<_>>>()?.into_iter().min().unwrap_or(0);
        Ok(Objectives {
            latency_s,
            latency_p95_s: if n == 1 { latency_s } else { least_s },
            energy_j,
            resources: used.fractions(&self.usable),
            memory_bytes: (store + u64::from(open.activation_kib) * 1024) as f64,
            accuracy: open.accuracy(self, plan),
        })
    }
}

/// Extremes of the open values.
struct Open {
    engine: usize,
    /// Least widths of activations and weights.
    bits: (u32, u32),
    activation_widths: Range<usize>,
    weight_widths: Range<usize>,
    attention: Range<usize>,
    schedules: Vec<MoeSchedule>,
    storages: Vec<design::Storage>,
    clock_mhz: u32,
    /// Fewest and most.
    ports: (u32, u32),
    /// Smallest and largest.
    weight_kib: (u32, u32),
    activation_kib: u32,
}

impl Open {
    fn new(t: &Transformer, partial: &Partial<'_>) -> Self {
        let dims = &t.spec.dims;
        let range = |dim: usize| {
            let open = partial.open(dim);
            open.start as usize..open.end as usize
        };
        let of = |list: &[u32], dim: usize| {
            let open = list.get(range(dim)).unwrap_or_default();
            (open.iter().copied().min().unwrap_or(0), open.iter().copied().max().unwrap_or(0))
        };
        let mut engine = 0usize;
        for dim in design::KIND..=design::COPIES {
            let index = partial.prefix().get(dim).map_or(0, |&i| i as usize);
            engine = engine * partial.space().size(dim) as usize + index;
        }
        Self {
            engine,
            bits: (
                of(&dims.activation_bits, design::ACTIVATION_BITS).0,
                of(&dims.weight_bits, design::WEIGHT_BITS).0,
            ),
            activation_widths: range(design::ACTIVATION_BITS),
            weight_widths: range(design::WEIGHT_BITS),
            attention: range(design::ATTENTION),
            schedules: dims.schedules.get(range(design::SCHEDULE)).unwrap_or_default().to_vec(),
            storages: dims.storage.get(range(design::STORAGE)).unwrap_or_default().to_vec(),
            clock_mhz: of(&dims.clock_mhz, design::CLOCK).1,
            ports: of(&dims.ports, design::PORTS),
            weight_kib: of(&dims.weight_kib, design::WEIGHT_KIB),
            activation_kib: of(&dims.activation_kib, design::ACTIVATION_KIB).0,
        }
    }

    /// The best accuracy of the open widths; none when one of them is unknown.
    fn accuracy(&self, t: &Transformer, plan: &Plan) -> Option<f64> {
        let dims = &t.spec.dims;
        let mut best = f64::NEG_INFINITY;
        for &a in dims.activation_bits.get(self.activation_widths.clone())? {
            for &w in dims.weight_bits.get(self.weight_widths.clone())? {
                best = best.max(plan.workload.accuracy_of(a, w)?);
            }
        }
        Some(best)
    }
}
