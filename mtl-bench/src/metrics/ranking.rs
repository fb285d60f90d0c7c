//! Ranking and retrieval: Järvelin and Kekäläinen, *Cumulated Gain-based Evaluation of IR Techniques*, TOIS 20, 2002
//! (nDCG); Manning et al., *Introduction to Information Retrieval*, 2008, chapter 8 (the others).
//!
//! Items are ranked by score, largest first; of equal scores the one with the smaller index comes first.
use super::{finite, same_length};
use crate::{Error, Result};
use serde::{Deserialize, Serialize};

/// What an item of relevance r is worth.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Gain {
    /// 2^r − 1.
    #[default]
    Exponential,
    /// r.
    Linear,
}

/// The items of one query in ranked order.
///
/// ```
/// use mtl_bench::metrics::{Gain, Ranked};
///
/// let ranked = Ranked::new(&[0.9, 0.8, 0.7], &[0.0, 1.0, 0.0])?;
/// assert_eq!(ranked.reciprocal_rank(3)?, 0.5);
/// assert!((ranked.ndcg(3, Gain::Linear)? - 1.0 / 3_f64.log2()).abs() < 1e-12);
/// # Ok::<(), mtl_bench::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct Ranked {
    /// Relevance by rank.
    relevance: Vec<f64>,
    relevant: usize,
}

impl Ranked {
    /// Ranks items by their scores; an item is relevant when its relevance is above 0.
    ///
    /// # Errors
    ///
    /// [`Error::Metric`] when there are no items, lengths differ, a number is not finite or a relevance is negative.
    pub fn new<T: Into<f64> + Copy>(scores: &[T], relevance: &[T]) -> Result<Self> {
        same_length("ranking", scores.len(), relevance.len())?;
        finite("ranking", "score", scores.iter().map(|&s| s.into()))?;
        finite("ranking", "relevance", relevance.iter().map(|&r| r.into()))?;
        if let Some(i) = relevance.iter().position(|&r| r.into() < 0.0) {
            return Err(Error::metric("ranking", format!("relevance {i} is negative")));
        }
        let mut order: Vec<usize> = (0..scores.len()).collect();
        // −0 and 0 are equal scores.
        let key = |i: usize| scores[i].into() + 0.0;
        order.sort_by(|&a, &b| key(b).total_cmp(&key(a)));
        let relevance: Vec<f64> = order.into_iter().map(|i| relevance[i].into()).collect();
        let relevant = relevance.iter().filter(|&&r| r > 0.0).count();
        Ok(Self { relevance, relevant })
    }

    fn top(&self, k: usize) -> Result<&[f64]> {
        if k == 0 {
            return Err(Error::argument("k", "at least 1", 0));
        }
        Ok(&self.relevance[..k.min(self.relevance.len())])
    }

    fn hits(&self, k: usize) -> Result<f64> {
        Ok(self.top(k)?.iter().filter(|&&r| r > 0.0).count() as f64)
    }

    /// Discounted cumulative gain of the first k over that of the best order; 0 when nothing is relevant.
    ///
    /// # Errors
    ///
    /// [`Error::Argument`] for k = 0, [`Error::Metric`] when a gain overflows.
    pub fn ndcg(&self, k: usize, gain: Gain) -> Result<f64> {
        let worth = |r: f64| match gain {
            Gain::Exponential => r.exp2() - 1.0,
            Gain::Linear => r,
        };
        let sum = |items: &[f64]| {
            items.iter().enumerate().map(|(i, &r)| worth(r) / ((i + 2) as f64).log2()).sum::<f64>()
        };
        let mut ideal = self.relevance.clone();
        ideal.sort_by(|a, b| b.total_cmp(a));
        let (found, best) = (sum(self.top(k)?), sum(&ideal[..k.min(ideal.len())]));
        if !best.is_finite() {
            return Err(Error::metric("ndcg", "a relevance is too large for this gain"));
        }
        Ok(if best == 0.0 { 0.0 } else { found / best })
    }

    /// Share of the relevant items that are among the first k; 0 when nothing is relevant.
    ///
    /// # Errors
    ///
    /// [`Error::Argument`] for k = 0.
    pub fn recall(&self, k: usize) -> Result<f64> {
        Ok(self.hits(k)? / self.relevant.max(1) as f64)
    }

    /// Relevant items among the first k, over k, also when there are fewer items.
    ///
    /// # Errors
    ///
    /// [`Error::Argument`] for k = 0.
    pub fn precision(&self, k: usize) -> Result<f64> {
        Ok(self.hits(k)? / k as f64)
    }

    /// 1 / rank of the first relevant item; 0 when it is not among the first k.
    ///
    /// # Errors
    ///
    /// [`Error::Argument`] for k = 0.
    pub fn reciprocal_rank(&self, k: usize) -> Result<f64> {
        Ok(self.top(k)?.iter().position(|&r| r > 0.0).map_or(0.0, |i| 1.0 / (i + 1) as f64))
    }

