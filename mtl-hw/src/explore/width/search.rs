//! From a budget and preferences to widths.
use super::encoder::{Found, Problem, Visited};
use super::score::Score;
use super::space::{WidthSpace, Widths};
use super::tables::{CostTables, CostUnit};
use crate::{HwError, Result};
use serde::{Deserialize, Serialize};
use std::fmt;

/// Encoders up to this number are searched exhaustively.
const EXHAUSTIVE: u128 = 1_000_000;
/// Shares β of the decoders' full cost that decoders may get; below all of them they run at their narrowest.
const BETAS: [f64; 5] = [0.0, 0.25, 0.5, 0.75, 1.0];
/// Steps by which encoder (in quarters of the way to its widest) and decoders (by index of β) grow in turn.
const LEVELS: [(usize, usize); 9] = [(0, 0), (1, 0), (1, 1), (2, 1), (2, 2), (3, 2), (3, 3), (4, 3), (4, 4)];

/// Most that a network may cost; its unit must be that of the tables.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum WidthBudget {
    /// Multiply-accumulates.
    Macs(u64),
    /// Seconds.
    LatencyS(f64),
    /// Joules.
    EnergyJ(f64),
}

impl WidthBudget {
    fn value(self, unit: CostUnit) -> Result<f64> {
        let (value, own) = match self {
            Self::Macs(n) => (n as f64, CostUnit::Macs),
            Self::LatencyS(s) => (s, CostUnit::Seconds),
            Self::EnergyJ(j) => (j, CostUnit::Joules),
        };
        if own != unit {
            return Err(HwError::config("budget", format!("in {unit}, the unit of the cost tables"), own));
        }
        crate::math::positive_float("budget", value)
    }
}

/// One question.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Query {
    /// The most the network may cost.
    pub budget: WidthBudget,
    /// One weight per task, not negative, summing to 1; see [`normalise`].
    pub preferences: Vec<f64>,
}

/// Scales preferences to sum to 1.
///
/// # Errors
///
/// [`HwError::Config`] for an empty list, a negative or non-finite weight, or all zero.
pub fn normalise(preferences: &[f64]) -> Result<Vec<f64>> {
    let sum: f64 = preferences.iter().sum();
    if preferences.iter().any(|r| !(*r >= 0.0 && r.is_finite())) || !(sum > 0.0 && sum.is_finite()) {
        return Err(HwError::config(
            "preferences",
            "not negative, not all zero, and finite",
            format!("{preferences:?}"),
        ));
    }
    Ok(preferences.iter().map(|r| r / sum).collect())
}

/// How β, the decoders' share, follows from a query.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum BetaRule {
    /// From the budget alone, encoder and decoders growing together: then a larger preference never narrows a decoder, and a
    /// larger budget never lowers a score that does not fall with any width.
    #[default]
    Nested,
    /// The best score over a sweep of β: never below [`BetaRule::Nested`], and a larger budget never lowers any score; but a
    /// shift of preferences can move β, and with it narrow a decoder that became more preferred.
    Best,
    /// One value in [0, 1]: both monotonicities hold, but budgets below the decoders' cost are refused.
    Fixed(f64),
}

/// How the encoder was searched.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Method {
    /// All encoders within the budget, up to 10⁶.
    Exhaustive,
    /// Dynamic programming over stages, for additive scores.
    DynamicProgramming,
    /// Population 64, 40 generations, mutation 0.1.
    Evolutionary,
}

impl fmt::Display for Method {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Exhaustive => "exhaustive",
            Self::DynamicProgramming => "dynamic programming",
            Self::Evolutionary => "evolutionary",
        })
    }
}

/// Settings of the search.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SearchConfig {
    /// How β follows from a query.
    pub beta: BetaRule,
    /// The method; the fitting one when absent.
    pub method: Option<Method>,
    /// Seed of the evolutionary search.
    pub seed: u64,
}

/// The answer.
#[derive(Debug, Clone, PartialEq)]
pub struct Choice {
    /// The widths.
    pub widths: Widths,
    /// Their cost, in the unit of the tables.
    pub cost: f64,
    /// Their score.
    pub score: f64,
    /// The decoders' share.
    pub beta: f64,
    /// How the encoder was found.
    pub method: Method,
    /// Networks scored.
    pub visited: u64,
    /// Non-dominated (cost, score) among them, rising.
    pub front: Vec<(f64, f64)>,
}

