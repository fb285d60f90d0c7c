//! Exact match and token F1 after normalisation: Rajpurkar et al., *SQuAD*, EMNLP 2016, arXiv 1606.05250; without the
//! removal of articles, as Wang et al., *Super-NaturalInstructions*, EMNLP 2022, arXiv 2204.07705.
use super::{f1, has_references, ngrams, overlap, ratio};
use crate::Result;

/// Lower case, without ASCII punctuation, white space collapsed; articles stay.
///
/// ```
/// assert_eq!(mtl_bench::metrics::text::normalise("  The  Cat! "), "the cat");
/// ```
pub fn normalise(text: &str) -> String {
    let kept: String = text.to_lowercase().chars().filter(|c| !c.is_ascii_punctuation()).collect();
    kept.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Whether the normalised prediction equals one of the normalised references.
///
/// # Errors
///
/// [`crate::Error::Metric`] when there are no references.
pub fn exact_match<S: AsRef<str>>(prediction: &str, references: &[S]) -> Result<bool> {
    has_references("exact_match", references)?;
    let prediction = normalise(prediction);
    Ok(references.iter().any(|r| normalise(r.as_ref()) == prediction))
}

/// F1 over the multisets of normalised tokens, the best over the references; two empty texts agree.
///
/// ```
/// let f1 = mtl_bench::metrics::text::token_f1("a red cat", &["the red cat"])?;
/// assert!((f1 - 2.0 / 3.0).abs() < 1e-12);
/// # Ok::<(), mtl_bench::Error>(())
/// ```
///
/// # Errors
///
/// [`crate::Error::Metric`] when there are no references.
pub fn token_f1<S: AsRef<str>>(prediction: &str, references: &[S]) -> Result<f64> {
    has_references("token_f1", references)?;
    let prediction = normalise(prediction);
    let found: Vec<&str> = prediction.split_whitespace().collect();
    let score = |reference: &S| {
        let reference = normalise(reference.as_ref());
        let expected: Vec<&str> = reference.split_whitespace().collect();
        if found.is_empty() && expected.is_empty() {
            return 1.0;
        }
        let hits = overlap(&ngrams(&found, 1), &ngrams(&expected, 1));
        f1(ratio(hits, found.len() as u64), ratio(hits, expected.len() as u64))
    };
    Ok(references.iter().map(score).fold(0.0, f64::max))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn punctuation_and_case_do_not_count() {
        assert!(exact_match("Positive", &["positive.", "negative"]).unwrap());
        assert!(!exact_match("", &["x"]).unwrap());
        assert_eq!(token_f1("", &[""]).unwrap(), 1.0);
        assert_eq!(token_f1("", &["x"]).unwrap(), 0.0);
        let none: [&str; 0] = [];
        insta::assert_snapshot!(exact_match("x", &none).unwrap_err(), @"`exact_match`: there are no references");
    }
}
