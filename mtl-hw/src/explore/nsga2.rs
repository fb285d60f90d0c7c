//! NSGA-II: Deb, Pratap, Agarwal & Meyarivan, *A Fast and Elitist Multiobjective Genetic Algorithm: NSGA-II*, IEEE TEVC 6(2),
//! 2002, on integer genomes, with an archive of every point visited.
use super::exhaustive::random_point;
use super::front::dominates;
use super::hypervolume::hypervolume;
use super::rng::stream;
use super::search::{Ended, Found, Run, Visit};
use super::space::Point;
use crate::{HwError, Result};
use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Settings of NSGA-II.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Nsga2Config {
    /// Individuals per generation, from 4 to 65536.
    pub population: usize,
    /// Generations after the first.
    pub generations: usize,
    /// Probability that two parents are crossed, in [0, 1].
    pub crossover: f64,
    /// Distribution index of the crossover: larger keeps children nearer to their parents. Positive.
    pub eta: f64,
    /// Probability that a gene mutates, in [0, 1]; one over the number of genes when absent.
    pub mutation: Option<f64>,
    /// Stops when the front's hypervolume gains less than `min_gain` over this many generations; 0 never stops early.
    pub patience: usize,
    /// See `patience`; relative.
    pub min_gain: f64,
}

impl Default for Nsga2Config {
    fn default() -> Self {
        Self {
            population: 128,
            generations: 200,
            crossover: 0.9,
            eta: 5.0,
            mutation: None,
            patience: 20,
            min_gain: 1e-4,
        }
    }
}

impl Nsga2Config {
    pub(super) fn validate(&self) -> Result<()> {
        if !(4..=1 << 16).contains(&self.population) {
            return Err(HwError::config("nsga2.population", "from 4 to 65536", self.population));
        }
        for (field, p) in [("nsga2.crossover", Some(self.crossover)), ("nsga2.mutation", self.mutation)] {
            if let Some(p) = p.filter(|p| !(0.0..=1.0).contains(p)) {
                return Err(HwError::config(field, "in [0, 1]", p));
            }
        }
        crate::math::positive_float("nsga2.eta", self.eta)?;
        if !(self.min_gain >= 0.0 && self.min_gain.is_finite()) {
            return Err(HwError::config("nsga2.min_gain", "finite and not negative", self.min_gain));
        }
        Ok(())
    }
}

#[derive(Debug, Clone)]
struct Individual {
    point: Point,
    visit: Visit,
    rank: usize,
    crowding: f64,
}

impl Individual {
    fn costs(&self) -> &[f64] {
        if let Visit::Feasible(c) = &self.visit { c.as_slice() } else { &[] }
    }
}

/// What one worker found, and what each of its points told.
type Visits = (Found, Vec<(Point, Visit)>);

/// Constraint domination: feasible before infeasible, then smaller violation, then Pareto dominance.
fn beats(a: &Individual, b: &Individual) -> bool {
    match (&a.visit, &b.visit) {
        (Visit::Feasible(x), Visit::Feasible(y)) => dominates(x.as_slice(), y.as_slice()),
        (Visit::Feasible(_), Visit::Violates(_)) => true,
        (Visit::Violates(_), Visit::Feasible(_)) => false,
        (Visit::Violates(x), Visit::Violates(y)) => x < y,
    }
}

pub(super) fn nsga2(run: &Run<'_>, config: &Nsga2Config) -> Result<(Found, Ended)> {
    config.validate()?;
    let mut search =
        Search { run, config, known: BTreeMap::new(), found: Found::new(run.goals.len()), reference: None };
    let ended = search.evolve()?;
    Ok((search.found, ended))
}

struct Search<'a> {
    run: &'a Run<'a>,
    config: &'a Nsga2Config,
    /// Every point visited, so that none is evaluated twice.
    known: BTreeMap<Point, Visit>,
    found: Found,
    /// Reference point of the convergence measure, fixed at the first feasible generation.
    reference: Option<Vec<f64>>,
}

