//! Costs of transformer accelerators.
use super::bounds::EngineBounds;
use super::design::{self, Linear, Storage};
use super::fabric::{Activity, Used};
use super::spec::TransformerSpec;
use super::tables::{Plan, Table};
use super::workload::Workload;
use crate::cost::{Accelerator, Granularity, MoeSchedule};
use crate::explore::{Objectives, Point, Rejection, Space, Violation};
use crate::math::product;
use crate::platform::{Resources, pack};
use crate::{HwError, Result};

/// Most numbers in the tables: 512 MiB.
const MAX_TABLE: u128 = 1 << 26;

/// Evaluator of accelerators for vision transformers, sharing the formulas of [`crate::cost`].
///
/// With one engine, weights buffered whole and activations on chip, cycles equal those of
/// [`Analytical`](crate::cost::Analytical). Smaller weight buffers take a layer's weights in chunks; activations that do not
/// fit travel once per chunk.
///
/// ```
/// use mtl_hw::explore::transformer::{TransformerSpec, Workload};
/// use mtl_hw::explore::{Budget, Strategy, explore};
/// use mtl_hw::{graph::VitSpec, presets, routing::Routing};
/// let workload = Workload::new(&VitSpec::tiny().graph()?, &[Routing::Uniform])?;
/// let mut spec = TransformerSpec::new(presets::zcu104_m3vit()?, vec![workload]);
/// (spec.dims.copies, spec.dims.clock_mhz) = (vec![1], vec![300]);
/// let evaluator = spec.build()?;
/// let found = explore(evaluator.space(), &evaluator, &Strategy::BranchAndBound, Budget::unlimited(), 0)?;
/// assert!(found.visited() < 0.2 && found.unexplored() == 0.0);
/// # Ok::<(), mtl_hw::HwError>(())
/// ```
#[derive(Debug, Clone)]
pub struct Transformer {
    pub(super) spec: TransformerSpec,
    pub(super) space: Space,
    pub(super) plans: Vec<Plan>,
    pub(super) usable: Resources,
    pub(super) attention_engines: Vec<Option<(u32, u32)>>,
    accelerators: Vec<Accelerator>,
    /// One of each per workload; empty without memoisation.
    engines: Vec<Table>,
    attention: Vec<Table>,
    loads: Vec<Table>,
    pub(super) bounds: Vec<EngineBounds>,
}

/// A decoded point.
#[derive(Debug, Clone)]
pub(super) struct Design {
    pub(super) workload: usize,
    pub(super) engine: usize,
    pub(super) linear: Linear,
    pub(super) activation: u32,
    pub(super) weight: u32,
    /// Value indices of widths, ports and clock.
    index: [usize; 4],
    /// Index and size of the separate attention engine.
    pub(super) attention: Option<(usize, u32, u32)>,
    pub(super) schedule: MoeSchedule,
    pub(super) ports: u32,
    weight_kib: usize,
    activation_kib: u32,
    storage: Storage,
}

fn pick<T: Copy>(list: &[T], index: u32) -> Result<T> {
    list.get(index as usize).copied().ok_or_else(|| HwError::config("point", "a point of the space", index))
}

impl Transformer {
    pub(super) fn new(spec: TransformerSpec) -> Result<Self> {
        spec.base.validate().map_err(|e| e.within("base"))?;
        spec.limits.validate()?;
        spec.fabric.validate()?;
        spec.energy.validate()?;
        let names: Vec<&str> = spec.workloads.iter().map(Workload::name).collect();
        let space = spec.dims.space(&names)?;
        for workload in &spec.workloads {
            if let Some(bad) = workload.accuracies().find(|a| !a.is_finite()) {
                return Err(HwError::config("accuracy", "finite", bad));
            }
        }
        let plans: Vec<Plan> = spec.workloads.iter().cloned().map(Plan::new).collect();
        for plan in &plans {
            for (work, _) in plan.moe_works() {
                let check = |&s: &MoeSchedule| work.check(s, &plan.workload.moe_layer);
                spec.dims.schedules.iter().try_for_each(check)?;
            }
        }
        let mut this = Self {
            usable: spec.base.platform.usable(),
            attention_engines: spec.dims.attention(),
            accelerators: Vec::new(),
            engines: Vec::new(),
            attention: Vec::new(),
            loads: Vec::new(),
            bounds: Vec::new(),
            spec,
            space,
            plans,
        };
        this.accelerators = this.list_accelerators()?;
        if this.spec.memoise {
            this.tabulate()?;
        }
        Ok(this)
    }

