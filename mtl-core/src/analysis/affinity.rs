//! Inter-task affinity: Fifty et al., *Efficiently Identifying Task Groupings for Multi-Task Learning* (TAG), NeurIPS
//! 2021, arXiv 2109.04617.
use crate::{Batch, Context, Error, MultiTaskModel, Result, StateDict, learner::Step, loss, no_grad};
use serde::Serialize;
use tch::Tensor;

/// What a step on one task does to the losses of all: `Z[i][j] = 1 − L_j(θ − η·g_i) / L_j(θ)`, equation 1 of the paper.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Affinity {
    /// Names of the tasks, in the order of rows and columns.
    pub tasks: Vec<String>,
    /// Row: the task whose gradient is followed. Column: the task whose loss is measured. Positive where it falls.
    pub z: Vec<Vec<f64>>,
}

/// The affinity of tasks on one batch of each; only shared parameters move.
///
/// Every pass runs as training step `step` does, with the same chance. Costs one pass of each batch with gradients and
/// as many without as there are pairs of tasks. Parameters are not changed.
///
/// ```
/// use mtl_core::{Batch, Model, Seed, TaskSpec, analysis::affinity, learner::Step, models::{Mlp, MultiTask}};
/// use std::sync::Arc;
/// use tch::Tensor;
///
/// let tasks = vec![TaskSpec::classification("one", 2), TaskSpec::classification("two", 2)];
/// let model = MultiTask::new(Arc::new(Mlp::new(&[2, 8])?), tasks)?;
/// let params = model.init(Seed(0))?.trainable();
/// let batch = |task, label: i64| {
///     let input = Tensor::from_slice(&[1.0f32, -1.0]).view([1, 2]).into();
///     Batch { task, input, target: Tensor::from_slice(&[label]) }
/// };
/// let found = affinity(&model, &params, &[batch(0, 0), batch(1, 1)], 0.01, Step { index: 0, seed: Seed(0) })?;
/// assert!(found.z[0][0] > 0.0 && found.z[1][1] > 0.0); // A small step down helps the task itself.
/// # Ok::<(), mtl_core::Error>(())
/// ```
///
/// # Errors
///
/// [`Error::Config`] for two batches of one task or a task that does not exist; those of [`affinity_of`] and of the
/// model.
pub fn affinity(
    model: &dyn MultiTaskModel,
    params: &StateDict,
    batches: &[Batch],
    lr: f64,
    step: Step,
) -> Result<Affinity> {
    let specs = model.tasks();
    let mut names: Vec<&str> = Vec::with_capacity(batches.len());
    for batch in batches {
        let Some(spec) = specs.get(batch.task) else {
            return Err(Error::config("batch.task", format!("below {}", specs.len()), batch.task));
        };
        if names.contains(&spec.name.as_str()) {
            let found = format!("two of task `{}`", spec.name);
            return Err(Error::config("batches for `affinity`", "one for each task", found));
        }
        names.push(&spec.name);
    }
    let losses = |params: &StateDict, at: usize| -> Result<Tensor> {
        let (Some(batch), Some(spec)) = (batches.get(at), batches.get(at).and_then(|b| specs.get(b.task)))
        else {
            return Err(Error::config("batch.task", format!("below {}", specs.len()), at));
        };
        step.seed.seed_torch(step.index);
        let ctx = Context::train(step.seed, step.index).with_task(batch.task);
        let output = model.forward(params, &batch.input, &ctx)?;
        loss::task_loss(spec, &output, &batch.target)
    };
    affinity_of(&names, params, |name| model.is_shared(name), lr, losses)
}

