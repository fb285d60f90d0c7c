//! The loop around a learner: evaluation, early stopping, checkpoints, interruption and resumption.
use super::hooks::{BatchSource, Hooks};
use crate::{
    Error, Learner, LearnerState, Result, Seed, StateDict,
    learner::{Boundary, Step},
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// What happens when a loss or gradient is not finite.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub enum OnDivergence {
    /// Training ends with the error; the last checkpoint is still good.
    #[default]
    Stop,
    /// The step is left out and counted; one more than `limit` of them end training.
    Skip {
        /// Most steps to leave out.
        limit: u64,
    },
}

/// How long to train, and what to do on the way. Counts of 0 mean never.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct FitConfig {
    /// Optimiser steps to make. At least 1.
    pub steps: u64,
    /// Steps between two evaluations; there is one more after the last step.
    pub eval_every: u64,
    /// Steps between two checkpoints.
    pub checkpoint_every: u64,
    /// Evaluations without a better score after which training stops and goes back to the best state.
    pub patience: Option<u64>,
    /// Whether a larger score is a better one.
    pub higher_is_better: bool,
    /// Steps after which the learner hears that an epoch has ended.
    pub steps_per_epoch: u64,
    /// What happens when a loss or gradient is not finite.
    pub on_divergence: OnDivergence,
}

impl Default for FitConfig {
    fn default() -> Self {
        Self::steps(1000)
    }
}

impl FitConfig {
    /// Training for `steps` steps, with nothing on the way.
    pub fn steps(steps: u64) -> Self {
        Self {
            steps,
            eval_every: 0,
            checkpoint_every: 0,
            patience: None,
            higher_is_better: true,
            steps_per_epoch: 0,
            on_divergence: OnDivergence::Stop,
        }
    }

    /// Sets the steps between two evaluations.
    #[must_use]
    pub fn eval_every(mut self, eval_every: u64) -> Self {
        self.eval_every = eval_every;
        self
    }

    /// Sets the steps between two checkpoints.
    #[must_use]
    pub fn checkpoint_every(mut self, checkpoint_every: u64) -> Self {
        self.checkpoint_every = checkpoint_every;
        self
    }

    /// Stops after `patience` evaluations without a better score.
    #[must_use]
    pub fn patience(mut self, patience: u64) -> Self {
        self.patience = Some(patience);
        self
    }

    /// Sets whether a larger score is a better one.
    #[must_use]
    pub fn higher_is_better(mut self, higher_is_better: bool) -> Self {
        self.higher_is_better = higher_is_better;
        self
    }

    /// Sets the steps of an epoch.
    #[must_use]
    pub fn steps_per_epoch(mut self, steps_per_epoch: u64) -> Self {
        self.steps_per_epoch = steps_per_epoch;
        self
    }

    /// Sets what happens when a loss or gradient is not finite.
    #[must_use]
    pub fn on_divergence(mut self, on_divergence: OnDivergence) -> Self {
        self.on_divergence = on_divergence;
        self
    }

    fn check(&self) -> Result<()> {
        if self.steps == 0 {
            return Err(Error::config("steps", "at least 1", 0));
        }
        if self.patience == Some(0) {
            return Err(Error::config("patience", "at least 1", 0));
        }
        if self.patience.is_some() && self.eval_every == 0 {
            return Err(Error::config("eval_every", "at least 1 with `patience`", 0));
        }
        Ok(())
    }
}

/// The best evaluation of a run.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Best {
    /// Steps made before it.
    pub step: u64,
    /// Its score.
    pub score: f64,
}

/// How training ended.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Outcome {
    /// Steps made, the skipped ones included.
    pub steps: u64,
    /// Whether patience ran out.
    pub stopped_early: bool,
    /// The best evaluation, if there was any.
    pub best: Option<Best>,
    /// Steps left out because a loss or gradient was not finite.
    pub skipped: u64,
}

/// What the loop itself has to remember.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
struct Book {
    steps: u64,
    skipped: u64,
    best_step: Option<u64>,
    /// Bits of the score: a parsed number may differ in the last one.
    best_bits: u64,
    /// Evaluations since the best.
    stale: u64,
}

impl Book {
    fn best(&self) -> Option<Best> {
        self.best_step.map(|step| Best { step, score: f64::from_bits(self.best_bits) })
    }
}

/// Prefix of the best state's tensors in a checkpoint.
const BEST: &str = "best.";

