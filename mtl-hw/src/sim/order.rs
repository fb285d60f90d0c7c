//! Orders of experts: which one is loaded and computed first.
use super::stage::{Overlap, makespan_of};
use crate::cost::ping_pong::Step;
use crate::math::sum;
use crate::{HwError, Result};
use serde::{Deserialize, Serialize};

/// Most jobs of which all orders are tried.
const MAX_EXHAUSTIVE: usize = 10;

/// Order in which the active experts of a layer are served.
///
/// With equal loads and two buffers, Σ max(cᵢ, ℓᵢ₊₁) is least when the shortest queue is computed last, since its missing
/// successor wastes nothing. With unequal loads and unlimited buffers this is a flow shop of two machines, which Johnson's
/// rule (*Optimal two- and three-stage production schedules with setup times included*, 1954) solves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum ExpertOrder {
    /// By index, as published designs do.
    #[default]
    Index,
    /// By index, but the shortest computation last.
    ShortestLast,
    /// Loads shorter than their computation first, by rising load; then the others, by falling computation.
    Johnson,
    /// The best of the three orders above.
    Best,
    /// The best of all orders, for at most ten active experts.
    Exhaustive,
}

/// What one expert takes: one step, or one for each of its two matrices.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Job {
    /// The whole expert, or its first matrix.
    pub first: Step,
    /// Its second matrix.
    pub second: Option<Step>,
}

impl Job {
    /// The steps in order.
    pub fn steps(&self) -> impl Iterator<Item = Step> + use<> {
        [Some(self.first), self.second].into_iter().flatten()
    }

    fn total(&self, of: impl Fn(Step) -> u64) -> Result<u64> {
        sum("cycles", self.steps().map(of))
    }
}

/// Cycles of jobs in an order, through a port and a unit that share `buffers` buffers (any number if `None`), the first
/// load included.
///
/// # Errors
///
/// [`HwError::Config`] for an index out of range or no buffer, [`HwError::Overflow`] beyond 64 bits.
pub fn makespan(jobs: &[Job], order: &[usize], buffers: Option<u32>) -> Result<u64> {
    let mut steps = Vec::with_capacity(2 * order.len());
    for &i in order {
        let job = jobs.get(i).ok_or_else(|| HwError::config("order", format!("below {}", jobs.len()), i))?;
        steps.extend(job.steps());
    }
    makespan_of(steps, Overlap::Free, buffers)
}

/// The order in which to serve jobs with `buffers` buffers.
///
/// ```
/// use mtl_hw::cost::ping_pong::Step;
/// use mtl_hw::sim::{ExpertOrder, Job, expert_order, makespan};
/// let jobs = [2, 9, 8].map(|compute| Job { first: Step { load: 5, compute }, second: None });
/// let order = expert_order(&jobs, ExpertOrder::ShortestLast, Some(2))?;
/// assert_eq!(order, [1, 2, 0]);
/// assert_eq!(makespan(&jobs, &[0, 1, 2], Some(2))?, 5 + 5 + 9 + 8);
/// assert_eq!(makespan(&jobs, &order, Some(2))?, 5 + 9 + 8 + 2);
/// # Ok::<(), mtl_hw::HwError>(())
/// ```
///
/// # Errors
///
/// [`HwError::Config`] when all orders of more than ten jobs are asked for, or for no buffer; [`HwError::Overflow`]
/// beyond 64 bits.
pub fn expert_order(jobs: &[Job], order: ExpertOrder, buffers: Option<u32>) -> Result<Vec<usize>> {
    let index: Vec<usize> = (0..jobs.len()).collect();
    match order {
        ExpertOrder::Index => Ok(index),
        ExpertOrder::ShortestLast => shortest_last(jobs, index),
        ExpertOrder::Johnson => johnson(jobs, index),
        ExpertOrder::Best => {
            let mut best = (makespan(jobs, &index, buffers)?, index.clone());
            for other in [shortest_last(jobs, index.clone())?, johnson(jobs, index)?] {
                let cycles = makespan(jobs, &other, buffers)?;
                if cycles < best.0 {
                    best = (cycles, other);
                }
            }
            Ok(best.1)
        }
        ExpertOrder::Exhaustive => {
            if jobs.len() > MAX_EXHAUSTIVE {
                let must = format!("at most {MAX_EXHAUSTIVE} for an exhaustive search");
                return Err(HwError::config("active experts", must, jobs.len()));
            }
            let best = expert_order(jobs, ExpertOrder::Best, buffers)?;
            Search::new(jobs, buffers, best)?.run()
        }
    }
}

