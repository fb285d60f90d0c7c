//! The closed-form cost model: layers in sequence, weights prefetched one layer ahead.
use super::report::{Bound, LayerCost, Report};
use super::{
    Accelerator, CostModel, FirstLoad, GateUnit, MemoryPlan, MoeSchedule, estimate_resources, moe_cost,
    off_chip,
};
use crate::Result;
use crate::graph::{ModelGraph, Node, Op, OpKind, Part};
use crate::math::{product, sum};
use crate::platform::Resources;
use crate::power::OperatingPoint;
use crate::routing::Routing;

/// Closed forms, layer by layer.
///
/// Weights of a layer load while the layer before it computes (two weight buffers, one port), so a layer takes its
/// compute cycles plus whatever part of its load those did not hide: L₀ + Σ max(Cᵢ, Lᵢ₊₁) over layers with large
/// weights. Norms, positions and gates have small buffers of their own and only take time on the port. Activations stay
/// on chip, and the image is there when the frame starts.
///
/// ```
/// use mtl_hw::cost::{Analytical, CostModel};
/// use mtl_hw::{presets, routing::Routing};
/// let graph = presets::m3vit_small(512, 512)?;
/// let report = Analytical.model(&graph, &presets::zcu104_m3vit()?, Routing::Uniform)?;
/// assert!((report.latency_ms() - 69.033).abs() < 0.01); // published: 69.033 ms
/// # Ok::<(), mtl_hw::HwError>(())
/// ```
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Analytical;

impl CostModel for Analytical {
    fn model(&self, graph: &ModelGraph, accelerator: &Accelerator, routing: Routing<'_>) -> Result<Report> {
        graph.validate()?;
        accelerator.validate()?;
        let layers = match &accelerator.off_chip {
            Some(design) => off_chip::layers(graph, accelerator, design, routing)?,
            None => {
                let prefix_rows = if accelerator.embed_prefix_rows { prefix_tokens(graph) } else { 0 };
                let mut pipeline = Pipeline { accelerator, routing, prefix_rows, credit: 0 };
                graph.nodes.iter().map(|n| pipeline.layer(n)).collect::<Result<Vec<_>>>()?
            }
        };
        let memory = MemoryPlan::of(graph, accelerator)?;
        let resources = estimate_resources(graph, accelerator)?;
        let power = accelerator.power.at(operating_point(graph, accelerator, &layers, resources, routing)?);
        Ok(Report {
            model: graph.name.clone(),
            accelerator: accelerator.name.clone(),
            provenance: accelerator.provenance,
            clock_hz: accelerator.clock_hz(),
            cycles: sum("cycles", layers.iter().map(|l| l.cycles))?,
            macs: graph.macs()?,
            weight_bytes: sum("weight bytes", layers.iter().map(|l| l.weight_bytes))?,
            peak_macs: multipliers(accelerator)?,
            layers,
            fit: accelerator.platform.check(&resources),
            memory,
            power,
        })
    }
}

fn prefix_tokens(graph: &ModelGraph) -> u64 {
    let prefix = |n: &Node| if let Op::TokenEmbedding { prefix, .. } = n.op { Some(prefix) } else { None };
    graph.nodes.iter().find_map(prefix).unwrap_or(0)
}

/// What the design draws power for: resources at work while a unit computes, and all off-chip traffic.
fn operating_point(
    graph: &ModelGraph,
    accelerator: &Accelerator,
    layers: &[LayerCost],
    resources: Resources,
    routing: Routing<'_>,
) -> Result<OperatingPoint> {
    let cycles = sum("cycles", layers.iter().map(|l| l.cycles))?.max(1);
    let weights = sum("weight bytes", layers.iter().map(|l| l.weight_bytes))?;
    let activations = match &accelerator.off_chip {
        Some(design) => {
            let kernels = off_chip::kernels(graph, accelerator, design, routing)?;
            sum("activation bytes", kernels.iter().map(|k| k.activation_bytes))?
        }
        None => 0,
    };
    let seconds = cycles as f64 / accelerator.clock_hz() as f64;
    Ok(OperatingPoint {
        clock_hz: accelerator.clock_hz(),
        resources,
        activity: activity(accelerator, layers, cycles)?,
        dram_bytes_per_s: sum("bytes", [weights, activations])? as f64 / seconds,
    })
}

