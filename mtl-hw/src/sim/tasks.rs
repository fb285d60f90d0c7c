//! Tasks on resources, run in the order of events.
use super::memory::{SharedMemory, Transfers};
use crate::math::positive;
use crate::{HwError, Result};
use std::cmp::Reverse;
use std::collections::BinaryHeap;

const NONE: u32 = u32::MAX;

/// A resource of a [`TaskGraph`]: a port or a unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct ResourceId(pub(super) u32);

/// A pool of buffer slots of a [`TaskGraph`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct PoolId(u32);

/// A task of a [`TaskGraph`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct TaskId(pub(super) u32);

#[derive(Debug, Clone, Copy)]
struct Task {
    cycles: u64,
    resource: u32,
    demand: u32, // bytes per cycle of a transfer; 0 for others
    acquire: u32,
    release: u32,
}

/// Tasks with durations, the resources that they run on, and what they wait for.
///
/// A resource has one or more equal servers and starts its tasks in the order in which they were added, as hardware
/// queues do; a task starts once a server is free, all tasks that it depends on have ended, and a slot of the pool that it
/// acquires is free. Since nothing overtakes, shorter tasks, more servers and more slots never lengthen a schedule.
///
/// ```
/// use mtl_hw::sim::TaskGraph;
/// let mut graph = TaskGraph::new();
/// let (port, unit) = (graph.resource(1)?, graph.resource(1)?);
/// let buffers = graph.pool(2)?;
/// for (load, compute) in [(10, 4), (6, 5)] {
///     let load = graph.task(port, load)?;
///     graph.acquire(load, buffers)?;
///     let compute = graph.task(unit, compute)?;
///     graph.after(compute, load)?;
///     graph.release(compute, buffers)?;
/// }
/// assert_eq!(graph.run()?.cycles, 10 + 6 + 5);
/// # Ok::<(), mtl_hw::HwError>(())
/// ```
#[derive(Debug, Clone, Default)]
pub struct TaskGraph {
    servers: Vec<u32>,
    slots: Vec<u32>,
    tasks: Vec<Task>,
    edges: Vec<(u32, u32)>,
    memory: Option<SharedMemory>,
}

impl TaskGraph {
    /// No resources and no tasks.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a resource of `servers` equal servers.
    ///
    /// # Errors
    ///
    /// [`HwError::Config`] when there is no server, or no id is left.
    pub fn resource(&mut self, servers: u32) -> Result<ResourceId> {
        positive("servers", servers.into())?;
        let id = next_id("resources", self.servers.len())?;
        self.servers.push(servers);
        Ok(ResourceId(id))
    }

    /// Adds a pool of buffer slots.
    ///
    /// # Errors
    ///
    /// [`HwError::Config`] when it has no slot, or no id is left.
    pub fn pool(&mut self, slots: u32) -> Result<PoolId> {
        positive("slots", slots.into())?;
        let id = next_id("pools", self.slots.len())?;
        self.slots.push(slots);
        Ok(PoolId(id))
    }

    /// Makes all transfers share a memory.
    pub fn share(&mut self, memory: SharedMemory) {
        self.memory = Some(memory);
    }

    /// Adds a task of `cycles` behind those that `resource` already has.
    ///
    /// # Errors
    ///
    /// [`HwError::Config`] for a resource of another graph, or when no id is left.
    pub fn task(&mut self, resource: ResourceId, cycles: u64) -> Result<TaskId> {
        self.add(resource, cycles, 0)
    }

    /// Adds a transfer that takes `cycles` at the port's full rate of `bytes_per_cycle`, and longer while all transfers
    /// together ask for more than the memory gives.
    ///
    /// # Errors
    ///
    /// [`HwError::Config`] for a zero rate, or as [`TaskGraph::task`].
    pub fn transfer(&mut self, port: ResourceId, cycles: u64, bytes_per_cycle: u32) -> Result<TaskId> {
        positive("bytes_per_cycle", bytes_per_cycle.into())?;
        self.add(port, cycles, bytes_per_cycle)
    }

    fn add(&mut self, resource: ResourceId, cycles: u64, demand: u32) -> Result<TaskId> {
        known("resource", resource.0, self.servers.len())?;
        let id = next_id("tasks", self.tasks.len())?;
        self.tasks.push(Task { cycles, resource: resource.0, demand, acquire: NONE, release: NONE });
        Ok(TaskId(id))
    }

    /// Lets `task` wait for the end of `earlier`.
    ///
    /// # Errors
    ///
    /// [`HwError::Config`] when `earlier` was not added before `task`, so that no cycle can arise.
    pub fn after(&mut self, task: TaskId, earlier: TaskId) -> Result<()> {
        known("task", task.0, self.tasks.len())?;
        if earlier.0 >= task.0 {
            return Err(HwError::config("earlier", format!("a task before task {}", task.0), earlier.0));
        }
        self.edges.push((earlier.0, task.0));
        Ok(())
    }

