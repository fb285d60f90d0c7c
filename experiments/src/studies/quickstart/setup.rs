//! What the cells share: data, models, scoring, and the way they train.
use crate::runner::CellContext;
pub(super) use crate::studies::pages::evaluate;
use mtl_core::{
    Batch, Error, Learner, LearnerState, Model, Result, Seed, StateDict,
    data::{JointSuite, LabelledImages, Normalize, TensorDataset, idx},
    learner::StepReport,
    models::{MultiTask, VitConfig},
    optim::{Clip, Decay, Schedule},
    train::{FitConfig, Hooks, Joint, JointConfig, Method, fit},
};
use mtl_moe::M3VitConfig;
use serde_json::json;
use std::{path::Path, sync::Arc};

/// Training and test images.
pub(super) struct Data {
    pub(super) train: LabelledImages,
    pub(super) test: LabelledImages,
}

/// Number of classes of every data set this study runs on.
pub(super) const CLASSES: i64 = 10;

/// The embedded digits, or the IDX files in `dir`; at most so many images of each split.
pub(super) fn load(dir: Option<&Path>, train: usize, test: usize) -> anyhow::Result<Data> {
    let (train_samples, test_samples) = match dir {
        Some(dir) => idx::load_idx_folder(dir)?,
        None => {
            let digits = mtl_bench::data::digits()?;
            (digits.train, digits.test)
        }
    };
    let images = |samples, n| LabelledImages::from_samples(samples, CLASSES).map(|images| images.take(n));
    Ok(Data { train: images(&train_samples, train)?, test: images(&test_samples, test)? })
}

/// Refuses 0.
pub(super) fn at_least_one(field: &str, value: usize) -> Result<()> {
    if value == 0 { Err(Error::config(field, "at least 1", value)) } else { Ok(()) }
}

/// Refuses a training that would do nothing.
pub(super) fn check_training(batch: usize, steps: u64, lr: f64) -> Result<()> {
    at_least_one("batch", batch)?;
    at_least_one("steps", steps as usize)?;
    if lr > 0.0 && lr.is_finite() { Ok(()) } else { Err(Error::config("lr", "positive and finite", lr)) }
}

/// A small Vision Transformer for images of this size: patches of 2 × 2 pixels up to 15 × 15, of 4 × 4 above.
pub(super) fn vit(images: &LabelledImages) -> Result<VitConfig> {
    let (channels, height, width) = images.dims();
    if height != width {
        return Err(Error::shape("images", "square", vec![channels, height, width]));
    }
    let patch = if height < 16 { 2 } else { 4 };
    if height % patch != 0 {
        return Err(Error::config("side of the images", format!("a multiple of {patch}"), height));
    }
    let mut config =
        VitConfig::default().image(channels, height, patch).size(DIM, 4, 4).intermediate_size(2 * DIM);
    // The usual 0.02 is meant for widths near 768; a narrow model learns sooner from weights of the scale 1/√width.
    config.initializer_range = 1.0 / (DIM as f64).sqrt();
    Ok(config)
}

/// Width of the Vision Transformers.
const DIM: i64 = 32;

/// The mixture of experts that costs as much per token as the dense network of [`vit`].
pub(super) fn moe_config(tasks: usize) -> M3VitConfig {
    M3VitConfig::new(tasks).experts(8).top_k(2).expert_hidden(DIM)
}

/// The three tasks on the same images: class, parity, and whether the class is one of the upper half.
pub(super) fn joint_suite(images: &LabelledImages, normalize: Normalize) -> Result<TensorDataset> {
    let upper: Vec<i64> = (CLASSES / 2..CLASSES).collect();
    JointSuite::new(images).normalized(normalize).class()?.parity()?.grouping("large", &upper)?.build()
}

/// How a joint learner learns.
pub(super) struct Recipe {
    /// Name of the gradient balancer.
    pub(super) balancer: &'static str,
    /// Highest learning rate; it falls to 0 along a cosine.
    pub(super) lr: f64,
    pub(super) steps: u64,
    /// Weight of auxiliary losses.
    pub(super) aux_weight: f64,
}

/// A learner of all tasks of `model`, from `params` or from fresh ones.
pub(super) fn joint(
    model: MultiTask,
    params: Option<StateDict>,
    recipe: &Recipe,
    seed: Seed,
) -> Result<Joint> {
    let params = params.map_or_else(|| model.init(seed), Ok)?.trainable();
    let warmup = (recipe.steps / 10).max(1);
    let decay = Decay::Cosine { steps: recipe.steps.max(warmup + 1), min_lr: 0.0 };
    let config = JointConfig::default()
        .schedule(Schedule::constant(recipe.lr).warmup(warmup).decay(decay))
        .balancer(Method::new(recipe.balancer))
        .clip(Clip::Norm { max: 1.0 })
        .aux_weight(recipe.aux_weight);
    Joint::new(Arc::new(model), params, config)
}