/// Multipliers of all matrix units: the engine, projections of their own, both products of a separate attention unit.
fn multipliers(accelerator: &Accelerator) -> Result<u64> {
    let own = accelerator.off_chip.as_ref().and_then(|d| d.projections.as_ref());
    let projections = own.map_or(Ok(0), |e| e.get().peak_macs())?;
    let attention = accelerator.attention.as_ref().map_or(0, |a| a.peak_macs());
    sum(
        "multipliers",
        [accelerator.engine.get().peak_macs()?, projections, product("multipliers", &[2, attention])?],
    )
}

/// Share of all multipliers that is at work, averaged over `cycles`.
fn activity(accelerator: &Accelerator, layers: &[LayerCost], cycles: u64) -> Result<f64> {
    let engine = accelerator.engine.get().peak_macs()?;
    let own = accelerator.off_chip.as_ref().and_then(|d| d.projections.as_ref());
    let projections = own.map_or(Ok(0), |e| e.get().peak_macs())?;
    let attention = accelerator.attention.as_ref().map_or(0, |a| a.peak_macs());
    let fused = accelerator.off_chip.as_ref().is_some_and(|d| d.fused_attention);
    let (mut busy, all) = (0.0, multipliers(accelerator)? as f64);
    for l in layers {
        let units = match l.kind {
            OpKind::AttentionScores | OpKind::AttentionValues if attention > 0 => {
                attention * if fused { 2 } else { 1 }
            }
            OpKind::Gemm if l.part == Part::Attention && projections > 0 => projections,
            _ => engine,
        };
        busy += l.compute_cycles as f64 * units as f64;
    }
    Ok((busy / (all * cycles as f64)).min(1.0))
}

/// The state between layers: cycles in which the port was free to prefetch.
struct Pipeline<'a> {
    accelerator: &'a Accelerator,
    routing: Routing<'a>,
    prefix_rows: u64,
    credit: u64,
}

