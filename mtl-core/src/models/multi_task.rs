//! A shared encoder with a head for each task: Caruana, *Multitask Learning*, Machine Learning 1997.
use super::heads::Head;
use crate::{
    Context, Cost, Encoder, Error, Input, Model, MultiTaskModel, ParamSource, Result, Seed, StateDict,
    TaskSpec,
};
use std::{collections::BTreeSet, sync::Arc};
use tch::Tensor;

/// A shared encoder and, for each task, a linear head named `heads.{task}`.
///
/// ```
/// use mtl_core::{Context, Model, Seed, TaskSpec, models::{Mlp, MultiTask}};
/// use std::sync::Arc;
/// use tch::{Device, Kind, Tensor};
///
/// let tasks = vec![TaskSpec::classification("digit", 10), TaskSpec::classification("parity", 2)];
/// let model = MultiTask::new(Arc::new(Mlp::new(&[64, 32])?), tasks)?;
/// let params = model.init(Seed(0))?;
/// let images = Tensor::ones([3, 64], (Kind::Float, Device::Cpu));
/// let output = model.forward(&params, &images.into(), &Context::eval().with_task(1))?;
/// assert_eq!(output.size(), [3, 2]);
/// # Ok::<(), mtl_core::Error>(())
/// ```
#[derive(Debug)]
pub struct MultiTask {
    encoder: Arc<dyn Encoder>,
    tasks: Vec<TaskSpec>,
    heads: Vec<Head>,
}

impl MultiTask {
    /// `encoder` with a head for each of `tasks`.
    ///
    /// # Errors
    ///
    /// [`Error::Config`] without a task, for a name that is empty or occurs twice, for a kind of task without a linear
    /// head, and for a dense task whose map the encoder's positions do not tile.
    pub fn new(encoder: Arc<dyn Encoder>, tasks: Vec<TaskSpec>) -> Result<Self> {
        if tasks.is_empty() {
            return Err(Error::config("tasks", "at least one task", "empty"));
        }
        let mut seen = BTreeSet::new();
        for task in &tasks {
            if task.name.is_empty() || !seen.insert(task.name.as_str()) {
                return Err(Error::config(
                    "tasks",
                    "tasks with names of their own",
                    format!("`{}`", task.name),
                ));
            }
        }
        let heads = tasks.iter().map(|task| Head::new(&*encoder, task)).collect::<Result<_>>()?;
        Ok(Self { encoder, tasks, heads })
    }

    /// The shared encoder.
    pub fn encoder(&self) -> &Arc<dyn Encoder> {
        &self.encoder
    }

    /// The head of the task that `ctx` names.
    fn head(&self, ctx: &Context) -> Result<&Head> {
        let names = || self.tasks.iter().map(|t| t.name.as_str()).collect::<Vec<_>>().join(", ");
        let Some(task) = ctx.task() else {
            return Err(Error::config("task of the context", format!("one of {}", names()), "absent"));
        };
        self.heads.get(task).ok_or_else(|| {
            let must = format!("in 0..{} ({})", self.heads.len(), names());
            Error::config("task of the context", must, task)
        })
    }
}

impl Model for MultiTask {
    fn init(&self, seed: Seed) -> Result<StateDict> {
        let mut params = self.encoder.init(seed)?;
        self.heads.iter().try_for_each(|head| head.init(seed, &mut params))?;
        Ok(params)
    }

    fn forward(&self, params: &dyn ParamSource, input: &Input, ctx: &Context) -> Result<Tensor> {
        let head = self.head(ctx)?;
        head.forward(params, &self.encoder.encode(params, input, ctx)?)
    }
}

impl MultiTaskModel for MultiTask {
    fn tasks(&self) -> &[TaskSpec] {
        &self.tasks
    }

    fn is_shared(&self, name: &str) -> bool {
        !name.starts_with("heads.")
    }

    /// Encodes once for all tasks, unless the features depend on the task; then each task has a pass of its own.
    fn forward_all(&self, params: &dyn ParamSource, input: &Input, ctx: &Context) -> Result<Vec<Tensor>> {
        if !self.encoder.is_task_conditioned() {
            let features = self.encoder.encode(params, input, ctx)?;
            ctx.represent(&features.pooled);
            return self.heads.iter().map(|head| head.forward(params, &features)).collect();
        }
        let encode = |(task, head): (usize, &Head)| {
            let own = ctx.for_task(task);
            let output = head.forward(params, &self.encoder.encode(params, input, &own)?)?;
            ctx.absorb(own);
            Ok(output)
        };
        self.heads.iter().enumerate().map(encode).collect()
    }

    fn cost(&self, task: usize) -> Cost {
        self.heads.get(task).map_or_else(Cost::default, |head| self.encoder.cost() + head.cost())
    }
}