    /// Sum of the precisions at the relevant items among the first k, over the number that could be there:
    /// min(k, relevant); 0 when nothing is relevant.
    ///
    /// # Errors
    ///
    /// [`Error::Argument`] for k = 0.
    pub fn average_precision(&self, k: usize) -> Result<f64> {
        let (mut hits, mut sum) = (0.0, 0.0);
        for (i, _) in self.top(k)?.iter().enumerate().filter(|(_, r)| **r > 0.0) {
            hits += 1.0;
            sum += hits / (i + 1) as f64;
        }
        Ok(sum / self.relevant.min(k).max(1) as f64)
    }
}

/// Means over queries at one cut-off.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RankingScores {
    /// nDCG with the gain asked for.
    pub ndcg: f64,
    /// Recall.
    pub recall: f64,
    /// Precision.
    pub precision: f64,
    /// Mean reciprocal rank.
    pub mrr: f64,
    /// Mean average precision.
    pub map: f64,
}

/// Means over queries; queries without a relevant item count as 0.
///
/// # Errors
///
/// [`Error::Metric`] when there are no queries, [`Error::Argument`] for k = 0.
pub fn ranking_scores(queries: &[Ranked], k: usize, gain: Gain) -> Result<RankingScores> {
    if queries.is_empty() {
        return Err(Error::metric("ranking", "there are no queries"));
    }
    let mean = |score: &dyn Fn(&Ranked) -> Result<f64>| -> Result<f64> {
        let scores = queries.iter().map(score).collect::<Result<Vec<_>>>()?;
        Ok(scores.iter().sum::<f64>() / scores.len() as f64)
    };
    Ok(RankingScores {
        ndcg: mean(&|q| q.ndcg(k, gain))?,
        recall: mean(&|q| q.recall(k))?,
        precision: mean(&|q| q.precision(k))?,
        mrr: mean(&|q| q.reciprocal_rank(k))?,
        map: mean(&|q| q.average_precision(k))?,
    })
}

/// Rank, from 1, of the item `target` among all items.
///
/// ```
/// // Of equal scores the smaller index comes first.
/// assert_eq!(mtl_bench::metrics::rank_of(&[0.5, 0.9, 0.5], 2)?, 3);
/// # Ok::<(), mtl_bench::Error>(())
/// ```
///
/// # Errors
///
/// [`Error::Metric`] when the target does not exist or a score is not finite.
pub fn rank_of<T: Into<f64> + Copy>(scores: &[T], target: usize) -> Result<usize> {
    finite("rank", "score", scores.iter().map(|&s| s.into()))?;
    let Some(&own) = scores.get(target) else {
        return Err(Error::metric("rank", format!("target {target} is not below {}", scores.len())));
    };
    let own = own.into();
    let ahead = |(i, s): (usize, &T)| (*s).into() > own || ((*s).into() == own && i < target);
    Ok(1 + scores.iter().enumerate().filter(|&x| ahead(x)).count())
}

/// Scores of next-item prediction at one cut-off: one relevant item per case.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct NextItem {
    /// Share of cases whose item is among the first k.
    pub hit_rate: f64,
    /// Mean of 1 / rank, 0 beyond k.
    pub mrr: f64,
    /// Mean of 1 / log₂(rank + 1), 0 beyond k.
    pub ndcg: f64,
}

/// Scores from the ranks, from 1, of the items that came next.
///
/// # Errors
///
/// [`Error::Metric`] when there are no cases or a rank is 0, [`Error::Argument`] for k = 0.
pub fn next_item(ranks: &[usize], k: usize) -> Result<NextItem> {
    if k == 0 {
        return Err(Error::argument("k", "at least 1", 0));
    }
    if ranks.is_empty() {
        return Err(Error::metric("next_item", "there are no cases"));
    }
    if let Some(i) = ranks.iter().position(|&r| r == 0) {
        return Err(Error::metric("next_item", format!("rank {i} is 0, but ranks start at 1")));
    }
    let mean = |worth: &dyn Fn(f64) -> f64| {
        ranks.iter().filter(|&&r| r <= k).map(|&r| worth(r as f64)).sum::<f64>() / ranks.len() as f64
    };
    Ok(NextItem {
        hit_rate: mean(&|_| 1.0),
        mrr: mean(&|r| 1.0 / r),
        ndcg: mean(&|r| 1.0 / (r + 1.0).log2()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_are_named() {
        insta::assert_snapshot!(Ranked::new(&[f64::NAN], &[1.0]).unwrap_err(), @"`ranking`: score 0 is NaN");
        insta::assert_snapshot!(Ranked::new(&[1.0], &[-1.0]).unwrap_err(), @"`ranking`: relevance 0 is negative");
        insta::assert_snapshot!(Ranked::new(&[1.0], &[1.0]).unwrap().recall(0).unwrap_err(), @"`k` must be at least 1, but is 0");
        insta::assert_snapshot!(rank_of(&[1.0], 1).unwrap_err(), @"`rank`: target 1 is not below 1");
        insta::assert_snapshot!(next_item(&[], 5).unwrap_err(), @"`next_item`: there are no cases");
    }

    #[test]
    fn nothing_relevant_scores_zero() {
        let ranked = Ranked::new(&[2.0, 1.0], &[0.0, 0.0]).unwrap();
        let all = ranking_scores(&[ranked], 5, Gain::Exponential).unwrap();
        assert_eq!([all.ndcg, all.recall, all.precision, all.mrr, all.map], [0.0; 5]);
    }
}