    /// The space of its designs.
    #[must_use]
    pub fn space(&self) -> &Space {
        &self.space
    }

    /// The specification it was built from.
    #[must_use]
    pub fn spec(&self) -> &TransformerSpec {
        &self.spec
    }

    /// The base with every combination of widths, ports and clock, and the clock also derated.
    fn list_accelerators(&self) -> Result<Vec<Accelerator>> {
        let dims = &self.spec.dims;
        let mut list = Vec::new();
        for &activation_bits in &dims.activation_bits {
            for &weight_bits in &dims.weight_bits {
                for &ports in &dims.ports {
                    for &clock in &dims.clock_mhz {
                        for derate in [1.0, self.spec.fabric.clock_derate] {
                            let mut acc = self.spec.base.clone();
                            acc.precision.activation_bits = activation_bits;
                            acc.precision.weight_bits = weight_bits;
                            acc.port.count = ports;
                            acc.clock_mhz = f64::from(clock) * derate;
                            acc.validate().map_err(|e| e.within("dims"))?;
                            list.push(acc);
                        }
                    }
                }
            }
        }
        Ok(list)
    }

    fn tabulate(&mut self) -> Result<()> {
        let dims = &self.spec.dims;
        let attention = dims.attention();
        for plan in &self.plans {
            let mut engines = Table::default();
            let mut width = 0u128;
            for index in 0..dims.engines() {
                let Some(linear) = dims.linear(index) else { continue };
                let row = plan.engine_row(&linear, &self.spec.base)?;
                width = width.max(row.len() as u128);
                if width * dims.engines() as u128 > MAX_TABLE {
                    return Err(too_large(dims.engines()));
                }
                engines.push(&row);
            }
            let mut products = Table::default();
            for engine in &attention {
                // The row of the shared engine is not read; it keeps the index equal to that of the dimension.
                let (p, u) = engine.unwrap_or((1, 1));
                products.push(&plan.attention_row(p, u)?);
            }
            let configurations = self.accelerators.len() * dims.weight_kib.len() * 2;
            if width * configurations as u128 > MAX_TABLE {
                return Err(too_large(configurations));
            }
            let mut loads = Table::default();
            for acc in &self.accelerators {
                for &kib in &dims.weight_kib {
                    for resident in [false, true] {
                        loads.push(&plan.load_row(acc, u64::from(kib) * 1024, resident)?);
                    }
                }
            }
            self.engines.push(engines);
            self.attention.push(products);
            self.loads.push(loads);
        }
        self.bounds =
            (0..self.plans.len()).map(|w| EngineBounds::new(self, w)).collect::<Result<Vec<_>>>()?;
        Ok(())
    }

    pub(super) fn engine_row(&self, workload: usize, engine: usize) -> &[f64] {
        self.engines.get(workload).map_or(&[], |t| t.row(engine))
    }

    pub(super) fn attention_row(&self, workload: usize, attention: usize) -> &[f64] {
        self.attention.get(workload).map_or(&[], |t| t.row(attention))
    }

    pub(super) fn plan(&self, workload: usize) -> Result<&Plan> {
        self.plans.get(workload).ok_or_else(|| HwError::config("point", "a point of the space", workload))
    }