/// How far a cell was when it was stopped or killed.
pub(super) struct Resume {
    found: Option<(usize, LearnerState)>,
}

impl Resume {
    /// The newest checkpoint of the cell, if there is one; the records made before it are restored.
    pub(super) fn open(ctx: &mut CellContext) -> Result<Self> {
        let Some(path) = ctx.load_checkpoint()? else { return Ok(Self { found: None }) };
        let state = LearnerState::read(path)?;
        let inner = LearnerState { tensors: state.tensors.shallow(), facts: state.fact("fit")? };
        Ok(Self { found: Some((state.fact("pass")?, inner)) })
    }

    /// The state inside the only pass of a cell.
    pub(super) fn state(self) -> Option<LearnerState> {
        self.found.map(|(_, state)| state)
    }
}

/// One pass of training out of those that a cell makes, one after the other.
pub(super) struct Run {
    pub(super) pass: usize,
    pub(super) passes: usize,
    pub(super) steps: u64,
    /// Steps between two evaluations; there is always one at the end.
    pub(super) eval_every: u64,
    /// Steps between two checkpoints.
    pub(super) checkpoint_every: u64,
}

impl Run {
    /// The only pass of a cell, evaluated at its end.
    pub(super) fn once(steps: u64, checkpoint_every: u64) -> Self {
        Self { pass: 0, passes: 1, steps, eval_every: steps, checkpoint_every }
    }
}

/// Scores the learner after so many steps and records what it finds.
pub(super) type Evaluate<'a> = dyn FnMut(&mut CellContext, &dyn Learner, u64) -> anyhow::Result<()> + 'a;

/// Trains one pass, going on from where the cell was; a pass that lies before that is skipped.
pub(super) fn train(
    ctx: &mut CellContext,
    resume: &mut Resume,
    learner: &mut dyn Learner,
    seed: Seed,
    run: &Run,
    batches: &mut dyn FnMut(u64) -> Result<Vec<Batch>>,
    evaluate: &mut Evaluate<'_>,
) -> anyhow::Result<()> {
    if resume.found.as_ref().is_some_and(|(pass, _)| *pass > run.pass) {
        return Ok(());
    }
    let state = resume.found.take().map(|(_, state)| state);
    let config =
        FitConfig::steps(run.steps).eval_every(run.eval_every).checkpoint_every(run.checkpoint_every);
    let mut hooks = CellHooks { ctx, run, evaluate, failure: None };
    let mut source = |step| batches(step);
    let outcome = fit(learner, &mut source, &config, seed, &mut hooks, state.as_ref());
    match hooks.failure {
        Some(failure) => Err(failure),
        None => Ok(outcome.map(drop)?),
    }
}

/// Puts the checkpoints of a training loop into those of the cell.
pub(super) fn save(ctx: &mut CellContext, state: &LearnerState, pass: usize) -> Result<()> {
    let facts = json!({ "pass": pass, "fit": state.facts });
    let state = LearnerState { tensors: state.tensors.shallow(), facts };
    ctx.save_checkpoint_file(|path| state.write(path))
}

/// Between the training loop and the cell.
struct CellHooks<'a, 'b> {
    ctx: &'a mut CellContext,
    run: &'a Run,
    evaluate: &'a mut Evaluate<'b>,
    /// What went wrong in an evaluation, which may be of another kind than the loop's own errors.
    failure: Option<anyhow::Error>,
}

impl Hooks for CellHooks<'_, '_> {
    fn on_step(&mut self, step: u64, _report: &StepReport) -> Result<()> {
        let Run { pass, passes, steps, .. } = *self.run;
        self.ctx.progress(pass as u64 * steps + step + 1, passes as u64 * steps);
        Ok(())
    }

    fn evaluate(&mut self, learner: &dyn Learner, steps: u64) -> Result<Option<f64>> {
        (self.evaluate)(self.ctx, learner, steps).map(|()| None).map_err(|failure| {
            let brief = Error::config("evaluation", "without an error", &failure);
            self.failure = Some(failure);
            brief
        })
    }

    fn checkpoint(&mut self, state: &LearnerState, _steps: u64) -> Result<()> {
        save(self.ctx, state, self.run.pass)
    }

    fn stop_requested(&self) -> bool {
        self.ctx.stop_requested()
    }
}
