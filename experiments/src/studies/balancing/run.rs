//! One cell: a suite of tasks, an architecture, a balancer, a seed.
use crate::{
    runner::{Cell, CellContext},
    studies::pages::evaluate,
};
use mtl_core::{
    Context, Error, Learner, MultiTaskModel, Record, Result, Seed, TaskSpec,
    architectures::{ARCHITECTURES, StagedEncoder},
    balancing::BALANCERS,
    data::{
        EpochSampler, JointSuite, LabelledImages, OverlaidPairs, Response, SyntheticRegression,
        TensorDataset, idx,
    },
    learner::StepReport,
    models::Mlp,
    optim::Schedule,
    registry::Registry,
    train::{FitConfig, Hooks, Joint, JointConfig, Method, fit},
};
use serde::Deserialize;
use serde_json::{Value, json};
use std::{path::Path, sync::Arc};
use tch::{Kind, Tensor};

/// Name of the method that trains one model for each task.
pub(super) const SINGLE: &str = "single-task";

/// Keys of a cell.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Keys {
    suite: Suite,
    /// One of the architectures of `mtl_core::architectures`.
    architecture: String,
    /// One of the balancers of `mtl_core::balancing`, or `single-task`.
    method: String,
    /// Fields of the architecture's configuration.
    #[serde(default)]
    architecture_config: Value,
    /// Fields of the balancer's configuration.
    #[serde(default)]
    balancer_config: Value,
    /// Widths of the hidden layers of the shared network.
    widths: Vec<i64>,
    train_examples: usize,
    test_examples: usize,
    batch: usize,
    steps: u64,
    lr: f64,
}

/// The tasks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Suite {
    /// Three regressions that pull apart, of scales 1, 1 and 100.
    Conflict,
    /// Three regressions on nearly the same projection, of one scale.
    Aligned,
    /// Two regressions on orthogonal projections.
    Unrelated,
    /// Two regressions with a cosine of 0.5 between their projections.
    Related,
    /// Two regressions with a cosine of 0.95.
    Akin,
    /// Two digits on one canvas: which is the left one, which the right one.
    MultiDigits,
    /// Class, parity and upper half of a digit, and whether it has a closed loop.
    Attributes,
}

impl Suite {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Conflict => "conflict",
            Self::Aligned => "aligned",
            Self::Unrelated => "unrelated",
            Self::Related => "related",
            Self::Akin => "akin",
            Self::MultiDigits => "multi-digits",
            Self::Attributes => "attributes",
        }
    }

    fn synthetic(self) -> Option<SyntheticRegression> {
        let family = SyntheticRegression::default();
        let waves = |cosine| family.clone().scales(&[1.0; 2]).cosine(cosine).response(Response::Sinusoids);
        match self {
            Self::Conflict => Some(family.clone().scales(&[1.0, 1.0, 100.0]).cosine(-0.45)),
            Self::Aligned => Some(family.clone().cosine(0.9)),
            Self::Unrelated => Some(waves(0.0)),
            Self::Related => Some(waves(0.5)),
            Self::Akin => Some(waves(0.95)),
            Self::MultiDigits | Self::Attributes => None,
        }
    }

    /// Training and test split.
    fn load(
        self,
        keys: &Keys,
        dir: Option<&Path>,
        seed: Seed,
    ) -> anyhow::Result<(TensorDataset, TensorDataset)> {
        if let Some(family) = self.synthetic() {
            let split = |name, n| family.split(seed, name, n);
            return Ok((split("train", keys.train_examples)?, split("test", keys.test_examples)?));
        }
        let (train, test) = match dir {
            Some(dir) => idx::load_idx_folder(dir)?,
            None => {
                let digits = mtl_bench::data::digits()?;
                (digits.train, digits.test)
            }
        };
        let images = |samples, n| LabelledImages::from_samples(samples, 10).map(|images| images.take(n));
        let (train, test) = (images(&train, keys.train_examples)?, images(&test, keys.test_examples)?);
        if self == Self::MultiDigits {
            let pairs = OverlaidPairs::new(&train).rounds(2).build(seed)?;
            let normalize = pairs.normalize();
            // The same test pairs for every seed.
            return Ok((pairs, OverlaidPairs::new(&test).normalized(normalize).build(Seed(0))?));
        }
        let normalize = train.normalize();
        let suite = |images: &LabelledImages| {
            let suite = JointSuite::new(images).normalized(normalize);
            let upper = suite.class()?.parity()?.grouping("large", &[5, 6, 7, 8, 9])?;
            upper.grouping("loop", &[0, 6, 8, 9])?.build()
        };
        Ok((suite(&train)?, suite(&test)?))
    }
}

impl Keys {
    pub(super) fn of(cell: &Cell) -> anyhow::Result<Self> {
        let keys: Self = cell.config()?;
        for (field, value) in [
            ("batch", keys.batch),
            ("steps", keys.steps as usize),
            ("train_examples", keys.train_examples),
            ("test_examples", keys.test_examples),
        ] {
            if value == 0 {
                return Err(Error::config(field, "at least 1", 0).into());
            }
        }
        keys.architecture()?;
        if keys.method != SINGLE {
            Registry::new(BALANCERS).build(&keys.method, object(&keys.balancer_config))?;
        }
        Ok(keys)
    }

