//! Continual learning: the accuracy matrix and what is read from it.
//!
//! Chaudhry et al., *Riemannian Walk for Incremental Learning*, ECCV 2018, arXiv 1801.10112 (forgetting); Lopez-Paz and
//! Ranzato, *Gradient Episodic Memory for Continual Learning*, NeurIPS 2017, arXiv 1706.08840 (backward and forward transfer).
use crate::store::{Key, Results};
use crate::{Error, Result};
use serde::{Deserialize, Serialize};

/// Definitions of forgetting in use; say which one a table shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Forgetting {
    /// Best accuracy before the last experience, also before the task was learnt, minus the final one. May be negative.
    #[default]
    Chaudhry,
    /// As Chaudhry, from the task's own experience on.
    FromLearning,
    /// Accuracy just after learning minus the final one: the negative of backward transfer (Avalanche).
    InitialMinusLast,
    /// Best accuracy from the task's own experience on, the last included: never below 0 (Mammoth).
    NonNegative,
}

/// Accuracy on every task (column) after every experience (row); entries above the diagonal may be unknown.
///
/// ```
/// use mtl_bench::metrics::{AccuracyMatrix, Forgetting};
///
/// let names = ["a".to_owned(), "b".to_owned()];
/// let matrix = AccuracyMatrix::new(&names, vec![vec![Some(0.9), None], vec![Some(0.7), Some(0.8)]])?;
/// assert_eq!(matrix.average_accuracy(), 0.75);
/// assert!((matrix.forgetting(Forgetting::default())? - 0.2).abs() < 1e-12);
/// assert!((matrix.backward_transfer()? + 0.2).abs() < 1e-12);
/// # Ok::<(), mtl_bench::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct AccuracyMatrix {
    tasks: Vec<String>,
    rows: Vec<Vec<Option<f64>>>,
}

impl AccuracyMatrix {
    /// Checks that the matrix is square, finite and complete on and below the diagonal.
    ///
    /// # Errors
    ///
    /// [`Error::Metric`] naming the task and the experience.
    pub fn new(tasks: &[String], rows: Vec<Vec<Option<f64>>>) -> Result<Self> {
        let n = tasks.len();
        if n == 0 || rows.len() != n || rows.iter().any(|row| row.len() != n) {
            return Err(fault(format!(
                "the matrix must be {n} × {n}, one row per experience, and not empty"
            )));
        }
        for (i, row) in rows.iter().enumerate() {
            for (j, value) in row.iter().enumerate() {
                let good = value.map_or(j > i, f64::is_finite);
                if !good {
                    let found = value.map_or("missing".to_owned(), |v| v.to_string());
                    return Err(
                        fault(format!("the value after experience {i} is {found}")).in_task(&tasks[j])
                    );
                }
            }
        }
        Ok(Self { tasks: tasks.to_vec(), rows })
    }

    /// A matrix without gaps.
    ///
    /// # Errors
    ///
    /// [`Error::Metric`] as [`AccuracyMatrix::new`].
    pub fn full(tasks: &[String], rows: Vec<Vec<f64>>) -> Result<Self> {
        Self::new(tasks, rows.into_iter().map(|row| row.into_iter().map(Some).collect()).collect())
    }

    /// The matrix of one run: records of one method, setting and seed, whose steps are the experiences, in the order of `tasks`.
    ///
    /// # Errors
    ///
    /// [`Error::Metric`] when an entry on or below the diagonal is missing, [`Error::Ambiguous`] when one is there twice.
    pub fn from_results(run: &Results, metric: &str, tasks: &[String]) -> Result<Self> {
        let run = run.metric(metric).filter(|r| !r.task.is_empty());
        let steps = run.steps();
        if steps.len() != tasks.len() {
            return Err(fault(format!(
                "{} experiences were recorded, but there are {} tasks",
                steps.len(),
                tasks.len()
            )));
        }
        let mut rows = Vec::with_capacity(steps.len());
        for step in steps {
            let at = run.filter(|r| r.step == step);
            let entry = |task: &String| {
                let found = at.only(Key::Task, task);
                match found.records() {
                    [] => Ok(None),
                    [record] => Ok(Some(record.value)),
                    many => Err(Error::Ambiguous {
                        what: format!("`{metric}` of task `{task}` after step {step}"),
                        count: many.len(),
                    }),
                }
            };
            rows.push(tasks.iter().map(entry).collect::<Result<Vec<_>>>()?);
        }
        Self::new(tasks, rows)
    }

