//! What knowing the order of experts is worth to a prefetcher.
use super::order::Job;
use crate::cost::ping_pong::Step;
use crate::math::sum;
use crate::{HwError, Result};
use serde::{Deserialize, Serialize};

/// Which loads a prefetcher without knowledge of the gate gets right.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub enum Predictor<'a> {
    /// The `top` experts with the most tokens in a histogram, say of earlier images; of equal ones the lower index.
    Histogram {
        /// Tokens per expert.
        counts: &'a [u64],
        /// Experts that are predicted.
        top: usize,
    },
    /// A share of all loads, spread evenly over them.
    Accuracy(f64),
}

/// Latency with all loads known in advance, and with some of them guessed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct PrefetchGap {
    /// Cycles when each load starts while the step before it computes.
    pub known_cycles: u64,
    /// Cycles when loads that were not predicted start only after the step before them.
    pub predicted_cycles: u64,
    /// Loads that were predicted.
    pub hits: u64,
    /// Loads that were not.
    pub misses: u64,
}

impl PrefetchGap {
    /// Cycles that prediction costs over knowledge.
    #[must_use]
    pub fn gap_cycles(&self) -> u64 {
        self.predicted_cycles - self.known_cycles
    }

    /// Cycles of the gap per load that was not predicted; 0 without any.
    #[must_use]
    pub fn exposed_per_miss(&self) -> f64 {
        if self.misses == 0 { 0.0 } else { self.gap_cycles() as f64 / self.misses as f64 }
    }
}

/// Compares a prefetcher that knows the order of `jobs`, each an expert with its id, with one that predicts.
///
/// A predicted load runs while the step before it computes. Another starts when that step has ended, since a wrong load
/// is abandoned as soon as the right one is known. The second matrix of an expert is never a guess, and neither is the
/// first load, which both wait for.
///
/// ```
/// use mtl_hw::cost::ping_pong::Step;
/// use mtl_hw::sim::{Job, Predictor, prefetch_gap};
/// let jobs = [3u16, 7, 9].map(|e| (e, Job { first: Step { load: 5, compute: 8 }, second: None }));
/// let mut counts = [0; 16];
/// (counts[3], counts[9]) = (40, 30);
/// let gap = prefetch_gap(&jobs, Predictor::Histogram { counts: &counts, top: 2 })?;
/// assert_eq!((gap.known_cycles, gap.predicted_cycles), (5 + 3 * 8, 5 + 3 * 8 + 5)); // expert 7 was not expected
/// # Ok::<(), mtl_hw::HwError>(())
/// ```
///
/// # Errors
///
/// [`HwError::Config`] for an accuracy outside [0, 1], [`HwError::Overflow`] beyond 64 bits.
pub fn prefetch_gap(jobs: &[(u16, Job)], predictor: Predictor<'_>) -> Result<PrefetchGap> {
    let top = match predictor {
        Predictor::Histogram { counts, top } => {
            let mut ranked: Vec<usize> = (0..counts.len()).collect();
            ranked.sort_by_key(|&e| (std::cmp::Reverse(counts[e]), e));
            ranked.truncate(top);
            ranked
        }
        Predictor::Accuracy(q) if (0.0..=1.0).contains(&q) => Vec::new(),
        Predictor::Accuracy(q) => return Err(HwError::config("accuracy", "in [0, 1]", q)),
    };
    let predicted = |i: usize, expert: u16| match predictor {
        Predictor::Histogram { .. } => top.contains(&usize::from(expert)),
        Predictor::Accuracy(q) => ((i + 1) as f64 * q).floor() > (i as f64 * q).floor(),
    };
    let mut gap = PrefetchGap { known_cycles: 0, predicted_cycles: 0, hits: 0, misses: 0 };
    let mut steps: Vec<(Step, bool)> = Vec::with_capacity(2 * jobs.len());
    for (i, &(expert, job)) in jobs.iter().enumerate() {
        let hit = predicted(i, expert);
        (gap.hits, gap.misses) = (gap.hits + u64::from(hit), gap.misses + u64::from(!hit));
        steps.extend(job.steps().enumerate().map(|(half, step)| (step, hit || half > 0)));
    }
    let first = steps.first().map_or(0, |(s, _)| s.load);
    (gap.known_cycles, gap.predicted_cycles) = (first, first);
    for (i, (step, _)) in steps.iter().enumerate() {
        let (load, hit) = steps.get(i + 1).map_or((0, true), |(next, hit)| (next.load, *hit));
        let hidden = step.compute.max(load);
        let exposed = if hit { hidden } else { sum("cycles", [step.compute, load])? };
        gap.known_cycles = sum("cycles", [gap.known_cycles, hidden])?;
        gap.predicted_cycles = sum("cycles", [gap.predicted_cycles, exposed])?;
    }
    Ok(gap)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cost::ping_pong::{barrier, serial};
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn the_gap_runs_from_nothing_to_no_overlap(
            times in proptest::collection::vec((0u64..50, 0u64..50), 1..20), q in 0.0..=1.0f64,
        ) {
            let steps: Vec<Step> = times.iter().map(|&(load, compute)| Step { load, compute }).collect();
            let jobs: Vec<(u16, Job)> = steps.iter().map(|&first| (0, Job { first, second: None })).collect();
            let at = |q| prefetch_gap(&jobs, Predictor::Accuracy(q)).unwrap();
            prop_assert_eq!(at(1.0).predicted_cycles, barrier(&steps).unwrap());
            prop_assert_eq!(at(0.0).predicted_cycles, serial(&steps).unwrap());
            let gap = at(q);
            prop_assert_eq!(gap.known_cycles, barrier(&steps).unwrap());
            prop_assert!(gap.predicted_cycles >= gap.known_cycles);
            prop_assert_eq!(gap.hits, (steps.len() as f64 * q).floor() as u64);
        }
    }

    #[test]
    fn an_accuracy_outside_its_range_is_refused() {
        assert!(prefetch_gap(&[], Predictor::Accuracy(1.5)).is_err());
        assert!(prefetch_gap(&[], Predictor::Accuracy(f64::NAN)).is_err());
        assert_eq!(prefetch_gap(&[], Predictor::Accuracy(0.5)).unwrap().exposed_per_miss(), 0.0);
    }
}
