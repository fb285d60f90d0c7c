//! Accelerators whose kernels run one after the other, each reading its activations from off-chip memory and writing its
//! results back, as Edge-MoE (ICCAD 2023, arXiv 2305.18691) and UbiMoE (ISCAS 2025, arXiv 2502.05602) do.
//!
//! A kernel is a dataflow region: readers, units and writers work at the same time, each stream on a port of its own, so
//! it takes as long as its slowest part, plus the latency of its first read and last write.
mod experts;
mod kernel;

pub(crate) use kernel::sequence_cycles;
pub use kernel::{Kernel, Slowest, kernels};

use super::dram::Master;
use super::engine::Engine;
use super::report::{Bound, LayerCost};
use super::{Accelerator, MoeSchedule};
use crate::Result;
use crate::graph::{ModelGraph, Op, Part};
use crate::math::sum;
use crate::routing::Routing;
use serde::{Deserialize, Serialize};

/// Which weight loads run beside computations.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum HiddenLoads {
    /// None: a kernel starts when its weights are there.
    None,
    /// Those of experts, as the schedule of MoE layers says; other kernels wait.
    #[default]
    Experts,
    /// Those of all layers, one kernel ahead.
    All,
}

/// How softmax is computed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SoftmaxUnit {
    /// Running maximum and sum beside the scores; probabilities when the scores are read again.
    #[default]
    Online,
    /// A kernel of its own that reads and writes all scores.
    TwoPass,
}

/// The part of an [`Accelerator`] that moves activations through off-chip memory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OffChip {
    /// Every activation stream has one of these.
    pub master: Master,
    /// Cycles of the division, root or exponential that ends a row.
    pub row_latency: u32,
    /// Softmax.
    #[serde(default)]
    pub softmax: SoftmaxUnit,
    /// Whether both products of attention are one kernel, with the scores on chip between them.
    #[serde(default)]
    pub fused_attention: bool,
    /// Which weight loads are hidden.
    #[serde(default)]
    pub hidden_loads: HiddenLoads,
    /// A unit of their own for the projections of attention.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub projections: Option<Engine>,
    /// Whether the attention of one image works beside the feed-forward network of another, so that the longer of the two
    /// sets the pace. Latency is then the time between images.
    #[serde(default)]
    pub overlap_halves: bool,
}

/// Costs of the layers of a graph, in order.
pub(crate) fn layers(
    graph: &ModelGraph,
    accelerator: &Accelerator,
    design: &OffChip,
    routing: Routing<'_>,
) -> Result<Vec<LayerCost>> {
    let mut layers = Vec::with_capacity(graph.nodes.len());
    let mut credit = 0u64;
    for (node, kernel) in graph.nodes.iter().zip(kernels(graph, accelerator, design, routing)?) {
        let hidden = if design.hidden_loads == HiddenLoads::All { credit } else { 0 };
        let early = match (&node.op, accelerator.schedule) {
            (Op::MoeFfn(_), MoeSchedule::ExpertByExpert { first_load, .. }) => {
                first_load == super::FirstLoad::Speculative
            }
            _ => true,
        };
        let waiting = kernel.first_load.saturating_sub(if early { hidden } else { 0 });
        let cycles = sum("cycles", [waiting, kernel.cycles])?;
        credit =
            if kernel.weight_bytes > 0 { kernel.cycles } else { sum("cycles", [credit, kernel.cycles])? };
        let exposed = cycles.saturating_sub(kernel.compute);
        let bound = if waiting > kernel.cycles { Bound::WeightLoad } else { kernel.bound() };
        layers.push(LayerCost {
            name: node.name.clone(),
            part: node.part,
            block: node.block,
            kind: node.op.kind(),
            macs: node.op.macs()?,
            compute_cycles: kernel.compute.min(cycles),
            load_cycles: kernel.load_cycles,
            exposed_cycles: exposed,
            cycles,
            weight_bytes: kernel.weight_bytes,
            bound,
            moe: kernel.moe,
        });
    }
    if design.overlap_halves {
        overlap_halves(&mut layers)?;
    }
    Ok(layers)
}

/// In each block, the shorter of attention and feed-forward network adds nothing to the interval between images.
fn overlap_halves(layers: &mut [LayerCost]) -> Result<()> {
    let mut start = 0;
    while start < layers.len() {
        let block = layers.get(start).and_then(|l| l.block);
        let length = layers.iter().skip(start).take_while(|l| l.block == block).count();
        let Some(group) = layers.get_mut(start..start + length) else { break };
        start += length;
        if block.is_none() {
            continue;
        }
        let half = |part: Part| sum("cycles", group.iter().filter(|l| l.part == part).map(|l| l.cycles));
        let (attention, feed_forward) = (half(Part::Attention)?, half(Part::FeedForward)?);
        let hidden = if attention >= feed_forward { Part::FeedForward } else { Part::Attention };
        for layer in group.iter_mut().filter(|l| l.part == hidden) {
            (layer.cycles, layer.exposed_cycles, layer.bound) = (0, 0, Bound::Hidden);
        }
    }
    Ok(())
}
