//! One matrix product in tiles: off-chip traffic of the three outer orders, and time with double buffers.
mod search;

pub use search::{Objective, TilingSpace, best_tiling};

use super::engine::MatrixEngine;
use crate::math::{positive, product, sum};
use crate::{HwError, Result};
use serde::{Deserialize, Serialize};

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
/// whole operand fits its buffer, partial sums vanish for k = 1 or when all of C fits.
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
        OuterOrder::OutputResident => (plan.n, plan.m),
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

/// Tile counts and what fits as a whole.
struct Plan {
    order: OuterOrder,
    tile: GemmShape,
    layer: GemmShape,
    m: u64,
    n: u64,
    k: u64,
    /// Bits of A, B, C and partial C.
    whole_bits: [u64; 4],
    a_resident: bool,
    b_resident: bool,
    c_resident: bool,
}

impl Plan {
    fn new(
        layer: &GemmShape,
        tile: &GemmShape,
        order: OuterOrder,
        bits: &OperandBits,
        buffers: &TileBuffers,
    ) -> Result<Self> {
        for ((field, whole), (_, part)) in layer.fields().into_iter().zip(tile.fields()) {
            positive(&format!("layer.{field}"), whole)?;
            positive(&format!("tile.{field}"), part)?;
            if part > whole {
                let must = format!("at most the layer's {whole}; clip it if that is meant");
                return Err(HwError::config(format!("tile.{field}"), must, part));
            }
        }
        for (field, width) in [
            ("bits.a", bits.a),
            ("bits.b", bits.b),
            ("bits.c", bits.c),
            ("bits.accumulator", bits.accumulator),
        ] {
            positive(field, width.into())?;
        }
        let area = |x: u64, y: u64, width: u32| product("bits", &[x, y, width.into()]);
        let whole_bits = [
            area(layer.m, layer.k, bits.a)?,
            area(layer.k, layer.n, bits.b)?,
            area(layer.m, layer.n, bits.c)?,
            area(layer.m, layer.n, bits.accumulator)?,
        ];
        let (m, n, k) = (layer.m.div_ceil(tile.m), layer.n.div_ceil(tile.n), layer.k.div_ceil(tile.k));
        let mut plan = Self {
            order,
            tile: *tile,
            layer: *layer,
            m,
            n,
            k,
            whole_bits,
            a_resident: false,
            b_resident: false,
            c_resident: false,
        };
        plan.fit(bits, buffers)?;
        Ok(plan)
    }

    /// Decides what is resident, and refuses tiles that their buffers cannot hold.
    fn fit(&mut self, bits: &OperandBits, buffers: &TileBuffers) -> Result<()> {
        let copies = if buffers.ping_pong { 2 } else { 1 };
        let tile = self.tile;
        // Partial sums are wider than finished results; with one step over k none are stored.
        let c_width = if self.k > 1 { bits.accumulator } else { bits.c };
        let a_tile = product("bits", &[tile.m, tile.k, bits.a.into(), copies])?;
        let b_tile = product("bits", &[tile.k, tile.n, bits.b.into(), copies])?;
        let c_tile = product("bits", &[tile.m, tile.n, c_width.into(), copies])?;
        let c_whole = if self.k > 1 { self.whole_bits[3] } else { self.whole_bits[2] };
        let (c_room, a_room) = if buffers.c_bits == 0 {
            // C takes its tiles from the shared buffer first.
            (buffers.a_bits, buffers.a_bits.saturating_sub(c_tile.min(c_whole)))
        } else {
            (buffers.c_bits, buffers.a_bits)
        };
        for (name, needed, whole, room) in [
            ("a", a_tile, self.whole_bits[0], a_room),
            ("b", b_tile, self.whole_bits[1], buffers.b_bits),
            ("c", c_tile, c_whole, c_room),
        ] {
            if needed.min(whole) > room {
                let must = format!("within the buffer's {room} bits");
                return Err(HwError::config(format!("tile bits of {name}"), must, needed.min(whole)));
            }
        }
        self.a_resident = self.whole_bits[0] <= a_room;
        self.b_resident = self.whole_bits[1] <= buffers.b_bits;
        self.c_resident = c_whole
            <= if buffers.c_bits == 0 {
                buffers.a_bits.saturating_sub(if self.a_resident { self.whole_bits[0] } else { a_tile })
            } else {
                buffers.c_bits
            };
        Ok(())
    }