    pub(super) fn decode(&self, point: &Point) -> Result<Design> {
        let dims = &self.spec.dims;
        let i = |dim: usize| point.index(dim);
        let size = |list: usize, dim: usize| (list, i(dim) as usize);
        let mut engine = 0usize;
        for (n, index) in [
            size(dims.kinds.len(), design::KIND),
            size(dims.rows.len(), design::ROWS),
            size(dims.cols.len(), design::COLS),
            size(dims.copies.len(), design::COPIES),
        ] {
            engine = engine * n + index;
        }
        let linear =
            dims.linear(engine).ok_or_else(|| HwError::config("point", "a point of the space", engine))?;
        let attention = pick(&self.attention_engines, i(design::ATTENTION))?;
        Ok(Design {
            workload: i(design::WORKLOAD) as usize,
            engine,
            linear,
            activation: pick(&dims.activation_bits, i(design::ACTIVATION_BITS))?,
            weight: pick(&dims.weight_bits, i(design::WEIGHT_BITS))?,
            index: [design::ACTIVATION_BITS, design::WEIGHT_BITS, design::PORTS, design::CLOCK]
                .map(|d| i(d) as usize),
            attention: attention.map(|(p, u)| (i(design::ATTENTION) as usize, p, u)),
            schedule: pick(&dims.schedules, i(design::SCHEDULE))?,
            ports: pick(&dims.ports, i(design::PORTS))?,
            weight_kib: i(design::WEIGHT_KIB) as usize,
            activation_kib: pick(&dims.activation_kib, i(design::ACTIVATION_KIB))?,
            storage: pick(&dims.storage, i(design::STORAGE))?,
        })
    }

    pub(super) fn accelerator_index(&self, d: &Design, derated: bool) -> usize {
        let dims = &self.spec.dims;
        let [a, w, p, c] = d.index;
        let widths = a * dims.weight_bits.len() + w;
        ((widths * dims.ports.len() + p) * dims.clock_mhz.len() + c) * 2 + usize::from(derated)
    }

    /// Bytes of the weight buffer: as asked, or what the schedule's experts need.
    pub(super) fn weight_store(
        &self,
        plan: &Plan,
        schedule: MoeSchedule,
        bits: u32,
        kib: u32,
    ) -> Result<u64> {
        let mut store = u64::from(kib) * 1024;
        for (work, _) in plan.moe_works() {
            let shape = work.shape();
            let stored = match schedule {
                MoeSchedule::AllResident => shape.experts,
                MoeSchedule::TokenByToken { cache_experts } => u64::from(cache_experts.max(1)),
                MoeSchedule::ExpertByExpert { prefetch: true, granularity: Granularity::Expert, .. } => 2,
                MoeSchedule::ExpertByExpert { .. } => 1,
            };
            let need =
                product("bytes", &[stored, crate::math::bytes("bytes", shape.expert_params()?, bits)?])?;
            store = store.max(need);
        }
        Ok(store)
    }

    /// Block memories of both buffers: (RAMB18, UltraRAM).
    pub(super) fn memories(
        &self,
        d: &Linear,
        bits: (u32, u32),
        bytes: (u64, u64),
        storage: Storage,
    ) -> Result<(u64, u64)> {
        let words = (d.activation_word(bits.0), d.weight_word(bits.1));
        let blocks =
            |word: u64, bytes: u64| pack(word, product("bits", &[bytes, 8])?.div_ceil(word).max(1), 1);
        let (activations, weights) = (blocks(words.0, bytes.0)?, blocks(words.1, bytes.1)?);
        Ok(match storage {
            Storage::BlockRam => (activations.ramb18 + weights.ramb18, 0),
            Storage::WeightsInUltraRam => (activations.ramb18, weights.uram),
            Storage::UltraRam => (0, activations.uram + weights.uram),
        })
    }

    /// Logic and multipliers; rises with units, widths and ports.
    pub(super) fn logic(&self, units: u64, attention: u64, bits: (u32, u32), ports: u32) -> Result<Used> {
        let kind = self.spec.base.platform.dsp_kind;
        let fabric = &self.spec.fabric;
        let dsp = fabric.dsp(kind, units, bits.0, bits.1)? + fabric.dsp(kind, attention, bits.0, bits.0)?;
        let unit_bits = product("bits", &[units, (bits.0 + bits.1).into()])?
            + product("bits", &[attention, (2 * bits.0).into()])?;
        let port_bits = u64::from(self.spec.base.port.width_bits) * u64::from(ports);
        let lut = fabric.lut(unit_bits, port_bits);
        Ok(Used { lut, ff: lut * fabric.ff_per_lut, dsp: dsp as f64, ..Used::default() })
    }

