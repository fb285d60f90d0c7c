//! Non-dominated sets.
use super::hypervolume::hypervolume;
use super::objectives::{Costs, Goal, Objectives};
use super::space::{Dim, Point, Space};
use crate::{HwError, Result, text};
use serde::Serialize;
use std::fmt::Write as _;

/// Non-dominated points, each objective vector once, sorted by the goals in order and then by parameters.
#[derive(Debug, Clone, PartialEq)]
pub struct ParetoFront {
    /// The axes.
    pub goals: Vec<Goal>,
    /// Points with their costs.
    pub points: Vec<(Point, Objectives)>,
}

impl ParetoFront {
    /// The non-dominated ones of any points; of equal costs the lexicographically smallest parameters stay.
    ///
    /// # Errors
    ///
    /// [`HwError::Config`] for bad goals, a NaN, infinite or missing objective.
    pub fn of(goals: &[Goal], points: impl IntoIterator<Item = (Point, Objectives)>) -> Result<Self> {
        check_goals(goals)?;
        let mut archive = Archive::new(goals.len());
        for (point, objectives) in points {
            let costs = Costs::of(goals, &objectives, &|| format!("{:?}", point.indices()))?;
            archive.insert(&point, costs.as_slice(), &objectives);
        }
        Ok(archive.into_front(goals))
    }

    /// The values to minimise, one row per point.
    #[must_use]
    pub fn costs(&self) -> Vec<Vec<f64>> {
        let row = |o: &Objectives| self.goals.iter().map(|g| g.cost(o).unwrap_or(f64::INFINITY)).collect();
        self.points.iter().map(|(_, o)| row(o)).collect()
    }

    /// Volume that the front dominates, up to a reference point in the same order as the goals, accuracy negated.
    ///
    /// # Errors
    ///
    /// [`HwError::Config`] when the reference has another length, is not finite, or lies inside the front: some point is
    /// worse than it on some axis.
    pub fn hypervolume(&self, reference: &[f64]) -> Result<f64> {
        hypervolume(&self.costs(), reference)
    }

    /// The worst value of the front per goal, moved outwards by a share of the front's extent.
    #[must_use]
    pub fn nadir(&self, share: f64) -> Vec<f64> {
        let costs = self.costs();
        (0..self.goals.len())
            .map(|g| {
                let (low, high) = extent(&costs, g);
                high + share * if high > low { high - low } else { high.abs().max(1.0) }
            })
            .collect()
    }

    /// The point farthest below the chord of the normalised front, its best compromise; none for an empty front.
    ///
    /// With three goals and more the chord is the plane through the points of the unit simplex. Goals on which all points
    /// agree do not count; ties go to the earlier point.
    #[must_use]
    pub fn knee(&self) -> Option<&(Point, Objectives)> {
        let costs = self.costs();
        let ranges: Vec<(f64, f64)> = (0..self.goals.len()).map(|g| extent(&costs, g)).collect();
        let height = |row: &[f64]| -> f64 {
            row.iter().zip(&ranges).filter(|(_, (a, b))| b > a).map(|(v, (a, b))| (v - a) / (b - a)).sum()
        };
        let mut best: Option<(f64, &(Point, Objectives))> = None;
        for (row, point) in costs.iter().zip(&self.points) {
            let h = height(row);
            if best.is_none_or(|(b, _)| h < b) {
                best = Some((h, point));
            }
        }
        best.map(|(_, point)| point)
    }

    /// One line per point: parameters, then goals, then the other objectives.
    #[must_use]
    pub fn to_csv(&self, space: &Space) -> String {
        let mut out: Vec<&str> = space.dims().iter().map(Dim::name).collect();
        out.extend(COLUMNS);
        let mut csv = out.iter().map(|h| quote(h)).collect::<Vec<_>>().join(",");
        csv.push('\n');
        for (point, o) in &self.points {
            for (d, &i) in point.indices().iter().enumerate() {
                let _ = write!(csv, "{},", quote(&space.text(d, i)));
            }
            let r = &o.resources;
            let accuracy = o.accuracy.map(|a| a.to_string()).unwrap_or_default();
            let _ = writeln!(
                csv,
                "{},{},{},{},{},{},{},{},{},{accuracy}",
                o.latency_s,
                o.latency_p95_s,
                o.energy_j,
                r.lut,
                r.ff,
                r.ramb18,
                r.uram,
                r.dsp,
                o.memory_bytes
            );
        }
        csv
    }

