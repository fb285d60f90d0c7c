//! Distinct-n: Li et al., *A Diversity-Promoting Objective Function for Neural Conversation Models*, NAACL 2016,
//! arXiv 1510.03055.
use super::ngrams;
use crate::{Error, Result};
use std::collections::BTreeSet;

/// Different n-grams of white-space tokens per n-gram, over all texts together; 0 when the texts are too short.
///
/// ```
/// assert_eq!(mtl_bench::metrics::text::distinct_n(&["a b a", "b a"], 1)?, 0.4);
/// # Ok::<(), mtl_bench::Error>(())
/// ```
///
/// # Errors
///
/// [`Error::Metric`] when there are no texts, [`Error::Argument`] for n = 0.
pub fn distinct_n<S: AsRef<str>>(texts: &[S], n: usize) -> Result<f64> {
    if n == 0 {
        return Err(Error::argument("n", "at least 1", 0));
    }
    if texts.is_empty() {
        return Err(Error::metric("distinct_n", "there are no texts"));
    }
    let tokens: Vec<Vec<&str>> = texts.iter().map(|t| t.as_ref().split_whitespace().collect()).collect();
    let (mut distinct, mut total) = (BTreeSet::new(), 0);
    for text in &tokens {
        for (gram, count) in ngrams(text, n) {
            distinct.insert(gram);
            total += count;
        }
    }
    Ok(super::ratio(distinct.len() as u64, total))
}
