//! FLOP counts under the conventions of the usual counters.
use super::{ModelGraph, Op};
use crate::Result;
use crate::math::{product, sum};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// What is counted. Counts of different conventions must not be added: they differ by a factor of two and more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Convention {
    /// `torch.utils.flop_counter`: two FLOPs per MAC of convolutions and matrix products, nothing else.
    Torch,
    /// fvcore: MACs, plus five per layer-norm element.
    Fvcore,
    /// thop: MACs of modules only, so attention products are invisible.
    Thop,
    /// Two FLOPs per MAC, one per bias and residual addition and GELU, three per softmax element (exponential, sum,
    /// division), five per layer-norm element; a gate adds a softmax and E·K comparisons per token; combining experts
    /// costs two per token, expert choice and channel.
    Full,
}

/// Classes that counters report.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum OpClass {
    /// Convolutions: the patch embedding.
    Conv,
    /// Maps with stored weights, gates and experts included.
    Linear,
    /// Products of two activations.
    Matmul,
    /// Layer norms.
    LayerNorm,
    /// Softmax, GELU, additions, top-K.
    Elementwise,
}

/// A count with its convention.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Count {
    /// The convention.
    pub convention: Convention,
    /// Sum over classes.
    pub total: u64,
    /// Count per class; classes that count zero are absent.
    pub by_class: BTreeMap<OpClass, u64>,
}

impl ModelGraph {
    /// Counts operations of one image under a convention.
    ///
    /// ```
    /// use mtl_hw::graph::{Convention, VitSpec};
    /// let count = VitSpec::tiny().graph()?.count(Convention::Torch)?;
    /// assert_eq!(count.total, 2_507_366_400);
    /// # Ok::<(), mtl_hw::HwError>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`HwError::Overflow`](crate::HwError::Overflow) when a count does not fit in 64 bits.
    pub fn count(&self, convention: Convention) -> Result<Count> {
        let mut by_class = BTreeMap::new();
        for node in &self.nodes {
            for (class, n) in op_count(&node.op, convention)? {
                if n > 0 {
                    let entry = by_class.entry(class).or_insert(0);
                    *entry = sum("operations", [*entry, n])?;
                }
            }
        }
        Ok(Count { convention, total: sum("operations", by_class.values().copied())?, by_class })
    }
}

fn op_count(op: &Op, convention: Convention) -> Result<Vec<(OpClass, u64)>> {
    let class = match op {
        Op::PatchEmbedding { .. } => OpClass::Conv,
        Op::Gemm { .. } | Op::Gate { .. } | Op::MoeFfn(_) => OpClass::Linear,
        Op::AttentionScores { .. } | Op::AttentionValues { .. } => OpClass::Matmul,
        Op::LayerNorm { .. } => OpClass::LayerNorm,
        _ => OpClass::Elementwise,
    };
    let macs = op.macs()?;
    let counted = match convention {
        Convention::Torch | Convention::Full => product("operations", &[2, macs])?,
        Convention::Thop if class == OpClass::Matmul => 0,
        Convention::Fvcore | Convention::Thop => macs,
    };
    let norms = matches!(convention, Convention::Fvcore | Convention::Full);
    let mut counts = vec![(class, counted)];
    if norms && class == OpClass::LayerNorm {
        counts.push((class, product("operations", &[5, op.outputs()?])?));
    }
    if convention == Convention::Full {
        counts.push((OpClass::Elementwise, elementwise(op)?));
    }
    Ok(counts)
}

/// Operations beyond MACs and norms, for [`Convention::Full`].
fn elementwise(op: &Op) -> Result<u64> {
    match *op {
        Op::PatchEmbedding { .. } | Op::TokenEmbedding { .. } | Op::Gelu { .. } | Op::Add { .. } => {
            op.outputs()
        }
        Op::Gemm { bias, .. } => {
            if bias {
                op.outputs()
            } else {
                Ok(0)
            }
        }
        Op::Softmax { .. } => product("operations", &[3, op.outputs()?]),
        Op::Gate { tokens, experts, top_k, .. } => {
            product("operations", &[tokens, experts, sum("operations", [3, top_k])?])
        }
        Op::MoeFfn(s) => {
            // Bias and GELU of the hidden layer, bias, scale and accumulation of the output.
            let per_pair = sum(
                "operations",
                [product("operations", &[2, s.hidden])?, product("operations", &[3, s.dim])?],
            )?;
            product("operations", &[s.pairs()?, per_pair])
        }
        _ => Ok(0),
    }
}
