//! Joint training: one model for all tasks, with gradients added up or projected, against one model per task; and the
//! model whose feed-forward networks are mixtures of experts.
use super::setup::{self, Run};
use crate::runner::{Cell, CellContext};
use mtl_core::{
    Learner, Record,
    data::{EpochSampler, TensorDataset},
    models::MultiTask,
};
use serde::Deserialize;
use std::sync::Arc;

/// Name of the artifact with the trained parameters.
pub(super) const PARAMS: &str = "params.safetensors";

/// Setting of the records.
pub(super) const SETTING: &str = "joint training";

/// Keys of a joint cell.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Keys {
    train_examples: usize,
    test_examples: usize,
    batch: usize,
    /// Steps between two checkpoints.
    checkpoint_every: u64,
    method: Method,
    steps: u64,
    lr: f64,
    /// Steps between two evaluations on the test split.
    eval_every: u64,
    /// Weight of the routers' balance loss.
    balance_weight: f64,
}

/// What is compared.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Method {
    /// One dense model for each task, each with as many steps as the joint model.
    SingleTask,
    /// One dense model, losses added up.
    EqualWeights,
    /// One dense model, conflicting gradients projected.
    Pcgrad,
    /// One model with task-conditioned mixtures of experts, losses added up.
    MoeVit,
}

impl Method {
    fn name(self) -> &'static str {
        match self {
            Self::SingleTask => "single-task",
            Self::EqualWeights => "equal-weights",
            Self::Pcgrad => "pcgrad",
            Self::MoeVit => "moe-vit",
        }
    }

    fn balancer(self) -> &'static str {
        if self == Self::Pcgrad { "pcgrad" } else { "equal" }
    }
}

impl Keys {
    pub(super) fn of(cell: &Cell) -> anyhow::Result<Self> {
        let keys: Self = cell.config()?;
        setup::check_training(keys.batch, keys.steps, keys.lr)?;
        setup::at_least_one("eval_every", keys.eval_every as usize)?;
        Ok(keys)
    }
}

/// Trains and scores one method.
pub(super) fn run(cell: &Cell, ctx: &mut CellContext) -> anyhow::Result<()> {
    let keys = Keys::of(cell)?;
    let data = setup::load(ctx.data_dir(), keys.train_examples, keys.test_examples)?;
    let normalize = data.train.normalize();
    let (train, test) =
        (setup::joint_suite(&data.train, normalize)?, setup::joint_suite(&data.test, normalize)?);
    let vit = setup::vit(&data.train)?;
    // One pass over all tasks, or one pass per task with a model of its own.
    let all: Vec<usize> = (0..train.tasks().len()).collect();
    let passes: Vec<Vec<usize>> =
        if keys.method == Method::SingleTask { all.iter().map(|&t| vec![t]).collect() } else { vec![all] };
    let mut resume = setup::Resume::open(ctx)?;
    for (pass, tasks) in passes.iter().enumerate() {
        let (train, test) = (train.with_tasks(tasks)?, test.with_tasks(tasks)?);
        let encoder = match keys.method {
            Method::MoeVit => setup::moe_config(tasks.len()).build(vit.clone())?,
            _ => vit.clone().build()?,
        };
        let model = MultiTask::new(Arc::new(encoder), train.tasks().to_vec())?;
        let recipe = setup::Recipe {
            balancer: keys.method.balancer(),
            lr: keys.lr,
            steps: keys.steps,
            aux_weight: keys.balance_weight,
        };
        let mut learner = setup::joint(model, None, &recipe, cell.seed())?;
        let mut sampler = EpochSampler::new(train.len(), keys.batch, cell.seed())?;
        let Keys { steps, eval_every, checkpoint_every, .. } = keys;
        let plan = Run { pass, passes: passes.len(), steps, eval_every, checkpoint_every };
        setup::train(
            ctx,
            &mut resume,
            &mut learner,
            cell.seed(),
            &plan,
            &mut |step| train.joint_batch(&sampler.indices(step)),
            &mut |ctx, learner, step| record(ctx, learner, keys.method, &test, step),
        )?;
        if pass + 1 == passes.len() {
            learner.params().save(ctx.artifact(PARAMS)?, &Default::default())?;
        }
    }
    Ok(())
}

/// Scores every task of `test`.
fn record(
    ctx: &mut CellContext,
    learner: &dyn Learner,
    method: Method,
    test: &TensorDataset,
    step: u64,
) -> anyhow::Result<()> {
    for (task, spec) in test.tasks().iter().enumerate() {
        let score = setup::evaluate(&mut |input| learner.predict(input, Some(task)), test, task)?;
        let record = Record::new(spec.metric.name(), score).method(method.name()).setting(SETTING);
        ctx.record(record.task(&spec.name).step(step))?;
    }
    Ok(())
}
