//! ROUGE: Lin, *ROUGE: A Package for Automatic Evaluation of Summaries*, ACL workshop 2004; the numbers are those of
//! the package rouge_score.
use super::{f1, has_references, lcs, ngrams, overlap, porter_stem, ratio};
use crate::{Error, Result};

/// What is compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RougeKind {
    /// ROUGE-n: n-grams of this length, at least 1.
    N(usize),
    /// ROUGE-L: the longest common subsequence.
    L,
}

/// One ROUGE score, each number from 0 to 1.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Rouge {
    /// Matches per n-gram, or token, of the prediction.
    pub precision: f64,
    /// Matches per n-gram, or token, of the reference.
    pub recall: f64,
    /// Harmonic mean of both.
    pub f1: f64,
}

/// Runs of `a`–`z` and `0`–`9` in the lower-cased text; `stem` applies Porter's stemmer to tokens longer than 3 characters.
///
/// Text without such characters, for example in another script, has no tokens and scores 0.
fn tokens(text: &str, stem: bool) -> Vec<String> {
    text.to_lowercase()
        .split(|c: char| !c.is_ascii_lowercase() && !c.is_ascii_digit())
        .filter(|t| !t.is_empty())
        .map(|t| if stem && t.len() > 3 { porter_stem(t) } else { t.to_owned() })
        .collect()
}

/// ROUGE of a prediction against one reference.
///
/// ```
/// use mtl_bench::metrics::text::{RougeKind, rouge};
///
/// let score = rouge("the cat sat", "the cat slept", RougeKind::L, false)?;
/// assert!((score.f1 - 2.0 / 3.0).abs() < 1e-12);
/// # Ok::<(), mtl_bench::Error>(())
/// ```
///
/// # Errors
///
/// [`Error::Argument`] for n-grams of length 0.
pub fn rouge(prediction: &str, reference: &str, kind: RougeKind, stem: bool) -> Result<Rouge> {
    let (found, expected) = (tokens(prediction, stem), tokens(reference, stem));
    let (hits, of_found, of_expected) = match kind {
        RougeKind::N(0) => return Err(Error::argument("n", "at least 1", 0)),
        RougeKind::N(n) => {
            let hits = overlap(&ngrams(&found, n), &ngrams(&expected, n));
            let grams = |tokens: &[String]| (tokens.len() + 1).saturating_sub(n);
            (hits, grams(&found), grams(&expected))
        }
        RougeKind::L => (lcs(&found, &expected) as u64, found.len(), expected.len()),
    };
    let (precision, recall) = (ratio(hits, of_found as u64), ratio(hits, of_expected as u64));
    Ok(Rouge { precision, recall, f1: f1(precision, recall) })
}

/// ROUGE against the reference with the largest F1, the first of several.
///
/// # Errors
///
/// [`Error::Metric`] when there are no references, [`Error::Argument`] for n-grams of length 0.
pub fn rouge_best<S: AsRef<str>>(
    prediction: &str,
    references: &[S],
    kind: RougeKind,
    stem: bool,
) -> Result<Rouge> {
    has_references("rouge", references)?;
    let mut best: Option<Rouge> = None;
    for reference in references {
        let score = rouge(prediction, reference.as_ref(), kind, stem)?;
        if best.is_none_or(|b| score.f1 > b.f1) {
            best = Some(score);
        }
    }
    Ok(best.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_are_named() {
        insta::assert_snapshot!(rouge("a", "b", RougeKind::N(0), false).unwrap_err(), @"`n` must be at least 1, but is 0");
        let none: [&str; 0] = [];
        insta::assert_snapshot!(rouge_best("a", &none, RougeKind::L, true).unwrap_err(), @"`rouge`: there are no references");
    }
}
