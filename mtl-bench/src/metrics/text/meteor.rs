//! METEOR without synonyms: Lavie and Agarwal, *METEOR: An Automatic Metric for MT Evaluation with High Levels of
//! Correlation with Human Judgments*, WMT 2007; matching order and constants as in NLTK.
//!
//! # Departures
//!
//! Words match exactly or by Porter stem, without the WordNet stage, so scores are at most those of full METEOR.
use super::{has_references, porter_stem};
use crate::{Error, Result};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Constants of METEOR; the defaults are those of the 2005 paper, as in NLTK.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct MeteorOptions {
    /// Weight of precision in the harmonic mean, in (0, 1).
    pub alpha: f64,
    /// Exponent of the penalty for chunks, positive.
    pub beta: f64,
    /// Largest penalty, from 0 to 1.
    pub gamma: f64,
}

impl Default for MeteorOptions {
    fn default() -> Self {
        Self { alpha: 0.9, beta: 3.0, gamma: 0.5 }
    }
}

/// METEOR of a prediction, from 0 to 1, the best over the references; tokens are separated by white space.
///
/// ```
/// use mtl_bench::metrics::text::{MeteorOptions, meteor_lite};
///
/// // 6 matches in 6 chunks halve the score.
/// let score = meteor_lite("a b c d e f", &["f e d c b a"], MeteorOptions::default())?;
/// assert!((score - 0.5).abs() < 1e-12);
/// # Ok::<(), mtl_bench::Error>(())
/// ```
///
/// # Errors
///
/// [`Error::Metric`] when there are no references, [`Error::Argument`] for constants out of range.
pub fn meteor_lite<S: AsRef<str>>(prediction: &str, references: &[S], options: MeteorOptions) -> Result<f64> {
    has_references("meteor", references)?;
    let MeteorOptions { alpha, beta, gamma } = options;
    if !(alpha > 0.0 && alpha < 1.0) {
        return Err(Error::argument("alpha", "in (0, 1)", alpha));
    }
    if !(beta > 0.0 && beta.is_finite()) {
        return Err(Error::argument("beta", "positive and finite", beta));
    }
    if !(0.0..=1.0).contains(&gamma) {
        return Err(Error::argument("gamma", "from 0 to 1", gamma));
    }
    let words = |text: &str| text.split_whitespace().map(str::to_lowercase).collect::<Vec<_>>();
    let found = words(prediction);
    let score = |reference: &S| {
        let expected = words(reference.as_ref());
        let pairs = align(&found, &expected);
        if pairs.is_empty() {
            return 0.0;
        }
        let matches = pairs.len() as f64;
        let (precision, recall) = (matches / found.len() as f64, matches / expected.len() as f64);
        let mean = precision * recall / (alpha * precision + (1.0 - alpha) * recall);
        let breaks = pairs.windows(2).filter(|w| w[1].0 != w[0].0 + 1 || w[1].1 != w[0].1 + 1).count();
        mean * (1.0 - gamma * ((breaks + 1) as f64 / matches).powf(beta))
    };
    Ok(references.iter().map(score).fold(0.0, f64::max))
}

/// Pairs of positions, sorted: equal words first, then equal stems; the last free word of each kind is taken first.
fn align(found: &[String], expected: &[String]) -> Vec<(usize, usize)> {
    let mut pairs: BTreeMap<usize, usize> = BTreeMap::new();
    let mut taken = vec![false; expected.len()];
    let stems = |words: &[String]| words.iter().map(|w| porter_stem(w)).collect::<Vec<_>>();
    let stages = [(found.to_vec(), expected.to_vec()), (stems(found), stems(expected))];
    for (found, expected) in &stages {
        let mut free: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
        for (j, word) in expected.iter().enumerate().filter(|(j, _)| !taken[*j]) {
            free.entry(word).or_default().push(j);
        }
        for (i, word) in found.iter().enumerate().rev() {
            if !pairs.contains_key(&i)
                && let Some(j) = free.get_mut(word.as_str()).and_then(Vec::pop)
            {
                taken[j] = true;
                pairs.insert(i, j);
            }
        }
    }
    pairs.into_iter().collect()
}
