//! What the conversion funnels have in common: a shared bottom, and a tower and a logit for each step.
use super::{
    StagedEncoder, channels,
    network::{check_tasks, task_of},
    stage::{SHARED, forward_stages, init_stages, prepare, stages_cost},
};
use crate::{
    Context, Cost, Error, Input, ParamSource, Result, Seed, StateDict, TaskKind, TaskSpec,
    nn::{Init, linear},
};
use std::sync::Arc;
use tch::Tensor;

/// `shared.stage{s}`, then for each step `towers.{task}.stage{s}` and `heads.{task}`.
#[derive(Debug)]
pub(super) struct Funnel {
    bottom: Arc<dyn StagedEncoder>,
    tower: Arc<dyn StagedEncoder>,
    tasks: Vec<TaskSpec>,
}

impl Funnel {
    pub(super) fn new(
        bottom: Arc<dyn StagedEncoder>,
        tower: Arc<dyn StagedEncoder>,
        steps: &[&str],
    ) -> Result<Self> {
        let spec = |name: &&str| TaskSpec::new(*name, TaskKind::MultiLabel { labels: 1 });
        let tasks: Vec<TaskSpec> = steps.iter().map(spec).collect();
        check_tasks(&tasks)?;
        if tasks.len() < 2 {
            return Err(Error::config("steps", "at least two, from the first to the last", tasks.len()));
        }
        for (what, encoder) in [("bottom", &bottom), ("tower", &tower)] {
            if encoder.stages() == 0 {
                return Err(Error::config(format!("stages of the {what}"), "at least 1", 0));
            }
        }
        if tower.input_shape() != [bottom.feature_dim()] {
            let must = format!("[{}], the features of the bottom", bottom.feature_dim());
            return Err(Error::config("input of the tower", must, format!("{:?}", tower.input_shape())));
        }
        Ok(Self { bottom, tower, tasks })
    }

    pub(super) fn tasks(&self) -> &[TaskSpec] {
        &self.tasks
    }

    pub(super) fn task(&self, ctx: &Context) -> Result<usize> {
        task_of(&self.tasks, ctx)
    }

    /// Width of a tower's output.
    pub(super) fn dim(&self) -> i64 {
        channels(&[self.tower.feature_dim()])
    }

    fn name(&self, task: usize) -> &str {
        self.tasks.get(task).map_or("", |task| &task.name)
    }

    pub(super) fn init(&self, seed: Seed, into: &mut StateDict) -> Result<()> {
        init_stages(&*self.bottom, SHARED, seed, into)?;
        for task in &self.tasks {
            init_stages(&*self.tower, &format!("towers.{}", task.name), seed, into)?;
            let head = format!("heads.{}", task.name);
            linear::init(&head, self.dim(), 1, true, Init::default(), seed, into)?;
        }
        Ok(())
    }

    /// Features of the bottom, `[batch, features]`.
    pub(super) fn bottom(&self, params: &dyn ParamSource, input: &Input, ctx: &Context) -> Result<Tensor> {
        let x = prepare(&*self.bottom, &input.values)?;
        Ok(self.bottom.pool(&forward_stages(&*self.bottom, params, SHARED, &x, ctx)?).pooled)
    }

    /// What the tower of `task` makes of the features of the bottom, `[batch, dim]`.
    pub(super) fn tower(
        &self,
        params: &dyn ParamSource,
        task: usize,
        x: &Tensor,
        ctx: &Context,
    ) -> Result<Tensor> {
        let prefix = format!("towers.{}", self.name(task));
        Ok(self.tower.pool(&forward_stages(&*self.tower, params, &prefix, x, ctx)?).pooled)
    }

    /// The logit of `task`, `[batch, 1]`.
    pub(super) fn logit(&self, params: &dyn ParamSource, task: usize, x: &Tensor) -> Result<Tensor> {
        params.linear(&format!("heads.{}", self.name(task)), x)
    }

    /// Bottom, and tower and head of the steps up to `task`.
    pub(super) fn cost(&self, task: usize) -> Cost {
        if task >= self.tasks.len() {
            return Cost::default();
        }
        let step = stages_cost(&*self.tower) + super::pointwise_cost(self.dim() as u64, 1, 1);
        stages_cost(&*self.bottom) + super::times(step, task as u64 + 1)
    }

    /// Whether the parameter called `name` is that of the last step under one of `prefixes`.
    pub(super) fn is_last(&self, name: &str, prefixes: &[&str]) -> bool {
        let last = self.tasks.last().map_or("", |task| &task.name);
        prefixes.iter().any(|prefix| name.starts_with(&format!("{prefix}.{last}.")))
    }
}
