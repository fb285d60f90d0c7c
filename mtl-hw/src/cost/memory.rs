//! On-chip buffers: one block's weights, one image's tokens, and what the MoE schedule needs.
use super::{Accelerator, Granularity, MoeSchedule};
use crate::Result;
use crate::graph::{ModelGraph, Node, Op, Part};
use crate::math::{bytes, product, sum};
use crate::platform::{Platform, RAMB18_BITS, Resources, URAM_BITS};
use serde::{Deserialize, Serialize};

/// One buffer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemoryPart {
    /// What it holds.
    pub name: String,
    /// Its size in bytes.
    pub bytes: u64,
}

/// The buffers of a design that keeps one encoder block on chip and runs the blocks one after the other.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemoryPlan {
    /// The buffers.
    pub parts: Vec<MemoryPart>,
    /// Their sum in bytes.
    pub total_bytes: u64,
}

/// Weights and biases of the largest block, or node where there are no blocks, in elements.
#[derive(Clone, Copy, Default)]
struct Largest {
    weights: u64,
    biases: u64,
}

impl MemoryPlan {
    /// The buffers of a graph on an accelerator.
    ///
    /// The dense feed-forward buffer doubles as the expert buffer where experts need no more room than it has. Where
    /// activations travel through off-chip memory, only single tokens and two matrices of weights are on chip.
    ///
    /// # Errors
    ///
    /// [`HwError::Overflow`](crate::HwError::Overflow) beyond 64 bits.
    pub fn of(graph: &ModelGraph, accelerator: &Accelerator) -> Result<Self> {
        let mut plan = Self { parts: Vec::new(), total_bytes: 0 };
        if let Some(design) = &accelerator.off_chip {
            for (name, bytes) in super::resources::off_chip_buffers(graph, accelerator, design)? {
                plan.push(name, bytes)?;
            }
            return Ok(plan);
        }
        let weights = |n: u64| accelerator.weight_bytes(n);
        let ffn = largest(graph, Part::FeedForward)?;
        let (ffn_weights, ffn_biases) = (weights(ffn.weights)?, weights(ffn.biases)?);
        let experts = expert_buffer(graph, accelerator)?;
        if experts.bytes > sum("bytes", [ffn_weights, ffn_biases])? {
            plan.push(&experts.name, experts.bytes)?;
        } else {
            plan.push("ffn_weights", ffn_weights)?;
            plan.push("ffn_bias", ffn_biases)?;
        }
        let attention = largest(graph, Part::Attention)?;
        plan.push("attn_weights", weights(attention.weights)?)?;
        plan.push("attn_bias", weights(attention.biases)?)?;
        let backbone = largest(graph, Part::Backbone)?;
        plan.push("backbone_weights", weights(sum("params", [backbone.weights, backbone.biases])?)?)?;
        let head = largest(graph, Part::Head)?;
        plan.push("head", weights(sum("params", [head.weights, head.biases])?)?)?;
        let (mut tokens, mut norms, mut norm_block, mut gate) = (0, 0, None, 0);
        let mut block_norms = 0;
        for node in &graph.nodes {
            match node.op {
                Op::PatchEmbedding { dim, .. } => {
                    plan.push("patch_weights", weights(node.op.params()? - dim)?)?;
                    plan.push("patch_bias", weights(dim)?)?;
                }
                Op::TokenEmbedding { prefix, dim, .. } => {
                    plan.push("class_token", weights(product("params", &[prefix, dim])?)?)?;
                    tokens = tokens.max(node.op.outputs()?);
                }
                Op::LayerNorm { .. } => {
                    tokens = tokens.max(node.op.outputs()?);
                    block_norms = if node.block == norm_block { block_norms } else { 0 };
                    norm_block = node.block;
                    block_norms = sum("params", [block_norms, node.op.params()?])?;
                    norms = norms.max(block_norms);
                }
                Op::Conv2d(_) => tokens = tokens.max(node.op.outputs()?),
                // One gate matrix: the task's own.
                Op::Gate { .. } => gate = gate.max(node.op.active_params(0)?),
                _ => {}
            }
        }
        plan.push("layernorm", weights(norms)?)?;
        plan.push("gate", weights(gate)?)?;
        plan.push("token_buffer", bytes("bytes", tokens, accelerator.precision.activation_bits)?)?;
        Ok(plan)
    }