    /// Lets `task` take a slot when it starts.
    ///
    /// # Errors
    ///
    /// [`HwError::Config`] for a task or pool of another graph.
    pub fn acquire(&mut self, task: TaskId, pool: PoolId) -> Result<()> {
        known("pool", pool.0, self.slots.len())?;
        self.task_mut(task)?.acquire = pool.0;
        Ok(())
    }

    /// Lets `task` give a slot back when it ends.
    ///
    /// # Errors
    ///
    /// [`HwError::Config`] for a task or pool of another graph.
    pub fn release(&mut self, task: TaskId, pool: PoolId) -> Result<()> {
        known("pool", pool.0, self.slots.len())?;
        self.task_mut(task)?.release = pool.0;
        Ok(())
    }

    fn task_mut(&mut self, task: TaskId) -> Result<&mut Task> {
        let n = self.tasks.len();
        let must = || HwError::config("task", format!("below {n}"), task.0);
        self.tasks.get_mut(task.0 as usize).ok_or_else(must)
    }

    /// Number of tasks.
    #[must_use]
    pub fn len(&self) -> usize {
        self.tasks.len()
    }

    /// Whether there is no task.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.tasks.is_empty()
    }

    /// Prepares the graph for one or more runs.
    #[must_use]
    pub fn simulator(&self) -> Simulator {
        let (queue_start, queue) =
            group(self.servers.len(), self.tasks.iter().enumerate().map(|(i, t)| (t.resource, i as u32)));
        let (next_start, next) = group(self.tasks.len(), self.edges.iter().copied());
        let mut waits = vec![0; self.tasks.len()];
        self.edges.iter().for_each(|&(_, to)| waits[to as usize] += 1);
        let mut users: Vec<Vec<u32>> = vec![Vec::new(); self.slots.len()];
        for t in self.tasks.iter().filter(|t| t.acquire != NONE) {
            let users = &mut users[t.acquire as usize];
            if !users.contains(&t.resource) {
                users.push(t.resource);
            }
        }
        Simulator {
            heads: queue_start.clone(),
            free: self.servers.clone(),
            slots_free: self.slots.clone(),
            waiting: waits.clone(),
            busy: vec![0; self.servers.len()],
            servers: self.servers.clone(),
            slots: self.slots.clone(),
            tasks: self.tasks.clone(),
            queue_start,
            queue,
            next_start,
            next,
            waits,
            users,
            events: BinaryHeap::with_capacity(
                self.servers.iter().map(|&n| n as usize).sum::<usize>().min(1024),
            ),
            transfers: Transfers::new(self.memory),
        }
    }

    /// Runs the graph once.
    ///
    /// # Errors
    ///
    /// As [`Simulator::run`].
    pub fn run(&self) -> Result<Outcome> {
        self.simulator().run()
    }
}

/// Groups values by key, in order of arrival: start of each group, and the values.
fn group(keys: usize, pairs: impl Iterator<Item = (u32, u32)> + Clone) -> (Vec<u32>, Vec<u32>) {
    let mut start = vec![0u32; keys + 1];
    pairs.clone().for_each(|(key, _)| start[key as usize + 1] += 1);
    for i in 0..keys {
        start[i + 1] += start[i];
    }
    let mut at = start.clone();
    let mut values = vec![0; start[keys] as usize];
    pairs.for_each(|(key, value)| {
        values[at[key as usize] as usize] = value;
        at[key as usize] += 1;
    });
    (start, values)
}

fn next_id(what: &str, n: usize) -> Result<u32> {
    u32::try_from(n)
        .ok()
        .filter(|&id| id < NONE)
        .ok_or_else(|| HwError::config(what, "fewer than 2³² − 1", n))
}

fn known(what: &str, id: u32, n: usize) -> Result<()> {
    if (id as usize) < n { Ok(()) } else { Err(HwError::config(what, format!("below {n}"), id)) }
}

/// What a run took.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Outcome {
    /// Cycles until the last task ended.
    pub cycles: u64,
    /// Events: one per task.
    pub events: u64,
}

/// Start and end of a task.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Interval {
    /// First cycle.
    pub start: u64,
    /// Cycle after the last.
    pub end: u64,
}

/// A [`TaskGraph`] laid out for running; runs after the first allocate no memory.
#[derive(Debug, Clone)]
pub struct Simulator {
    servers: Vec<u32>,
    slots: Vec<u32>,
    tasks: Vec<Task>,
    queue_start: Vec<u32>,
    queue: Vec<u32>,
    next_start: Vec<u32>,
    next: Vec<u32>,
    waits: Vec<u32>,
    users: Vec<Vec<u32>>,
    // State of a run.
    heads: Vec<u32>,
    free: Vec<u32>,
    slots_free: Vec<u32>,
    waiting: Vec<u32>,
    busy: Vec<u64>,
    events: BinaryHeap<Reverse<(u64, u32)>>,
    transfers: Transfers,
}

