//! One cell: a network of all widths, or one of a single width.
use super::{
    performance::{Grid, TASKS, covered, performance, variance},
    requests::{Answers, Moves, calibration},
};
use crate::runner::{Cell, CellContext};
use mtl_core::{
    Error, Learner, Model, Record, Result,
    data::{EpochSampler, JointSuite, LabelledImages, TensorDataset, idx},
    learner::StepReport,
    optim::Schedule,
    slimmable::{
        CiKd, EncoderRule, SlimInput, SlimNorm, SlimStage, SlimmableConfig, SlimmableNet, SlimmableTrainer,
        SlimmableTrainerConfig, WidthRatio,
    },
    train::{FitConfig, Hooks, fit},
};
use serde::Deserialize;
use std::{path::Path, sync::Arc};

/// Name of the method that trains every width by itself.
pub(super) const INDIVIDUAL: &str = "individual";

/// Preference of a task that a retrained model favours; the others share the rest.
const FAVOURED: f64 = 0.7;

/// Keys of every cell.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Keys {
    train_examples: usize,
    test_examples: usize,
    batch: usize,
    epochs: u64,
    lr: f64,
    /// Units of the encoder's stages at full width.
    stages: Vec<i64>,
    /// Hidden layers of each decoder at full width.
    decoder: Vec<i64>,
    /// Ratios that every part can run at.
    widths: Vec<WidthRatio>,
    /// What distils the widest encoder into the others; for `supernet`.
    distillation: Option<Distillation>,
    /// Equal parts that a preference is dealt out in; for `supernet`.
    parts: Option<usize>,
    /// Ratios whose cost with every part at that ratio is a budget; for `supernet`.
    budgets: Option<Vec<WidthRatio>>,
    /// Ratio of every part; for `fixed`.
    width: Option<WidthRatio>,
    /// A task with a weight of 0.7, the others sharing the rest, or `none`; for `fixed`.
    favours: Option<String>,
}

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Distillation {
    None,
    SliceMse,
    Gram,
}

impl Distillation {
    fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::SliceMse => "slice-mse",
            Self::Gram => "gram",
        }
    }

    fn loss(self) -> Option<CiKd> {
        match self {
            Self::None => None,
            Self::SliceMse => Some(CiKd::SliceMse),
            Self::Gram => Some(CiKd::Gram),
        }
    }
}

/// What a cell is for.
#[derive(Debug)]
enum Part {
    Supernet { distillation: Distillation, parts: usize, budgets: Vec<WidthRatio> },
    Fixed { width: WidthRatio, favours: Option<usize> },
}

/// A cell, understood.
#[derive(Debug)]
pub(super) struct Plan {
    keys: Keys,
    part: Part,
}

impl Plan {
    pub(super) fn of(cell: &Cell) -> anyhow::Result<Self> {
        let mut keys: Keys = cell.config()?;
        for (field, value) in [
            ("batch", keys.batch),
            ("epochs", keys.epochs as usize),
            ("train_examples", keys.train_examples / 5),
            ("test_examples", keys.test_examples),
        ] {
            if value == 0 {
                return Err(Error::config(field, "at least 1 (training: 5)", 0).into());
            }
        }
        let missing = |field: &'static str| Error::config(field, "given", "absent");
        let foreign = |field: &'static str| Error::config(field, "absent for this kind of cell", "given");
        let known = keys.widths.clone();
        let ratio = |field: &'static str, width: WidthRatio| {
            let must = || format!("among {:?}", known.iter().map(|w| w.get()).collect::<Vec<_>>());
            if known.contains(&width) { Ok(width) } else { Err(Error::config(field, must(), width)) }
        };
        let part = match cell.kind() {
            "supernet" => {
                if keys.width.is_some() || keys.favours.is_some() {
                    return Err(foreign("width").into());
                }
                let distillation = keys.distillation.ok_or_else(|| missing("distillation"))?;
                let parts = keys.parts.filter(|p| *p > 0).ok_or_else(|| missing("parts"))?;
                let budgets = keys.budgets.take().ok_or_else(|| missing("budgets"))?;
                budgets.iter().try_for_each(|budget| ratio("budgets", *budget).map(drop))?;
                Part::Supernet { distillation, parts, budgets }
            }
            "fixed" => {
                if keys.distillation.is_some() || keys.parts.is_some() || keys.budgets.is_some() {
                    return Err(foreign("distillation").into());
                }
                let width = ratio("width", keys.width.ok_or_else(|| missing("width"))?)?;
                let favours = match keys.favours.as_deref().ok_or_else(|| missing("favours"))? {
                    "none" => None,
                    name => Some(TASKS.iter().position(|(task, _)| *task == name).ok_or_else(|| {
                        Error::unknown("task", name, TASKS.iter().map(|(task, _)| *task).chain(["none"]))
                    })?),
                };
                Part::Fixed { width, favours }
            }
            other => return Err(Error::unknown("kind", other, ["supernet", "fixed"]).into()),
        };
        let plan = Self { keys, part };
        // The tasks do not matter here.
        plan.config(64).build(vec![mtl_core::TaskSpec::classification("class", 2)])?;
        Ok(plan)
    }

    fn config(&self, features: i64) -> SlimmableConfig {
        let stages: Vec<SlimStage> =
            self.keys.stages.iter().map(|&units| SlimStage::Dense { units, layers: 1 }).collect();
        SlimmableConfig::default()
            .input(SlimInput::Vector { features })
            .stages(&stages)
            .decoder(&self.keys.decoder)
            .widths(&self.keys.widths)
            .norm(SlimNorm::Layer)
    }
}