    fn push(&mut self, name: &str, bytes: u64) -> Result<()> {
        if bytes > 0 {
            self.parts.push(MemoryPart { name: name.to_owned(), bytes });
            self.total_bytes = sum("bytes", [self.total_bytes, bytes])?;
        }
        Ok(())
    }

    /// Total in 2²⁰ bytes.
    #[must_use]
    pub fn total_mib(&self) -> f64 {
        self.total_bytes as f64 / f64::from(1 << 20)
    }

    /// Block memories of a board for these buffers, bits packed without loss: UltraRAM first, the rest in block RAM.
    ///
    /// A design that fails even this does not fit; one that passes may still fail by the width of its words, see
    /// [`pack`](crate::platform::pack).
    ///
    /// # Errors
    ///
    /// [`HwError::Overflow`](crate::HwError::Overflow) beyond 64 bits.
    pub fn resources(&self, platform: &Platform) -> Result<Resources> {
        let bits = product("bits", &[self.total_bytes, 8])?;
        let uram = bits.div_ceil(URAM_BITS).min(platform.usable().uram);
        let rest = bits.saturating_sub(uram.saturating_mul(URAM_BITS));
        Ok(Resources { uram, ramb18: rest.div_ceil(RAMB18_BITS), ..Resources::default() })
    }
}

/// The largest sum over one block (or one node outside blocks) of a part's linear maps.
fn largest(graph: &ModelGraph, part: Part) -> Result<Largest> {
    let mut best = Largest::default();
    let mut current = Largest::default();
    let mut block = None;
    for Node { op, block: node_block, .. } in graph.nodes.iter().filter(|n| n.part == part) {
        let linear = match *op {
            Op::Gemm { cols, bias, .. } => Some(if bias { cols } else { 0 }),
            Op::Conv2d(s) => Some(if s.bias { s.out_channels } else { 0 }),
            _ => None,
        };
        if let Some(biases) = linear {
            if node_block.is_none() || *node_block != block {
                current = Largest::default();
                block = *node_block;
            }
            current.weights = sum("params", [current.weights, op.params()?.saturating_sub(biases)])?;
            current.biases = sum("params", [current.biases, biases])?;
            if sum("params", [current.weights, current.biases])? > sum("params", [best.weights, best.biases])?
            {
                best = current;
            }
        }
    }
    Ok(best)
}

/// The buffer that the schedule needs for experts of the largest MoE layer.
fn expert_buffer(graph: &ModelGraph, accelerator: &Accelerator) -> Result<MemoryPart> {
    let mut part = MemoryPart { name: String::new(), bytes: 0 };
    for (_, shape) in graph.moe_layers() {
        let (name, stored) = match accelerator.schedule {
            MoeSchedule::AllResident => ("all_experts", shape.experts),
            // Without a cache, the expert at work is still stored.
            MoeSchedule::TokenByToken { cache_experts } => ("expert_cache", u64::from(cache_experts.max(1))),
            MoeSchedule::ExpertByExpert { prefetch: true, granularity: Granularity::Expert, .. } => {
                ("expert_buffers", 2)
            }
            MoeSchedule::ExpertByExpert { .. } => ("expert_buffers", 1),
        };
        let size = product("bytes", &[stored, accelerator.weight_bytes(shape.expert_params()?)?])?;
        if size > part.bytes {
            part = MemoryPart { name: name.to_owned(), bytes: size };
        }
    }
    Ok(part)
}
