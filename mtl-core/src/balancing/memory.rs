//! What balancers with memory share: rows of one number per task, running gradients, and how both are saved.
use super::{Learned, StepCtx, TaskGrads};
use crate::{Error, Result, StateDict, no_grad};
use tch::{Kind, Tensor};

/// The losses of a step, one for each of at least one task, all finite.
pub(super) fn losses<'a>(ctx: &StepCtx<'a>) -> Result<&'a [f64]> {
    if ctx.losses.is_empty() {
        return Err(Error::config("losses", "those of at least one task", "empty"));
    }
    match ctx.losses.iter().position(|loss| !loss.is_finite()) {
        Some(task) => Err(Error::NonFinite { name: "losses".to_owned(), index: task as i64 }),
        None => Ok(ctx.losses),
    }
}

/// As [`losses`], of as many tasks as there are gradients.
pub(super) fn losses_of<'a>(ctx: &StepCtx<'a>, tasks: usize) -> Result<&'a [f64]> {
    let losses = losses(ctx)?;
    same_tasks("losses", tasks, losses.len())?;
    Ok(losses)
}

/// Fails unless all losses are positive; `why` completes "positive, as".
pub(super) fn positive(losses: &[f64], why: &str) -> Result<()> {
    match losses.iter().zip(0..).find(|(loss, _)| **loss <= 0.0) {
        Some((loss, task)) => {
            Err(Error::config(format!("loss of task {task}"), format!("positive, as {why}"), loss))
        }
        None => Ok(()),
    }
}

/// Fails when the number of tasks is another than before.
pub(super) fn same_tasks(what: &str, known: usize, found: usize) -> Result<()> {
    if known == found {
        return Ok(());
    }
    Err(Error::shape(what, format!("[{known}]"), vec![found as i64]))
}

/// Size of a square matrix of finite numbers.
pub(super) fn square(name: &str, rows: &[Vec<f64>]) -> Result<usize> {
    let tasks = rows.len();
    if let Some(row) = rows.iter().find(|row| row.len() != tasks) {
        return Err(Error::shape(name, "[tasks, tasks]", vec![tasks as i64, row.len() as i64]));
    }
    if tasks == 0 {
        return Err(Error::shape(name, "[tasks, tasks] with at least one task", vec![0, 0]));
    }
    match rows.iter().position(|row| row.iter().any(|v| !v.is_finite())) {
        Some(index) => Err(Error::NonFinite { name: name.to_owned(), index: index as i64 }),
        None => Ok(tasks),
    }
}

/// Weights of sum 1 in proportion to `exp` of the logits.
pub(super) fn softmax(logits: &[f64]) -> Vec<f64> {
    let largest = logits.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let raised: Vec<f64> = logits.iter().map(|l| (l - largest).exp()).collect();
    let total: f64 = raised.iter().sum();
    raised.iter().map(|r| r / total).collect()
}

/// The nearest point whose entries are at least 0 and sum to 1.
pub(super) fn project_to_simplex(point: &[f64]) -> Vec<f64> {
    // A common shift changes nothing; this one keeps large entries from swallowing the 1.
    let largest = point.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let mut sorted: Vec<f64> = point.iter().map(|value| value - largest).collect();
    sorted.sort_by(|a, b| b.total_cmp(a));
    let (mut sum, mut shift) = (0.0, 0.0);
    for (value, count) in sorted.iter().zip(1u32..) {
        sum += value;
        let here = (sum - 1.0) / f64::from(count);
        if value - here > 0.0 {
            shift = here;
        }
    }
    point.iter().map(|value| (value - largest - shift).max(0.0)).collect()
}

