//! The parts that all strategies share: budget, progress, counting.
use super::front::{Archive, ParetoFront};
use super::objectives::{Costs, Evaluate, Goal, Objectives, Rejection, Violation};
use super::space::{Point, Space};
use crate::{HwError, Result};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// When a search must end, finished or not; without limits by default.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Budget {
    /// Most evaluations.
    pub evaluations: Option<u64>,
    /// Most wall-clock time. Results then depend on the machine.
    pub time: Option<Duration>,
}

impl Budget {
    /// No limits.
    #[must_use]
    pub fn unlimited() -> Self {
        Self::default()
    }

    /// At most `n` evaluations.
    #[must_use]
    pub fn evaluations(n: u64) -> Self {
        Self { evaluations: Some(n), time: None }
    }

    /// At most this much time.
    #[must_use]
    pub fn time(limit: Duration) -> Self {
        Self { evaluations: None, time: Some(limit) }
    }
}

/// State of a running search.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Progress {
    /// Points in the space.
    pub points: u128,
    /// Points evaluated so far.
    pub evaluated: u64,
    /// Points that bounds excluded so far.
    pub pruned: u128,
    /// Points on the front so far.
    pub front: usize,
    /// Evaluations per second since the start.
    pub points_per_s: f64,
    /// Time since the start.
    pub elapsed: Duration,
}

/// Why a search ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Ended {
    /// Every point was evaluated or excluded: the front is exact.
    Complete,
    /// The evaluations of the budget are used up.
    Evaluations,
    /// The time of the budget is used up.
    Time,
    /// The stop flag was set.
    Stopped,
    /// All generations or draws are done.
    Schedule,
    /// The hypervolume no longer grows.
    Converged,
}

impl fmt::Display for Ended {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Complete => "complete",
            Self::Evaluations => "ended by the budget of evaluations",
            Self::Time => "ended by the time budget",
            Self::Stopped => "stopped",
            Self::Schedule => "ended after its schedule",
            Self::Converged => "ended when the hypervolume no longer grew",
        })
    }
}

/// How often a constraint was broken.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ConstraintTally {
    /// Name of the constraint.
    pub constraint: String,
    /// Points that break it.
    pub points: u128,
    /// The smallest margin by which a point breaks it.
    pub closest: f64,
}

/// Result of a search.
#[derive(Debug, Clone, PartialEq)]
pub struct Exploration {
    /// The non-dominated points found.
    pub front: ParetoFront,
    /// Name of the strategy that ran.
    pub strategy: &'static str,
    /// Why that strategy was chosen, when the choice was left open.
    pub reason: Option<String>,
    /// Points in the space.
    pub points: u128,
    /// Evaluations.
    pub evaluated: u64,
    /// Points evaluated or excluded, each once.
    pub covered: u128,
    /// Evaluated points that break a constraint.
    pub infeasible: u64,
    /// Points that bounds excluded without evaluation.
    pub pruned: u128,
    /// Bounds computed.
    pub bounds: u64,
    /// Why the search ended.
    pub ended: Ended,
    /// Constraints that points broke, the most frequent first.
    pub violations: Vec<ConstraintTally>,
    /// Time taken.
    pub elapsed: Duration,
}

impl Exploration {
    /// Share of the space that was neither evaluated nor excluded.
    #[must_use]
    pub fn unexplored(&self) -> f64 {
        (self.points - self.covered.min(self.points)) as f64 / self.points as f64
    }

    /// Evaluated points over points of the space.
    #[must_use]
    pub fn visited(&self) -> f64 {
        self.evaluated as f64 / self.points as f64
    }
}

impl fmt::Display for Exploration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} {}: {} of {} points evaluated ({} infeasible), {} excluded by bounds, {:.2} % unexplored, {} on the front",
            self.strategy,
            self.ended,
            self.evaluated,
            self.points,
            self.infeasible,
            self.pruned,
            100.0 * self.unexplored(),
            self.front.points.len()
        )
    }
}

/// One search in progress: what all workers may read.
pub(super) struct Run<'a> {
    pub(super) space: &'a Space,
    pub(super) eval: &'a dyn Evaluate,
    pub(super) goals: &'a [Goal],
    pub(super) budget: Budget,
    pub(super) seed: u64,
    pub(super) stop: Option<&'a AtomicBool>,
    pub(super) progress: Option<&'a (dyn Fn(&Progress) + Sync)>,
    pub(super) started: Instant,
}

impl Run<'_> {
    /// The reason to end now, apart from the count of evaluations.
    pub(super) fn interrupted(&self) -> Option<Ended> {
        if self.stop.is_some_and(|s| s.load(Ordering::Relaxed)) {
            return Some(Ended::Stopped);
        }
        self.budget.time.filter(|&t| self.started.elapsed() >= t).map(|_| Ended::Time)
    }

    /// Evaluations left.
    pub(super) fn left(&self, found: &Found) -> u64 {
        self.budget.evaluations.map_or(u64::MAX, |n| n.saturating_sub(found.evaluated))
    }

    pub(super) fn report(&self, found: &Found) {
        if let Some(progress) = self.progress {
            let elapsed = self.started.elapsed();
            progress(&Progress {
                points: self.space.points(),
                evaluated: found.evaluated,
                pruned: found.pruned,
                front: found.archive.len(),
                points_per_s: found.evaluated as f64 / elapsed.as_secs_f64().max(1e-9),
                elapsed,
            });
        }
    }

    pub(super) fn costs(&self, point: &Point, objectives: &Objectives) -> Result<Costs> {
        Costs::of(self.goals, objectives, &|| self.space.describe(point))
    }
}

