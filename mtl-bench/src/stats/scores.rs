//! The long table of scores, with the keys by which methods are paired.
use super::RunsByTasks;
use crate::metrics::Better;
use crate::store::Results;
use crate::{Error, Result};
use std::collections::{BTreeMap, BTreeSet};

/// What two methods must share for their scores to be paired: the task and everything random about the run.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct PairingKey {
    /// Task.
    pub task: String,
    /// Seed of the run: initial weights and data order.
    pub seed: u64,
    /// Fold of the data; 0 without cross-validation.
    pub fold: u32,
}

impl std::fmt::Display for PairingKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "task `{}` seed {}", self.task, self.seed)?;
        if self.fold > 0 { write!(f, " fold {}", self.fold) } else { Ok(()) }
    }
}

/// One row of the table.
#[derive(Debug, Clone, PartialEq)]
pub struct Score {
    /// Method.
    pub method: String,
    /// Task and run.
    pub key: PairingKey,
    /// The score.
    pub value: f64,
}

/// What becomes of scores that are not finite.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum NonFinite {
    /// An error names run and task.
    #[default]
    Refuse,
    /// The row is dropped, which breaks the pair.
    Drop,
    /// It becomes the worst finite score of the task over all methods.
    Worst,
}

/// Scores of several methods in one metric, by pairing key.
///
/// ```
/// use mtl_bench::{Record, Results, metrics::Better, stats::Scores};
///
/// let run = |method: &str, seed, value| Record::new("accuracy", value).method(method).task("t").seed(seed);
/// let results = Results::from_records([run("x", 0, 0.5), run("x", 1, 0.6), run("y", 1, 0.7)])?;
/// let scores = Scores::from_results(&results, "accuracy", Better::Higher)?;
/// assert!(scores.pairs("x", "y").unwrap_err().to_string().contains("`y` at task `t` seed 0"));
/// let (complete, dropped) = scores.complete_blocks();
/// assert_eq!((complete.pairs("x", "y")?.len(), dropped), (1, 1));
/// # Ok::<(), mtl_bench::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct Scores {
    /// Metric, for messages.
    pub metric: String,
    /// Direction of the metric.
    pub better: Better,
    methods: BTreeMap<String, BTreeMap<PairingKey, f64>>,
}

impl Scores {
    /// Collects `rows`, in any order.
    ///
    /// # Errors
    ///
    /// [`Error::Ambiguous`] for two rows of one method with the same key, [`Error::Metric`] for a score that is not
    /// finite unless the policy allows it, [`Error::Missing`] when no rows are left.
    pub fn new(
        metric: impl Into<String>,
        better: Better,
        rows: impl IntoIterator<Item = Score>,
        non_finite: NonFinite,
    ) -> Result<Self> {
        let metric = metric.into();
        let mut methods: BTreeMap<String, BTreeMap<PairingKey, f64>> = BTreeMap::new();
        for Score { method, key, value } in rows {
            if !value.is_finite() && non_finite == NonFinite::Refuse {
                let what = format!("`{method}` has {value} at seed {}", key.seed);
                return Err(Error::metric("score", what).in_task(&key.task));
            }
            let runs = methods.entry(method.clone()).or_default();
            if runs.contains_key(&key) {
                return Err(Error::Ambiguous { what: format!("{metric} of `{method}` at {key}"), count: 2 });
            }
            runs.insert(key, value);
        }
        match non_finite {
            NonFinite::Refuse => {}
            NonFinite::Drop => methods.values_mut().for_each(|runs| runs.retain(|_, v| v.is_finite())),
            NonFinite::Worst => replace_by_worst(&mut methods, better)?,
        }
        methods.retain(|_, runs| !runs.is_empty());
        if methods.is_empty() {
            return Err(Error::Missing { what: metric });
        }
        Ok(Self { metric, better, methods })
    }

    /// The records of `metric`; select setting and step first.
    ///
    /// # Errors
    ///
    /// As [`Scores::new`].
    pub fn from_results(results: &Results, metric: &str, better: Better) -> Result<Self> {
        let of_metric = results.records().iter().filter(|r| r.metric == metric);
        let rows = of_metric.map(|r| Score {
            method: r.method.clone(),
            key: PairingKey { task: r.task.clone(), seed: r.seed, fold: 0 },
            value: r.value,
        });
        Self::new(metric, better, rows, NonFinite::Refuse)
    }

    /// Names of the methods, sorted.
    pub fn methods(&self) -> Vec<&str> {
        self.methods.keys().map(String::as_str).collect()
    }

