//! A shared bottom (Caruana, *Multitask Learning*, Machine Learning 28, 1997) that is told the task by an embedding.
//!
//! The tag added to or put beside the features is common practice, above all in recommendation, without a paper of its
//! own.
use super::{Architecture, Backbone, Sharing, channels, mixing, network::shared_stage};
use crate::{
    Context, Cost, Error, ParamSource, Result, Seed, StateDict,
    nn::{Init, linear},
    registry,
};
use serde::{Deserialize, Serialize};
use tch::Tensor;

pub(super) const ENTRY: registry::Entry<dyn Architecture> = registry::Entry {
    info: registry::MethodInfo {
        name: "task-embedding",
        paper: "Multitask Learning (shared bottom); the embedding is common practice",
        source: "Machine Learning 28:41-75, 1997",
    },
    build: |config| Ok(Box::new(registry::parse::<TaskEmbeddingConfig>(config)?.build()?)),
};

/// How an embedding meets the features.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Joining {
    /// It has one number per channel and is added at every position.
    #[default]
    Add,
    /// It stands beside the channels at every position, and a linear map that all tasks share, `shared.projection`,
    /// brings both to the number of channels.
    Concatenate,
}

/// Hyper-parameters of [`TaskEmbedding`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct TaskEmbeddingConfig {
    /// How the embedding meets the features.
    pub joining: Joining,
    /// Size of an embedding that is concatenated. At least 1.
    pub dim: i64,
    /// Standard deviation of the first embeddings. At least 0.
    pub std: f64,
}

impl Default for TaskEmbeddingConfig {
    fn default() -> Self {
        Self { joining: Joining::Add, dim: 16, std: 0.02 }
    }
}

impl TaskEmbeddingConfig {
    /// Sets [`TaskEmbeddingConfig::joining`].
    #[must_use]
    pub fn joining(mut self, joining: Joining) -> Self {
        self.joining = joining;
        self
    }

    /// Sets [`TaskEmbeddingConfig::dim`].
    #[must_use]
    pub fn dim(mut self, dim: i64) -> Self {
        self.dim = dim;
        self
    }

    /// Sets [`TaskEmbeddingConfig::std`].
    #[must_use]
    pub fn std(mut self, std: f64) -> Self {
        self.std = std;
        self
    }

    /// Checks the values and builds the architecture.
    ///
    /// # Errors
    ///
    /// [`Error::Config`] when a value is outside its range.
    pub fn build(self) -> Result<TaskEmbedding> {
        if self.dim < 1 {
            return Err(Error::config("dim", "at least 1", self.dim));
        }
        if !(0.0 <= self.std && self.std.is_finite()) {
            return Err(Error::config("std", "finite and at least 0", self.std));
        }
        Ok(TaskEmbedding { config: self })
    }
}

/// One encoder, `shared.stage{s}`, whose features after the first stage are joined by the embedding of the task,
/// `tasks.{task}.embedding`.
///
/// After the first stage and not before it, so that images keep their channels, and not after the last, where a linear
/// head would make a mere offset of it. The first stage runs once for all tasks.
///
/// ```
/// use mtl_core::{Context, Seed, TaskSpec, architectures::{Architecture, TaskEmbeddingConfig}, models::Mlp};
/// use std::sync::Arc;
/// use tch::{Device, Kind, Tensor};
///
/// let tasks = vec![TaskSpec::classification("digit", 10), TaskSpec::classification("parity", 2)];
/// let model = TaskEmbeddingConfig::default().build()?.model(Arc::new(Mlp::new(&[4, 8, 6])?), tasks)?;
/// let params = model.init(Seed(0))?;
/// assert_eq!(params.get("tasks.parity.embedding").unwrap().size(), [8]);
/// let x = Tensor::ones([3, 4], (Kind::Float, Device::Cpu));
/// assert_eq!(model.forward(&params, &x.into(), &Context::eval().with_task(1))?.size(), [3, 2]);
/// # Ok::<(), mtl_core::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct TaskEmbedding {
    config: TaskEmbeddingConfig,
}

const PROJECTION: &str = "shared.projection";

