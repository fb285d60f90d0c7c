//! The two-stage search of UbiMoE (arXiv 2502.05602, Algorithm 1), as a baseline: first a genetic search for an attention part
//! no slower than the fastest linear part, else a binary search for the smallest linear part no slower than attention.
use super::exhaustive::random_point;
use super::objectives::TwoStage;
use super::rng::stream;
use super::search::{Ended, Found, Run, Visit};
use super::space::Point;
use crate::{HwError, Result};
use rand::RngExt;
use rand_chacha::ChaCha8Rng;

/// Individuals and generations of the genetic search; the paper names none.
const POPULATION: usize = 32;
const GENERATIONS: usize = 30;
/// Settings of one part that are listed; larger parts are sampled.
const LISTED: u128 = 1 << 16;

/// Settings of one part with its cycles and share of the multiplier ceiling.
#[derive(Debug, Clone)]
struct Part {
    point: Point,
    cycles: f64,
    dsp: f64,
}

/// Runs both stages from every setting of the remaining dimensions' base point.
pub(super) fn ubimoe(run: &Run<'_>) -> Result<(Found, Ended)> {
    let Some(stages) = run.eval.two_stage() else {
        return Err(HwError::config(
            "strategy",
            "one that suits the evaluator",
            "ubi-moe, but the design has no two stages",
        ));
    };
    let mut found = Found::new(run.goals.len());
    let mut bases = run.eval.seeds();
    bases.retain(|p| run.space.check(p).is_ok());
    bases.push(run.space.point_at(0));
    // The other dimensions (widths, clock, ports, buffers) are not searched: they come from the seeds.
    let sized: Vec<usize> = stages.attention_dims().iter().chain(stages.linear_dims()).copied().collect();
    for base in &mut bases {
        for &dim in &sized {
            set(base, dim, 0);
        }
    }
    bases.sort();
    bases.dedup();
    for (step, base) in bases.iter().enumerate() {
        if run.left(&found) == 0 {
            return Ok((found, Ended::Evaluations));
        }
        if let Some(ended) = run.interrupted() {
            return Ok((found, ended));
        }
        let mut rng = stream(run.seed, "ubimoe", step as u64);
        let mut search = Search { run, stages, rng: &mut rng };
        for alternatives in search.designs(base)? {
            // The heuristic only looks at multipliers: memory may ask for a smaller linear part.
            for point in alternatives {
                if run.left(&found) == 0 {
                    break;
                }
                if let Visit::Feasible(_) = found.visit(run, &point)? {
                    break;
                }
            }
        }
        run.report(&found);
    }
    Ok((found, Ended::Schedule))
}

fn set(point: &mut Point, dim: usize, index: u32) {
    if let Some(slot) = point.0.get_mut(dim) {
        *slot = index;
    }
}

struct Search<'a> {
    run: &'a Run<'a>,
    stages: &'a dyn TwoStage,
    rng: &'a mut ChaCha8Rng,
}

