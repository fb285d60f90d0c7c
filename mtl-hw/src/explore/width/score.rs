//! How good widths are: a measured table, an additive proxy, or a closure.
use super::space::{WidthSpace, Widths};
use crate::{HwError, Result, text};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;

/// Measured accuracies of one sub-network.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AccuracyRow {
    /// Width ratio of each stage.
    pub encoder: Vec<f64>,
    /// Width ratio of each decoder.
    pub decoders: Vec<f64>,
    /// Accuracy of each task, larger is better.
    pub tasks: Vec<f64>,
}

/// Measured accuracies by widths; widths that are absent are not chosen.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct AccuracyTable {
    rows: BTreeMap<Widths, Vec<f64>>,
}

/// Score as a sum: one value per stage and width, plus one per task and width times the task's preference.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AdditiveScore {
    /// `[stage][width]`.
    pub encoder: Vec<Vec<f64>>,
    /// `[task][width]`.
    pub decoders: Vec<Vec<f64>>,
}

/// Where scores come from; larger is better.
#[derive(Clone, Copy)]
pub enum Score<'a> {
    /// Any function, which may know the preferences.
    Closure(&'a dyn Fn(&Widths) -> f64),
    /// Measured accuracies, weighted by the preferences.
    Table(&'a AccuracyTable),
    /// A sum, searched exactly by dynamic programming.
    Additive(&'a AdditiveScore),
}

impl fmt::Debug for Score<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Closure(_) => "Closure",
            Self::Table(_) => "Table",
            Self::Additive(_) => "Additive",
        })
    }
}

impl AccuracyTable {
    /// A table from rows.
    ///
    /// # Errors
    ///
    /// [`HwError::Config`] naming the row whose widths are not in the space or repeat, or whose accuracies are not finite
    /// numbers, one per task.
    pub fn new(space: &WidthSpace, rows: &[AccuracyRow]) -> Result<Self> {
        space.validate()?;
        let mut table = Self::default();
        for (i, row) in rows.iter().enumerate() {
            let at = |part: &str| format!("accuracy[{i}].{part}");
            let widths = Widths {
                encoder: indices(&at("encoder"), &row.encoder, &space.encoder)?,
                decoders: indices(&at("decoders"), &row.decoders, &space.decoders)?,
            };
            if row.tasks.len() != space.decoders.len() || row.tasks.iter().any(|a| !a.is_finite()) {
                let must = format!("{} finite numbers, one per task", space.decoders.len());
                return Err(HwError::config(at("tasks"), must, format!("{:?}", row.tasks)));
            }
            if table.rows.insert(widths, row.tasks.clone()).is_some() {
                return Err(HwError::config(
                    format!("accuracy[{i}]"),
                    "of widths that no earlier row has",
                    "a repetition",
                ));
            }
        }
        if table.rows.is_empty() {
            return Err(HwError::config("accuracy", "at least one row", "none"));
        }
        Ok(table)
    }

    /// Reads a JSON list of [`AccuracyRow`]s.
    ///
    /// # Errors
    ///
    /// [`HwError::Parse`] naming the key, or those of [`AccuracyTable::new`].
    pub fn from_json(space: &WidthSpace, json: &str) -> Result<Self> {
        let rows: Vec<AccuracyRow> = text::from_json("accuracy table", json)?;
        Self::new(space, &rows)
    }

