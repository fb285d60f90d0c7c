//! A Vision Transformer pre-trained on half of the classes, and what it takes to use it for the other half: a linear probe,
//! prompts, or fine-tuning all of it.
use super::{joint, setup};
use crate::runner::{Cell, CellContext};
use mtl_core::{
    Encoder, Learner, Model, Record, Result, Seed, StateDict, TaskSpec,
    data::{EpochSampler, LabelledImages, Normalize, TensorDataset},
    models::{MultiTask, VitConfig},
    optim::{AdamConfig, Decay, Schedule},
};
use mtl_prompt::{PromptTuning, prompts};
use rand::seq::SliceRandom;
use serde::Deserialize;
use serde_json::json;
use setup::{CLASSES, Run};
use std::sync::Arc;
use tch::Tensor;

/// Setting of the records.
pub(super) const SETTING: &str = "few-shot transfer";

/// Keys of the cell that pre-trains.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct PretrainKeys {
    train_examples: usize,
    test_examples: usize,
    batch: usize,
    /// Steps between two checkpoints.
    checkpoint_every: u64,
    steps: u64,
    lr: f64,
}

/// Keys of a cell that transfers.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct PromptKeys {
    train_examples: usize,
    test_examples: usize,
    batch: usize,
    /// Steps between two checkpoints.
    checkpoint_every: u64,
    method: Method,
    steps: u64,
    lr: f64,
    /// Training images of each class.
    shots: usize,
    /// Prompt tokens of a layer.
    tokens: i64,
}

/// What is compared.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Method {
    LinearProbe,
    VptShallow,
    VptDeep,
    FullFineTuning,
}

impl Method {
    fn name(self) -> &'static str {
        match self {
            Self::LinearProbe => "linear-probe",
            Self::VptShallow => "vpt-shallow",
            Self::VptDeep => "vpt-deep",
            Self::FullFineTuning => "full-fine-tuning",
        }
    }
}

impl PretrainKeys {
    pub(super) fn of(cell: &Cell) -> anyhow::Result<Self> {
        let keys: Self = cell.config()?;
        setup::check_training(keys.batch, keys.steps, keys.lr)?;
        Ok(keys)
    }
}

impl PromptKeys {
    pub(super) fn of(cell: &Cell) -> anyhow::Result<Self> {
        let keys: Self = cell.config()?;
        setup::check_training(keys.batch, keys.steps, keys.lr)?;
        setup::at_least_one("shots", keys.shots)?;
        setup::at_least_one("tokens", keys.tokens.max(0) as usize)?;
        Ok(keys)
    }
}

/// Trains a Vision Transformer on the lower half of the classes.
pub(super) fn pretrain(cell: &Cell, ctx: &mut CellContext) -> anyhow::Result<()> {
    let keys = PretrainKeys::of(cell)?;
    let data = setup::load(ctx.data_dir(), keys.train_examples, keys.test_examples)?;
    let normalize = data.train.normalize();
    let lower: Vec<i64> = (0..CLASSES / 2).collect();
    let train = half(&data.train.of_classes(&lower)?, normalize)?;
    let test = half(&data.test.of_classes(&lower)?, normalize)?;
    let encoder = setup::vit(&data.train)?.build()?;
    let model = MultiTask::new(Arc::new(encoder), train.tasks().to_vec())?;
    let recipe = setup::Recipe { balancer: "equal", lr: keys.lr, steps: keys.steps, aux_weight: 0.0 };
    let mut learner = setup::joint(model, None, &recipe, cell.seed())?;
    let mut resume = setup::Resume::open(ctx)?;
    let mut sampler = EpochSampler::new(train.len(), keys.batch, cell.seed())?;
    setup::train(
        ctx,
        &mut resume,
        &mut learner,
        cell.seed(),
        &Run::once(keys.steps, keys.checkpoint_every),
        &mut |step| train.joint_batch(&sampler.indices(step)),
        &mut |ctx, learner, step| {
            let accuracy = setup::evaluate(&mut |input| learner.predict(input, Some(0)), &test, 0)?;
            let record = Record::new("accuracy", accuracy).method("pre-training").setting("pre-training");
            Ok(ctx.record(record.task("lower half").step(step))?)
        },
    )?;
    let encoder = learner.params().filter(|name| !name.starts_with("heads."));
    encoder.save(ctx.artifact(joint::PARAMS)?, &Default::default())?;
    Ok(())
}

