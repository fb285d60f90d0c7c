//! Strategies, the rule that picks one, and the entry points.
use super::branch::{branch_and_bound, sample_pruning};
use super::exhaustive::{exhaustive, random};
use super::front::check_goals;
use super::nsga2::{Nsga2Config, nsga2};
use super::objectives::{Evaluate, Goal};
use super::search::{Budget, Exploration, Progress, Run};
use super::space::Space;
use super::ubimoe::ubimoe;
use crate::{HwError, Result};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::sync::atomic::AtomicBool;
use std::time::Instant;

/// Spaces up to this size are searched exhaustively by default.
const EXHAUSTIVE_POINTS: u128 = 10_000_000;
/// Share of a sample that bounds must exclude for branch and bound to be the default.
const PRUNED: f64 = 0.9;
/// Share of the subtrees in that sample, and most evaluations spent on it.
const SAMPLE: f64 = 0.01;
const SAMPLE_VISITS: u64 = 1_000_000;

/// How to search.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
#[non_exhaustive]
pub enum Strategy {
    /// Exhaustive up to 10⁷ points; else branch and bound if bounds exclude 90 % of a 1 % sample; else NSGA-II.
    #[default]
    Auto,
    /// Every point.
    Exhaustive,
    /// Every point that bounds cannot exclude: the exhaustive front from fewer evaluations.
    BranchAndBound,
    /// Genetic search.
    Nsga2(Nsga2Config),
    /// Different random points.
    Random {
        /// Their number.
        n: u64,
    },
    /// UbiMoE's two stages, for evaluators that have them.
    UbiMoe,
}

/// Searches a space for the non-dominated points of latency, energy and largest resource share.
///
/// ```
/// use mtl_hw::explore::{Budget, Dim, Evaluate, Objectives, Point, Rejection, Space, Strategy, explore};
/// struct Pool<'a>(&'a Space);
/// impl Evaluate for Pool<'_> {
///     fn eval(&self, p: &Point) -> Result<Objectives, Rejection> {
///         let units = self.0.value(0, p.index(0)) as f64;
///         Ok(Objectives { latency_s: 1.0 / units, energy_j: 1.0 + units, ..Objectives::default() })
///     }
/// }
/// let space = Space::new(vec![Dim::PowersOfTwo { name: "units".into(), from: 1, to: 64 }])?;
/// let found = explore(&space, &Pool(&space), &Strategy::Auto, Budget::unlimited(), 0)?;
/// assert_eq!((found.front.points.len(), found.unexplored()), (7, 0.0));
/// # Ok::<(), mtl_hw::HwError>(())
/// ```
///
/// # Errors
///
/// See [`Explorer::run`].
pub fn explore(
    space: &Space,
    eval: &dyn Evaluate,
    strategy: &Strategy,
    budget: Budget,
    seed: u64,
) -> Result<Exploration> {
    Explorer::new(space, eval).strategy(strategy.clone()).budget(budget).seed(seed).run()
}

/// A search with all its settings.
#[derive(Clone)]
pub struct Explorer<'a> {
    space: &'a Space,
    eval: &'a dyn Evaluate,
    strategy: Strategy,
    goals: Vec<Goal>,
    budget: Budget,
    seed: u64,
    stop: Option<&'a AtomicBool>,
    progress: Option<&'a (dyn Fn(&Progress) + Sync)>,
}

impl fmt::Debug for Explorer<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Explorer")
            .field("points", &self.space.points())
            .field("strategy", &self.strategy)
            .field("goals", &self.goals)
            .field("budget", &self.budget)
            .field("seed", &self.seed)
            .finish_non_exhaustive()
    }
}

impl<'a> Explorer<'a> {
    /// A search with [`Strategy::Auto`], [`Goal::defaults`], no limits and seed 0.
    #[must_use]
    pub fn new(space: &'a Space, eval: &'a dyn Evaluate) -> Self {
        Self {
            space,
            eval,
            strategy: Strategy::Auto,
            goals: Goal::defaults(),
            budget: Budget::unlimited(),
            seed: 0,
            stop: None,
            progress: None,
        }
    }

    /// Sets the strategy.
    #[must_use]
    pub fn strategy(mut self, strategy: Strategy) -> Self {
        self.strategy = strategy;
        self
    }

    /// Sets the axes of the trade-off, 1 to 8 different ones.
    #[must_use]
    pub fn goals(mut self, goals: &[Goal]) -> Self {
        self.goals = goals.to_vec();
        self
    }

    /// Sets the limits.
    #[must_use]
    pub fn budget(mut self, budget: Budget) -> Self {
        self.budget = budget;
        self
    }

    /// Sets the seed of random strategies.
    #[must_use]
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = seed;
        self
    }

    /// Ends the search soon after the flag is set.
    #[must_use]
    pub fn stop_flag(mut self, stop: &'a AtomicBool) -> Self {
        self.stop = Some(stop);
        self
    }

    /// Is told of the progress from time to time.
    #[must_use]
    pub fn progress(mut self, progress: &'a (dyn Fn(&Progress) + Sync)) -> Self {
        self.progress = Some(progress);
        self
    }

    /// Searches.
    ///
    /// # Errors
    ///
    /// [`HwError::Config`] for bad settings, a NaN or infinite objective, or when no point met the constraints: it names
    /// the constraint that excludes all of them. The evaluator's own errors.
    pub fn run(&self) -> Result<Exploration> {
        check_goals(&self.goals)?;
        if self.budget.evaluations == Some(0) {
            return Err(HwError::config("budget.evaluations", "positive", 0));
        }
        let run = Run {
            space: self.space,
            eval: self.eval,
            goals: &self.goals,
            budget: self.budget,
            seed: self.seed,
            stop: self.stop,
            progress: self.progress,
            started: Instant::now(),
        };
        let (chosen, reason) = match &self.strategy {
            Strategy::Auto => choose(&run)?,
            other => (other.clone(), None),
        };
        let (name, (found, ended)) = match &chosen {
            Strategy::Auto | Strategy::Exhaustive => ("exhaustive", exhaustive(&run)?),
            Strategy::BranchAndBound => ("branch-and-bound", branch_and_bound(&run)?),
            Strategy::Nsga2(config) => ("nsga2", nsga2(&run, config)?),
            Strategy::Random { n } => {
                crate::math::positive("random.n", *n)?;
                ("random", random(&run, *n)?)
            }
            Strategy::UbiMoe => ("ubi-moe", ubimoe(&run)?),
        };
        Ok(Exploration { reason, ..found.finish(&run, name, ended)? })
    }
}

/// The default strategy and why.
fn choose(run: &Run<'_>) -> Result<(Strategy, Option<String>)> {
    let points = run.space.points();
    if points <= EXHAUSTIVE_POINTS {
        return Ok((Strategy::Exhaustive, Some(format!("{points} points are at most 10^7"))));
    }
    let pruned = sample_pruning(run, SAMPLE, SAMPLE_VISITS)?;
    let reason =
        Some(format!("{points} points; bounds exclude {:.1} % of a sample", 100.0 * pruned.max(0.0)));
    if pruned >= PRUNED {
        return Ok((Strategy::BranchAndBound, reason));
    }
    Ok((Strategy::Nsga2(Nsga2Config::default()), reason))
}
