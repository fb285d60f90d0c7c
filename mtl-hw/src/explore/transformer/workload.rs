//! A model graph reduced to its distinct layer shapes and the transitions between them.
use super::moe::MoeWork;
use crate::graph::{ModelGraph, Node, Op};
use crate::math::{product, sum};
use crate::routing::Routing;
use crate::{HwError, Result};
use std::collections::BTreeMap;

/// What a step computes.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Work {
    /// `[rows, inner] · [inner, cols]` with stored weights; `prefix` more rows where the accelerator charges them.
    Gemm { rows: u64, prefix: u64, inner: u64, cols: u64 },
    /// `heads` products `[queries, inner] · [inner, keys]` of activations.
    Products { heads: u64, queries: u64, inner: u64, cols: u64, keys: u64, head_dim: u64 },
    /// Elementwise work.
    Vector { rows: u64, elements: u64 },
    /// Scores of a gate.
    Gate { tokens: u64, dim: u64, experts: u64 },
    /// Experts.
    Moe(Box<MoeWork>),
}

/// One distinct layer.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Step {
    pub(super) work: Work,
    /// Weights and biases loaded, in elements.
    pub(super) params: u64,
    /// Activations read and written when they do not stay on chip, in elements.
    pub(super) read: u64,
    pub(super) written: u64,
}

impl Step {
    /// Whether its weights alternate between the two halves of the weight buffer.
    pub(super) fn large(&self) -> bool {
        matches!(self.work, Work::Gemm { .. } | Work::Moe(_))
    }

    pub(super) fn moe(&self) -> Option<&MoeWork> {
        if let Work::Moe(work) = &self.work { Some(work) } else { None }
    }
}

/// A large layer, the small ones behind it, and the large layer whose load they hide; steps by index.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Segment {
    pub(super) start: Option<usize>,
    pub(super) small: Vec<usize>,
    pub(super) next: Option<usize>,
}

/// A network with its routings, reduced to what the evaluator needs.
///
/// ```
/// use mtl_hw::explore::transformer::Workload;
/// use mtl_hw::{graph::VitSpec, routing::Routing};
/// let workload = Workload::new(&VitSpec::small().graph()?, &[Routing::Uniform])?;
/// // Patches, four of each block, head: 50 maps with weights; 72 in the blocks with the products of attention.
/// assert_eq!((workload.gemms(), workload.distinct_gemms()), (74, 8));
/// # Ok::<(), mtl_hw::HwError>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct Workload {
    pub(super) name: String,
    pub(super) steps: Vec<Step>,
    pub(super) counts: Vec<u64>,
    pub(super) segments: Vec<(Segment, u64)>,
    pub(super) routings: usize,
    /// Largest token matrix in elements, the least that keeps activations on chip.
    pub(super) tokens: u64,
    pub(super) macs: u64,
    /// Identifier of the first MoE layer, for messages.
    pub(super) moe_layer: String,
    accuracy: BTreeMap<(u32, u32), f64>,
    default_accuracy: Option<f64>,
}

impl Workload {
    /// Reduces a graph. With several routings, latencies are their mean and 95th percentile.
    ///
    /// # Errors
    ///
    /// [`HwError::Config`] for a bad graph or no routing; routing errors for decisions that contradict the graph.
    pub fn new(graph: &ModelGraph, routings: &[Routing<'_>]) -> Result<Self> {
        graph.validate()?;
        if routings.is_empty() {
            return Err(HwError::config("routings", "at least one", "none"));
        }
        let mut workload = Self {
            name: graph.name.clone(),
            steps: Vec::new(),
            counts: Vec::new(),
            segments: Vec::new(),
            routings: routings.len(),
            tokens: 0,
            macs: graph.macs()?,
            moe_layer: graph.moe_layers().next().map(|(id, _)| id).unwrap_or_default(),
            accuracy: BTreeMap::new(),
            default_accuracy: None,
        };
        let prefix = graph.nodes.iter().find_map(|n| match n.op {
            Op::TokenEmbedding { prefix, .. } => Some(prefix),
            _ => None,
        });
        let mut segments: BTreeMap<Segment, u64> = BTreeMap::new();
        let mut open = Segment { start: None, small: Vec::new(), next: None };
        for node in &graph.nodes {
            if let Op::LayerNorm { .. } | Op::TokenEmbedding { .. } = node.op {
                workload.tokens = workload.tokens.max(node.op.outputs()?);
            }
            let index = workload.intern(step(node, prefix.unwrap_or(0), routings)?);
            if workload.steps.get(index).is_some_and(Step::large) {
                open.next = Some(index);
                let next = Segment { start: Some(index), small: Vec::new(), next: None };
                *segments.entry(std::mem::replace(&mut open, next)).or_insert(0) += 1;
            } else {
                open.small.push(index);
            }
        }
        *segments.entry(open).or_insert(0) += 1;
        workload.segments = segments.into_iter().collect();
        Ok(workload)
    }

    /// Sets the accuracy at every precision that [`Workload::accuracy_at`] does not name.
    #[must_use]
    pub fn accuracy(mut self, accuracy: f64) -> Self {
        self.default_accuracy = Some(accuracy);
        self
    }

    /// Sets the accuracy at one precision.
    #[must_use]
    pub fn accuracy_at(mut self, activation_bits: u32, weight_bits: u32, accuracy: f64) -> Self {
        self.accuracy.insert((activation_bits, weight_bits), accuracy);
        self
    }

    /// Name of the network.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Matrix products of one image; the heads of one attention count as one, experts as none.
    #[must_use]
    pub fn gemms(&self) -> u64 {
        self.products().map(|(_, n)| n).sum()
    }

    /// Distinct shapes among [`Workload::gemms`].
    #[must_use]
    pub fn distinct_gemms(&self) -> usize {
        self.products().count()
    }

    fn products(&self) -> impl Iterator<Item = (&Step, u64)> {
        let all = self.steps.iter().zip(self.counts.iter().copied());
        all.filter(|(s, _)| matches!(s.work, Work::Gemm { .. } | Work::Products { .. }))
    }

    /// Accuracy at one precision.
    pub(super) fn accuracy_of(&self, activation_bits: u32, weight_bits: u32) -> Option<f64> {
        self.accuracy.get(&(activation_bits, weight_bits)).copied().or(self.default_accuracy)
    }

    pub(super) fn accuracies(&self) -> impl Iterator<Item = f64> + '_ {
        self.accuracy.values().copied().chain(self.default_accuracy)
    }

