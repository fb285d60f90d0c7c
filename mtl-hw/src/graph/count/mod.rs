//! Counts of operations, parameters and activations under the conventions of the usual counters.
mod activations;
mod ops;
mod params;

pub use activations::ActivationCount;
pub use ops::{Convention, Count, OpClass};
pub use params::{ParamClass, ParamCount};

use super::{ModelGraph, Node};
use crate::math::positive;
use crate::routing::{RoutingStats, RoutingTrace, TraceRecord};
use crate::{HwError, Result};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Experts of each MoE layer that one image reaches.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum ActiveExperts {
    /// All of them, as happens with many tokens and a balanced router.
    #[default]
    All,
    /// The K experts of one token, or of all tokens where the task alone decides (a sparse network by skill).
    TopK,
    /// By [`Node::layer_id`], from a trace or a measurement; layers that are missing reach all experts.
    Layers(BTreeMap<String, u64>),
}

impl ActiveExperts {
    /// The experts that a recorded image reached with a task.
    ///
    /// ```
    /// use mtl_hw::graph::ActiveExperts;
    /// use mtl_hw::routing::{RoutingTrace, TraceHeader, TraceLayer, TraceRecord};
    /// let layer = TraceLayer { id: "blk.1".into(), experts: 4, top_k: 1, d_model: 8, d_hidden: 8 };
    /// let mut trace = RoutingTrace::new(TraceHeader::new("toy", vec!["depth".into()], 3, vec![layer]))?;
    /// trace.push(TraceRecord::tokens(0, 0, "blk.1", vec![vec![2], vec![2], vec![0]]))?;
    /// let ActiveExperts::Layers(active) = ActiveExperts::of_trace(&trace, 0, 0)? else { unreachable!() };
    /// assert_eq!(active["blk.1"], 2);
    /// # Ok::<(), mtl_hw::HwError>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`HwError::MissingRecord`] when the trace lacks a layer of this image and task.
    pub fn of_trace(trace: &RoutingTrace, image: u64, task: u32) -> Result<Self> {
        let mut layers = BTreeMap::new();
        for layer in &trace.header().layers {
            let active = active(trace.record(&layer.id, image, task)?, layer.experts)?;
            layers.insert(layer.id.clone(), active);
        }
        Ok(Self::Layers(layers))
    }

    /// Experts of a layer with E experts of which a token takes K.
    fn of(&self, node: &Node, experts: u64, top_k: u64) -> Result<u64> {
        match self {
            Self::All => Ok(experts),
            Self::TopK => Ok(top_k),
            Self::Layers(layers) => match layers.get(&node.layer_id()) {
                Some(&n) if n > experts => {
                    let field = format!("active_experts.{}", node.layer_id());
                    Err(HwError::config(field, format!("at most the layer's {experts}"), n))
                }
                Some(&n) => Ok(n),
                None => Ok(experts),
            },
        }
    }
}

fn active(record: &TraceRecord, experts: u64) -> Result<u64> {
    use crate::routing::LayerRouting;
    Ok(match record.routing() {
        LayerRouting::Tokens(tokens) => RoutingStats::of_tokens(&record.layer, tokens, experts)?.active,
        LayerRouting::Queues(queues) => queues.iter().filter(|&&n| n > 0).count() as u64,
        LayerRouting::Uniform => experts,
    })
}

/// What is counted: how many images, which task, which experts, how wide an activation is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct CountContext {
    /// Images, or sequences, of one pass. Parameters and results that all images share do not grow with it.
    pub batch: u64,
    /// The task that runs; absent when all run. Stored parameters are those of all tasks either way.
    pub task: Option<u32>,
    /// Experts that are reached, for active parameters.
    pub active_experts: ActiveExperts,
    /// Width of an activation in bits, for bytes.
    pub activation_bits: u32,
    /// Leading components of a node's name that name its module: 2 gives `blk.3`.
    pub module_depth: usize,
}

impl Default for CountContext {
    fn default() -> Self {
        Self {
            batch: 1,
            task: None,
            active_experts: ActiveExperts::All,
            activation_bits: 32,
            module_depth: 2,
        }
    }
}

impl CountContext {
    /// Sets the images of one pass.
    #[must_use]
    pub fn batch(mut self, batch: u64) -> Self {
        self.batch = batch;
        self
    }

    /// Sets the task that runs.
    #[must_use]
    pub fn task(mut self, task: u32) -> Self {
        self.task = Some(task);
        self
    }

    /// Sets the experts that are reached.
    #[must_use]
    pub fn active_experts(mut self, experts: ActiveExperts) -> Self {
        self.active_experts = experts;
        self
    }

    fn validate(&self) -> Result<()> {
        positive("batch", self.batch)?;
        positive("module_depth", self.module_depth as u64)?;
        if !(1..=64).contains(&self.activation_bits) {
            return Err(HwError::config("activation_bits", "from 1 to 64", self.activation_bits));
        }
        Ok(())
    }

    /// The nodes that run.
    fn path<'g>(&self, graph: &'g ModelGraph) -> std::borrow::Cow<'g, ModelGraph> {
        match self.task {
            Some(task) => std::borrow::Cow::Owned(graph.for_task(task)),
            None => std::borrow::Cow::Borrowed(graph),
        }
    }
}

/// Operations, parameters and activations of a graph.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Profile {
    /// Operations.
    pub ops: Count,
    /// Parameters.
    pub params: ParamCount,
    /// Activations.
    pub activations: ActivationCount,
}

impl ModelGraph {
    /// Counts operations, parameters and activations.
    ///
    /// ```
    /// use mtl_hw::graph::{Convention, CountContext, VitSpec};
    /// let graph = VitSpec::tiny().graph()?;
    /// let two = graph.profile(Convention::Torch, &CountContext::default().batch(2))?;
    /// assert_eq!(two.ops.total, 2 * 2_507_366_400);
    /// assert_eq!(two.params.stored, 5_717_416);
    /// # Ok::<(), mtl_hw::HwError>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`HwError::Config`] for a batch of zero or more active experts than a layer has; [`HwError::Overflow`] when a
    /// count does not fit in 64 bits.
    pub fn profile(&self, convention: Convention, context: &CountContext) -> Result<Profile> {
        Ok(Profile {
            ops: self.count_with(convention, context)?,
            params: self.param_count(context)?,
            activations: self.activation_count(context)?,
        })
    }
}