    /// Reads CSV: a header, then one row per sub-network. Columns `encoder.0`, …, `decoder.0`, …, `task.0`, … in any order.
    ///
    /// # Errors
    ///
    /// [`HwError::Parse`] naming line and column, or those of [`AccuracyTable::new`].
    pub fn from_csv(space: &WidthSpace, csv: &str) -> Result<Self> {
        let what = "accuracy table";
        let fail = |path: String, reason: String| HwError::Parse { what, path, reason };
        let mut lines = csv.lines().enumerate().filter(|(_, l)| !l.trim().is_empty());
        let header =
            lines.next().map(|(_, l)| l.split(',').map(str::trim).collect::<Vec<_>>()).unwrap_or_default();
        let sizes = [
            ("encoder", space.encoder.len()),
            ("decoder", space.decoders.len()),
            ("task", space.decoders.len()),
        ];
        let mut columns: Vec<(usize, usize)> = Vec::new();
        for name in &header {
            let known = name.split_once('.').and_then(|(kind, i)| {
                let group = sizes.iter().position(|(k, _)| *k == kind)?;
                let i: usize = i.parse().ok()?;
                sizes.get(group).filter(|(_, n)| i < *n).map(|_| (group, i))
            });
            let column = known.filter(|c| !columns.contains(c));
            columns.push(
                column.ok_or_else(|| fail((*name).to_owned(), "unknown or repeated column".to_owned()))?,
            );
        }
        if let Some((kind, i)) = sizes
            .iter()
            .enumerate()
            .flat_map(|(g, &(kind, n))| (0..n).map(move |i| (g, kind, i)))
            .find(|&(g, _, i)| !columns.contains(&(g, i)))
            .map(|(_, kind, i)| (kind, i))
        {
            return Err(fail(format!("{kind}.{i}"), "missing column".to_owned()));
        }
        let mut rows = Vec::new();
        for (n, line) in lines {
            let cells: Vec<&str> = line.split(',').map(str::trim).collect();
            if cells.len() != columns.len() {
                return Err(fail(
                    format!("line {}", n + 1),
                    format!("expected {} cells, found {}", columns.len(), cells.len()),
                ));
            }
            let mut parts = sizes.map(|(_, n)| vec![0.0; n]);
            for ((cell, &(group, i)), name) in cells.iter().zip(&columns).zip(&header) {
                let value: f64 = cell.parse().map_err(|_| {
                    fail(format!("line {}, {name}", n + 1), format!("expected a number, found `{cell}`"))
                })?;
                if let Some(slot) = parts.get_mut(group).and_then(|p| p.get_mut(i)) {
                    *slot = value;
                }
            }
            let [encoder, decoders, tasks] = parts;
            rows.push(AccuracyRow { encoder, decoders, tasks });
        }
        Self::new(space, &rows)
    }

    /// Accuracies of all tasks at some widths.
    #[must_use]
    pub fn get(&self, widths: &Widths) -> Option<&[f64]> {
        self.rows.get(widths).map(Vec::as_slice)
    }
}

fn indices(name: &str, ratios: &[f64], lists: &[Vec<f64>]) -> Result<Vec<usize>> {
    if ratios.len() != lists.len() {
        return Err(HwError::config(name, format!("{} ratios", lists.len()), ratios.len()));
    }
    let find = |(ratio, list): (&f64, &Vec<f64>)| {
        list.iter()
            .position(|w| (w - ratio).abs() < 1e-6)
            .ok_or_else(|| HwError::config(name, format!("among {list:?}"), ratio))
    };
    ratios.iter().zip(lists).map(find).collect()
}

impl AdditiveScore {
    pub(super) fn validate(&self, space: &WidthSpace) -> Result<()> {
        for (kind, tables, lists) in
            [("encoder", &self.encoder, &space.encoder), ("decoders", &self.decoders, &space.decoders)]
        {
            let shape =
                tables.len() == lists.len() && tables.iter().zip(lists).all(|(t, l)| t.len() == l.len());
            if !shape || tables.iter().flatten().any(|v| !v.is_finite()) {
                return Err(HwError::config(
                    format!("score.{kind}"),
                    "one finite number per width",
                    format!("{tables:?}"),
                ));
            }
        }
        Ok(())
    }

    pub(super) fn stage(&self, stage: usize, width: usize) -> f64 {
        self.encoder.get(stage).and_then(|t| t.get(width)).copied().unwrap_or(0.0)
    }

    pub(super) fn tasks(&self, decoders: &[usize], preferences: &[f64]) -> f64 {
        let value = |(t, &w): (&Vec<f64>, &usize)| t.get(w).copied().unwrap_or(0.0);
        self.decoders.iter().zip(decoders).map(value).zip(preferences).map(|(v, r)| r * v).sum()
    }
}

impl Score<'_> {
    /// The score of some widths; none where it was not measured.
    pub(super) fn of(&self, widths: &Widths, preferences: &[f64]) -> Result<Option<f64>> {
        let score = match self {
            Self::Closure(f) => f(widths),
            Self::Table(table) => match table.get(widths) {
                Some(tasks) => tasks.iter().zip(preferences).map(|(a, r)| a * r).sum(),
                None => return Ok(None),
            },
            Self::Additive(s) => {
                let encoder: f64 = widths.encoder.iter().enumerate().map(|(i, &w)| s.stage(i, w)).sum();
                encoder + s.tasks(&widths.decoders, preferences)
            }
        };
        if score.is_finite() {
            Ok(Some(score))
        } else {
            Err(HwError::config("score", "finite", format!("{score} at {widths:?}")))
        }
    }
}
