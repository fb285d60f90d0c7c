//! NDDR-CNN: Gao et al., *NDDR-CNN: Layerwise Feature Fusing in Multi-Task CNNs by Neural Discriminative Dimensionality
//! Reduction*, CVPR 2019, arXiv 1801.08297.
use super::{Architecture, Backbone, Norm, Sharing, channels, mixing};
use crate::{Context, Cost, Error, ParamSource, Result, Seed, StateDict, registry};
use serde::{Deserialize, Serialize};
use tch::{Device, Kind, Tensor};

pub(super) const ENTRY: registry::Entry<dyn Architecture> = registry::Entry {
    info: registry::MethodInfo {
        name: "nddr",
        paper: "NDDR-CNN: Layerwise Feature Fusing in Multi-Task CNNs by Neural Discriminative Dimensionality Reduction",
        source: "arXiv 1801.08297",
    },
    build: |config| Ok(Box::new(registry::parse::<NddrConfig>(config)?.build()?)),
};

/// Hyper-parameters of [`Nddr`]; the default is the paper's, except for the norm.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct NddrConfig {
    /// First weight of a channel of the task itself (the paper's α).
    pub same: f64,
    /// First weight of the same channel of each other task (the paper's β).
    pub different: f64,
    /// Norm after the fusion.
    pub norm: Norm,
    /// ReLU after the norm.
    pub relu: bool,
}

impl Default for NddrConfig {
    fn default() -> Self {
        Self { same: 0.9, different: 0.1, norm: Norm::Group, relu: true }
    }
}

impl NddrConfig {
    /// Sets [`NddrConfig::same`].
    #[must_use]
    pub fn same(mut self, same: f64) -> Self {
        self.same = same;
        self
    }

    /// Sets [`NddrConfig::different`].
    #[must_use]
    pub fn different(mut self, different: f64) -> Self {
        self.different = different;
        self
    }

    /// Sets [`NddrConfig::norm`].
    #[must_use]
    pub fn norm(mut self, norm: Norm) -> Self {
        self.norm = norm;
        self
    }

    /// Sets [`NddrConfig::relu`].
    #[must_use]
    pub fn relu(mut self, relu: bool) -> Self {
        self.relu = relu;
        self
    }

    /// Checks the values and builds the architecture.
    ///
    /// # Errors
    ///
    /// [`Error::Config`] when a weight is not finite.
    pub fn build(self) -> Result<Nddr> {
        for (field, value) in [("same", self.same), ("different", self.different)] {
            if !value.is_finite() {
                return Err(Error::config(field, "finite", value));
            }
        }
        Ok(Nddr { config: self })
    }
}

/// An encoder for each task, `tasks.{task}.stage{s}`, whose features are fused by a 1 × 1 convolution after each stage.
///
/// The convolution of task k after stage `s`, `nddr.{task}.stage{s}.weight` `[channels, tasks · channels]`, sees the
/// channels of all tasks and gives back as many as one task has; a norm and a ReLU follow.
///
/// # Departures
///
/// The paper normalises over the batch. Here the default is [`Norm::Group`], which needs no running statistics; with
/// [`Norm::Batch`] the statistics are always those of the batch at hand.
///
/// ```
/// use mtl_core::{Context, Seed, TaskSpec, architectures::{Architecture, NddrConfig}, models::Mlp};
/// use std::sync::Arc;
/// use tch::{Device, Kind, Tensor};
///
/// let tasks = vec![TaskSpec::classification("digit", 10), TaskSpec::classification("parity", 2)];
/// let model = NddrConfig::default().build()?.model(Arc::new(Mlp::new(&[4, 8])?), tasks)?;
/// let params = model.init(Seed(0))?;
/// assert_eq!(params.get("nddr.parity.stage0.weight").unwrap().size(), [8, 16]);
/// let x = Tensor::ones([3, 4], (Kind::Float, Device::Cpu));
/// assert_eq!(model.forward(&params, &x.into(), &Context::eval().with_task(1))?.size(), [3, 2]);
/// # Ok::<(), mtl_core::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct Nddr {
    config: NddrConfig,
}

