//! A split of a data set as one tensor of inputs and one tensor of targets per task.
use crate::{Batch, Error, Input, Result, TaskKind, TaskSpec, check};
use tch::{Kind, Tensor};

/// How stored values become model inputs: `(value − mean) / std`.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Normalize {
    /// Subtracted first, in units of the stored values.
    pub mean: f64,
    /// Divided by afterwards. Positive.
    pub std: f64,
}

impl Normalize {
    /// Leaves values as they are.
    pub const IDENTITY: Self = Self { mean: 0.0, std: 1.0 };

    /// Mean and standard deviation of all values of `inputs`, so that they become 0 and 1; fit it on training data.
    pub fn fit(inputs: &Tensor) -> Self {
        let values = inputs.to_kind(Kind::Double);
        let mean = values.mean(Kind::Double).double_value(&[]);
        let std = values.std(false).double_value(&[]);
        Self { mean, std: if std > 0.0 && std.is_finite() { std } else { 1.0 } }
    }
}

/// One split of a data set: inputs in one tensor in their storage type, and one tensor of targets for each task.
///
/// Batches are gathered by index, so a million examples are three tensors and not a million objects.
///
/// ```
/// use mtl_core::{TaskSpec, data::{Normalize, TensorDataset}};
/// use tch::Tensor;
///
/// let inputs = Tensor::from_slice(&[0u8, 10, 20, 30]).view([2, 2]);
/// let labels = Tensor::from_slice(&[0i64, 1]);
/// let data = TensorDataset::new(inputs, vec![(TaskSpec::classification("sign", 2), labels)])?
///     .normalized(Normalize { mean: 10.0, std: 10.0 });
/// let batch = data.batch(0, &[1])?;
/// assert_eq!(batch.input.values.double_value(&[0, 1]), 2.0);
/// assert_eq!(batch.target.int64_value(&[0]), 1);
/// # Ok::<(), mtl_core::Error>(())
/// ```
#[derive(Debug)]
pub struct TensorDataset {
    inputs: Tensor,
    tasks: Vec<TaskSpec>,
    targets: Vec<Tensor>,
    normalize: Normalize,
}

impl TensorDataset {
    /// A split with `inputs` `[examples, …]` of any kind, and the targets of each task.
    ///
    /// # Errors
    ///
    /// [`Error::Config`] without examples, for a label outside its range or two tasks of one name; [`Error::Shape`] when
    /// targets do not fit the task's kind or the number of examples; [`Error::NonFinite`] for NaN or infinity.
    pub fn new(inputs: Tensor, tasks: Vec<(TaskSpec, Tensor)>) -> Result<Self> {
        let n = inputs.size().first().copied().unwrap_or(0);
        if n == 0 {
            return Err(Error::config("inputs", "at least one example", "none"));
        }
        check::finite(&inputs, "inputs")?;
        for (i, (spec, targets)) in tasks.iter().enumerate() {
            if tasks[..i].iter().any(|(other, _)| other.name == spec.name) {
                return Err(Error::config("tasks", "of different names", &spec.name));
            }
            check_targets(spec, targets, n)?;
        }
        let (tasks, targets) = tasks.into_iter().unzip();
        Ok(Self { inputs, tasks, targets, normalize: Normalize::IDENTITY })
    }

    /// Sets how stored values become model inputs.
    #[must_use]
    pub fn normalized(mut self, normalize: Normalize) -> Self {
        self.normalize = normalize;
        self
    }

    /// Number of examples.
    pub fn len(&self) -> usize {
        self.inputs.size().first().copied().unwrap_or(0) as usize
    }

    /// Whether there is no example; never true.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The tasks, in the order of their indices.
    pub fn tasks(&self) -> &[TaskSpec] {
        &self.tasks
    }

    /// Inputs as stored, `[examples, …]`.
    pub fn inputs(&self) -> &Tensor {
        &self.inputs
    }

    /// Targets of `task` for all examples.
    ///
    /// # Errors
    ///
    /// [`Error::Config`] when there is no such task.
    pub fn targets(&self, task: usize) -> Result<&Tensor> {
        let count = self.targets.len();
        self.targets.get(task).ok_or_else(|| Error::config("task", format!("below {count}"), task))
    }

    /// How stored values become model inputs.
    pub fn normalize(&self) -> Normalize {
        self.normalize
    }

    /// The examples at `indices` for one task.
    ///
    /// # Errors
    ///
    /// [`Error::Config`] for an unknown task, an empty list or an index past the end.
    pub fn batch(&self, task: usize, indices: &[i64]) -> Result<Batch> {
        let target = self.targets(task)?;
        let index = self.index(indices)?;
        Ok(Batch { task, input: self.input(&index), target: target.index_select(0, &index) })
    }

    /// The examples at `indices` for every task; the batches share one input.
    ///
    /// # Errors
    ///
    /// [`Error::Config`] for an empty list or an index past the end.
    pub fn joint_batch(&self, indices: &[i64]) -> Result<Vec<Batch>> {
        let index = self.index(indices)?;
        let input = self.input(&index);
        let of_task = |(task, t): (usize, &Tensor)| Batch {
            task,
            input: input.shallow(),
            target: t.index_select(0, &index),
        };
        Ok(self.targets.iter().enumerate().map(of_task).collect())
    }

    /// Indices in order, in runs of at most `size`: for evaluation.
    pub fn chunks(&self, size: usize) -> impl Iterator<Item = Vec<i64>> + use<> {
        let (n, size) = (self.len() as i64, size.max(1) as i64);
        (0..n).step_by(size as usize).map(move |start| (start..(start + size).min(n)).collect())
    }

