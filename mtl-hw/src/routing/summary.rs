//! Statistics of a whole trace: one pass over its records, then means over images.
use super::{
    CouplingCounts, LayerCoupling, LruStack, OverlapStats, PackedTrace, RoutingStats, lru_curve_into,
    shared_per_token,
};
use crate::Result;
use serde::{Deserialize, Serialize};

/// Mean and spread over images.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Spread {
    /// Images that have the value.
    pub n: u64,
    /// Mean; 0 of no image.
    pub mean: f64,
    /// Sample standard deviation; 0 of fewer than two images.
    pub sd: f64,
    sum_of_squares: f64, // of deviations
}

impl Spread {
    /// Adds a value (Welford's update).
    pub fn push(&mut self, value: f64) {
        self.n += 1;
        let before = value - self.mean;
        self.mean += before / self.n as f64;
        self.sum_of_squares += before * (value - self.mean);
        self.sd = if self.n > 1 { (self.sum_of_squares / (self.n - 1) as f64).sqrt() } else { 0.0 };
    }
}

impl Extend<f64> for Spread {
    fn extend<T: IntoIterator<Item = f64>>(&mut self, values: T) {
        values.into_iter().for_each(|v| self.push(v));
    }
}

/// One layer and task over all images. Each statistic is computed per image and then averaged: a histogram summed over
/// images would hide imbalance.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LayerSummary {
    /// The layer's identifier.
    pub layer: String,
    /// Index of the task.
    pub task: u32,
    /// Experts with at least one token.
    pub active: Spread,
    /// Longest queue over mean queue.
    pub imbalance: Spread,
    /// Coefficient of variation of the queues.
    pub cv: Spread,
    /// Entropy of the load over ln E.
    pub normalised_entropy: Spread,
    /// Experts shared with the previous token.
    pub adjacency: Spread,
    /// Experts shared with the same token of the previous image.
    pub temporal: Spread,
    /// Pairs dropped by a capacity limit.
    pub dropped_pairs: Spread,
    /// Misses of an LRU cache of 1, 2, …, E experts.
    pub lru_misses: Vec<Spread>,
    /// What this layer's experts tell about those of the next MoE layer, over all images; absent for the last layer.
    pub next_layer: Option<LayerCoupling>,
}

/// Statistics of a whole trace.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TraceSummary {
    /// Layer by layer, and task by task within.
    pub layers: Vec<LayerSummary>,
    /// For each layer and pair of tasks, means over images of how alike they route.
    pub overlaps: Vec<TaskOverlap>,
}

/// How alike two tasks route in one layer, over all images that both have.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TaskOverlap {
    /// The layer's identifier.
    pub layer: String,
    /// Indices of the tasks.
    pub tasks: (u32, u32),
    /// Equal experts per token.
    pub shared_per_token: Spread,
    /// Σ min(p, q) of the load distributions.
    pub histogram_overlap: Spread,
    /// Jaccard index of the active experts.
    pub active_jaccard: Spread,
    /// Σ|A| / |∪A|.
    pub batch_reuse: Spread,
}