    /// Entry-wise mean of the matrices of several seeds; unknown where one of them is.
    ///
    /// # Errors
    ///
    /// [`Error::Metric`] when there are none or their tasks differ.
    pub fn mean(matrices: &[Self]) -> Result<Self> {
        let Some(first) = matrices.first() else {
            return Err(fault("there are no matrices to average".to_owned()));
        };
        if let Some(other) = matrices.iter().find(|m| m.tasks != first.tasks) {
            return Err(fault(format!(
                "matrices of different tasks: {:?} and {:?}",
                first.tasks, other.tasks
            )));
        }
        let entry = |i: usize, j: usize| -> Option<f64> {
            let values: Option<Vec<f64>> = matrices.iter().map(|m| m.rows[i][j]).collect();
            values.map(|v| v.iter().sum::<f64>() / v.len() as f64)
        };
        let n = first.tasks.len();
        Self::new(&first.tasks, (0..n).map(|i| (0..n).map(|j| entry(i, j)).collect()).collect())
    }

    /// Names of the tasks, in the order of training.
    pub fn tasks(&self) -> &[String] {
        &self.tasks
    }

    /// The entries: `rows()[i][j]` is the accuracy on task j after experience i.
    pub fn rows(&self) -> &[Vec<Option<f64>>] {
        &self.rows
    }

    /// An entry that [`AccuracyMatrix::new`] has checked: on or below the diagonal.
    fn known(&self, i: usize, j: usize) -> f64 {
        self.rows[i][j].unwrap_or(f64::NAN)
    }

    fn last(&self) -> usize {
        self.tasks.len() - 1
    }

    /// Mean over all tasks after the last experience.
    pub fn average_accuracy(&self) -> f64 {
        mean((0..=self.last()).map(|j| self.known(self.last(), j)))
    }

    /// Per experience, the mean over the tasks seen so far.
    pub fn average_accuracy_curve(&self) -> Vec<f64> {
        (0..=self.last()).map(|i| mean((0..=i).map(|j| self.known(i, j)))).collect()
    }

    /// Mean over experiences of the mean over the tasks seen so far.
    pub fn average_incremental_accuracy(&self) -> f64 {
        mean(self.average_accuracy_curve().into_iter())
    }

    /// Mean accuracy of each task just after it was learnt.
    pub fn learning_accuracy(&self) -> f64 {
        mean((0..=self.last()).map(|j| self.known(j, j)))
    }

    /// Final accuracy of the worst task.
    pub fn worst_task_accuracy(&self) -> f64 {
        (0..=self.last()).map(|j| self.known(self.last(), j)).fold(f64::INFINITY, f64::min)
    }

    /// Mean forgetting over all tasks but the last. Unknown entries above the diagonal are left out of Chaudhry's maximum.
    ///
    /// # Errors
    ///
    /// [`Error::Metric`] when there is a single task.
    pub fn forgetting(&self, definition: Forgetting) -> Result<f64> {
        let last = self.several("forgetting")?;
        let best = |from: usize, to: usize, j: usize| {
            (from..=to).filter_map(|i| self.rows[i][j]).fold(f64::NEG_INFINITY, f64::max)
        };
        Ok(mean((0..last).map(|j| {
            let before = match definition {
                Forgetting::Chaudhry => best(0, last - 1, j),
                Forgetting::FromLearning => best(j, last - 1, j),
                Forgetting::InitialMinusLast => self.known(j, j),
                Forgetting::NonNegative => best(j, last, j),
            };
            before - self.known(last, j)
        })))
    }

    /// Mean over earlier tasks of final accuracy minus accuracy just after learning.
    ///
    /// # Errors
    ///
    /// [`Error::Metric`] when there is a single task.
    pub fn backward_transfer(&self) -> Result<f64> {
        let last = self.several("backward_transfer")?;
        Ok(mean((0..last).map(|j| self.known(last, j) - self.known(j, j))))
    }

