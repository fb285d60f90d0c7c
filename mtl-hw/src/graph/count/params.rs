//! Parameters.
use super::{ActiveExperts, CountContext};
use crate::Result;
use crate::graph::{ModelGraph, Node, Op};
use crate::math::sum;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Classes of parameters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum ParamClass {
    /// Matrices and their biases, gates and experts included.
    Linear,
    /// Kernels of convolutions and their biases.
    Conv,
    /// Scales and shifts of norms.
    Norm,
    /// Tables of embeddings.
    Embedding,
    /// Free-standing tokens and positions: class token, prompts.
    Token,
}

/// Parameters in elements. Tied weights count once.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ParamCount {
    /// All of them, whatever the task.
    pub stored: u64,
    /// Those that the task and routing of the context reach: one gate, the active experts, the task's own heads.
    pub active: u64,
    /// Stored ones that training changes.
    pub trainable: u64,
    /// Stored values beside the parameters: running statistics, lists of positions.
    pub buffers: u64,
    /// Stored ones by class; classes without any are absent.
    pub by_class: BTreeMap<ParamClass, u64>,
}

impl ModelGraph {
    /// Counts parameters.
    ///
    /// ```
    /// use mtl_hw::graph::{ActiveExperts, CountContext, MoeSpec, VitSpec};
    /// let graph = VitSpec::small().moe(MoeSpec::default()).graph()?;
    /// let one_token = CountContext::default().active_experts(ActiveExperts::TopK);
    /// let params = graph.param_count(&one_token)?;
    /// assert_eq!(params.stored, 43_383_400);
    /// assert_eq!(params.stored - params.active, 6 * (16 - 4) * 295_680); // twelve experts of six blocks
    /// # Ok::<(), mtl_hw::HwError>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`HwError::Config`](crate::HwError::Config) for more active experts than a layer has,
    /// [`HwError::Overflow`](crate::HwError::Overflow) beyond 64 bits.
    pub fn param_count(&self, context: &CountContext) -> Result<ParamCount> {
        context.validate()?;
        let mut count =
            ParamCount { stored: 0, active: 0, trainable: 0, buffers: 0, by_class: BTreeMap::new() };
        for node in &self.nodes {
            let own = self.own(node, Op::params)?;
            count.stored = sum("params", [count.stored, own])?;
            if !node.frozen {
                count.trainable = sum("params", [count.trainable, own])?;
            }
            count.buffers = sum("buffers", [count.buffers, node.buffers, node.op.buffers()?])?;
            if own > 0 {
                let total = count.by_class.entry(class(&node.op)).or_insert(0);
                *total = sum("params", [*total, own])?;
            }
        }
        let path = context.path(self);
        for node in &path.nodes {
            let experts = active_experts(node, &context.active_experts)?;
            let own = path.own(node, |op| op.active_params(experts))?;
            count.active = sum("active params", [count.active, own])?;
        }
        Ok(count)
    }
}

fn active_experts(node: &Node, active: &ActiveExperts) -> Result<u64> {
    match node.op {
        Op::MoeFfn(s) | Op::GatedMoeFfn(s) => active.of(node, s.experts, s.top_k),
        _ => Ok(0),
    }
}

fn class(op: &Op) -> ParamClass {
    match op {
        Op::PatchEmbedding { .. } | Op::Conv2d(_) => ParamClass::Conv,
        Op::LayerNorm { .. } | Op::RmsNorm { .. } | Op::BatchNorm { .. } => ParamClass::Norm,
        Op::Embedding { .. } => ParamClass::Embedding,
        Op::TokenEmbedding { .. } | Op::Prompt { .. } => ParamClass::Token,
        _ => ParamClass::Linear,
    }
}