    /// Names of all tasks, sorted.
    pub fn tasks(&self) -> Vec<&str> {
        let keys = self.methods.values().flat_map(BTreeMap::keys);
        keys.map(|k| k.task.as_str()).collect::<BTreeSet<_>>().into_iter().collect()
    }

    fn runs(&self, method: &str) -> Result<&BTreeMap<PairingKey, f64>> {
        self.methods
            .get(method)
            .ok_or_else(|| Error::Missing { what: format!("{} of `{method}`", self.metric) })
    }

    /// The scores of `method` by task.
    ///
    /// # Errors
    ///
    /// [`Error::Missing`] when there is no such method.
    pub fn runs_by_tasks(&self, method: &str) -> Result<RunsByTasks> {
        let mut columns: BTreeMap<&str, Vec<f64>> = BTreeMap::new();
        for (key, &value) in self.runs(method)? {
            columns.entry(&key.task).or_default().push(value);
        }
        let (tasks, columns) = columns.into_iter().map(|(t, c)| (t.to_owned(), c)).unzip();
        RunsByTasks::new(tasks, columns)
    }

    /// The scores of two methods by key.
    ///
    /// # Errors
    ///
    /// [`Error::Missing`] that names the keys one of them lacks, or the method that is unknown.
    pub fn pairs(&self, a: &str, b: &str) -> Result<Vec<(PairingKey, f64, f64)>> {
        let (x, y) = (self.runs(a)?, self.runs(b)?);
        let lacks = |name: &str, has: &BTreeMap<PairingKey, f64>, lacks: &BTreeMap<PairingKey, f64>| {
            let keys = has.keys().filter(|k| !lacks.contains_key(*k));
            keys.map(|k| format!("`{name}` at {k}")).collect::<Vec<_>>()
        };
        let missing = [lacks(b, x, y), lacks(a, y, x)].concat();
        if !missing.is_empty() {
            let more = missing.len().saturating_sub(8);
            let mut what = format!("{} of {}", self.metric, missing[..missing.len() - more].join(", "));
            if more > 0 {
                what.push_str(&format!(" and {more} more"));
            }
            what.push_str(", so a paired test is impossible; `complete_blocks` drops such keys");
            return Err(Error::Missing { what });
        }
        Ok(x.iter().zip(y.values()).map(|((k, &v), &w)| (k.clone(), v, w)).collect())
    }

    /// The keys that every method has, and the number of keys dropped.
    pub fn complete_blocks(&self) -> (Self, usize) {
        let all: BTreeSet<&PairingKey> = self.methods.values().flat_map(BTreeMap::keys).collect();
        let complete: BTreeSet<&PairingKey> =
            all.iter().copied().filter(|k| self.methods.values().all(|r| r.contains_key(*k))).collect();
        let mut kept = self.clone();
        kept.methods.values_mut().for_each(|runs| runs.retain(|k, _| complete.contains(k)));
        (kept, all.len() - complete.len())
    }

    /// Mean of each method on each task, `[tasks, methods]` in the order of [`Scores::tasks`] and
    /// [`Scores::methods`].
    ///
    /// # Errors
    ///
    /// [`Error::Missing`] when a method lacks a task.
    pub fn task_means(&self) -> Result<Vec<Vec<f64>>> {
        let tasks = self.tasks();
        let mut columns = Vec::new();
        for method in self.methods() {
            let runs = self.runs_by_tasks(method)?;
            if let Some(task) = tasks.iter().find(|t| !runs.tasks().iter().any(|r| r == *t)) {
                return Err(Error::Missing {
                    what: format!("{} of `{method}` on task `{task}`", self.metric),
                });
            }
            columns.push(runs.task_means());
        }
        Ok((0..tasks.len()).map(|t| columns.iter().map(|c| c[t]).collect()).collect())
    }
}

fn replace_by_worst(methods: &mut BTreeMap<String, BTreeMap<PairingKey, f64>>, better: Better) -> Result<()> {
    let mut worst: BTreeMap<String, f64> = BTreeMap::new();
    for (key, &value) in methods.values().flatten().filter(|(_, v)| v.is_finite()) {
        let entry = worst.entry(key.task.clone()).or_insert(value);
        if better.is_better(*entry, value) {
            *entry = value;
        }
    }
    for (key, value) in methods.values_mut().flatten().filter(|(_, v)| !v.is_finite()) {
        let Some(replacement) = worst.get(&key.task) else {
            return Err(Error::metric("score", "no method has a finite one").in_task(&key.task));
        };
        *value = *replacement;
    }
    Ok(())
}