impl TaskEmbedding {
    fn join(&self, params: &dyn ParamSource, name: &str, x: &Tensor) -> Result<Tensor> {
        let axis = mixing::channel_axis(x);
        let width = x.size().get(axis as usize).copied().unwrap_or(0);
        let embedding = params.param(name)?;
        let size = if self.config.joining == Joining::Add { width } else { self.config.dim };
        if embedding.size() != [size] {
            return Err(Error::shape(name, format!("[{size}]"), embedding.size()));
        }
        let tag = mixing::per_channel(&embedding, x);
        if self.config.joining == Joining::Add {
            return Ok(x + tag);
        }
        let mut shape = x.size();
        if let Some(channels) = shape.get_mut(axis as usize) {
            *channels = size;
        }
        let beside = Tensor::cat(&[x.shallow_clone(), tag.expand(shape.as_slice(), false)], axis);
        mixing::pointwise(params, PROJECTION, &beside)
    }
}

fn embedding(backbone: &Backbone, task: usize) -> String {
    format!("{}.embedding", backbone.own(task))
}

impl Sharing for TaskEmbedding {
    fn init(&self, backbone: &Backbone, seed: Seed, into: &mut StateDict) -> Result<()> {
        let TaskEmbeddingConfig { joining, dim, std } = self.config;
        let width = channels(&backbone.encoder().shape(0));
        backbone.init("shared", seed, into)?;
        if joining == Joining::Concatenate {
            linear::init(PROJECTION, width + dim, width, true, Init::default(), seed, into)?;
        }
        let size = if joining == Joining::Add { width } else { dim };
        for task in 0..backbone.tasks().len() {
            Init::Normal { std }.fill(seed, &embedding(backbone, task), &[size], into)?;
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
        let first = shared_stage(backbone, params, 0, x, ctx)?;
        let rest = |&task: &usize| {
            let joined = self.join(params, &embedding(backbone, task), &first)?;
            (1..backbone.stages()).try_fold(joined, |x, stage| shared_stage(backbone, params, stage, &x, ctx))
        };
        wanted.iter().map(rest).collect()
    }

    fn cost(&self, backbone: &Backbone, _task: usize) -> Cost {
        let shape = backbone.encoder().shape(0);
        let (width, dim) = (channels(&shape) as u64, self.config.dim as u64);
        let joining = match self.config.joining {
            Joining::Add => Cost { macs: 0, params: width },
            Joining::Concatenate => {
                let projection =
                    super::pointwise_cost((width + dim) * width, width, super::positions(&shape));
                projection + Cost { macs: 0, params: dim }
            }
        };
        backbone.cost() + joining
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Model, TaskSpec, architectures::Network, models::CnnConfig};
    use std::sync::Arc;

    #[test]
    fn tasks_differ_by_their_embedding_alone() {
        let tasks = ["a", "b"].map(|name| TaskSpec::classification(name, 2)).to_vec();
        let cnn = CnnConfig::default().image(2, 6, 6).widths(&[3, 4]).build().unwrap();
        for joining in [Joining::Add, Joining::Concatenate] {
            let sharing = TaskEmbeddingConfig::default().joining(joining).dim(5).std(1.0).build().unwrap();
            let model = Network::new(sharing, Arc::new(cnn.clone()), tasks.clone()).unwrap();
            let mut params = model.init(Seed(0)).unwrap();
            let x = crate::rng::normal(&mut Seed(1).stream("test", 0), &[2, 2, 6, 6], 1.0);
            let features = |params: &StateDict| {
                let ctx = Context::eval();
                let features = model.sharing().features(model.backbone(), params, &x, &[0, 1], &ctx);
                features.unwrap()
            };
            let apart = features(&params);
            assert_ne!(apart[0], apart[1]);
            let same = params.get("tasks.a.embedding").unwrap().copy();
            params.insert("tasks.b.embedding", same);
            assert_eq!(features(&params)[0], features(&params)[1]);
        }
        let err = TaskEmbeddingConfig::default().dim(0).build().unwrap_err();
        insta::assert_snapshot!(err, @"`dim` must be at least 1, but is 0");
    }
}
