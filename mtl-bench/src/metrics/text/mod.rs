//! Scores of generated text against references. One file per metric.
//!
//! Metrics print on the scale of their reference programs: BLEU, chrF and TER from 0 to 100, the others from 0 to 1,
//! CIDEr from 0 to 10. An empty prediction is allowed and scores 0; an empty list of references is an error.
pub mod bleu;
pub mod chrf;
pub mod cider;
pub mod coco;
pub mod distinct;
pub mod exact;
pub mod meteor;
pub mod porter;
pub mod rouge;
pub mod ter;
pub mod tokenise;

pub use bleu::{Bleu, BleuOptions, Smoothing, corpus_bleu, sentence_bleu};
pub use chrf::{ChrfOptions, chrf, corpus_chrf};
pub use cider::{CiderKind, cider};
pub use coco::{coco_bleu, coco_rouge_l};
pub use distinct::distinct_n;
pub use exact::{exact_match, normalise, token_f1};
pub use meteor::{MeteorOptions, meteor_lite};
pub use porter::porter_stem;
pub use rouge::{Rouge, RougeKind, rouge, rouge_best};
pub use ter::{Ter, corpus_ter, ter};
pub use tokenise::Tokeniser;

use crate::{Error, Result};
use std::collections::{BTreeMap, HashMap};
use std::hash::Hash;

/// How often each n-gram occurs.
type Counts<'a, T> = BTreeMap<&'a [T], u64>;

fn ngrams<T: Ord>(tokens: &[T], n: usize) -> Counts<'_, T> {
    let mut counts = BTreeMap::new();
    for gram in tokens.windows(n) {
        *counts.entry(gram).or_insert(0) += 1;
    }
    counts
}

/// Size of the intersection of two multisets.
fn overlap<T: Ord>(a: &Counts<'_, T>, b: &Counts<'_, T>) -> u64 {
    a.iter().map(|(gram, &count)| count.min(b.get(gram).copied().unwrap_or(0))).sum()
}

/// Length of the longest common subsequence, 64 tokens of `a` at once: Hyyrö, *Bit-Parallel LCS-length Computation
/// Revisited*, AWOCA 2004.
fn lcs<T: Eq + Hash>(a: &[T], b: &[T]) -> usize {
    let words = a.len().div_ceil(64);
    // Where each token of `a` stands, one bit per position.
    let mut rows: HashMap<&T, usize> = HashMap::with_capacity(a.len());
    let mut masks: Vec<u64> = Vec::with_capacity(a.len() * words);
    for (i, token) in a.iter().enumerate() {
        let row = *rows.entry(token).or_insert_with(|| {
            masks.resize(masks.len() + words, 0);
            masks.len() / words - 1
        });
        masks[row * words + i / 64] |= 1 << (i % 64);
    }
    let mut state = vec![u64::MAX; words];
    for token in b {
        let Some(row) = rows.get(token) else { continue };
        let mut carry = false;
        for (word, mask) in state.iter_mut().zip(&masks[row * words..]) {
            let matches = *word & mask;
            let (sum, first) = word.overflowing_add(matches);
            let (sum, second) = sum.overflowing_add(u64::from(carry));
            carry = first || second;
            *word = sum | (*word - matches);
        }
    }
    // A zero is a step of the subsequence; bits beyond the end of `a` stay one.
    state.iter().map(|w| w.count_zeros() as usize).sum()
}

fn has_references<S>(metric: &'static str, references: &[S]) -> Result<()> {
    if references.is_empty() {
        return Err(Error::metric(metric, "there are no references"));
    }
    Ok(())
}

/// Checks a corpus: one non-empty list of references per prediction.
fn corpus<P, R: AsRef<[S]>, S>(metric: &'static str, predictions: &[P], references: &[R]) -> Result<()> {
    if predictions.is_empty() && references.is_empty() {
        return Err(Error::metric(metric, "there are no examples"));
    }
    if predictions.len() != references.len() {
        let message =
            format!("{} predictions, but {} lists of references", predictions.len(), references.len());
        return Err(Error::metric(metric, message));
    }
    match references.iter().position(|r| r.as_ref().is_empty()) {
        Some(i) => Err(Error::metric(metric, format!("prediction {i} has no references"))),
        None => Ok(()),
    }
}

fn ratio(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 / whole as f64 }
}

fn f1(precision: f64, recall: f64) -> f64 {
    if precision + recall > 0.0 { 2.0 * precision * recall / (precision + recall) } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The textbook's table.
    fn by_table(a: &[u8], b: &[u8]) -> usize {
        let mut rows = vec![vec![0; b.len() + 1]; a.len() + 1];
        for (i, x) in a.iter().enumerate() {
            for (j, y) in b.iter().enumerate() {
                rows[i + 1][j + 1] = if x == y { rows[i][j] + 1 } else { rows[i][j + 1].max(rows[i + 1][j]) };
            }
        }
        rows[a.len()][b.len()]
    }

    proptest! {
        #[test]
        fn subsequences_in_words_of_bits_equal_those_of_the_table(
            a in proptest::collection::vec(0u8..6, 0..200),
            b in proptest::collection::vec(0u8..6, 0..200),
        ) {
            prop_assert_eq!(lcs(&a, &b), by_table(&a, &b));
        }
    }
}
