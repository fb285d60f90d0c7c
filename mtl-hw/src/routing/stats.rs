//! Statistics of routing decisions.
use super::{check_choices, histogram};
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
        })
    }

    /// Statistics of expert ids per token.
    ///
    /// # Errors
    ///
    /// [`HwError::Routing`] when there is no token, an id is out of range or repeated, or tokens differ in K;
    /// [`HwError::Config`] when `experts` is not from 1 to 65536.
    pub fn of_tokens(layer: &str, tokens: &[Vec<u16>], experts: u64) -> Result<Self> {
        if !(1..=1 << 16).contains(&experts) {
            return Err(HwError::config("experts", "from 1 to 65536", experts));
        }
        let top_k = tokens.first().map_or(0, Vec::len);
        if let Some(reason) = check_choices(tokens, experts, top_k as u64) {
            return Err(HwError::Routing { layer: layer.to_owned(), reason });
        }
        let mut stats = Self::of_histogram(layer, &histogram(tokens, experts))?;
        if tokens.len() > 1 {
            let shared: usize = tokens.iter().zip(tokens.iter().skip(1)).map(|(a, b)| common(a, b)).sum();
            stats.adjacency = Some(shared as f64 / (tokens.len() - 1) as f64);
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
        if a.len() != b.len() {
            return Err(HwError::Routing {
                layer: layer.to_owned(),
                reason: format!("tasks have {} and {} tokens", a.len(), b.len()),
            });
        }
        let (sa, sb) =
            (RoutingStats::of_tokens(layer, a, experts)?, RoutingStats::of_tokens(layer, b, experts)?);
        let loads = || sa.histogram.iter().zip(&sb.histogram);
        let both = loads().filter(|&(&x, &y)| x > 0 && y > 0).count() as f64;
        let either = loads().filter(|&(&x, &y)| x > 0 || y > 0).count() as f64;
        let overlap =
            loads().map(|(&x, &y)| (x as f64 / sa.pairs as f64).min(y as f64 / sb.pairs as f64)).sum();
        let shared: usize = a.iter().zip(b).map(|(x, y)| common(x, y)).sum();
        Ok(Self {
            shared_per_token: shared as f64 / a.len() as f64,
            histogram_overlap: overlap,
            active_jaccard: both / either,
            batch_reuse: (sa.active + sb.active) as f64 / either,
        })
    }
}

fn common(a: &[u16], b: &[u16]) -> usize {
    a.iter().filter(|id| b.contains(id)).count()
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
    fn a_balanced_load_has_no_variation_and_full_entropy() {
        let stats = RoutingStats::of_histogram("t", &[3, 3, 3]).unwrap();
        assert_eq!((stats.imbalance, stats.cv, stats.active), (1.0, 0.0, 3));
        assert!((stats.normalised_entropy - 1.0).abs() < 1e-12);
    }
}
