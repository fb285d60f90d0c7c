//! Multiplier blocks, block memories and look-up tables of a design, and the refusal of one that does not fit.
use super::off_chip::OffChip;
use super::report::Report;
use super::{Accelerator, MemoryPlan, MoeSchedule};
use crate::graph::{ModelGraph, Node, Op, Part};
use crate::math::{product, sum};
use crate::platform::{FitLevel, Resources, pack};
use crate::{HwError, Result};
use serde::{Deserialize, Serialize};

/// Multiplier blocks of one exponential in fixed point; an assumption, since no paper states it.
const EXP_DSP: u64 = 6;
/// Multiplications per element of a layer norm: square, mean, variance, scale.
const NORM_MULTIPLIES: u64 = 4;
/// Flip-flops per ten LUTs, a rule of thumb for pipelined arithmetic.
const FF_PER_TEN_LUTS: u64 = 13;
/// Bits of a queue entry: a token's index and its gate probability.
const QUEUE_BITS: u64 = 64;

/// Look-up tables as a linear function: base + per bit of a multiplier's operands + per bit of a port.
///
/// Never better than a quarter off; the coefficients are rules of thumb from memory. The documented reference design of a
/// KV260 (DPU B3136: 1568 multipliers of 8×8 bits, 45,517 LUTs) comes out 14 % low.
///
/// ```
/// let dpu = mtl_hw::cost::LutModel::default().luts(1568 * 16, 4 * 128)?;
/// assert!((dpu as f64 / 45_517.0 - 1.0).abs() < 0.25);
/// # Ok::<(), mtl_hw::HwError>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LutModel {
    /// Control, whatever the size.
    pub base: u64,
    /// Per bit of the two operands of each multiplier: operand registers, adder tree.
    pub per_operand_bit: u64,
    /// Per bit of the off-chip ports: width converters and queues.
    pub per_port_bit: u64,
}

impl Default for LutModel {
    fn default() -> Self {
        Self { base: 10_000, per_operand_bit: 1, per_port_bit: 8 }
    }
}

impl LutModel {
    /// Look-up tables for a sum of operand bits over all multipliers and a sum of port bits.
    ///
    /// # Errors
    ///
    /// [`HwError::Overflow`] beyond 64 bits.
    pub fn luts(&self, operand_bits: u64, port_bits: u64) -> Result<u64> {
        let operands = product("lut", &[self.per_operand_bit, operand_bits])?;
        sum("lut", [self.base, operands, product("lut", &[self.per_port_bit, port_bits])?])
    }
}

/// Resources of a design for a graph.
///
/// With activations on chip: the engine's multipliers, buffers by bits. With activations off chip also attention, gate,
/// norm and exponential units, weight buffers by the width of the words that feed the tile, expert queues, LUTs and flip-flops.
///
/// # Errors
///
/// [`HwError::Config`] for a zero, [`HwError::Overflow`] beyond 64 bits.
pub fn estimate_resources(graph: &ModelGraph, accelerator: &Accelerator) -> Result<Resources> {
    match &accelerator.off_chip {
        Some(design) => off_chip(graph, accelerator, design),
        None => {
            let memory = MemoryPlan::of(graph, accelerator)?.resources(&accelerator.platform)?;
            let attention = match &accelerator.attention {
                Some(unit) => product("dsp", &[2, unit.peak_macs(), blocks(accelerator, true)?])?,
                None => 0,
            };
            let engine =
                product("dsp", &[accelerator.engine.get().peak_macs()?, blocks(accelerator, false)?])?;
            Ok(Resources { dsp: sum("dsp", [engine, attention])?, ..memory })
        }
    }
}

/// Multiplier blocks of activation × weight, or activation × activation.
fn blocks(accelerator: &Accelerator, activations: bool) -> Result<u64> {
    let p = accelerator.precision;
    let other = if activations { p.activation_bits } else { p.weight_bits };
    accelerator.platform.dsp_kind.blocks_per_multiply(p.activation_bits, other)
}

