//! Results of a sweep: records, tables, the Pareto front.
use crate::cli::table::{Table, number};
use crate::{
    ParamValue, Recipe,
    tools::{Axis, pareto_front},
};
use anyhow::ensure;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::{collections::BTreeMap, fs, path::Path};

/// Metrics by name.
pub(super) type Metrics = BTreeMap<String, f64>;

/// One point of the grid.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Point {
    pub(super) name: String,
    /// What it was computed from; see [`key`].
    pub(super) key: String,
    /// Values of the axes.
    pub(super) values: Vec<ParamValue>,
    pub(super) metrics: Metrics,
    pub(super) error: Option<String>,
    pub(super) seconds: f64,
}

/// All points so far.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Results {
    axes: Vec<String>,
    metrics: Vec<String>,
    minimize: Vec<String>,
    points: Vec<Point>,
    /// Names of the points that no other beats.
    pareto: Vec<String>,
}

impl Results {
    /// The results, compared by `metrics`, or by all that every point has if there are none.
    pub(super) fn new(axes: &[Axis], metrics: &[String], minimize: &[String], points: Vec<Point>) -> Self {
        let good = || points.iter().filter(|p| p.error.is_none());
        let metrics = if metrics.is_empty() {
            let first = good().next().map(|p| p.metrics.keys().cloned().collect::<Vec<_>>());
            let common = |m: &String| good().all(|p| p.metrics.contains_key(m));
            first.unwrap_or_default().into_iter().filter(common).collect()
        } else {
            metrics.to_vec()
        };
        let score = |point: &Point| -> Vec<f64> {
            let signed = |m: &String| {
                let value = point.metrics.get(m).copied().unwrap_or(f64::NAN);
                if minimize.contains(m) { -value } else { value }
            };
            metrics.iter().map(signed).collect()
        };
        let scored: Vec<&Point> = good().collect();
        let front = pareto_front(&scored.iter().map(|p| score(p)).collect::<Vec<_>>());
        let pareto =
            scored.iter().zip(front).filter(|(_, front)| *front).map(|(p, _)| p.name.clone()).collect();
        let axes = axes.iter().map(|axis| axis.name.clone()).collect();
        Self { axes, metrics, minimize: minimize.to_vec(), points, pareto }
    }

    pub(super) fn failed(&self) -> usize {
        self.points.iter().filter(|p| p.error.is_some()).count()
    }

    fn table(&self, points: &[&Point], write: fn(f64) -> String, more: &[&str]) -> Table {
        let names = self.axes.iter().chain(&self.metrics).map(String::as_str);
        let head: Vec<&str> = std::iter::once("pareto").chain(names).chain(more.iter().copied()).collect();
        let mut table = Table::new(&head);
        for point in points {
            let mut row = vec![if self.pareto.contains(&point.name) { "*" } else { "" }.to_owned()];
            row.extend(point.values.iter().map(super::plain));
            let metric = |m: &String| point.metrics.get(m).map_or(String::new(), |x| write(*x));
            row.extend(self.metrics.iter().map(metric));
            row.extend(more.iter().map(|column| match *column {
                "seconds" => format!("{:.3}", point.seconds),
                "name" => point.name.clone(),
                _ => point.error.clone().unwrap_or_default(),
            }));
            table.row(&row);
        }
        table
    }

    /// All points in the order of the grid, as comma-separated values.
    pub(super) fn csv(&self) -> String {
        let points: Vec<&Point> = self.points.iter().collect();
        self.table(&points, |x| x.to_string(), &["seconds", "name", "error"]).csv()
    }

