//! What a model is: a function of its parameters, its input and a context.
use crate::{ParamSource, Result, Seed, StateDict, TaskSpec};
use rand_chacha::ChaCha8Rng;
use std::{cell::RefCell, fmt::Debug};
use tch::Tensor;

/// What goes into a model.
#[derive(Debug)]
#[non_exhaustive]
pub struct Input {
    /// Images `[batch, channels, height, width]`, feature vectors `[batch, features]` or token ids `[batch, tokens]`.
    pub values: Tensor,
    /// For token inputs: 1 where there is a token, 0 where there is padding, `[batch, tokens]`.
    pub mask: Option<Tensor>,
}

impl Input {
    /// Number of examples.
    pub fn batch(&self) -> i64 {
        self.values.size().first().copied().unwrap_or(0)
    }

    /// Another handle on the same storage.
    #[must_use]
    pub fn shallow(&self) -> Self {
        Self { values: self.values.shallow_clone(), mask: self.mask.as_ref().map(Tensor::shallow_clone) }
    }
}

impl From<Tensor> for Input {
    fn from(values: Tensor) -> Self {
        Self { values, mask: None }
    }
}

/// Examples of one task.
#[derive(Debug)]
pub struct Batch {
    /// Index of the task.
    pub task: usize,
    /// What goes in.
    pub input: Input,
    /// What should come out; the shape depends on the [`TaskKind`](crate::TaskKind).
    pub target: Tensor,
}

/// Under which circumstances a model runs: the task, training or not, and where chance comes from.
///
/// It also collects what a layer has to say besides its output: auxiliary losses (load balance of a router) and, when
/// asked for, traces (which experts a token took).
#[derive(Debug)]
pub struct Context {
    task: Option<usize>,
    training: Option<(Seed, u64)>,
    tracing: bool,
    aux: RefCell<Vec<(String, Tensor)>>,
    traces: RefCell<Vec<(String, Tensor)>>,
    /// Shared representations, where they are asked for.
    representations: Option<RefCell<Vec<Tensor>>>,
}

impl Context {
    /// A context for evaluation: no dropout, no noise.
    pub fn eval() -> Self {
        Self {
            task: None,
            training: None,
            tracing: false,
            aux: RefCell::default(),
            traces: RefCell::default(),
            representations: None,
        }
    }

    /// A context for training step `step` of the run with `seed`.
    pub fn train(seed: Seed, step: u64) -> Self {
        Self { training: Some((seed, step)), ..Self::eval() }
    }

    /// Sets the task that the model is to do.
    #[must_use]
    pub fn with_task(mut self, task: usize) -> Self {
        self.task = Some(task);
        self
    }

    /// Asks the layers for traces.
    #[must_use]
    pub fn with_traces(mut self) -> Self {
        self.tracing = true;
        self
    }

    /// Asks the model for the representation that all its heads start from.
    #[must_use]
    pub fn with_representation(mut self) -> Self {
        self.representations = Some(RefCell::default());
        self
    }

    /// A model says here which representation all its heads start from; kept only when asked for.
    pub fn represent(&self, representation: &Tensor) {
        if let Some(kept) = &self.representations {
            kept.borrow_mut().push(representation.shallow_clone());
        }
    }

    /// Takes the shared representations that the model named, in the graph.
    pub fn take_representations(&self) -> Vec<Tensor> {
        self.representations.as_ref().map(RefCell::take).unwrap_or_default()
    }

    /// The same circumstances for `task`, with nothing collected yet; [`absorb`](Self::absorb) brings the rest back.
    #[must_use]
    pub fn for_task(&self, task: usize) -> Self {
        Self { task: Some(task), training: self.training, tracing: self.tracing, ..Self::eval() }
    }

    /// Takes over the auxiliary losses and traces that `other` collected.
    pub fn absorb(&self, other: Self) {
        self.aux.borrow_mut().extend(other.aux.into_inner());
        self.traces.borrow_mut().extend(other.traces.into_inner());
    }

    /// Index of the task, where one is known.
    pub fn task(&self) -> Option<usize> {
        self.task
    }