    /// An object of `goals`, `dims` and `points`, each with parameters by name, the costs, and whether it is the knee.
    ///
    /// # Errors
    ///
    /// [`HwError::Write`] when serialisation fails.
    pub fn to_json(&self, space: &Space) -> Result<String> {
        #[derive(Serialize)]
        struct Row<'a> {
            parameters: serde_json::Map<String, serde_json::Value>,
            objectives: &'a Objectives,
            knee: bool,
        }
        #[derive(Serialize)]
        struct Doc<'a> {
            goals: Vec<String>,
            points: Vec<Row<'a>>,
        }
        let knee = self.knee().map(|(p, _)| p);
        let value = |d: usize, i: u32| match space.dims().get(d) {
            Some(Dim::Label { .. }) => space.text(d, i).into(),
            _ => space.value(d, i).into(),
        };
        let row = |(p, o)| -> Row<'_> {
            let p: &Point = p;
            let name = |d: usize| space.dims().get(d).map_or("", Dim::name).to_owned();
            Row {
                parameters: p.indices().iter().enumerate().map(|(d, &i)| (name(d), value(d, i))).collect(),
                objectives: o,
                knee: knee == Some(p),
            }
        };
        let doc = Doc {
            goals: self.goals.iter().map(Goal::to_string).collect(),
            points: self.points.iter().map(|(p, o)| row((p, o))).collect(),
        };
        text::to_json("Pareto front", &doc)
    }
}

const COLUMNS: [&str; 10] = [
    "latency_s",
    "latency_p95_s",
    "energy_j",
    "lut",
    "ff",
    "ramb18",
    "uram",
    "dsp",
    "memory_bytes",
    "accuracy",
];

fn quote(cell: &str) -> String {
    if cell.contains([',', '"', '\n', '\r']) {
        format!("\"{}\"", cell.replace('"', "\"\""))
    } else {
        cell.to_owned()
    }
}

fn extent(costs: &[Vec<f64>], goal: usize) -> (f64, f64) {
    let column = || costs.iter().filter_map(|row| row.get(goal)).copied();
    (column().fold(f64::INFINITY, f64::min), column().fold(f64::NEG_INFINITY, f64::max))
}

pub(super) fn check_goals(goals: &[Goal]) -> Result<()> {
    let mut sorted = goals.to_vec();
    sorted.sort_unstable();
    sorted.dedup();
    if goals.is_empty() || goals.len() > super::objectives::MAX_GOALS || sorted.len() < goals.len() {
        let list: Vec<String> = goals.iter().map(Goal::to_string).collect();
        return Err(HwError::config("goals", "1 to 8 different ones", format!("[{}]", list.join(", "))));
    }
    Ok(())
}

/// How two cost vectors compare: the first is nowhere worse, the second is nowhere worse.
fn compare(a: &[f64], b: &[f64]) -> (bool, bool) {
    let (mut a_ok, mut b_ok) = (true, true);
    for (x, y) in a.iter().zip(b) {
        a_ok &= x <= y;
        b_ok &= y <= x;
    }
    (a_ok, b_ok)
}

/// Whether `a` is nowhere worse than `b` and somewhere better.
pub(super) fn dominates(a: &[f64], b: &[f64]) -> bool {
    compare(a, b) == (true, false)
}

/// A non-dominated set under construction. Its content does not depend on the order of insertion.
#[derive(Debug, Clone)]
pub(super) struct Archive {
    n: usize,
    costs: Vec<f64>,
    items: Vec<(Point, Objectives)>,
}

impl Archive {
    pub(super) fn new(n: usize) -> Self {
        Self { n, costs: Vec::new(), items: Vec::new() }
    }

    pub(super) fn len(&self) -> usize {
        self.items.len()
    }