fn shortest_last(jobs: &[Job], mut order: Vec<usize>) -> Result<Vec<usize>> {
    let compute = jobs.iter().map(|j| j.total(|s| s.compute)).collect::<Result<Vec<_>>>()?;
    // Of equal ones the last, which moves the fewest jobs.
    if let Some(shortest) = (0..jobs.len()).rev().min_by_key(|&i| compute[i]) {
        order.retain(|&i| i != shortest);
        order.push(shortest);
    }
    Ok(order)
}

fn johnson(jobs: &[Job], mut order: Vec<usize>) -> Result<Vec<usize>> {
    let times = jobs
        .iter()
        .map(|j| Ok((j.total(|s| s.load)?, j.total(|s| s.compute)?)))
        .collect::<Result<Vec<_>>>()?;
    order.sort_by_key(|&i| {
        let (load, compute) = times[i];
        if load < compute { (0, load) } else { (1, u64::MAX - compute) }
    });
    Ok(order)
}

/// Depth-first search over orders, without those that cannot beat the best one.
struct Search<'a> {
    jobs: &'a [Job],
    buffers: usize,
    used: Vec<bool>,
    order: Vec<usize>,
    ends: Vec<u64>, // of the computations so far
    best: (u64, Vec<usize>),
}

impl<'a> Search<'a> {
    fn new(jobs: &'a [Job], buffers: Option<u32>, best: Vec<usize>) -> Result<Self> {
        Ok(Self {
            jobs,
            buffers: buffers.map_or(usize::MAX, |b| b as usize),
            used: vec![false; jobs.len()],
            order: Vec::with_capacity(jobs.len()),
            ends: Vec::with_capacity(2 * jobs.len()),
            best: (makespan(jobs, &best, buffers)?, best),
        })
    }

    fn run(mut self) -> Result<Vec<usize>> {
        // The best order's makespan bounds every sum that the search adds up, so nothing overflows below it.
        let compute = sum("cycles", self.jobs.iter().flat_map(Job::steps).map(|s| s.compute))?;
        let load = sum("cycles", self.jobs.iter().flat_map(Job::steps).map(|s| s.load))?;
        sum("cycles", [compute, load])?;
        self.visit(0, compute, load);
        Ok(self.best.1)
    }