#[derive(Debug, Clone, Copy)]
struct Tally {
    points: u128,
    closest: f64,
}

/// What a visit of a point told.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Visit {
    Feasible(Costs),
    /// Sum of the margins of broken constraints.
    Violates(f64),
}

/// What one worker found; the sum of several does not depend on how the work was divided.
#[derive(Debug, Clone)]
pub(super) struct Found {
    pub(super) archive: Archive,
    pub(super) evaluated: u64,
    /// Evaluations of points that are evaluated or excluded a second time.
    pub(super) repeated: u64,
    pub(super) infeasible: u64,
    pub(super) pruned: u128,
    pub(super) bounds: u64,
    tallies: BTreeMap<std::borrow::Cow<'static, str>, Tally>,
}

impl Found {
    pub(super) fn new(goals: usize) -> Self {
        Self {
            archive: Archive::new(goals),
            evaluated: 0,
            repeated: 0,
            infeasible: 0,
            pruned: 0,
            bounds: 0,
            tallies: BTreeMap::new(),
        }
    }

    /// Evaluates a point and archives it.
    pub(super) fn visit(&mut self, run: &Run<'_>, point: &Point) -> Result<Visit> {
        self.evaluated += 1;
        match run.eval.eval(point) {
            Ok(objectives) => {
                let costs = run.costs(point, &objectives)?;
                self.archive.insert(point, costs.as_slice(), &objectives);
                Ok(Visit::Feasible(costs))
            }
            Err(Rejection::Infeasible(violations)) => {
                self.infeasible += 1;
                let mut total = 0.0;
                for v in violations {
                    if !(v.margin >= 0.0 && v.margin.is_finite()) {
                        return Err(HwError::config(
                            format!("margin of `{}`", v.constraint),
                            "finite and not negative",
                            v.margin,
                        ));
                    }
                    total += v.margin;
                    self.blame(v, 1);
                }
                Ok(Visit::Violates(total))
            }
            Err(Rejection::Failed(error)) => Err(error),
        }
    }

    /// Counts `points` that break a constraint.
    pub(super) fn blame(&mut self, violation: Violation, points: u128) {
        let tally =
            self.tallies.entry(violation.constraint).or_insert(Tally { points: 0, closest: f64::INFINITY });
        tally.points = tally.points.saturating_add(points);
        tally.closest = tally.closest.min(violation.margin);
    }

    pub(super) fn absorb(&mut self, other: Self) {
        self.archive.absorb(other.archive);
        self.evaluated += other.evaluated;
        self.repeated += other.repeated;
        self.infeasible += other.infeasible;
        self.pruned += other.pruned;
        self.bounds += other.bounds;
        for (constraint, t) in other.tallies {
            self.blame(Violation { constraint: constraint.clone(), margin: t.closest }, t.points);
        }
    }

    /// Constraints by number of broken points, then by name.
    fn tallies(&self) -> Vec<ConstraintTally> {
        let mut list: Vec<ConstraintTally> = self
            .tallies
            .iter()
            .map(|(c, t)| ConstraintTally { constraint: c.to_string(), points: t.points, closest: t.closest })
            .collect();
        list.sort_by(|a, b| b.points.cmp(&a.points).then_with(|| a.constraint.cmp(&b.constraint)));
        list
    }

    /// Points evaluated or excluded.
    fn covered(&self) -> u128 {
        u128::from(self.evaluated - self.repeated) + self.pruned
    }

    /// The result, or which constraint left nothing.
    pub(super) fn finish(self, run: &Run<'_>, strategy: &'static str, ended: Ended) -> Result<Exploration> {
        let points = run.space.points();
        let known = self.covered();
        let ended = if known >= points { Ended::Complete } else { ended };
        let violations = self.tallies();
        if self.archive.len() == 0 {
            return Err(nothing_left(&violations, known, points, ended));
        }
        Ok(Exploration {
            strategy,
            reason: None,
            points,
            evaluated: self.evaluated,
            covered: known,
            infeasible: self.infeasible,
            pruned: self.pruned,
            bounds: self.bounds,
            ended,
            violations,
            elapsed: run.started.elapsed(),
            front: self.archive.into_front(run.goals),
        })
    }
}

/// The error when no point is feasible. It names the constraint that alone excludes all points; of several the one that is
/// farthest from being met.
fn nothing_left(violations: &[ConstraintTally], known: u128, points: u128, ended: Ended) -> HwError {
    let scope = if known >= points {
        format!("all {points} points")
    } else {
        format!("all {known} points evaluated before the search {ended}, of {points}")
    };
    let alone = violations
        .iter()
        .filter(|t| t.points >= known && known > 0)
        .max_by(|a, b| a.closest.total_cmp(&b.closest).then_with(|| b.constraint.cmp(&a.constraint)));
    match (alone, violations.first()) {
        (Some(t), _) => HwError::config(
            format!("constraint.{}", t.constraint),
            "met by at least one point",
            format!("broken by {scope}, by {:.1} % of the limit at best", 100.0 * t.closest),
        ),
        (None, Some(first)) => {
            let list: Vec<String> =
                violations.iter().map(|t| format!("{} by {}", t.constraint, t.points)).collect();
            HwError::config(
                format!("constraint.{}", first.constraint),
                "met together with the others by at least one point",
                format!("one of several that exclude {scope}: {}", list.join(", ")),
            )
        }
        (None, None) => {
            HwError::config("budget", "enough to evaluate one point", format!("used up; the search {ended}"))
        }
    }
}
