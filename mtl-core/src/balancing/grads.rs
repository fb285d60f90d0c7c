//! Gradients of several tasks, and their inner products.
use super::products::{products, weighted_sum};
use crate::{Error, Result, StateDict};
use std::collections::BTreeSet;
use tch::Tensor;

/// Inner products of the task gradients, `A = G Gᵀ`, in `f64`.
#[derive(Debug, Clone, PartialEq)]
pub struct Gram {
    tasks: usize,
    /// Row by row.
    values: Vec<f64>,
}

impl Gram {
    /// A matrix given by its rows.
    ///
    /// # Errors
    ///
    /// [`Error::Shape`] unless it is square with at least one row; [`Error::NonFinite`] for NaN or infinity.
    pub fn from_rows(rows: &[Vec<f64>]) -> Result<Self> {
        let tasks = rows.len();
        if tasks == 0 || rows.iter().any(|row| row.len() != tasks) {
            let found = vec![tasks as i64, rows.first().map_or(0, Vec::len) as i64];
            return Err(Error::shape("gram", "[tasks, tasks]", found));
        }
        if let Some(index) = rows.iter().position(|row| row.iter().any(|v| !v.is_finite())) {
            return Err(Error::NonFinite { name: "gram".to_owned(), index: index as i64 });
        }
        Ok(Self { tasks, values: rows.concat() })
    }

    /// Number of tasks.
    pub fn tasks(&self) -> usize {
        self.tasks
    }

    /// The inner products with the gradient of task `i`, one for each task; empty when there is no such task.
    pub fn row(&self, i: usize) -> &[f64] {
        self.values.chunks_exact(self.tasks).nth(i).unwrap_or(&[])
    }

    /// All rows.
    pub fn rows(&self) -> Vec<Vec<f64>> {
        self.values.chunks_exact(self.tasks).map(<[f64]>::to_vec).collect()
    }

    /// Rows of the matrix for gradients times these factors.
    pub fn scaled(&self, factors: &[f64]) -> Vec<Vec<f64>> {
        let factor = |i: usize| factors.get(i).copied().unwrap_or(1.0);
        let row = |i: usize| (0..self.tasks).map(|j| factor(i) * self.get(i, j) * factor(j)).collect();
        (0..self.tasks).map(row).collect()
    }

    /// `⟨g_i, g_j⟩`; 0 when there is no such task.
    pub fn get(&self, i: usize, j: usize) -> f64 {
        self.row(i).get(j).copied().unwrap_or(0.0)
    }

    /// `‖g_i‖`.
    pub fn norm(&self, i: usize) -> f64 {
        self.get(i, i).max(0.0).sqrt()
    }

    /// Cosine of the angle between two gradients; 0 when one of them is zero.
    pub fn cosine(&self, i: usize, j: usize) -> f64 {
        let norms = self.norm(i) * self.norm(j);
        if norms > 0.0 { self.get(i, j) / norms } else { 0.0 }
    }

    /// `A w`: the inner product of `Σ w_k g_k` with each gradient.
    pub fn times(&self, weights: &[f64]) -> Vec<f64> {
        let dot = |row: &[f64]| row.iter().zip(weights).map(|(a, w)| a * w).sum();
        self.values.chunks_exact(self.tasks).map(dot).collect()
    }
}

/// Gradients of the shared parameters, one dictionary per task.
///
/// A parameter that a task does not use is absent from its dictionary and counts as zero.
///
/// ```
/// use mtl_core::{StateDict, balancing::TaskGrads};
/// use tch::Tensor;
///
/// let dict = |v: [f32; 2]| StateDict::from_iter([("w".to_owned(), Tensor::from_slice(&v))]);
/// let grads = TaskGrads::new(vec![dict([1.0, 2.0]), dict([0.0, 3.0])])?;
/// assert_eq!(grads.gram()?.row(0), [5.0, 6.0]);
/// assert_eq!(grads.combine(&[1.0, -1.0])?.get("w").unwrap(), &Tensor::from_slice(&[1.0f32, -1.0]));
/// # Ok::<(), mtl_core::Error>(())
/// ```
#[derive(Debug)]
pub struct TaskGrads {
    per_task: Vec<StateDict>,
    /// What the gradients are of, where that is a representation and not the parameters.
    representation: Option<Tensor>,
}

/// Name of the only entry of gradients of a representation.
pub const REPRESENTATION: &str = "representation";