/// An entry of a state that is a row of numbers.
#[derive(Debug, Clone, Copy)]
pub(super) enum Slot {
    /// One number per task.
    Tasks(&'static str),
    /// One number per task, once there are such.
    LaterTasks(&'static str),
    /// One number.
    One(&'static str),
}

/// Rows as a state; empty ones are left out.
pub(super) fn save(rows: &[(&str, &[f64])]) -> StateDict {
    let rows = rows.iter().filter(|(_, row)| !row.is_empty());
    rows.map(|(name, row)| ((*name).to_owned(), Tensor::from_slice(row))).collect()
}

/// The rows of a state made by [`save`]; that of a method before its first step is empty, and so are the rows then.
pub(super) fn load<const N: usize>(
    method: &str,
    state: &StateDict,
    slots: [Slot; N],
) -> Result<[Vec<f64>; N]> {
    let mut rows = slots.map(|_| Vec::new());
    if state.is_empty() {
        return Ok(rows);
    }
    let name = |slot: &Slot| match slot {
        Slot::Tasks(name) | Slot::LaterTasks(name) | Slot::One(name) => *name,
    };
    if let Some(entry) = state.names().find(|entry| !slots.iter().any(|slot| name(slot) == *entry)) {
        return Err(unfit(method, entry, "is not expected"));
    }
    let mut tasks = None;
    for (slot, row) in slots.iter().zip(&mut rows) {
        let entry = name(slot);
        let Some(tensor) = state.get(entry) else {
            match slot {
                Slot::LaterTasks(_) => continue,
                _ => return Err(unfit(method, entry, "is missing")),
            }
        };
        *row = numbers(method, entry, tensor)?;
        let wanted = match slot {
            Slot::One(_) => 1,
            _ => *tasks.get_or_insert(row.len()),
        };
        if row.len() != wanted || wanted == 0 {
            return Err(unfit(method, entry, &format!("has {} numbers, expected {wanted}", row.len())));
        }
    }
    Ok(rows)
}

/// The finite numbers of a row.
pub(super) fn numbers(method: &str, entry: &str, tensor: &Tensor) -> Result<Vec<f64>> {
    if tensor.kind() != Kind::Double || tensor.dim() != 1 {
        return Err(unfit(method, entry, "is not a row of kind Double"));
    }
    let row = Vec::<f64>::try_from(&tensor.detach().to_device(tch::Device::Cpu))?;
    match row.iter().position(|v| !v.is_finite()) {
        Some(index) => Err(Error::NonFinite { name: entry.to_owned(), index: index as i64 }),
        None => Ok(row),
    }
}

/// An entry of a state that does not fit the method.
pub(super) fn unfit(method: &str, entry: &str, difference: &str) -> Error {
    Error::Mismatch { what: format!("state of {method}"), differences: format!("`{entry}` {difference}") }
}

/// One number per task that is learned beside the model.
#[derive(Debug, Default)]
pub(super) struct LearnedRow {
    pub(super) values: Vec<f64>,
    /// Gradients in the last step; empty before the first.
    pub(super) grads: Vec<f64>,
}

impl LearnedRow {
    /// The numbers as they are, `start` for each of `tasks` tasks at first.
    pub(super) fn at(&mut self, tasks: usize, start: f64) -> Result<&[f64]> {
        if self.values.is_empty() {
            self.values = vec![start; tasks];
        }
        same_tasks("losses", self.values.len(), tasks)?;
        Ok(&self.values)
    }

    pub(super) fn learned(&mut self) -> Option<Learned<'_>> {
        (!self.values.is_empty()).then_some(Learned { values: &mut self.values, grads: &self.grads })
    }

    /// Starts from saved numbers.
    pub(super) fn restore(&mut self, values: Vec<f64>) {
        *self = Self { values, grads: Vec::new() };
    }
}

/// Mean of each task's loss over the steps of an epoch.
#[derive(Debug, Default)]
pub(super) struct EpochMean {
    pub(super) sum: Vec<f64>,
    pub(super) count: f64,
}

impl EpochMean {
    pub(super) fn add(&mut self, losses: &[f64]) -> Result<()> {
        if self.sum.is_empty() {
            self.sum = vec![0.0; losses.len()];
        }
        same_tasks("losses", self.sum.len(), losses.len())?;
        self.sum.iter_mut().zip(losses).for_each(|(sum, loss)| *sum += loss);
        self.count += 1.0;
        Ok(())
    }

    /// The means since the last call; `None` when there was no step.
    pub(super) fn close(&mut self) -> Option<Vec<f64>> {
        let Self { sum, count } = std::mem::take(self);
        (count > 0.0).then(|| sum.iter().map(|s| s / count).collect())
    }
}

/// Refuses gradients of a representation.
pub(super) fn of_parameters(grads: &TaskGrads) -> Result<()> {
    if grads.representation().is_none() {
        return Ok(());
    }
    let must = "of parameters, as running means over steps are taken";
    Err(Error::config("gradients", must, "of a representation"))
}

/// Length of each task's gradient.
pub(super) fn lengths(grads: &TaskGrads) -> Result<Vec<f64>> {
    let lengths: Vec<f64> = no_grad(|| grads.per_task().iter().map(StateDict::norm).collect());
    match lengths.iter().position(|length| !length.is_finite()) {
        Some(task) => Err(Error::NonFinite { name: "gradients".to_owned(), index: task as i64 }),
        None => Ok(lengths),
    }
}

/// A tensor per task and parameter, under the names `{task}.{parameter}`.
#[derive(Debug, Default)]
pub(super) struct TaskBuffers {
    dict: StateDict,
}

impl TaskBuffers {
    /// Changes every buffer with the gradient it belongs to, which is `None` where a task does not use the parameter now.
    /// Buffers begin as zeros.
    pub(super) fn update(
        &mut self,
        grads: &TaskGrads,
        mut change: impl FnMut(usize, &mut Tensor, Option<&Tensor>),
    ) -> Result<()> {
        if let Some(entry) = self.dict.names().find(|entry| task_of(entry) >= Some(grads.tasks())) {
            let found = format!("those of {} tasks", grads.tasks());
            return Err(Error::config("gradients", format!("of the tasks before, as of `{entry}`"), found));
        }
        for (task, dict) in grads.per_task().iter().enumerate() {
            for (name, grad) in dict.iter() {
                let Some(buffer) = self.dict.get(&entry(task, name)) else { continue };
                if buffer.size() != grad.size() {
                    let expected = format!("{:?}", buffer.size());
                    return Err(Error::shape(format!("gradient of {name}"), expected, grad.size()));
                }
                if buffer.kind() != grad.kind() {
                    let must = format!("of kind {:?}, as before", buffer.kind());
                    return Err(Error::config(
                        format!("gradient of {name}"),
                        must,
                        format!("{:?}", grad.kind()),
                    ));
                }
            }
        }
        no_grad(|| {
            for (task, dict) in grads.per_task().iter().enumerate() {
                for (name, grad) in dict.iter() {
                    let key = entry(task, name);
                    match self.dict.get(&key) {
                        None => self.dict.insert(key, grad.zeros_like()),
                        // A state comes from a file as tensors of the CPU.
                        Some(buffer) if buffer.device() != grad.device() => {
                            let moved = buffer.to_device(grad.device());
                            self.dict.insert(key, moved)
                        }
                        Some(_) => None,
                    };
                }
            }
            for (key, buffer) in self.dict.iter_mut() {
                let Some((task, name)) = split(key) else { continue };
                change(task, buffer, grads.per_task().get(task).and_then(|dict| dict.get(name)));
            }
        });
        Ok(())
    }

    /// Fails when a buffer belongs to a task that is not there.
    pub(super) fn check_tasks(&self, method: &str, tasks: usize) -> Result<()> {
        match self.dict.names().find(|entry| task_of(entry) >= Some(tasks)) {
            Some(entry) => Err(unfit(method, entry, &format!("is of a task not below {tasks}"))),
            None => Ok(()),
        }
    }

    /// The buffers in the place of gradients.
    pub(super) fn as_grads(&self, tasks: usize) -> Result<TaskGrads> {
        TaskGrads::new((0..tasks).map(|task| self.dict.strip_prefix(&format!("{task}."))).collect())
    }

    /// Handles on the buffers, to be saved beside `rows`.
    pub(super) fn save(&self, mut rows: StateDict) -> StateDict {
        rows.extend(self.dict.shallow());
        rows
    }

    /// Copies of the buffers in a state, and the rest of it.
    pub(super) fn load(method: &str, state: &StateDict) -> Result<(Self, StateDict)> {
        let dict = state.filter(|entry| split(entry).is_some());
        for (entry, tensor) in dict.iter() {
            if !tensor.is_floating_point() {
                return Err(unfit(method, entry, "is not of floating-point numbers"));
            }
        }
        dict.check_finite()?;
        Ok((Self { dict: dict.snapshot() }, state.filter(|entry| split(entry).is_none())))
    }
}

fn entry(task: usize, name: &str) -> String {
    format!("{task}.{name}")
}

fn split(entry: &str) -> Option<(usize, &str)> {
    let (task, name) = entry.split_once('.')?;
    Some((task.parse().ok()?, name))
}

fn task_of(entry: &str) -> Option<usize> {
    Some(split(entry)?.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn the_projection_is_the_nearest_point_of_the_simplex(
            point in prop::collection::vec(-3.0..3.0f64, 4), other in prop::collection::vec(0.01..1.0f64, 4),
        ) {
            let near = project_to_simplex(&point);
            prop_assert!(near.iter().all(|v| *v >= 0.0) && (near.iter().sum::<f64>() - 1.0).abs() < 1e-12);
            // ⟨point − near, other − near⟩ ≤ 0 for every other point of the simplex.
            let total: f64 = other.iter().sum();
            let product: f64 =
                point.iter().zip(&near).zip(&other).map(|((p, n), o)| (p - n) * (o / total - n)).sum();
            prop_assert!(product < 1e-12);
        }
    }

    #[test]
    fn a_state_of_another_method_is_refused() {
        let slots = [Slot::Tasks("logits"), Slot::One("step"), Slot::LaterTasks("first")];
        let read = |state: &StateDict| load("x", state, slots).map_err(|e| e.to_string());
        let good = save(&[("logits", &[1.0, 2.0]), ("step", &[3.0])]);
        assert_eq!(read(&good).unwrap(), [vec![1.0, 2.0], vec![3.0], vec![]]);
        assert!(read(&StateDict::new()).unwrap().iter().all(Vec::is_empty));
        let bad = [
            save(&[("logits", &[1.0, 2.0])]),
            save(&[("logits", &[1.0, 2.0]), ("step", &[3.0]), ("first", &[1.0])]),
            save(&[("logits", &[f64::NAN]), ("step", &[3.0])]),
            save(&[("rho", &[1.0])]),
        ];
        let messages: Vec<String> = bad.iter().map(|state| read(state).unwrap_err()).collect();
        insta::assert_snapshot!(messages.join("\n"), @r"
        parameters of `state of x` do not fit: `step` is missing
        parameters of `state of x` do not fit: `first` has 1 numbers, expected 2
        `logits` is not finite at index 0
        parameters of `state of x` do not fit: `rho` is not expected
        ");
    }

    #[test]
    fn buffers_refuse_gradients_of_other_shapes_and_keep_what_they_have() {
        let grads = |values: &[f64]| {
            TaskGrads::new(vec![StateDict::from_iter([("w".to_owned(), Tensor::from_slice(values))])])
                .unwrap()
        };
        let add = |_: usize, buffer: &mut Tensor, grad: Option<&Tensor>| *buffer += grad.unwrap();
        let mut buffers = TaskBuffers::default();
        buffers.update(&grads(&[1.0, 2.0]), add).unwrap();
        let err = buffers.update(&grads(&[1.0]), add).unwrap_err();
        insta::assert_snapshot!(err, @"`gradient of w` must have shape [2], but has [1]");
        assert_eq!(buffers.as_grads(1).unwrap().gram().unwrap().get(0, 0), 5.0);
    }
}
