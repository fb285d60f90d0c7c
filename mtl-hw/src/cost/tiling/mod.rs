//! One matrix product in tiles: off-chip traffic of the three outer orders, and time with double buffers.
mod plan;
mod search;
mod walk;

pub use search::{Objective, TilingSpace, best_tiling};

use super::engine::MatrixEngine;
use crate::math::{product, sum};
use crate::{HwError, Result};
use plan::Plan;
use serde::{Deserialize, Serialize};
use walk::{StepTimes, Walk};

/// Steps that [`tiled_cost`] walks at most.
const MAX_STEPS: u64 = 1 << 22;

/// Dimensions of C[m×n] = A[m×k]·B[k×n], of a layer or of a tile.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GemmShape {
    /// Rows of A and C.
    pub m: u64,
    /// Columns of A, rows of B.
    pub k: u64,
    /// Columns of B and C.
    pub n: u64,
}

impl GemmShape {
    /// A tile no larger than this layer.
    #[must_use]
    pub fn clip(&self, tile: Self) -> Self {
        Self { m: tile.m.min(self.m), k: tile.k.min(self.k), n: tile.n.min(self.n) }
    }

    fn fields(&self) -> [(&'static str, u64); 3] {
        [("m", self.m), ("k", self.k), ("n", self.n)]
    }
}

/// What stays on chip while the inner loops run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OuterOrder {
    /// A tile of C, over all of k: no partial sums leave the chip.
    OutputResident,
    /// A tile of B, over all of m.
    WeightResident,
    /// A tile of A, over all of n.
    InputResident,
}

/// Bits of stored numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OperandBits {
    /// A.
    pub a: u32,
    /// B.
    pub b: u32,
    /// Finished C.
    pub c: u32,
    /// Partial sums.
    pub accumulator: u32,
}

/// On-chip buffers in bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TileBuffers {
    /// For A.
    pub a_bits: u64,
    /// For B.
    pub b_bits: u64,
    /// For C; zero when C shares the buffer of A.
    pub c_bits: u64,
    /// Two of each tile, one working while the other moves.
    pub ping_pong: bool,
}

/// Off-chip ports of the buffers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TilePorts {
    /// One port for loads and stores.
    Shared {
        /// Bits per cycle.
        bits: u32,
    },
    /// One port for each direction.
    Separate {
        /// Bits per cycle in.
        load_bits: u32,
        /// Bits per cycle out.
        store_bits: u32,
    },
}

/// Everything that fixes the cost of a tiled product but the tile.
#[derive(Debug, Clone, Copy)]
pub struct TiledDesign<'a> {
    /// The engine.
    pub engine: &'a dyn MatrixEngine,
    /// Number widths.
    pub bits: OperandBits,
    /// Buffers.
    pub buffers: TileBuffers,
    /// Ports.
    pub ports: TilePorts,
}

/// Off-chip bits of each operand.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct TileTraffic {
    /// Reads of A.
    pub a: u64,
    /// Reads of B.
    pub b: u64,
    /// Reads of partial sums.
    pub partial_reads: u64,
    /// Writes of partial sums.
    pub partial_writes: u64,
    /// Writes of finished C.
    pub c: u64,
}

impl TileTraffic {
    /// All bits.
    ///
    /// # Errors
    ///
    /// [`HwError::Overflow`] beyond 64 bits.
    pub fn total(&self) -> Result<u64> {
        sum("traffic", [self.a, self.b, self.partial_reads, self.partial_writes, self.c])
    }
}

/// The longest part of a layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TileBound {
    /// Engine.
    Compute,
    /// Reads.
    Load,
    /// Writes.
    Store,
    /// Reads and writes together on a shared port.
    Port,
}

/// Cost of one tiled product.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct TiledCost {
    /// Cycles from the first load to the last store.
    pub cycles: u64,
    /// Cycles of the engine.
    pub compute: u64,
    /// Cycles of reads.
    pub load: u64,
    /// Cycles of writes.
    pub store: u64,
    /// Cycles of the first load, which nothing hides.
    pub first_load: u64,
    /// Cycles of the last store, which nothing hides.
    pub last_store: u64,
    /// Tiles computed.
    pub steps: u64,
    /// Off-chip bits.
    pub traffic: TileTraffic,
    /// What dominates.
    pub bound: TileBound,
}