/// Training, calibration and test split.
struct Splits {
    train: TensorDataset,
    calibration: TensorDataset,
    test: TensorDataset,
}

fn load(keys: &Keys, dir: Option<&Path>) -> anyhow::Result<Splits> {
    let (train, test) = match dir {
        Some(dir) => idx::load_idx_folder(dir)?,
        None => {
            let digits = mtl_bench::data::digits()?;
            (digits.train, digits.test)
        }
    };
    let images = |samples, n| LabelledImages::from_samples(samples, 10).map(|images| images.take(n));
    let (train, test) = (images(&train, keys.train_examples)?, images(&test, keys.test_examples)?);
    let normalize = train.normalize();
    let suite = |images: &LabelledImages| {
        let suite = JointSuite::new(images).normalized(normalize).class()?.parity()?;
        suite.grouping("large", &[5, 6, 7, 8, 9])?.quadrant_ink()?.build()
    };
    let (train, test) = (suite(&train)?, suite(&test)?);
    let (kept, rest): (Vec<i64>, Vec<i64>) = (0..train.len() as i64).partition(|i| i % 5 == 4);
    Ok(Splits { calibration: train.subset(&kept)?, train: train.subset(&rest)?, test })
}

/// Trains and measures.
pub(super) fn run(cell: &Cell, ctx: &mut CellContext) -> anyhow::Result<()> {
    let plan = Plan::of(cell)?;
    let splits = load(&plan.keys, ctx.data_dir())?;
    let features: i64 = splits.train.inputs().size().iter().skip(1).product();
    let net = plan.config(features).build(splits.train.tasks().to_vec())?;
    match &plan.part {
        Part::Supernet { distillation, parts, budgets } => {
            let config = SlimmableTrainerConfig::default().distillation(distillation.loss());
            let trainer = train(&plan.keys, net, config, None, &splits.train, cell, ctx)?;
            supernet(&trainer, &splits, distillation.name(), (*parts, budgets), ctx)
        }
        Part::Fixed { width, favours } => {
            // Only the layout is cut out of the slimmable network; the parameters are drawn anew for these sizes.
            let whole = net.init(cell.seed())?;
            let (net, _) = net.extract(&whole, &net.uniform(*width))?;
            let config = SlimmableTrainerConfig::default().distillation(None).subnets(0);
            let trainer = train(&plan.keys, net, config, *favours, &splits.train, cell, ctx)?;
            let method = match favours.and_then(|task| TASKS.get(task)) {
                Some((task, _)) => favouring(task),
                None => INDIVIDUAL.to_owned(),
            };
            for (task, (name, _)) in TASKS.iter().enumerate() {
                let value = performance(&mut |input| trainer.predict(input, Some(task)), &splits.test, task)?;
                let record = Record::new("performance", value).method(&method).task(*name);
                ctx.record(record.setting(uniform(*width)))?;
            }
            Ok(())
        }
    }
}

/// Method of a network of one width that was trained for one preference.
pub(super) fn favouring(task: &str) -> String {
    format!("for {task}")
}

/// Setting of a network with every part at one ratio.
pub(super) fn uniform(width: WidthRatio) -> String {
    at(width, width)
}

/// Setting of an encoder and a decoder.
pub(super) fn at(encoder: WidthRatio, decoder: WidthRatio) -> String {
    format!("encoder {encoder}, decoder {decoder}")
}

/// Setting of a budget.
pub(super) fn budget(width: WidthRatio) -> String {
    format!("budget of {width}")
}

/// Name of a rule in settings.
pub(super) fn rule_name(rule: EncoderRule) -> &'static str {
    match rule {
        EncoderRule::Anchored => "anchored",
        EncoderRule::Joint => "joint",
    }
}

