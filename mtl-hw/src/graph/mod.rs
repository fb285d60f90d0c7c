//! Model graphs: operators with shapes, in execution order, without weights.
//!
//! Builders: [`VitSpec`] for vision transformers, dense or with mixture-of-experts blocks, [`BertSpec`],
//! [`ResNetSpec`], [`DecoderSpec`] for language models, [`SlimCnnSpec`] and [`SlimVitSpec`] for encoders of adjustable
//! width, and [`HfModel`] for the `config.json` of a Hugging Face model. A [`ModelGraph`] can also be read from TOML or
//! JSON. [`ModelGraph::count`], [`ModelGraph::param_count`] and [`ModelGraph::activation_count`] count it.
mod bert;
mod block;
mod build;
mod count;
mod decoder;
mod hf;
mod lanes;
mod op;
mod prompt;
mod resnet;
mod slim;
mod tune;
mod vit;

pub use bert::BertSpec;
pub use count::{
    ActivationCount, ActiveExperts, Convention, Count, CountContext, OpClass, ParamClass, ParamCount, Profile,
};
pub use decoder::{DecoderMoe, DecoderSpec};
pub use hf::{HF_MODEL_TYPES, HfModel};
pub use lanes::LanesSpec;
pub use op::{Conv2dShape, MoeShape, Op, OpKind, Pool2dShape, PoolKind};
pub use prompt::{Demonstrations, PromptCost, PromptKind, PromptSpec};
pub use resnet::ResNetSpec;
pub use slim::{SlimCnnSpec, SlimDecoder, SlimMlpSpec, SlimStage, SlimVitSpec, Widths, round_channels};
pub use tune::{Adapters, Lora};
pub use vit::{DenseHead, MoeBlocks, MoeSpec, VitHead, VitSpec};

use crate::math::{positive, sum};
use crate::{HwError, Result, text};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// The hardware unit, and the weight buffer, that an operator belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Part {
    /// Patches, class token, positions.
    Embedding,
    /// Projections, products and softmax of attention.
    Attention,
    /// Feed-forward network, experts and gate.
    FeedForward,
    /// Task heads and decoders.
    Head,
    /// Convolutional encoder.
    Backbone,
}

/// One operator with its name and place.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Node {
    /// Unique name, such as `blk.1.attn.qkv`.
    pub name: String,
    /// Hardware unit.
    pub part: Part,
    /// Encoder block, from 0; absent outside the encoder.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub block: Option<u32>,
    /// The task this node serves; absent when all tasks share it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub task: Option<u32>,
    /// Indices of the nodes whose results it reads; empty for the image.
    #[serde(default)]
    pub inputs: Vec<usize>,
    /// Index of an earlier node whose weights it uses; only what it has beyond those is stored for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tied: Option<usize>,
    /// Whether its weights are kept fixed in training.
    #[serde(default, skip_serializing_if = "is_default")]
    pub frozen: bool,
    /// Whether its result overwrites its first input when nothing reads that later.
    #[serde(default, skip_serializing_if = "is_default")]
    pub in_place: bool,
    /// Whether its result is beside the network's output, as the one of BERT's pooler: fvcore, which traces what leads
    /// to the output, does not see such a node.
    #[serde(default, skip_serializing_if = "is_default")]
    pub side: bool,
    /// Elements that modules of the reference implementation pass on unchanged after it (dropout, identity).
    #[serde(default, skip_serializing_if = "is_default")]
    pub pass_through: u64,
    /// Stored values that are neither parameters nor part of the operator, such as a list of positions.
    #[serde(default, skip_serializing_if = "is_default")]
    pub buffers: u64,
    /// The operator.
    pub op: Op,
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

impl Node {
    /// A node that every task uses, outside blocks, with its own weights.
    #[must_use]
    pub fn new(name: impl Into<String>, part: Part, inputs: &[usize], op: Op) -> Self {
        Self {
            name: name.into(),
            part,
            block: None,
            task: None,
            inputs: inputs.to_vec(),
            tied: None,
            frozen: false,
            in_place: false,
            side: false,
            pass_through: 0,
            buffers: 0,
            op,
        }
    }

    /// The identifier under which a routing trace keeps this node's layer: `blk.<block>`, or the name.
    #[must_use]
    pub fn layer_id(&self) -> String {
        self.block.map_or_else(|| self.name.clone(), |b| format!("blk.{b}"))
    }
}

/// A network as a list of operators in topological order.
///
/// ```
/// use mtl_hw::graph::{ModelGraph, VitSpec};
/// let graph = VitSpec::tiny().graph()?;
/// assert_eq!(graph.params()?, 5_717_416);
/// let again = ModelGraph::from_toml(&graph.to_toml()?)?;
/// assert_eq!(graph, again);
/// # Ok::<(), mtl_hw::HwError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelGraph {
    /// Name of the network.
    pub name: String,
    /// Operators; every node comes after its inputs.
    pub nodes: Vec<Node>,
}

