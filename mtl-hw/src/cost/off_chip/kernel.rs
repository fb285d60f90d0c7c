//! Time of one kernel.
use super::experts;
use super::{HiddenLoads, OffChip, SoftmaxUnit};
use crate::cost::dram::{Access, BindingWidth, Transfer, memory_cycles};
use crate::cost::engine::AttentionEngine;
use crate::cost::hls::{Process, Region};
use crate::cost::report::Bound;
use crate::cost::{Accelerator, MoeCost};
use crate::graph::{ModelGraph, Node, Op, Part};
use crate::math::{positive, product, sum};
use crate::routing::Routing;
use crate::{HwError, Result};

/// Cycles between scores of a gate's running softmax: the exponential, product and sum depend on each other.
const GATE_SOFTMAX_II: u64 = 3;
/// Bits of a pixel's channel.
const PIXEL_BITS: u32 = 8;

/// The part of a kernel that takes longest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Slowest {
    /// Nothing runs.
    Nothing,
    /// Matrix engine or attention unit.
    Compute,
    /// Reading activations.
    Load,
    /// Writing activations.
    Store,
    /// A stream whose words are wider than its port.
    Port,
    /// The off-chip memory itself.
    Memory,
    /// Waiting for the first beat of bursts, or for divisions and roots between them.
    Latency,
    /// Softmax, norm or gate unit.
    Vector,
    /// Gate unit.
    Gate,
    /// Loads of experts.
    ExpertLoad,
}

/// One kernel at work.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kernel {
    /// Name of its node.
    pub name: String,
    /// Cycles of the unit.
    pub compute: u64,
    /// Cycles of its weights on their port.
    pub load_cycles: u64,
    /// The part of the loads that precedes the first computation.
    pub first_load: u64,
    /// Cycles from the first computation to the end.
    pub cycles: u64,
    /// Bytes of weights.
    pub weight_bytes: u64,
    /// Bytes of activations, both directions.
    pub activation_bytes: u64,
    /// What takes longest.
    pub slowest: Slowest,
    /// Details of a MoE layer.
    pub moe: Option<MoeCost>,
}

impl Kernel {
    pub(super) fn bound(&self) -> Bound {
        match self.slowest {
            Slowest::Nothing => Bound::Hidden,
            Slowest::Compute => Bound::Compute,
            Slowest::Load => Bound::ActivationLoad,
            Slowest::Store => Bound::Store,
            Slowest::Port => Bound::Port,
            Slowest::Memory => Bound::Memory,
            Slowest::Latency => Bound::Latency,
            Slowest::Vector => Bound::Vector,
            Slowest::Gate => Bound::Gate,
            Slowest::ExpertLoad => Bound::ExpertLoad,
        }
    }
}

/// The kernels of a graph, one per node. Bias, functions of single elements, softmax of a fused or online attention and the scaling by gate
/// probabilities happen inside other kernels and take nothing. The weights of the patch embedding stay on chip, and its
/// positions are read as a stream.
///
/// # Errors
///
/// [`HwError::Config`] for shapes that the units cannot run, routing errors, [`HwError::Overflow`] beyond 64 bits.
pub fn kernels(
    graph: &ModelGraph,
    accelerator: &Accelerator,
    design: &OffChip,
    routing: Routing<'_>,
) -> Result<Vec<Kernel>> {
    let unit = Unit { accelerator, design };
    graph.nodes.iter().map(|node| unit.any(node, routing)).collect()
}

/// Cycles of the kernels of some nodes one after the other, loads of weights included, with pairs dealt evenly.
///
/// # Errors
///
/// As [`kernels`].
pub(crate) fn sequence_cycles<'n>(
    nodes: impl IntoIterator<Item = &'n Node>,
    accelerator: &Accelerator,
    design: &OffChip,
) -> Result<u64> {
    let unit = Unit { accelerator, design };
    nodes.into_iter().try_fold(0, |acc, node| {
        let kernel = unit.any(node, Routing::Uniform)?;
        sum("cycles", [acc, kernel.first_load, kernel.cycles])
    })
}

/// Runs kernels on one accelerator.
pub(super) struct Unit<'a> {
    pub(super) accelerator: &'a Accelerator,
    pub(super) design: &'a OffChip,
}

