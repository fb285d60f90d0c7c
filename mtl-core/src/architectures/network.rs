//! A model of an encoder, tasks and the way they share it.
use super::stage::{SHARED, StagedEncoder, forward_stages, init_stages, prepare, stage_name, stages_cost};
use crate::{
    Context, Cost, Error, Input, Model, MultiTaskModel, ParamSource, Result, Seed, StateDict, TaskSpec,
    models::heads::Head,
};
use std::{collections::BTreeSet, fmt::Debug, sync::Arc};
use tch::Tensor;

/// The encoder and the tasks that an architecture brings together.
#[derive(Debug)]
pub struct Backbone {
    encoder: Arc<dyn StagedEncoder>,
    tasks: Vec<TaskSpec>,
}

impl Backbone {
    fn new(encoder: Arc<dyn StagedEncoder>, tasks: Vec<TaskSpec>) -> Result<Self> {
        check_tasks(&tasks)?;
        if encoder.stages() == 0 {
            return Err(Error::config("stages of the encoder", "at least 1", 0));
        }
        Ok(Self { encoder, tasks })
    }

    /// The encoder; parameters live wherever the architecture puts them.
    pub fn encoder(&self) -> &dyn StagedEncoder {
        &*self.encoder
    }

    /// The tasks, in the order of their indices.
    pub fn tasks(&self) -> &[TaskSpec] {
        &self.tasks
    }

    /// Number of stages of the encoder.
    pub fn stages(&self) -> usize {
        self.encoder.stages()
    }

    /// Name of `task`; empty where there is no such task.
    pub fn task_name(&self, task: usize) -> &str {
        self.tasks.get(task).map_or("", |task| &task.name)
    }

    /// Prefix of the parameters that belong to `task`: `tasks.{name}`.
    pub fn own(&self, task: usize) -> String {
        format!("tasks.{}", self.task_name(task))
    }

    /// Numbers of an input example.
    pub fn inputs(&self) -> i64 {
        self.encoder.input_shape().iter().product()
    }

    /// Fresh parameters of the whole encoder under `{prefix}.stage{s}`.
    ///
    /// # Errors
    ///
    /// See [`StagedEncoder::init_stage`].
    pub fn init(&self, prefix: &str, seed: Seed, into: &mut StateDict) -> Result<()> {
        init_stages(&*self.encoder, prefix, seed, into)
    }

    /// `x` `[batch, …]` through the whole encoder under `{prefix}.stage{s}`.
    ///
    /// # Errors
    ///
    /// See [`StagedEncoder::forward_stage`].
    pub fn forward(
        &self,
        params: &dyn ParamSource,
        prefix: &str,
        x: &Tensor,
        ctx: &Context,
    ) -> Result<Tensor> {
        forward_stages(&*self.encoder, params, prefix, x, ctx)
    }

    /// `x` `[batch, …]` through one stage of the encoder whose parameters are under `{prefix}.stage{stage}`.
    ///
    /// # Errors
    ///
    /// See [`StagedEncoder::forward_stage`].
    pub fn forward_stage(
        &self,
        params: &dyn ParamSource,
        prefix: &str,
        stage: usize,
        x: &Tensor,
        ctx: &Context,
    ) -> Result<Tensor> {
        self.encoder.forward_stage(params, &stage_name(prefix, stage), stage, x, ctx)
    }

    /// Cost of the whole encoder for one example.
    pub fn cost(&self) -> Cost {
        stages_cost(&*self.encoder)
    }

    /// The task that `ctx` names.
    fn task(&self, ctx: &Context) -> Result<usize> {
        task_of(&self.tasks, ctx)
    }
}

/// The task that `ctx` names, one of `tasks`.
pub(super) fn task_of(tasks: &[TaskSpec], ctx: &Context) -> Result<usize> {
    let names = || tasks.iter().map(|t| t.name.as_str()).collect::<Vec<_>>().join(", ");
    match ctx.task() {
        Some(task) if task < tasks.len() => Ok(task),
        Some(task) => {
            let must = format!("in 0..{} ({})", tasks.len(), names());
            Err(Error::config("task of the context", must, task))
        }
        None => Err(Error::config("task of the context", format!("one of {}", names()), "absent")),
    }
}

/// Fails unless there is a task and each has a name of its own.
pub(super) fn check_tasks(tasks: &[TaskSpec]) -> Result<()> {
    if tasks.is_empty() {
        return Err(Error::config("tasks", "at least one task", "empty"));
    }
    let mut seen = BTreeSet::new();
    match tasks.iter().find(|task| task.name.is_empty() || !seen.insert(task.name.as_str())) {
        Some(task) => {
            Err(Error::config("tasks", "tasks with names of their own", format!("`{}`", task.name)))
        }
        None => Ok(()),
    }
}

/// How tasks share an encoder: which parameters there are and which features each task gets of them.
///
/// [`Network`] adds the heads and makes a [`MultiTaskModel`] of it.
pub trait Sharing: Debug + Send + Sync {
    /// Fails when the hyper-parameters do not fit this encoder and these tasks.
    ///
    /// # Errors
    ///
    /// [`Error::Config`] naming the hyper-parameter.
    fn check(&self, _backbone: &Backbone) -> Result<()> {
        Ok(())
    }

