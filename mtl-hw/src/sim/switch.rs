//! What it costs to run another task on the next image.
use crate::Result;
use crate::cost::Accelerator;
use crate::graph::{ModelGraph, Op};
use crate::math::{product, sum};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// Weights to be replaced at a change of task.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct SwitchCost {
    /// Bytes from off-chip memory.
    pub bytes: u64,
    /// Cycles of their load.
    pub cycles: u64,
}

impl SwitchCost {
    fn of(accelerator: &Accelerator, params: u64) -> Result<Self> {
        let bytes = accelerator.weight_bytes(params)?;
        Ok(Self { bytes, cycles: accelerator.load_cycles(bytes)? })
    }

    /// Experts stream in anyway: only the gate matrices of the new task and its own layers (heads) are others.
    ///
    /// A design that reads its gates with every image, as published ones do, has these bytes in its latency already.
    ///
    /// ```
    /// use mtl_hw::{presets, sim::SwitchCost};
    /// let cost = SwitchCost::gates(&presets::m3vit_small(512, 512)?, &presets::zcu104_m3vit()?, 1)?;
    /// assert_eq!(cost.bytes, 6 * 16 * 384 * 2); // six gates of 16 × 384 in 16 bits
    /// # Ok::<(), mtl_hw::HwError>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`HwError::Config`](crate::HwError::Config) for a bad graph or accelerator,
    /// [`HwError::Overflow`](crate::HwError::Overflow) beyond 64 bits.
    pub fn gates(graph: &ModelGraph, accelerator: &Accelerator, task: u32) -> Result<Self> {
        check(graph, accelerator)?;
        let reached = graph.nodes.iter().filter(|n| n.task.is_none_or(|t| t == task));
        let own = reached.filter_map(|n| match n.op {
            // A single gate is shared by all tasks and stays.
            Op::Gate { gates: 1, .. } if n.task.is_none() => None,
            Op::Gate { .. } => Some(n.op.active_params(0)),
            _ if n.task.is_some() => Some(n.op.params()),
            _ => None,
        });
        let params = own.collect::<Result<Vec<_>>>()?;
        Self::of(accelerator, sum("params", params)?)
    }

    /// Each task's experts are resident: those of the new task that are not there yet, Σ |new ∖ old| over layers.
    ///
    /// The keys are identifiers of MoE layers; a layer that one of the maps lacks has no resident expert there.
    ///
    /// # Errors
    ///
    /// As [`SwitchCost::gates`], and [`HwError::Config`](crate::HwError::Config) for a layer or expert that the graph
    /// lacks.
    pub fn resident_subset(
        graph: &ModelGraph,
        accelerator: &Accelerator,
        old: &BTreeMap<String, BTreeSet<u16>>,
        new: &BTreeMap<String, BTreeSet<u16>>,
    ) -> Result<Self> {
        check(graph, accelerator)?;
        let shapes: BTreeMap<String, _> = graph.moe_layers().collect();
        let mut params = 0;
        for (layer, experts) in new {
            let Some(shape) = shapes.get(layer) else {
                return Err(crate::HwError::config(
                    "layer",
                    "a MoE layer of the graph",
                    format!("`{layer}`"),
                ));
            };
            if let Some(e) = experts.iter().find(|&&e| u64::from(e) >= shape.experts) {
                return Err(crate::HwError::config("expert", format!("below {}", shape.experts), e));
            }
            let missing = experts.iter().filter(|e| old.get(layer).is_none_or(|o| !o.contains(e))).count();
            let each = product("params", &[missing as u64, shape.expert_params()?])?;
            params = sum("params", [params, each])?;
        }
        Self::of(accelerator, params)
    }

    /// A network per task: all parameters.
    ///
    /// # Errors
    ///
    /// As [`SwitchCost::gates`].
    pub fn whole_model(graph: &ModelGraph, accelerator: &Accelerator) -> Result<Self> {
        check(graph, accelerator)?;
        Self::of(accelerator, graph.params()?)
    }
}

fn check(graph: &ModelGraph, accelerator: &Accelerator) -> Result<()> {
    graph.validate()?;
    accelerator.validate()
}