    fn architecture(&self) -> Result<Box<dyn mtl_core::architectures::Architecture>> {
        Registry::new(ARCHITECTURES).build(&self.architecture, object(&self.architecture_config))
    }

    /// What the records of this cell are held apart by.
    fn setting(&self) -> String {
        format!("{}, {}", self.suite.name(), self.architecture)
    }
}

fn object(value: &Value) -> Value {
    if value.is_null() { json!({}) } else { value.clone() }
}

/// Trains and scores.
pub(super) fn run(cell: &Cell, ctx: &mut CellContext) -> anyhow::Result<()> {
    let keys = Keys::of(cell)?;
    let (train, test) = keys.suite.load(&keys, ctx.data_dir(), cell.seed())?;
    let all: Vec<usize> = (0..train.tasks().len()).collect();
    let passes: Vec<Vec<usize>> =
        if keys.method == SINGLE { all.iter().map(|&task| vec![task]).collect() } else { vec![all] };
    for (pass, tasks) in passes.iter().enumerate() {
        let (train, test) = (train.with_tasks(tasks)?, test.with_tasks(tasks)?);
        let inputs: i64 = train.inputs().size().iter().skip(1).product();
        let widths: Vec<i64> = std::iter::once(inputs).chain(keys.widths.iter().copied()).collect();
        let encoder: Arc<dyn StagedEncoder> = Arc::new(Mlp::new(&widths)?);
        let model = keys.architecture()?.model(encoder, train.tasks().to_vec())?;
        let params = model.init(cell.seed())?.trainable();
        let balancer = if keys.method == SINGLE {
            Method::new("equal")
        } else {
            Method::new(&keys.method).config(object(&keys.balancer_config))
        };
        let config = JointConfig::default().schedule(Schedule::constant(keys.lr)).balancer(balancer);
        let mut learner = Joint::new(model.clone(), params, config)?;
        let mut sampler = EpochSampler::new(train.len(), keys.batch, cell.seed())?;
        let mut source = |step| train.joint_batch(&sampler.indices(step));
        let epoch = (train.len() / keys.batch).max(1) as u64;
        let fit_config = FitConfig::steps(keys.steps).steps_per_epoch(epoch);
        let mut hooks = Progress {
            ctx: &mut *ctx,
            done: pass as u64 * keys.steps,
            total: passes.len() as u64 * keys.steps,
        };
        fit(&mut learner, &mut source, &fit_config, cell.seed(), &mut hooks, None)?;
        for (task, spec) in test.tasks().iter().enumerate() {
            let score = evaluate(&mut |input| learner.predict(input, Some(task)), &test, task)?;
            let record = Record::new(spec.metric.name(), score).method(&keys.method).setting(keys.setting());
            ctx.record(record.task(&spec.name).step(keys.steps))?;
        }
        if let Some(divergence) = gate_divergence(&*model, &learner, &test)? {
            let record = Record::new("gate_divergence", divergence).method(&keys.method);
            ctx.record(record.setting(keys.setting()).step(keys.steps))?;
        }
    }
    Ok(())
}

/// How far apart the gates of the first two tasks are: the symmetric Kullback–Leibler divergence of their mean gates over
/// the test split, in nats; `None` for a model without gates.
fn gate_divergence(
    model: &dyn MultiTaskModel,
    learner: &Joint,
    test: &TensorDataset,
) -> anyhow::Result<Option<f64>> {
    let specs: &[TaskSpec] = model.tasks();
    let [first, second, ..] = specs else { return Ok(None) };
    let mean = |task: usize, spec: &TaskSpec| -> anyhow::Result<Option<Vec<f64>>> {
        let batch = test.batch(task, &(0..test.len() as i64).collect::<Vec<_>>())?;
        let ctx = Context::eval().with_task(task).with_traces();
        let _ = mtl_core::no_grad(|| model.forward(learner.params(), &batch.input, &ctx))?;
        let wanted = format!("gates.{}", spec.name);
        let found = ctx.take_traces().into_iter().find(|(name, _)| *name == wanted);
        // Static gates are one row for all examples.
        let mean = |gate: Tensor| {
            let rows = if gate.dim() < 2 { gate.unsqueeze(0) } else { gate };
            rows.mean_dim([0i64].as_slice(), false, Kind::Double)
        };
        let gate = found.map(|(_, gate)| mean(gate));
        Ok(gate.map(Vec::<f64>::try_from).transpose()?)
    };
    let (Some(p), Some(q)) = (mean(0, first)?, mean(1, second)?) else { return Ok(None) };
    if p.len() != q.len() {
        return Ok(None);
    }
    let floor = |v: f64| v.max(1e-12);
    let terms = p.iter().zip(&q).map(|(&p, &q)| (p - q) * (floor(p) / floor(q)).ln());
    Ok(Some(terms.sum::<f64>() / 2.0))
}

/// Between the training loop and the cell; a cell is short and starts anew when it is interrupted.
struct Progress<'a> {
    ctx: &'a mut CellContext,
    done: u64,
    total: u64,
}

impl Hooks for Progress<'_> {
    fn on_step(&mut self, step: u64, _report: &StepReport) -> Result<()> {
        if step.is_multiple_of(20) {
            self.ctx.progress(self.done + step + 1, self.total);
        }
        Ok(())
    }

    fn stop_requested(&self) -> bool {
        self.ctx.stop_requested()
    }
}
