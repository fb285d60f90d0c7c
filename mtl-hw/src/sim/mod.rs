//! Event-driven simulation: when every load and computation runs, on which resource.
//!
//! [`EventSim`] is a [`CostModel`](crate::cost::CostModel) for whole networks. [`LayerSim`] runs one mixture-of-experts
//! layer, [`sweep`] all records of a routing trace, [`expert_order`] looks for a better order of experts, and
//! [`prefetch_gap`] and [`SwitchCost`] answer what prediction and changes of task cost. Under all of them lies
//! [`TaskGraph`]: tasks with dependencies on ports, units and buffers, for schedules of one's own.
//!
//! Cycles are integers, and events at the same cycle are processed in the order of their ids: a simulation has one result.
mod event_sim;
mod layer;
mod memory;
mod moe;
mod order;
mod prefetch;
mod stage;
mod sweep;
mod switch;
mod tasks;
mod timeline;

pub use event_sim::{EventSim, Simulation};
pub use layer::{LayerRun, LayerSim};
pub use memory::SharedMemory;
pub use moe::SimOptions;
pub use order::{ExpertOrder, Job, expert_order, makespan};
pub use prefetch::{Predictor, PrefetchGap, prefetch_gap};
pub use stage::Overlap;
pub use sweep::{ImageRun, Sweep, sweep};
pub use switch::SwitchCost;
pub use tasks::{Interval, Outcome, PoolId, ResourceId, Simulator, TaskGraph, TaskId};
pub use timeline::{Span, SpanKind, Timeline};
