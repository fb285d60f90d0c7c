//! The results store: records in, groups, pairs and tables out.
mod csv;
mod jsonl;
mod order;
mod pairs;

pub use order::natural_cmp;
pub use pairs::{Pair, Pairs};

use crate::stats::Estimate;
use crate::{Error, Result};
use mtl_core::Record;
use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::path::Path;

/// A column of [`Record`] by which results are grouped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Key {
    /// [`Record::study`].
    Study,
    /// [`Record::setting`].
    Setting,
    /// [`Record::method`].
    Method,
    /// [`Record::task`].
    Task,
    /// [`Record::metric`].
    Metric,
}

impl Key {
    /// The record's value in this column.
    pub fn of(self, record: &Record) -> &str {
        match self {
            Self::Study => &record.study,
            Self::Setting => &record.setting,
            Self::Method => &record.method,
            Self::Task => &record.task,
            Self::Metric => &record.metric,
        }
    }

    /// Name of the column.
    pub fn name(self) -> &'static str {
        match self {
            Self::Study => "study",
            Self::Setting => "setting",
            Self::Method => "method",
            Self::Task => "task",
            Self::Metric => "metric",
        }
    }
}

/// Records in a fixed order: by study, setting, method, task, metric, seed, step, cell.
///
/// ```
/// use mtl_bench::{Record, Results};
///
/// let runs = (0..3).map(|seed| Record::new("accuracy", 0.9 + 0.01 * seed as f64).method("pcgrad").seed(seed));
/// let results = Results::from_records(runs)?;
/// let estimate = results.metric("accuracy").method("pcgrad").estimate(0.95)?;
/// assert_eq!((estimate.n, format!("{:.2}", estimate.mean)), (3, "0.91".into()));
/// # Ok::<(), mtl_bench::Error>(())
/// ```
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Results {
    records: Vec<Record>,
}

impl Results {
    /// Sorts `records`, whatever order they were produced in.
    ///
    /// # Errors
    ///
    /// [`mtl_core::Error::Config`] for a value that is not finite, [`Error::Ambiguous`] for a record that is there twice.
    pub fn from_records(records: impl IntoIterator<Item = Record>) -> Result<Self> {
        let records: Vec<Record> = records.into_iter().collect();
        for record in &records {
            record.check()?;
        }
        let records = order::sorted(records);
        let twins =
            |a: &Record, b: &Record| a.seed == b.seed && a.step == b.step && order::compare(a, b).is_eq();
        match records.windows(2).find(|w| twins(&w[0], &w[1])) {
            Some(twins) => Err(Error::Ambiguous { what: order::describe(&twins[0]), count: 2 }),
            None => Ok(Self { records }),
        }
    }

    /// Reads a `.csv` or `.jsonl` file.
    ///
    /// # Errors
    ///
    /// [`Error::Row`] with the line of the first fault, [`mtl_core::Error::Io`], [`mtl_core::Error::Format`] for another extension.
    pub fn read(path: &Path) -> Result<Self> {
        let records = match extension(path)? {
            Format::Csv => csv::read(path)?,
            Format::Jsonl => jsonl::read(path)?,
        };
        Self::from_records(records)
    }

    /// Writes a `.csv` or `.jsonl` file; a kill leaves the old file or the new one.
    ///
    /// # Errors
    ///
    /// [`mtl_core::Error::Io`] when the directory is missing, read-only or full, [`mtl_core::Error::Format`] for another extension.
    pub fn write(&self, path: &Path) -> Result<()> {
        let written = match extension(path)? {
            Format::Csv => mtl_core::files::write_atomic(path, |w| csv::write(&self.records, w)),
            Format::Jsonl => mtl_core::files::write_atomic(path, |w| jsonl::write(&self.records, w)),
        };
        Ok(written?)
    }

    /// The records, in order.
    pub fn records(&self) -> &[Record] {
        &self.records
    }

