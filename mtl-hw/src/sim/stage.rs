//! A model as a chain of stages: weights arrive through one port, in order, while earlier stages compute.
//!
//! The same chain is run in two ways: as a [`TaskGraph`] of events, which can be recorded, and by a loop that visits each
//! stage once. Both give the same cycles.
use super::tasks::{Interval, TaskGraph, TaskId, overflow};
use crate::cost::ping_pong::Step;
use crate::{HwError, Result};
use serde::{Deserialize, Serialize};

/// How far loads run ahead of computations.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Overlap {
    /// Every load waits for the computation before it.
    Serial,
    /// Buffers are swapped when a large stage starts, and later loads wait for the swap: the closed form.
    Barrier,
    /// A load waits for the port and for a free buffer.
    #[default]
    Free,
}

/// The unit that computes a stage.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Unit {
    Matrix,
    Vector,
    Gate,
}

/// One load and the computation that needs it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stage {
    pub(super) node: u32,
    pub(super) expert: Option<u16>,
    pub(super) load: u64,
    pub(super) compute: u64,
    pub(super) unit: Unit,
    /// The load fills one of the weight buffers; otherwise it has a small buffer of its own.
    pub(super) acquires: bool,
    /// The computation is the last that needs the buffer.
    pub(super) releases: bool,
    /// The load is known to be needed only when the computation before it has ended.
    pub(super) on_demand: bool,
}

/// The loop over a chain: ends of the last load and computation, and of those that free a buffer.
#[derive(Debug, Clone)]
pub(super) struct Chain {
    overlap: Overlap,
    freed: Vec<u64>, // ring of one slot per buffer; empty when there is any number of them
    acquired: usize,
    released: usize,
    load_end: u64,
    swap: u64,
    pub(super) compute_end: u64,
}

impl Chain {
    pub(super) fn new(overlap: Overlap, buffers: Option<u32>) -> Result<Self> {
        Ok(Self {
            overlap,
            freed: vec![0; buffer_count(buffers)?],
            acquired: 0,
            released: 0,
            load_end: 0,
            swap: 0,
            compute_end: 0,
        })
    }

    pub(super) fn clear(&mut self) {
        self.freed.fill(0);
        (self.acquired, self.released, self.load_end, self.swap, self.compute_end) = (0, 0, 0, 0, 0);
    }

    #[inline]
    pub(super) fn push(&mut self, s: &Stage) -> Result<()> {
        let mut ready = self.compute_end;
        if s.loads() {
            let mut start = self.load_end;
            if s.on_demand || self.overlap == Overlap::Serial {
                start = start.max(self.compute_end);
            }
            if self.overlap == Overlap::Barrier {
                start = start.max(self.swap);
            }
            if s.acquires && !self.freed.is_empty() {
                start = start.max(self.freed[self.acquired]);
                self.acquired = wrap(self.acquired + 1, self.freed.len());
            }
            self.load_end = start.checked_add(s.load).ok_or_else(overflow)?;
            ready = ready.max(self.load_end);
            if s.acquires {
                self.swap = ready;
            }
        }
        self.compute_end = ready.checked_add(s.compute).ok_or_else(overflow)?;
        if s.releases && !self.freed.is_empty() {
            self.freed[self.released] = self.compute_end;
            self.released = wrap(self.released + 1, self.freed.len());
        }
        Ok(())
    }
}

/// Slots of the ring, 0 for any number of buffers.
fn buffer_count(buffers: Option<u32>) -> Result<usize> {
    match buffers {
        None => Ok(0),
        Some(n @ 1..=0x1_0000) => Ok(n as usize),
        Some(n) => Err(HwError::config("weight_buffers", "from 1 to 65536", n)),
    }
}

fn wrap(i: usize, n: usize) -> usize {
    if i == n { 0 } else { i }
}

/// Cycles of plain steps, the first load included.
pub(super) fn makespan_of(
    steps: impl IntoIterator<Item = Step>,
    overlap: Overlap,
    buffers: Option<u32>,
) -> Result<u64> {
    let mut chain = Chain::new(overlap, buffers)?;
    steps.into_iter().try_for_each(|s| chain.push(&Stage::step(s)))?;
    Ok(chain.compute_end)
}

impl Stage {
    /// A load into a weight buffer, of no cycles even, and the computation that frees it.
    pub(super) fn step(s: Step) -> Self {
        Self {
            node: 0,
            expert: None,
            load: s.load,
            compute: s.compute,
            unit: Unit::Matrix,
            acquires: true,
            releases: true,
            on_demand: false,
        }
    }

