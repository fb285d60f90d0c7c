//! Joint training: every task at once, on parameters they share.
use super::{Method, pass::Pass};
use crate::{
    Batch, Context, Error, Input, Learner, LearnerState, MultiTaskModel, Result, StateDict,
    balancing::{BALANCERS, Balancer},
    learner::{Boundary, Step, StepReport},
    no_grad,
    optim::{Clip, OPTIMIZERS, Optimizer, Sam, SamConfig, Schedule},
    registry::Registry,
};
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::sync::Arc;
use tch::Tensor;

/// How [`Joint`] learns; the default is Adam at a constant 1e-3 on the plain sum of the losses.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct JointConfig {
    /// Optimiser, one of [`OPTIMIZERS`].
    pub optimizer: Method,
    /// Learning rate of each step.
    pub schedule: Schedule,
    /// Balancer, one of [`BALANCERS`].
    pub balancer: Method,
    /// Bound on the gradients, applied to the balanced direction.
    pub clip: Option<Clip>,
    /// Takes the gradient where the sum of the losses is worst nearby; costs a second forward and backward pass.
    pub sam: Option<SamConfig>,
    /// Factor of the auxiliary losses that layers add, such as the load balance of a router. At least 0.
    pub aux_weight: f64,
}

impl Default for JointConfig {
    fn default() -> Self {
        Self {
            optimizer: Method::new("adam"),
            schedule: Schedule::default(),
            balancer: Method::new("equal"),
            clip: None,
            sam: None,
            aux_weight: 0.01,
        }
    }
}

impl JointConfig {
    /// Sets the optimiser.
    #[must_use]
    pub fn optimizer(mut self, optimizer: Method) -> Self {
        self.optimizer = optimizer;
        self
    }

    /// Sets the learning rates.
    #[must_use]
    pub fn schedule(mut self, schedule: Schedule) -> Self {
        self.schedule = schedule;
        self
    }

    /// Sets the balancer.
    #[must_use]
    pub fn balancer(mut self, balancer: Method) -> Self {
        self.balancer = balancer;
        self
    }

    /// Bounds the gradients.
    #[must_use]
    pub fn clip(mut self, clip: Clip) -> Self {
        self.clip = Some(clip);
        self
    }

    /// Minimises the worst loss nearby.
    #[must_use]
    pub fn sam(mut self, sam: SamConfig) -> Self {
        self.sam = Some(sam);
        self
    }

    /// Sets the factor of the auxiliary losses.
    #[must_use]
    pub fn aux_weight(mut self, aux_weight: f64) -> Self {
        self.aux_weight = aux_weight;
        self
    }
}

/// Learns all tasks at once.
///
/// Batches that share one input tensor run through the model once. A loss weighting, equal weights among them, makes one
/// backward pass; the other balancers make one per task. The gradients of auxiliary losses are added to the balanced
/// direction as they are.
///
/// ```
/// use mtl_core::{Batch, Learner, Model, Seed, TaskSpec, learner::Step, models::{Mlp, MultiTask}};
/// use mtl_core::train::{Joint, JointConfig, Method};
/// use std::sync::Arc;
/// use tch::Tensor;
///
/// let tasks = vec![TaskSpec::classification("parity", 2), TaskSpec::classification("sign", 2)];
/// let model = MultiTask::new(Arc::new(Mlp::new(&[2, 8])?), tasks)?;
/// let params = model.init(Seed(1))?.trainable();
/// let config = JointConfig::default().balancer(Method::new("pcgrad"));
/// let mut joint = Joint::new(Arc::new(model), params, config)?;
///
/// let x = Tensor::from_slice(&[1.0f32, -1.0]).view([1, 2]);
/// let batch = |task| Batch { task, input: x.shallow_clone().into(), target: Tensor::from_slice(&[1i64]) };
/// let mut first_loss = |index| -> mtl_core::Result<f64> {
///     Ok(joint.observe(&[batch(0), batch(1)], Step { index, seed: Seed(1) })?.losses[0])
/// };
/// let before = first_loss(0)?;
/// assert!((1..20).try_fold(before, |_, step| first_loss(step))? < before);
/// # Ok::<(), mtl_core::Error>(())
/// ```
#[derive(Debug)]
pub struct Joint {
    model: Arc<dyn MultiTaskModel>,
    params: StateDict,
    optimizer: Box<dyn Optimizer>,
    balancer: Balancer,
    sam: Option<Sam>,
    config: JointConfig,
}

impl Joint {
    /// A learner that starts from `params`, of which those that require gradients are trained.
    ///
    /// # Errors
    ///
    /// [`Error::Unknown`] for an optimiser or balancer that does not exist, [`Error::Parse`] and [`Error::Config`] for
    /// their configuration and the rest of `config`.
    pub fn new(model: Arc<dyn MultiTaskModel>, params: StateDict, config: JointConfig) -> Result<Self> {
        Self::build(model, params, config, &Registry::new(OPTIMIZERS), &Registry::new(BALANCERS))
    }