/// Transfers the pre-trained model to the upper half of the classes, from a few images of each.
pub(super) fn prompt(cell: &Cell, ctx: &mut CellContext) -> anyhow::Result<()> {
    let keys = PromptKeys::of(cell)?;
    let data = setup::load(ctx.data_dir(), keys.train_examples, keys.test_examples)?;
    let normalize = data.train.normalize();
    let upper: Vec<i64> = (CLASSES / 2..CLASSES).collect();
    let few = few_shot(&data.train, &upper, keys.shots, cell.seed())?;
    let train = half(&data.train.of_classes(&upper)?, normalize)?.subset(&few)?;
    let test = half(&data.test.of_classes(&upper)?, normalize)?;
    let vit = setup::vit(&data.train)?;
    let pretrained = StateDict::load(ctx.need("backbone")?.join(joint::PARAMS))?;
    let (mut learner, learned) = learner(&keys, &vit, pretrained, train.tasks(), cell.seed())?;
    let mut resume = setup::Resume::open(ctx)?;
    let mut sampler = EpochSampler::new(train.len(), keys.batch, cell.seed())?;
    let method = keys.method.name();
    setup::train(
        ctx,
        &mut resume,
        &mut *learner,
        cell.seed(),
        &Run::once(keys.steps, keys.checkpoint_every),
        &mut |step| train.joint_batch(&sampler.indices(step)),
        &mut |ctx, learner, step| {
            let accuracy = setup::evaluate(&mut |input| learner.predict(input, Some(0)), &test, 0)?;
            let record = Record::new("accuracy", accuracy).method(method).setting(SETTING).task("upper half");
            Ok(ctx.record(record.step(step))?)
        },
    )?;
    let record = Record::new("learned_parameters", learned as f64).method(method).setting(SETTING);
    ctx.record(record.task("upper half").step(keys.steps))?;
    Ok(())
}

/// The learner of a method, and how many parameters it learns.
fn learner(
    keys: &PromptKeys,
    vit: &VitConfig,
    pretrained: StateDict,
    tasks: &[TaskSpec],
    seed: Seed,
) -> anyhow::Result<(Box<dyn Learner>, usize)> {
    let encoder = vit.clone().build()?;
    let frame = prompts::Frame {
        layers: vit.num_hidden_layers as usize,
        dim: encoder.dim(),
        patch_values: vit.num_channels * vit.patch_size * vit.patch_size,
    };
    let model = MultiTask::new(Arc::new(encoder), tasks.to_vec())?;
    let heads = model.init(seed)?.filter(|name| name.starts_with("heads."));
    let (name, config) = match keys.method {
        Method::LinearProbe => ("linear-probe", json!({})),
        Method::VptShallow => ("visual-prompt-tuning", json!({ "tokens": keys.tokens, "deep": false })),
        Method::VptDeep => ("visual-prompt-tuning", json!({ "tokens": keys.tokens, "deep": true })),
        Method::FullFineTuning => {
            let mut params = pretrained;
            params.extend(heads);
            let learned = params.numel();
            // A tenth of the rate: the pre-trained features are to be adapted, not replaced.
            let lr = keys.lr / 10.0;
            let recipe = setup::Recipe { balancer: "equal", lr, steps: keys.steps, aux_weight: 0.0 };
            return Ok((Box::new(setup::joint(model, Some(params), &recipe, seed)?), learned));
        }
    };
    let mut learned = prompts::registry().build(name, config)?.init(&frame, seed)?;
    learned.extend(heads);
    let count = learned.numel();
    let schedule = Schedule::constant(keys.lr).decay(Decay::Cosine { steps: keys.steps, min_lr: 0.0 });
    let optimizer = Box::new(AdamConfig::default().build()?);
    let tuner = PromptTuning::new(Box::new(model), pretrained, learned, optimizer, schedule)?;
    Ok((Box::new(tuner), count))
}

/// Images of half of the classes as one classification task with labels from 0.
fn half(images: &LabelledImages, normalize: Normalize) -> Result<TensorDataset> {
    let half = CLASSES / 2;
    let labels = images.labels().remainder(half);
    let task = (TaskSpec::classification("half", half), labels);
    Ok(TensorDataset::new(images.pixels().shallow_clone(), vec![task])?.normalized(normalize))
}

/// Positions, among the images of `classes`, of `shots` images of each class, drawn by `seed`.
fn few_shot(images: &LabelledImages, classes: &[i64], shots: usize, seed: Seed) -> Result<Vec<i64>> {
    let labels = images.of_classes(classes)?.labels().shallow_clone();
    let mut picked = Vec::with_capacity(classes.len() * shots);
    for &class in classes {
        let of_class: Tensor = labels.eq(class).nonzero().flatten(0, -1);
        let mut positions = Vec::<i64>::try_from(&of_class)?;
        positions.shuffle(&mut seed.stream("shots", class as u64));
        picked.extend(positions.into_iter().take(shots));
    }
    Ok(picked)
}