/// The affinity of any losses: `loss(params, task)` is that of `tasks[task]`, a single number; parameters that
/// `is_shared` accepts and that require gradients move.
///
/// # Errors
///
/// [`Error::Config`] naming the task whose loss is not positive, without a task, and for a learning rate that is
/// negative or not finite; [`Error::NonFinite`] naming the task whose loss or gradient is NaN or infinite; what `loss`
/// and [`StateDict::gradients`] return.
pub fn affinity_of(
    tasks: &[&str],
    params: &StateDict,
    is_shared: impl Fn(&str) -> bool,
    lr: f64,
    mut loss: impl FnMut(&StateDict, usize) -> Result<Tensor>,
) -> Result<Affinity> {
    if tasks.is_empty() {
        return Err(Error::config("batches for `affinity`", "at least one", "empty"));
    }
    if !(0.0 <= lr && lr.is_finite()) {
        return Err(Error::config("lr of `affinity`", "finite and at least 0", lr));
    }
    let value = |loss: &Tensor, task: &str, of: &str| -> Result<f64> {
        let value = loss.double_value(&[]);
        if value.is_finite() {
            return Ok(value);
        }
        Err(Error::NonFinite { name: format!("affinity: loss of task `{task}` {of}"), index: 0 })
    };
    let (mut before, mut ahead) = (Vec::with_capacity(tasks.len()), Vec::with_capacity(tasks.len()));
    for (i, task) in tasks.iter().enumerate() {
        let here = loss(params, i)?;
        let number = value(&here, task, "before the step")?;
        if number <= 0.0 {
            let must = "positive, as the affinity is relative to it";
            return Err(Error::config(format!("loss of task `{task}` for `affinity`"), must, number));
        }
        let grads = params.gradients(&here, false)?;
        if !grads.norm().is_finite() {
            return Err(Error::NonFinite { name: format!("affinity: gradient of task `{task}`"), index: 0 });
        }
        before.push(number);
        ahead.push(no_grad(|| {
            let look = |(name, param): (&str, &Tensor)| {
                let grad = grads.get(name).filter(|_| is_shared(name));
                (name.to_owned(), grad.map_or_else(|| param.shallow_clone(), |grad| param - grad * lr))
            };
            params.iter().map(look).collect::<StateDict>()
        }));
    }
    let mut z = Vec::with_capacity(tasks.len());
    for (look, by) in ahead.iter().zip(tasks) {
        let mut row = Vec::with_capacity(tasks.len());
        for (j, (before, task)) in before.iter().zip(tasks).enumerate() {
            let after = no_grad(|| loss(look, j))?;
            row.push(1.0 - value(&after, task, &format!("after a step on `{by}`"))? / before);
        }
        z.push(row);
    }
    Ok(Affinity { tasks: tasks.iter().map(|name| (*name).to_owned()).collect(), z })
}

/// Mean affinity over steps.
///
/// ```
/// use mtl_core::analysis::{Affinity, MeanAffinity};
///
/// let of = |z: f64| Affinity { tasks: vec!["only".to_owned()], z: vec![vec![z]] };
/// let mut mean = MeanAffinity::default();
/// mean.add(&of(0.25))?;
/// mean.add(&of(0.75))?;
/// assert_eq!((mean.steps(), mean.mean().unwrap().z[0][0]), (2, 0.5));
/// # Ok::<(), mtl_core::Error>(())
/// ```
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct MeanAffinity {
    sum: Option<Affinity>,
    steps: u64,
}

impl MeanAffinity {
    /// Adds the affinity of a step.
    ///
    /// # Errors
    ///
    /// [`Error::Config`] for other tasks than those of the steps before, or a matrix that is not `[tasks, tasks]`.
    pub fn add(&mut self, step: &Affinity) -> Result<()> {
        let tasks = step.tasks.len();
        if step.z.len() != tasks || step.z.iter().any(|row| row.len() != tasks) {
            let found = vec![step.z.len() as i64, step.z.first().map_or(0, Vec::len) as i64];
            return Err(Error::shape("affinity", format!("[{tasks}, {tasks}]"), found));
        }
        match &mut self.sum {
            None => self.sum = Some(step.clone()),
            Some(sum) if sum.tasks == step.tasks => {
                let cells = sum.z.iter_mut().flatten().zip(step.z.iter().flatten());
                cells.for_each(|(total, z)| *total += z);
            }
            Some(sum) => {
                let must = format!("{:?} as in the steps before", sum.tasks);
                return Err(Error::config("tasks of `affinity`", must, format!("{:?}", step.tasks)));
            }
        }
        self.steps += 1;
        Ok(())
    }

    /// Steps added.
    pub fn steps(&self) -> u64 {
        self.steps
    }