impl Search<'_> {
    fn evolve(&mut self) -> Result<Ended> {
        let first = self.initial();
        let mut population = self.evaluate(first)?;
        rank(&mut population);
        let mut volumes: Vec<f64> = Vec::new();
        for generation in 0..self.config.generations {
            if self.run.left(&self.found) == 0 {
                return Ok(Ended::Evaluations);
            }
            if self.known.len() as u128 >= self.run.space.points() {
                return Ok(Ended::Complete);
            }
            if let Some(ended) = self.run.interrupted() {
                return Ok(ended);
            }
            let mut rng = stream(self.run.seed, "nsga2 generation", generation as u64);
            let children = self.offspring(&population, &mut rng);
            population.extend(self.evaluate(children)?);
            rank(&mut population);
            select(&mut population, self.config.population);
            self.run.report(&self.found);
            if self.converged(&mut volumes)? {
                return Ok(Ended::Converged);
            }
        }
        Ok(Ended::Schedule)
    }

    /// Seeds of the evaluator, then random points.
    fn initial(&self) -> Vec<Point> {
        let mut points: Vec<Point> = self.run.eval.seeds();
        points.retain(|p| self.run.space.check(p).is_ok());
        points.sort();
        points.dedup();
        let mut rng = stream(self.run.seed, "nsga2 initial", 0);
        // Not more than half seeds: a population of near relatives has nothing to cross.
        let half = self.config.population / 2;
        while points.len() > half {
            points.swap_remove(rng.random_range(0..points.len()));
        }
        while points.len() < self.config.population {
            points.push(random_point(self.run, &mut rng));
        }
        points
    }

    /// Visits new points in parallel, within the budget; duplicates of one generation are visited once.
    fn evaluate(&mut self, points: Vec<Point>) -> Result<Vec<Individual>> {
        let mut fresh: Vec<&Point> = points.iter().filter(|p| !self.known.contains_key(*p)).collect();
        fresh.sort();
        fresh.dedup();
        fresh.truncate(usize::try_from(self.run.left(&self.found)).unwrap_or(usize::MAX));
        let run = self.run;
        let parts: Vec<Result<Visits>> = fresh
            .par_chunks(16)
            .map(|chunk| {
                let mut part = Found::new(run.goals.len());
                let visits =
                    chunk.iter().map(|&p| Ok((p.clone(), part.visit(run, p)?))).collect::<Result<_>>()?;
                Ok((part, visits))
            })
            .collect();
        for part in parts {
            let (part, visits) = part?;
            self.found.absorb(part);
            self.known.extend(visits);
        }
        let known = &self.known;
        Ok(points
            .into_iter()
            .filter_map(|point| {
                let visit = *known.get(&point)?;
                Some(Individual { point, visit, rank: 0, crowding: 0.0 })
            })
            .collect())
    }

    fn offspring(&self, parents: &[Individual], rng: &mut ChaCha8Rng) -> Vec<Point> {
        let mut children = Vec::with_capacity(self.config.population);
        while children.len() < self.config.population {
            let (a, b) = (tournament(parents, rng), tournament(parents, rng));
            let (Some(a), Some(b)) = (a, b) else { break };
            let (mut first, mut second) = (a.point.clone(), b.point.clone());
            if rng.random::<f64>() < self.config.crossover {
                self.cross(&mut first, &mut second, rng);
            }
            for mut child in [first, second] {
                self.mutate(&mut child, rng);
                // A known point brings nothing: mutate on, a few times.
                for _ in 0..8 {
                    if !self.known.contains_key(&child) {
                        break;
                    }
                    self.mutate(&mut child, rng);
                }
                children.push(child);
            }
        }
        children.truncate(self.config.population);
        children
    }

    /// Simulated binary crossover (Deb & Agrawal 1995), rounded to indices; each gene with probability one half.
    fn cross(&self, a: &mut Point, b: &mut Point, rng: &mut ChaCha8Rng) {
        for ((x, y), n) in a.0.iter_mut().zip(b.0.iter_mut()).zip(self.run.space.sizes()) {
            if rng.random::<bool>() {
                continue;
            }
            let u: f64 = rng.random();
            let exponent = 1.0 / (self.config.eta + 1.0);
            let beta = if u <= 0.5 { (2.0 * u).powf(exponent) } else { (0.5 / (1.0 - u)).powf(exponent) };
            let (p, q) = (f64::from(*x), f64::from(*y));
            let top = f64::from(n - 1);
            let child =
                |sign: f64| (0.5 * (p + q) + sign * 0.5 * beta * (p - q)).round().clamp(0.0, top) as u32;
            let (first, second) = (child(1.0), child(-1.0));
            (*x, *y) = if rng.random::<bool>() { (first, second) } else { (second, first) };
        }
    }

    /// Steps of mostly one or two indices, at times anywhere.
    fn mutate(&self, point: &mut Point, rng: &mut ChaCha8Rng) {
        let p = self.config.mutation.unwrap_or(1.0 / point.0.len() as f64);
        for (gene, n) in point.0.iter_mut().zip(self.run.space.sizes()) {
            if n < 2 || rng.random::<f64>() >= p {
                continue;
            }
            *gene = if rng.random::<f64>() < 0.25 {
                rng.random_range(0..n)
            } else {
                let step = rng.random_range(1..=2u32.min(n - 1));
                if rng.random::<bool>() { (*gene + step).min(n - 1) } else { gene.saturating_sub(step) }
            };
        }
    }

    fn converged(&mut self, volumes: &mut Vec<f64>) -> Result<bool> {
        let patience = self.config.patience;
        // Exact volumes of many goals are too slow to compute in every generation.
        if patience == 0 || self.run.goals.len() > 4 || self.found.archive.len() == 0 {
            return Ok(false);
        }
        let rows = self.found.archive.cost_rows();
        let reference = self.reference.get_or_insert_with(|| {
            (0..self.run.goals.len())
                .map(|g| rows.iter().filter_map(|r| r.get(g)).fold(f64::NEG_INFINITY, |a, &b| a.max(b)))
                .collect()
        });
        let inside: Vec<Vec<f64>> =
            rows.into_iter().filter(|r| r.iter().zip(reference.iter()).all(|(v, r)| v <= r)).collect();
        volumes.push(hypervolume(&inside, reference)?);
        let Some(&old) = volumes.len().checked_sub(patience + 1).and_then(|i| volumes.get(i)) else {
            return Ok(false);
        };
        let new = volumes.last().copied().unwrap_or(0.0);
        Ok(new - old <= self.config.min_gain * old && new > 0.0)
    }
}

