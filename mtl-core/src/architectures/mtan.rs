//! MTAN: Liu et al., *End-to-End Multi-Task Learning with Attention*, CVPR 2019, arXiv 1803.10704.
use super::{Architecture, Backbone, Norm, Sharing, channels, mixing, network::shared_stage};
use crate::{
    Context, Cost, Error, ParamSource, Result, Seed, StateDict,
    nn::{Conv2d, Init, conv2d, linear},
    registry,
};
use serde::{Deserialize, Serialize};
use tch::Tensor;

pub(super) const ENTRY: registry::Entry<dyn Architecture> = registry::Entry {
    info: registry::MethodInfo {
        name: "mtan",
        paper: "End-to-End Multi-Task Learning with Attention",
        source: "arXiv 1803.10704",
    },
    build: |config| Ok(Box::new(registry::parse::<MtanConfig>(config)?.build()?)),
};

/// Hyper-parameters of [`Mtan`].
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct MtanConfig {
    /// Norm after each map of an attention module.
    pub norm: Norm,
}

impl MtanConfig {
    /// Sets [`MtanConfig::norm`].
    #[must_use]
    pub fn norm(mut self, norm: Norm) -> Self {
        self.norm = norm;
        self
    }

    /// Builds the architecture.
    ///
    /// # Errors
    ///
    /// None; the result is that of every `build`.
    pub fn build(self) -> Result<Mtan> {
        Ok(Mtan { config: self })
    }
}

/// One encoder, `shared.stage{s}`, and for each task a mask of its features after each stage.
///
/// The mask of task k at stage `s`, `tasks.{task}.attention{s}`, is computed from the shared features of the stage and,
/// from the second stage on, from the task's masked features of the stage before, brought to the same shape by a map
/// that all tasks share, `shared.attention{s}` (the paper's f): a 3 × 3 convolution and max-pooling for images, a linear
/// map for vectors and tokens. The heads see the masked features of the last stage.
///
/// # Departures
///
/// The paper cuts each stage in two: the mask is computed from the first half and applied to the second. Stages here are
/// not cut; the mask is computed from the features that it is applied to. The paper normalises over the batch; the default
/// here is [`Norm::Group`].
///
/// ```
/// use mtl_core::{Context, Seed, TaskSpec, architectures::{Architecture, MtanConfig}, models::Mlp};
/// use std::sync::Arc;
/// use tch::{Device, Kind, Tensor};
///
/// let tasks = vec![TaskSpec::classification("digit", 10), TaskSpec::classification("parity", 2)];
/// let model = MtanConfig::default().build()?.model(Arc::new(Mlp::new(&[4, 8, 6])?), tasks)?;
/// let params = model.init(Seed(0))?;
/// assert!(model.is_shared("shared.attention1.weight") && !model.is_shared("tasks.digit.attention1.g1.weight"));
/// let x = Tensor::ones([3, 4], (Kind::Float, Device::Cpu));
/// assert_eq!(model.forward(&params, &x.into(), &Context::eval().with_task(1))?.size(), [3, 2]);
/// # Ok::<(), mtl_core::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct Mtan {
    config: MtanConfig,
}

const SAME: Conv2d = Conv2d { stride: 1, padding: 1, dilation: 1, groups: 1 };

/// The mask of one task: `σ(norm(g2 · relu(norm(g1 · x))))`, of the shape of `x` with the outputs of g2 as channels.
///
/// `g1` and `g2` are 1 × 1 convolutions `{prefix}.g1` and `{prefix}.g2`, the norms `{prefix}.norm1` and
/// `{prefix}.norm2`. `x` is `[batch, …]`: the shared features, with those of the task behind them on the channel axis.
///
/// # Errors
///
/// [`Error::Unknown`] for a missing parameter, [`Error::Shape`] when one does not fit.
pub fn mtan_mask(params: &dyn ParamSource, prefix: &str, x: &Tensor, norm: Norm) -> Result<Tensor> {
    let hidden = mixing::pointwise(params, &format!("{prefix}.g1"), x)?;
    let hidden = norm.apply(params, &format!("{prefix}.norm1"), &hidden)?.relu();
    let mask = mixing::pointwise(params, &format!("{prefix}.g2"), &hidden)?;
    Ok(norm.apply(params, &format!("{prefix}.norm2"), &mask)?.sigmoid())
}

fn attention(backbone: &Backbone, task: usize, stage: usize) -> String {
    format!("{}.attention{stage}", backbone.own(task))
}

fn extractor(stage: usize) -> String {
    format!("shared.attention{stage}")
}