/// A time and which part it is.
#[derive(Clone, Copy)]
pub(super) struct Time {
    pub(super) cycles: u64,
    pub(super) bytes: u64,
    pub(super) slowest: Slowest,
}

impl Unit<'_> {
    fn any(&self, node: &Node, routing: Routing<'_>) -> Result<Kernel> {
        match node.op {
            Op::MoeFfn(shape) => {
                let id = node.layer_id();
                experts::kernel(self, node, &id, &shape, &routing.layer(&id, &shape)?)
            }
            _ => self.kernel(node),
        }
    }

    fn kernel(&self, node: &Node) -> Result<Kernel> {
        let (compute, time) = self.time(node)?;
        let weights = match node.op {
            // Loaded once, when the board starts, and kept; positions are a stream of the patch embedding.
            Op::PatchEmbedding { .. } | Op::TokenEmbedding { .. } => 0,
            _ => self.accelerator.weight_bytes(node.op.streamed_params()?)?,
        };
        let load = self.accelerator.load_cycles(weights)?;
        Ok(Kernel {
            name: node.name.clone(),
            compute,
            load_cycles: load,
            first_load: load,
            cycles: time.cycles,
            weight_bytes: weights,
            activation_bytes: time.bytes,
            slowest: time.slowest,
            moe: None,
        })
    }

    fn time(&self, node: &Node) -> Result<(u64, Time)> {
        match node.op {
            Op::PatchEmbedding { patches, patch, channels, dim } => {
                let inner = product("inner", &[patch, patch, channels])?;
                let compute = self.accelerator.engine.get().gemm_cycles(patches, inner, dim)?;
                let pixels = self.run(product("pixels", &[patches, inner])?, PIXEL_BITS)?;
                let tokens = self.rows(patches, dim)?;
                // Positions are read while results are written.
                self.region(compute, &[pixels, tokens], &[tokens]).map(|t| (compute, t))
            }
            Op::TokenEmbedding { prefix, dim, .. } => {
                let tokens = self.rows(prefix, dim)?;
                self.region(0, &[tokens], &[tokens]).map(|t| (0, t))
            }
            Op::Gemm { rows, inner, cols, .. } => {
                let engine = match &self.design.projections {
                    Some(own) if node.part == Part::Attention => own.get(),
                    _ => self.accelerator.engine.get(),
                };
                let compute = engine.gemm_cycles(rows, inner, cols)?;
                self.region(compute, &[self.rows(rows, inner)?], &[self.rows(rows, cols)?])
                    .map(|t| (compute, t))
            }
            Op::AttentionScores { heads, queries, keys, head_dim } => {
                self.attention(heads, queries, keys, head_dim, true)
            }
            Op::AttentionValues { heads, queries, keys, head_dim } => {
                self.attention(heads, queries, keys, head_dim, false)
            }
            Op::Softmax { rows, cols } => self.softmax(rows, cols),
            Op::Attention { heads, queries, keys, head_dim } => {
                let (scores, first) = self.attention(heads, queries, keys, head_dim, true)?;
                let (values, second) = self.attention(heads, queries, keys, head_dim, false)?;
                let time = Time {
                    cycles: sum("cycles", [first.cycles, second.cycles])?,
                    bytes: sum("bytes", [first.bytes, second.bytes])?,
                    slowest: first.slowest,
                };
                Ok((sum("cycles", [scores, values])?, time))
            }
            Op::Conv2d(shape) => {
                let [rows, inner, cols] = shape.im2col()?;
                let compute =
                    self.accelerator.engine.get().batched_cycles(shape.groups, rows, inner, cols)?;
                self.stream(compute, &node.op)
            }
            // Tokens dealt evenly over the experts, three matrices each.
            Op::GatedMoeFfn(s) => {
                let engine = self.accelerator.engine.get();
                let rows = s.pairs()?.div_ceil(s.experts);
                let (wide, narrow) =
                    (engine.gemm_cycles(rows, s.dim, s.hidden)?, engine.gemm_cycles(rows, s.hidden, s.dim)?);
                let compute = product("cycles", &[s.experts, sum("cycles", [wide, wide, narrow])?])?;
                let (tokens, hidden) = (self.rows(s.pairs()?, s.dim)?, self.rows(s.pairs()?, s.hidden)?);
                self.region(compute, &[tokens, hidden], &[hidden, tokens]).map(|t| (compute, t))
            }
            Op::LayerNorm { rows, dim } | Op::RmsNorm { rows, dim } => self.norm(rows, dim).map(|t| (0, t)),
            Op::Add { rows, cols } => {
                let x = self.rows(rows, cols)?;
                self.region(0, &[x, x], &[x]).map(|t| (0, t))
            }
            Op::Gate { tokens, dim, experts, .. } => self.gate(tokens, dim, experts),
            // Functions of single elements are computed where their operand is produced.
            Op::Gelu { .. }
            | Op::Relu { .. }
            | Op::Silu { .. }
            | Op::Tanh { .. }
            | Op::Rotary { .. }
            | Op::BatchNorm { .. } => Ok((0, Time { cycles: 0, bytes: 0, slowest: Slowest::Nothing })),
            _ if node.op.macs()? > 0 => {
                let must = "one that a kernel of this design computes";
                Err(HwError::config(format!("{}.op", node.name), must, node.op.kind()))
            }
            _ => self.stream(0, &node.op),
        }
    }

    /// A kernel that reads its operand once and writes its result once.
    fn stream(&self, compute: u64, op: &Op) -> Result<(u64, Time)> {
        let (input, output) =
            (self.run(op.input_elements()?, self.bits())?, self.run(op.outputs()?, self.bits())?);
        self.region(compute, &[input], &[output]).map(|t| (compute, t))
    }

    fn bits(&self) -> u32 {
        self.accelerator.precision.activation_bits
    }

    /// One contiguous run of numbers.
    fn run(&self, elements: u64, bits: u32) -> Result<Transfer> {
        self.design.master.transfer(Access::Contiguous { elements }, bits)
    }

    /// A contiguous matrix of activations whose rows start at word boundaries.
    pub(super) fn rows(&self, rows: u64, cols: u64) -> Result<Transfer> {
        self.repeat(rows, self.run(cols, self.bits())?)
    }

    /// `times` runs that follow each other without a gap.
    fn repeat(&self, times: u64, one: Transfer) -> Result<Transfer> {
        Ok(Transfer {
            bytes: product("bytes", &[times, one.bytes])?,
            bursts: product("bursts", &[times, one.bursts])?,
            beats: product("beats", &[times, one.beats])?,
            ..one
        })
    }

    /// Tokens in any order, or each read, changed and written.
    pub(super) fn scattered(&self, access: Access) -> Result<Transfer> {
        self.design.master.transfer(access, self.bits())
    }

    /// A dataflow region with every stream on its own port.
    pub(super) fn region(&self, compute: u64, reads: &[Transfer], writes: &[Transfer]) -> Result<Time> {
        let mut worst = (compute, if compute > 0 { Slowest::Compute } else { Slowest::Nothing });
        let mut bytes = 0;
        for (streams, side) in [(reads, Slowest::Load), (writes, Slowest::Store)] {
            for t in streams {
                bytes = sum("bytes", [bytes, t.bytes])?;
                if t.beats > worst.0 {
                    worst = (t.beats, if t.width == BindingWidth::Port { Slowest::Port } else { side });
                }
            }
        }
        let memory = memory_cycles(
            bytes,
            self.accelerator.clock_hz(),
            self.accelerator.platform.peak_bytes_per_s(),
            self.accelerator.dram_efficiency,
        )?;
        if memory > worst.0 {
            worst = (memory, Slowest::Memory);
        }
        let first = reads.iter().map(|t| t.latency).max().unwrap_or(0);
        let last = writes.iter().map(|t| t.latency).max().unwrap_or(0);
        let latency = sum("cycles", [first, last])?;
        let slowest = if latency > worst.0 { Slowest::Latency } else { worst.1 };
        Ok(Time { cycles: sum("cycles", [worst.0, latency])?, bytes, slowest })
    }

    fn attention(
        &self,
        heads: u64,
        queries: u64,
        keys: u64,
        head_dim: u64,
        scores: bool,
    ) -> Result<(u64, Time)> {
        let Some(unit) = &self.accelerator.attention else {
            let engine = self.accelerator.engine.get();
            let (inner, cols) = if scores { (head_dim, keys) } else { (keys, head_dim) };
            let compute = engine.batched_cycles(heads, queries, inner, cols)?;
            let (x, y) = (self.rows(queries, heads * head_dim)?, self.rows(keys, heads * head_dim)?);
            let products = self.rows(queries, product("scores", &[heads, keys])?)?;
            let (reads, writes) = if scores { ([x, y], [products]) } else { ([products, y], [x]) };
            return self.region(compute, &reads, &writes).map(|t| (compute, t));
        };
        if self.design.fused_attention && !scores {
            return Ok((0, Time { cycles: 0, bytes: 0, slowest: Slowest::Nothing }));
        }
        if queries != keys {
            return Err(HwError::config("queries", format!("equal to the {keys} keys"), queries));
        }
        let dim = product("dim", &[heads, head_dim])?;
        let compute = unit.product_cycles(queries, dim)?;
        let tokens = self.rows(queries, dim)?;
        // One token per step and, without reordering, one for each parallel query.
        let steps = unit.steps(queries)?;
        let stream = self.rows(product("tokens", &[steps, unit.tokens_per_step()])?, dim)?;
        if self.design.fused_attention {
            return self.region(compute, &[tokens, stream, stream], &[tokens]).map(|t| (compute, t));
        }
        // Scores of one query and key, all heads, are one word.
        let scores_stream = self.scores(unit, steps, heads)?;
        let (reads, writes) =
            if scores { ([tokens, stream], [scores_stream]) } else { ([scores_stream, stream], [tokens]) };
        self.region(compute, &reads, &writes).map(|t| (compute, t))
    }

    fn scores(&self, unit: &AttentionEngine, steps: u64, heads: u64) -> Result<Transfer> {
        let words = product("scores", &[steps, unit.queries.into()])?;
        self.repeat(words, self.run(heads.next_power_of_two(), self.bits())?)
    }

    fn softmax(&self, rows: u64, cols: u64) -> Result<(u64, Time)> {
        if self.design.softmax == SoftmaxUnit::Online || self.design.fused_attention {
            return Ok((0, Time { cycles: 0, bytes: 0, slowest: Slowest::Nothing }));
        }
        let scores = self.rows(rows, cols)?;
        let lanes = self.lanes()?;
        let unit = product(
            "cycles",
            &[rows, sum("cycles", [cols.div_ceil(lanes), self.design.row_latency.into()])?],
        )?;
        let time = self.region(unit, &[scores], &[scores])?;
        let slowest = if time.slowest == Slowest::Compute { Slowest::Vector } else { time.slowest };
        Ok((0, Time { slowest, ..time }))
    }

    /// Activations in one word of the kernel.
    fn lanes(&self) -> Result<u64> {
        positive("lanes", u64::from(self.design.master.kernel_bits / self.bits().max(1)))
    }

    /// Row by row, a region of two processes: read and accumulate, then normalise and write. Each row is its own burst.
    fn norm(&self, rows: u64, dim: u64) -> Result<Time> {
        let row = self.run(dim, self.bits())?;
        let read = row.cycles();
        let write = sum("cycles", [self.design.row_latency.into(), row.cycles()])?;
        let region = Region {
            processes: vec![Process { latency: read, fill: read }, Process { latency: write, fill: write }],
        };
        let bytes = product("bytes", &[2, rows, row.bytes])?;
        let slowest = if write - row.beats > row.beats {
            Slowest::Latency
        } else if row.width == BindingWidth::Port {
            Slowest::Port
        } else {
            Slowest::Vector
        };
        Ok(Time { cycles: region.repeated(rows)?, bytes, slowest })
    }

    /// Token after token: scores of all experts, their softmax statistics beside the top-K insertion, and a division.
    fn gate(&self, tokens: u64, dim: u64, experts: u64) -> Result<(u64, Time)> {
        let scores = dim.div_ceil(self.lanes()?);
        let softmax = product("cycles", &[GATE_SOFTMAX_II, experts])?;
        let token = sum("cycles", [scores, softmax, self.design.row_latency.into()])?;
        let unit = product("cycles", &[tokens, token])?;
        let time = self.region(unit, &[self.rows(tokens, dim)?], &[])?;
        let slowest = if time.slowest == Slowest::Compute { Slowest::Gate } else { time.slowest };
        Ok((0, Time { slowest, ..time }))
    }

    pub(super) fn loads_hidden(&self) -> bool {
        self.design.hidden_loads != HiddenLoads::None
    }
}
