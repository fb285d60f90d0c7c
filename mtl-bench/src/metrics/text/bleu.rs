//! BLEU: Papineni et al., *BLEU: a Method for Automatic Evaluation of Machine Translation*, ACL 2002, as computed by
//! sacreBLEU (Post, WMT 2018, arXiv 1804.08771); smoothing after Chen and Cherry, WMT 2014.
use super::{Tokeniser, corpus, has_references, ngrams};
use crate::{Error, Result};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

const ORDER: usize = 4;

/// What replaces a precision of 0.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Smoothing {
    /// Nothing: the score is 0.
    None,
    /// This many matches, positive; 0.1 in the paper.
    Floor(f64),
    /// Adds this to matches and totals of orders above 1, not negative; 1 in the paper.
    AddK(f64),
    /// 1/2, 1/4, 1/8, … of a match for the first, second, … order without one (NIST; the default of sacreBLEU).
    #[default]
    Exp,
}

/// Conventions of a BLEU score.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct BleuOptions {
    /// How text becomes tokens.
    pub tokeniser: Tokeniser,
    /// What replaces a precision of 0.
    pub smoothing: Smoothing,
    /// Leaves out the orders for which the prediction is too short; sensible for single sentences.
    pub effective_order: bool,
}

/// A BLEU score with the counts that it is made of.
#[derive(Debug, Clone, PartialEq)]
pub struct Bleu {
    /// From 0 to 100.
    pub score: f64,
    /// Precision of each order 1 to 4, smoothed, in percent.
    pub precisions: [f64; ORDER],
    /// Brevity penalty, from 0 to 1.
    pub brevity: f64,
    /// Matched n-grams of each order.
    pub matches: [u64; ORDER],
    /// N-grams of the predictions of each order.
    pub totals: [u64; ORDER],
    /// Tokens of the predictions.
    pub predicted_length: u64,
    /// Tokens of the references closest in length.
    pub reference_length: u64,
}

/// Counts over a corpus.
#[derive(Debug, Default)]
struct Stats {
    matches: [u64; ORDER],
    totals: [u64; ORDER],
    predicted: u64,
    reference: u64,
}

impl Stats {
    fn add<S: AsRef<str>>(&mut self, prediction: &str, references: &[S], tokeniser: Tokeniser) {
        let found = tokeniser.tokens(prediction);
        let expected: Vec<Vec<String>> = references.iter().map(|r| tokeniser.tokens(r.as_ref())).collect();
        for n in 1..=ORDER {
            let mut most: BTreeMap<&[String], u64> = BTreeMap::new();
            for reference in &expected {
                for (gram, count) in ngrams(reference, n) {
                    let entry = most.entry(gram).or_insert(0);
                    *entry = count.max(*entry);
                }
            }
            for (gram, count) in ngrams(&found, n) {
                self.totals[n - 1] += count;
                self.matches[n - 1] += count.min(most.get(gram).copied().unwrap_or(0));
            }
        }
        self.predicted += found.len() as u64;
        // The closest length, the shorter of two.
        let closest = expected.iter().map(Vec::len).min_by_key(|&l| (l.abs_diff(found.len()), l));
        self.reference += closest.unwrap_or(0) as u64;
    }

