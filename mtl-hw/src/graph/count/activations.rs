//! Activations: what counters add up, what is alive at once, and what training keeps.
use super::CountContext;
use crate::Result;
use crate::graph::{ModelGraph, Node, Op};
use crate::math::{bytes, product, sum};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// Activations of one pass in elements, and in bytes where memory is meant.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ActivationCount {
    /// Results of convolutions, linear maps and matrix products, as fvcore counts them.
    pub fvcore: u64,
    /// Results of all modules without submodules, dropout and identity included; what is not a module (sums, softmax,
    /// products of activations) is left out.
    pub leaf_outputs: u64,
    /// The most that is alive at once when the nodes run in order: the network's input, results that a later node reads
    /// or that nobody reads (the outputs), and the workspace of the node at work.
    pub peak_live: u64,
    /// [`ActivationCount::peak_live`] in bytes.
    pub peak_live_bytes: u64,
    /// The node at which the peak is reached, the first of several.
    pub peak_node: String,
    /// What a backward pass needs again; nodes that no gradient reaches keep nothing, nor does a frozen matrix.
    pub saved: u64,
    /// [`ActivationCount::saved`] in bytes.
    pub saved_bytes: u64,
}

impl ModelGraph {
    /// Counts activations of a batch.
    ///
    /// ```
    /// use mtl_hw::graph::{CountContext, VitSpec};
    /// let count = VitSpec::tiny().graph()?.activation_count(&CountContext::default())?;
    /// assert_eq!(count.fvcore, 5_974_636);
    /// // Image, residual stream, queries with keys and values, scores before and after the softmax.
    /// assert_eq!(count.peak_live, 3 * 224 * 224 + 4 * 197 * 192 + 2 * 3 * 197 * 197);
    /// # Ok::<(), mtl_hw::HwError>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`HwError::Config`](crate::HwError::Config) for a batch of zero, [`HwError::Overflow`](crate::HwError::Overflow)
    /// beyond 64 bits.
    pub fn activation_count(&self, context: &CountContext) -> Result<ActivationCount> {
        context.validate()?;
        let graph = context.path(self);
        let (mut fvcore, mut leaf_outputs) = (0, 0);
        for node in &graph.nodes {
            let batch = images(node, context.batch);
            if !node.side {
                let counted = product("activations", &[batch, fvcore_outputs(&node.op)?])?;
                fvcore = sum("activations", [fvcore, counted])?;
            }
            let leaves = sum("activations", [module_outputs(&node.op)?, node.pass_through])?;
            leaf_outputs = sum("activations", [leaf_outputs, product("activations", &[batch, leaves])?])?;
        }
        let values = Values::of(&graph, context.batch)?;
        let (peak_live, peak_node) = values.peak(&graph, context.batch)?;
        let saved = values.saved(&graph, context.batch)?;
        Ok(ActivationCount {
            fvcore,
            leaf_outputs,
            peak_live,
            peak_live_bytes: bytes("activations", peak_live, context.activation_bits)?,
            peak_node,
            saved,
            saved_bytes: bytes("activations", saved, context.activation_bits)?,
        })
    }
}

/// Results that a node computes per pass: one where a batch shares it.
fn images(node: &Node, batch: u64) -> u64 {
    if matches!(node.op, Op::Embedding { shared: true, .. }) { 1 } else { batch }
}

fn fvcore_outputs(op: &Op) -> Result<u64> {
    match *op {
        Op::PatchEmbedding { .. }
        | Op::Gemm { .. }
        | Op::Conv2d(_)
        | Op::AttentionScores { .. }
        | Op::AttentionValues { .. } => op.outputs(),
        // Its two products, as counted for the operations.
        Op::Attention { heads, queries, keys, .. } => {
            sum("activations", [product("activations", &[heads, queries, keys])?, op.outputs()?])
        }
        Op::Gate { tokens, experts, .. } => product("activations", &[tokens, experts]),
        Op::MoeFfn(s) => product("activations", &[s.pairs()?, sum("dims", [s.dim, s.hidden])?]),
        Op::GatedMoeFfn(s) => {
            product("activations", &[s.pairs()?, sum("dims", [s.dim, s.hidden, s.hidden])?])
        }
        _ => Ok(0),
    }
}

fn module_outputs(op: &Op) -> Result<u64> {
    match *op {
        Op::PatchEmbedding { .. }
        | Op::Gemm { .. }
        | Op::Conv2d(_)
        | Op::LayerNorm { .. }
        | Op::RmsNorm { .. }
        | Op::BatchNorm { .. }
        | Op::Gelu { .. }
        | Op::Relu { .. }
        | Op::Tanh { .. }
        | Op::Silu { .. }
        | Op::Pool2d(_)
        | Op::GlobalPool { .. }
        | Op::Embedding { .. } => op.outputs(),
        Op::Gate { tokens, experts, .. } => product("activations", &[tokens, experts]),
        // Hidden layer before and after its activation function, and result.
        Op::MoeFfn(s) => product("activations", &[s.pairs()?, sum("dims", [s.hidden, s.hidden, s.dim])?]),
        Op::GatedMoeFfn(s) => {
            product("activations", &[s.pairs()?, sum("dims", [s.hidden, s.hidden, s.hidden, s.dim])?])
        }
        _ => Ok(0),
    }
}

/// The results of all nodes as pieces of memory.
struct Values {
    /// The node that allocated the memory of each result: itself, or where it works in place, an earlier one.
    home: Vec<usize>,
    /// Elements of each node's result.
    size: Vec<u64>,
    /// The last node that reads each node's memory; the end for results that nobody reads.
    last: Vec<usize>,
    /// The network's input in elements.
    input: u64,
}