    fn rows(&self) -> std::slice::ChunksExact<'_, f64> {
        self.costs.chunks_exact(self.n)
    }

    /// Adds a point unless an archived one is as good; whether it was added.
    pub(super) fn insert(&mut self, point: &Point, costs: &[f64], objectives: &Objectives) -> bool {
        let mut beats_some = false;
        let mut blocker = None;
        for (i, row) in self.rows().enumerate() {
            match compare(row, costs) {
                (true, true) => {
                    let slot = self.items.get_mut(i);
                    if let Some(slot) = slot.filter(|(p, _)| point < p) {
                        *slot = (point.clone(), *objectives);
                        return true;
                    }
                    return false;
                }
                (true, false) => {
                    blocker = Some(i);
                    break;
                }
                (false, true) => beats_some = true,
                (false, false) => {}
            }
        }
        if let Some(i) = blocker {
            // What dominates one point often dominates the next: move it towards the front of the scan.
            self.swap(i, i / 2);
            return false;
        }
        if beats_some {
            self.remove_dominated(costs);
        }
        self.costs.extend_from_slice(costs);
        self.items.push((point.clone(), *objectives));
        true
    }

    fn swap(&mut self, i: usize, j: usize) {
        self.items.swap(i, j);
        for k in 0..self.n {
            self.costs.swap(i * self.n + k, j * self.n + k);
        }
    }

    fn remove_dominated(&mut self, costs: &[f64]) {
        let keep: Vec<bool> = self.rows().map(|row| !dominates(costs, row)).collect();
        let mut flags = keep.iter();
        self.items.retain(|_| flags.next().copied().unwrap_or(true));
        let kept: Vec<f64> =
            self.rows().zip(&keep).filter(|(_, k)| **k).flat_map(|(row, _)| row.iter().copied()).collect();
        self.costs = kept;
    }

    /// Whether no point at or above `bound` can enter, when the smallest such point is `prefix` followed by zeros.
    pub(super) fn excludes(&self, bound: &[f64], prefix: &[u32]) -> bool {
        self.rows().zip(&self.items).any(|(row, (point, _))| match compare(row, bound) {
            (true, false) => true,
            // Equal costs: the smaller parameters win.
            (true, true) => {
                let (head, tail) = point.indices().split_at(prefix.len().min(point.indices().len()));
                head < prefix || (head == prefix && tail.iter().all(|&i| i == 0))
            }
            _ => false,
        })
    }

    /// The point of least value, ties to the smaller parameters.
    pub(super) fn best_by(&self, value: impl Fn(&[f64]) -> f64) -> Option<(f64, Point)> {
        let all = self.rows().zip(&self.items).map(|(row, (point, _))| (value(row), point));
        let best = all.min_by(|(a, p), (b, q)| a.total_cmp(b).then_with(|| p.cmp(q)));
        best.map(|(v, point)| (v, point.clone()))
    }

    pub(super) fn absorb(&mut self, other: Self) {
        let n = other.n;
        for (i, (point, objectives)) in other.items.iter().enumerate() {
            let costs = other.costs.get(i * n..(i + 1) * n).unwrap_or_default();
            self.insert(point, costs, objectives);
        }
    }

    pub(super) fn cost_rows(&self) -> Vec<Vec<f64>> {
        self.rows().map(<[f64]>::to_vec).collect()
    }

    pub(super) fn into_front(self, goals: &[Goal]) -> ParetoFront {
        let n = self.n;
        let costs = self.costs;
        let mut rows: Vec<(Vec<f64>, (Point, Objectives))> = self
            .items
            .into_iter()
            .enumerate()
            .map(|(i, item)| (costs.get(i * n..(i + 1) * n).unwrap_or_default().to_vec(), item))
            .collect();
        rows.sort_by(|(a, (pa, _)), (b, (pb, _))| {
            let by_cost = a.iter().zip(b).map(|(x, y)| x.total_cmp(y)).find(|o| o.is_ne());
            by_cost.unwrap_or(std::cmp::Ordering::Equal).then_with(|| pa.cmp(pb))
        });
        ParetoFront { goals: goals.to_vec(), points: rows.into_iter().map(|(_, item)| item).collect() }
    }
}
