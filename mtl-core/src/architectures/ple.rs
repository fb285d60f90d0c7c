//! PLE: Tang et al., *Progressive Layered Extraction (PLE): A Novel Multi-Task Learning (MTL) Model for Personalized
//! Recommendations*, RecSys 2020.
use super::{Architecture, Backbone, Sharing, cgc::ExpertCounts, channels, mixing};
use crate::{
    Context, Cost, ParamSource, Result, Seed, StateDict,
    nn::{Init, linear},
    registry,
};
use serde::{Deserialize, Serialize};
use tch::Tensor;

pub(super) const ENTRY: registry::Entry<dyn Architecture> = registry::Entry {
    info: registry::MethodInfo {
        name: "ple",
        paper: "Progressive Layered Extraction (PLE): A Novel Multi-Task Learning (MTL) Model for Personalized Recommendations",
        source: "RecSys 2020, doi 10.1145/3383313.3412236",
    },
    build: |config| Ok(Box::new(registry::parse::<PleConfig>(config)?.build()?)),
};

/// Which function [`Ple`] is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum PleVariant {
    /// A stream of shared features runs beside those of the tasks; a shared gate makes it of all experts.
    #[default]
    Paper,
    /// As in LibMTL: no shared stream, the shared experts are applied to the features of each task.
    Libmtl,
}

/// Hyper-parameters of [`Ple`]; the paper tunes the numbers of experts, the default is one of each kind.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct PleConfig {
    /// Experts of all tasks in each layer. At least 1.
    pub shared_experts: usize,
    /// Experts of each task in each layer, at least 1; a single number holds for every task.
    pub task_experts: Vec<usize>,
    /// Which function.
    pub variant: PleVariant,
}

impl Default for PleConfig {
    fn default() -> Self {
        Self { shared_experts: 1, task_experts: vec![1], variant: PleVariant::Paper }
    }
}

impl PleConfig {
    /// Sets [`PleConfig::shared_experts`].
    #[must_use]
    pub fn shared_experts(mut self, shared_experts: usize) -> Self {
        self.shared_experts = shared_experts;
        self
    }

    /// Sets [`PleConfig::task_experts`].
    #[must_use]
    pub fn task_experts(mut self, task_experts: &[usize]) -> Self {
        self.task_experts = task_experts.to_vec();
        self
    }

    /// Sets [`PleConfig::variant`].
    #[must_use]
    pub fn variant(mut self, variant: PleVariant) -> Self {
        self.variant = variant;
        self
    }

    /// Checks the values and builds the architecture.
    ///
    /// # Errors
    ///
    /// [`Error::Config`](crate::Error::Config) without experts of a kind.
    pub fn build(self) -> Result<Ple> {
        let experts = ExpertCounts::new(self.shared_experts, self.task_experts)?;
        Ok(Ple { experts, variant: self.variant })
    }
}

/// Layers of shared experts and experts of each task: stage `s` of the encoder is the expert of layer `s`.
///
/// The experts are `shared.layer{l}.experts.{e}` and `tasks.{task}.layer{l}.experts.{e}`. The gate of a task,
/// `tasks.{task}.layer{l}.gate`, sees the task's features and mixes the shared experts, applied to the shared features,
/// and the task's own, applied to the task's. The shared gate, `shared.layer{l}.gate`, mixes the shared experts and then
/// those of every task to the shared features of the next layer; the last layer has none. Gates of the first layer see
/// the flattened input; later ones see vectors as they are, maps and tokens averaged over positions. They are traced as
/// `gates.{task}.layer{l}` and `gates.shared.layer{l}`.
///
/// # Shared parameters
///
/// In the paper's function a task's expert below the last layer reaches the other tasks through the shared gate, and so
/// does a gate that features of such an expert pass through. [`is_shared`](crate::MultiTaskModel::is_shared) counts them
/// as shared. In LibMTL's, the shared experts alone are.
///
/// ```
/// use mtl_core::{Seed, TaskSpec, architectures::{Architecture, PleConfig}, models::Mlp};
/// use std::sync::Arc;
///
/// let tasks = vec![TaskSpec::classification("digit", 10), TaskSpec::classification("parity", 2)];
/// let model = PleConfig::default().build()?.model(Arc::new(Mlp::new(&[4, 8, 6])?), tasks)?;
/// let params = model.init(Seed(0))?;
/// assert_eq!(params.get("shared.layer0.gate.weight").unwrap().size(), [1 + 1 + 1, 4]);
/// assert!(params.get("shared.layer1.gate.weight").is_none());
/// # Ok::<(), mtl_core::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct Ple {
    experts: ExpertCounts,
    variant: PleVariant,
}

