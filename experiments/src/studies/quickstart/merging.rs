//! Model merging: the pre-trained encoder fine-tuned on each task, and the results merged into one encoder again.
use super::{joint, setup};
use crate::runner::{Cell, CellContext};
use anyhow::Context as _;
use mtl_core::{
    Context, Error, Model, MultiTaskModel, Record, StateDict,
    data::{EpochSampler, TensorDataset},
    models::MultiTask,
    no_grad,
};
use mtl_merge::Recipe;
use serde::Deserialize;
use setup::Run;
use std::{path::PathBuf, sync::Arc};

/// Setting of the records.
pub(super) const SETTING: &str = "model merging";

/// Artifact with the head of a fine-tuned model.
const HEAD: &str = "head.safetensors";

/// Tasks that a model is fine-tuned for, in the order of the suite.
const TASKS: [&str; 3] = ["class", "parity", "large"];

/// Keys of a cell that fine-tunes.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct FinetuneKeys {
    train_examples: usize,
    test_examples: usize,
    batch: usize,
    /// Steps between two checkpoints.
    checkpoint_every: u64,
    task: String,
    steps: u64,
    lr: f64,
}

/// Keys of a cell that merges.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct MergeKeys {
    train_examples: usize,
    test_examples: usize,
    #[serde(rename = "batch")]
    _batch: usize,
    #[serde(rename = "checkpoint_every")]
    _checkpoint_every: u64,
    method: Method,
    /// Scaling factors of task arithmetic; the best on the validation split is used.
    scalings: Vec<f64>,
}

/// What is compared.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Method {
    /// The encoder before fine-tuning under the heads trained afterwards.
    Pretrained,
    WeightAveraging,
    TaskArithmetic,
    /// Each task's own encoder: one model per task, which merging wants to replace.
    FineTuned,
}

impl Method {
    fn name(self) -> &'static str {
        match self {
            Self::Pretrained => "pretrained",
            Self::WeightAveraging => "weight-averaging",
            Self::TaskArithmetic => "task-arithmetic",
            Self::FineTuned => "fine-tuned",
        }
    }
}

impl FinetuneKeys {
    pub(super) fn of(cell: &Cell) -> anyhow::Result<Self> {
        let keys: Self = cell.config()?;
        if !TASKS.contains(&keys.task.as_str()) {
            return Err(Error::unknown("task", &keys.task, TASKS).into());
        }
        setup::check_training(keys.batch, keys.steps, keys.lr)?;
        Ok(keys)
    }

    fn index(&self) -> usize {
        TASKS.iter().position(|&task| task == self.task).unwrap_or(0)
    }
}

impl MergeKeys {
    pub(super) fn of(cell: &Cell) -> anyhow::Result<Self> {
        let keys: Self = cell.config()?;
        if keys.scalings.is_empty() || keys.scalings.iter().any(|s| !s.is_finite()) {
            let must = "finite numbers, at least one";
            return Err(Error::config("scalings", must, format!("{:?}", keys.scalings)).into());
        }
        Ok(keys)
    }
}

/// The training images without the last fifth, and that fifth for choosing scaling factors.
fn fit_and_validation(train: &TensorDataset) -> mtl_core::Result<(TensorDataset, TensorDataset)> {
    let (n, cut) = (train.len() as i64, (train.len() as i64 * 4 / 5).max(1));
    let fit: Vec<i64> = (0..cut).collect();
    let rest: Vec<i64> = (cut.min(n - 1)..n).collect();
    Ok((train.subset(&fit)?, train.subset(&rest)?))
}

/// Fine-tunes the pre-trained encoder, with a new head, on one task.
pub(super) fn finetune(cell: &Cell, ctx: &mut CellContext) -> anyhow::Result<()> {
    let keys = FinetuneKeys::of(cell)?;
    let data = setup::load(ctx.data_dir(), keys.train_examples, keys.test_examples)?;
    let suite = setup::joint_suite(&data.train, data.train.normalize())?;
    let (train, _) = fit_and_validation(&suite.with_tasks(&[keys.index()])?)?;
    let encoder = setup::vit(&data.train)?.build()?;
    let model = MultiTask::new(Arc::new(encoder), train.tasks().to_vec())?;
    let mut params = StateDict::load(ctx.need("backbone")?.join(joint::PARAMS))?;
    params.extend(model.init(cell.seed())?.filter(|name| name.starts_with("heads.")));
    let recipe = setup::Recipe { balancer: "equal", lr: keys.lr, steps: keys.steps, aux_weight: 0.0 };
    let mut learner = setup::joint(model, Some(params), &recipe, cell.seed())?;
    let mut resume = setup::Resume::open(ctx)?;
    let mut sampler = EpochSampler::new(train.len(), keys.batch, cell.seed())?;
    setup::train(
        ctx,
        &mut resume,
        &mut learner,
        cell.seed(),
        &Run::once(keys.steps, keys.checkpoint_every),
        &mut |step| train.joint_batch(&sampler.indices(step)),
        &mut |_, _, _| Ok(()),
    )?;
    let is_head = |name: &str| name.starts_with("heads.");
    learner.params().filter(|name| !is_head(name)).save(ctx.artifact(joint::PARAMS)?, &Default::default())?;
    learner.params().filter(is_head).save(ctx.artifact(HEAD)?, &Default::default())?;
    Ok(())
}