/// Widths for a query, with the default settings and a seed.
///
/// ```
/// use mtl_hw::explore::width::{AdditiveScore, CostTables, CostUnit, Query, Score, WidthBudget, WidthSpace, search};
/// let space = WidthSpace::uniform(1, &[0.5, 1.0], 2, &[0.5, 1.0]);
/// let costs = CostTables {
///     unit: CostUnit::Macs,
///     encoder: vec![vec![vec![10.0, 20.0]]],
///     decoders: vec![vec![vec![5.0, 10.0], vec![5.0, 10.0]]; 2],
///     hash: 0,
/// };
/// let score = AdditiveScore { encoder: vec![vec![1.0, 2.0]], decoders: vec![vec![1.0, 2.0]; 2] };
/// let query = Query { budget: WidthBudget::Macs(40), preferences: vec![0.75, 0.25] };
/// let choice = search(&space, &costs, Score::Additive(&score), &query, 0)?;
/// assert_eq!((choice.widths.encoder[0], &choice.widths.decoders[..]), (1, &[1, 0][..]));
/// assert_eq!(choice.cost, 35.0);
/// # Ok::<(), mtl_hw::HwError>(())
/// ```
///
/// # Errors
///
/// See [`search_with`].
pub fn search(
    space: &WidthSpace,
    costs: &CostTables,
    score: Score<'_>,
    query: &Query,
    seed: u64,
) -> Result<Choice> {
    search_with(space, costs, score, query, &SearchConfig { seed, ..SearchConfig::default() })
}

/// Widths for a query.
///
/// # Errors
///
/// [`HwError::Config`] for a budget of another unit or below the narrowest network, whose cost it states; for preferences
/// that are negative, do not sum to 1 or do not match the decoders; for a score that is not finite; when no measured network
/// fits the budget.
pub fn search_with(
    space: &WidthSpace,
    costs: &CostTables,
    score: Score<'_>,
    query: &Query,
    config: &SearchConfig,
) -> Result<Choice> {
    costs.validate(space)?;
    check_preferences(&query.preferences, space.decoders.len())?;
    if let Score::Additive(additive) = score {
        additive.validate(space)?;
    }
    let budget = query.budget.value(costs.unit)?;
    let minimum = costs.cost(&space.narrowest());
    if budget < minimum {
        let must = format!("at least {minimum} {}, the cost of the narrowest network", costs.unit);
        return Err(HwError::config("budget", must, budget));
    }
    let mut search = Search { space, costs, score, query, config, budget, visited: Visited::default() };
    let mut best: Option<(Found, Plan, Method)> = None;
    for plan in search.plans()? {
        if let Some((found, method)) = search.encoder(&plan)?
            && best.as_ref().is_none_or(|(b, ..)| found.better(b))
        {
            best = Some((found, plan, method));
            if config.beta == BetaRule::Nested {
                break;
            }
        }
    }
    let Some((found, plan, method)) = best else {
        return Err(match config.beta {
            BetaRule::Fixed(beta) => HwError::config(
                "budget",
                format!("enough for the decoders at beta = {beta} and an encoder"),
                budget,
            ),
            _ => HwError::config("score", "known for some network within the budget", "known for none"),
        });
    };
    Ok(Choice {
        widths: Widths { encoder: found.encoder, decoders: plan.decoders },
        cost: found.cost,
        score: found.score,
        beta: plan.beta,
        method,
        visited: search.visited.count,
        front: search.visited.into_front(),
    })
}

fn check_preferences(preferences: &[f64], tasks: usize) -> Result<()> {
    if preferences.len() != tasks {
        return Err(HwError::config("preferences", format!("{tasks}, one per decoder"), preferences.len()));
    }
    let scaled = normalise(preferences)?;
    let sum: f64 = preferences.iter().sum();
    if (sum - 1.0).abs() > 1e-9 {
        let must = format!("of sum 1; normalised they would be {scaled:?}");
        return Err(HwError::config("preferences", must, format!("of sum {sum}")));
    }
    Ok(())
}

fn beta_at(level: usize) -> f64 {
    LEVELS.get(level).and_then(|l| BETAS.get(l.1)).copied().unwrap_or(1.0)
}

/// Decoders for one β, and the widest encoder to consider.
struct Plan {
    beta: f64,
    decoders: Vec<usize>,
    cap: Vec<usize>,
    /// An encoder that must be among those considered.
    floor: Vec<usize>,
}

struct Search<'a> {
    space: &'a WidthSpace,
    costs: &'a CostTables,
    score: Score<'a>,
    query: &'a Query,
    config: &'a SearchConfig,
    budget: f64,
    visited: Visited,
}