    /// All points for the terminal: the Pareto front first, each group from the best on; failed ones last.
    ///
    /// # Errors
    ///
    /// A metric to minimize that no point has.
    pub(super) fn text(&self) -> anyhow::Result<String> {
        if self.points.iter().any(|p| p.error.is_none()) {
            for name in &self.minimize {
                let known = self.metrics.join("`, `");
                ensure!(self.metrics.contains(name), "`--minimize {name}`: the metrics are `{known}`");
            }
        }
        let mut points: Vec<&Point> = self.points.iter().collect();
        let sign = |m: &String| if self.minimize.contains(m) { -1.0 } else { 1.0 };
        let first = |p: &Point| {
            let metric = self.metrics.first();
            metric.and_then(|m| Some(sign(m) * p.metrics.get(m)?)).unwrap_or(f64::NEG_INFINITY)
        };
        points.sort_by(|a, b| {
            let front = |p: &Point| self.pareto.contains(&p.name);
            front(b).cmp(&front(a)).then(first(b).total_cmp(&first(a)))
        });
        let more: &[&str] = if self.failed() > 0 { &["error"] } else { &[] };
        let table = self.table(&points, number, more);
        let aim = |m: &String| format!("{m} ({})", if self.minimize.contains(m) { "less" } else { "more" });
        let aims: Vec<String> = self.metrics.iter().map(aim).collect();
        if self.pareto.is_empty() {
            return Ok(table.to_string());
        }
        Ok(format!("{table}\n* no other point is better in all of: {}\n", aims.join(", ")))
    }
}

/// What a point depends on: recipe, input files, command.
pub(super) fn key(recipe: &Recipe, eval: &str) -> anyhow::Result<String> {
    let recipe = serde_json::to_value(recipe)?;
    let mut inputs = Vec::new();
    models(&recipe, &mut inputs);
    let stamps: Vec<String> = inputs.iter().flat_map(|m| m.split('+')).map(|m| stamp(Path::new(m))).collect();
    Ok(hash(&format!("{recipe}\n{}\n{eval}", stamps.join("\n"))))
}

/// Models that a recipe names, wherever they stand.
fn models(value: &Value, found: &mut Vec<String>) {
    match value {
        Value::Object(entries) => {
            for (key, value) in entries {
                match value {
                    Value::String(model) if key == "model" || key == "base_model" => {
                        found.push(model.clone())
                    }
                    _ => models(value, found),
                }
            }
        }
        Value::Array(values) => values.iter().for_each(|value| models(value, found)),
        _ => {}
    }
}

/// Sizes and times of the files of a checkpoint.
fn stamp(path: &Path) -> String {
    let of = |path: &Path| {
        let meta = fs::metadata(path).ok()?;
        Some(format!("{} {} {:?}", path.display(), meta.len(), meta.modified().ok()?))
    };
    let Ok(entries) = fs::read_dir(path) else { return of(path).unwrap_or_default() };
    let mut stamps: Vec<String> = entries.flatten().filter_map(|entry| of(&entry.path())).collect();
    stamps.sort();
    stamps.join("\n")
}

/// FNV-1a, 64 bits: the same on every machine and for every version.
pub(super) fn hash(text: &str) -> String {
    let step = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    format!("{:016x}", text.bytes().fold(0xcbf2_9ce4_8422_2325, step))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn point(name: &str, metrics: &[(&str, f64)], error: Option<&str>) -> Point {
        Point {
            name: name.to_owned(),
            key: String::new(),
            values: vec![ParamValue::Number(0.5)],
            metrics: metrics.iter().map(|&(name, x)| (name.to_owned(), x)).collect(),
            error: error.map(str::to_owned),
            seconds: 1.5,
        }
    }

    #[test]
    fn the_front_comes_first_and_failed_points_last() {
        let axes = [Axis::parse("lambda=0.5").unwrap()];
        let points = vec![
            point("worse", &[("acc", 0.5), ("loss", 0.9)], None),
            point("failed", &[], Some("no, thanks")),
            point("best", &[("acc", 0.9), ("loss", 0.8)], None),
            point("cheap", &[("acc", 0.4), ("loss", 0.1)], None),
        ];
        let results = Results::new(&axes, &[], &["loss".to_owned()], points);
        insta::assert_snapshot!(results.text().unwrap(), @"
        pareto  lambda     acc    loss  error
        *          0.5  0.9000  0.8000
        *          0.5  0.4000  0.1000
                   0.5  0.5000  0.9000
                   0.5                  no, thanks

        * no other point is better in all of: acc (more), loss (less)
        ");
        assert!(results.csv().contains("\"no, thanks\""));
    }

    #[test]
    fn the_hash_is_that_of_its_definition() {
        assert_eq!(hash(""), "cbf29ce484222325");
        assert_eq!(hash("a"), "af63dc4c8601ec8c");
    }
}