    fn spills(&self) -> bool {
        self.order != OuterOrder::OutputResident && self.k > 1 && !self.c_resident
    }

    fn steps(&self) -> Result<u64> {
        product("steps", &[self.m, self.n, self.k])
    }

    /// Tile indices (i, j, l) along m, n, k of a step.
    fn indices(&self, step: u64) -> (u64, u64, u64) {
        match self.order {
            OuterOrder::OutputResident => (step / self.k / self.n, step / self.k % self.n, step % self.k),
            OuterOrder::WeightResident => (step % self.m, step / self.m / self.k, step / self.m % self.k),
            OuterOrder::InputResident => (step / self.n / self.k, step % self.n, step / self.n % self.k),
        }
    }

    /// Sizes of a tile at these indices; the last ones may be smaller.
    fn size(&self, (i, j, l): (u64, u64, u64)) -> (bool, bool, bool) {
        (i + 1 == self.m, j + 1 == self.n, l + 1 == self.k)
    }
}

/// Times of full and edge tiles, indexed by whether each dimension is the last.
struct StepTimes {
    compute: [u64; 8],
    a: [u64; 4],
    b: [u64; 4],
    partial: [u64; 4],
    partial_out: [u64; 4],
    c: [u64; 4],
}

impl StepTimes {
    fn new(plan: &Plan, design: &TiledDesign<'_>) -> Result<Self> {
        let (load, store) = match design.ports {
            TilePorts::Shared { bits } => (bits, bits),
            TilePorts::Separate { load_bits, store_bits } => (load_bits, store_bits),
        };
        let (load, store) = (positive("load_bits", load.into())?, positive("store_bits", store.into())?);
        let edge = |whole: u64, part: u64, count: u64, last: usize| {
            if last == 1 { whole - part * (count - 1) } else { part }
        };
        let m = |last| edge(plan.layer.m, plan.tile.m, plan.m, last);
        let n = |last| edge(plan.layer.n, plan.tile.n, plan.n, last);
        let k = |last| edge(plan.layer.k, plan.tile.k, plan.k, last);
        let mut times =
            Self { compute: [0; 8], a: [0; 4], b: [0; 4], partial: [0; 4], partial_out: [0; 4], c: [0; 4] };
        for (index, slot) in times.compute.iter_mut().enumerate() {
            *slot = design.engine.gemm_cycles(m(index >> 2), k(index & 1), n(index >> 1 & 1))?;
        }
        let area = |x: u64, y: u64, bits: u32, port: u64| {
            Ok::<u64, HwError>(product("bits", &[x, y, bits.into()])?.div_ceil(port))
        };
        for index in 0..4usize {
            let (x, y) = (index >> 1, index & 1);
            times.a[index] = area(m(x), k(y), design.bits.a, load)?;
            times.b[index] = area(k(x), n(y), design.bits.b, load)?;
            times.partial[index] = area(m(x), n(y), design.bits.accumulator, load)?;
            times.partial_out[index] = area(m(x), n(y), design.bits.accumulator, store)?;
            times.c[index] = area(m(x), n(y), design.bits.c, store)?;
        }
        Ok(times)
    }
}

/// The three-stage pipeline: load of step s + 1, computation of s, store of s − 1.
struct Walk<'a> {
    plan: &'a Plan,
    times: &'a StepTimes,
    shared: bool,
    ping_pong: bool,
    previous: Option<(u64, u64, u64)>,
    /// Computation of the last step and store of the one before it, still to be placed.
    pending: Option<(u64, u64)>,
    waiting_store: u64,
    cost: TiledCost,
}

