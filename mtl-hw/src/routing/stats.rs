//! Statistics of routing decisions.
use super::Choices;
use super::choices::{shared, shared_with_previous};
use crate::{HwError, Result};
use serde::{Deserialize, Serialize};

/// Balance and locality of one layer's routing.
///
/// ```
/// use mtl_hw::routing::RoutingStats;
/// let stats = RoutingStats::of_tokens("blk.1", &[vec![0], vec![0], vec![1], vec![0]], 4)?;
/// assert_eq!((stats.active, stats.imbalance), (2, 3.0));
/// # Ok::<(), mtl_hw::HwError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RoutingStats {
    /// Tokens per expert.
    pub histogram: Vec<u64>,
    /// Token-expert pairs.
    pub pairs: u64,
    /// Experts with at least one token.
    pub active: u64,
    /// Longest queue over mean queue, dead experts included.
    pub imbalance: f64,
    /// Population standard deviation over mean of the queues.
    pub cv: f64,
    /// Entropy of the load over ln E; 1 when balanced.
    pub normalised_entropy: f64,
    /// Mean number of experts shared with the previous token; absent for a histogram or a single token.
    pub adjacency: Option<f64>,
    /// Pairs that a capacity limit dropped: top-K times tokens, less `pairs`.
    #[serde(default)]
    pub dropped_pairs: u64,
    /// Tokens that lost all their experts to it.
    #[serde(default)]
    pub dropped_tokens: u64,
}

impl RoutingStats {
    /// Statistics of tokens per expert.
    ///
    /// # Errors
    ///
    /// [`HwError::Routing`] when no token was routed.
    pub fn of_histogram(layer: &str, histogram: &[u64]) -> Result<Self> {
        let pairs = crate::math::sum("token-expert pairs", histogram.iter().copied())?;
        if pairs == 0 {
            return Err(HwError::Routing {
                layer: layer.to_owned(),
                reason: "no token was routed".to_owned(),
            });
        }
        let experts = histogram.len() as f64;
        let mean = pairs as f64 / experts;
        let variance = histogram.iter().map(|&n| (n as f64 - mean).powi(2)).sum::<f64>() / experts;
        let entropy: f64 = histogram
            .iter()
            .filter(|&&n| n > 0)
            .map(|&n| {
                let p = n as f64 / pairs as f64;
                -p * p.ln()
            })
            .sum();
        Ok(Self {
            histogram: histogram.to_vec(),
            pairs,
            active: histogram.iter().filter(|&&n| n > 0).count() as u64,
            imbalance: histogram.iter().copied().max().unwrap_or(0) as f64 / mean,
            cv: variance.sqrt() / mean,
            // A single expert carries no choice: its load is balanced by definition.
            normalised_entropy: if histogram.len() > 1 { entropy / experts.ln() } else { 1.0 },
            adjacency: None,
            dropped_pairs: 0,
            dropped_tokens: 0,
        })
    }

    /// Statistics of expert ids per token.
    ///
    /// # Errors
    ///
    /// [`HwError::Routing`] when there is no token, an id is out of range or repeated, or tokens differ in K;
    /// [`HwError::Config`] when `experts` is not from 1 to 65536.
    pub fn of_tokens(layer: &str, tokens: &[Vec<u16>], experts: u64) -> Result<Self> {
        let top_k = tokens.first().map_or(0, Vec::len) as u64;
        Self::of_choices(layer, tokens.into(), experts, top_k, false)
    }

    /// Statistics of expert ids, wherever they are stored. With `dropped`, tokens may have fewer than `top_k` experts,
    /// and what is missing is counted.
    ///
    /// # Errors
    ///
    /// As [`RoutingStats::of_tokens`].
    pub fn of_choices(
        layer: &str,
        choices: Choices<'_>,
        experts: u64,
        top_k: u64,
        dropped: bool,
    ) -> Result<Self> {
        if !(1..=1 << 16).contains(&experts) {
            return Err(HwError::config("experts", "from 1 to 65536", experts));
        }
        if let Some(reason) = choices.fault(experts, top_k, dropped) {
            return Err(HwError::Routing { layer: layer.to_owned(), reason });
        }
        Self::of_checked(layer, choices, experts, top_k, dropped)
    }

    /// As [`RoutingStats::of_choices`], for choices of at most 65536 experts that were checked.
    pub(crate) fn of_checked(
        layer: &str,
        choices: Choices<'_>,
        experts: u64,
        top_k: u64,
        dropped: bool,
    ) -> Result<Self> {
        let mut counts = vec![0; experts as usize];
        choices.count_into(&mut counts);
        let mut stats = Self::of_histogram(layer, &counts)?;
        let tokens = choices.tokens();
        if tokens > 1 {
            stats.adjacency = Some(shared_with_previous(choices) as f64 / (tokens - 1) as f64);
        }
        if dropped {
            stats.dropped_pairs = crate::math::product("pairs", &[tokens as u64, top_k])? - stats.pairs;
            stats.dropped_tokens = choices.rows().filter(|row| row.is_empty()).count() as u64;
        }
        Ok(stats)
    }
}