impl Search<'_> {
    fn plans(&self) -> Result<Vec<Plan>> {
        let widest = self.space.widest().encoder;
        let narrowest = self.space.narrowest().encoder;
        let plan = |beta: f64, cap: &[usize], floor: &[usize]| Plan {
            beta,
            decoders: self.decoders(beta),
            cap: cap.to_vec(),
            floor: floor.to_vec(),
        };
        match self.config.beta {
            BetaRule::Fixed(beta) if (0.0..=1.0).contains(&beta) => Ok(vec![plan(beta, &widest, &narrowest)]),
            BetaRule::Fixed(beta) => Err(HwError::config("beta", "in [0, 1]", beta)),
            BetaRule::Best => Ok(BETAS.iter().map(|&beta| plan(beta, &widest, &narrowest)).collect()),
            BetaRule::Nested => {
                let level = (0..LEVELS.len()).rev().find(|&l| self.affords(l)).unwrap_or(0);
                // Encoders up to the next level's: what that level offers then is at least as wide in every part.
                let at = |l: usize| plan(beta_at(l), &self.encoder_at(l + 1), &self.encoder_at(l));
                // The first that holds a network of known score; with complete scores that is the first.
                Ok((0..=level).rev().map(at).collect())
            }
        }
    }

    /// The encoder of a level; the widest beyond the last.
    fn encoder_at(&self, level: usize) -> Vec<usize> {
        let quarters = LEVELS.get(level).map_or(4, |l| l.0);
        self.space.encoder.iter().map(|l| l.len().saturating_sub(1) * quarters / 4).collect()
    }

    /// Whether the budget covers the level's encoder and decoders whatever the preferences. Decoders cost at most their
    /// share, plus the narrowest for those whose share buys nothing.
    fn affords(&self, level: usize) -> bool {
        let beta = beta_at(level);
        let last = self.widest_last();
        let narrow: f64 = self.costs.decoders_cost(last, &self.space.narrowest().decoders);
        let full = self.full_decoders();
        let decoders = if beta > 0.0 { full.min(beta * full + narrow) } else { narrow };
        self.costs.encoder_cost(&self.encoder_at(level)) + decoders <= self.budget
    }

    fn widest_last(&self) -> usize {
        self.space.encoder.last().map_or(0, |l| l.len().saturating_sub(1))
    }

    fn full_decoders(&self) -> f64 {
        self.costs.decoders_cost(self.widest_last(), &self.space.widest().decoders)
    }

    /// For each task the widest decoder within its share r·β·Σ of full decoders, all behind the widest encoder: so the
    /// allocation does not depend on the encoder that is found. Widths that cost no more than the narrowest are free.
    fn decoders(&self, beta: f64) -> Vec<usize> {
        let last = self.widest_last();
        let pool = beta * self.full_decoders();
        let cost = |task: usize, encoder: usize, w: usize| self.costs.decoder(task, encoder, w);
        let tasks = self.space.decoders.iter().zip(&self.query.preferences).enumerate();
        tasks
            .map(|(task, (widths, r))| {
                let free = |w: usize| (0..=last).all(|e| cost(task, e, w) <= cost(task, e, 0));
                let fits = |&w: &usize| cost(task, last, w) <= r * pool || free(w);
                (0..widths.len()).rev().find(fits).unwrap_or(0)
            })
            .collect()
    }

    fn encoder(&mut self, plan: &Plan) -> Result<Option<(Found, Method)>> {
        let problem = Problem {
            space: self.space,
            costs: self.costs,
            score: self.score,
            preferences: &self.query.preferences,
            decoders: &plan.decoders,
            cap: &plan.cap,
            budget: self.budget,
        };
        let fitting = match self.score {
            Score::Additive(_) => Method::DynamicProgramming,
            // Over the whole space, so that the method does not change with the budget.
            _ if self.space.encoders() <= EXHAUSTIVE => Method::Exhaustive,
            _ => Method::Evolutionary,
        };
        let method = self.config.method.unwrap_or(fitting);
        let found = match (method, self.score) {
            (Method::DynamicProgramming, Score::Additive(additive)) => {
                problem.dynamic(additive, &mut self.visited)?
            }
            (Method::DynamicProgramming, _) => {
                return Err(HwError::config(
                    "method",
                    "one that suits the score",
                    "dynamic programming, but the score is not additive",
                ));
            }
            (Method::Exhaustive, _) if problem.count() > EXHAUSTIVE => {
                return Err(HwError::config(
                    "method",
                    "one that suits the space",
                    format!("exhaustive, with {} encoders", problem.count()),
                ));
            }
            (Method::Exhaustive, _) => problem.exhaustive(&mut self.visited)?,
            (Method::Evolutionary, _) => {
                problem.evolve(self.config.seed, std::slice::from_ref(&plan.floor), &mut self.visited)?
            }
        };
        Ok(found.map(|f| (f, method)))
    }
}