impl<'a> Walk<'a> {
    fn new(plan: &'a Plan, times: &'a StepTimes, design: &TiledDesign<'_>) -> Self {
        Self {
            plan,
            times,
            shared: matches!(design.ports, TilePorts::Shared { .. }),
            ping_pong: design.buffers.ping_pong,
            previous: None,
            pending: None,
            waiting_store: 0,
            cost: TiledCost {
                cycles: 0,
                compute: 0,
                load: 0,
                store: 0,
                first_load: 0,
                last_store: 0,
                steps: 0,
                traffic: TileTraffic::default(),
                bound: TileBound::Compute,
            },
        }
    }

    fn step(&mut self, step: u64) -> Result<()> {
        let (plan, times) = (self.plan, self.times);
        let at @ (i, j, l) = plan.indices(step);
        let (mi, nj, kl) = plan.size(at);
        let two = |x: bool, y: bool| usize::from(x) << 1 | usize::from(y);
        let before = self.previous;
        let moved = |f: fn((u64, u64, u64)) -> (u64, u64), now: (u64, u64)| before.map(f) != Some(now);
        // A resident operand loads each tile once: when the index of the dimension it lacks is at its first value.
        let mut load = 0;
        if if plan.a_resident { j == 0 } else { moved(|(i, _, l)| (i, l), (i, l)) } {
            load = sum("cycles", [load, times.a[two(mi, kl)]])?;
        }
        if if plan.b_resident { i == 0 } else { moved(|(_, j, l)| (j, l), (j, l)) } {
            load = sum("cycles", [load, times.b[two(kl, nj)]])?;
        }
        let mut store = if kl { times.c[two(mi, nj)] } else { 0 };
        if plan.spills() {
            if l > 0 {
                load = sum("cycles", [load, times.partial[two(mi, nj)]])?;
            }
            if !kl {
                store = times.partial_out[two(mi, nj)];
            }
        }
        let compute = times.compute[usize::from(mi) << 2 | usize::from(nj) << 1 | usize::from(kl)];
        self.place(load)?;
        self.pending = Some((compute, self.waiting_store));
        self.waiting_store = store;
        self.previous = Some(at);
        let c = &mut self.cost;
        c.compute = sum("cycles", [c.compute, compute])?;
        c.load = sum("cycles", [c.load, load])?;
        c.store = sum("cycles", [c.store, store])?;
        c.steps += 1;
        Ok(())
    }

    /// Adds the pending step, now that the load beside it is known.
    fn place(&mut self, next_load: u64) -> Result<()> {
        let time = match self.pending {
            None => {
                self.cost.first_load = next_load;
                next_load
            }
            Some((compute, store)) if !self.ping_pong => sum("cycles", [compute, store, next_load])?,
            Some((compute, store)) if self.shared => compute.max(sum("cycles", [store, next_load])?),
            Some((compute, store)) => compute.max(store).max(next_load),
        };
        self.cost.cycles = sum("cycles", [self.cost.cycles, time])?;
        Ok(())
    }

    fn finish(mut self) -> Result<TiledCost> {
        self.place(0)?;
        self.cost.last_store = self.waiting_store;
        self.cost.cycles = sum("cycles", [self.cost.cycles, self.waiting_store])?;
        let c = &mut self.cost;
        let traffic_time = if self.shared { c.load.saturating_add(c.store) } else { c.load.max(c.store) };
        c.bound = match () {
            () if traffic_time <= c.compute => TileBound::Compute,
            () if self.shared && c.load.max(c.store) <= c.compute => TileBound::Port,
            () if c.load >= c.store => TileBound::Load,
            () => TileBound::Store,
        };
        Ok(self.cost)
    }
}

#[cfg(test)]
mod tests;
