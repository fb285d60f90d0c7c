//! MMoE: Ma et al., *Modeling Task Relationships in Multi-task Learning with Multi-gate Mixture-of-Experts*, KDD 2018.
use super::{Architecture, Backbone, Sharing, mixing};
use crate::{
    Context, Cost, Error, ParamSource, Result, Seed, StateDict,
    nn::{Init, linear},
    registry,
};
use serde::{Deserialize, Serialize};
use tch::Tensor;

pub(super) const ENTRY: registry::Entry<dyn Architecture> = registry::Entry {
    info: registry::MethodInfo {
        name: "mmoe",
        paper: "Modeling Task Relationships in Multi-task Learning with Multi-gate Mixture-of-Experts",
        source: "KDD 2018, doi 10.1145/3219819.3220007",
    },
    build: |config| Ok(Box::new(registry::parse::<MmoeConfig>(config)?.build()?)),
};

/// Hyper-parameters of [`Mmoe`]; the default is that of the paper's synthetic experiment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct MmoeConfig {
    /// Experts, all of them shared. At least 1.
    pub n_experts: usize,
}

impl Default for MmoeConfig {
    fn default() -> Self {
        Self { n_experts: 8 }
    }
}

impl MmoeConfig {
    /// Sets [`MmoeConfig::n_experts`].
    #[must_use]
    pub fn n_experts(mut self, n_experts: usize) -> Self {
        self.n_experts = n_experts;
        self
    }

    /// Checks the values and builds the architecture.
    ///
    /// # Errors
    ///
    /// [`Error::Config`] without experts.
    pub fn build(self) -> Result<Mmoe> {
        if self.n_experts == 0 {
            return Err(Error::config("n_experts", "at least 1", 0));
        }
        Ok(Mmoe { config: self })
    }
}

/// Shared experts, `experts.{e}.stage{s}`, mixed for each task by a gate of its own, `gates.{task}`.
///
/// Each expert is a whole encoder. A gate is the softmax of a linear map of the flattened input (Eq. 8); the gates are
/// traced as `gates.{task}`, `[batch, experts]`.
///
/// ```
/// use mtl_core::{Context, Seed, TaskSpec, architectures::{Architecture, MmoeConfig}, models::Mlp};
/// use std::sync::Arc;
/// use tch::{Device, Kind, Tensor};
///
/// let tasks = vec![TaskSpec::classification("digit", 10), TaskSpec::classification("parity", 2)];
/// let mmoe = MmoeConfig::default().n_experts(3).build()?;
/// let model = mmoe.model(Arc::new(Mlp::new(&[4, 8])?), tasks)?;
/// let params = model.init(Seed(0))?;
/// let ctx = Context::eval().with_task(1).with_traces();
/// let x = Tensor::ones([5, 4], (Kind::Float, Device::Cpu));
/// assert_eq!(model.forward(&params, &x.into(), &ctx)?.size(), [5, 2]);
/// let (name, gate) = ctx.take_traces().remove(0);
/// assert_eq!((name.as_str(), gate.size()), ("gates.parity", vec![5, 3]));
/// # Ok::<(), mtl_core::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct Mmoe {
    config: MmoeConfig,
}

fn gate_name(backbone: &Backbone, task: usize) -> String {
    format!("gates.{}", backbone.task_name(task))
}

impl Sharing for Mmoe {
    fn init(&self, backbone: &Backbone, seed: Seed, into: &mut StateDict) -> Result<()> {
        let experts = self.config.n_experts;
        super::init_experts(backbone, "", experts, seed, into)?;
        for task in 0..backbone.tasks().len() {
            let name = gate_name(backbone, task);
            linear::init(&name, backbone.inputs(), experts as i64, true, Init::default(), seed, into)?;
        }
        Ok(())
    }

    fn features(
        &self,
        backbone: &Backbone,
        params: &dyn ParamSource,
        x: &Tensor,
        wanted: &[usize],
        ctx: &Context,
    ) -> Result<Vec<Tensor>> {
        let experts = super::run_experts(backbone, params, "", self.config.n_experts, x, ctx)?;
        let flat = x.flatten(1, -1);
        let mix = |&task: &usize| {
            let name = gate_name(backbone, task);
            let gate = mixing::softmax_gate(params, &name, &flat)?;
            ctx.trace(|| name.clone(), || gate.shallow_clone());
            mixing::mix_experts(&gate, &experts)
        };
        wanted.iter().map(mix).collect()
    }

    fn is_shared(&self, _backbone: &Backbone, name: &str) -> bool {
        !name.starts_with("gates.")
    }

    fn cost(&self, backbone: &Backbone, _task: usize) -> Cost {
        super::mixture_cost(backbone, self.config.n_experts)
    }
}