impl ModelGraph {
    /// Reads and checks a graph in TOML.
    ///
    /// # Errors
    ///
    /// [`HwError::Parse`] naming the key, or an error of [`ModelGraph::validate`].
    pub fn from_toml(toml: &str) -> Result<Self> {
        let graph: Self = text::from_toml("graph", toml)?;
        graph.validate()?;
        Ok(graph)
    }

    /// Reads and checks a graph in JSON.
    ///
    /// # Errors
    ///
    /// [`HwError::Parse`] naming the key, or an error of [`ModelGraph::validate`].
    pub fn from_json(json: &str) -> Result<Self> {
        let graph: Self = text::from_json("graph", json)?;
        graph.validate()?;
        Ok(graph)
    }

    /// Writes TOML that [`ModelGraph::from_toml`] reads.
    ///
    /// # Errors
    ///
    /// [`HwError::Write`] when a number exceeds TOML's 63 bits.
    pub fn to_toml(&self) -> Result<String> {
        text::to_toml("graph", self)
    }

    /// Writes JSON that [`ModelGraph::from_json`] reads.
    ///
    /// # Errors
    ///
    /// [`HwError::Write`] when serialisation fails.
    pub fn to_json(&self) -> Result<String> {
        text::to_json("graph", self)
    }

    /// Checks names, order of nodes and every operator.
    ///
    /// # Errors
    ///
    /// [`HwError::Config`] naming the key, for an empty graph, a repeated name, an input that does not come earlier or
    /// belongs to another task, or a bad dimension; [`HwError::Overflow`] for counts beyond 64 bits.
    pub fn validate(&self) -> Result<()> {
        positive("nodes", self.nodes.len() as u64)?;
        let mut names = BTreeSet::new();
        for (i, node) in self.nodes.iter().enumerate() {
            let path = format!("nodes[{i}]");
            if !names.insert(node.name.as_str()) {
                return Err(HwError::config(format!("{path}.name"), "unique", &node.name));
            }
            for &input in &node.inputs {
                let Some(source) = self.nodes.get(input).filter(|_| input < i) else {
                    return Err(HwError::config(format!("{path}.inputs"), format!("below {i}"), input));
                };
                if source.task.is_some() && source.task != node.task {
                    return Err(HwError::config(
                        format!("{path}.inputs"),
                        "nodes of the same task or of none",
                        input,
                    ));
                }
            }
            if let Some(source) = node.tied.filter(|&t| t >= i) {
                return Err(HwError::config(format!("{path}.tied"), format!("below {i}"), source));
            }
            node.op.validate().map_err(|e| e.within(&format!("{path}.op.{}", node.op.kind())))?;
        }
        self.macs()?;
        self.params().map(drop)
    }

    /// Multiply-accumulates of one image through every node.
    ///
    /// # Errors
    ///
    /// [`HwError::Overflow`] when the count does not fit in 64 bits.
    pub fn macs(&self) -> Result<u64> {
        self.total("macs", Op::macs)
    }

    /// Stored parameters; tied weights count once.
    ///
    /// # Errors
    ///
    /// [`HwError::Overflow`] when the count does not fit in 64 bits.
    pub fn params(&self) -> Result<u64> {
        self.nodes.iter().try_fold(0, |acc, n| sum("params", [acc, self.own(n, Op::params)?]))
    }

    /// Parameters that one image reaches when `active_experts` experts of each MoE layer are used.
    ///
    /// # Errors
    ///
    /// [`HwError::Overflow`] when the count does not fit in 64 bits.
    pub fn active_params(&self, active_experts: u64) -> Result<u64> {
        let active = |op: &Op| op.active_params(active_experts);
        self.nodes.iter().try_fold(0, |acc, n| sum("active params", [acc, self.own(n, active)?]))
    }

    /// A node's weights beyond those that it takes from another node.
    pub(crate) fn own(&self, node: &Node, params: impl Fn(&Op) -> Result<u64>) -> Result<u64> {
        let source = match node.tied.and_then(|t| self.nodes.get(t)) {
            Some(source) => params(&source.op)?,
            None => 0,
        };
        Ok(params(&node.op)?.saturating_sub(source))
    }

    /// Results of convolutions, linear maps and matrix products in elements: fvcore's "activations".
    ///
    /// # Errors
    ///
    /// [`HwError::Overflow`] when the count does not fit in 64 bits.
    pub fn activations(&self) -> Result<u64> {
        Ok(self.activation_count(&CountContext::default())?.fvcore)
    }

