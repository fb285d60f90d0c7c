//! Scores of summarised guidelines.
use super::best_assignment;
use crate::metrics::kendall;
use crate::metrics::text::{Rouge, RougeKind, rouge};
use crate::{Error, Result};

/// How well a predicted guideline fits the reference.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct GuidelineScore {
    /// ROUGE-L of the steps joined by line ends.
    pub text: Rouge,
    /// Sum of the ROUGE-L F1 of matched steps, over the number of predicted steps.
    pub precision: f64,
    /// The same sum, over the number of reference steps.
    pub recall: f64,
    /// Harmonic mean of both.
    pub f1: f64,
    /// Kendall's τ of the order of matched steps; `None` for fewer than 2.
    pub order_tau: Option<f64>,
}

/// Least ROUGE-L F1 of two steps that match.
const LEAST: f64 = 0.3;

/// Compares ordered lists of steps: as texts, and matched one to one with the largest sum of ROUGE-L F1.
///
/// ```
/// use mtl_bench::formats::guide::guideline_score;
///
/// let score = guideline_score(&["heat the pan", "break the eggs"], &["break the eggs", "heat the pan"])?;
/// assert_eq!((score.f1, score.order_tau), (1.0, Some(-1.0)));
/// # Ok::<(), mtl_bench::Error>(())
/// ```
///
/// # Errors
///
/// [`Error::Metric`] when the reference has no steps.
pub fn guideline_score<P: AsRef<str>, S: AsRef<str>>(
    predicted: &[P],
    reference: &[S],
) -> Result<GuidelineScore> {
    if reference.is_empty() {
        return Err(Error::metric("guideline", "the reference has no steps"));
    }
    let join = |steps: Vec<&str>| steps.join("\n");
    let found = join(predicted.iter().map(AsRef::as_ref).collect());
    let expected = join(reference.iter().map(AsRef::as_ref).collect());
    let text = rouge(&found, &expected, RougeKind::L, false)?;

    let similar = |p: &P, r: &S| -> Result<f64> {
        let f1 = rouge(p.as_ref(), r.as_ref(), RougeKind::L, false)?.f1;
        Ok(if f1 >= LEAST { f1 } else { 0.0 })
    };
    let row = |p: &P| reference.iter().map(|r| similar(p, r)).collect::<Result<Vec<_>>>();
    let scores = predicted.iter().map(row).collect::<Result<Vec<_>>>()?;
    let (mut mass, mut from, mut to) = (0.0, Vec::new(), Vec::new());
    for (i, (row, matched)) in scores.iter().zip(best_assignment(&scores)?).enumerate() {
        let Some((j, score)) = matched.and_then(|j| Some((j, *row.get(j)?))).filter(|(_, s)| *s > 0.0) else {
            continue;
        };
        mass += score;
        from.push(i as f64);
        to.push(j as f64);
    }
    let (precision, recall) = (mass / predicted.len().max(1) as f64, mass / reference.len() as f64);
    let f1 = if mass > 0.0 { 2.0 * precision * recall / (precision + recall) } else { 0.0 };
    let order_tau = if from.len() < 2 { None } else { Some(kendall(&from, &to)?.value) };
    Ok(GuidelineScore { text, precision, recall, f1, order_tau })
}