/// Off-chip traffic in closed form, with m, n, k the tile counts: output resident A·n + B·m + C; weight resident
/// A·n + B + C with 2k − 1 passes of partial sums; input resident A + B·m + C likewise. A factor drops to one when the
/// whole operand fits its buffer, and that of A in the first order also for k = 1, where one tile serves all of n. Partial
/// sums vanish for k = 1, when all of C fits, or when the innermost loop has one step.
///
/// # Errors
///
/// [`HwError::Config`] for a zero, a tile larger than the layer, or a tile that does not fit a buffer;
/// [`HwError::Overflow`] beyond 64 bits.
pub fn traffic(
    layer: &GemmShape,
    tile: &GemmShape,
    order: OuterOrder,
    bits: &OperandBits,
    buffers: &TileBuffers,
) -> Result<TileTraffic> {
    let plan = Plan::new(layer, tile, order, bits, buffers)?;
    let [a, b, c, partial] = plan.whole_bits;
    let (a_passes, b_passes) = match order {
        OuterOrder::OutputResident => (if plan.k == 1 { 1 } else { plan.n }, plan.m),
        OuterOrder::WeightResident => (plan.n, 1),
        OuterOrder::InputResident => (1, plan.m),
    };
    let passes = |resident: bool, n: u64| if resident { 1 } else { n };
    let spills = if plan.spills() { plan.k - 1 } else { 0 };
    Ok(TileTraffic {
        a: product("traffic", &[a, passes(plan.a_resident, a_passes)])?,
        b: product("traffic", &[b, passes(plan.b_resident, b_passes)])?,
        partial_reads: product("traffic", &[partial, spills])?,
        partial_writes: product("traffic", &[partial, spills])?,
        c,
    })
}

/// Time and traffic of one tiled product, step by step: with double buffers the next tile loads and the previous one is
/// stored while one computes, so a step takes max(compute, next load, previous store), on a shared port
/// max(compute, next load + previous store); without, the three add.
///
/// ```
/// use mtl_hw::cost::engine::MacPool;
/// use mtl_hw::cost::tiling::*;
/// let layer = GemmShape { m: 64, k: 64, n: 64 };
/// let design = TiledDesign {
///     engine: &MacPool { units: 64 },
///     bits: OperandBits { a: 8, b: 8, c: 8, accumulator: 32 },
///     buffers: TileBuffers { a_bits: 1 << 16, b_bits: 1 << 16, c_bits: 1 << 16, ping_pong: true },
///     ports: TilePorts::Shared { bits: 128 },
/// };
/// let tile = GemmShape { m: 32, k: 64, n: 64 };
/// let cost = tiled_cost(&layer, &tile, OuterOrder::WeightResident, &design)?;
/// // Load half of A and all of B, compute twice, store half of C.
/// assert_eq!(cost.cycles, (128 + 256) + 2 * 2048 + 128);
/// # Ok::<(), mtl_hw::HwError>(())
/// ```
///
/// # Errors
///
/// As [`traffic`]; [`HwError::Config`] for more than 2²² tiles.
pub fn tiled_cost(
    layer: &GemmShape,
    tile: &GemmShape,
    order: OuterOrder,
    design: &TiledDesign<'_>,
) -> Result<TiledCost> {
    let plan = Plan::new(layer, tile, order, &design.bits, &design.buffers)?;
    let steps = plan.steps()?;
    if steps > MAX_STEPS {
        return Err(HwError::config("tile", format!("large enough for at most {MAX_STEPS} steps"), steps));
    }
    let times = StepTimes::new(&plan, design)?;
    let mut walk = Walk::new(&plan, &times, design);
    for step in 0..steps {
        walk.step(step)?;
    }
    let mut cost = walk.finish()?;
    cost.traffic = traffic(layer, tile, order, &design.bits, &design.buffers)?;
    Ok(cost)
}

#[cfg(test)]
mod tests;
