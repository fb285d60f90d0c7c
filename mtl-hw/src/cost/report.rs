//! The result of a cost model.
use super::{MemoryPlan, MoeCost, PowerModel, Provenance};
use crate::graph::{OpKind, Part};
use crate::platform::{FitReport, Resource};
use serde::{Deserialize, Serialize};
use std::fmt;

/// The term that decides a layer's cycles.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Bound {
    /// Matrix engine.
    Compute,
    /// Loading the layer's weights.
    WeightLoad,
    /// Loading experts.
    ExpertLoad,
    /// Gate unit.
    Gate,
    /// Vector unit.
    Vector,
    /// Reading activations from off-chip memory.
    ActivationLoad,
    /// Writing activations to off-chip memory.
    Store,
    /// A port narrower than the kernel's words.
    Port,
    /// The off-chip memory itself.
    Memory,
    /// Latency of bursts, divisions and roots.
    Latency,
    /// Nothing: the work is hidden in other work.
    Hidden,
}

impl fmt::Display for Bound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Compute => "compute",
            Self::WeightLoad => "weight load",
            Self::ExpertLoad => "expert load",
            Self::Gate => "gate",
            Self::Vector => "vector",
            Self::ActivationLoad => "activation load",
            Self::Store => "store",
            Self::Port => "port",
            Self::Memory => "memory",
            Self::Latency => "latency",
            Self::Hidden => "hidden",
        })
    }
}

/// Cost of one node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LayerCost {
    /// Name of the node.
    pub name: String,
    /// Hardware unit.
    pub part: Part,
    /// Encoder block, if any.
    pub block: Option<u32>,
    /// Kind of operator.
    pub kind: OpKind,
    /// Useful multiply-accumulates.
    pub macs: u64,
    /// Cycles in which a compute unit works.
    pub compute_cycles: u64,
    /// Cycles in which the port loads this layer's weights.
    pub load_cycles: u64,
    /// The part of the loads that nothing hides.
    pub exposed_cycles: u64,
    /// Cycles that the layer adds to the frame: compute and exposed loads, or nothing when another layer hides all of it.
    pub cycles: u64,
    /// Bytes of weights loaded.
    pub weight_bytes: u64,
    /// The deciding term.
    pub bound: Bound,
    /// Details of a MoE layer.
    pub moe: Option<MoeCost>,
}

/// Sums over a group of layers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Totals {
    /// `embedding`, `blk.0 attention`, `blk.1 experts`, …
    pub group: String,
    /// Cycles in which a compute unit works.
    pub compute_cycles: u64,
    /// Loads that nothing hides.
    pub exposed_cycles: u64,
    /// Cycles in total.
    pub cycles: u64,
    /// Bytes of weights loaded.
    pub weight_bytes: u64,
    /// The deciding term of the group's longest layer.
    pub bound: Bound,
    longest: u64,
}

/// Cost of one image. `Display` prints it as a table.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// Name of the graph.
    pub model: String,
    /// Name of the accelerator.
    pub accelerator: String,
    /// What the numbers can be compared with.
    pub provenance: Provenance,
    /// Clock in Hz.
    pub clock_hz: u64,
    /// Cycles of one image.
    pub cycles: u64,
    /// Useful multiply-accumulates of one image.
    pub macs: u64,
    /// Bytes of weights loaded per image.
    pub weight_bytes: u64,
    /// Multiply-accumulates per cycle at full use of every matrix unit.
    pub peak_macs: u64,
    /// Cost of each node in order.
    pub layers: Vec<LayerCost>,
    /// On-chip buffers.
    pub memory: MemoryPlan,
    /// The design against the board. LUTs and flip-flops are estimated only where activations travel off chip.
    pub fit: FitReport,
    /// Power model behind the energy.
    pub power: PowerModel,
}

impl Report {
    /// Latency of one image in seconds.
    #[must_use]
    pub fn latency_s(&self) -> f64 {
        self.cycles as f64 / self.clock_hz as f64
    }

    /// Latency of one image in milliseconds.
    #[must_use]
    pub fn latency_ms(&self) -> f64 {
        1e3 * self.latency_s()
    }

