//! Training of all widths together: Aich et al., ICCV 2023, arXiv 2308.11744; the sandwich of the widest, the smallest
//! and random widths is that of Yu & Huang, *Universally Slimmable Networks*, ICCV 2019, arXiv 1903.05134.
use super::{DistilAt, SlimmableNet, SlimmableTrainerConfig, WidthConfig, WidthRatio};
use crate::{
    Batch, Context, Error, Input, Learner, LearnerState, Model, MultiTaskModel, Result, StateDict,
    learner::{Step, StepReport},
    loss, no_grad,
    optim::{OPTIMIZERS, Optimizer},
    registry::Registry,
};
use rand::RngExt;
use serde_json::json;
use std::sync::Arc;
use tch::Tensor;

/// Learns all widths of a [`SlimmableNet`] at once.
///
/// A step runs the whole network, then the smallest and random ones, adds the gradients of
/// `L_full + Σ_sub (L_sub + β · L_CIKD)` and makes one optimiser step. Each network's graph is freed before the next is
/// built. Batches with the same input tensor run through an encoder once; with several inputs the distillation is the
/// mean over them. The report holds the losses at full width.
///
/// ```
/// use mtl_core::{Batch, Learner, Model, Seed, TaskSpec, learner::Step};
/// use mtl_core::slimmable::{SlimInput, SlimStage, SlimmableConfig, SlimmableTrainer, SlimmableTrainerConfig};
/// use std::sync::Arc;
/// use tch::Tensor;
///
/// let config = SlimmableConfig::default()
///     .input(SlimInput::Vector { features: 2 })
///     .stages(&[SlimStage::Dense { units: 8, layers: 1 }]);
/// let net = Arc::new(config.build(vec![TaskSpec::classification("sign", 2)])?);
/// let params = net.init(Seed(1))?.trainable();
/// let mut trainer = SlimmableTrainer::new(net, params, SlimmableTrainerConfig::default())?;
/// let mut first_loss = |index| -> mtl_core::Result<f64> {
///     let input = Tensor::from_slice(&[1.0f32, -1.0]).view([1, 2]).into();
///     let batch = Batch { task: 0, input, target: Tensor::from_slice(&[1i64]) };
///     Ok(trainer.observe(&[batch], Step { index, seed: Seed(1) })?.losses[0])
/// };
/// let before = first_loss(0)?;
/// assert!((1..20).try_fold(before, |_, step| first_loss(step))? < before);
/// # Ok::<(), mtl_core::Error>(())
/// ```
#[derive(Debug)]
pub struct SlimmableTrainer {
    net: Arc<SlimmableNet>,
    params: StateDict,
    optimizer: Box<dyn Optimizer>,
    config: SlimmableTrainerConfig,
}

/// Batches with the same input.
#[derive(Debug)]
struct Group<'a> {
    input: &'a Input,
    /// Positions among the batches of the step.
    batches: Vec<usize>,
    /// Tasks of these batches.
    tasks: Vec<usize>,
}

impl SlimmableTrainer {
    /// A learner that starts from `params`, of which those that require gradients are trained.
    ///
    /// # Errors
    ///
    /// [`Error::Unknown`] for an optimiser that does not exist, [`Error::Parse`] and [`Error::Config`] for its
    /// configuration and the rest of `config`.
    pub fn new(net: Arc<SlimmableNet>, params: StateDict, config: SlimmableTrainerConfig) -> Result<Self> {
        Self::build(net, params, config, &Registry::new(OPTIMIZERS))
    }

    /// As [`new`](Self::new), with the optimisers of another registry.
    ///
    /// # Errors
    ///
    /// See [`new`](Self::new).
    pub fn build(
        net: Arc<SlimmableNet>,
        params: StateDict,
        config: SlimmableTrainerConfig,
        optimizers: &Registry<dyn Optimizer>,
    ) -> Result<Self> {
        config.check(net.tasks().len())?;
        if params.trainable_names().is_empty() {
            let must = "with at least one tensor that requires gradients (see `StateDict::trainable`)";
            return Err(Error::config("params", must, "all constant"));
        }
        let optimizer = optimizers.build(&config.optimizer.name, config.optimizer.config.clone())?;
        Ok(Self { net, params, optimizer, config })
    }

    /// The parameters as they are now.
    pub fn params(&self) -> &StateDict {
        &self.params
    }

    /// The parameters, when training is over.
    pub fn into_params(self) -> StateDict {
        self.params
    }

    /// The network.
    pub fn net(&self) -> &Arc<SlimmableNet> {
        &self.net
    }