    /// The examples at `indices`, as a split of their own.
    ///
    /// # Errors
    ///
    /// [`Error::Config`] for an empty list or an index past the end.
    pub fn subset(&self, indices: &[i64]) -> Result<Self> {
        let index = self.index(indices)?;
        Ok(Self {
            inputs: self.inputs.index_select(0, &index),
            tasks: self.tasks.clone(),
            targets: self.targets.iter().map(|t| t.index_select(0, &index)).collect(),
            normalize: self.normalize,
        })
    }

    /// The split with only the tasks at `tasks`, in that order.
    ///
    /// # Errors
    ///
    /// [`Error::Config`] when there is no such task.
    pub fn with_tasks(&self, tasks: &[usize]) -> Result<Self> {
        let pick = |&task: &usize| Ok((self.tasks.get(task).cloned(), self.targets(task)?.shallow_clone()));
        let picked: Vec<(Option<TaskSpec>, Tensor)> = tasks.iter().map(pick).collect::<Result<_>>()?;
        let (tasks, targets): (Vec<_>, Vec<_>) = picked.into_iter().unzip();
        let tasks = tasks.into_iter().flatten().collect();
        Ok(Self { inputs: self.inputs.shallow_clone(), tasks, targets, normalize: self.normalize })
    }

    fn index(&self, indices: &[i64]) -> Result<Tensor> {
        let n = self.len() as i64;
        if indices.is_empty() {
            return Err(Error::config("indices", "at least one index", "empty"));
        }
        match indices.iter().find(|&&i| !(0..n).contains(&i)) {
            Some(bad) => Err(Error::config("indices", format!("in 0..{n}"), bad)),
            None => Ok(Tensor::from_slice(indices)),
        }
    }

    fn input(&self, index: &Tensor) -> Input {
        let values = self.inputs.index_select(0, index);
        let Normalize { mean, std } = self.normalize;
        if self.normalize == Normalize::IDENTITY && values.kind() == Kind::Float {
            return values.into();
        }
        ((values.to_kind(Kind::Float) - mean) / std).into()
    }
}

/// Fails unless `targets` are what a task of this kind needs for `n` examples.
fn check_targets(spec: &TaskSpec, targets: &Tensor, n: i64) -> Result<()> {
    let (shape, kind, expected): (Vec<i64>, Kind, &str) = match spec.kind {
        TaskKind::Classification { .. } => (vec![n], Kind::Int64, "[examples]"),
        TaskKind::MultiLabel { labels } => (vec![n, labels], Kind::Float, "[examples, labels]"),
        TaskKind::Regression { dims } => (vec![n, dims], Kind::Float, "[examples, dims]"),
        TaskKind::DenseClassification { height, width, .. } => {
            (vec![n, height, width], Kind::Int64, "[examples, height, width]")
        }
        TaskKind::DenseRegression { channels, height, width } => {
            (vec![n, channels, height, width], Kind::Float, "[examples, channels, height, width]")
        }
        _ => {
            return Err(Error::config(
                format!("kind of {}", spec.name),
                "one with tensor targets",
                format!("{:?}", spec.kind),
            ));
        }
    };
    let name = format!("targets of {}", spec.name);
    if targets.size() != shape {
        return Err(Error::shape(name, format!("{expected} = {shape:?}"), targets.size()));
    }
    if targets.kind() != kind {
        return Err(Error::config(name, format!("of kind {kind:?}"), format!("{:?}", targets.kind())));
    }
    match spec.kind {
        TaskKind::Classification { classes } | TaskKind::DenseClassification { classes, .. } => {
            check::labels(targets, &name, classes)
        }
        _ => check::finite(targets, &name),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn inputs() -> Tensor {
        Tensor::from_slice(&[1.0f32, 2.0, 3.0]).view([3, 1])
    }

    #[test]
    fn a_label_outside_its_range_is_refused() {
        let labels = Tensor::from_slice(&[0i64, 1, 2]);
        let err =
            TensorDataset::new(inputs(), vec![(TaskSpec::classification("parity", 2), labels)]).unwrap_err();
        insta::assert_snapshot!(err, @"`targets of parity` must be in 0..2, but is 2");
    }

    #[test]
    fn targets_must_match_the_number_of_examples() {
        let labels = Tensor::from_slice(&[0i64, 1]);
        let err =
            TensorDataset::new(inputs(), vec![(TaskSpec::classification("parity", 2), labels)]).unwrap_err();
        insta::assert_snapshot!(err, @"`targets of parity` must have shape [examples] = [3], but has [2]");
    }

    #[test]
    fn joint_batches_share_their_input_and_chunks_cover_everything() {
        let labels = || Tensor::from_slice(&[0i64, 1, 0]);
        let tasks = ["a", "b"].map(|name| (TaskSpec::classification(name, 2), labels()));
        let data = TensorDataset::new(inputs(), tasks.into()).unwrap();
        let batches = data.joint_batch(&[2, 0]).unwrap();
        assert_eq!(batches[0].input.values.data_ptr(), batches[1].input.values.data_ptr());
        assert_eq!(Vec::<f32>::try_from(batches[1].input.values.flatten(0, -1)).unwrap(), [3.0, 1.0]);
        assert_eq!(data.chunks(2).collect::<Vec<_>>(), [vec![0, 1], vec![2]]);
        let err = data.batch(0, &[3]).unwrap_err();
        insta::assert_snapshot!(err, @"`indices` must be in 0..3, but is 3");
    }
}
