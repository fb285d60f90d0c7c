//! BLEU-1…4 and ROUGE-L as the COCO caption tools compute them: Chen et al., *Microsoft COCO Captions*, arXiv 1504.00325.
//!
//! Tokens are separated by white space: tokenise and lower-case first.
use super::{
    Bleu, BleuOptions, Smoothing, Tokeniser, corpus, corpus_bleu, has_references, lcs, sentence_bleu,
};
use crate::Result;

/// The tools add these so that nothing is divided by 0; they show in the tenth digit.
const TINY: f64 = 1e-15;
const SMALL: f64 = 1e-9;

/// BLEU-1, -2, -3, -4 of a corpus, from 0 to 1, and of each prediction.
///
/// # Errors
///
/// [`crate::Error::Metric`] when there are no examples, lengths differ or a prediction has no references.
pub fn coco_bleu<P: AsRef<str>, R: AsRef<[S]>, S: AsRef<str>>(
    predictions: &[P],
    references: &[R],
) -> Result<([f64; 4], Vec<[f64; 4]>)> {
    corpus("bleu", predictions, references)?;
    let options =
        BleuOptions { tokeniser: Tokeniser::None, smoothing: Smoothing::None, effective_order: false };
    let each = |(p, r): (&P, &R)| -> Result<[f64; 4]> {
        Ok(orders(&sentence_bleu(p.as_ref(), r.as_ref(), options)?))
    };
    let items = predictions.iter().zip(references).map(each).collect::<Result<Vec<_>>>()?;
    Ok((orders(&corpus_bleu(predictions, references, options)?), items))
}

fn orders(counts: &Bleu) -> [f64; 4] {
    let ratio = (counts.predicted_length as f64 + TINY) / (counts.reference_length as f64 + SMALL);
    let brevity = if ratio < 1.0 { (1.0 - 1.0 / ratio).exp() } else { 1.0 };
    let mut product = 1.0;
    std::array::from_fn(|n| {
        product *= (counts.matches[n] as f64 + TINY) / (counts.totals[n] as f64 + SMALL);
        product.powf(1.0 / (n + 1) as f64) * brevity
    })
}

/// ROUGE-L with β = 1.2 of the best precision and the best recall over the references, from 0 to 1.
///
/// ```
/// assert_eq!(mtl_bench::metrics::text::coco_rouge_l("a red cat", &["a red cat", "x"])?, 1.0);
/// # Ok::<(), mtl_bench::Error>(())
/// ```
///
/// # Errors
///
/// [`crate::Error::Metric`] when there are no references.
pub fn coco_rouge_l<S: AsRef<str>>(prediction: &str, references: &[S]) -> Result<f64> {
    const BETA_SQUARED: f64 = 1.2 * 1.2;
    has_references("rouge_l", references)?;
    let found: Vec<&str> = prediction.split_whitespace().collect();
    let (mut precision, mut recall) = (0.0_f64, 0.0_f64);
    for reference in references {
        let expected: Vec<&str> = reference.as_ref().split_whitespace().collect();
        let common = lcs(&found, &expected) as u64;
        precision = precision.max(super::ratio(common, found.len() as u64));
        recall = recall.max(super::ratio(common, expected.len() as u64));
    }
    if precision == 0.0 || recall == 0.0 {
        return Ok(0.0);
    }
    Ok((1.0 + BETA_SQUARED) * precision * recall / (recall + BETA_SQUARED * precision))
}