    /// Whether the port has to do with it.
    fn loads(&self) -> bool {
        self.load > 0 || self.acquires
    }
}

/// When a stage's load and computation ran, if it has them.
pub(super) type StageTimes = (Option<Interval>, Option<Interval>);

/// The chain as tasks: `(load, compute)` of each stage.
pub(super) struct Network {
    pub(super) graph: TaskGraph,
    pub(super) tasks: Vec<(Option<TaskId>, Option<TaskId>)>,
}

impl Network {
    pub(super) fn of(stages: &[Stage], overlap: Overlap, buffers: Option<u32>) -> Result<Self> {
        buffer_count(buffers)?;
        let mut graph = TaskGraph::new();
        let port = graph.resource(1)?;
        let units = [graph.resource(1)?, graph.resource(1)?, graph.resource(1)?];
        let swaps = graph.resource(1)?;
        let pool = buffers.map(|n| graph.pool(n)).transpose()?;
        let mut tasks = Vec::with_capacity(stages.len());
        let (mut last, mut swap): (Option<TaskId>, Option<TaskId>) = (None, None);
        for s in stages {
            let load = if s.loads() { Some(graph.task(port, s.load)?) } else { None };
            if let Some(load) = load {
                if s.on_demand || overlap == Overlap::Serial {
                    wait(&mut graph, load, last)?;
                }
                wait(&mut graph, load, swap)?;
                if let Some(pool) = pool.filter(|_| s.acquires) {
                    graph.acquire(load, pool)?;
                }
            }
            // A computation of no cycles still waits for its load, and others for it.
            let compute = if s.compute > 0 || load.is_some() || s.releases {
                let mut waits_for = [load, last];
                if overlap == Overlap::Barrier && s.acquires {
                    let marker = graph.task(swaps, 0)?;
                    wait(&mut graph, marker, load)?;
                    wait(&mut graph, marker, last)?;
                    swap = Some(marker);
                    waits_for = [swap, None];
                }
                let compute = graph.task(units[s.unit as usize], s.compute)?;
                wait(&mut graph, compute, waits_for[0])?;
                wait(&mut graph, compute, waits_for[1])?;
                if let Some(pool) = pool.filter(|_| s.releases) {
                    graph.release(compute, pool)?;
                }
                last = Some(compute);
                last
            } else {
                None
            };
            tasks.push((load, compute));
        }
        Ok(Self { graph, tasks })
    }

    /// Runs the events; the intervals of each stage's load and computation.
    pub(super) fn run(&self) -> Result<(super::Outcome, Vec<StageTimes>)> {
        let mut intervals = Vec::new();
        let outcome = self.graph.simulator().record(&mut intervals)?;
        let of = |t: Option<TaskId>| t.and_then(|t| intervals.get(t.0 as usize).copied());
        Ok((outcome, self.tasks.iter().map(|&(load, compute)| (of(load), of(compute))).collect()))
    }
}

fn wait(graph: &mut TaskGraph, task: TaskId, earlier: Option<TaskId>) -> Result<()> {
    earlier.map_or(Ok(()), |e| graph.after(task, e))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn stages() -> impl Strategy<Value = Vec<Stage>> {
        let stage = (0u64..50, 0u64..50, any::<bool>(), any::<bool>(), 0u8..3).prop_map(
            |(load, compute, large, on_demand, unit)| Stage {
                acquires: large,
                releases: large,
                on_demand,
                unit: [Unit::Matrix, Unit::Vector, Unit::Gate][unit as usize],
                ..Stage::step(Step { load, compute })
            },
        );
        proptest::collection::vec(stage, 0..30)
    }

    proptest! {
        #[test]
        fn the_loop_gives_the_cycles_of_the_events(stages in stages(), buffers in proptest::option::of(1u32..4)) {
            let mut cycles = Vec::new();
            for overlap in [Overlap::Free, Overlap::Barrier, Overlap::Serial] {
                let network = Network::of(&stages, overlap, buffers).unwrap();
                let (outcome, intervals) = network.run().unwrap();
                let mut chain = Chain::new(overlap, buffers).unwrap();
                for (s, (_, compute)) in stages.iter().zip(&intervals) {
                    chain.push(s).unwrap();
                    if let Some(compute) = compute {
                        prop_assert_eq!(compute.end, chain.compute_end);
                    }
                }
                prop_assert_eq!(outcome.cycles, chain.compute_end);
                cycles.push(outcome.cycles);
            }
            prop_assert!(cycles[0] <= cycles[1] && cycles[1] <= cycles[2], "{:?}", cycles);
        }
    }
}
