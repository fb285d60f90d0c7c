//! The parameters of a design and the space they span.
use crate::cost::engine::{Dataflow, Engine, Systolic, Tile};
use crate::cost::{Granularity, MoeSchedule};
use crate::explore::{Dim, Space};
use crate::{HwError, Result};
use serde::{Deserialize, Serialize};

/// Kind of the linear engine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum EngineKind {
    /// Tiles of T_in × T_out multipliers with adder trees.
    Tile,
    /// Systolic array, outputs stay.
    OutputStationary,
    /// Systolic array, weights stay.
    WeightStationary,
    /// Systolic array, inputs stay.
    InputStationary,
}

impl EngineKind {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Tile => "tile",
            Self::OutputStationary => "systolic-os",
            Self::WeightStationary => "systolic-ws",
            Self::InputStationary => "systolic-is",
        }
    }

    fn engine(self, rows: u32, cols: u32) -> Engine {
        let systolic = |flow| Engine::Systolic(Systolic { rows, cols, flow });
        match self {
            Self::Tile => Engine::Tile(Tile { t_in: rows, t_out: cols, ii: 1, depth: 0 }),
            Self::OutputStationary => systolic(Dataflow::OutputStationary),
            Self::WeightStationary => systolic(Dataflow::WeightStationary),
            Self::InputStationary => systolic(Dataflow::InputStationary),
        }
    }
}

/// Which buffers are built of UltraRAM.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Storage {
    /// None.
    BlockRam,
    /// The weight buffers.
    WeightsInUltraRam,
    /// All.
    UltraRam,
}

impl Storage {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::BlockRam => "bram",
            Self::WeightsInUltraRam => "weights-uram",
            Self::UltraRam => "uram",
        }
    }
}

/// Values of every parameter of a design, in the order in which branch and bound assigns them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DesignDims {
    /// Kinds of the linear engine.
    pub kinds: Vec<EngineKind>,
    /// Rows R of an array, or input channels T_in of a tile.
    pub rows: Vec<u32>,
    /// Columns C of an array, or output channels T_out of a tile.
    pub cols: Vec<u32>,
    /// Arrays or tiles N_L, which share weights and split the tokens.
    pub copies: Vec<u32>,
    /// Widths of activations in bits.
    pub activation_bits: Vec<u32>,
    /// Widths of weights in bits.
    pub weight_bits: Vec<u32>,
    /// Query rows p of a separate attention engine; 0 for attention on the linear engine.
    pub attention_p: Vec<u32>,
    /// Dimensions u per cycle of a separate attention engine.
    pub attention_u: Vec<u32>,
    /// Schedules of MoE layers.
    pub schedules: Vec<MoeSchedule>,
    /// Clocks in MHz.
    pub clock_mhz: Vec<u32>,
    /// Weight ports.
    pub ports: Vec<u32>,
    /// Weight buffers, both halves, in KiB.
    pub weight_kib: Vec<u32>,
    /// Activation buffers in KiB.
    pub activation_kib: Vec<u32>,
    /// Block memories used.
    pub storage: Vec<Storage>,
}

impl Default for DesignDims {
    fn default() -> Self {
        Self {
            kinds: vec![EngineKind::Tile, EngineKind::OutputStationary, EngineKind::WeightStationary],
            rows: vec![4, 8, 12, 16, 24, 32, 48, 64],
            cols: vec![4, 8, 12, 16, 24, 32, 48, 64],
            copies: vec![1, 2, 4, 8],
            activation_bits: vec![8, 16],
            weight_bits: vec![8, 16],
            attention_p: vec![0, 1, 2, 4, 8, 16],
            attention_u: vec![4, 8, 16, 32],
            schedules: vec![MoeSchedule::reordered()],
            clock_mhz: vec![100, 150, 200, 250, 300],
            ports: vec![1, 2, 4],
            weight_kib: vec![64, 256, 1024],
            activation_kib: vec![64, 256, 1024],
            storage: vec![Storage::BlockRam, Storage::WeightsInUltraRam],
        }
    }
}

pub(super) const WORKLOAD: usize = 0;
pub(super) const KIND: usize = 1;
pub(super) const ROWS: usize = 2;
pub(super) const COLS: usize = 3;
pub(super) const COPIES: usize = 4;
pub(super) const ACTIVATION_BITS: usize = 5;
pub(super) const WEIGHT_BITS: usize = 6;
pub(super) const ATTENTION: usize = 7;
pub(super) const SCHEDULE: usize = 8;
pub(super) const CLOCK: usize = 9;
pub(super) const PORTS: usize = 10;
pub(super) const WEIGHT_KIB: usize = 11;
pub(super) const ACTIVATION_KIB: usize = 12;
pub(super) const STORAGE: usize = 13;

impl DesignDims {
    /// The space over workloads and these values.
    pub(super) fn space(&self, workloads: &[&str]) -> Result<Space> {
        let numbers = |name: &str, values: &[u32]| Dim::choice(name, values.iter().map(|&v| u64::from(v)));
        let positive = |name: &str, values: &[u32]| {
            if values.contains(&0) {
                return Err(HwError::config(format!("dims.{name}"), "positive", 0));
            }
            Ok(numbers(name, values))
        };
        positive("attention_u", &self.attention_u)?;
        let attention = self.attention();
        Space::new(vec![
            Dim::label("workload", workloads.iter().copied()),
            Dim::label("engine", self.kinds.iter().map(|k| k.name())),
            positive("rows", &self.rows)?,
            positive("cols", &self.cols)?,
            positive("copies", &self.copies)?,
            positive("activation_bits", &self.activation_bits)?,
            positive("weight_bits", &self.weight_bits)?,
            Dim::label("attention", attention.iter().map(attention_name)),
            Dim::label("schedule", self.schedules.iter().map(|&s| schedule_name(s))),
            positive("clock_mhz", &self.clock_mhz)?,
            positive("ports", &self.ports)?,
            positive("weight_kib", &self.weight_kib)?,
            positive("activation_kib", &self.activation_kib)?,
            Dim::label("storage", self.storage.iter().map(|s| s.name())),
        ])
    }