    /// The output for `input` and `task` at `widths`, without gradients.
    ///
    /// # Errors
    ///
    /// See [`SlimmableNet::forward_at`].
    pub fn predict_at(&self, input: &Input, task: usize, widths: &WidthConfig) -> Result<Tensor> {
        no_grad(|| {
            let out = self.net.run_tasks_at(&self.params, input, widths, &[task], &Context::eval())?;
            let must = format!("in 0..{}", self.net.tasks().len());
            out.outputs.into_iter().next().ok_or_else(|| Error::config("task", must, task))
        })
    }

    /// The networks that step `step` trains besides the whole one: the smallest first, then random ones.
    pub fn subnets(&self, step: Step) -> Vec<WidthConfig> {
        let ratios = &self.net.config().widths;
        let mut rng = step.seed.stream("slimmable widths", step.index);
        let mut draw = || {
            let at = rng.random_range(0..ratios.len().max(1));
            ratios.get(at).copied().unwrap_or(WidthRatio::FULL)
        };
        let mut random = || {
            let (stages, tasks) = (self.net.stages(), self.net.tasks().len());
            let encoder = if self.config.per_stage {
                (0..stages).map(|_| draw()).collect()
            } else {
                vec![draw(); stages]
            };
            WidthConfig { encoder, decoders: (0..tasks).map(|_| draw()).collect() }
        };
        (0..self.config.subnets).map(|i| if i == 0 { self.net.smallest() } else { random() }).collect()
    }

    /// What a state must have been saved with. As text: numbers of a parsed value may differ in the last bit.
    fn identity(&self) -> Result<serde_json::Value> {
        let text = |value: serde_json::Result<String>| {
            value.map_err(|e| Error::Parse { path: "config".to_owned(), message: e.to_string() })
        };
        let tasks: Vec<&str> = self.net.tasks().iter().map(|task| task.name.as_str()).collect();
        Ok(json!({
            "method": "slimmable",
            "config": text(serde_json::to_string(&self.config))?,
            "net": text(serde_json::to_string(self.net.config()))?,
            "tasks": tasks,
        }))
    }

    /// Loss of each batch of `group`, in its order.
    fn losses(&self, group: &Group<'_>, outputs: &[Tensor], batches: &[Batch]) -> Result<Vec<Tensor>> {
        let each = group.batches.iter().zip(outputs).filter_map(|(&i, output)| {
            let batch = batches.get(i)?;
            Some(loss::task_loss(self.net.tasks().get(batch.task)?, output, &batch.target))
        });
        each.collect()
    }

    /// `Σ λ_k L_k`, with losses that are numbers; which batch each is of comes with it.
    fn weighted(&self, losses: Vec<Tensor>, group: &Group<'_>) -> Option<Tensor> {
        let weight = |task: &usize| self.config.task_weights.get(*task).copied().unwrap_or(1.0);
        let scaled = losses.into_iter().zip(&group.tasks).map(|(loss, task)| match weight(task) {
            1.0 => loss,
            weight => loss * weight,
        });
        scaled.reduce(|total, term| total + term)
    }

    /// Gradients of one network on one input, added to `total`. Gives the losses and the detached features.
    fn accumulate(
        &self,
        group: &Group<'_>,
        (batches, step): (&[Batch], Step),
        widths: &WidthConfig,
        teacher: Option<(&[Tensor], f64)>,
        total: &mut StateDict,
    ) -> Result<(Vec<f64>, Vec<Tensor>)> {
        let ctx = Context::train(step.seed, step.index);
        let out = self.net.run_tasks_at(&self.params, group.input, widths, &group.tasks, &ctx)?;
        let losses = self.losses(group, &out.outputs, batches)?;
        let values: Vec<f64> = losses.iter().map(|loss| loss.double_value(&[])).collect();
        if let Some((_, task)) = values.iter().zip(&group.tasks).find(|(value, _)| !value.is_finite()) {
            let task = self.net.tasks().get(*task).map_or("unknown", |spec| &spec.name);
            return Err(diverged("loss", task, step, first_bad(&self.params)));
        }
        let Some(mut sum) = self.weighted(losses, group) else { return Ok((values, Vec::new())) };
        if let (Some(kd), Some((teacher, factor))) = (self.config.distillation, teacher) {
            let skip = match self.config.distil_at {
                DistilAt::EveryStage => 0,
                DistilAt::LastStage => teacher.len().saturating_sub(1),
            };
            for (narrow, widest) in out.features.iter().zip(teacher).skip(skip) {
                sum = sum + kd.loss(narrow, widest)? * factor;
            }
        }
        let grads = self.params.gradients(&sum, false)?;
        no_grad(|| add(total, grads));
        Ok((values, out.features.iter().map(Tensor::detach).collect()))
    }
}

