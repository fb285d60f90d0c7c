//! One training: data, method, what is measured.
use crate::runner::{Cell, CellContext};
use mtl_core::{
    Context, Error, Learner, Record, Result, Seed, TaskSpec,
    data::{EpochSampler, LabelledImages, Normalize, OverlaidPairs, TensorDataset, idx},
    learner::StepReport,
    loss::{predictions, task_loss},
    models::{Mlp, MultiTask},
    no_grad,
    optim::{SamConfig, Schedule},
    train::{FitConfig, FlatAggregation, FlatConfig, Hooks, Joint, JointConfig, Method, fit},
};
use rand::seq::SliceRandom;
use serde::Deserialize;
use std::{path::Path, sync::Arc};
use tch::{Kind, Tensor};

/// Number of classes of every data set this study runs on.
const CLASSES: i64 = 10;

/// One in so many training images is set aside for validation.
const VALIDATION_PART: usize = 5;

/// Keys of a cell.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Keys {
    /// Most training images, those for validation included.
    train_examples: usize,
    test_examples: usize,
    /// Pairs made of each image.
    rounds: u64,
    batch: usize,
    epochs: u64,
    lr: f64,
    /// Width of the two hidden layers.
    width: i64,
    balancer: BalancerName,
    variant: Variant,
    /// Radius of the neighbourhood; 0 for the variants without one.
    rho: f64,
    /// Whether the radius is relative to the size of each weight.
    adaptive: bool,
    /// Radius within which sharpness is measured, the same for all.
    sharpness_rho: f64,
}

#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum BalancerName {
    Cagrad,
    Pcgrad,
    Mgda,
}

impl BalancerName {
    fn name(self) -> &'static str {
        match self {
            Self::Cagrad => "cagrad",
            Self::Pcgrad => "pcgrad",
            Self::Mgda => "mgda",
        }
    }
}

/// How a balancer is trained.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Variant {
    /// As it is.
    Plain,
    /// For twice the epochs.
    Double,
    /// At the worst point of the sum of the losses.
    Sam,
    /// Flat regions for each task, losses and sharpness balanced apart.
    Flat,
    /// Flat regions for each task, the gradients at the worst points balanced as they are.
    Direct,
}

impl Keys {
    pub(super) fn of(cell: &Cell) -> anyhow::Result<Self> {
        let keys: Self = cell.config()?;
        for (field, value) in [("epochs", keys.epochs), ("batch", keys.batch as u64), ("rounds", keys.rounds)]
        {
            if value == 0 {
                return Err(Error::config(field, "at least 1", value).into());
            }
        }
        for (field, value) in [("lr", keys.lr), ("sharpness_rho", keys.sharpness_rho)] {
            if !(value > 0.0 && value.is_finite()) {
                return Err(Error::config(field, "positive and finite", value).into());
            }
        }
        let radius = !matches!(keys.variant, Variant::Plain | Variant::Double);
        if radius != (keys.rho > 0.0) || !keys.rho.is_finite() {
            let must = "positive for `sam`, `flat` and `direct`, and 0 for the others";
            return Err(Error::config("rho", must, keys.rho).into());
        }
        if keys.width < 1 {
            return Err(Error::config("width", "at least 1", keys.width).into());
        }
        Ok(keys)
    }

    /// Name of the method in the records.
    fn method(&self) -> String {
        let balancer = self.balancer.name();
        match self.variant {
            Variant::Plain => balancer.to_owned(),
            Variant::Double => format!("{balancer}-2x"),
            Variant::Sam => format!("sam-{balancer}"),
            Variant::Flat => format!("f-{balancer}"),
            Variant::Direct => format!("f-{balancer}-direct"),
        }
    }

    /// Backward passes of a step on two tasks.
    fn backward_passes(&self) -> f64 {
        match self.variant {
            Variant::Plain | Variant::Double => 2.0,
            Variant::Sam => 3.0,
            Variant::Flat | Variant::Direct => 4.0,
        }
    }

    fn joint(&self) -> JointConfig {
        let config = JointConfig::default()
            .schedule(Schedule::constant(self.lr))
            .balancer(Method::new(self.balancer.name()))
            .measure_every(1);
        let flat = FlatConfig::default().rho(self.rho).adaptive(self.adaptive);
        match self.variant {
            Variant::Plain | Variant::Double => config,
            Variant::Sam => config.sam(SamConfig::default().rho(self.rho).adaptive(self.adaptive)),
            Variant::Flat => config.flat(flat),
            Variant::Direct => config.flat(flat.aggregation(FlatAggregation::Direct)),
        }
    }
}

/// Pairs to train on, to choose by, and to report on; no two of them show the same image.
struct Splits {
    train: TensorDataset,
    validation: TensorDataset,
    test: TensorDataset,
}

impl Splits {
    fn load(dir: Option<&Path>, keys: &Keys, seed: Seed) -> anyhow::Result<Self> {
        let (train, test) = match dir {
            Some(dir) => idx::load_idx_folder(dir)?,
            None => {
                let digits = mtl_bench::data::digits()?;
                (digits.train, digits.test)
            }
        };
        let all = LabelledImages::from_samples(&train, CLASSES)?.take(keys.train_examples);
        let test = LabelledImages::from_samples(&test, CLASSES)?.take(keys.test_examples);
        // The same images are set aside whatever the seed, so that tuning never sees what is trained on later as a test.
        let mut order: Vec<i64> = (0..all.len() as i64).collect();
        order.shuffle(&mut Seed(0).stream("validation", 0));
        let (aside, rest) = order.split_at(all.len() / VALIDATION_PART);
        let pick = |index: &[i64]| {
            let index = Tensor::from_slice(index);
            LabelledImages::new(
                all.pixels().index_select(0, &index),
                all.labels().index_select(0, &index),
                CLASSES,
            )
        };
        let (validation, train) = (pick(aside)?, pick(rest)?);
        let train = OverlaidPairs::new(&train).rounds(keys.rounds).build(seed)?;
        let by: Normalize = train.normalize();
        let pairs = |images| OverlaidPairs::new(images).rounds(keys.rounds).normalized(by).build(seed);
        Ok(Self { validation: pairs(&validation)?, test: pairs(&test)?, train })
    }
}