/// How alike two tasks route the same image in one layer.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct OverlapStats {
    /// Mean number of equal experts per token.
    pub shared_per_token: f64,
    /// Σ min(p, q) of the two load distributions.
    pub histogram_overlap: f64,
    /// Jaccard index of the sets of active experts.
    pub active_jaccard: f64,
    /// Expert loads of both tasks apart over loads of both together: Σ|A| / |∪A|.
    pub batch_reuse: f64,
}

impl OverlapStats {
    /// Compares the choices of two tasks.
    ///
    /// # Errors
    ///
    /// [`HwError::Routing`] when the numbers of tokens differ or either trace is malformed.
    pub fn of_tasks(layer: &str, a: &[Vec<u16>], b: &[Vec<u16>], experts: u64) -> Result<Self> {
        RoutingStats::of_tokens(layer, a, experts)?;
        RoutingStats::of_tokens(layer, b, experts)?;
        Self::of_choices(layer, a.into(), b.into(), experts)
    }

    /// Compares choices wherever they are stored. Ids are not checked; those out of range are left out of the loads.
    ///
    /// # Errors
    ///
    /// [`HwError::Routing`] when the numbers of tokens differ or a task routed none, [`HwError::Config`] when `experts`
    /// is not from 1 to 65536.
    pub fn of_choices(layer: &str, a: Choices<'_>, b: Choices<'_>, experts: u64) -> Result<Self> {
        let fail = |reason: String| Err(HwError::Routing { layer: layer.to_owned(), reason });
        if !(1..=1 << 16).contains(&experts) {
            return Err(HwError::config("experts", "from 1 to 65536", experts));
        }
        if a.tokens() != b.tokens() {
            return fail(format!("tasks have {} and {} tokens", a.tokens(), b.tokens()));
        }
        let mut loads = vec![(0u64, 0u64); experts as usize];
        a.ids().for_each(|id| {
            if let Some(n) = loads.get_mut(usize::from(id)) {
                n.0 += 1;
            }
        });
        b.ids().for_each(|id| {
            if let Some(n) = loads.get_mut(usize::from(id)) {
                n.1 += 1;
            }
        });
        let (mut pairs, mut active, mut either) = ((0, 0), (0u64, 0u64), 0u64);
        for &(x, y) in &loads {
            pairs = (pairs.0 + x, pairs.1 + y);
            active = (active.0 + u64::from(x > 0), active.1 + u64::from(y > 0));
            either += u64::from(x + y > 0);
        }
        if pairs.0 == 0 || pairs.1 == 0 {
            return fail("no token was routed".to_owned());
        }
        let share = |n: u64, all: u64| n as f64 / all as f64;
        let overlap = loads.iter().map(|&(x, y)| share(x, pairs.0).min(share(y, pairs.1))).sum();
        Ok(Self {
            shared_per_token: shared(a, b) as f64 / a.tokens() as f64,
            histogram_overlap: overlap,
            active_jaccard: share(active.0 + active.1 - either, either),
            batch_reuse: share(active.0 + active.1, either),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nonsense_is_refused_before_it_sizes_an_allocation() {
        assert!(RoutingStats::of_tokens("t", &[], u64::MAX).is_err());
        assert!(RoutingStats::of_tokens("t", &[], 4).is_err());
        assert!(RoutingStats::of_histogram("t", &[]).is_err());
        assert!(OverlapStats::of_tasks("t", &[vec![0]], &[], 4).is_err());
        assert_eq!(super::super::lru_curve(&[vec![1]], usize::MAX).len(), 1 << 16);
    }

    #[test]
    fn what_a_capacity_limit_dropped_is_counted_apart() {
        let tokens = [vec![0, 1], vec![2], vec![]];
        let stats = RoutingStats::of_choices("t", tokens.as_slice().into(), 4, 2, true).unwrap();
        assert_eq!((stats.pairs, stats.active, stats.dropped_pairs, stats.dropped_tokens), (3, 3, 3, 1));
        assert!(RoutingStats::of_choices("t", tokens.as_slice().into(), 4, 2, false).is_err());
    }

    #[test]
    fn a_balanced_load_has_no_variation_and_full_entropy() {
        let stats = RoutingStats::of_histogram("t", &[3, 3, 3]).unwrap();
        assert_eq!((stats.imbalance, stats.cv, stats.active), (1.0, 0.0, 3));
        assert!((stats.normalised_entropy - 1.0).abs() < 1e-12);
    }
}