/// Binary tournament on rank, then crowding.
fn tournament<'p>(parents: &'p [Individual], rng: &mut ChaCha8Rng) -> Option<&'p Individual> {
    if parents.is_empty() {
        return None;
    }
    let a = parents.get(rng.random_range(0..parents.len()))?;
    let b = parents.get(rng.random_range(0..parents.len()))?;
    let first = a.rank.cmp(&b.rank).then_with(|| b.crowding.total_cmp(&a.crowding)).is_le();
    Some(if first { a } else { b })
}

/// Fast non-dominated sort, and the crowding distance within each front.
fn rank(population: &mut [Individual]) {
    let n = population.len();
    let mut beaten_by = vec![0usize; n];
    let mut beats_these: Vec<Vec<usize>> = vec![Vec::new(); n];
    for (i, a) in population.iter().enumerate() {
        for (j, b) in population.iter().enumerate().skip(i + 1) {
            let (winner, loser) = if beats(a, b) {
                (i, j)
            } else if beats(b, a) {
                (j, i)
            } else {
                continue;
            };
            if let (Some(list), Some(count)) = (beats_these.get_mut(winner), beaten_by.get_mut(loser)) {
                list.push(loser);
                *count += 1;
            }
        }
    }
    let mut front: Vec<usize> = (0..n).filter(|&i| beaten_by.get(i) == Some(&0)).collect();
    let mut rank = 0;
    while !front.is_empty() {
        crowd(population, &front, rank);
        let mut next = Vec::new();
        for &winner in &front {
            for &loser in beats_these.get(winner).into_iter().flatten() {
                if let Some(count) = beaten_by.get_mut(loser) {
                    *count -= 1;
                    if *count == 0 {
                        next.push(loser);
                    }
                }
            }
        }
        next.sort_unstable();
        front = next;
        rank += 1;
    }
}

