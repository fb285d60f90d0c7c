//! Small trainable parts beside frozen weights: adapters and LoRA.
use super::{ModelGraph, Node, Op};
use crate::math::positive;
use crate::{HwError, Result};
use serde::{Deserialize, Serialize};

/// Low-rank updates of linear maps, kept apart from the weights (Hu et al., ICLR 2022, arXiv 2106.09685).
///
/// Merged updates cost nothing: they are the graph without them.
///
/// ```
/// use mtl_hw::graph::{Lora, VitSpec};
/// let base = VitSpec::tiny().graph()?;
/// let tuned = Lora { rank: 8, targets: vec!["attn.qkv".to_owned()] }.apply(&base)?;
/// assert_eq!(tuned.macs()? - base.macs()?, 12 * 197 * 8 * (192 + 3 * 192));
/// assert_eq!(tuned.param_count(&Default::default())?.trainable, 12 * 8 * (192 + 3 * 192));
/// # Ok::<(), mtl_hw::HwError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Lora {
    /// Rank r of the update.
    pub rank: u32,
    /// The maps that get one: names, or their ends such as `attn.qkv`.
    pub targets: Vec<String>,
}

impl Lora {
    /// The graph with frozen weights and an update beside each target.
    ///
    /// # Errors
    ///
    /// [`HwError::Config`] for a rank of zero, or a target that no linear map has.
    pub fn apply(&self, graph: &ModelGraph) -> Result<ModelGraph> {
        let rank = positive("rank", self.rank.into())?;
        check_targets(graph, &self.targets)?;
        insert(graph, |node, at, add| {
            let Op::Gemm { rows, inner, cols, .. } = node.op else { return at };
            if !self.targets.iter().any(|t| ends_with(&node.name, t)) {
                return at;
            }
            // The update reads what the map reads.
            let inputs = node.inputs.clone();
            let down = add("lora_a", &inputs, Op::Gemm { rows, inner, cols: rank, bias: false });
            let up = add("lora_b", &[down], Op::Gemm { rows, inner: rank, cols, bias: false });
            add("lora_add", &[at, up], Op::Add { rows, cols })
        })
    }
}

/// Bottlenecks after the last matrix of attention and feed-forward network (Houlsby et al., ICML 2019,
/// arXiv 1902.00751).
///
/// ```
/// use mtl_hw::graph::{Adapters, VitSpec};
/// let base = VitSpec::tiny().graph()?;
/// let tuned = Adapters { width: 16, targets: vec!["mlp.fc2".to_owned()], copies: 1 }.apply(&base)?;
/// assert_eq!(tuned.macs()? - base.macs()?, 12 * 2 * 197 * 192 * 16);
/// # Ok::<(), mtl_hw::HwError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Adapters {
    /// Width r of the bottleneck.
    pub width: u32,
    /// The maps that are followed by one: names, or their ends such as `attn.proj`.
    pub targets: Vec<String>,
    /// Adapters side by side whose results are added up, as with a router over several; 1 without.
    pub copies: u32,
}

impl Adapters {
    /// The graph with frozen weights and adapters after each target.
    ///
    /// # Errors
    ///
    /// [`HwError::Config`] for a zero, or a target that no linear map has.
    pub fn apply(&self, graph: &ModelGraph) -> Result<ModelGraph> {
        let width = positive("width", self.width.into())?;
        positive("copies", self.copies.into())?;
        if self.copies > 1024 {
            return Err(HwError::config("copies", "at most 1024", self.copies));
        }
        check_targets(graph, &self.targets)?;
        insert(graph, |node, at, add| {
            let Op::Gemm { rows, cols, .. } = node.op else { return at };
            if !self.targets.iter().any(|t| ends_with(&node.name, t)) {
                return at;
            }
            let mut sum = at;
            for copy in 0..self.copies {
                let down = Op::Gemm { rows, inner: cols, cols: width, bias: true };
                let down = add(&format!("adapter{copy}.down"), &[at], down);
                let gelu = add(&format!("adapter{copy}.gelu"), &[down], Op::Gelu { rows, cols: width });
                let up = Op::Gemm { rows, inner: width, cols, bias: true };
                let up = add(&format!("adapter{copy}.up"), &[gelu], up);
                sum = add(&format!("adapter{copy}.add"), &[sum, up], Op::Add { rows, cols });
            }
            sum
        })
    }
}