impl TaskGrads {
    /// Gradients as they came from one backward pass per task.
    ///
    /// # Errors
    ///
    /// [`Error::Shape`] when two tasks have a parameter of different shape.
    pub fn new(per_task: Vec<StateDict>) -> Result<Self> {
        let grads = Self { per_task, representation: None };
        for name in grads.names() {
            let mut sizes = grads.of(name).map(|(_, grad)| grad.size());
            let first = sizes.next();
            if let (Some(first), Some(other)) = (&first, sizes.find(|size| Some(size) != first.as_ref())) {
                return Err(Error::shape(format!("gradient of {name}"), format!("{first:?}"), other));
            }
        }
        Ok(grads)
    }

    /// Gradients of a shared representation `[batch, …]` instead of parameters, one of its shape for each task; their only
    /// entry is called [`REPRESENTATION`].
    ///
    /// # Errors
    ///
    /// [`Error::Shape`] for a gradient of another shape than `value`.
    pub fn of_representation(value: &Tensor, grads: Vec<Tensor>) -> Result<Self> {
        if let Some(other) = grads.iter().find(|grad| grad.size() != value.size()) {
            let expected = format!("{:?}", value.size());
            return Err(Error::shape("gradient of the representation", expected, other.size()));
        }
        let dict = |grad| StateDict::from_iter([(REPRESENTATION.to_owned(), grad)]);
        let per_task = grads.into_iter().map(dict).collect();
        Ok(Self { per_task, representation: Some(value.detach()) })
    }

    /// The representation `[batch, …]` that the gradients are of, outside the graph; `None` where they are of parameters.
    pub fn representation(&self) -> Option<&Tensor> {
        self.representation.as_ref()
    }

    /// Number of tasks.
    pub fn tasks(&self) -> usize {
        self.per_task.len()
    }

    /// The dictionaries, in the order of the tasks.
    pub fn per_task(&self) -> &[StateDict] {
        &self.per_task
    }

    /// Names of the parameters that at least one task has a gradient of, sorted.
    pub fn names(&self) -> BTreeSet<&str> {
        self.per_task.iter().flat_map(StateDict::names).collect()
    }

    /// The gradients of one parameter with the tasks that have them.
    fn of(&self, name: &str) -> impl Iterator<Item = (usize, &Tensor)> {
        self.per_task.iter().enumerate().filter_map(move |(task, grads)| Some((task, grads.get(name)?)))
    }

    /// Inner products of the gradients, summed over the parameters in `f64`.
    ///
    /// # Errors
    ///
    /// [`Error::Shape`] without a task; [`Error::NonFinite`] with the task when a gradient is NaN or infinite.
    pub fn gram(&self) -> Result<Gram> {
        self.gram_of(|_| true)
    }

    /// As [`gram`](Self::gram), of the parameters whose name `keep` accepts: one layer, one group.
    ///
    /// # Errors
    ///
    /// See [`gram`](Self::gram).
    pub fn gram_of(&self, keep: impl Fn(&str) -> bool) -> Result<Gram> {
        let mut rows = vec![vec![0.0; self.tasks()]; self.tasks()];
        for name in self.names().into_iter().filter(|name| keep(name)) {
            let (tasks, grads): (Vec<usize>, Vec<Tensor>) =
                self.of(name).map(|(task, grad)| (task, grad.shallow_clone())).unzip();
            let products = products(&grads, None)?;
            for (&i, products) in tasks.iter().zip(&products) {
                for (&j, product) in tasks.iter().zip(products) {
                    rows[i][j] += product;
                }
            }
        }
        Gram::from_rows(&rows)
    }

    /// `Σ w_k g_k`, parameter by parameter.
    ///
    /// # Errors
    ///
    /// [`Error::Shape`] unless there is one weight per task; [`Error::NonFinite`] for a weight that is no number.
    pub fn combine(&self, weights: &[f64]) -> Result<StateDict> {
        self.check_weights(weights)?;
        Ok(self.sum(weights, false))
    }

    /// As [`combine`](Self::combine), in the storage of the gradients where that is safe.
    ///
    /// # Errors
    ///
    /// See [`combine`](Self::combine).
    pub(crate) fn into_combined(self, weights: &[f64]) -> Result<StateDict> {
        self.check_weights(weights)?;
        // Autograd may hand out one tensor as the gradient of two parameters.
        let mut storage: Vec<usize> =
            self.per_task.iter().flat_map(StateDict::iter).map(|(_, t)| t.data_ptr() as usize).collect();
        let count = storage.len();
        storage.sort_unstable();
        storage.dedup();
        Ok(self.sum(weights, storage.len() == count))
    }