    /// As [`new`](Self::new), with the methods of other registries.
    ///
    /// # Errors
    ///
    /// See [`new`](Self::new).
    pub fn build(
        model: Arc<dyn MultiTaskModel>,
        params: StateDict,
        config: JointConfig,
        optimizers: &Registry<dyn Optimizer>,
        balancers: &Registry<Balancer>,
    ) -> Result<Self> {
        config.schedule.check()?;
        config.clip.map_or(Ok(()), Clip::check)?;
        if !(0.0 <= config.aux_weight && config.aux_weight.is_finite()) {
            return Err(Error::config("aux_weight", "finite and at least 0", config.aux_weight));
        }
        if params.trainable_names().is_empty() {
            let must = "with at least one tensor that requires gradients (see `StateDict::trainable`)";
            return Err(Error::config("params", must, "all constant"));
        }
        Ok(Self {
            optimizer: optimizers.build(&config.optimizer.name, config.optimizer.config.clone())?,
            balancer: *balancers.build(&config.balancer.name, config.balancer.config.clone())?,
            sam: config.sam.clone().map(SamConfig::build).transpose()?,
            model,
            params,
            config,
        })
    }

    /// The parameters as they are now.
    pub fn params(&self) -> &StateDict {
        &self.params
    }

    /// The parameters, when training is over.
    pub fn into_params(self) -> StateDict {
        self.params
    }

    /// The model.
    pub fn model(&self) -> &Arc<dyn MultiTaskModel> {
        &self.model
    }

    /// What a state must have been saved with. As text: numbers of a parsed value may differ in the last bit.
    fn identity(&self) -> Result<serde_json::Value> {
        let config = serde_json::to_string(&self.config)
            .map_err(|e| Error::Parse { path: "config".to_owned(), message: e.to_string() })?;
        let tasks: Vec<&str> = self.model.tasks().iter().map(|task| task.name.as_str()).collect();
        Ok(json!({ "method": "joint", "config": config, "tasks": tasks }))
    }

    fn check_batches(&self, batches: &[Batch]) -> Result<()> {
        if batches.is_empty() {
            return Err(Error::config("batches", "at least one", "empty"));
        }
        match batches.iter().find(|batch| batch.input.batch() == 0) {
            Some(batch) => {
                Err(Error::config("batches", "non-empty", format!("empty for task {}", batch.task)))
            }
            None => Ok(()),
        }
    }
}

impl Learner for Joint {
    fn observe(&mut self, batches: &[Batch], step: Step) -> Result<StepReport> {
        self.check_batches(batches)?;
        let Self { model, params, optimizer, balancer, sam, config } = self;
        let aux_weight = config.aux_weight;
        let pass = Pass { model: &**model, params, batches, step, aux_weight };
        let (mut found, losses) = match sam {
            None => {
                let found = pass.balanced_gradients(balancer)?;
                let losses = found.losses.clone();
                (found, losses)
            }
            Some(sam) => {
                // The perturbation climbs the plain sum; the balancer sees the perturbed point alone, once per step.
                let here = pass.sum_gradients()?;
                let worst = sam.perturb(params, &here.direction)?;
                let there = Pass { params: &worst, ..pass };
                (there.balanced_gradients(balancer)?, here.losses)
            }
        };
        if let Some(clip) = config.clip {
            clip.apply(&mut found.direction, found.norm);
        }
        optimizer.step(params, &found.direction, config.schedule.at(step.index))?;
        if let Balancer::Losses(method) = balancer
            && method.looks_back()
        {
            let again = Pass { model: &**model, params, batches, step, aux_weight };
            method.after_step(&again.losses()?)?;
        }
        Ok(StepReport { losses, grad_norm: Some(found.norm) })
    }

    fn boundary(&mut self, event: &Boundary<'_>) -> Result<()> {
        self.balancer.boundary(event)
    }

    fn predict(&self, input: &Input, task: Option<usize>) -> Result<Tensor> {
        let only = (self.model.tasks().len() == 1).then_some(0);
        let ctx = match task.or(only) {
            Some(task) => Context::eval().with_task(task),
            None => Context::eval(),
        };
        no_grad(|| self.model.forward(&self.params, input, &ctx))
    }

    fn save(&self) -> Result<LearnerState> {
        let mut state = LearnerState { facts: self.identity()?, ..LearnerState::default() };
        state.put("p.", &self.params);
        state.put("o.", &self.optimizer.state());
        state.put("b.", &self.balancer.state());
        Ok(state)
    }

    fn load(&mut self, state: &LearnerState) -> Result<()> {
        let expected = self.identity()?;
        for key in ["method", "config", "tasks"] {
            let (found, wanted) = (state.fact::<serde_json::Value>(key)?, &expected[key]);
            if found != *wanted {
                let differences = format!("`{key}` is {found}, expected {wanted}");
                return Err(Error::Mismatch { what: "learner state".to_owned(), differences });
            }
        }
        let params = state.section("p.");
        params.same_layout(&self.params, "learner state")?;
        // All three are checked before the first is changed for good.
        let before = self.balancer.state().snapshot();
        self.balancer.load_state(&state.section("b."))?;
        if let Err(error) = self.optimizer.load_state(&state.section("o."), &self.params) {
            self.balancer.load_state(&before)?;
            return Err(error);
        }
        self.params.assign(&params)
    }
}