/// Sets rank and crowding distance of one front. Of equal costs only one keeps its distance, so that copies die out.
fn crowd(population: &mut [Individual], front: &[usize], rank: usize) {
    for &i in front {
        if let Some(individual) = population.get_mut(i) {
            (individual.rank, individual.crowding) = (rank, 0.0);
        }
    }
    let goals = front.iter().filter_map(|&i| population.get(i)).map(|p| p.costs().len()).max().unwrap_or(0);
    for goal in 0..goals {
        let value = |population: &[Individual], i: usize| {
            population.get(i).and_then(|p| p.costs().get(goal)).copied().unwrap_or(0.0)
        };
        let mut order = front.to_vec();
        order.sort_by(|&a, &b| value(population, a).total_cmp(&value(population, b)).then(a.cmp(&b)));
        let (Some(&low), Some(&high)) = (order.first(), order.last()) else { continue };
        let range = value(population, high) - value(population, low);
        if range <= 0.0 {
            continue;
        }
        for (k, &i) in order.iter().enumerate() {
            let before = k.checked_sub(1).and_then(|k| order.get(k));
            let gap = match (before, order.get(k + 1)) {
                (Some(&before), Some(&after)) => {
                    (value(population, after) - value(population, before)) / range
                }
                _ => f64::INFINITY,
            };
            if let Some(individual) = population.get_mut(i) {
                individual.crowding += gap;
            }
        }
    }
    let mut seen: BTreeMap<Vec<u64>, ()> = BTreeMap::new();
    for &i in front {
        if let Some(individual) = population.get_mut(i) {
            let bits = individual.costs().iter().map(|c| c.to_bits()).collect();
            if goals > 0 && seen.insert(bits, ()).is_some() {
                individual.crowding = -1.0;
            }
        }
    }
}

/// Keeps the best `n` by rank, then crowding, then parameters.
fn select(population: &mut Vec<Individual>, n: usize) {
    population.sort_by(|a, b| {
        a.rank
            .cmp(&b.rank)
            .then_with(|| b.crowding.total_cmp(&a.crowding))
            .then_with(|| a.point.cmp(&b.point))
    });
    population.dedup_by(|a, b| a.point == b.point);
    population.truncate(n);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn individual(values: &[f64]) -> Individual {
        let o = super::super::objectives::Objectives {
            latency_s: values[0],
            energy_j: values[1],
            ..Default::default()
        };
        let goals = [super::super::Goal::Latency, super::super::Goal::Energy];
        let visit = Visit::Feasible(super::super::objectives::Costs::of(&goals, &o, &String::new).unwrap());
        Individual { point: Point(vec![]), visit, rank: 9, crowding: 0.0 }
    }

    #[test]
    fn fronts_are_ranked_and_extremes_are_least_crowded() {
        let mut all: Vec<Individual> = [[1.0, 4.0], [2.0, 2.0], [4.0, 1.0], [3.0, 3.0], [5.0, 5.0]]
            .iter()
            .map(|v| individual(v))
            .collect();
        all.push(Individual { visit: Visit::Violates(0.1), ..all[0].clone() });
        rank(&mut all);
        assert_eq!(all.iter().map(|i| i.rank).collect::<Vec<_>>(), [0, 0, 0, 1, 2, 3]);
        assert_eq!(all[0].crowding, f64::INFINITY);
        assert_eq!(all[1].crowding, 2.0);
    }

    #[test]
    fn settings_outside_their_range_are_refused() {
        let bad = Nsga2Config { crossover: f64::NAN, ..Default::default() };
        insta::assert_snapshot!(bad.validate().unwrap_err(), @"`nsga2.crossover` must be in [0, 1], but is NaN");
        assert!(Nsga2Config { population: 2, ..Default::default() }.validate().is_err());
    }
}
