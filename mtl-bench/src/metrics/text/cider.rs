//! CIDEr and CIDEr-D: Vedantam et al., *CIDEr: Consensus-based Image Description Evaluation*, CVPR 2015, arXiv
//! 1411.5726.
use super::{corpus, ngrams};
use crate::{Error, Result};
use std::collections::{BTreeMap, BTreeSet};

const ORDER: usize = 4;
/// Width of the length penalty of CIDEr-D, in tokens.
const SIGMA: f64 = 6.0;

/// Which of the two scores.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum CiderKind {
    /// Cosine similarity alone.
    Plain,
    /// Counts clipped to the reference's, and a Gaussian penalty on the difference in length: harder to game.
    #[default]
    D,
}

/// The tf-idf vector of one caption for one order, and its norm.
type Vector<'a> = (BTreeMap<&'a [&'a str], f64>, f64);

/// CIDEr of every prediction, from 0 to 10; the corpus score is their mean.
///
/// Tokens are separated by white space: tokenise, lower-case and stem first. Document frequencies come from the given
/// references, so scores of different corpora cannot be compared.
///
/// ```
/// use mtl_bench::metrics::text::{CiderKind, cider};
///
/// let scores = cider(&["a red cat runs", "x"], &[["a red cat runs"], ["two dogs sleep here"]], CiderKind::D)?;
/// assert!((scores[0] - 10.0).abs() < 1e-9 && scores[1] == 0.0);
/// # Ok::<(), mtl_bench::Error>(())
/// ```
///
/// # Errors
///
/// [`Error::Metric`] when there are fewer than 2 examples, lengths differ or a prediction has no references.
pub fn cider<P: AsRef<str>, R: AsRef<[S]>, S: AsRef<str>>(
    predictions: &[P],
    references: &[R],
    kind: CiderKind,
) -> Result<Vec<f64>> {
    corpus("cider", predictions, references)?;
    if predictions.len() < 2 {
        return Err(Error::metric("cider", "one example gives every n-gram weight 0; at least 2 are needed"));
    }
    let split = |text: &'_ str| -> Vec<String> { text.split_whitespace().map(str::to_owned).collect() };
    let found: Vec<Vec<String>> = predictions.iter().map(|p| split(p.as_ref())).collect();
    let expected: Vec<Vec<Vec<String>>> =
        references.iter().map(|r| r.as_ref().iter().map(|t| split(t.as_ref())).collect()).collect();
    let found: Vec<Vec<&str>> = found.iter().map(|t| t.iter().map(String::as_str).collect()).collect();
    let expected: Vec<Vec<Vec<&str>>> =
        expected.iter().map(|r| r.iter().map(|t| t.iter().map(String::as_str).collect()).collect()).collect();

    let mut frequency: BTreeMap<&[&str], u64> = BTreeMap::new();
    for references in &expected {
        let grams: BTreeSet<&[&str]> =
            references.iter().flat_map(|r| (1..=ORDER).flat_map(move |n| r.windows(n))).collect();
        for gram in grams {
            *frequency.entry(gram).or_insert(0) += 1;
        }
    }
    let documents = (predictions.len() as f64).ln();
    let score = |(found, references): (&Vec<&str>, &Vec<Vec<&str>>)| {
        let mut sum = 0.0;
        for n in 1..=ORDER {
            let candidate = vector(found, n, &frequency, documents);
            for reference in references {
                let target = vector(reference, n, &frequency, documents);
                let delta = found.len() as f64 - reference.len() as f64;
                sum += similarity(&candidate, &target, delta, kind);
            }
        }
        10.0 * sum / (ORDER * references.len()) as f64
    };
    Ok(found.iter().zip(&expected).map(score).collect())
}

fn vector<'a>(
    tokens: &'a [&'a str],
    n: usize,
    frequency: &BTreeMap<&[&str], u64>,
    documents: f64,
) -> Vector<'a> {
    let weight = |gram: &[&str], count: u64| {
        let seen = frequency.get(gram).copied().unwrap_or(0).max(1);
        count as f64 * (documents - (seen as f64).ln())
    };
    let vector: BTreeMap<&[&str], f64> =
        ngrams(tokens, n).into_iter().map(|(gram, count)| (gram, weight(gram, count))).collect();
    let norm = vector.values().map(|w| w * w).sum::<f64>().sqrt();
    (vector, norm)
}

fn similarity(candidate: &Vector<'_>, target: &Vector<'_>, delta: f64, kind: CiderKind) -> f64 {
    if candidate.1 == 0.0 || target.1 == 0.0 {
        return 0.0;
    }
    let common = candidate.0.iter().filter_map(|(gram, &c)| target.0.get(gram).map(|&t| (c, t)));
    let dot: f64 = match kind {
        CiderKind::Plain => common.map(|(c, t)| c * t).sum(),
        CiderKind::D => common.map(|(c, t)| c.min(t) * t).sum(),
    };
    let penalty = match kind {
        CiderKind::Plain => 1.0,
        CiderKind::D => (-delta * delta / (2.0 * SIGMA * SIGMA)).exp(),
    };
    penalty * dot / (candidate.1 * target.1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_are_named() {
        let fault = cider(&["a"], &[["a"]], CiderKind::D).unwrap_err();
        insta::assert_snapshot!(fault, @"`cider`: one example gives every n-gram weight 0; at least 2 are needed");
        let none: [Vec<&str>; 2] = [vec!["a"], vec![]];
        insta::assert_snapshot!(cider(&["a", "b"], &none, CiderKind::D).unwrap_err(), @"`cider`: prediction 1 has no references");
    }
}