    /// The graph without the nodes of other tasks; gate matrices stay, since they are one node.
    #[must_use]
    pub fn for_task(&self, task: u32) -> Self {
        self.retain(|node| node.task.is_none_or(|t| t == task))
    }

    /// The graph of some nodes; what the others computed is missing from the inputs, and tied weights pass to the first
    /// node that still uses them.
    fn retain(&self, keep: impl Fn(&Node) -> bool) -> Self {
        let mut index = vec![None; self.nodes.len()];
        // Where the weights of a node are now.
        let mut owner = BTreeMap::new();
        let mut nodes: Vec<Node> = Vec::new();
        for (i, node) in self.nodes.iter().enumerate().filter(|(_, n)| keep(n)) {
            let mut copy = node.clone();
            copy.inputs = node.inputs.iter().filter_map(|&j| index.get(j).copied().flatten()).collect();
            let root = self.root(i);
            copy.tied = owner.get(&root).copied();
            owner.entry(root).or_insert(nodes.len());
            if let Some(slot) = index.get_mut(i) {
                *slot = Some(nodes.len());
            }
            nodes.push(copy);
        }
        Self { name: self.name.clone(), nodes }
    }

    /// The node at the end of a chain of tied weights.
    fn root(&self, mut i: usize) -> usize {
        // Validated chains go backwards; the test keeps a broken one from looping.
        while let Some(t) = self.nodes.get(i).and_then(|n| n.tied).filter(|&t| t < i) {
            i = t;
        }
        i
    }

    /// The MoE layers: identifier of [`Node::layer_id`] and shape.
    pub fn moe_layers(&self) -> impl Iterator<Item = (String, MoeShape)> + '_ {
        self.nodes.iter().filter_map(|n| match n.op {
            Op::MoeFfn(shape) => Some((n.layer_id(), shape)),
            _ => None,
        })
    }

    fn total(&self, what: &str, f: impl Fn(&Op) -> Result<u64>) -> Result<u64> {
        self.nodes.iter().try_fold(0, |acc, n| sum(what, [acc, f(&n.op)?]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one_gemm() -> ModelGraph {
        ModelGraph {
            name: "one".into(),
            nodes: vec![Node::new(
                "fc",
                Part::Head,
                &[],
                Op::Gemm { rows: 1, inner: 2, cols: 3, bias: true },
            )],
        }
    }

    #[test]
    fn a_graph_survives_json_and_toml() {
        let graph = VitSpec::tiny().moe(MoeSpec::default()).graph().unwrap();
        assert_eq!(ModelGraph::from_json(&graph.to_json().unwrap()).unwrap(), graph);
        assert_eq!(ModelGraph::from_toml(&graph.to_toml().unwrap()).unwrap(), graph);
    }

    #[test]
    fn errors_name_the_key() {
        let toml = one_gemm().to_toml().unwrap();
        let text_error = |from: &str, to: &str| {
            assert!(toml.contains(from), "{toml}");
            ModelGraph::from_toml(&toml.replace(from, to)).unwrap_err().to_string()
        };
        insta::assert_snapshot!(text_error("inner = 2", "inner = \"two\""), @r#"graph: `nodes[0].op.gemm.inner`: invalid type: string "two", expected u64"#);
        insta::assert_snapshot!(text_error("inner = 2", "inner = 0"), @"`nodes[0].op.gemm.inner` must be positive, but is 0");
        insta::assert_snapshot!(text_error("inner = 2", "iner = 2"), @"graph: `nodes[0].op.gemm`: unexpected keys in table: iner, available keys: rows, inner, cols, bias");
        insta::assert_snapshot!(text_error("inputs = []", "inputs = [4]"), @"`nodes[0].inputs` must be below 0, but is 4");
        insta::assert_snapshot!(text_error("inner = 2", "inner = 9223372036854775807"), @"`nodes[0].op.gemm.macs` does not fit in 64 bits; check the dimensions");
    }

    #[test]
    fn an_empty_graph_and_a_repeated_name_are_refused() {
        let mut graph = one_gemm();
        graph.nodes.push(graph.nodes[0].clone());
        insta::assert_snapshot!(graph.validate().unwrap_err(), @"`nodes[1].name` must be unique, but is fc");
        graph.nodes.clear();
        assert!(graph.validate().is_err());
    }

    #[test]
    fn one_task_keeps_the_trunk_and_its_own_head() {
        let spec = VitSpec { heads_out: vec![VitHead::task(0, 10), VitHead::task(1, 2)], ..VitSpec::tiny() };
        let graph = spec.graph().unwrap();
        let one = graph.for_task(1);
        one.validate().unwrap();
        assert_eq!(graph.params().unwrap() - one.params().unwrap(), 192 * 10 + 10);
    }
}