    fn score(&self, options: BleuOptions) -> Bleu {
        let (predicted, reference) = (self.predicted as f64, self.reference as f64);
        let brevity = if self.predicted >= self.reference {
            1.0
        } else if self.predicted == 0 {
            0.0
        } else {
            (1.0 - reference / predicted).exp()
        };
        let mut precisions = [0.0; ORDER];
        let mut score = 0.0;
        if self.matches.iter().any(|&m| m > 0) {
            let (mut halves, mut orders) = (1.0, ORDER);
            for (n, precision) in precisions.iter_mut().enumerate() {
                let (mut hits, mut total) = (self.matches[n] as f64, self.totals[n] as f64);
                if let Smoothing::AddK(k) = options.smoothing
                    && n > 0
                {
                    hits += k;
                    total += k;
                }
                if total == 0.0 {
                    break;
                }
                if options.effective_order {
                    orders = n + 1;
                }
                *precision = match options.smoothing {
                    _ if hits > 0.0 => 100.0 * hits / total,
                    Smoothing::Exp => {
                        halves *= 2.0;
                        100.0 / (halves * total)
                    }
                    Smoothing::Floor(floor) => 100.0 * floor / total,
                    Smoothing::None | Smoothing::AddK(_) => 0.0,
                };
            }
            // ln 0 is −∞, whose exponential is 0.
            score =
                brevity * (precisions[..orders].iter().map(|p| p.ln()).sum::<f64>() / orders as f64).exp();
        }
        Bleu {
            score,
            precisions,
            brevity,
            matches: self.matches,
            totals: self.totals,
            predicted_length: self.predicted,
            reference_length: self.reference,
        }
    }
}

fn check(options: BleuOptions) -> Result<()> {
    match options.smoothing {
        Smoothing::Floor(v) if !(v > 0.0 && v.is_finite()) => {
            Err(Error::argument("floor", "positive and finite", v))
        }
        Smoothing::AddK(v) if !(v >= 0.0 && v.is_finite()) => {
            Err(Error::argument("add-k", "at least 0 and finite", v))
        }
        _ => Ok(()),
    }
}

/// BLEU of one prediction; set [`BleuOptions::effective_order`] for the sentence score of sacreBLEU.
///
/// # Errors
///
/// [`Error::Metric`] when there are no references, [`Error::Argument`] for a smoothing value out of range.
pub fn sentence_bleu<S: AsRef<str>>(
    prediction: &str,
    references: &[S],
    options: BleuOptions,
) -> Result<Bleu> {
    has_references("bleu", references)?;
    check(options)?;
    let mut stats = Stats::default();
    stats.add(prediction, references, options.tokeniser);
    Ok(stats.score(options))
}

/// BLEU of a corpus: counts are summed before they are divided. Each prediction has its own list of references.
///
/// ```
/// use mtl_bench::metrics::text::{BleuOptions, corpus_bleu};
///
/// let bleu = corpus_bleu(&["the cat is on the mat"], &[["the cat is on the mat"]], BleuOptions::default())?;
/// assert!((bleu.score - 100.0).abs() < 1e-9);
/// # Ok::<(), mtl_bench::Error>(())
/// ```
///
/// # Errors
///
/// [`Error::Metric`] when there are no examples, lengths differ or a prediction has no references;
/// [`Error::Argument`] for a smoothing value out of range.
pub fn corpus_bleu<P: AsRef<str>, R: AsRef<[S]>, S: AsRef<str>>(
    predictions: &[P],
    references: &[R],
    options: BleuOptions,
) -> Result<Bleu> {
    corpus("bleu", predictions, references)?;
    check(options)?;
    let mut stats = Stats::default();
    for (prediction, references) in predictions.iter().zip(references) {
        stats.add(prediction.as_ref(), references.as_ref(), options.tokeniser);
    }
    Ok(stats.score(options))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_are_named() {
        let none: [[&str; 1]; 0] = [];
        let fault = corpus_bleu(&["a"], &none, BleuOptions::default()).unwrap_err();
        insta::assert_snapshot!(fault, @"`bleu`: 1 predictions, but 0 lists of references");
        let options = BleuOptions { smoothing: Smoothing::Floor(0.0), ..BleuOptions::default() };
        insta::assert_snapshot!(sentence_bleu("a", &["a"], options).unwrap_err(), @"`floor` must be positive and finite, but is 0");
    }

    #[test]
    fn without_smoothing_a_missing_order_gives_zero() {
        let options = BleuOptions { smoothing: Smoothing::None, ..BleuOptions::default() };
        assert_eq!(sentence_bleu("a b c d", &["a x c y"], options).unwrap().score, 0.0);
        assert_eq!(sentence_bleu("", &["a"], options).unwrap().score, 0.0);
    }
}
