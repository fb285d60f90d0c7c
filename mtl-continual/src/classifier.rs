//! What the methods have in common: a model with one output per class, an optimiser, and which outputs compete.
use crate::{Scenario, buffer::Rows, methods::Setting};
use mtl_core::{
    Context, Error, Input, LearnerState, Model, Result, Seed, StateDict,
    learner::{Step, StepReport},
    no_grad,
    optim::Optimizer,
    train::descend,
};
use serde_json::json;
use tch::{Device, Kind, Tensor};

/// A classifier over all classes of a stream, of which the scenario lets some compete.
///
/// Methods hold one and add what is theirs: [`loss`](Self::loss) gives the masked cross-entropy of a set of rows,
/// [`descend`](Self::descend) makes the step.
#[derive(Debug)]
pub struct Classifier {
    model: Box<dyn Model>,
    params: StateDict,
    optimizer: Box<dyn Optimizer>,
    lr: f64,
    scenario: Scenario,
    /// Which classes belong to which task, `[tasks, classes]`.
    members: Tensor,
    /// Classes of the tasks begun so far, `[classes]`.
    seen: Tensor,
}

impl Classifier {
    /// Fresh parameters for `model`, which must put out one logit per class of the stream.
    ///
    /// # Errors
    ///
    /// [`Error::Config`] when the setting is not valid, and what [`Model::init`] returns.
    pub fn new(model: Box<dyn Model>, setting: Setting, seed: Seed) -> Result<Self> {
        setting.check()?;
        let params = model.init(seed.fork("model"))?.trainable();
        let (tasks, classes) = (setting.classes_of.len() as i64, setting.classes);
        let members = Tensor::zeros([tasks, classes], (Kind::Bool, Device::Cpu));
        for (task, own) in setting.classes_of.iter().enumerate() {
            let _ = members.get(task as i64).index_fill_(0, &Tensor::from_slice(own), 1i64);
        }
        let seen = Tensor::zeros([classes], (Kind::Bool, Device::Cpu));
        let Setting { scenario, lr, optimizer, .. } = setting;
        Ok(Self { model, params, optimizer, lr, scenario, members, seen })
    }

    /// Lets the classes of `task` compete from now on.
    ///
    /// # Errors
    ///
    /// [`Error::Config`] for an unknown task.
    pub fn begin_task(&mut self, task: usize) -> Result<()> {
        self.check_task(task)?;
        self.seen = self.seen.logical_or(&self.members.get(task as i64));
        Ok(())
    }

    /// Mean cross-entropy of `rows` over the classes that compete for each of them.
    ///
    /// # Errors
    ///
    /// [`Error::Config`] for a label that does not compete (its task has not begun, or it belongs to another task);
    /// what the model returns.
    pub fn loss(&self, rows: &Rows, ctx: &Context) -> Result<Tensor> {
        let logits = self.model.forward(&self.params, &rows.input.shallow_clone().into(), ctx)?; // [rows, classes]
        let competing = self.competing(&rows.task); // [rows, classes] or [1, classes]
        let classes = self.seen.numel() as i64;
        mtl_core::check::labels(&rows.label, "label", classes)?;
        let legal = competing.expand([rows.label.numel() as i64, classes], false).gather(
            1,
            &rows.label.unsqueeze(1),
            false,
        );
        if legal.all().int64_value(&[]) == 0 {
            let bad = legal.squeeze_dim(1).logical_not().to_kind(Kind::Int64).argmax(0, false);
            let label = rows.label.int64_value(&[bad.int64_value(&[])]);
            return Err(Error::config("label", "a class of a task that has begun", label));
        }
        let masked = logits.masked_fill(&competing.logical_not(), f64::NEG_INFINITY);
        Ok(masked.cross_entropy_for_logits(&rows.label))
    }

    /// One optimiser step down `loss`.
    ///
    /// # Errors
    ///
    /// [`Error::Diverged`] when the loss or a gradient is not finite; the parameters are then as before.
    pub fn descend(&mut self, loss: &Tensor, task: usize, step: Step) -> Result<StepReport> {
        descend(&mut self.params, loss, &format!("task {task}"), step, &mut *self.optimizer, self.lr)
    }

    /// Logits of `input` `[batch, classes]`, minus infinity where a class does not compete.
    ///
    /// # Errors
    ///
    /// [`Error::Config`] when the scenario is task-incremental and `task` is missing or unknown; what the model returns.
    pub fn predict(&self, input: &Input, task: Option<usize>) -> Result<Tensor> {
        let competing = match (self.scenario, task) {
            (Scenario::TaskIncremental, None) => {
                return Err(Error::config("task", "given in a task-incremental scenario", "missing"));
            }
            (Scenario::TaskIncremental, Some(task)) => {
                self.check_task(task)?;
                self.members.get(task as i64)
            }
            _ => self.seen.shallow_clone(),
        };
        no_grad(|| {
            let logits = self.model.forward(&self.params, input, &Context::eval())?;
            Ok(logits.masked_fill(&competing.logical_not(), f64::NEG_INFINITY))
        })
    }

    /// The parameters, by name.
    pub fn params(&self) -> &StateDict {
        &self.params
    }

    /// Puts parameters, optimiser and the classes seen into a state.
    pub fn save(&self) -> LearnerState {
        let mut state =
            LearnerState { facts: json!({ "scenario": self.scenario }), ..LearnerState::default() };
        state.put("p.", &self.params);
        state.put("o.", &self.optimizer.state());
        state.tensors.insert("b.seen", self.seen.copy());
        state
    }

    /// Becomes what [`save`](Self::save) saw.
    ///
    /// # Errors
    ///
    /// [`Error::Mismatch`] or [`Error::Config`] when the state is of another model, optimiser or scenario.
    pub fn load(&mut self, state: &LearnerState) -> Result<()> {
        let scenario: Scenario = state.fact("scenario")?;
        if scenario != self.scenario {
            return Err(Error::config("scenario of the state", self.scenario.name(), scenario.name()));
        }
        let params = state.section("p.");
        params.same_layout(&self.params, "the saved classifier")?;
        let seen = state.tensors.get("b.seen").filter(|t| t.size() == self.seen.size());
        let Some(seen) = seen else {
            return Err(Error::Mismatch {
                what: "the saved classifier".into(),
                differences: "`b.seen` does not fit".into(),
            });
        };
        let seen = seen.copy();
        self.optimizer.load_state(&state.section("o."), &self.params)?;
        self.params.assign(&params)?;
        self.seen = seen;
        Ok(())
    }

    /// Which classes compete for rows of these tasks.
    fn competing(&self, task: &Tensor) -> Tensor {
        match self.scenario {
            Scenario::TaskIncremental => self.members.index_select(0, task),
            _ => self.seen.unsqueeze(0),
        }
    }

    fn check_task(&self, task: usize) -> Result<()> {
        let tasks = self.members.size().first().copied().unwrap_or(0) as usize;
        if task < tasks { Ok(()) } else { Err(Error::config("task", format!("below {tasks}"), task)) }
    }
}
