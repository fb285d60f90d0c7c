//! Synthetic traces with a chosen skew, locality and overlap of tasks.
use super::{PackedTrace, TraceHeader, TraceLayer};
use crate::math::{positive, product};
use crate::{HwError, Result};
use rand::RngExt;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

/// Parameters of a synthetic trace; every layer and task has its own order of popular experts.
///
/// A token repeats a neighbour's experts with probability `stickiness`, and otherwise draws `top_k` of them without
/// replacement with probabilities ∝ rank^−`zipf`. A task after the first takes the first task's experts for a token with
/// probability `task_overlap`.
///
/// ```
/// use mtl_hw::routing::SyntheticRouting;
/// use rand::SeedableRng;
/// let config = SyntheticRouting { images: 3, zipf: 1.0, ..SyntheticRouting::default() };
/// let trace = config.generate(&mut rand_chacha::ChaCha8Rng::seed_from_u64(0))?;
/// assert_eq!(trace.len(), 3 * 6 * 2); // images, layers, tasks
/// # Ok::<(), mtl_hw::HwError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SyntheticRouting {
    /// Images.
    pub images: u64,
    /// MoE layers, named `blk.1`, `blk.3`, ….
    pub layers: u64,
    /// Tasks.
    pub tasks: u32,
    /// Tokens of an image, class token included.
    pub tokens: u64,
    /// Experts E.
    pub experts: u64,
    /// Experts per token K.
    pub top_k: u64,
    /// Width of a token.
    pub d_model: u64,
    /// Hidden width of one expert.
    pub d_hidden: u64,
    /// Exponent of Zipf's law; 0 for equally popular experts.
    pub zipf: f64,
    /// Probability to repeat a neighbour's experts, in [0, 1].
    pub stickiness: f64,
    /// Patches of a row, when the neighbour is the patch to the left or above, with equal chance; otherwise it is the
    /// previous token. The first token, the class token, has no neighbour.
    pub grid_width: Option<u64>,
    /// Probability that a task takes the first task's experts, in [0, 1].
    pub task_overlap: f64,
}

impl Default for SyntheticRouting {
    /// M³ViT-tiny on 224×224 pixels, two tasks, balanced and independent.
    fn default() -> Self {
        Self {
            images: 1,
            layers: 6,
            tasks: 2,
            tokens: 197,
            experts: 16,
            top_k: 2,
            d_model: 192,
            d_hidden: 384,
            zipf: 0.0,
            stickiness: 0.0,
            grid_width: None,
            task_overlap: 0.0,
        }
    }
}

impl SyntheticRouting {
    /// Distance over which the chance of an unbroken chain of repeats falls by a factor e: −1 / ln `stickiness`.
    #[must_use]
    pub fn correlation_length(&self) -> f64 {
        -1.0 / self.stickiness.ln()
    }

    /// Draws a trace.
    ///
    /// # Errors
    ///
    /// [`HwError::Config`] for a bad number or more than 2³¹ choices, [`HwError::Overflow`] beyond 64 bits.
    pub fn generate(&self, rng: &mut ChaCha8Rng) -> Result<PackedTrace> {
        for (field, p) in [("stickiness", self.stickiness), ("task_overlap", self.task_overlap)] {
            if !(0.0..=1.0).contains(&p) {
                return Err(HwError::config(field, "in [0, 1]", p));
            }
        }
        if !(0.0..=64.0).contains(&self.zipf) {
            return Err(HwError::config("zipf", "in [0, 64]", self.zipf));
        }
        positive("grid_width", self.grid_width.unwrap_or(1))?;
        let size =
            product("choices", &[self.images, self.layers, self.tasks.into(), self.tokens, self.top_k])?;
        if !(1..=1 << 31).contains(&size) {
            return Err(HwError::config("images·layers·tasks·tokens·top_k", "from 1 to 2³¹", size));
        }
        let layer = |i: u64| TraceLayer {
            id: format!("blk.{}", 2 * i + 1),
            experts: self.experts,
            top_k: self.top_k,
            d_model: self.d_model,
            d_hidden: self.d_hidden,
        };
        let tasks = (0..self.tasks).map(|t| format!("task{t}")).collect();
        let layers = (0..self.layers).map(layer).collect();
        let mut trace = PackedTrace::new(TraceHeader::new("synthetic", tasks, self.tokens, layers))?;
        let popularity: Vec<Vec<f64>> =
            (0..self.layers * u64::from(self.tasks)).map(|_| self.popularity(rng)).collect();
        let mut first = Vec::new();
        let mut ids = Vec::new();
        for image in 0..self.images {
            for (i, weights) in popularity.iter().enumerate() {
                let (layer, task) = (i / self.tasks as usize, (i % self.tasks as usize) as u32);
                ids.clear();
                self.draw_image(weights, (task > 0).then_some(&first), &mut ids, rng);
                trace.push_ids(image, task, layer, &ids)?;
                if task == 0 {
                    std::mem::swap(&mut first, &mut ids);
                }
            }
        }
        Ok(trace)
    }