    /// Whether this is a training step.
    pub fn is_training(&self) -> bool {
        self.training.is_some()
    }

    /// The random stream of this step for `purpose`; `None` in evaluation, where nothing is random.
    ///
    /// Give each layer a purpose of its own, such as `"noise {prefix}"`.
    pub fn stream(&self, purpose: &str) -> Option<ChaCha8Rng> {
        self.training.map(|(seed, step)| seed.stream(purpose, step))
    }

    /// Adds an auxiliary loss; the learner weights and sums them.
    pub fn add_aux(&self, name: impl Into<String>, loss: Tensor) {
        self.aux.borrow_mut().push((name.into(), loss));
    }

    /// Takes the auxiliary losses collected so far, in the order they were added.
    pub fn take_aux(&self) -> Vec<(String, Tensor)> {
        self.aux.take()
    }

    /// Adds a trace, which is computed only when traces were asked for.
    pub fn trace(&self, name: impl FnOnce() -> String, value: impl FnOnce() -> Tensor) {
        if self.tracing {
            self.traces.borrow_mut().push((name(), value()));
        }
    }

    /// Takes the traces collected so far, in the order they were added.
    pub fn take_traces(&self) -> Vec<(String, Tensor)> {
        self.traces.take()
    }
}

/// What one forward pass costs for one example.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Cost {
    /// Multiply-accumulate operations.
    pub macs: u64,
    /// Parameters read.
    pub params: u64,
}

impl std::ops::Add for Cost {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self { macs: self.macs + other.macs, params: self.params + other.params }
    }
}

/// A function of parameters, input and context; all its own fields are configuration.
pub trait Model: Debug + Send + Sync {
    /// Fresh parameters, none of which requires gradients yet (see [`StateDict::trainable`]).
    ///
    /// # Errors
    ///
    /// When the configuration asks for more memory than there is.
    fn init(&self, seed: Seed) -> Result<StateDict>;

    /// The output for `input`; its shape depends on the model.
    ///
    /// # Errors
    ///
    /// When a parameter is missing, a shape does not fit, or the context lacks the task the model needs.
    fn forward(&self, params: &dyn ParamSource, input: &Input, ctx: &Context) -> Result<Tensor>;
}

/// What an encoder makes of an input.
#[derive(Debug)]
pub struct Features {
    /// One vector per example, `[batch, dim]`.
    pub pooled: Tensor,
    /// One vector per position, `[batch, positions, dim]`, row by row for images; absent where there are none.
    pub positions: Option<Tensor>,
}

/// A model whose output is features, to be shared by several heads.
pub trait Encoder: Debug + Send + Sync {
    /// Fresh parameters; see [`Model::init`].
    ///
    /// # Errors
    ///
    /// See [`Model::init`].
    fn init(&self, seed: Seed) -> Result<StateDict>;

    /// Features of `input`.
    ///
    /// # Errors
    ///
    /// See [`Model::forward`].
    fn encode(&self, params: &dyn ParamSource, input: &Input, ctx: &Context) -> Result<Features>;

    /// Width of the features.
    fn dim(&self) -> i64;

    /// Rows and columns of the positions; `None` where the encoder has none.
    fn grid(&self) -> Option<(i64, i64)> {
        None
    }

    /// Whether the features depend on the task, as with a task-conditioned router.
    fn is_task_conditioned(&self) -> bool {
        false
    }

    /// Cost of one example.
    fn cost(&self) -> Cost;
}

/// A model that does several tasks; [`Context::task`] says which.
pub trait MultiTaskModel: Model {
    /// The tasks, in the order of their indices.
    fn tasks(&self) -> &[TaskSpec];

    /// Whether the parameter called `name` is used by more than one task: what a gradient balancer works on.
    fn is_shared(&self, name: &str) -> bool;

    /// The outputs of all tasks for one input.
    ///
    /// # Errors
    ///
    /// See [`Model::forward`].
    fn forward_all(&self, params: &dyn ParamSource, input: &Input, ctx: &Context) -> Result<Vec<Tensor>>;

    /// Cost of one example of `task`.
    fn cost(&self, task: usize) -> Cost;
}
