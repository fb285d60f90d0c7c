//! Search for the encoder behind given decoders: exhaustive, dynamic programming, evolutionary.
use super::score::{AdditiveScore, Score};
use super::space::{WidthSpace, Widths};
use super::tables::CostTables;
use crate::Result;
use crate::explore::rng::stream;
use rand::RngExt;
use std::collections::BTreeMap;

/// Population, generations and mutation of the evolutionary search.
const POPULATION: usize = 64;
const GENERATIONS: u64 = 40;
const MUTATION: f64 = 0.1;
/// Further mutations of a child that is known already.
const RETRIES: u32 = 16;

/// One encoder problem: decoders are fixed, widths may not exceed `cap`.
pub(super) struct Problem<'a> {
    pub(super) space: &'a WidthSpace,
    pub(super) costs: &'a CostTables,
    pub(super) score: Score<'a>,
    pub(super) preferences: &'a [f64],
    pub(super) decoders: &'a [usize],
    pub(super) cap: &'a [usize],
    pub(super) budget: f64,
}

/// An encoder with total cost and score.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Found {
    pub(super) encoder: Vec<usize>,
    pub(super) cost: f64,
    pub(super) score: f64,
}

impl Found {
    /// Higher score, then lower cost, then smaller widths.
    pub(super) fn better(&self, other: &Self) -> bool {
        other
            .score
            .total_cmp(&self.score)
            .then_with(|| self.cost.total_cmp(&other.cost))
            .then_with(|| self.encoder.cmp(&other.encoder))
            .is_lt()
    }
}

impl Problem<'_> {
    fn evaluate(&self, encoder: &[usize]) -> Result<Option<Found>> {
        let widths = Widths { encoder: encoder.to_vec(), decoders: self.decoders.to_vec() };
        let cost = self.costs.cost(&widths);
        Ok(self.score.of(&widths, self.preferences)?.map(|score| Found {
            encoder: widths.encoder,
            cost,
            score,
        }))
    }

    /// Every encoder within the budget; what costs too much even at the narrowest rest is skipped.
    pub(super) fn exhaustive(&self, visited: &mut Visited) -> Result<Option<Found>> {
        let narrow: Vec<f64> = self.rest();
        let mut best = None;
        self.descend(&mut Vec::with_capacity(self.cap.len()), 0.0, &narrow, &mut best, visited)?;
        Ok(best)
    }

    /// Least cost of the stages from each on, and of the decoders.
    fn rest(&self) -> Vec<f64> {
        let stages = self.cap.len();
        let decoders = self.costs.decoders_cost(0, self.decoders);
        let mut rest = vec![decoders; stages + 1];
        for stage in (0..stages).rev() {
            let next = rest.get(stage + 1).copied().unwrap_or(0.0);
            if let Some(slot) = rest.get_mut(stage) {
                *slot = next + self.costs.stage(stage, 0, 0);
            }
        }
        rest
    }

    fn descend(
        &self,
        encoder: &mut Vec<usize>,
        cost: f64,
        rest: &[f64],
        best: &mut Option<Found>,
        visited: &mut Visited,
    ) -> Result<()> {
        let stage = encoder.len();
        let Some(&top) = self.cap.get(stage) else {
            if let Some(found) = self.evaluate(encoder)?.filter(|f| f.cost <= self.budget) {
                visited.add(found.cost, found.score);
                if best.as_ref().is_none_or(|b| found.better(b)) {
                    *best = Some(found);
                }
            }
            return Ok(());
        };
        let before = encoder.last().copied().unwrap_or(0);
        for width in 0..=top {
            let cost = cost + self.costs.stage(stage, before, width);
            // A hair of slack: sums in another order may round differently.
            if (cost + rest.get(stage + 1).copied().unwrap_or(0.0)) * (1.0 - 1e-9) > self.budget {
                break;
            }
            encoder.push(width);
            self.descend(encoder, cost, rest, best, visited)?;
            encoder.pop();
        }
        Ok(())
    }

    /// Stage by stage, the non-dominated (cost, score) for each width of the stage: exact for additive scores.
    pub(super) fn dynamic(&self, additive: &AdditiveScore, visited: &mut Visited) -> Result<Option<Found>> {
        let narrow = self.rest();
        let mut states: BTreeMap<usize, Vec<Found>> = BTreeMap::new();
        states.insert(0, vec![Found { encoder: Vec::new(), cost: 0.0, score: 0.0 }]);
        for (stage, &top) in self.cap.iter().enumerate() {
            let rest = narrow.get(stage + 1).copied().unwrap_or(0.0);
            let mut next: BTreeMap<usize, Vec<Found>> = BTreeMap::new();
            for width in 0..=top {
                let mut list = Vec::new();
                for (&before, found) in &states {
                    let cost = self.costs.stage(stage, before, width);
                    for f in found {
                        let cost = f.cost + cost;
                        if (cost + rest) * (1.0 - 1e-9) > self.budget {
                            continue;
                        }
                        let mut encoder = f.encoder.clone();
                        encoder.push(width);
                        list.push(Found { encoder, cost, score: f.score + additive.stage(stage, width) });
                    }
                }
                next.insert(width, front(list));
            }
            states = next;
        }
        let mut best: Option<Found> = None;
        for found in states.values().flatten() {
            // The cost proper, summed as everywhere else.
            if let Some(found) = self.evaluate(&found.encoder)?.filter(|f| f.cost <= self.budget) {
                visited.add(found.cost, found.score);
                if best.as_ref().is_none_or(|b| found.better(b)) {
                    best = Some(found);
                }
            }
        }
        Ok(best)
    }

    /// Mutation and crossover of non-dominated encoders. The search does not look at the budget, only the choice at its end
    /// does: so a larger budget chooses from the same encoders.
    pub(super) fn evolve(
        &self,
        seed: u64,
        inject: &[Vec<usize>],
        visited: &mut Visited,
    ) -> Result<Option<Found>> {
        let mut known: BTreeMap<Vec<usize>, Option<Found>> = BTreeMap::new();
        let mut population: Vec<Vec<usize>> = inject.to_vec();
        let levels = self.cap.iter().copied().max().unwrap_or(0);
        population.extend((0..=levels).map(|l| self.cap.iter().map(|&top| l.min(top)).collect()));
        population.push(self.cap.to_vec());
        let mut rng = stream(seed, "width evolution", 0);
        while population.len() < POPULATION {
            population.push(self.cap.iter().map(|&top| rng.random_range(0..=top)).collect());
        }
        for generation in 0..=GENERATIONS {
            for encoder in &population {
                if !known.contains_key(encoder) {
                    known.insert(encoder.clone(), self.evaluate(encoder)?);
                }
            }
            if generation == GENERATIONS {
                break;
            }
            let parents = front(known.values().flatten().cloned().collect());
            let mut rng = stream(seed, "width evolution", 1 + generation);
            population = (0..POPULATION)
                .map(|_| {
                    let parent = |i: usize| parents.get(i).map_or(self.cap, |f| &f.encoder);
                    let n = parents.len().max(1);
                    let (a, b) = (parent(rng.random_range(0..n)), parent(rng.random_range(0..n)));
                    let gene = |((&x, &y), &top): ((&usize, &usize), &usize)| {
                        let inherited = if rng.random::<bool>() { x } else { y };
                        if rng.random::<f64>() < MUTATION { rng.random_range(0..=top) } else { inherited }
                    };
                    let mut child: Vec<usize> = a.iter().zip(b).zip(self.cap).map(gene).collect();
                    // What is known teaches nothing: walk on until something new is found.
                    for _ in 0..RETRIES {
                        if !known.contains_key(&child) || child.is_empty() {
                            break;
                        }
                        let stage = rng.random_range(0..child.len());
                        if let (Some(gene), Some(&top)) = (child.get_mut(stage), self.cap.get(stage)) {
                            *gene = rng.random_range(0..=top);
                        }
                    }
                    child
                })
                .collect();
        }
        let mut best: Option<Found> = None;
        for found in known.into_values().flatten().filter(|f| f.cost <= self.budget) {
            visited.add(found.cost, found.score);
            if best.as_ref().is_none_or(|b| found.better(b)) {
                best = Some(found);
            }
        }
        Ok(best)
    }

    /// Number of encoders within the cap.
    pub(super) fn count(&self) -> u128 {
        let lists = self.space.encoder.iter().zip(self.cap);
        lists.map(|(l, &top)| l.len().min(top + 1) as u128).fold(1, u128::saturating_mul)
    }
}

