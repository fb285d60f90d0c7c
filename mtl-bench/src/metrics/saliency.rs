//! Saliency maps: Achanta et al., *Frequency-tuned Salient Region Detection*, CVPR 2009 (F with β² = 0.3); Perazzi et al.,
//! *Saliency Filters*, CVPR 2012 (mean absolute error).
use super::same_length;
use crate::{Error, Result};

/// Scores of a saliency map.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Saliency {
    /// The largest F over the thresholds i/255, i from 0 to 255; higher is better.
    pub max_f: f64,
    /// Mean absolute error; lower is better.
    pub mae: f64,
}

/// Compares saliency from 0 to 1 with a mask; a position is predicted at a threshold when it is at least that.
///
/// ```
/// let scores = mtl_bench::metrics::saliency(&[1.0, 0.5, 0.0], &[true, false, false])?;
/// assert_eq!((scores.max_f, scores.mae), (1.0, 0.5 / 3.0));
/// # Ok::<(), mtl_bench::Error>(())
/// ```
///
/// # Errors
///
/// [`Error::Metric`] when there are no positions, lengths differ, nothing is salient or a number is not in \[0, 1\].
pub fn saliency<T: Into<f64> + Copy>(predictions: &[T], salient: &[bool]) -> Result<Saliency> {
    const NAME: &str = "saliency";
    const BETA_SQUARED: f64 = 0.3;
    same_length(NAME, predictions.len(), salient.len())?;
    let mut positions: Vec<(f64, bool)> =
        predictions.iter().map(|&p| p.into()).zip(salient.iter().copied()).collect();
    if let Some((i, (p, _))) = positions.iter().enumerate().find(|(_, (p, _))| !(0.0..=1.0).contains(p)) {
        return Err(Error::metric(NAME, format!("prediction {i} is {p}, not in [0, 1]")));
    }
    let expected = salient.iter().filter(|&&s| s).count();
    if expected == 0 {
        return Err(Error::metric(NAME, "no position is salient"));
    }
    let mae = positions.iter().map(|(p, s)| (p - f64::from(u8::from(*s))).abs()).sum::<f64>()
        / positions.len() as f64;
    positions.sort_by(|a, b| b.0.total_cmp(&a.0));
    let (mut seen, mut hits, mut max_f) = (0, 0, 0.0_f64);
    for step in (0..=255_u8).rev() {
        let threshold = f64::from(step) / 255.0;
        while let Some((_, s)) = positions.get(seen).filter(|(p, _)| *p >= threshold) {
            hits += usize::from(*s);
            seen += 1;
        }
        if hits > 0 {
            let (precision, recall) = (hits as f64 / seen as f64, hits as f64 / expected as f64);
            max_f =
                max_f.max((1.0 + BETA_SQUARED) * precision * recall / (BETA_SQUARED * precision + recall));
        }
    }
    Ok(Saliency { max_f, mae })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_are_named() {
        insta::assert_snapshot!(saliency(&[0.5], &[false]).unwrap_err(), @"`saliency`: no position is salient");
        insta::assert_snapshot!(saliency(&[1.5], &[true]).unwrap_err(), @"`saliency`: prediction 0 is 1.5, not in [0, 1]");
    }
}
