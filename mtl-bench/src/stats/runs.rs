//! Score matrices whose axes cannot be confused: runs by tasks, and items by run.
use super::mean;
use crate::{Error, Result};

/// Scores of one method: for each task, one score per run (seed). Tasks may have different numbers of runs.
///
/// ```
/// use mtl_bench::stats::RunsByTasks;
///
/// let scores = RunsByTasks::from_rows(&[vec![0.9, 0.5], vec![0.7, 0.3]])?; // [runs, tasks]
/// assert_eq!((scores.n_tasks(), scores.task_means()), (2, vec![0.8, 0.4]));
/// # Ok::<(), mtl_bench::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct RunsByTasks {
    tasks: Vec<String>,
    /// One column of run scores per task.
    columns: Vec<Vec<f64>>,
}

impl RunsByTasks {
    /// One column of run scores for each of `tasks`.
    ///
    /// # Errors
    ///
    /// [`Error::Argument`] when there are no tasks or another number of columns, [`Error::Metric`] with run and task
    /// for a task without runs or a score that is not finite.
    pub fn new(tasks: Vec<String>, columns: Vec<Vec<f64>>) -> Result<Self> {
        if tasks.is_empty() || tasks.len() != columns.len() {
            let must = "one column of scores for each of 1 or more tasks";
            return Err(Error::argument(
                "columns",
                must,
                format!("{} columns, {} tasks", columns.len(), tasks.len()),
            ));
        }
        for (task, column) in tasks.iter().zip(&columns) {
            if column.is_empty() {
                return Err(Error::metric("score", "there are no runs").in_task(task));
            }
            if let Some(run) = column.iter().position(|v| !v.is_finite()) {
                return Err(Error::metric("score", format!("run {run} is {}", column[run])).in_task(task));
            }
        }
        Ok(Self { tasks, columns })
    }

    /// From rows `[runs, tasks]`; the tasks are named by their index.
    ///
    /// # Errors
    ///
    /// As [`RunsByTasks::new`], and [`Error::Argument`] for rows of unequal length.
    pub fn from_rows(rows: &[Vec<f64>]) -> Result<Self> {
        let n_tasks = rows.first().map_or(0, Vec::len);
        if let Some(run) = rows.iter().position(|row| row.len() != n_tasks) {
            let found = format!("{} in run {run}", rows[run].len());
            return Err(Error::argument("rows", format!("of {n_tasks} tasks in every run"), found));
        }
        let column = |task: usize| rows.iter().map(|row| row[task]).collect();
        Self::new((0..n_tasks).map(|t| t.to_string()).collect(), (0..n_tasks).map(column).collect())
    }

    /// Names of the tasks.
    pub fn tasks(&self) -> &[String] {
        &self.tasks
    }

    /// The run scores of each task.
    pub fn columns(&self) -> &[Vec<f64>] {
        &self.columns
    }

    /// Number of tasks.
    pub fn n_tasks(&self) -> usize {
        self.columns.len()
    }

    /// Number of scores: the sum of runs over tasks.
    pub fn n_scores(&self) -> usize {
        self.columns.iter().map(Vec::len).sum()
    }

    /// The smallest number of runs of a task.
    pub fn fewest_runs(&self) -> usize {
        self.columns.iter().map(Vec::len).min().unwrap_or(0)
    }

    /// All scores, task after task.
    pub fn flat(&self) -> Vec<f64> {
        self.columns.concat()
    }

    /// Mean over runs of each task.
    pub fn task_means(&self) -> Vec<f64> {
        self.columns.iter().map(|c| mean(c)).collect()
    }

    /// Applies `f(task index, score)` to every score.
    ///
    /// # Errors
    ///
    /// [`Error::Metric`] when a result is not finite.
    pub fn map(&self, f: impl Fn(usize, f64) -> f64) -> Result<Self> {
        let column = |(task, c): (usize, &Vec<f64>)| c.iter().map(|&v| f(task, v)).collect();
        Self::new(self.tasks.clone(), self.columns.iter().enumerate().map(column).collect())
    }

    /// Access for resampling, which keeps at least one finite score per task.
    pub(super) fn columns_mut(&mut self) -> &mut [Vec<f64>] {
        &mut self.columns
    }
}

/// Scores of test items, episodes or checkpoints inside each run. Items are not replications: the run is.
#[derive(Debug, Clone, PartialEq)]
pub struct ItemsByRun {
    runs: Vec<Vec<f64>>,
}

impl ItemsByRun {
    /// The item scores of each run.
    ///
    /// # Errors
    ///
    /// [`Error::Metric`] when there are no runs, a run has no items, or a score is not finite.
    pub fn new(runs: Vec<Vec<f64>>) -> Result<Self> {
        if runs.is_empty() {
            return Err(Error::metric("score", "there are no runs"));
        }
        for (run, items) in runs.iter().enumerate() {
            if items.is_empty() {
                return Err(Error::metric("score", format!("run {run} has no items")));
            }
            if let Some(item) = items.iter().position(|v| !v.is_finite()) {
                return Err(Error::metric("score", format!("item {item} of run {run} is {}", items[item])));
            }
        }
        Ok(Self { runs })
    }

    /// The item scores of each run.
    pub fn runs(&self) -> &[Vec<f64>] {
        &self.runs
    }

    /// Mean over items: one number per replication, for intervals and tests.
    pub fn run_means(&self) -> Vec<f64> {
        self.runs.iter().map(|r| mean(r)).collect()
    }
}