impl Search<'_> {
    /// For each stage the designs to try in turn, the proposal of the heuristic first.
    fn designs(&mut self, base: &Point) -> Result<Vec<Vec<Point>>> {
        let mut linear = self.linear_parts(base)?;
        // Stage 1: all multipliers for the linear part.
        linear.retain(|p| p.dsp <= 1.0);
        linear.sort_by(|a, b| {
            a.dsp.total_cmp(&b.dsp).then(a.cycles.total_cmp(&b.cycles)).then(a.point.cmp(&b.point))
        });
        // Larger parts that are no faster are of no use: what stays falls in cycles as it grows in multipliers.
        let mut fastest = f64::INFINITY;
        linear.retain(|p| {
            let keep = p.cycles < fastest;
            fastest = fastest.min(p.cycles);
            keep
        });
        let Some(best) = linear.last().cloned() else { return Ok(Vec::new()) };
        let attention = self.attention_part(&best)?;
        let mut designs = Vec::new();
        if best.cycles / attention.cycles >= 1.0 {
            // Attention keeps up: the linear part takes every multiplier that is left.
            let fits = linear.partition_point(|p| p.dsp + attention.dsp <= 1.0);
            designs.push(self.largest_first(&attention, linear.get(..fits).unwrap_or_default()));
        }
        // Stage 2: the smallest linear part that just matches attention; frees multipliers.
        let first = linear.partition_point(|p| p.cycles > attention.cycles);
        designs.push(self.largest_first(&attention, linear.get(..=first).unwrap_or(&linear)));
        Ok(designs)
    }

    fn largest_first(&self, attention: &Part, linear: &[Part]) -> Vec<Point> {
        linear.iter().rev().map(|part| self.join(&attention.point, &part.point)).collect()
    }

    /// The attention dimensions of one point with all others of another.
    fn join(&self, attention: &Point, linear: &Point) -> Point {
        let mut point = linear.clone();
        for &dim in self.stages.attention_dims() {
            set(&mut point, dim, attention.index(dim));
        }
        point
    }

    fn linear_parts(&mut self, base: &Point) -> Result<Vec<Part>> {
        let dims = self.stages.linear_dims().to_vec();
        let count = dims.iter().map(|&d| u128::from(self.run.space.size(d))).product::<u128>();
        let mut parts = Vec::new();
        for i in 0..count.min(LISTED) {
            let mut point = base.clone();
            let mut rest = i;
            for &dim in dims.iter().rev() {
                let n = self.run.space.size(dim);
                let index =
                    if count > LISTED { self.rng.random_range(0..n) } else { (rest % u128::from(n)) as u32 };
                rest /= u128::from(n);
                set(&mut point, dim, index);
            }
            let cycles = self.stages.stage_cycles(&point)?.1;
            let dsp = self.stages.stage_dsp(&point)?.1;
            parts.push(Part { point, cycles, dsp });
        }
        Ok(parts)
    }

    /// Genetic search with fitness L_MoE / L_MSA, until it reaches 1.
    fn attention_part(&mut self, linear: &Part) -> Result<Part> {
        let mut population = Vec::with_capacity(2 * POPULATION);
        for _ in 0..POPULATION {
            let random = random_point(self.run, self.rng);
            population.push(self.attention_of(self.join(&random, &linear.point))?);
        }
        for _ in 0..GENERATIONS {
            sort(&mut population, linear.cycles);
            population.truncate(POPULATION);
            if population.first().is_some_and(|p| p.dsp <= 1.0 && linear.cycles / p.cycles >= 1.0) {
                break;
            }
            for _ in 0..POPULATION {
                let i = self.rng.random_range(0..population.len());
                let j = self.rng.random_range(0..population.len());
                let (Some(a), Some(b)) = (population.get(i), population.get(j)) else { continue };
                let mut child = a.point.clone();
                for &dim in self.stages.attention_dims() {
                    if self.rng.random::<bool>() {
                        set(&mut child, dim, b.point.index(dim));
                    }
                    if self.rng.random::<f64>() < 0.3 {
                        set(&mut child, dim, self.rng.random_range(0..self.run.space.size(dim)));
                    }
                }
                population.push(self.attention_of(child)?);
            }
        }
        sort(&mut population, linear.cycles);
        population.into_iter().next().ok_or_else(|| HwError::config("population", "positive", 0))
    }

    fn attention_of(&self, point: Point) -> Result<Part> {
        let cycles = self.stages.stage_cycles(&point)?.0;
        let dsp = self.stages.stage_dsp(&point)?.0;
        Ok(Part { point, cycles, dsp })
    }
}

/// Within the board first, then fitness up to 1, then fewest multipliers.
fn sort(population: &mut [Part], linear_cycles: f64) {
    let fitness = |p: &Part| (linear_cycles / p.cycles).min(1.0);
    population.sort_by(|a, b| {
        (a.dsp > 1.0)
            .cmp(&(b.dsp > 1.0))
            .then_with(|| fitness(b).total_cmp(&fitness(a)))
            .then_with(|| a.dsp.total_cmp(&b.dsp))
            .then_with(|| a.point.cmp(&b.point))
    });
}