    /// Energy of one image in joules: latency times the power of [`Report::power`].
    #[must_use]
    pub fn energy_j(&self) -> f64 {
        self.power.energy(self.latency_s()).0
    }

    /// Energy of one image in millijoules.
    #[must_use]
    pub fn energy_mj(&self) -> f64 {
        1e3 * self.energy_j()
    }

    /// Latency in milliseconds if every load were hidden.
    #[must_use]
    pub fn compute_only_ms(&self) -> f64 {
        let cycles: u64 = self.layers.iter().map(|l| l.compute_cycles).sum();
        1e3 * cycles as f64 / self.clock_hz as f64
    }

    /// On-chip memory in 2²⁰ bytes.
    #[must_use]
    pub fn on_chip_mib(&self) -> f64 {
        self.memory.total_mib()
    }

    /// Useful share of the matrix units' peak over the whole image.
    #[must_use]
    pub fn utilisation(&self) -> f64 {
        self.macs as f64 / (self.peak_macs as f64 * self.cycles as f64)
    }

    /// Sums per block and hardware unit, in order.
    #[must_use]
    pub fn totals(&self) -> Vec<Totals> {
        let mut totals: Vec<Totals> = Vec::new();
        for layer in &self.layers {
            let group = self.group(layer);
            if totals.last().is_none_or(|t| t.group != group) {
                totals.push(Totals {
                    group,
                    compute_cycles: 0,
                    exposed_cycles: 0,
                    cycles: 0,
                    weight_bytes: 0,
                    bound: Bound::Hidden,
                    longest: 0,
                });
            }
            if let Some(t) = totals.last_mut() {
                // Parts of the checked sums in this report.
                t.compute_cycles += layer.compute_cycles;
                t.exposed_cycles += layer.exposed_cycles;
                t.cycles += layer.cycles;
                t.weight_bytes += layer.weight_bytes;
                if layer.cycles > t.longest {
                    (t.longest, t.bound) = (layer.cycles, layer.bound);
                }
            }
        }
        totals
    }

    fn group(&self, layer: &LayerCost) -> String {
        let is_moe = |l: &&LayerCost| l.block == layer.block && l.kind == OpKind::MoeFfn;
        let unit = match layer.part {
            Part::Embedding => "embedding",
            Part::Attention => "attention",
            Part::FeedForward if self.layers.iter().any(|l| is_moe(&l)) => "experts",
            Part::FeedForward => "feed-forward",
            Part::Head => "head",
            Part::Backbone => "backbone",
        };
        layer.block.map_or_else(|| unit.to_owned(), |b| format!("blk.{b} {unit}"))
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{} on {}: {}", self.model, self.accelerator, self.provenance)?;
        writeln!(
            f,
            "{:<20} {:>11} {:>11} {:>11} {:>9} {:>11}  bound",
            "layers", "compute", "exposed", "cycles", "us", "weights KiB"
        )?;
        for t in self.totals() {
            writeln!(
                f,
                "{:<20} {:>11} {:>11} {:>11} {:>9.1} {:>11.1}  {}",
                t.group,
                t.compute_cycles,
                t.exposed_cycles,
                t.cycles,
                1e6 * t.cycles as f64 / self.clock_hz as f64,
                t.weight_bytes as f64 / 1024.0,
                t.bound,
            )?;
        }
        writeln!(
            f,
            "latency {:.3} ms ({:.3} ms of it compute), {:.1} % of peak",
            self.latency_ms(),
            self.compute_only_ms(),
            100.0 * self.utilisation()
        )?;
        writeln!(f, "energy {:.3} mJ at {}", self.energy_mj(), self.power)?;
        writeln!(
            f,
            "on-chip buffers {:.3} MiB, weights loaded {:.3} MiB per image",
            self.on_chip_mib(),
            self.weight_bytes as f64 / f64::from(1 << 20)
        )?;
        let estimated = self.fit.entries.iter().any(|e| e.resource == Resource::Lut);
        let how = if estimated {
            "memory packed by width; LUTs to a quarter at best"
        } else {
            "memory packed without loss; LUTs not estimated"
        };
        write!(f, "{} ({how})", self.fit)
    }
}
