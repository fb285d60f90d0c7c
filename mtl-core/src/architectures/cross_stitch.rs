//! Cross-stitch networks: Misra et al., *Cross-stitch Networks for Multi-task Learning*, CVPR 2016, arXiv 1604.03539.
use super::{Architecture, Backbone, Sharing, mixing};
use crate::{Context, Cost, Error, ParamSource, Result, Seed, StateDict, registry};
use serde::{Deserialize, Serialize};
use tch::Tensor;

pub(super) const ENTRY: registry::Entry<dyn Architecture> = registry::Entry {
    info: registry::MethodInfo {
        name: "cross-stitch",
        paper: "Cross-stitch Networks for Multi-task Learning",
        source: "arXiv 1604.03539",
    },
    build: |config| Ok(Box::new(registry::parse::<CrossStitchConfig>(config)?.build()?)),
};

/// Hyper-parameters of [`CrossStitch`]; the default is the paper's for two tasks.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct CrossStitchConfig {
    /// First weight of a task's own features.
    pub same: f64,
    /// First weight of the features of each other task.
    pub different: f64,
}

impl Default for CrossStitchConfig {
    fn default() -> Self {
        Self { same: 0.9, different: 0.1 }
    }
}

impl CrossStitchConfig {
    /// Sets [`CrossStitchConfig::same`].
    #[must_use]
    pub fn same(mut self, same: f64) -> Self {
        self.same = same;
        self
    }

    /// Sets [`CrossStitchConfig::different`].
    #[must_use]
    pub fn different(mut self, different: f64) -> Self {
        self.different = different;
        self
    }

    /// Checks the values and builds the architecture.
    ///
    /// # Errors
    ///
    /// [`Error::Config`] when a weight is not finite.
    pub fn build(self) -> Result<CrossStitch> {
        for (field, value) in [("same", self.same), ("different", self.different)] {
            if !value.is_finite() {
                return Err(Error::config(field, "finite", value));
            }
        }
        Ok(CrossStitch { config: self })
    }
}

/// An encoder for each task, `tasks.{task}.stage{s}`, whose features are mixed linearly after each stage.
///
/// The unit after stage `s` has one weight for each pair of tasks, `stitch.stage{s}` `[tasks, tasks]`: task k goes on
/// with `Σ_j α_kj · x_j` (Eq. 1). The last unit stands before the heads.
///
/// ```
/// use mtl_core::{Context, Input, MultiTaskModel, Seed, TaskSpec, architectures::{Architecture, CrossStitchConfig}};
/// use mtl_core::models::Mlp;
/// use std::sync::Arc;
/// use tch::{Device, Kind, Tensor};
///
/// let tasks = vec![TaskSpec::classification("digit", 10), TaskSpec::classification("parity", 2)];
/// let model = CrossStitchConfig::default().build()?.model(Arc::new(Mlp::new(&[4, 8])?), tasks)?;
/// let params = model.init(Seed(0))?;
/// assert!((params.get("stitch.stage0").unwrap().double_value(&[1, 1]) - 0.9).abs() < 1e-6);
/// let x: Input = Tensor::ones([3, 4], (Kind::Float, Device::Cpu)).into();
/// assert_eq!(model.forward_all(&params, &x, &Context::eval())?[1].size(), [3, 2]);
/// # Ok::<(), mtl_core::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct CrossStitch {
    config: CrossStitchConfig,
}

fn unit(stage: usize) -> String {
    format!("stitch.stage{stage}")
}

/// The features of every task after a cross-stitch unit: `Σ_j α_kj · x_j` with `alpha` `[tasks, tasks]`.
///
/// # Errors
///
/// [`Error::Config`] without features, [`Error::Shape`] when their shapes differ or `alpha` does not fit; `place`, such
/// as `after stage 2`, says where.
pub fn cross_stitch(alpha: &Tensor, features: &[Tensor], place: &str) -> Result<Vec<Tensor>> {
    mixing::combine(alpha, features, place)
}

impl Sharing for CrossStitch {
    fn init(&self, backbone: &Backbone, seed: Seed, into: &mut StateDict) -> Result<()> {
        let tasks = backbone.tasks().len() as i64;
        for task in 0..backbone.tasks().len() {
            backbone.init(&backbone.own(task), seed, into)?;
        }
        let CrossStitchConfig { same, different } = self.config;
        for stage in 0..backbone.stages() {
            let options = (tch::Kind::Float, tch::Device::Cpu);
            let alpha = Tensor::eye(tasks, options) * (same - different) + different;
            into.insert(unit(stage), alpha);
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
            let alpha = params.param(&unit(stage))?;
            ctx.trace(|| unit(stage), || alpha.shallow_clone());
            streams = cross_stitch(&alpha, &features, &format!("after stage {stage}"))?;
        }
        Ok(super::pick(&streams, wanted))
    }

    fn is_shared(&self, _backbone: &Backbone, _name: &str) -> bool {
        true
    }

    fn cost(&self, backbone: &Backbone, _task: usize) -> Cost {
        let tasks = backbone.tasks().len() as u64;
        let numbers: i64 = (0..backbone.stages()).map(|s| super::numbers(&backbone.encoder().shape(s))).sum();
        let (stages, encoders) = (backbone.stages() as u64, super::times(backbone.cost(), tasks));
        encoders + Cost { macs: tasks * tasks * numbers as u64, params: tasks * tasks * stages }
    }
}