impl Values {
    fn of(graph: &ModelGraph, batch: u64) -> Result<Self> {
        let n = graph.nodes.len();
        let mut last_reader = vec![None; n];
        let mut input = 0;
        for (i, node) in graph.nodes.iter().enumerate() {
            for &j in &node.inputs {
                if let Some(slot) = last_reader.get_mut(j) {
                    *slot = Some(i);
                }
            }
            if node.inputs.is_empty() {
                input = input.max(product("activations", &[batch, node.op.input_elements()?])?);
            }
        }
        let mut values =
            Self { home: Vec::with_capacity(n), size: Vec::with_capacity(n), last: vec![0; n], input };
        for (i, node) in graph.nodes.iter().enumerate() {
            let size = product("activations", &[images(node, batch), node.op.outputs()?])?;
            let source = node.inputs.first().copied().filter(|&j| {
                node.in_place && last_reader.get(j) == Some(&Some(i)) && values.size.get(j) == Some(&size)
            });
            let home = source.and_then(|j| values.home.get(j).copied()).unwrap_or(i);
            values.home.push(home);
            values.size.push(size);
            let last = last_reader.get(i).copied().flatten().unwrap_or(n);
            if let Some(slot) = values.last.get_mut(home) {
                *slot = (*slot).max(last);
            }
        }
        Ok(values)
    }

    /// The most elements alive at once, and where.
    fn peak(&self, graph: &ModelGraph, batch: u64) -> Result<(u64, String)> {
        let mut freed_after = vec![0u64; graph.nodes.len()];
        let (mut live, mut peak) = (self.input, (0, String::new()));
        for (i, node) in graph.nodes.iter().enumerate() {
            let (home, size) = (self.home.get(i), self.size.get(i).copied().unwrap_or(0));
            if home == Some(&i) {
                live = sum("activations", [live, size])?;
                if let Some(slot) = self.last.get(i).and_then(|&l| freed_after.get_mut(l)) {
                    *slot = sum("activations", [*slot, size])?;
                }
            }
            let workspace = product("activations", &[batch, node.op.workspace()?])?;
            let here = sum("activations", [live, workspace])?;
            if here > peak.0 {
                peak = (here, node.name.clone());
            }
            live = live.saturating_sub(freed_after.get(i).copied().unwrap_or(0));
        }
        Ok(peak)
    }

    /// Elements that a backward pass reads again, each result once.
    fn saved(&self, graph: &ModelGraph, batch: u64) -> Result<u64> {
        let mut reached = vec![false; graph.nodes.len()];
        let mut kept = BTreeSet::new();
        let (mut keeps_input, mut total) = (false, 0);
        for (i, node) in graph.nodes.iter().enumerate() {
            let trains = !node.frozen && node.op.params()? > 0;
            let from_inputs = node.inputs.iter().any(|&j| reached.get(j) == Some(&true));
            if let Some(slot) = reached.get_mut(i) {
                *slot = trains || from_inputs;
            }
            if !(trains || from_inputs) {
                continue;
            }
            let (inputs, output, extra) = backward_needs(&node.op, trains)?;
            let operands = node.inputs.get(..inputs.min(node.inputs.len())).unwrap_or_default();
            keeps_input |= inputs > 0 && node.inputs.is_empty();
            let own = output.then_some(&i);
            kept.extend(operands.iter().chain(own).filter_map(|&j| self.home.get(j).copied()));
            total = sum("activations", [total, product("activations", &[batch, extra])?])?;
        }
        for home in kept {
            total = sum("activations", [total, self.size.get(home).copied().unwrap_or(0)])?;
        }
        sum("activations", [total, if keeps_input { self.input } else { 0 }])
    }
}

/// What the backward pass of an operator reads: how many of its operands, whether its result, and elements besides.
fn backward_needs(op: &Op, trains: bool) -> Result<(usize, bool, u64)> {
    let all = usize::MAX;
    Ok(match *op {
        // The operand is only needed for the gradient of the weights.
        Op::Gemm { .. } | Op::Conv2d(_) | Op::PatchEmbedding { .. } | Op::Embedding { .. } => {
            (usize::from(trains), false, 0)
        }
        Op::AttentionScores { .. } | Op::AttentionValues { .. } | Op::Multiply { .. } => (all, false, 0),
        Op::Attention { heads, queries, .. } => (all, true, product("activations", &[heads, queries])?),
        Op::Softmax { .. } | Op::Relu { .. } | Op::Tanh { .. } => (0, true, 0),
        Op::Gelu { .. } | Op::Silu { .. } => (1, false, 0),
        // Mean and reciprocal deviation of each row or channel.
        Op::LayerNorm { rows, .. } => (1, false, product("activations", &[2, rows])?),
        Op::RmsNorm { rows, .. } => (1, false, rows),
        Op::BatchNorm { channels, .. } => (1, false, product("activations", &[2, channels])?),
        // Input and, of a maximum, where it was.
        Op::Pool2d(s) if s.kind == super::super::PoolKind::Max => (1, false, op.outputs()?),
        Op::Gate { tokens, experts, .. } => (1, true, product("activations", &[tokens, experts])?),
        // Gathered tokens, hidden layer before and after its activation function, results before the weighting.
        Op::MoeFfn(s) => {
            let pair = sum("dims", [s.dim, s.dim, s.hidden, s.hidden])?;
            (1, false, product("activations", &[s.pairs()?, pair])?)
        }
        Op::GatedMoeFfn(s) => {
            let hidden = product("dims", &[4, s.hidden])?;
            (1, false, product("activations", &[s.pairs()?, sum("dims", [s.dim, s.dim, hidden])?])?)
        }
        _ => (0, false, 0),
    })
}