    /// Zipf weights in random order.
    fn popularity(&self, rng: &mut ChaCha8Rng) -> Vec<f64> {
        let mut weights: Vec<f64> = (1..=self.experts).map(|rank| (rank as f64).powf(-self.zipf)).collect();
        weights.shuffle(rng);
        weights
    }

    fn draw_image(
        &self,
        weights: &[f64],
        first_task: Option<&Vec<u16>>,
        ids: &mut Vec<u16>,
        rng: &mut ChaCha8Rng,
    ) {
        let k = self.top_k as usize;
        for token in 0..self.tokens as usize {
            let here = token * k..(token + 1) * k;
            if let Some(shared) = first_task.and_then(|f| f.get(here))
                && rng.random::<f64>() < self.task_overlap
            {
                ids.extend_from_slice(shared);
                continue;
            }
            let neighbour = (self.stickiness > 0.0 && rng.random::<f64>() < self.stickiness)
                .then(|| self.neighbour(token, rng))
                .flatten();
            match neighbour {
                Some(n) => ids.extend_from_within(n * k..(n + 1) * k),
                None => draw(weights, k, ids, rng),
            }
        }
    }

    fn neighbour(&self, token: usize, rng: &mut ChaCha8Rng) -> Option<usize> {
        let Some(width) = self.grid_width else { return token.checked_sub(1) };
        let (patch, width) = (token.checked_sub(1)?, width as usize);
        let left = (!patch.is_multiple_of(width)).then(|| token - 1);
        let above = (patch >= width).then(|| token - width);
        match (left, above) {
            (Some(l), Some(a)) => Some(if rng.random() { l } else { a }),
            (one, other) => one.or(other),
        }
    }
}

/// Appends `k` different indices of `weights`, each drawn in proportion to the weights that are left.
fn draw(weights: &[f64], k: usize, ids: &mut Vec<u16>, rng: &mut ChaCha8Rng) {
    let start = ids.len();
    let taken = |ids: &[u16], e: usize| ids.iter().skip(start).any(|&id| usize::from(id) == e);
    for _ in 0..k {
        // Summing what is left, instead of subtracting what is taken, loses no digits under a strong skew.
        let left = || weights.iter().enumerate().filter(|&(e, _)| !taken(ids, e));
        let mut target = rng.random::<f64>() * left().map(|(_, w)| w).sum::<f64>();
        let mut chosen = 0;
        for (e, w) in left() {
            chosen = e;
            if target < *w {
                break;
            }
            target -= w;
        }
        ids.push(chosen as u16); // at most 65536 experts
    }
}

#[cfg(test)]
mod tests {
    use super::super::{RoutingStats, TraceSummary};
    use super::*;
    use rand::SeedableRng;

    fn summary(config: &SyntheticRouting) -> TraceSummary {
        let trace = config.generate(&mut ChaCha8Rng::seed_from_u64(1)).unwrap();
        TraceSummary::of(&trace).unwrap()
    }