impl Simulator {
    /// Runs all tasks.
    ///
    /// # Errors
    ///
    /// [`HwError::Overflow`] when time exceeds 64 bits; [`HwError::Config`] when tasks wait for slots that nobody gives
    /// back.
    pub fn run(&mut self) -> Result<Outcome> {
        self.drive(|_, _, _| ())
    }

    /// Runs all tasks, and writes when each ran, in the order of their ids.
    ///
    /// # Errors
    ///
    /// As [`Simulator::run`].
    pub fn record(&mut self, intervals: &mut Vec<Interval>) -> Result<Outcome> {
        intervals.clear();
        intervals.resize(self.tasks.len(), Interval::default());
        self.drive(|task, start, end| intervals[task as usize] = Interval { start, end })
    }

    /// Cycles for which the servers of a resource worked in the last run; 0 for a resource of another graph.
    #[must_use]
    pub fn busy(&self, resource: ResourceId) -> u64 {
        self.busy.get(resource.0 as usize).copied().unwrap_or(0)
    }

    fn drive(&mut self, mut seen: impl FnMut(u32, u64, u64)) -> Result<Outcome> {
        let resources = self.servers.len();
        self.heads.copy_from_slice(&self.queue_start[..=resources]);
        self.free.copy_from_slice(&self.servers);
        self.slots_free.copy_from_slice(&self.slots);
        self.waiting.copy_from_slice(&self.waits);
        self.busy.fill(0);
        self.events.clear();
        self.transfers.clear();
        for r in 0..resources {
            self.start(r, 0, &mut seen)?;
        }
        let (mut now, mut ended) = (0u64, 0u64);
        loop {
            let timed = self.events.peek().map(|&Reverse(event)| event);
            let transfer = self.transfers.next();
            let is_transfer = transfer.is_some_and(|t| timed.is_none_or(|event| t < event));
            let Some(event) = (if is_transfer { transfer } else { timed }) else { break };
            let (time, id) = event;
            if is_transfer {
                let start = self.transfers.finish(event)?;
                self.busy[self.tasks[id as usize].resource as usize] += time - start;
                seen(id, start, time);
            } else {
                self.events.pop();
            }
            now = time;
            ended += 1;
            self.finish(id, now, &mut seen)?;
        }
        if ended < self.tasks.len() as u64 {
            let stuck = self.stuck().unwrap_or_default();
            return Err(HwError::config(
                "tasks",
                "able to start once slots are free",
                format!("task {stuck}"),
            ));
        }
        Ok(Outcome { cycles: now, events: ended })
    }

    /// Starts what can start on a resource.
    #[inline]
    fn start(&mut self, r: usize, now: u64, seen: &mut impl FnMut(u32, u64, u64)) -> Result<()> {
        while self.free[r] > 0 && self.heads[r] < self.queue_start[r + 1] {
            let id = self.queue[self.heads[r] as usize];
            let task = self.tasks[id as usize];
            if self.waiting[id as usize] > 0 {
                break;
            }
            if task.acquire != NONE {
                let slots = &mut self.slots_free[task.acquire as usize];
                if *slots == 0 {
                    break;
                }
                *slots -= 1;
            }
            self.heads[r] += 1;
            self.free[r] -= 1;
            if task.demand > 0 && self.transfers.shared() {
                self.transfers.start(id, task.cycles, task.demand, now)?;
            } else {
                let end = now.checked_add(task.cycles).ok_or_else(overflow)?;
                self.busy[r] += task.cycles;
                seen(id, now, end);
                self.events.push(Reverse((end, id)));
            }
        }
        Ok(())
    }

    /// Ends a task and starts what waited for it.
    fn finish(&mut self, id: u32, now: u64, seen: &mut impl FnMut(u32, u64, u64)) -> Result<()> {
        let task = self.tasks[id as usize];
        self.free[task.resource as usize] += 1;
        if task.release != NONE {
            self.slots_free[task.release as usize] += 1;
            for i in 0..self.users[task.release as usize].len() {
                self.start(self.users[task.release as usize][i] as usize, now, seen)?;
            }
        }
        let next = self.next_start[id as usize]..self.next_start[id as usize + 1];
        for i in next {
            let successor = self.next[i as usize] as usize;
            self.waiting[successor] -= 1;
            if self.waiting[successor] == 0 {
                self.start(self.tasks[successor].resource as usize, now, seen)?;
            }
        }
        self.start(task.resource as usize, now, seen)
    }

    /// The first task that has not started.
    fn stuck(&self) -> Option<u32> {
        let heads = self.heads.iter().zip(self.queue_start.iter().skip(1));
        heads.filter(|(head, end)| head < end).map(|(&head, _)| self.queue[head as usize]).min()
    }
}

pub(super) fn overflow() -> HwError {
    HwError::Overflow { what: "cycles".to_owned() }
}