/// What a merging cell works with.
struct Merging {
    model: MultiTask,
    base: PathBuf,
    tuned: Vec<PathBuf>,
    heads: StateDict,
}

impl Merging {
    fn open(ctx: &CellContext, data: &setup::Data, suite: &TensorDataset) -> anyhow::Result<Self> {
        let model = MultiTask::new(Arc::new(setup::vit(&data.train)?.build()?), suite.tasks().to_vec())?;
        let dirs = TASKS.iter().map(|task| ctx.need(&format!("finetuned-{task}")));
        let dirs: Vec<PathBuf> = dirs.collect::<mtl_core::Result<_>>()?;
        let mut heads = StateDict::new();
        for dir in &dirs {
            heads.extend(StateDict::load(dir.join(HEAD))?);
        }
        let base = ctx.need("backbone")?.join(joint::PARAMS);
        Ok(Self { model, base, tuned: dirs.iter().map(|dir| dir.join(joint::PARAMS)).collect(), heads })
    }

    /// Merges the fine-tuned checkpoints on disk by `recipe` and loads the result.
    fn merged(&self, mut recipe: Recipe, weight: f64) -> anyhow::Result<StateDict> {
        for path in &self.tuned {
            recipe = recipe.model(path.to_str().context("a path that is not UTF-8")?, weight);
        }
        let dir = tempfile::tempdir()?;
        let out = dir.path().join("merged.safetensors");
        recipe.run(&out)?;
        Ok(StateDict::load(&out)?)
    }

    fn arithmetic(&self, scaling: f64) -> anyhow::Result<StateDict> {
        let base = self.base.to_str().context("a path that is not UTF-8")?;
        self.merged(Recipe::new("task_arithmetic").base(base).parameter("lambda", scaling), 1.0)
    }

    /// Scores of all tasks with one encoder.
    fn scores(&self, encoder: &StateDict, data: &TensorDataset) -> anyhow::Result<Vec<f64>> {
        let mut params = encoder.shallow();
        params.extend(self.heads.shallow());
        let score = |task| {
            let ctx = Context::eval().with_task(task);
            setup::evaluate(&mut |input| no_grad(|| self.model.forward(&params, input, &ctx)), data, task)
        };
        (0..self.model.tasks().len()).map(score).collect()
    }

    /// The scaling factor with the best mean score on `validation`, the smallest of several.
    fn best_scaling(&self, scalings: &[f64], validation: &TensorDataset) -> anyhow::Result<f64> {
        let mut best = (f64::NEG_INFINITY, 0.0);
        for &scaling in scalings {
            let scores = self.scores(&self.arithmetic(scaling)?, validation)?;
            let mean = scores.iter().sum::<f64>() / scores.len() as f64;
            if mean > best.0 {
                best = (mean, scaling);
            }
        }
        Ok(best.1)
    }
}

/// Merges and scores by one method.
pub(super) fn merge(cell: &Cell, ctx: &mut CellContext) -> anyhow::Result<()> {
    let keys = MergeKeys::of(cell)?;
    let data = setup::load(ctx.data_dir(), keys.train_examples, keys.test_examples)?;
    let normalize = data.train.normalize();
    let test = setup::joint_suite(&data.test, normalize)?;
    let (_, validation) = fit_and_validation(&setup::joint_suite(&data.train, normalize)?)?;
    let merging = Merging::open(ctx, &data, &test)?;
    let method = keys.method.name();
    let scores = match keys.method {
        Method::Pretrained => merging.scores(&StateDict::load(&merging.base)?, &test)?,
        Method::WeightAveraging => merging.scores(&merging.merged(Recipe::new("linear"), 1.0)?, &test)?,
        Method::TaskArithmetic => {
            let scaling = merging.best_scaling(&keys.scalings, &validation)?;
            ctx.record(Record::new("scaling", scaling).method(method).setting(SETTING))?;
            merging.scores(&merging.arithmetic(scaling)?, &test)?
        }
        Method::FineTuned => {
            let own = |(task, path): (usize, &PathBuf)| -> anyhow::Result<f64> {
                Ok(merging.scores(&StateDict::load(path)?, &test)?[task])
            };
            merging.tuned.iter().enumerate().map(own).collect::<anyhow::Result<_>>()?
        }
    };
    for (spec, score) in test.tasks().iter().zip(scores) {
        let record = Record::new(spec.metric.name(), score).method(method).setting(SETTING);
        ctx.record(record.task(&spec.name))?;
    }
    Ok(())
}