    /// The mean; none before the first step.
    pub fn mean(&self) -> Option<Affinity> {
        let n = self.steps as f64;
        let scale = |row: &Vec<f64>| row.iter().map(|z| z / n).collect();
        self.sum
            .as_ref()
            .map(|sum| Affinity { tasks: sum.tasks.clone(), z: sum.z.iter().map(scale).collect() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        Model, Seed, TaskKind, TaskSpec,
        models::{Mlp, MultiTask},
        rng,
    };
    use std::sync::Arc;
    use tch::Kind;

    #[test]
    fn only_shared_parameters_move_and_those_given_stay() {
        let tasks = ["a", "b"].map(|name| TaskSpec::new(name, TaskKind::Regression { dims: 1 }));
        // Without dropout: it draws from a generator that other tests of this process share.
        let model = MultiTask::new(Arc::new(Mlp::new(&[3, 4]).unwrap()), tasks.to_vec()).unwrap();
        let params = model.init(Seed(1)).unwrap().trainable();
        let before = params.snapshot();
        let draw = |name: &str, dims: &[i64]| rng::normal(&mut Seed(2).stream(name, 0), dims, 1.0);
        let x = draw("x", &[8, 3]);
        let batch =
            |task, name: &str| Batch { task, input: x.shallow_clone().into(), target: draw(name, &[8, 1]) };
        let (step, lr) = (Step { index: 3, seed: Seed(4) }, 0.05);
        let batches = [batch(0, "first"), batch(1, "second")];
        let found = affinity(&model, &params, &batches, lr, step).unwrap();
        assert!(params.iter().zip(before.iter()).all(|((_, a), (_, b))| a.equal(b)));
        // The same by hand for a step on task a, measured on b.
        let loss = |params: &StateDict, batch: &Batch| {
            let ctx = Context::train(step.seed, step.index).with_task(batch.task);
            let output = model.forward(params, &batch.input, &ctx).unwrap();
            output.mse_loss(&batch.target, tch::Reduction::Mean)
        };
        let grads = params.gradients(&loss(&params, &batches[0]), false).unwrap();
        let mut ahead = params.snapshot();
        for (name, p) in ahead.iter_mut().filter(|(name, _)| name.starts_with("fc")) {
            *p = &*p - grads.get(name).unwrap() * lr;
        }
        let at = |p: &StateDict| loss(p, &batches[1]).to_kind(Kind::Double).double_value(&[]);
        let wanted = 1.0 - at(&ahead) / at(&params);
        assert!((found.z[0][1] - wanted).abs() < 1e-6, "{} {wanted}", found.z[0][1]);
    }

    #[test]
    fn what_cannot_be_compared_names_the_task() {
        let params = StateDict::from_iter([("w".to_owned(), Tensor::from_slice(&[1.0f64]))]).trainable();
        let of = |factor: f64, lr: f64| {
            affinity_of(
                &["depth"],
                &params,
                |_| true,
                lr,
                |p, _| Ok(p.get("w").unwrap().square().sum(Kind::Double) * factor),
            )
            .map_err(|e| e.to_string())
        };
        assert!((of(1.0, 0.25).unwrap().z[0][0] - 0.75).abs() < 1e-12); // w = 1 − 0.25 · 2
        insta::assert_snapshot!(of(0.0, 0.1).unwrap_err(), @"`loss of task `depth` for `affinity`` must be positive, as the affinity is relative to it, but is 0");
        insta::assert_snapshot!(of(f64::NAN, 0.1).unwrap_err(), @"`affinity: loss of task `depth` before the step` is not finite at index 0");
        insta::assert_snapshot!(of(1.0, 1e200).unwrap_err(), @"`affinity: loss of task `depth` after a step on `depth`` is not finite at index 0");
        insta::assert_snapshot!(of(1.0, -1.0).unwrap_err(), @"`lr of `affinity`` must be finite and at least 0, but is -1");
        let matrix = |name: &str| Affinity { tasks: vec![name.to_owned()], z: vec![vec![0.5]] };
        let mut mean = MeanAffinity::default();
        assert_eq!(mean.mean(), None);
        mean.add(&matrix("a")).unwrap();
        insta::assert_snapshot!(mean.add(&matrix("b")).unwrap_err(), @r#"`tasks of `affinity`` must be ["a"] as in the steps before, but is ["b"]"#);
    }
}