impl Learner for SlimmableTrainer {
    fn observe(&mut self, batches: &[Batch], step: Step) -> Result<StepReport> {
        let groups = group(batches, self.net.tasks().len())?;
        let full = self.net.full();
        let mut direction = StateDict::new();
        let mut report = vec![0.0; batches.len()];
        let mut teachers = Vec::with_capacity(groups.len());
        for group in &groups {
            let (losses, features) = self.accumulate(group, (batches, step), &full, None, &mut direction)?;
            for (&i, loss) in group.batches.iter().zip(losses) {
                if let Some(slot) = report.get_mut(i) {
                    *slot = loss;
                }
            }
            teachers.push(features);
        }
        let factor = self.config.beta / groups.len() as f64;
        for widths in self.subnets(step) {
            for (group, teacher) in groups.iter().zip(&teachers) {
                let teacher = (factor > 0.0).then_some((teacher.as_slice(), factor));
                self.accumulate(group, (batches, step), &widths, teacher, &mut direction)?;
            }
        }
        let norm = direction.norm();
        if !norm.is_finite() {
            return Err(diverged("gradient", "all tasks", step, first_bad(&direction)));
        }
        if let Some(clip) = self.config.clip {
            clip.apply(&mut direction, norm);
        }
        self.optimizer.step(&mut self.params, &direction, self.config.schedule.at(step.index))?;
        Ok(StepReport { losses: report, grad_norm: Some(norm), ..StepReport::default() })
    }

    fn predict(&self, input: &Input, task: Option<usize>) -> Result<Tensor> {
        let only = (self.net.tasks().len() == 1).then_some(0);
        let ctx = match task.or(only) {
            Some(task) => Context::eval().with_task(task),
            None => Context::eval(),
        };
        no_grad(|| self.net.forward(&self.params, input, &ctx))
    }

    fn save(&self) -> Result<LearnerState> {
        let mut state = LearnerState { facts: self.identity()?, ..LearnerState::default() };
        state.put("p.", &self.params);
        state.put("o.", &self.optimizer.state());
        Ok(state)
    }

    fn load(&mut self, state: &LearnerState) -> Result<()> {
        let expected = self.identity()?;
        for key in ["method", "config", "net", "tasks"] {
            let (found, wanted) = (state.fact::<serde_json::Value>(key)?, &expected[key]);
            if found != *wanted {
                let differences = format!("`{key}` is {found}, expected {wanted}");
                return Err(Error::Mismatch { what: "learner state".to_owned(), differences });
            }
        }
        let params = state.section("p.");
        params.same_layout(&self.params, "learner state")?;
        self.optimizer.load_state(&state.section("o."), &self.params)?;
        self.params.assign(&params)
    }
}

/// The batches by input, in the order of the first of each.
fn group(batches: &[Batch], tasks: usize) -> Result<Vec<Group<'_>>> {
    if batches.is_empty() {
        return Err(Error::config("batches", "at least one", "empty"));
    }
    let same = |a: &Tensor, b: &Tensor| {
        a.data_ptr() == b.data_ptr()
            && a.size() == b.size()
            && a.stride() == b.stride()
            && a.kind() == b.kind()
    };
    let mut groups: Vec<Group<'_>> = Vec::new();
    for (i, batch) in batches.iter().enumerate() {
        if batch.task >= tasks {
            return Err(Error::config("batch.task", format!("below {tasks}"), batch.task));
        }
        if batch.input.batch() == 0 {
            return Err(Error::config("batches", "non-empty", format!("empty for task {}", batch.task)));
        }
        match groups.iter_mut().find(|group| same(&group.input.values, &batch.input.values)) {
            Some(group) => {
                group.batches.push(i);
                group.tasks.push(batch.task);
            }
            None => groups.push(Group { input: &batch.input, batches: vec![i], tasks: vec![batch.task] }),
        }
    }
    Ok(groups)
}

fn diverged(what: &'static str, task: &str, step: Step, param: Option<String>) -> Error {
    Error::Diverged { what, task: task.to_owned(), step: step.index, param }
}

/// The first tensor with NaN or infinity.
fn first_bad(dict: &StateDict) -> Option<String> {
    let bad = |t: &Tensor| !no_grad(|| crate::check::is_finite(t));
    dict.iter().find(|(_, t)| bad(t)).map(|(name, _)| name.to_owned())
}

/// Adds gradients to those that are there.
fn add(total: &mut StateDict, grads: StateDict) {
    for (name, grad) in grads {
        let sum = match total.get(&name) {
            Some(there) => there + grad,
            None => grad,
        };
        total.insert(name, sum);
    }
}