    fn mean(config: &SyntheticRouting, value: impl Fn(&super::super::LayerSummary) -> f64) -> f64 {
        let summary = summary(config);
        summary.layers.iter().map(value).sum::<f64>() / summary.layers.len() as f64
    }

    #[test]
    fn skew_raises_imbalance_and_lowers_entropy() {
        let at = |zipf| SyntheticRouting { images: 4, layers: 2, zipf, ..SyntheticRouting::default() };
        let imbalance: Vec<f64> = [0.0, 0.7, 1.4].map(|s| mean(&at(s), |l| l.imbalance.mean)).to_vec();
        assert!(imbalance.windows(2).all(|w| w[0] < w[1]), "{imbalance:?}");
        let entropy: Vec<f64> = [0.0, 0.7, 1.4].map(|s| mean(&at(s), |l| l.normalised_entropy.mean)).to_vec();
        assert!(entropy.windows(2).all(|w| w[0] > w[1]), "{entropy:?}");
    }

    #[test]
    fn stickiness_is_the_share_of_repeats() {
        for grid_width in [None, Some(14)] {
            let at = |stickiness| SyntheticRouting {
                images: 8,
                layers: 2,
                tasks: 1,
                stickiness,
                grid_width,
                ..SyntheticRouting::default()
            };
            // Independent draws share K²/E = 0.25 experts on average; the left neighbour is one of two on a grid.
            let share = if grid_width.is_some() { 0.5 } else { 1.0 };
            let adjacency = mean(&at(0.6), |l| l.adjacency.mean);
            assert!(mean(&at(0.0), |l| l.adjacency.mean) < 0.35);
            assert!(adjacency > share * 0.6 * 2.0 && adjacency < 1.7, "{adjacency}");
            let misses = |s| mean(&at(s), |l| l.lru_misses[3].mean);
            assert!(misses(0.6) < 0.8 * misses(0.0));
        }
        let half = SyntheticRouting { stickiness: 0.5, ..SyntheticRouting::default() };
        assert!((half.correlation_length() - std::f64::consts::LOG2_E).abs() < 1e-12);
    }

    #[test]
    fn overlap_is_the_share_of_equal_tokens() {
        for omega in [0.0, 0.5, 1.0] {
            let config = SyntheticRouting { images: 8, layers: 2, task_overlap: omega, ..Default::default() };
            let shared = summary(&config).overlaps[0].shared_per_token.mean;
            // Tokens that are not copied share 0.25 experts by chance.
            assert!((shared - (2.0 * omega + 0.25 * (1.0 - omega))).abs() < 0.1, "{omega}: {shared}");
        }
    }

    #[test]
    fn extreme_skew_still_draws_different_experts() {
        let config = SyntheticRouting { zipf: 64.0, top_k: 15, layers: 1, tasks: 1, ..Default::default() };
        let trace = config.generate(&mut ChaCha8Rng::seed_from_u64(2)).unwrap();
        let stats: Vec<RoutingStats> = trace.records().map(|r| r.stats(trace.header()).unwrap()).collect();
        assert_eq!(stats[0].pairs, 197 * 15);
    }

    #[test]
    fn bad_parameters_are_refused() {
        let refused = |config: SyntheticRouting| config.generate(&mut ChaCha8Rng::seed_from_u64(0)).is_err();
        let ok = SyntheticRouting::default();
        assert!(!refused(ok.clone()));
        assert!(refused(SyntheticRouting { zipf: f64::NAN, ..ok.clone() }));
        assert!(refused(SyntheticRouting { stickiness: 1.5, ..ok.clone() }));
        assert!(refused(SyntheticRouting { task_overlap: -0.1, ..ok.clone() }));
        assert!(refused(SyntheticRouting { top_k: 16, ..ok.clone() }));
        assert!(refused(SyntheticRouting { grid_width: Some(0), ..ok.clone() }));
        assert!(refused(SyntheticRouting { images: u64::MAX, ..ok.clone() }));
        assert!(refused(SyntheticRouting { images: 0, ..ok }));
    }
}