/// Trains `learner` on the batches of `source`, from the start or from a checkpoint.
///
/// Every step seeds libtorch from `seed` and its number. A run that is resumed ends with the same bits as one that was
/// never interrupted. With patience, the learner ends in the state of the best evaluation.
///
/// # Errors
///
/// [`Error::Interrupted`] after the state was saved because a stop was requested, [`Error::Config`] for `config` or a
/// checkpoint beyond its last step, [`Error::Parse`] for a state that is no checkpoint of this function,
/// [`Error::NonFinite`] for a score that is no number, and what `learner`, `source` and `hooks` return.
///
/// ```
/// use mtl_core::{Batch, Model, Result, Seed, TaskSpec, models::{Mlp, MultiTask}};
/// use mtl_core::train::{FitConfig, Joint, JointConfig, NoHooks, fit};
/// use std::sync::Arc;
/// use tch::Tensor;
///
/// let model = MultiTask::new(Arc::new(Mlp::new(&[2, 8])?), vec![TaskSpec::classification("sign", 2)])?;
/// let params = model.init(Seed(1))?.trainable();
/// let mut learner = Joint::new(Arc::new(model), params, JointConfig::default())?;
/// let mut source = |_step: u64| -> Result<Vec<Batch>> {
///     let input = Tensor::from_slice(&[1.0f32, 1.0]).view([1, 2]).into();
///     Ok(vec![Batch { task: 0, input, target: Tensor::from_slice(&[1i64]) }])
/// };
/// let outcome = fit(&mut learner, &mut source, &FitConfig::steps(10), Seed(1), &mut NoHooks, None)?;
/// assert_eq!((outcome.steps, outcome.stopped_early), (10, false));
/// # Ok::<(), mtl_core::Error>(())
/// ```
pub fn fit(
    learner: &mut dyn Learner,
    source: &mut dyn BatchSource,
    config: &FitConfig,
    seed: Seed,
    hooks: &mut dyn Hooks,
    from: Option<&LearnerState>,
) -> Result<Outcome> {
    config.check()?;
    let _span = tracing::info_span!("fit", steps = config.steps, seed = seed.0).entered();
    let mut run = Run { learner, config, book: Book::default(), best: None };
    if let Some(state) = from {
        run.unpack(state)?;
    }
    let mut stopped_early = run.out_of_patience();
    while run.book.steps < config.steps && !stopped_early {
        run.step(source, seed, hooks)?;
        let steps = run.book.steps;
        if is_due(steps, config.steps_per_epoch) {
            run.learner.boundary(&Boundary::EpochEnd { epoch: steps / config.steps_per_epoch - 1 })?;
        }
        if is_due(steps, config.eval_every) || (steps == config.steps && config.eval_every > 0) {
            run.evaluate(hooks)?;
            stopped_early = run.out_of_patience();
        }
        let stop = hooks.stop_requested();
        if stop || is_due(steps, config.checkpoint_every) {
            hooks.checkpoint(&run.pack()?, steps)?;
        }
        if stop {
            return Err(Error::Interrupted);
        }
    }
    if let Some(best) = &run.best {
        run.learner.load(best)?;
    }
    let Book { steps, skipped, .. } = run.book;
    if let Some(progress) = hooks.progress() {
        progress.finish(steps);
    }
    Ok(Outcome { steps, stopped_early, best: run.book.best(), skipped })
}

fn is_due(steps: u64, every: u64) -> bool {
    every > 0 && steps.is_multiple_of(every)
}

/// A run in progress.
struct Run<'a> {
    learner: &'a mut dyn Learner,
    config: &'a FitConfig,
    book: Book,
    /// State of the best evaluation, kept where patience may go back to it.
    best: Option<LearnerState>,
}

impl Run<'_> {
    fn step(&mut self, source: &mut dyn BatchSource, seed: Seed, hooks: &mut dyn Hooks) -> Result<()> {
        let index = self.book.steps;
        let batches = source.batches(index)?;
        seed.seed_torch(index);
        let observed = self.learner.observe(&batches, Step { index, seed });
        self.book.steps += 1;
        match observed {
            Ok(report) => {
                hooks.on_step(index, &report)?;
                if let Some(progress) = hooks.progress() {
                    progress.step(index + 1, self.config.steps, &report);
                }
                Ok(())
            }
            Err(error @ Error::Diverged { .. }) => {
                self.book.skipped += 1;
                match self.config.on_divergence {
                    OnDivergence::Skip { limit } if self.book.skipped <= limit => {
                        tracing::warn!("step {index} is left out: {error}");
                        Ok(())
                    }
                    _ => Err(error),
                }
            }
            Err(error) => Err(error),
        }
    }

    fn evaluate(&mut self, hooks: &mut dyn Hooks) -> Result<()> {
        let steps = self.book.steps;
        let Some(score) = hooks.evaluate(self.learner, steps)? else { return Ok(()) };
        if !score.is_finite() {
            return Err(Error::NonFinite { name: "score".to_owned(), index: 0 });
        }
        tracing::debug!(steps, score, "evaluated");
        let better = self.book.best().is_none_or(|best| {
            if self.config.higher_is_better { score > best.score } else { score < best.score }
        });
        if !better {
            self.book.stale += 1;
            return Ok(());
        }
        self.book =
            Book { best_step: Some(steps), best_bits: score.to_bits(), stale: 0, ..self.book.clone() };
        if self.config.patience.is_some() {
            self.best = Some(self.learner.save()?);
        }
        Ok(())
    }

    fn out_of_patience(&self) -> bool {
        self.config.patience.is_some_and(|patience| self.book.stale >= patience)
    }

    /// The learner's state with that of the loop.
    fn pack(&self) -> Result<LearnerState> {
        let LearnerState { mut tensors, facts } = self.learner.save()?;
        let mut best_facts = Value::Null;
        if let Some(best) = &self.best {
            tensors.extend(best.tensors.with_prefix(BEST));
            best_facts = best.facts.clone();
        }
        Ok(LearnerState { tensors, facts: json!({ "learner": facts, "fit": self.book, "best": best_facts }) })
    }

    /// Goes on from what [`pack`](Self::pack) gave.
    fn unpack(&mut self, state: &LearnerState) -> Result<()> {
        let book: Book = state.fact("fit")?;
        if book.steps > self.config.steps {
            let must = format!("at most `steps` ({})", self.config.steps);
            return Err(Error::config("step of the checkpoint", must, book.steps));
        }
        let tensors: StateDict = state.tensors.filter(|name| !name.starts_with(BEST));
        self.learner.load(&LearnerState { tensors, facts: state.fact("learner")? })?;
        let best_facts: Value = state.fact("best")?;
        self.best = (!best_facts.is_null())
            .then(|| LearnerState { tensors: state.tensors.strip_prefix(BEST), facts: best_facts });
        self.book = book;
        Ok(())
    }
}