    /// Writes fresh parameters, without those of the heads.
    ///
    /// # Errors
    ///
    /// See [`Model::init`].
    fn init(&self, backbone: &Backbone, seed: Seed, into: &mut StateDict) -> Result<()>;

    /// The output of the last stage for each of the `wanted` tasks, in that order, all for the same input `x`
    /// `[batch, …]`.
    ///
    /// # Errors
    ///
    /// See [`Model::forward`].
    fn features(
        &self,
        backbone: &Backbone,
        params: &dyn ParamSource,
        x: &Tensor,
        wanted: &[usize],
        ctx: &Context,
    ) -> Result<Vec<Tensor>>;

    /// Whether the parameter called `name`, none of a head, is used by more than one task. Unless overridden, those
    /// outside `tasks.` are.
    fn is_shared(&self, _backbone: &Backbone, name: &str) -> bool {
        !name.starts_with("tasks.")
    }

    /// Cost of the features of `task` for one example.
    fn cost(&self, backbone: &Backbone, task: usize) -> Cost;
}

/// An encoder shared in the way of `S`, with a linear head `heads.{task}` for each task.
///
/// A task can be run alone; where its features need those of the others, all are computed for its input.
#[derive(Debug)]
pub struct Network<S> {
    sharing: S,
    backbone: Backbone,
    heads: Vec<Head>,
}

impl<S: Sharing> Network<S> {
    /// `tasks` that share `encoder` in the way of `sharing`.
    ///
    /// # Errors
    ///
    /// [`Error::Config`] without a task, for a name that is empty or occurs twice, for a kind of task without a linear
    /// head, for a dense task whose map the encoder's positions do not tile, and what [`Sharing::check`] returns.
    pub fn new(sharing: S, encoder: Arc<dyn StagedEncoder>, tasks: Vec<TaskSpec>) -> Result<Self> {
        let backbone = Backbone::new(encoder, tasks)?;
        sharing.check(&backbone)?;
        let (dim, grid) = (backbone.encoder.feature_dim(), backbone.encoder.feature_grid());
        let heads = backbone.tasks.iter().map(|task| Head::on(dim, grid, task)).collect::<Result<_>>()?;
        Ok(Self { sharing, backbone, heads })
    }

    /// The way in which the tasks share the encoder.
    pub fn sharing(&self) -> &S {
        &self.sharing
    }

    /// The encoder and the tasks.
    pub fn backbone(&self) -> &Backbone {
        &self.backbone
    }

    /// The outputs of the `wanted` tasks.
    fn run(
        &self,
        params: &dyn ParamSource,
        input: &Input,
        wanted: &[usize],
        ctx: &Context,
    ) -> Result<Vec<Tensor>> {
        let x = prepare(self.backbone.encoder(), &input.values)?;
        let features = self.sharing.features(&self.backbone, params, &x, wanted, ctx)?;
        if features.len() != wanted.len() {
            let must = format!("those of {} tasks", wanted.len());
            return Err(Error::config("features", must, format!("{} tensors", features.len())));
        }
        let heads = wanted.iter().filter_map(|&task| self.heads.get(task));
        let output = |(head, x): (&Head, &Tensor)| head.forward(params, &self.backbone.encoder.pool(x));
        heads.zip(&features).map(output).collect()
    }
}

impl<S: Sharing> Model for Network<S> {
    fn init(&self, seed: Seed) -> Result<StateDict> {
        let mut params = StateDict::new();
        self.sharing.init(&self.backbone, seed, &mut params)?;
        self.heads.iter().try_for_each(|head| head.init(seed, &mut params))?;
        Ok(params)
    }

    fn forward(&self, params: &dyn ParamSource, input: &Input, ctx: &Context) -> Result<Tensor> {
        let task = self.backbone.task(ctx)?;
        let missing = || Error::config("features", "those of one task", "none");
        self.run(params, input, &[task], ctx)?.pop().ok_or_else(missing)
    }
}

impl<S: Sharing> MultiTaskModel for Network<S> {
    fn tasks(&self) -> &[TaskSpec] {
        &self.backbone.tasks
    }

    fn is_shared(&self, name: &str) -> bool {
        !name.starts_with("heads.") && self.sharing.is_shared(&self.backbone, name)
    }

    fn forward_all(&self, params: &dyn ParamSource, input: &Input, ctx: &Context) -> Result<Vec<Tensor>> {
        let all: Vec<usize> = (0..self.heads.len()).collect();
        self.run(params, input, &all, ctx)
    }

    fn cost(&self, task: usize) -> Cost {
        let head = self.heads.get(task);
        head.map_or_else(Cost::default, |head| self.sharing.cost(&self.backbone, task) + head.cost())
    }
}

/// The shared trunk under the prefix [`SHARED`] through stage `stage`.
pub(super) fn shared_stage(
    backbone: &Backbone,
    params: &dyn ParamSource,
    stage: usize,
    x: &Tensor,
    ctx: &Context,
) -> Result<Tensor> {
    backbone.forward_stage(params, SHARED, stage, x, ctx)
}
