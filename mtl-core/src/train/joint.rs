//! Joint training: every task at once, on parameters they share.
use super::{
    Method,
    flat::{Flat, FlatConfig},
    options::{GradSource, GramRoute, Options},
    pass::{Gradients, Pass},
    spare::Spare,
};
use crate::{
    Batch, Context, Error, Input, Learner, LearnerState, MultiTaskModel, Result, StateDict,
    analysis::affinity,
    balancing::{BALANCERS, Balancer, HeadGrad, Learned},
    learner::{Boundary, Step, StepReport},
    no_grad,
    optim::{Clip, OPTIMIZERS, Optimizer, Sam, SamConfig, Schedule},
    registry::Registry,
};
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::{cell::RefCell, sync::Arc};
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
    /// Seeks flat regions for each task apart; costs a second forward and backward pass for each task. Not with `sam`.
    pub flat: Option<FlatConfig>,
    /// What the balancer sees the gradients of.
    pub grad_source: GradSource,
    /// What single-task parameters get, where that is not to be what the balancer's authors do.
    pub head_grad: Option<HeadGrad>,
    /// How inner products of gradients are computed.
    pub gram: GramRoute,
    /// Steps between two reports of the inner products of the gradients, by balancers that do without; 0 for none.
    pub measure_every: u64,
    /// Steps between two reports of the affinity of the tasks (TAG), each of which costs a backward pass for each task and a
    /// forward pass for each pair; 0 for none. Needs one batch for each task and positive losses.
    pub affinity_every: u64,
    /// Steps between two reports of what layers trace, such as which experts a task took; 0 for none. Costs no pass.
    pub trace_every: u64,
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
            flat: None,
            grad_source: GradSource::default(),
            head_grad: None,
            gram: GramRoute::default(),
            measure_every: 0,
            affinity_every: 0,
            trace_every: 0,
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

    /// Seeks flat regions for each task apart.
    #[must_use]
    pub fn flat(mut self, flat: FlatConfig) -> Self {
        self.flat = Some(flat);
        self
    }

    /// Sets what the balancer sees the gradients of.
    #[must_use]
    pub fn grad_source(mut self, grad_source: GradSource) -> Self {
        self.grad_source = grad_source;
        self
    }

    /// Sets what single-task parameters get.
    #[must_use]
    pub fn head_grad(mut self, head_grad: HeadGrad) -> Self {
        self.head_grad = Some(head_grad);
        self
    }

    /// Sets how inner products of gradients are computed.
    #[must_use]
    pub fn gram(mut self, gram: GramRoute) -> Self {
        self.gram = gram;
        self
    }

    /// Sets the steps between two reports of inner products.
    #[must_use]
    pub fn measure_every(mut self, measure_every: u64) -> Self {
        self.measure_every = measure_every;
        self
    }

    /// Sets the steps between two reports of affinity.
    #[must_use]
    pub fn affinity_every(mut self, affinity_every: u64) -> Self {
        self.affinity_every = affinity_every;
        self
    }

    /// Sets the steps between two reports of traces.
    #[must_use]
    pub fn trace_every(mut self, trace_every: u64) -> Self {
        self.trace_every = trace_every;
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
/// backward pass; the other balancers make one per task, without forming the weight gradients of linear layers where inner
/// products are all that is needed. The gradients of auxiliary losses are added to the balanced direction as they are.
///
/// With [`FlatConfig`] two balancers work side by side, one on the gradients of the losses and one on those of the sharpness.
/// Numbers that a balancer learns are improved by an optimiser of the same kind at the same rate. Gradients that were kept for
/// each task stay allocated until those of the next step take their place.
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
    flat: Option<Flat>,
    /// Improves what the balancers learn; the names are `loss` and `flat`.
    tuner: Box<dyn Optimizer>,
    spare: Spare,
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
        let balancer =
            || Ok(*balancers.build(&config.balancer.name, config.balancer.config.clone())?) as Result<_>;
        if let (Some(HeadGrad::Own), Balancer::Losses(_)) = (config.head_grad, &balancer()?) {
            let must = "`weighted` or absent with a loss weighting, which makes one backward pass";
            return Err(Error::config("head_grad", must, "own"));
        }
        let optimizer = || optimizers.build(&config.optimizer.name, config.optimizer.config.clone());
        if config.flat.is_some() && config.sam.is_some() {
            return Err(Error::config("sam", "absent beside `flat`, which perturbs by itself", "present"));
        }
        if config.flat.is_some() && config.grad_source != GradSource::Parameters {
            return Err(Error::config("grad_source", "`parameters` with `flat`", "another"));
        }
        let flat = |flat: FlatConfig| flat.build(model.tasks().len(), &balancer);
        Ok(Self {
            optimizer: optimizer()?,
            tuner: optimizer()?,
            spare: Spare::default(),
            balancer: balancer()?,
            sam: config.sam.clone().map(SamConfig::build).transpose()?,
            flat: config.flat.clone().map(flat).transpose()?,
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

    /// State of all balancers.
    fn balancers(&self) -> StateDict {
        let mut state = self.balancer.state().with_prefix("loss.");
        state.extend(self.flat.iter().flat_map(Flat::state));
        state
    }

    /// Takes what [`balancers`](Self::balancers) gave; nothing is changed when a part does not fit.
    fn load_balancers(&mut self, state: &StateDict) -> Result<()> {
        let before = self.balancer.state().snapshot();
        self.balancer.load_state(&state.strip_prefix("loss."))?;
        let rest = state.filter(|name| !name.starts_with("loss."));
        let loaded = match &mut self.flat {
            Some(flat) => flat.load_state(&rest),
            None => rest.same_layout(&StateDict::new(), "balancer state"),
        };
        if loaded.is_err() {
            self.balancer.load_state(&before)?;
        }
        loaded
    }

    /// The numbers that balancers learn, as the optimiser knows them.
    fn learned(&mut self) -> StateDict {
        let mut numbers = StateDict::new();
        let flat = self.flat.as_mut().map(Flat::balancer_mut);
        for (name, balancer) in std::iter::once(("loss", &mut self.balancer)).chain(flat.map(|b| ("flat", b)))
        {
            if let Some(learned) = balancer.learned() {
                numbers.insert(name, Tensor::from_slice(&*learned.values));
            }
        }
        numbers
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
        let due = |every: u64| every > 0 && step.index.is_multiple_of(every);
        let Self { model, params, optimizer, balancer, sam, flat, tuner, spare, config } = self;
        let options = Options {
            aux_weight: config.aux_weight,
            head_grad: config.head_grad,
            grad_source: config.grad_source,
            gram: config.gram,
            measure: due(config.measure_every),
            trace: due(config.trace_every),
        };
        let lr = config.schedule.at(step.index);
        // First of all, so that what it refuses leaves the balancer as it was.
        let affinity = match due(config.affinity_every) {
            true => Some(affinity(&**model, params, batches, lr, step)?),
            false => None,
        };
        let traces = RefCell::default();
        let pass = Pass { model: &**model, params, batches, step, options, spare, traces: &traces };
        let (found, losses) = match (sam.as_ref(), flat.as_mut()) {
            (_, Some(flat)) => {
                let found = flat.gradients(&pass, balancer)?;
                let losses = found.losses.clone();
                (found, losses)
            }
            (None, None) => {
                let found = pass.balanced_gradients(balancer)?;
                let losses = found.losses.clone();
                (found, losses)
            }
            (Some(sam), None) => {
                // The perturbation climbs the plain sum; the balancer sees the perturbed point alone, once per step.
                let here = pass.sum_gradients()?;
                let worst = sam.perturb(params, &here.direction)?;
                let there = Pass { params: &worst, ..pass };
                (there.balanced_gradients(balancer)?, here.losses)
            }
        };
        let Gradients { mut direction, norm, weights, gram, .. } = found;
        if let Some(clip) = config.clip {
            clip.apply(&mut direction, norm);
        }
        optimizer.step(params, &direction, lr)?;
        tune("loss", balancer, &mut **tuner, lr)?;
        if let Some(flat) = flat {
            tune("flat", flat.balancer_mut(), &mut **tuner, lr)?;
        }
        if let Balancer::Losses(method) = balancer
            && method.looks_back()
        {
            let again = Pass { model: &**model, params, batches, step, options, spare, traces: &traces };
            method.after_step(&again.losses()?)?;
        }
        let traces = traces.into_inner();
        Ok(StepReport { losses, grad_norm: Some(norm), weights, gram, affinity, traces })
    }

    fn boundary(&mut self, event: &Boundary<'_>) -> Result<()> {
        self.balancer.boundary(event)?;
        self.flat.iter_mut().try_for_each(|flat| flat.boundary(event))
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
        state.put("b.", &self.balancers());
        state.put("t.", &self.tuner.state());
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
        // All are checked before the first is changed for good.
        let (balancers, tuned) = (self.balancers().snapshot(), self.tuner.state().snapshot());
        let learned_before = self.learned();
        self.load_balancers(&state.section("b."))?;
        // How many numbers there are is known with the state.
        let learned = self.learned();
        let loaded = self
            .tuner
            .load_state(&state.section("t."), &learned)
            .and_then(|()| self.optimizer.load_state(&state.section("o."), &self.params));
        if let Err(error) = loaded {
            self.load_balancers(&balancers)?;
            self.tuner.load_state(&tuned, &learned_before)?;
            return Err(error);
        }
        self.params.assign(&params)
    }
}

/// One step of what `balancer` learns, called `name` in the state of the optimiser.
fn tune(name: &str, balancer: &mut Balancer, tuner: &mut dyn Optimizer, lr: f64) -> Result<()> {
    let Some(Learned { values, grads }) = balancer.learned() else { return Ok(()) };
    if values.is_empty() || grads.len() != values.len() {
        return Ok(()); // Before the first step there is nothing to learn from.
    }
    let dict = |v: &[f64]| StateDict::from_iter([(name.to_owned(), Tensor::from_slice(v))]);
    let mut numbers = dict(values);
    tuner.step(&mut numbers, &dict(grads), lr)?;
    if let Some(changed) = numbers.get(name) {
        values.copy_from_slice(&Vec::<f64>::try_from(changed)?);
    }
    Ok(())
}