    fn intern(&mut self, step: Step) -> usize {
        if let Some(i) = self.steps.iter().position(|s| *s == step) {
            if let Some(count) = self.counts.get_mut(i) {
                *count += 1;
            }
            return i;
        }
        self.steps.push(step);
        self.counts.push(1);
        self.steps.len() - 1
    }
}

fn step(node: &Node, prefix: u64, routings: &[Routing<'_>]) -> Result<Step> {
    let area = |a: u64, b: u64| product("activations", &[a, b]);
    let params = node.op.active_params(0)?;
    let (work, read, written) = match node.op {
        Op::PatchEmbedding { patches, patch, channels, dim } => {
            let inner = product("inner", &[patch, patch, channels])?;
            // The image comes from off-chip memory in any case, while the frame is read.
            (Work::Gemm { rows: patches, prefix, inner, cols: dim }, 0, area(patches, dim)?)
        }
        Op::Gemm { rows, inner, cols, .. } => {
            (Work::Gemm { rows, prefix: 0, inner, cols }, area(rows, inner)?, area(rows, cols)?)
        }
        Op::AttentionScores { heads, queries, keys, head_dim } => (
            Work::Products { heads, queries, inner: head_dim, cols: keys, keys, head_dim },
            product("activations", &[heads, sum("tokens", [queries, keys])?, head_dim])?,
            product("activations", &[heads, queries, keys])?,
        ),
        Op::AttentionValues { heads, queries, keys, head_dim } => (
            Work::Products { heads, queries, inner: keys, cols: head_dim, keys, head_dim },
            sum(
                "activations",
                [
                    product("activations", &[heads, queries, keys])?,
                    product("activations", &[heads, keys, head_dim])?,
                ],
            )?,
            product("activations", &[heads, queries, head_dim])?,
        ),
        Op::Gate { tokens, dim, experts, .. } => (Work::Gate { tokens, dim, experts }, 0, 0),
        Op::MoeFfn(shape) => {
            let work = MoeWork::new(&node.layer_id(), &shape, routings)?;
            (Work::Moe(Box::new(work)), 0, 0)
        }
        // Normalisation, softmax and GELU stream between the matrix products.
        Op::LayerNorm { rows, .. } | Op::Softmax { rows, .. } => {
            (Work::Vector { rows, elements: node.op.outputs()? }, 0, 0)
        }
        _ => (Work::Vector { rows: 0, elements: node.op.outputs()? }, 0, 0),
    };
    Ok(Step { work, params, read, written })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::{MoeSpec, VitSpec};

    #[test]
    fn twelve_blocks_reduce_to_few_transitions() {
        let dense = Workload::new(&VitSpec::small().graph().unwrap(), &[Routing::Uniform]).unwrap();
        assert_eq!(dense.segments.len(), 8);
        // The six shapes of the blocks come twelve times each.
        let block = dense
            .steps
            .iter()
            .zip(&dense.counts)
            .filter(|(s, n)| **n == 12 && matches!(s.work, Work::Gemm { .. } | Work::Products { .. }));
        assert_eq!(block.count(), 6);
        let moe = VitSpec::small().moe(MoeSpec::default()).graph().unwrap();
        let moe = Workload::new(&moe, &[Routing::Uniform, Routing::Uniform]).unwrap();
        assert_eq!(moe.steps.iter().filter(|s| s.moe().is_some()).count(), 1);
        assert!(Workload::new(&VitSpec::small().graph().unwrap(), &[]).is_err());
    }
}