impl ModelGraph {
    /// The graph with all weights fixed but those of the nodes that `trains` picks.
    #[must_use]
    pub fn freeze(&self, trains: impl Fn(&Node) -> bool) -> Self {
        let mut graph = self.clone();
        for node in &mut graph.nodes {
            node.frozen = !trains(node);
        }
        graph
    }
}

fn check_targets(graph: &ModelGraph, targets: &[String]) -> Result<()> {
    for (i, target) in targets.iter().enumerate() {
        let is_target = |n: &Node| matches!(n.op, Op::Gemm { .. }) && ends_with(&n.name, target);
        if !graph.nodes.iter().any(is_target) {
            let must = format!("a linear map of {}", graph.name);
            return Err(HwError::config(format!("targets[{i}]"), must, target));
        }
    }
    Ok(())
}

/// Whether a name is `end`, or ends in it after a dot.
fn ends_with(name: &str, end: &str) -> bool {
    name.strip_suffix(end).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
}

/// Appends a node that belongs to the one at hand: name, inputs, operator; gives its index.
type Add<'a> = dyn FnMut(&str, &[usize], Op) -> usize + 'a;

/// Copies the graph with frozen weights; `grow` may add nodes after each and says which one stands for it from then on.
fn insert(graph: &ModelGraph, grow: impl Fn(&Node, usize, &mut Add<'_>) -> usize) -> Result<ModelGraph> {
    let mut nodes: Vec<Node> = Vec::new();
    // The node whose result stands for an old node's, and the node that has its weights.
    let (mut result, mut place): (Vec<usize>, Vec<usize>) = (Vec::new(), Vec::new());
    for old in &graph.nodes {
        let mut node = old.clone();
        node.inputs = old.inputs.iter().filter_map(|&i| result.get(i).copied()).collect();
        node.tied = old.tied.and_then(|t| place.get(t).copied());
        node.frozen = true;
        nodes.push(node.clone());
        let at = nodes.len() - 1;
        place.push(at);
        let mut add = |name: &str, inputs: &[usize], op: Op| {
            let mut new = Node::new(format!("{}.{name}", old.name), old.part, inputs, op);
            (new.block, new.task, new.side) = (old.block, old.task, old.side);
            nodes.push(new);
            nodes.len() - 1
        };
        result.push(grow(&node, at, &mut add));
    }
    let graph = ModelGraph { name: graph.name.clone(), nodes };
    graph.validate()?;
    Ok(graph)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::{CountContext, VitSpec};

    #[test]
    fn a_missing_target_is_named() {
        let graph = VitSpec::tiny().graph().unwrap();
        let lora = Lora { rank: 4, targets: vec!["attn.qvk".into()] };
        insta::assert_snapshot!(lora.apply(&graph).unwrap_err(), @"`targets[0]` must be a linear map of vit-tiny, but is attn.qvk");
        assert!(Lora { rank: 0, targets: vec![] }.apply(&graph).is_err());
    }

    #[test]
    fn several_adapters_add_up() {
        let graph = VitSpec::tiny().graph().unwrap();
        let macs = |copies| {
            let adapters = Adapters { width: 8, targets: vec!["attn.proj".into(), "mlp.fc2".into()], copies };
            adapters.apply(&graph).unwrap().macs().unwrap() - graph.macs().unwrap()
        };
        assert_eq!(macs(1), 12 * 2 * 2 * 197 * 192 * 8);
        assert_eq!(macs(3), 3 * macs(1));
    }

    #[test]
    fn frozen_matrices_keep_no_operands() {
        let graph = VitSpec::tiny().graph().unwrap();
        let saved = |g: &ModelGraph| g.activation_count(&CountContext::default()).unwrap().saved;
        assert_eq!(saved(&graph.freeze(|_| false)), 0);
        let head = graph.freeze(|n| n.name == "head.0");
        // The head reads the normed tokens; nothing before it needs a gradient.
        assert_eq!(saved(&head), 197 * 192);
        let lora = Lora { rank: 4, targets: vec!["attn.qkv".into()] }.apply(&graph).unwrap();
        assert!(saved(&lora) < saved(&graph));
        assert!(saved(&lora) > saved(&head));
    }
}