    /// Attention on the linear engine (none), or on an engine of (p, u).
    pub(super) fn attention(&self) -> Vec<Option<(u32, u32)>> {
        let mut list = Vec::new();
        for &p in &self.attention_p {
            if p == 0 {
                list.push(None);
            } else {
                list.extend(self.attention_u.iter().map(|&u| Some((p, u))));
            }
        }
        list
    }

    /// Number of linear engines; their index runs over kind, rows, columns, copies, the last fastest.
    pub(super) fn engines(&self) -> usize {
        self.kinds.len() * self.rows.len() * self.cols.len() * self.copies.len()
    }

    pub(super) fn linear(&self, index: usize) -> Option<Linear> {
        let (n, c, r) = (self.copies.len(), self.cols.len(), self.rows.len());
        let copies = *self.copies.get(index % n)?;
        let cols = *self.cols.get(index / n % c)?;
        let rows = *self.rows.get(index / (n * c) % r)?;
        let kind = *self.kinds.get(index / (n * c * r))?;
        Some(Linear { engine: kind.engine(rows, cols), kind, rows, cols, copies: copies.into() })
    }
}

fn attention_name(engine: &Option<(u32, u32)>) -> String {
    engine.map_or_else(|| "shared".to_owned(), |(p, u)| format!("p{p}u{u}"))
}

fn schedule_name(schedule: MoeSchedule) -> String {
    match schedule {
        MoeSchedule::AllResident => "all-resident".to_owned(),
        MoeSchedule::TokenByToken { cache_experts } => format!("token-by-token-cache-{cache_experts}"),
        MoeSchedule::ExpertByExpert { prefetch, granularity, first_load } => {
            let unit = if granularity == Granularity::Expert { "expert" } else { "matrix" };
            let prefetch = if prefetch { "prefetch" } else { "no-prefetch" };
            let first = if first_load == crate::cost::FirstLoad::Speculative { "-speculative" } else { "" };
            format!("by-{unit}-{prefetch}{first}")
        }
    }
}

/// The linear engine: equal arrays or tiles that split the tokens.
#[derive(Debug, Clone)]
pub(super) struct Linear {
    engine: Engine,
    pub(super) kind: EngineKind,
    pub(super) rows: u32,
    pub(super) cols: u32,
    pub(super) copies: u64,
}

impl Linear {
    pub(super) fn units(&self) -> u64 {
        u64::from(self.rows) * u64::from(self.cols) * self.copies
    }

    pub(super) fn gemm(&self, rows: u64, inner: u64, cols: u64) -> Result<u64> {
        self.engine.get().gemm_cycles(rows.div_ceil(self.copies), inner, cols)
    }

    /// Equal products, divided over the copies by product or by row, whichever is faster.
    pub(super) fn batched(&self, batch: u64, rows: u64, inner: u64, cols: u64) -> Result<u64> {
        let engine = self.engine.get();
        let by_product = engine.batched_cycles(batch.div_ceil(self.copies), rows, inner, cols)?;
        if self.copies == 1 {
            return Ok(by_product);
        }
        Ok(by_product.min(engine.batched_cycles(batch, rows.div_ceil(self.copies), inner, cols)?))
    }

    /// Bits of one word of the weight buffer: what the engine takes per cycle.
    pub(super) fn weight_word(&self, bits: u32) -> u64 {
        let words = match self.kind {
            EngineKind::Tile => u64::from(self.rows) * u64::from(self.cols),
            _ => u64::from(self.cols),
        };
        words * u64::from(bits)
    }

    /// Bits of one word of the activation buffer.
    pub(super) fn activation_word(&self, bits: u32) -> u64 {
        u64::from(self.rows) * self.copies * u64::from(bits)
    }
}

/// Cycles of one product of attention on its own engine with reordered queries: ⌈(N+p−1)/p⌉·M·⌈D/u⌉ for N queries, M keys
/// and D channels of all heads (Edge-MoE, ICCAD 2023, arXiv 2305.18691).
pub(super) fn attention_cycles(queries: u64, keys: u64, channels: u64, p: u32, u: u32) -> Result<u64> {
    let (p, u) = (u64::from(p), u64::from(u));
    let passes = crate::math::sum("queries", [queries, p - 1])?.div_ceil(p);
    crate::math::product("cycles", &[passes, keys, channels.div_ceil(u)])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn engines_run_over_the_last_parameter_first() {
        let dims = DesignDims::default();
        let last = dims.linear(dims.engines() - 1).unwrap();
        assert_eq!((last.kind, last.rows, last.cols, last.copies), (EngineKind::WeightStationary, 64, 64, 8));
        assert_eq!(dims.linear(1).unwrap().copies, 2);
        assert!(dims.linear(dims.engines()).is_none());
    }

    #[test]
    fn attention_of_edge_moe_takes_its_published_trip_count() {
        // golden/edge_moe_trip_counts.json: 102168 per product.
        assert_eq!(attention_cycles(129, 129, 192, 4, 8).unwrap(), 102_168);
    }
}