/// The experts of one owner in one layer.
fn layer_name(owner: &str, layer: usize) -> String {
    format!("{owner}.layer{layer}")
}

impl Ple {
    /// What `count` experts of `owner` make of `x` in `layer`.
    #[allow(clippy::too_many_arguments)] // The backbone and its circumstances, the experts, their input.
    fn layer(
        backbone: &Backbone,
        params: &dyn ParamSource,
        owner: &str,
        count: usize,
        layer: usize,
        x: &Tensor,
        ctx: &Context,
    ) -> Result<Vec<Tensor>> {
        let prefix = layer_name(owner, layer);
        let run =
            |e| backbone.encoder().forward_stage(params, &format!("{prefix}.experts.{e}"), layer, x, ctx);
        (0..count).map(run).collect()
    }

    /// The mixture of `experts` by the gate of `owner`, which sees `x`.
    fn gate(
        params: &dyn ParamSource,
        owner: (&str, &str),
        layer: usize,
        x: &Tensor,
        experts: &[Tensor],
        ctx: &Context,
    ) -> Result<Tensor> {
        let seen = if layer == 0 { x.flatten(1, -1) } else { mixing::gate_input(x) };
        let name = format!("{}.gate", layer_name(owner.0, layer));
        let gate = mixing::softmax_gate(params, &name, &seen)?;
        ctx.trace(|| format!("gates.{}.layer{layer}", owner.1), || gate.shallow_clone());
        mixing::mix_experts(&gate, experts)
    }

    /// Width of what the gates of `layer` see.
    fn gate_inputs(backbone: &Backbone, layer: usize) -> i64 {
        match layer.checked_sub(1) {
            Some(before) => channels(&backbone.encoder().shape(before)),
            None => backbone.inputs(),
        }
    }

    /// Whether `layer` has a shared gate.
    fn has_shared_gate(&self, backbone: &Backbone, layer: usize) -> bool {
        self.variant == PleVariant::Paper && layer + 1 < backbone.stages()
    }

    /// Experts of all owners together.
    fn all(&self, backbone: &Backbone) -> usize {
        (0..backbone.tasks().len()).fold(self.experts.shared(), |sum, task| sum + self.experts.own(task))
    }
}

impl Sharing for Ple {
    fn check(&self, backbone: &Backbone) -> Result<()> {
        self.experts.check(backbone)
    }

