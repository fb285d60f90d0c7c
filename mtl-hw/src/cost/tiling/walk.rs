//! A tiled product step by step.
use super::plan::Plan;
use super::{TileBound, TilePorts, TileTraffic, TiledCost, TiledDesign};
use crate::math::{positive, product, sum};
use crate::{HwError, Result};

/// Times of full and edge tiles, indexed by whether each dimension is the last.
pub(super) struct StepTimes {
    compute: [u64; 8],
    a: [u64; 4],
    b: [u64; 4],
    partial: [u64; 4],
    partial_out: [u64; 4],
    c: [u64; 4],
}

impl StepTimes {
    pub(super) fn new(plan: &Plan, design: &TiledDesign<'_>) -> Result<Self> {
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
pub(super) struct Walk<'a> {
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
    pub(super) fn new(plan: &'a Plan, times: &'a StepTimes, design: &TiledDesign<'_>) -> Self {
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

    pub(super) fn step(&mut self, step: u64) -> Result<()> {
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

    pub(super) fn finish(mut self) -> Result<TiledCost> {
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
