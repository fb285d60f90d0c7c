//! Latency, traffic, memory, resources and energy of a graph on an accelerator, in closed form.
//!
//! All times are integer cycles until the last conversion to seconds and joules.
mod accelerator;
mod analytical;
pub mod dram;
pub mod engine;
pub mod hls;
mod memory;
pub mod numerics;
pub mod off_chip;
pub mod ping_pong;
mod port;
mod report;
mod resources;
pub mod roofline;
mod schedule;
pub mod tiling;
mod traffic;

pub use crate::power::PowerModel;
pub use accelerator::{Accelerator, GateUnit, Precision, Provenance, VectorUnit};
pub use analytical::Analytical;
pub use memory::{MemoryPart, MemoryPlan};
pub use port::WeightPort;
pub use report::{Bound, LayerCost, Report, Totals};
pub use resources::{LutModel, estimate_resources};
pub use schedule::{FirstLoad, Granularity, MoeCost, MoeSchedule, moe_cost};
pub use traffic::{ExpertActivationTraffic, expert_activation_traffic};

use crate::Result;
use crate::graph::ModelGraph;
use crate::routing::Routing;
use std::fmt;

/// Predicts the cost of one image of a model on an accelerator.
pub trait CostModel: fmt::Debug + Send + Sync {
    /// The cost of every node of `graph`, for one image. Take [`ModelGraph::for_task`] first when the graph holds heads
    /// of several tasks and one of them runs.
    ///
    /// # Errors
    ///
    /// [`HwError::Config`](crate::HwError::Config) for a bad graph or accelerator, routing errors for decisions that
    /// contradict the graph, [`HwError::Overflow`](crate::HwError::Overflow) beyond 64 bits.
    fn model(&self, graph: &ModelGraph, accelerator: &Accelerator, routing: Routing<'_>) -> Result<Report>;
}