    /// Mean, over all pairs of an earlier task and a later experience, of accuracy minus accuracy just after learning.
    ///
    /// Díaz-Rodríguez et al., *Don't forget, there is more than forgetting*, 2018, arXiv 1810.13166.
    ///
    /// # Errors
    ///
    /// [`Error::Metric`] when there is a single task.
    pub fn backward_transfer_all_steps(&self) -> Result<f64> {
        let last = self.several("backward_transfer")?;
        let after = |i: usize| (0..i).map(move |j| self.known(i, j) - self.known(j, j));
        Ok(mean((1..=last).flat_map(after)))
    }

    /// Mean over later tasks of the accuracy just before learning minus `baseline`, that of a randomly initialised model.
    ///
    /// It has no meaning when classes are added over time: an unseen class cannot be predicted.
    ///
    /// # Errors
    ///
    /// [`Error::Metric`] when there is a single task, a baseline is missing or a needed entry above the diagonal is unknown.
    pub fn forward_transfer(&self, baseline: &[f64]) -> Result<f64> {
        const NAME: &str = "forward_transfer";
        let last = self.several(NAME)?;
        if baseline.len() != self.tasks.len() {
            let message = format!("{} baselines, but {} tasks", baseline.len(), self.tasks.len());
            return Err(Error::metric(NAME, message));
        }
        super::finite(NAME, "baseline", baseline.iter().copied())?;
        let mut total = 0.0;
        for (j, chance) in baseline.iter().enumerate().skip(1) {
            let before = self.rows[j - 1][j].ok_or_else(|| {
                let message = format!("the accuracy after experience {} is not known", j - 1);
                Error::metric(NAME, message).in_task(&self.tasks[j])
            })?;
            total += before - chance;
        }
        Ok(total / last as f64)
    }

    fn several(&self, metric: &'static str) -> Result<usize> {
        match self.last() {
            0 => Err(Error::metric(metric, "at least two tasks are needed")),
            last => Ok(last),
        }
    }
}

fn fault(message: String) -> Error {
    Error::metric("accuracy matrix", message)
}

fn mean(values: impl Iterator<Item = f64>) -> f64 {
    let (sum, n) = values.fold((0.0, 0_u32), |(sum, n), v| (sum + v, n + 1));
    sum / f64::from(n)
}

#[cfg(test)]
mod tests {
    use super::*;
    use mtl_core::Record;

    fn names() -> Vec<String> {
        vec!["a".to_owned(), "b".to_owned()]
    }

    #[test]
    fn a_run_is_read_from_its_records() {
        let entry = |step, task: &str, value| Record::new("accuracy", value).task(task).step(step);
        let run =
            Results::from_records([entry(10, "a", 0.9), entry(20, "a", 0.5), entry(20, "b", 0.8)]).unwrap();
        let matrix = AccuracyMatrix::from_results(&run, "accuracy", &names()).unwrap();
        assert_eq!(matrix.rows(), [[Some(0.9), None], [Some(0.5), Some(0.8)]]);
        let holed = run.filter(|r| r.value != 0.5);
        insta::assert_snapshot!(AccuracyMatrix::from_results(&holed, "accuracy", &names()).unwrap_err(), @"`accuracy matrix` of task `a`: the value after experience 1 is missing");
    }

    #[test]
    fn forward_transfer_needs_what_came_before_learning() {
        let matrix =
            AccuracyMatrix::new(&names(), vec![vec![Some(0.9), None], vec![Some(0.7), Some(0.8)]]).unwrap();
        insta::assert_snapshot!(matrix.forward_transfer(&[0.5, 0.5]).unwrap_err(), @"`forward_transfer` of task `b`: the accuracy after experience 0 is not known");
        let one = AccuracyMatrix::full(&names()[..1], vec![vec![0.9]]).unwrap();
        assert!(one.forgetting(Forgetting::Chaudhry).is_err() && one.backward_transfer().is_err());
    }
}