fn off_chip(graph: &ModelGraph, accelerator: &Accelerator, design: &OffChip) -> Result<Resources> {
    let p = accelerator.precision;
    let (by_weight, by_activation) = (blocks(accelerator, false)?, blocks(accelerator, true)?);
    let lanes = u64::from(design.master.kernel_bits / p.activation_bits.max(1));
    let (experts, heads, tokens) = graph_sizes(graph);
    let engine = accelerator.engine.get().peak_macs()?;
    let projections = match &design.projections {
        Some(own) => own.get().peak_macs()?,
        None => 0,
    };
    let gate = product("dsp", &[experts, lanes])?;
    let by_weights = sum("dsp", [engine, projections, gate])?;
    // Two products, and one exponential per query and head.
    let (attention, exponentials) = match &accelerator.attention {
        Some(unit) => {
            (product("dsp", &[2, unit.peak_macs()])?, product("dsp", &[unit.queries.into(), heads, EXP_DSP])?)
        }
        None => (0, product("dsp", &[heads, EXP_DSP])?),
    };
    let norm = product("dsp", &[NORM_MULTIPLIES, lanes])?;
    let by_activations = sum("dsp", [attention, norm])?;
    let dsp = sum(
        "dsp",
        [
            product("dsp", &[by_weights, by_weight])?,
            product("dsp", &[by_activations, by_activation])?,
            exponentials,
        ],
    )?;
    let widths = u64::from(p.activation_bits) + u64::from(p.weight_bits);
    let operand_bits = sum(
        "lut",
        [
            product("lut", &[by_weights, widths])?,
            product("lut", &[by_activations, 2, p.activation_bits.into()])?,
        ],
    )?;
    // Four activation masters and one for weights, as in the released designs.
    let port_bits = product("lut", &[5, design.master.kernel_bits.into()])?;
    let queues = if experts > 0 { pack(QUEUE_BITS, tokens.max(1), experts)?.ramb18 } else { 0 };
    let mut weights = 0;
    for (tile, numbers) in weight_buffers(graph, accelerator, design)? {
        let word = product("bits", &[tile, p.weight_bits.into()])?;
        weights = sum("ramb18", [weights, pack(word, numbers.div_ceil(tile), 1)?.ramb18])?;
    }
    let lut = LutModel::default().luts(operand_bits, port_bits)?;
    Ok(Resources {
        lut,
        ff: product("ff", &[lut, FF_PER_TEN_LUTS])? / 10,
        ramb18: sum("ramb18", [weights, queues])?,
        uram: 0,
        dsp,
    })
}

/// Largest expert count, head count and token count.
fn graph_sizes(graph: &ModelGraph) -> (u64, u64, u64) {
    let (mut experts, mut heads, mut tokens) = (0, 1, 1);
    for node in &graph.nodes {
        match node.op {
            Op::MoeFfn(s) => (experts, tokens) = (experts.max(s.experts), tokens.max(s.tokens)),
            Op::AttentionScores { heads: h, .. } => heads = heads.max(h),
            _ => {}
        }
    }
    (experts, heads, tokens)
}