    /// Whether no single die of the package holds the design, so that it crosses between dies.
    fn spans_dies(&self, used: &Used) -> bool {
        let dies = &self.spec.base.platform.slrs;
        !dies.is_empty() && !dies.iter().any(|die| used.within(die))
    }

    /// The first resource beyond its ceiling, or all of them.
    pub(super) fn over(&self, used: &Used, all: bool, broken: &mut Vec<Violation>) {
        let (c, total) = (&self.spec.limits.ceilings, &self.usable);
        for (name, used, total, ceiling) in [
            ("dsp", used.dsp, total.dsp, c.dsp),
            ("lut", used.lut, total.lut, c.lut),
            ("ff", used.ff, total.ff, c.ff),
            ("ramb18", used.ramb18, total.ramb18, c.ramb18),
            ("uram", used.uram, total.uram, c.uram),
        ] {
            broken.extend(Violation::above(name, used, ceiling * total as f64));
            if !all && !broken.is_empty() {
                return;
            }
        }
    }

    /// Limits on latency, energy and power.
    pub(super) fn beyond(&self, o: &Objectives, broken: &mut Vec<Violation>) {
        let limits = &self.spec.limits;
        let mut above = |name, value, limit: Option<f64>| {
            broken.extend(limit.and_then(|limit| Violation::above(name, value, limit)));
        };
        above("latency", o.latency_s, limits.latency_s);
        above("energy", o.energy_j, limits.energy_j);
    }

    /// Cost of a design.
    pub(super) fn cost(&self, d: &Design) -> Result<Objectives, Rejection> {
        let plan = self.plan(d.workload)?;
        let bits = (d.activation, d.weight);
        let attention_units = d.attention.map_or(0, |(_, p, u)| u64::from(p) * u64::from(u));
        let mut used = self.logic(d.linear.units(), attention_units, bits, d.ports)?;
        let weight_kib = pick(&self.spec.dims.weight_kib, d.weight_kib as u32)?;
        let weight_bytes = self.weight_store(plan, d.schedule, d.weight, weight_kib)?;
        let activation_bytes = u64::from(d.activation_kib) * 1024;
        let (ramb18, uram) = self.memories(&d.linear, bits, (activation_bytes, weight_bytes), d.storage)?;
        (used.ramb18, used.uram) = (ramb18 as f64, uram as f64);
        let mut broken = Vec::new();
        self.over(&used, true, &mut broken);
        let footprint = |bits: u64| 2.0 * bits as f64 / 8.0;
        let tile = u64::from(d.linear.rows) * u64::from(d.linear.cols) * u64::from(d.weight);
        let tokens = d.linear.copies * u64::from(d.linear.rows + d.linear.cols) * u64::from(d.activation);
        broken.extend(Violation::below("weight-buffer", f64::from(weight_kib) * 1024.0, footprint(tile)));
        broken.extend(Violation::below("activation-buffer", activation_bytes as f64, footprint(tokens)));
        let accuracy = plan.workload.accuracy_of(d.activation, d.weight);
        if let Some(floor) = self.spec.limits.accuracy {
            // A network of unknown accuracy does not meet a floor.
            let value = accuracy.unwrap_or(floor - scale(floor));
            broken.extend(Violation::below("accuracy", value, floor));
        }
        if !broken.is_empty() {
            return Err(Rejection::Infeasible(broken));
        }
        let fractions = used.fractions(&self.usable);
        let slow = fractions.lut > self.spec.fabric.derate_above || self.spans_dies(&used);
        let index = self.accelerator_index(d, slow);
        let resident = crate::math::bytes("bytes", plan.workload.tokens, d.activation)? <= activation_bytes;
        let timing = self.timing(plan, d, index, resident)?;
        let dsp = |units, a, b| self.spec.fabric.dsp(self.spec.base.platform.dsp_kind, units, a, b);
        let linear_dsp = dsp(d.linear.units(), bits.0, bits.1)? as f64;
        let attention_dsp =
            if d.attention.is_some() { dsp(attention_units, bits.0, bits.0)? as f64 } else { linear_dsp };
        let energy_j = self.spec.energy.joules(&Activity {
            latency_s: timing.mean_s,
            dsp_cycles: linear_dsp * timing.linear + attention_dsp * timing.attention,
            cycles: timing.cycles,
            ramb18: used.ramb18,
            uram: used.uram,
            lut: used.lut,
            bytes: timing.bytes,
        });
        let objectives = Objectives {
            latency_s: timing.mean_s,
            latency_p95_s: timing.p95_s,
            energy_j,
            resources: fractions,
            memory_bytes: (weight_bytes + activation_bytes) as f64,
            accuracy,
        };
        self.beyond(&objectives, &mut broken);
        if let Some(limit) = self.spec.limits.power_w {
            broken.extend(Violation::above("power", energy_j / timing.mean_s, limit));
        }
        if broken.is_empty() { Ok(objectives) } else { Err(Rejection::Infeasible(broken)) }
    }