impl Mtan {
    /// The masked features `x` of the stage before, brought to the shape of the features `like`.
    fn adapt(&self, params: &dyn ParamSource, stage: usize, x: &Tensor, like: &Tensor) -> Result<Tensor> {
        let name = extractor(stage);
        let norm = |y: Tensor| -> Result<Tensor> {
            Ok(self.config.norm.apply(params, &format!("{name}.norm"), &y)?.relu())
        };
        let size = like.size();
        match (x.dim(), size.as_slice()) {
            (4, &[_, _, rows, columns]) => {
                let y = norm(conv2d(params, &name, x, SAME)?)?;
                let fits = y.size().ends_with(&[rows, columns]);
                Ok(if fits { y } else { y.adaptive_max_pool2d([rows, columns]).0 })
            }
            (4, [_, _]) | (3, [_, _]) => norm(params.linear(&name, &mixing::gate_input(x))?),
            _ => norm(params.linear(&name, x)?),
        }
    }
}

impl Sharing for Mtan {
    fn check(&self, backbone: &Backbone) -> Result<()> {
        for stage in 1..backbone.stages() {
            let (before, after) = (backbone.encoder().shape(stage - 1), backbone.encoder().shape(stage));
            let fits = match (before.as_slice(), after.as_slice()) {
                ([_, _, _], [_, _, _]) | (_, [_]) => true,
                ([a, _], [b, _]) => a == b,
                _ => false,
            };
            if !fits {
                let must =
                    format!("of the kind of stage {}, whose shape is {before:?}, or a vector", stage - 1);
                return Err(Error::config(format!("shape of stage {stage}"), must, format!("{after:?}")));
            }
        }
        Ok(())
    }

    fn init(&self, backbone: &Backbone, seed: Seed, into: &mut StateDict) -> Result<()> {
        backbone.init("shared", seed, into)?;
        let (encoder, norm) = (backbone.encoder(), self.config.norm);
        for stage in 0..backbone.stages() {
            let width = channels(&encoder.shape(stage));
            if stage > 0 {
                let (before, name) = (encoder.shape(stage - 1), extractor(stage));
                let pair = (channels(&before), width);
                if before.len() == 3 && encoder.shape(stage).len() == 3 {
                    SAME.init(&name, pair, 3, true, Init::default(), seed, into)?;
                } else {
                    linear::init(&name, pair.0, pair.1, true, Init::default(), seed, into)?;
                }
                norm.init(&format!("{name}.norm"), width, into)?;
            }
            let seen = if stage > 0 { 2 * width } else { width };
            for task in 0..backbone.tasks().len() {
                let prefix = attention(backbone, task, stage);
                for (layer, inputs) in [(1, seen), (2, width)] {
                    let name = format!("{prefix}.g{layer}");
                    linear::init(&name, inputs, width, true, Init::default(), seed, into)?;
                    norm.init(&format!("{prefix}.norm{layer}"), width, into)?;
                }
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
        let mut u = x.shallow_clone();
        let mut masked: Vec<Tensor> = Vec::new();
        for stage in 0..backbone.stages() {
            u = shared_stage(backbone, params, stage, &u, ctx)?;
            let mut next = Vec::with_capacity(wanted.len());
            for (i, &task) in wanted.iter().enumerate() {
                let seen = match masked.get(i) {
                    Some(before) => {
                        let adapted = self.adapt(params, stage, before, &u)?;
                        Tensor::cat(&[u.shallow_clone(), adapted], mixing::channel_axis(&u))
                    }
                    None => u.shallow_clone(),
                };
                let mask = mtan_mask(params, &attention(backbone, task, stage), &seen, self.config.norm)?;
                ctx.trace(
                    || format!("gates.{}.stage{stage}", backbone.task_name(task)),
                    || mask.shallow_clone(),
                );
                next.push(&mask * &u);
            }
            masked = next;
        }
        Ok(masked)
    }

    fn cost(&self, backbone: &Backbone, _task: usize) -> Cost {
        let encoder = backbone.encoder();
        let module = |stage: usize| {
            let shape = encoder.shape(stage);
            let (width, positions) = (channels(&shape) as u64, super::positions(&shape));
            let (square, biases) = (width * width, width + self.config.norm.params(width));
            let second = super::pointwise_cost(square, biases, positions);
            if stage == 0 {
                return second + second;
            }
            let before = encoder.shape(stage - 1);
            let (kernel, at) = match (before.len(), shape.len()) {
                (3, 3) => (9, super::positions(&before)),
                (_, 1) => (1, 1),
                _ => (1, positions),
            };
            let adapt = super::pointwise_cost(kernel * channels(&before) as u64 * width, biases, at);
            adapt + super::pointwise_cost(2 * square, biases, positions) + second
        };
        (0..backbone.stages()).map(module).fold(backbone.cost(), |sum, cost| sum + cost)
    }
}