/// Weight buffers: multipliers that each feeds per cycle, and numbers it holds. With one engine two buffers alternate, each
/// for the largest matrix; an engine with projections of its own keeps query-key-value and output matrices in one buffer
/// each, and so do the two matrices of the feed-forward network.
fn weight_buffers(
    graph: &ModelGraph,
    accelerator: &Accelerator,
    design: &OffChip,
) -> Result<Vec<(u64, u64)>> {
    let engine = accelerator.engine.get().peak_macs()?;
    let resident = accelerator.schedule == MoeSchedule::AllResident;
    let (mut attention, mut feed_forward) = (Vec::new(), Vec::new());
    for Node { op, part, .. } in &graph.nodes {
        match *op {
            Op::Gemm { inner, cols, .. } if *part == Part::Attention => {
                // Query, key and value are separate matrices where one engine runs everything.
                let one = if design.projections.is_none() && cols == 3 * inner { inner } else { cols };
                attention.push(product("weights", &[inner, one])?);
            }
            Op::Gemm { inner, cols, .. } if *part == Part::FeedForward => {
                feed_forward.push(product("weights", &[inner, cols])?);
            }
            Op::Conv2d(_) => feed_forward.push(op.params()?),
            Op::MoeFfn(s) | Op::GatedMoeFfn(s) => {
                let copies = if resident { s.experts } else { 1 };
                feed_forward.push(product("weights", &[s.dim, s.hidden, copies])?);
            }
            _ => {}
        }
    }
    let largest = |sizes: &[u64]| sizes.iter().copied().max().unwrap_or(0);
    let buffers = match &design.projections {
        None => vec![(engine, largest(&attention).max(largest(&feed_forward))); 2],
        Some(own) => {
            let own = own.get().peak_macs()?;
            let smallest = attention.iter().copied().min().unwrap_or(0);
            let ffn = (engine, largest(&feed_forward));
            vec![(own, largest(&attention)), (own, smallest), ffn, ffn]
        }
    };
    Ok(buffers.into_iter().filter(|&(_, numbers)| numbers > 0).collect())
}

/// Buffers of a design whose activations travel through off-chip memory.
pub(super) fn off_chip_buffers(
    graph: &ModelGraph,
    accelerator: &Accelerator,
    design: &OffChip,
) -> Result<Vec<(&'static str, u64)>> {
    let mut weights = 0;
    for (_, numbers) in weight_buffers(graph, accelerator, design)? {
        weights = sum("bytes", [weights, accelerator.weight_bytes(numbers)?])?;
    }
    let (mut patch, mut width, mut gate) = (0, 0, 0);
    for node in &graph.nodes {
        match node.op {
            Op::PatchEmbedding { .. } => patch = accelerator.weight_bytes(node.op.params()?)?,
            Op::LayerNorm { dim, .. } => width = width.max(dim),
            Op::Gate { .. } => gate = gate.max(accelerator.weight_bytes(node.op.active_params(0)?)?),
            Op::Gemm { inner, .. } => width = width.max(inner),
            _ => {}
        }
    }
    let (experts, _, tokens) = graph_sizes(graph);
    // One token at the linear unit, and the parallel queries with their accumulators.
    let queries = accelerator.attention.as_ref().map_or(0, |a| u64::from(a.queries));
    let rows = product("bytes", &[sum("rows", [1, 2 * queries])?, width])?;
    Ok(vec![
        ("weight_buffers", weights),
        ("patch_weights", patch),
        ("gate", gate),
        ("token_buffers", crate::math::bytes("bytes", rows, accelerator.precision.activation_bits)?),
        ("expert_queues", product("bytes", &[experts, tokens, QUEUE_BITS / 8])?),
    ])
}

impl Report {
    /// Refuses a design that does not fit its board, and says by how much.
    ///
    /// ```
    /// use mtl_hw::cost::{Analytical, CostModel};
    /// use mtl_hw::{presets, routing::Routing};
    /// let graph = presets::m3vit_small(480, 640)?;
    /// let report = Analytical.model(&graph, &presets::zcu104_m3vit()?, Routing::Uniform)?;
    /// assert_eq!(
    ///     report.require_fit().unwrap_err().to_string(),
    ///     "`resources.ramb18` must be at most 624 on zcu104, but is 667 (43 too many)"
    /// );
    /// # Ok::<(), mtl_hw::HwError>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`HwError::Config`] naming the fullest resource.
    pub fn require_fit(&self) -> Result<()> {
        match self.fit.entries.iter().find(|e| e.level == FitLevel::DoesNotFit) {
            None => Ok(()),
            Some(e) => Err(HwError::config(
                format!("resources.{}", e.resource),
                format!("at most {} on {}", e.total, self.fit.platform),
                format!("{} ({} too many)", e.used, e.used.saturating_sub(e.total)),
            )),
        }
    }
}
