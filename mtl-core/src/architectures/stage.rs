//! Encoders cut into stages, so that tasks can meet between one stage and the next.
use crate::{Context, Cost, Encoder, Error, Features, Input, ParamSource, Result, Seed, StateDict};
use std::{fmt::Debug, sync::Arc};
use tch::Tensor;

/// An encoder as a list of stages, each with parameters under a prefix of the caller's choice.
///
/// The prefix lets an architecture have one set of parameters for each task (`tasks.{task}.stage0`), for each expert
/// (`experts.0.stage0`) or for all (`shared.stage0`). Shapes are those of one example, without the batch: `[features]`,
/// `[tokens, dim]` or `[channels, height, width]`.
///
/// ```
/// use mtl_core::{Context, Seed, StateDict, architectures::StagedEncoder, models::Mlp};
/// use tch::{Device, Kind, Tensor};
///
/// let mlp = Mlp::new(&[4, 8, 3])?;
/// let mut params = StateDict::new();
/// mlp.init_stage(1, "tasks.sign.stage1", Seed(0), &mut params)?;
/// let x = Tensor::ones([5, 8], (Kind::Float, Device::Cpu));
/// let y = mlp.forward_stage(&params, "tasks.sign.stage1", 1, &x, &Context::eval())?;
/// assert_eq!((y.size(), mlp.stages(), mlp.feature_dim()), (vec![5, 3], 2, 3));
/// # Ok::<(), mtl_core::Error>(())
/// ```
pub trait StagedEncoder: Debug + Send + Sync {
    /// Number of stages, at least 1.
    fn stages(&self) -> usize;

    /// Shape of an input example.
    fn input_shape(&self) -> Vec<i64>;

    /// Shape of an example after `stage`; empty where there is no such stage.
    fn shape(&self, stage: usize) -> Vec<i64>;

    /// Writes fresh parameters of `stage`, all named `{prefix}…`.
    ///
    /// # Errors
    ///
    /// [`Error::Config`] when there is no such stage or the prefix is taken, and as [`Model::init`](crate::Model::init).
    fn init_stage(&self, stage: usize, prefix: &str, seed: Seed, into: &mut StateDict) -> Result<()>;

    /// What `stage` makes of `x` `[batch, …]` with the parameters under `prefix`.
    ///
    /// # Errors
    ///
    /// [`Error::Config`] when there is no such stage, and as [`Model::forward`](crate::Model::forward).
    fn forward_stage(
        &self,
        params: &dyn ParamSource,
        prefix: &str,
        stage: usize,
        x: &Tensor,
        ctx: &Context,
    ) -> Result<Tensor>;

    /// Cost of `stage` for one example.
    fn stage_cost(&self, stage: usize) -> Cost;

    /// The features that heads see, from the output `[batch, …]` of the last stage: the mean over positions or tokens.
    fn pool(&self, x: &Tensor) -> Features {
        match x.dim() {
            4 => Features {
                pooled: x.mean_dim([2i64, 3].as_slice(), false, None),
                positions: Some(x.flatten(2, -1).transpose(1, 2)),
            },
            3 => Features {
                pooled: x.mean_dim([1i64].as_slice(), false, None),
                positions: Some(x.shallow_clone()),
            },
            _ => Features { pooled: x.shallow_clone(), positions: None },
        }
    }

    /// Width of the pooled features: the channels of the last stage.
    fn feature_dim(&self) -> i64 {
        channels(&self.shape(self.stages().saturating_sub(1)))
    }

    /// Rows and columns of the positions; `None` where there are none.
    fn feature_grid(&self) -> Option<(i64, i64)> {
        match self.shape(self.stages().saturating_sub(1))[..] {
            [_, rows, columns] => Some((rows, columns)),
            _ => None,
        }
    }
}

/// Channels of an example of `shape`: the first of `[channels, height, width]`, else the last size.
pub fn channels(shape: &[i64]) -> i64 {
    match *shape {
        [channels, _, _] => channels,
        [.., last] => last,
        [] => 0,
    }
}

/// The error for a stage that `stages` stages do not have.
pub(crate) fn no_stage(stage: usize, stages: usize) -> Error {
    Error::config("stage", format!("in 0..{stages}"), stage)
}