/// Trains a network; losses of numbers are divided by the variance of their targets, so that 1 is knowing nothing.
fn train(
    keys: &Keys,
    net: SlimmableNet,
    config: SlimmableTrainerConfig,
    favours: Option<usize>,
    data: &TensorDataset,
    cell: &Cell,
    ctx: &mut CellContext,
) -> anyhow::Result<SlimmableTrainer> {
    let tasks = data.tasks().len();
    let weight = |(task, spec): (usize, &mtl_core::TaskSpec)| {
        let scale = match spec.kind {
            mtl_core::TaskKind::Regression { .. } => 1.0 / variance(data.targets(task)?),
            _ => 1.0,
        };
        let preference = match favours {
            None => 1.0,
            Some(favoured) if favoured == task => tasks as f64 * FAVOURED,
            Some(_) => tasks as f64 * (1.0 - FAVOURED) / (tasks as f64 - 1.0),
        };
        Ok(scale * preference)
    };
    let weights = data.tasks().iter().enumerate().map(weight).collect::<anyhow::Result<Vec<f64>>>()?;
    let config = config.schedule(Schedule::constant(keys.lr)).task_weights(&weights);
    let params = net.init(cell.seed())?.trainable();
    let mut trainer = SlimmableTrainer::new(Arc::new(net), params, config)?;
    let mut sampler = EpochSampler::new(data.len(), keys.batch, cell.seed())?;
    let epoch = sampler.steps_per_epoch();
    let total = keys.epochs * epoch;
    let mut source = |step| data.joint_batch(&sampler.indices(step));
    let fit_config = FitConfig::steps(total).steps_per_epoch(epoch);
    fit(&mut trainer, &mut source, &fit_config, cell.seed(), &mut Progress { ctx, total }, None)?;
    Ok(trainer)
}

/// Measures all widths, answers all requests, and says what raising a preference does.
fn supernet(
    trainer: &SlimmableTrainer,
    splits: &Splits,
    method: &str,
    (parts, budgets): (usize, &[WidthRatio]),
    ctx: &mut CellContext,
) -> anyhow::Result<()> {
    let net = trainer.net();
    let tested = Grid::measure(trainer, &splits.test)?;
    for (task, encoder, decoder, value) in tested.cells() {
        let record = Record::new("performance", value).method(method).setting(at(encoder, decoder));
        ctx.record(record.task(TASKS[task].0))?;
    }
    ctx.record(Record::new("mean_performance", tested.mean()).method(method).setting("all widths"))?;
    let table = calibration(net, &Grid::measure(trainer, &splits.calibration)?)?;
    for rule in [EncoderRule::Anchored, EncoderRule::Joint] {
        let mut moves = Moves::default();
        for &width in budgets {
            let answers = Answers::find(net, &table, (parts, net.macs(&net.uniform(width))?), rule)?;
            moves.add(answers.moves(&tested));
            if rule == EncoderRule::Anchored {
                answered(&answers, &tested, (method, &budget(width)), parts, ctx)?;
            }
        }
        let share = |some: u64, all: u64| if all == 0 { 1.0 } else { some as f64 / all as f64 };
        for (metric, value) in [
            ("pairs", moves.pairs as f64),
            ("wide_share", share(moves.wide, moves.pairs)),
            ("kept_share", share(moves.kept, moves.pairs)),
            ("moved_share", share(moves.moved, moves.pairs)),
            ("moved_kept_share", share(moves.moved_kept, moves.moved)),
        ] {
            ctx.record(Record::new(metric, value).method(method).setting(rule_name(rule)))?;
        }
    }
    Ok(())
}

/// The volume that the answers at one budget cover, and the mean width and performance of each task by its preference.
fn answered(
    answers: &Answers,
    tested: &Grid,
    (method, setting): (&str, &str),
    parts: usize,
    ctx: &mut CellContext,
) -> anyhow::Result<()> {
    let points: Vec<Vec<f64>> = answers.iter().map(|(_, widths)| tested.of(widths)).collect();
    ctx.record(Record::new("hypervolume", covered(&points)?).method(method).setting(setting))?;
    for (task, (name, _)) in TASKS.iter().enumerate() {
        for part in 0..=parts {
            let of_part = answers.iter().filter(|(request, _)| request[task] == part);
            let found: Vec<(f64, f64)> =
                of_part.map(|(_, widths)| (widths.decoders[task].get(), tested.of(widths)[task])).collect();
            let n = found.len() as f64;
            let width = found.iter().map(|(width, _)| width).sum::<f64>() / n;
            let value = found.iter().map(|(_, value)| value).sum::<f64>() / n;
            for (metric, value) in [("preferred_width", width), ("preferred_performance", value)] {
                let record = Record::new(metric, value).method(method).setting(setting).task(*name);
                ctx.record(record.step(part as u64))?;
            }
        }
    }
    Ok(())
}

/// Between the training loop and the cell; a cell is short and starts anew when it is interrupted.
struct Progress<'a> {
    ctx: &'a mut CellContext,
    total: u64,
}

impl Hooks for Progress<'_> {
    fn on_step(&mut self, step: u64, _report: &StepReport) -> Result<()> {
        if step.is_multiple_of(20) {
            self.ctx.progress(step + 1, self.total);
        }
        Ok(())
    }

    fn stop_requested(&self) -> bool {
        self.ctx.stop_requested()
    }
}