    fn check_weights(&self, weights: &[f64]) -> Result<()> {
        if weights.len() != self.tasks() {
            let expected = format!("[{}]", self.tasks());
            return Err(Error::shape("weights", expected, vec![weights.len() as i64]));
        }
        match weights.iter().position(|w| !w.is_finite()) {
            Some(index) => Err(Error::NonFinite { name: "weights".to_owned(), index: index as i64 }),
            None => Ok(()),
        }
    }

    fn sum(&self, weights: &[f64], reuse: bool) -> StateDict {
        let sum = |name: &str| {
            let terms: Vec<(f64, Tensor)> = self
                .of(name)
                .map(|(task, grad)| (weights.get(task).copied().unwrap_or(0.0), grad.shallow_clone()))
                .collect();
            let reuse = reuse && terms.first().is_some_and(|(_, t)| t.is_contiguous());
            Some((name.to_owned(), weighted_sum(&terms, reuse)?))
        };
        self.names().into_iter().filter_map(sum).collect()
    }

    /// `⟨g_i, h_j⟩` between the gradients here and those of the same tasks elsewhere, row by row.
    ///
    /// # Errors
    ///
    /// [`Error::Shape`] when a parameter has another shape there.
    pub fn cross(&self, other: &Self) -> Result<Vec<Vec<f64>>> {
        let mut rows = vec![vec![0.0; other.tasks()]; self.tasks()];
        for name in self.names() {
            let owned = |dicts: &Self| -> (Vec<usize>, Vec<Tensor>) {
                dicts.of(name).map(|(task, grad)| (task, grad.shallow_clone())).unzip()
            };
            let ((tasks, here), (others, there)) = (owned(self), owned(other));
            if there.is_empty() {
                continue;
            }
            for (&i, products) in tasks.iter().zip(products(&here, Some(&there))?) {
                for (&j, product) in others.iter().zip(products) {
                    rows[i][j] += product;
                }
            }
        }
        Ok(rows)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dict(entries: &[(&str, &[f64])]) -> StateDict {
        entries.iter().map(|(name, values)| ((*name).to_owned(), Tensor::from_slice(values))).collect()
    }

    #[test]
    fn a_parameter_that_a_task_does_not_use_counts_as_zero() {
        let grads =
            TaskGrads::new(vec![dict(&[("a", &[1.0]), ("b", &[2.0])]), dict(&[("b", &[3.0])])]).unwrap();
        let gram = grads.gram().unwrap();
        assert_eq!((gram.row(0), gram.row(1)), ([5.0, 6.0].as_slice(), [6.0, 9.0].as_slice()));
        let sum = grads.combine(&[2.0, 1.0]).unwrap();
        assert_eq!([sum.get("a"), sum.get("b")].map(|t| t.unwrap().double_value(&[0])), [2.0, 7.0]);
    }

    #[test]
    fn small_gradients_are_not_lost_beside_large_ones() {
        let f32s = |v: [f32; 2]| StateDict::from_iter([("w".to_owned(), Tensor::from_slice(&v))]);
        let gram = TaskGrads::new(vec![f32s([1e4, 1e-2]), f32s([-1e4, 1e-2])]).unwrap().gram().unwrap();
        let tiny = f64::from(1e-2f32).powi(2);
        assert!((gram.get(0, 0) + gram.get(0, 1) - 2.0 * tiny).abs() < 1e-7);
    }

    #[test]
    fn bad_input_is_refused() {
        let err = TaskGrads::new(vec![dict(&[("w", &[1.0])]), dict(&[("w", &[1.0, 2.0])])]).unwrap_err();
        insta::assert_snapshot!(err, @"`gradient of w` must have shape [1], but has [2]");
        let grads = TaskGrads::new(vec![dict(&[("w", &[f64::NAN])])]).unwrap();
        insta::assert_snapshot!(grads.gram().unwrap_err(), @"`gram` is not finite at index 0");
        insta::assert_snapshot!(grads.combine(&[]).unwrap_err(), @"`weights` must have shape [1], but has [0]");
        assert!(Gram::from_rows(&[]).is_err() && Gram::from_rows(&[vec![1.0, 2.0]]).is_err());
    }
}
