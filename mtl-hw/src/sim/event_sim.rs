//! The event-driven cost model of a whole network.
use super::moe::{Builder, ExpertTimes, SimOptions};
use super::stage::{Network, Stage, Unit};
use super::timeline::Timeline;
use crate::Result;
use crate::cost::{Accelerator, Analytical, Bound, CostModel, LayerCost, MoeSchedule, Report};
use crate::graph::{ModelGraph, MoeShape, Node, Op, OpKind};
use crate::routing::{LayerRouting, Routing};
use serde::{Deserialize, Serialize};

/// Event-driven simulation of one image: the port, the units and two weight buffers as resources, every load and
/// computation as a task.
///
/// Cycles of loads and computations are those of [`Analytical`]; what is simulated is when they run. Layers compute one
/// after the other; weights arrive in the order of the layers, as soon as the port and, for large weights, one of the
/// buffers is free. With [`Overlap::Barrier`](super::Overlap::Barrier) a network without experts takes exactly the cycles
/// of [`Analytical`], and fewer or as many without. With experts the closed form may lie on either side: it lets the next
/// layer's weights use all gaps between loads of experts, where the port of the simulation keeps its order.
///
/// ```
/// use mtl_hw::cost::{Analytical, CostModel};
/// use mtl_hw::sim::EventSim;
/// use mtl_hw::{presets, routing::Routing};
/// let graph = presets::m3vit_small(512, 512)?;
/// let accelerator = presets::zcu104_m3vit()?;
/// let simulated = EventSim::default().model(&graph, &accelerator, Routing::Uniform)?;
/// let closed = Analytical.model(&graph, &accelerator, Routing::Uniform)?;
/// assert_eq!(simulated.cycles, closed.cycles); // long queues hide all loads but the first
/// # Ok::<(), mtl_hw::HwError>(())
/// ```
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct EventSim {
    /// Whether [`EventSim::simulate`] returns the timeline.
    pub record: bool,
}

/// The result of [`EventSim::simulate`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Simulation {
    /// Cost per layer and in all. The cycles of a layer are those between the ends of its last computation and of the one
    /// before it.
    pub report: Report,
    /// Events that were processed.
    pub events: u64,
    /// What ran when, if recorded.
    pub timeline: Option<Timeline>,
}

impl CostModel for EventSim {
    fn model(&self, graph: &ModelGraph, accelerator: &Accelerator, routing: Routing<'_>) -> Result<Report> {
        let unrecorded = Self { record: false };
        Ok(unrecorded.simulate(graph, accelerator, routing, SimOptions::default())?.report)
    }
}

impl EventSim {
    /// Simulates one image with other options than the defaults.
    ///
    /// # Errors
    ///
    /// As [`CostModel::model`]; [`HwError::Config`](crate::HwError::Config) for a bad option.
    pub fn simulate(
        &self,
        graph: &ModelGraph,
        accelerator: &Accelerator,
        routing: Routing<'_>,
        options: SimOptions,
    ) -> Result<Simulation> {
        let mut report = Analytical.model(graph, accelerator, routing)?;
        let mut stages = Vec::with_capacity(graph.nodes.len());
        for (i, (node, layer)) in graph.nodes.iter().zip(&report.layers).enumerate() {
            let node_index = i as u32; // its task would not fit beyond 32 bits
            match node.op {
                Op::MoeFfn(shape) => {
                    let builder = Builder {
                        times: ExpertTimes::new(&shape, accelerator)?,
                        schedule: accelerator.schedule,
                        options,
                        node: node_index,
                    };
                    moe(&builder, node, layer, &shape, routing, &mut stages)?;
                }
                _ => stages.push(dense(node, layer, node_index)),
            }
        }
        let (outcome, intervals) = Network::of(&stages, options.overlap, options.weight_buffers)?.run()?;
        // First start and last end of the computations of each node.
        let mut ends: Vec<Option<(u64, u64)>> = vec![None; report.layers.len()];
        for (s, (_, compute)) in stages.iter().zip(&intervals) {
            if let (Some(slot), Some(c)) = (ends.get_mut(s.node as usize), compute) {
                let first = slot.map_or(c.start, |(first, _)| first);
                *slot = Some((first, c.end));
            }
        }
        let mut before = 0;
        for (layer, end) in report.layers.iter_mut().zip(ends) {
            let (first, last) = end.unwrap_or((before, before));
            settle(layer, accelerator, last - before, last - first);
            before = last;
        }
        report.cycles = outcome.cycles;
        let names = || graph.nodes.iter().map(|n| n.name.clone()).collect();
        let timeline = self.record.then(|| {
            let title = format!("{} on {}", report.model, report.accelerator);
            Timeline::of(&title, report.clock_hz, names(), outcome, &stages, &intervals)
        });
        Ok(Simulation { report, events: outcome.events, timeline })
    }
}

fn dense(node: &Node, layer: &LayerCost, index: u32) -> Stage {
    let large = matches!(node.op.kind(), OpKind::Gemm | OpKind::PatchEmbedding) && layer.load_cycles > 0;
    Stage {
        node: index,
        expert: None,
        load: layer.load_cycles,
        compute: layer.compute_cycles,
        unit: match node.op.kind() {
            OpKind::Gate => Unit::Gate,
            OpKind::PatchEmbedding | OpKind::Gemm | OpKind::AttentionScores | OpKind::AttentionValues => {
                Unit::Matrix
            }
            _ => Unit::Vector,
        },
        acquires: large,
        releases: large,
        on_demand: false,
    }
}

fn moe(
    builder: &Builder<'_>,
    node: &Node,
    layer: &LayerCost,
    shape: &MoeShape,
    routing: Routing<'_>,
    stages: &mut Vec<Stage>,
) -> Result<()> {
    let id = node.layer_id();
    let routing = routing.layer(&id, shape)?;
    match (&routing, accelerator_cache(builder.schedule)) {
        (LayerRouting::Tokens(tokens), _) => builder.choices(&id, (*tokens).into(), stages),
        (_, false) => builder.queues(&id, &routing.queues(shape)?, stages),
        // Without an order of tokens the misses are an expectation: one stage of their sum.
        (_, true) => {
            stages.push(Stage { on_demand: true, ..dense(node, layer, builder.node) });
            if let Some(s) = stages.last_mut() {
                s.unit = Unit::Matrix;
            }
            Ok(())
        }
    }
}

fn accelerator_cache(schedule: MoeSchedule) -> bool {
    matches!(schedule, MoeSchedule::TokenByToken { .. })
}

/// Puts simulated times into a layer's cost.
fn settle(layer: &mut LayerCost, accelerator: &Accelerator, cycles: u64, steady: u64) {
    layer.cycles = cycles;
    layer.exposed_cycles = cycles.saturating_sub(layer.compute_cycles);
    if let Some(moe) = &mut layer.moe {
        moe.steady_cycles = steady;
    }
    let is_load = |b: Bound| matches!(b, Bound::WeightLoad | Bound::ExpertLoad);
    if layer.exposed_cycles > layer.compute_cycles {
        layer.bound = if layer.kind == OpKind::MoeFfn { Bound::ExpertLoad } else { Bound::WeightLoad };
    } else if is_load(layer.bound) {
        layer.bound = match layer.kind {
            OpKind::Gate => Bound::Gate,
            OpKind::PatchEmbedding
            | OpKind::Gemm
            | OpKind::AttentionScores
            | OpKind::AttentionValues
            | OpKind::MoeFfn => Bound::Compute,
            _ if accelerator.vector.is_some() => Bound::Vector,
            _ => Bound::Hidden,
        };
    }
}