/// Trains and measures.
pub(super) fn run(cell: &Cell, ctx: &mut CellContext) -> anyhow::Result<()> {
    let keys = Keys::of(cell)?;
    let seed = cell.seed();
    let data = Splits::load(ctx.data_dir(), &keys, seed)?;
    let pixels: i64 = data.train.inputs().size().iter().skip(1).product();
    let mlp = Mlp::new(&[pixels, keys.width, keys.width])?;
    let model = Arc::new(MultiTask::new(Arc::new(mlp), data.train.tasks().to_vec())?);
    let params = mtl_core::Model::init(&*model, seed)?.trainable();
    let mut learner = Joint::new(model.clone(), params, keys.joint())?;
    let mut sampler = EpochSampler::new(data.train.len(), keys.batch, seed)?;
    let epochs = if keys.variant == Variant::Double { 2 * keys.epochs } else { keys.epochs };
    let steps = epochs * sampler.steps_per_epoch();
    // A cell takes seconds: it is not saved on the way, and starts again when it was interrupted.
    let mut watch = Watch { ctx, steps, measured: 0, conflicts: 0 };
    let mut source = |step| data.train.joint_batch(&sampler.indices(step));
    fit(&mut learner, &mut source, &FitConfig::steps(steps), seed, &mut watch, None)?;
    let conflicts = (watch.measured > 0).then(|| watch.conflicts as f64 / watch.measured as f64);

    let method = keys.method();
    let (split, setting) = match cell.kind() {
        "tune" => {
            (&data.validation, format!("rho {}{}", keys.rho, if keys.adaptive { " adaptive" } else { "" }))
        }
        _ => (&data.test, "test".to_owned()),
    };
    let record =
        |metric: &str, value: f64| Record::new(metric, value).method(&*method).setting(&*setting).step(steps);
    for (task, spec) in split.tasks().iter().enumerate() {
        ctx.record(record("accuracy", accuracy(&learner, split, task)?).task(&*spec.name))?;
    }
    if cell.kind() == "tune" {
        return Ok(());
    }
    for (spec, rise) in sharpness(&learner, &*model, &data.train, keys.sharpness_rho)? {
        ctx.record(record("sharpness", rise).task(spec.name))?;
    }
    if let Some(share) = conflicts {
        ctx.record(record("conflict_share", share))?;
    }
    ctx.record(record("steps", steps as f64))?;
    ctx.record(record("backward_passes", keys.backward_passes()))?;
    Ok(())
}

/// Share of right answers of one task.
fn accuracy(learner: &Joint, data: &TensorDataset, task: usize) -> Result<f64> {
    let spec = data.tasks().get(task).ok_or_else(|| Error::config("task", "one of the data's", task))?;
    let mut right = 0;
    for indices in data.chunks(512) {
        let batch = data.batch(task, &indices)?;
        let output = learner.predict(&batch.input, Some(task))?;
        right += no_grad(|| -> Result<i64> {
            Ok(predictions(spec, &output)?.eq_tensor(&batch.target).sum(Kind::Int64).int64_value(&[]))
        })?;
    }
    Ok(right as f64 / data.len() as f64)
}

/// For each task, the rise of its loss after one ascent step of length `rho` in the shared parameters, on the first 1024
/// training pairs. One step finds the largest rise within the radius to first order.
fn sharpness(
    learner: &Joint,
    model: &dyn mtl_core::MultiTaskModel,
    data: &TensorDataset,
    rho: f64,
) -> Result<Vec<(TaskSpec, f64)>> {
    let sam = SamConfig::default().rho(rho).build()?;
    let indices: Vec<i64> = (0..data.len().min(1024) as i64).collect();
    let batches = data.joint_batch(&indices)?;
    let params = learner.params();
    let loss = |params: &mtl_core::StateDict, task: usize, spec: &TaskSpec| -> Result<Tensor> {
        let batch = batches.get(task).ok_or_else(|| Error::config("task", "one of the data's", task))?;
        let output = model.forward(params, &batch.input, &Context::eval().with_task(task))?;
        task_loss(spec, &output, &batch.target)
    };
    let rise = |(task, spec): (usize, &TaskSpec)| {
        let here = loss(params, task, spec)?;
        let grads = params.gradients(&here, false)?.filter(|name| model.is_shared(name));
        let worst = sam.perturb(params, &grads)?;
        let there = no_grad(|| loss(&worst, task, spec))?;
        Ok((spec.clone(), there.double_value(&[]) - here.double_value(&[])))
    };
    data.tasks().iter().enumerate().map(rise).collect()
}

/// Counts conflicting gradients in the last quarter of training.
struct Watch<'a> {
    ctx: &'a mut CellContext,
    steps: u64,
    measured: u64,
    conflicts: u64,
}

impl Hooks for Watch<'_> {
    fn on_step(&mut self, step: u64, report: &StepReport) -> Result<()> {
        self.ctx.progress(step + 1, self.steps);
        if let Some(gram) = &report.gram
            && 4 * step >= 3 * self.steps
        {
            self.measured += 1;
            self.conflicts += u64::from(gram.get(0, 1) < 0.0);
        }
        Ok(())
    }

    fn stop_requested(&self) -> bool {
        self.ctx.stop_requested()
    }
}