impl Pipeline<'_> {
    fn layer(&mut self, node: &Node) -> Result<LayerCost> {
        match node.op {
            Op::MoeFfn(_) => self.moe(node),
            _ => self.dense(node),
        }
    }

    fn dense(&mut self, node: &Node) -> Result<LayerCost> {
        let (compute, bound) = self.compute(&node.op)?;
        let weight_bytes = self.accelerator.weight_bytes(node.op.streamed_params()?)?;
        let load = self.accelerator.load_cycles(weight_bytes)?;
        let exposed = load.saturating_sub(self.credit);
        // A large layer frees the other buffer when it starts, so only its own time hides the next load.
        let large = matches!(
            node.op,
            Op::Gemm { .. } | Op::PatchEmbedding { .. } | Op::Conv2d(_) | Op::GatedMoeFfn(_)
        );
        let left = if large { 0 } else { self.credit.saturating_sub(load) };
        self.credit = sum("cycles", [left, compute])?;
        Ok(LayerCost {
            name: node.name.clone(),
            part: node.part,
            block: node.block,
            kind: node.op.kind(),
            macs: node.op.macs()?,
            compute_cycles: compute,
            load_cycles: load,
            exposed_cycles: exposed,
            cycles: sum("cycles", [compute, exposed])?,
            weight_bytes,
            bound: if exposed > compute { Bound::WeightLoad } else { bound },
            moe: None,
        })
    }

    fn moe(&mut self, node: &Node) -> Result<LayerCost> {
        let Op::MoeFfn(shape) = node.op else { return self.dense(node) };
        let id = node.layer_id();
        let cost = moe_cost(&id, &shape, self.accelerator, &self.routing.layer(&id, &shape)?)?;
        let early = match self.accelerator.schedule {
            MoeSchedule::ExpertByExpert { first_load, .. } => first_load == FirstLoad::Speculative,
            _ => true,
        };
        let hidden = if early { self.credit } else { 0 };
        let first = cost.first_load_cycles.saturating_sub(hidden);
        let cycles = sum("cycles", [first, cost.steady_cycles])?;
        let exposed = cycles - cost.compute_cycles;
        self.credit = cost.steady_cycles - (cost.load_cycles - cost.first_load_cycles);
        Ok(LayerCost {
            name: node.name.clone(),
            part: node.part,
            block: node.block,
            kind: node.op.kind(),
            macs: node.op.macs()?,
            compute_cycles: cost.compute_cycles,
            load_cycles: cost.load_cycles,
            exposed_cycles: exposed,
            cycles,
            weight_bytes: cost.weight_bytes,
            bound: if exposed > cost.compute_cycles { Bound::ExpertLoad } else { Bound::Compute },
            moe: Some(cost),
        })
    }

    /// Cycles of the units themselves, and which unit it is.
    fn compute(&self, op: &Op) -> Result<(u64, Bound)> {
        let engine = self.accelerator.engine.get();
        let cycles = match *op {
            Op::PatchEmbedding { patches, patch, channels, dim } => {
                let rows = sum("rows", [patches, self.prefix_rows])?;
                engine.gemm_cycles(rows, product("inner", &[patch, patch, channels])?, dim)?
            }
            Op::Gemm { rows, inner, cols, .. } => engine.gemm_cycles(rows, inner, cols)?,
            Op::AttentionScores { heads, queries, keys, head_dim }
            | Op::AttentionValues { heads, queries, keys, head_dim }
                if self.accelerator.attention.is_some() && queries == keys =>
            {
                match &self.accelerator.attention {
                    Some(unit) => unit.product_cycles(queries, product("dim", &[heads, head_dim])?)?,
                    None => 0,
                }
            }
            Op::AttentionScores { heads, queries, keys, head_dim } => {
                engine.batched_cycles(heads, queries, head_dim, keys)?
            }
            Op::AttentionValues { heads, queries, keys, head_dim } => {
                engine.batched_cycles(heads, queries, keys, head_dim)?
            }
            Op::Attention { heads, queries, keys, head_dim } => sum(
                "cycles",
                [
                    engine.batched_cycles(heads, queries, head_dim, keys)?,
                    engine.batched_cycles(heads, queries, keys, head_dim)?,
                ],
            )?,
            Op::Conv2d(shape) => {
                let [rows, inner, cols] = shape.im2col()?;
                engine.batched_cycles(shape.groups, rows, inner, cols)?
            }
            // Tokens dealt evenly over the experts.
            Op::GatedMoeFfn(s) => {
                let rows = s.pairs()?.div_ceil(s.experts);
                let (wide, narrow) =
                    (engine.gemm_cycles(rows, s.dim, s.hidden)?, engine.gemm_cycles(rows, s.hidden, s.dim)?);
                product("cycles", &[s.experts, sum("cycles", [wide, wide, narrow])?])?
            }
            Op::Gate { tokens, dim, experts, .. } => {
                return Ok((self.gate(tokens, dim, experts)?, Bound::Gate));
            }
            Op::LayerNorm { rows, .. } | Op::RmsNorm { rows, .. } | Op::Softmax { rows, .. } => {
                return self.vector(rows, op);
            }
            _ => return self.vector(0, op),
        };
        Ok((cycles, Bound::Compute))
    }

    fn gate(&self, tokens: u64, dim: u64, experts: u64) -> Result<u64> {
        match self.accelerator.gate {
            GateUnit::PerToken { cycles } => product("cycles", &[tokens, cycles.into()]),
            GateUnit::MatrixEngine => {
                let scores = self.accelerator.engine.get().gemm_cycles(tokens, dim, experts)?;
                sum("cycles", [scores, product("cycles", &[tokens, experts])?])
            }
        }
    }

    /// Vector work; `rows` is the number of rows that need a division or square root.
    fn vector(&self, rows: u64, op: &Op) -> Result<(u64, Bound)> {
        match &self.accelerator.vector {
            Some(unit) => Ok((unit.cycles(rows, op.outputs()?)?, Bound::Vector)),
            None => Ok((0, Bound::Hidden)),
        }
    }
}