/// The channels of all `features` fused by the 1 × 1 convolution `name` of `params`, before norm and activation.
///
/// # Errors
///
/// [`Error::Config`] without features, [`Error::Shape`] when their shapes differ (`place` says where) or the weight does
/// not fit, [`Error::Unknown`] without a weight.
pub fn nddr_fuse(params: &dyn ParamSource, name: &str, features: &[Tensor], place: &str) -> Result<Tensor> {
    mixing::same_shape(features, "task", place)?;
    let axis = features.first().map_or(1, mixing::channel_axis);
    mixing::pointwise(params, name, &Tensor::cat(features, axis))
}

impl Nddr {
    fn layer(backbone: &Backbone, task: usize, stage: usize) -> String {
        format!("nddr.{}.stage{stage}", backbone.task_name(task))
    }
}

impl Sharing for Nddr {
    fn init(&self, backbone: &Backbone, seed: Seed, into: &mut StateDict) -> Result<()> {
        let tasks = backbone.tasks().len();
        let NddrConfig { same, different, norm, .. } = self.config;
        for task in 0..tasks {
            backbone.init(&backbone.own(task), seed, into)?;
            for stage in 0..backbone.stages() {
                let (name, width) =
                    (Self::layer(backbone, task, stage), channels(&backbone.encoder().shape(stage)));
                let eye = Tensor::eye(width, (Kind::Float, Device::Cpu));
                let blocks: Vec<Tensor> =
                    (0..tasks).map(|other| &eye * if other == task { same } else { different }).collect();
                into.insert(format!("{name}.weight"), Tensor::cat(&blocks, 1));
                norm.init(&format!("{name}.norm"), width, into)?;
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
        let tasks = 0..backbone.tasks().len();
        let mut streams: Vec<Tensor> = tasks.clone().map(|_| x.shallow_clone()).collect();
        for stage in 0..backbone.stages() {
            let step = |(task, x)| backbone.forward_stage(params, &backbone.own(task), stage, x, ctx);
            let features: Vec<Tensor> = tasks.clone().zip(&streams).map(step).collect::<Result<_>>()?;
            let fuse = |task| {
                let name = Self::layer(backbone, task, stage);
                let fused = nddr_fuse(params, &name, &features, &format!("after stage {stage}"))?;
                let normed = self.config.norm.apply(params, &format!("{name}.norm"), &fused)?;
                Ok(if self.config.relu { normed.relu() } else { normed })
            };
            if stage + 1 == backbone.stages() {
                return wanted.iter().copied().map(fuse).collect();
            }
            streams = tasks.clone().map(fuse).collect::<Result<_>>()?;
        }
        Ok(super::pick(&streams, wanted))
    }

    /// All are, but for the last fusion of each task.
    fn is_shared(&self, backbone: &Backbone, name: &str) -> bool {
        let last = backbone.stages().saturating_sub(1);
        !(0..backbone.tasks().len())
            .any(|task| name.starts_with(&format!("{}.", Self::layer(backbone, task, last))))
    }

    fn cost(&self, backbone: &Backbone, _task: usize) -> Cost {
        let tasks = backbone.tasks().len() as u64;
        let last = backbone.stages().saturating_sub(1);
        let fusion = |stage: usize| {
            let shape = backbone.encoder().shape(stage);
            let (width, positions) = (channels(&shape) as u64, super::positions(&shape));
            let layers = if stage == last { 1 } else { tasks };
            let weights = tasks * width * width;
            super::times(super::pointwise_cost(weights, self.config.norm.params(width), positions), layers)
        };
        (0..backbone.stages()).map(fusion).fold(super::times(backbone.cost(), tasks), |sum, cost| sum + cost)
    }
}