/// The prefix of a stage of the encoder whose own prefix is `prefix`.
pub(super) fn stage_name(prefix: &str, stage: usize) -> String {
    format!("{prefix}.stage{stage}")
}

/// Fresh parameters of all stages, under `{prefix}.stage{s}`.
///
/// # Errors
///
/// See [`StagedEncoder::init_stage`].
pub fn init_stages(
    encoder: &dyn StagedEncoder,
    prefix: &str,
    seed: Seed,
    into: &mut StateDict,
) -> Result<()> {
    (0..encoder.stages()).try_for_each(|s| encoder.init_stage(s, &stage_name(prefix, s), seed, into))
}

/// `x` `[batch, …]` through all stages, whose parameters are under `{prefix}.stage{s}`.
///
/// # Errors
///
/// See [`StagedEncoder::forward_stage`].
pub fn forward_stages(
    encoder: &dyn StagedEncoder,
    params: &dyn ParamSource,
    prefix: &str,
    x: &Tensor,
    ctx: &Context,
) -> Result<Tensor> {
    (0..encoder.stages()).try_fold(x.shallow_clone(), |x, stage| {
        encoder.forward_stage(params, &stage_name(prefix, stage), stage, &x, ctx)
    })
}

/// Cost of all stages for one example.
pub fn stages_cost(encoder: &dyn StagedEncoder) -> Cost {
    (0..encoder.stages()).fold(Cost::default(), |sum, stage| sum + encoder.stage_cost(stage))
}

/// `values` as the first stage of `encoder` takes them; vectors may come in any shape.
pub(super) fn prepare(encoder: &dyn StagedEncoder, values: &Tensor) -> Result<Tensor> {
    let (wanted, found) = (encoder.input_shape(), values.size());
    match found.split_first() {
        Some((_, rest)) if rest == wanted => Ok(values.shallow_clone()),
        Some((_, rest))
            if wanted.len() == 1 && rest.len() > 1 && rest.iter().product::<i64>() == wanted[0] =>
        {
            Ok(values.flatten(1, -1))
        }
        _ => {
            let sizes: Vec<String> = wanted.iter().map(i64::to_string).collect();
            Err(Error::shape("input", format!("[batch, {}]", sizes.join(", ")), found))
        }
    }
}

/// A staged encoder with one set of parameters, `shared.stage{s}…`, as an [`Encoder`].
///
/// ```
/// use mtl_core::{Context, Encoder, Seed, architectures::Trunk, models::Mlp};
/// use std::sync::Arc;
/// use tch::{Device, Kind, Tensor};
///
/// let trunk = Trunk::new(Arc::new(Mlp::new(&[4, 8, 3])?));
/// let params = trunk.init(Seed(0))?;
/// let x = Tensor::ones([5, 4], (Kind::Float, Device::Cpu));
/// assert_eq!(trunk.encode(&params, &x.into(), &Context::eval())?.pooled.size(), [5, 3]);
/// # Ok::<(), mtl_core::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct Trunk {
    encoder: Arc<dyn StagedEncoder>,
}

/// Prefix of what all tasks share.
pub(super) const SHARED: &str = "shared";

impl Trunk {
    /// `encoder` with one set of parameters.
    pub fn new(encoder: Arc<dyn StagedEncoder>) -> Self {
        Self { encoder }
    }
}

impl Encoder for Trunk {
    fn init(&self, seed: Seed) -> Result<StateDict> {
        let mut params = StateDict::new();
        init_stages(&*self.encoder, SHARED, seed, &mut params)?;
        Ok(params)
    }

    fn encode(&self, params: &dyn ParamSource, input: &Input, ctx: &Context) -> Result<Features> {
        let x = prepare(&*self.encoder, &input.values)?;
        Ok(self.encoder.pool(&forward_stages(&*self.encoder, params, SHARED, &x, ctx)?))
    }

    fn dim(&self) -> i64 {
        self.encoder.feature_dim()
    }

    fn grid(&self) -> Option<(i64, i64)> {
        self.encoder.feature_grid()
    }

    fn cost(&self) -> Cost {
        stages_cost(&*self.encoder)
    }
}