    fn visit(&mut self, load_end: u64, compute: u64, load: u64) {
        let compute_end = self.ends.last().copied().unwrap_or(0);
        if self.order.len() == self.jobs.len() {
            if compute_end < self.best.0 {
                self.best = (compute_end, self.order.clone());
            }
            return;
        }
        if (compute_end + compute).max(load_end + load) >= self.best.0 {
            return;
        }
        for i in 0..self.jobs.len() {
            let job = self.jobs[i];
            // Equal jobs are interchangeable: only the first of them that is left is tried.
            let repeated = (0..i).any(|earlier| !self.used[earlier] && self.jobs[earlier] == job);
            if self.used[i] || repeated {
                continue;
            }
            self.used[i] = true;
            self.order.push(i);
            let before = self.ends.len();
            let (mut loaded, mut rest) = (load_end, (compute, load));
            for step in job.steps() {
                let freed = self.ends.len().checked_sub(self.buffers).map_or(0, |j| self.ends[j]);
                loaded = loaded.max(freed) + step.load;
                let start = loaded.max(self.ends.last().copied().unwrap_or(0));
                self.ends.push(start + step.compute);
                rest = (rest.0 - step.compute, rest.1 - step.load);
            }
            self.visit(loaded, rest.0, rest.1);
            self.ends.truncate(before);
            self.order.pop();
            self.used[i] = false;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn jobs() -> impl Strategy<Value = Vec<Job>> {
        let step = || (0u64..40, 0u64..40).prop_map(|(load, compute)| Step { load, compute });
        proptest::collection::vec((step(), proptest::option::of(step())), 1..7)
            .prop_map(|v| v.into_iter().map(|(first, second)| Job { first, second }).collect())
    }

    /// All orders, by Heap's algorithm.
    fn permutations(n: usize) -> Vec<Vec<usize>> {
        fn heap(k: usize, order: &mut Vec<usize>, all: &mut Vec<Vec<usize>>) {
            if k <= 1 {
                return all.push(order.clone());
            }
            for i in 0..k {
                heap(k - 1, order, all);
                order.swap(if k.is_multiple_of(2) { i } else { 0 }, k - 1);
            }
        }
        let mut all = Vec::new();
        heap(n, &mut (0..n).collect(), &mut all);
        all
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn exhaustive_search_finds_the_least_of_all_orders(jobs in jobs(), buffers in proptest::option::of(1u32..4)) {
            let least =
                permutations(jobs.len()).iter().map(|p| makespan(&jobs, p, buffers).unwrap()).min().unwrap();
            let order = expert_order(&jobs, ExpertOrder::Exhaustive, buffers).unwrap();
            prop_assert_eq!(makespan(&jobs, &order, buffers).unwrap(), least);
            let best = expert_order(&jobs, ExpertOrder::Best, buffers).unwrap();
            let index: Vec<usize> = (0..jobs.len()).collect();
            prop_assert!(makespan(&jobs, &best, buffers).unwrap() <= makespan(&jobs, &index, buffers).unwrap());
        }

        #[test]
        fn johnsons_rule_is_optimal_with_unlimited_buffers(
            times in proptest::collection::vec((0u64..40, 0u64..40), 1..8),
        ) {
            let jobs: Vec<Job> =
                times.iter().map(|&(load, compute)| Job { first: Step { load, compute }, second: None }).collect();
            let of = |o| makespan(&jobs, &expert_order(&jobs, o, None).unwrap(), None).unwrap();
            prop_assert_eq!(of(ExpertOrder::Johnson), of(ExpertOrder::Exhaustive));
        }

        #[test]
        fn with_equal_loads_and_two_buffers_the_shortest_last_is_optimal(
            load in 0u64..40, computes in proptest::collection::vec(0u64..80, 1..8),
        ) {
            let jobs: Vec<Job> =
                computes.iter().map(|&compute| Job { first: Step { load, compute }, second: None }).collect();
            let of = |o| makespan(&jobs, &expert_order(&jobs, o, Some(2)).unwrap(), Some(2)).unwrap();
            prop_assert_eq!(of(ExpertOrder::ShortestLast), of(ExpertOrder::Exhaustive));
            prop_assert_eq!(of(ExpertOrder::Johnson), of(ExpertOrder::Exhaustive));
        }
    }

    #[test]
    fn too_many_orders_and_no_buffer_are_refused() {
        let jobs = vec![Job { first: Step { load: 1, compute: 1 }, second: None }; 11];
        insta::assert_snapshot!(expert_order(&jobs, ExpertOrder::Exhaustive, None).unwrap_err(), @"`active experts` must be at most 10 for an exhaustive search, but is 11");
        assert!(makespan(&jobs, &[0], Some(0)).is_err());
        assert!(makespan(&jobs, &[11], None).is_err());
    }
}