    /// Number of records.
    pub fn len(&self) -> usize {
        self.records.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    /// The records that `keep` accepts.
    #[must_use]
    pub fn filter(&self, keep: impl Fn(&Record) -> bool) -> Self {
        Self { records: self.records.iter().filter(|r| keep(r)).cloned().collect() }
    }

    /// The records whose `key` is `value`.
    #[must_use]
    pub fn only(&self, key: Key, value: &str) -> Self {
        self.filter(|r| key.of(r) == value)
    }

    /// The records of one metric.
    #[must_use]
    pub fn metric(&self, name: &str) -> Self {
        self.only(Key::Metric, name)
    }

    /// The records of one method.
    #[must_use]
    pub fn method(&self, name: &str) -> Self {
        self.only(Key::Method, name)
    }

    /// The records of one setting.
    #[must_use]
    pub fn setting(&self, name: &str) -> Self {
        self.only(Key::Setting, name)
    }

    /// The records of one task; `""` for numbers about all tasks.
    #[must_use]
    pub fn task(&self, name: &str) -> Self {
        self.only(Key::Task, name)
    }

    /// Of each measured quantity, the record with the last step.
    #[must_use]
    pub fn last_step(&self) -> Self {
        self.clone().into_last_step()
    }

    /// As [`Results::last_step`], without a copy.
    #[must_use]
    pub fn into_last_step(self) -> Self {
        let mut records: Vec<Record> = Vec::with_capacity(self.records.len());
        for record in self.records {
            match records.last_mut() {
                // Sorted by step within a series.
                Some(last) if order::same_series(last, &record) => *last = record,
                _ => records.push(record),
            }
        }
        Self { records }
    }

    /// The values of `key` that occur, in natural order (`task-2` before `task-10`).
    pub fn names(&self, key: Key) -> Vec<String> {
        let mut names: Vec<&str> =
            self.records.iter().map(|r| key.of(r)).collect::<HashSet<_>>().into_iter().collect();
        names.sort_unstable_by(|a, b| natural_cmp(a, b));
        names.into_iter().map(str::to_owned).collect()
    }

    /// The seeds that occur, ascending.
    pub fn seeds(&self) -> Vec<u64> {
        self.records.iter().map(|r| r.seed).collect::<BTreeSet<_>>().into_iter().collect()
    }

    /// The steps that occur, ascending.
    pub fn steps(&self) -> Vec<u64> {
        self.records.iter().map(|r| r.step).collect::<BTreeSet<_>>().into_iter().collect()
    }

    /// Groups by the values of `key`, in natural order.
    pub fn group_by(&self, key: Key) -> Vec<(String, Results)> {
        self.names(key).into_iter().map(|name| (name.clone(), self.only(key, &name))).collect()
    }

    /// The one value of each seed.
    ///
    /// # Errors
    ///
    /// [`Error::Ambiguous`] when a seed has several values: the results still mix tasks, methods, settings or steps.
    pub fn by_seed(&self) -> Result<BTreeMap<u64, f64>> {
        by_seed(self.records.iter())
    }

    /// Mean over seeds with a t interval at `level`, such as 0.95.
    ///
    /// # Errors
    ///
    /// [`Error::Ambiguous`] as [`Results::by_seed`], [`Error::Argument`] when there are no records or the level is out of range.
    pub fn estimate(&self, level: f64) -> Result<Estimate> {
        let values: Vec<f64> = self.by_seed()?.into_values().collect();
        Estimate::of(&values, level)
    }

    /// Replaces the tasks of each run by their mean, as records with an empty task; numbers about all tasks are left out.
    ///
    /// # Errors
    ///
    /// [`Error::Missing`] when a run lacks a task that others of its setting and metric have.
    pub fn mean_over_tasks(&self) -> Result<Self> {
        let tasks = self.filter(|r| !r.task.is_empty());
        let mut expected: BTreeMap<(String, String), BTreeSet<String>> = BTreeMap::new();
        let mut runs: BTreeMap<String, Vec<&Record>> = BTreeMap::new();
        for record in &tasks.records {
            let scope = (record.setting.clone(), record.metric.clone());
            expected.entry(scope).or_default().insert(record.task.clone());
            let blank = Record { task: String::new(), ..record.clone() };
            runs.entry(order::describe(&blank) + &record.cell).or_default().push(record);
        }
        let mut means = Vec::with_capacity(runs.len());
        for run in runs.values() {
            let first = run[0];
            let all = &expected[&(first.setting.clone(), first.metric.clone())];
            if let Some(task) = all.iter().find(|&task| run.iter().all(|r| r.task != *task)) {
                return Err(Error::Missing {
                    what: order::describe(&Record { task: task.clone(), ..first.clone() }),
                });
            }
            let value = run.iter().map(|r| r.value).sum::<f64>() / run.len() as f64;
            means.push(Record { task: String::new(), value, ..first.clone() });
        }
        Self::from_records(means)
    }
}

/// The one value of each seed.
pub(crate) fn by_seed<'a>(records: impl Iterator<Item = &'a Record> + Clone) -> Result<BTreeMap<u64, f64>> {
    let mut values = BTreeMap::new();
    for record in records.clone() {
        if values.insert(record.seed, record.value).is_some() {
            let count = records.filter(|r| r.seed == record.seed).count();
            return Err(Error::Ambiguous { what: order::describe(record), count });
        }
    }
    Ok(values)
}

enum Format {
    Csv,
    Jsonl,
}

fn extension(path: &Path) -> Result<Format> {
    match path.extension().and_then(|e| e.to_str()) {
        Some("csv") => Ok(Format::Csv),
        Some("jsonl") => Ok(Format::Jsonl),
        _ => Err(mtl_core::Error::format(path, "the extension must be `csv` or `jsonl`").into()),
    }
}

#[cfg(test)]
mod tests;
