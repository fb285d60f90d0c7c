//! chrF and chrF++: Popović, *chrF: character n-gram F-score for automatic MT evaluation*, WMT 2015, and *chrF++*, WMT
//! 2017; averages over the orders that occur, as sacreBLEU.
use super::{corpus, has_references, ngrams, overlap};
use crate::{Error, Result};
use serde::{Deserialize, Serialize};

/// Conventions of a chrF score; the default is chrF2.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ChrfOptions {
    /// Longest n-gram of characters, at least 1.
    pub char_order: usize,
    /// Longest n-gram of words; 0 for chrF, 2 for chrF++.
    pub word_order: usize,
    /// Weight of recall against precision, positive.
    pub beta: f64,
}

impl Default for ChrfOptions {
    fn default() -> Self {
        Self { char_order: 6, word_order: 0, beta: 2.0 }
    }
}

impl ChrfOptions {
    /// chrF++: words too, up to pairs.
    pub fn plus_plus() -> Self {
        Self { word_order: 2, ..Self::default() }
    }

    fn check(&self) -> Result<()> {
        if self.char_order == 0 {
            return Err(Error::argument("char_order", "at least 1", 0));
        }
        if !(self.beta > 0.0 && self.beta.is_finite()) {
            return Err(Error::argument("beta", "positive and finite", self.beta));
        }
        Ok(())
    }
}

/// Per order: n-grams of the prediction, of the reference, and in common.
type Stats = Vec<[u64; 3]>;

fn statistics(prediction: &str, reference: &str, options: &ChrfOptions) -> Stats {
    let characters = |text: &str| text.chars().filter(|c| !c.is_whitespace()).collect::<Vec<char>>();
    let (found, expected) = (characters(prediction), characters(reference));
    let mut stats: Stats = (1..=options.char_order).map(|n| count(&found, &expected, n)).collect();
    let (found, expected) = (words(prediction), words(reference));
    stats.extend((1..=options.word_order).map(|n| count(&found, &expected, n)));
    stats
}

fn count<T: Ord>(found: &[T], expected: &[T], n: usize) -> [u64; 3] {
    let (found, expected) = (ngrams(found, n), ngrams(expected, n));
    let total = found.values().sum();
    // An order that the reference is too short for counts no n-grams of the prediction either.
    [if expected.is_empty() { 0 } else { total }, expected.values().sum(), overlap(&found, &expected)]
}

/// White-space words, with one ASCII punctuation mark split off: the last, else the first.
fn words(text: &str) -> Vec<&str> {
    let mut words = Vec::new();
    for word in text.split_whitespace() {
        let mark = |c: Option<char>| c.filter(char::is_ascii_punctuation);
        let parts = match (mark(word.chars().next()), mark(word.chars().next_back())) {
            (_, Some(last)) => word.split_at_checked(word.len() - last.len_utf8()),
            (Some(first), None) => word.split_at_checked(first.len_utf8()),
            (None, None) => None,
        };
        match parts {
            Some((a, b)) => words.extend([a, b].into_iter().filter(|w| !w.is_empty())),
            None => words.push(word),
        }
    }
    words
}

fn f_score(stats: &Stats, beta: f64) -> f64 {
    let (mut precision, mut recall, mut orders) = (0.0, 0.0, 0.0);
    for &[found, expected, common] in stats {
        if found > 0 && expected > 0 {
            precision += common as f64 / found as f64;
            recall += common as f64 / expected as f64;
            orders += 1.0;
        }
    }
    if precision + recall == 0.0 {
        return 0.0;
    }
    let (precision, recall, factor) = (precision / orders, recall / orders, beta * beta);
    100.0 * (1.0 + factor) * precision * recall / (factor * precision + recall)
}

fn best<S: AsRef<str>>(prediction: &str, references: &[S], options: &ChrfOptions) -> Stats {
    let mut best: Option<(f64, Stats)> = None;
    for reference in references {
        let stats = statistics(prediction, reference.as_ref(), options);
        let score = f_score(&stats, options.beta);
        if best.as_ref().is_none_or(|(b, _)| score > *b) {
            best = Some((score, stats));
        }
    }
    best.map(|(_, stats)| stats).unwrap_or_default()
}

/// chrF of one prediction, from 0 to 100, against the reference with the best score.
///
/// # Errors
///
/// [`Error::Metric`] when there are no references, [`Error::Argument`] for options out of range.
pub fn chrf<S: AsRef<str>>(prediction: &str, references: &[S], options: &ChrfOptions) -> Result<f64> {
    has_references("chrf", references)?;
    options.check()?;
    Ok(f_score(&best(prediction, references, options), options.beta))
}

/// chrF of a corpus, from 0 to 100: counts against each prediction's best reference are summed before they are divided.
///
/// ```
/// use mtl_bench::metrics::text::{ChrfOptions, corpus_chrf};
///
/// assert_eq!(corpus_chrf(&["cat", "dog"], &[["cat"], ["dog"]], &ChrfOptions::default())?, 100.0);
/// # Ok::<(), mtl_bench::Error>(())
/// ```
///
/// # Errors
///
/// [`Error::Metric`] when there are no examples, lengths differ or a prediction has no references;
/// [`Error::Argument`] for options out of range.
pub fn corpus_chrf<P: AsRef<str>, R: AsRef<[S]>, S: AsRef<str>>(
    predictions: &[P],
    references: &[R],
    options: &ChrfOptions,
) -> Result<f64> {
    corpus("chrf", predictions, references)?;
    options.check()?;
    let mut sum: Stats = vec![[0; 3]; options.char_order + options.word_order];
    for (prediction, references) in predictions.iter().zip(references) {
        let stats = best(prediction.as_ref(), references.as_ref(), options);
        for (total, order) in sum.iter_mut().zip(stats) {
            (0..3).for_each(|i| total[i] += order[i]);
        }
    }
    Ok(f_score(&sum, options.beta))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_mark_is_split_off() {
        assert_eq!(words("(hi) (a b, ! c"), ["(hi", ")", "(", "a", "b", ",", "!", "c"]);
        let options = ChrfOptions { char_order: 0, ..ChrfOptions::default() };
        insta::assert_snapshot!(chrf("a", &["a"], &options).unwrap_err(), @"`char_order` must be at least 1, but is 0");
    }
}
