//! CGC, one layer of progressive layered extraction: Tang et al., *Progressive Layered Extraction (PLE): A Novel
//! Multi-Task Learning (MTL) Model for Personalized Recommendations*, RecSys 2020.
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
        name: "cgc",
        paper: "Progressive Layered Extraction (PLE): A Novel Multi-Task Learning (MTL) Model for Personalized Recommendations",
        source: "RecSys 2020, doi 10.1145/3383313.3412236",
    },
    build: |config| Ok(Box::new(registry::parse::<CgcConfig>(config)?.build()?)),
};

/// Hyper-parameters of [`Cgc`]; the paper tunes the numbers of experts, the default is one of each kind.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct CgcConfig {
    /// Experts of all tasks. At least 1.
    pub shared_experts: usize,
    /// Experts of each task, at least 1; a single number holds for every task.
    pub task_experts: Vec<usize>,
}

impl Default for CgcConfig {
    fn default() -> Self {
        Self { shared_experts: 1, task_experts: vec![1] }
    }
}

impl CgcConfig {
    /// Sets [`CgcConfig::shared_experts`].
    #[must_use]
    pub fn shared_experts(mut self, shared_experts: usize) -> Self {
        self.shared_experts = shared_experts;
        self
    }

    /// Sets [`CgcConfig::task_experts`].
    #[must_use]
    pub fn task_experts(mut self, task_experts: &[usize]) -> Self {
        self.task_experts = task_experts.to_vec();
        self
    }

    /// Checks the values and builds the architecture.
    ///
    /// # Errors
    ///
    /// [`Error::Config`] without experts of a kind.
    pub fn build(self) -> Result<Cgc> {
        Ok(Cgc { experts: ExpertCounts::new(self.shared_experts, self.task_experts)? })
    }
}

/// How many experts all tasks and each task have.
#[derive(Debug, Clone)]
pub(super) struct ExpertCounts {
    shared: usize,
    own: Vec<usize>,
}

impl ExpertCounts {
    pub(super) fn new(shared: usize, own: Vec<usize>) -> Result<Self> {
        if shared == 0 {
            return Err(Error::config("shared_experts", "at least 1", 0));
        }
        if own.is_empty() || own.contains(&0) {
            let must = "one number of at least 1 for every task, or one for all";
            return Err(Error::config("task_experts", must, format!("{own:?}")));
        }
        Ok(Self { shared, own })
    }

    pub(super) fn check(&self, backbone: &Backbone) -> Result<()> {
        let (tasks, given) = (backbone.tasks().len(), self.own.len());
        if given == 1 || given == tasks {
            return Ok(());
        }
        let must = format!("one number for each of the {tasks} tasks, or one for all");
        Err(Error::config("task_experts", must, format!("{:?}", self.own)))
    }

    pub(super) fn shared(&self) -> usize {
        self.shared
    }

    pub(super) fn own(&self, task: usize) -> usize {
        let single = if self.own.len() == 1 { self.own.first() } else { None };
        self.own.get(task).or(single).copied().unwrap_or(0)
    }

    /// Experts that the gate of `task` chooses from: the shared ones first, then its own.
    pub(super) fn seen(&self, task: usize) -> usize {
        self.shared + self.own(task)
    }
}

/// Shared experts, `shared.experts.{e}`, and experts of each task, `tasks.{task}.experts.{e}`; the gate of a task,
/// `tasks.{task}.gate`, mixes the shared ones and its own.
///
/// Each expert is a whole encoder; a gate is the softmax of a linear map of the flattened input, over the shared experts
/// first and then the task's. The gates are traced as `gates.{task}`.
///
/// ```
/// use mtl_core::{Seed, TaskSpec, architectures::{Architecture, CgcConfig}, models::Mlp};
/// use std::sync::Arc;
///
/// let tasks = vec![TaskSpec::classification("digit", 10), TaskSpec::classification("parity", 2)];
/// let cgc = CgcConfig::default().shared_experts(2).task_experts(&[1, 3]).build()?;
/// let model = cgc.model(Arc::new(Mlp::new(&[4, 8])?), tasks)?;
/// let params = model.init(Seed(0))?;
/// assert_eq!(params.get("tasks.parity.gate.weight").unwrap().size(), [2 + 3, 4]);
/// # Ok::<(), mtl_core::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct Cgc {
    experts: ExpertCounts,
}

impl Sharing for Cgc {
    fn check(&self, backbone: &Backbone) -> Result<()> {
        self.experts.check(backbone)
    }

    fn init(&self, backbone: &Backbone, seed: Seed, into: &mut StateDict) -> Result<()> {
        super::init_experts(backbone, "shared.", self.experts.shared(), seed, into)?;
        for task in 0..backbone.tasks().len() {
            let (own, seen) = (backbone.own(task), self.experts.seen(task) as i64);
            super::init_experts(backbone, &format!("{own}."), self.experts.own(task), seed, into)?;
            let gate = format!("{own}.gate");
            linear::init(&gate, backbone.inputs(), seen, true, Init::default(), seed, into)?;
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
        let shared = super::run_experts(backbone, params, "shared.", self.experts.shared(), x, ctx)?;
        let flat = x.flatten(1, -1);
        let mix = |&task: &usize| {
            let own = backbone.own(task);
            let mut experts: Vec<Tensor> = shared.iter().map(Tensor::shallow_clone).collect();
            let count = self.experts.own(task);
            experts.extend(super::run_experts(backbone, params, &format!("{own}."), count, x, ctx)?);
            let gate = mixing::softmax_gate(params, &format!("{own}.gate"), &flat)?;
            ctx.trace(|| format!("gates.{}", backbone.task_name(task)), || gate.shallow_clone());
            mixing::mix_experts(&gate, &experts)
        };
        wanted.iter().map(mix).collect()
    }

    fn cost(&self, backbone: &Backbone, task: usize) -> Cost {
        super::mixture_cost(backbone, self.experts.seen(task))
    }
}