    fn init(&self, backbone: &Backbone, seed: Seed, into: &mut StateDict) -> Result<()> {
        let init_layer = |owner: &str, count: usize, layer: usize, gate: usize, into: &mut StateDict| {
            let prefix = layer_name(owner, layer);
            for e in 0..count {
                backbone.encoder().init_stage(layer, &format!("{prefix}.experts.{e}"), seed, into)?;
            }
            if gate == 0 {
                return Ok(());
            }
            let (name, inputs) = (format!("{prefix}.gate"), Self::gate_inputs(backbone, layer));
            linear::init(&name, inputs, gate as i64, true, Init::default(), seed, into)
        };
        for layer in 0..backbone.stages() {
            let gate = if self.has_shared_gate(backbone, layer) { self.all(backbone) } else { 0 };
            init_layer("shared", self.experts.shared(), layer, gate, into)?;
            for task in 0..backbone.tasks().len() {
                let (own, seen) = (self.experts.own(task), self.experts.seen(task));
                init_layer(&backbone.own(task), own, layer, seen, into)?;
            }
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
        let all: Vec<usize> = (0..backbone.tasks().len()).collect();
        let mut shared = x.shallow_clone();
        let mut streams: Vec<Tensor> = all.iter().map(|_| x.shallow_clone()).collect();
        for layer in 0..backbone.stages() {
            // Streams of other tasks matter only where a later shared gate sees them.
            let needed = if self.has_shared_gate(backbone, layer) { all.as_slice() } else { wanted };
            let common = match self.variant {
                PleVariant::Paper => {
                    let count = self.experts.shared();
                    Self::layer(backbone, params, "shared", count, layer, &shared, ctx)?
                }
                PleVariant::Libmtl => Vec::new(),
            };
            let mut experts: Vec<Tensor> = common.iter().map(Tensor::shallow_clone).collect();
            let mut next: Vec<Tensor> = streams.iter().map(Tensor::shallow_clone).collect();
            for &task in needed {
                let (Some(z), Some(slot)) = (streams.get(task), next.get_mut(task)) else { continue };
                let owner = backbone.own(task);
                let mut seen: Vec<Tensor> = common.iter().map(Tensor::shallow_clone).collect();
                if self.variant == PleVariant::Libmtl {
                    let count = self.experts.shared();
                    seen = Self::layer(backbone, params, "shared", count, layer, z, ctx)?;
                }
                let own = Self::layer(backbone, params, &owner, self.experts.own(task), layer, z, ctx)?;
                experts.extend(own.iter().map(Tensor::shallow_clone));
                seen.extend(own);
                if !wanted.contains(&task) && !self.has_shared_gate(backbone, layer + 1) {
                    continue; // Nothing sees these features.
                }
                *slot = Self::gate(params, (&owner, backbone.task_name(task)), layer, z, &seen, ctx)?;
            }
            if self.has_shared_gate(backbone, layer) {
                shared = Self::gate(params, ("shared", "shared"), layer, &shared, &experts, ctx)?;
            }
            streams = next;
        }
        Ok(super::pick(&streams, wanted))
    }

    fn is_shared(&self, backbone: &Backbone, name: &str) -> bool {
        if name.starts_with("shared.") {
            return true;
        }
        // An expert of a layer with a shared gate reaches all tasks; so does a gate whose features such an expert sees.
        let reaches = |layer: usize| {
            let under = |task: usize, part: &str| {
                name.starts_with(&format!("{}.{part}", layer_name(&backbone.own(task), layer)))
            };
            let tasks = 0..backbone.tasks().len();
            let expert = self.has_shared_gate(backbone, layer);
            let gate = self.has_shared_gate(backbone, layer + 1);
            tasks.into_iter().any(|t| (expert && under(t, "experts.")) || (gate && under(t, "gate.")))
        };
        (0..backbone.stages()).any(reaches)
    }

    fn cost(&self, backbone: &Backbone, task: usize) -> Cost {
        let (all, own) = (self.all(backbone), self.experts.seen(task));
        let layer = |layer: usize| {
            let inputs = Self::gate_inputs(backbone, layer) as u64;
            let numbers = super::numbers(&backbone.encoder().shape(layer)) as u64;
            let gate = |n: usize| {
                let n = n as u64;
                super::pointwise_cost(inputs * n, n, 1) + Cost { macs: numbers * n, params: 0 }
            };
            let expert = backbone.encoder().stage_cost(layer);
            if !self.has_shared_gate(backbone, layer) {
                return super::times(expert, own as u64) + gate(own);
            }
            let others = self.has_shared_gate(backbone, layer + 1);
            let tasks = (0..backbone.tasks().len()).filter(|&t| others || t == task);
            let gates = tasks.map(|t| gate(self.experts.seen(t)));
            gates.fold(super::times(expert, all as u64) + gate(all), |sum, cost| sum + cost)
        };
        (0..backbone.stages()).map(layer).fold(Cost::default(), |sum, cost| sum + cost)
    }
}