impl TraceSummary {
    /// Computes everything the records allow; histograms have no adjacency and no cache misses.
    ///
    /// # Errors
    ///
    /// [`HwError::Routing`](crate::HwError::Routing) for a record in which no token was routed.
    pub fn of(trace: &PackedTrace) -> Result<Self> {
        let header = trace.header();
        let tasks = header.tasks.len();
        let mut groups: Vec<Vec<_>> = vec![Vec::new(); header.layers.len() * tasks];
        for r in trace.records() {
            // Layers and tasks of records were checked against the header.
            if let Some(group) = groups.get_mut(r.layer * tasks + r.task as usize) {
                group.push(r);
            }
        }
        groups.iter_mut().for_each(|g| g.sort_by_key(|r| r.image));
        let mut layers = Vec::with_capacity(groups.len());
        for (g, records) in groups.iter().enumerate() {
            let (index, task) = (g / tasks, g % tasks);
            let Some(layer) = header.layers.get(index) else { continue };
            let next = header.layers.get(index + 1);
            let mut coupling = next.map(|n| CouplingCounts::new(layer.experts, n.experts)).transpose()?;
            let mut summary = LayerSummary::new(&layer.id, task as u32, layer.experts as usize);
            let mut curve = vec![0; layer.experts as usize];
            let mut stack = LruStack::new(layer.experts);
            let mut previous = None;
            for r in records {
                summary.add(&r.stats(header)?);
                let Some(choices) = r.choices else { continue };
                lru_curve_into(choices, &mut stack, &mut curve);
                summary.lru_misses.iter_mut().zip(&curve).for_each(|(s, &m)| s.push(m as f64));
                if let Some((image, before)) = previous
                    && image + 1 == r.image
                {
                    summary.temporal.push(shared_per_token(before, choices)?);
                }
                previous = Some((r.image, choices));
                let later = trace.get(index + 1, r.image, r.task).and_then(|next| next.choices);
                if let (Some(counts), Some(later)) = (&mut coupling, later) {
                    counts.add(choices, later)?;
                }
            }
            summary.next_layer = coupling.map(|c| c.coupling());
            layers.push(summary);
        }
        Ok(Self { layers, overlaps: overlaps(trace, &groups, tasks)? })
    }
}

type Groups<'a> = [Vec<super::PackedRecord<'a>>];

fn overlaps(trace: &PackedTrace, groups: &Groups<'_>, tasks: usize) -> Result<Vec<TaskOverlap>> {
    let mut overlaps = Vec::new();
    for (g, records) in groups.iter().enumerate() {
        let (index, a) = (g / tasks, g % tasks);
        let Some(layer) = trace.header().layers.get(index) else { continue };
        for b in a + 1..tasks {
            let mut overlap = TaskOverlap {
                layer: layer.id.clone(),
                tasks: (a as u32, b as u32),
                shared_per_token: Spread::default(),
                histogram_overlap: Spread::default(),
                active_jaccard: Spread::default(),
                batch_reuse: Spread::default(),
            };
            for r in records {
                let other = trace.get(index, r.image, b as u32).and_then(|o| o.choices);
                let (Some(x), Some(y)) = (r.choices, other) else { continue };
                let stats = OverlapStats::of_choices(&layer.id, x, y, layer.experts)?;
                overlap.shared_per_token.push(stats.shared_per_token);
                overlap.histogram_overlap.push(stats.histogram_overlap);
                overlap.active_jaccard.push(stats.active_jaccard);
                overlap.batch_reuse.push(stats.batch_reuse);
            }
            overlaps.push(overlap);
        }
    }
    Ok(overlaps)
}

impl LayerSummary {
    fn new(layer: &str, task: u32, experts: usize) -> Self {
        let none = Spread::default();
        Self {
            layer: layer.to_owned(),
            task,
            active: none,
            imbalance: none,
            cv: none,
            normalised_entropy: none,
            adjacency: none,
            temporal: none,
            dropped_pairs: none,
            lru_misses: vec![none; experts],
            next_layer: None,
        }
    }

    fn add(&mut self, stats: &RoutingStats) {
        self.active.push(stats.active as f64);
        self.imbalance.push(stats.imbalance);
        self.cv.push(stats.cv);
        self.normalised_entropy.push(stats.normalised_entropy);
        self.adjacency.extend(stats.adjacency);
        self.dropped_pairs.push(stats.dropped_pairs as f64);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spread_is_mean_and_sample_deviation() {
        let mut spread = Spread::default();
        spread.extend([2.0, 4.0, 9.0]);
        assert_eq!((spread.n, spread.mean), (3, 5.0));
        assert!((spread.sd - 13f64.sqrt()).abs() < 1e-12);
    }
}