    /// Cycles, seconds and traffic, from the tables or from the formulas.
    fn timing(&self, plan: &Plan, d: &Design, accelerator: usize, resident: bool) -> Result<Timing> {
        let acc = self
            .accelerators
            .get(accelerator)
            .ok_or_else(|| HwError::config("point", "a point of the space", accelerator))?;
        if self.spec.memoise {
            let load =
                (accelerator * self.spec.dims.weight_kib.len() + d.weight_kib) * 2 + usize::from(resident);
            let attention = d.attention.map(|(a, ..)| self.attention_row(d.workload, a));
            let loads = self.loads.get(d.workload).map_or(&[][..], |t| t.row(load));
            return Ok(self.combine(plan, d, acc, self.engine_row(d.workload, d.engine), attention, loads));
        }
        let engine = plan.engine_row(&d.linear, &self.spec.base)?;
        let attention = d.attention.map(|(_, p, u)| plan.attention_row(p, u)).transpose()?;
        let kib = pick(&self.spec.dims.weight_kib, d.weight_kib as u32)?;
        let loads = plan.load_row(acc, u64::from(kib) * 1024, resident)?;
        Ok(self.combine(plan, d, acc, &engine, attention.as_deref(), &loads))
    }

    fn combine(
        &self,
        plan: &Plan,
        d: &Design,
        acc: &Accelerator,
        engine: &[f64],
        attention: Option<&[f64]>,
        loads: &[f64],
    ) -> Timing {
        let (engine, loads) = (plan.engine(engine), plan.loads(loads));
        let products = attention.map_or(engine.products, |row| plan.products(row));
        let dense = plan.dense(&engine, &products, &loads);
        let hz = acc.clock_hz() as f64;
        let overlap = self.spec.overlap_images && attention.is_some();
        let expert_bytes = f64::from(d.weight) / 8.0;
        let n = plan.workload.routings;
        let mut sum = Timing { attention: products.total, ..Timing::default() };
        let mut latencies: Vec<f64> = Vec::new();
        for routing in 0..n {
            let t = plan.total(dense, d.schedule, routing, &engine, &products, &loads);
            let cycles = if overlap { products.total.max(t.cycles - products.total) } else { t.cycles };
            sum.cycles += cycles / n as f64;
            sum.mean_s += cycles / hz / n as f64;
            sum.linear += (engine.linear + t.moe_compute) / n as f64;
            sum.bytes += (loads.bytes + expert_bytes * t.expert_params) / n as f64;
            if n > 1 {
                latencies.push(cycles / hz);
            }
        }
        // Nearest rank.
        latencies.sort_by(f64::total_cmp);
        let rank = (latencies.len() * 95).div_ceil(100).saturating_sub(1);
        sum.p95_s = latencies.get(rank).copied().unwrap_or(sum.mean_s);
        sum
    }
}

/// Means over routings.
#[derive(Debug, Clone, Copy, Default)]
struct Timing {
    cycles: f64,
    mean_s: f64,
    p95_s: f64,
    /// Busy cycles of the linear engine apart from attention.
    linear: f64,
    /// Busy cycles of the attention products.
    attention: f64,
    bytes: f64,
}

fn scale(limit: f64) -> f64 {
    if limit == 0.0 { 1.0 } else { limit.abs() }
}

fn too_large(configurations: usize) -> HwError {
    HwError::config(
        "dims",
        "few enough values for tables of 512 MiB; give fewer or turn `memoise` off",
        format!("{configurations} configurations"),
    )
}