/// Non-dominated by cost and score, rising in both.
fn front(mut all: Vec<Found>) -> Vec<Found> {
    all.sort_by(|a, b| {
        a.cost
            .total_cmp(&b.cost)
            .then_with(|| b.score.total_cmp(&a.score))
            .then_with(|| a.encoder.cmp(&b.encoder))
    });
    let mut best = f64::NEG_INFINITY;
    all.retain(|f| {
        let keep = f.score > best;
        best = best.max(f.score);
        keep
    });
    all
}

/// Non-dominated (cost, score) of everything visited.
#[derive(Debug, Default)]
pub(super) struct Visited {
    /// Rising in cost and score.
    front: Vec<(f64, f64)>,
    pub(super) count: u64,
}

impl Visited {
    fn add(&mut self, cost: f64, score: f64) {
        self.count += 1;
        let at = self.front.partition_point(|f| f.0 <= cost);
        if at.checked_sub(1).and_then(|i| self.front.get(i)).is_some_and(|f| f.1 >= score) {
            return;
        }
        // Entries of the same cost are worse, and so are dearer ones with no higher score.
        let from = self.front.partition_point(|f| f.0 < cost);
        let worse = self.front.iter().skip(from).take_while(|f| f.1 <= score).count();
        self.front.splice(from..from + worse, [(cost, score)]);
    }

    pub(super) fn into_front(self) -> Vec<(f64, f64)> {
        self.front
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn visited_keeps_the_non_dominated(points in proptest::collection::vec((0u8..9, 0u8..9), 0..40)) {
            let mut visited = Visited::default();
            let points: Vec<(f64, f64)> = points.into_iter().map(|(c, s)| (c.into(), s.into())).collect();
            for &(c, s) in &points {
                visited.add(c, s);
            }
            let mut expected: Vec<(f64, f64)> = points
                .iter()
                .filter(|p| !points.iter().any(|q| q != *p && q.0 <= p.0 && q.1 >= p.1))
                .copied()
                .collect();
            expected.sort_by(|a, b| a.0.total_cmp(&b.0));
            expected.dedup();
            prop_assert_eq!(visited.into_front(), expected);
        }
    }
}
