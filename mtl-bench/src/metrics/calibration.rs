//! Expected and maximum calibration error: Naeini et al., *Obtaining Well Calibrated Probabilities Using Bayesian
//! Binning*, AAAI 2015; Guo et al., *On Calibration of Modern Neural Networks*, ICML 2017, arXiv 1706.04599.
use super::same_length;
use crate::{Error, Result};
use serde::{Deserialize, Serialize};

/// How examples are put into bins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Binning {
    /// Bin b of B holds confidences in (b/B, (b+1)/B\]; 0 is in the first.
    #[default]
    EqualWidth,
    /// Bins of equal size in the order of confidence; the first ones hold one more if need be.
    EqualMass,
}

/// One bin of a reliability diagram.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Bin {
    /// Examples in it.
    pub count: usize,
    /// Share of correct examples; 0 when empty.
    pub accuracy: f64,
    /// Mean confidence; 0 when empty.
    pub confidence: f64,
}

/// Confidence against accuracy.
///
/// ```
/// use mtl_bench::metrics::{Binning, Calibration};
///
/// let calibration = Calibration::of(&[0.9, 0.9, 0.6, 0.6], &[true, true, true, false], Binning::EqualWidth, 10)?;
/// assert!((calibration.expected_error() - 0.1).abs() < 1e-12);
/// # Ok::<(), mtl_bench::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct Calibration {
    bins: Vec<Bin>,
}

impl Calibration {
    /// Sorts examples into bins by the confidence of their prediction, from 0 to 1.
    ///
    /// # Errors
    ///
    /// [`Error::Metric`] when there are no examples, lengths differ or a confidence is not in \[0, 1\];
    /// [`Error::Argument`] for no bins, or more than a million.
    pub fn of<T: Into<f64> + Copy>(
        confidence: &[T],
        correct: &[bool],
        binning: Binning,
        bins: usize,
    ) -> Result<Self> {
        same_length("ece", confidence.len(), correct.len())?;
        if !(1..=1_000_000).contains(&bins) {
            return Err(Error::argument("bins", "from 1 to 1000000", bins));
        }
        let mut examples: Vec<(f64, bool)> =
            confidence.iter().map(|&c| c.into()).zip(correct.iter().copied()).collect();
        if let Some((i, (c, _))) = examples.iter().enumerate().find(|(_, (c, _))| !(0.0..=1.0).contains(c)) {
            return Err(Error::metric("ece", format!("confidence {i} is {c}, not in [0, 1]")));
        }
        examples.sort_by(|a, b| a.0.total_cmp(&b.0));
        let edge = |b: usize| match binning {
            Binning::EqualWidth => {
                let upper = (b + 1) as f64 / bins as f64;
                examples.partition_point(|(c, _)| *c <= upper)
            }
            Binning::EqualMass => {
                let (size, more) = (examples.len() / bins, examples.len() % bins);
                (b + 1) * size + more.min(b + 1)
            }
        };
        let mut from = 0;
        let mut bin = |b: usize| {
            let to = if b + 1 == bins { examples.len() } else { edge(b) };
            let inside = &examples[std::mem::replace(&mut from, to)..to];
            let n = inside.len().max(1) as f64;
            Bin {
                count: inside.len(),
                accuracy: inside.iter().filter(|e| e.1).count() as f64 / n,
                confidence: inside.iter().map(|e| e.0).sum::<f64>() / n,
            }
        };
        Ok(Self { bins: (0..bins).map(&mut bin).collect() })
    }

    /// The bins, lowest confidence first.
    pub fn bins(&self) -> &[Bin] {
        &self.bins
    }

    /// ECE: mean over examples of |accuracy − confidence| of their bin.
    pub fn expected_error(&self) -> f64 {
        let total: usize = self.bins.iter().map(|b| b.count).sum();
        self.bins.iter().map(|b| b.count as f64 * gap(b)).sum::<f64>() / total.max(1) as f64
    }

    /// MCE: the largest |accuracy − confidence| of a bin.
    pub fn maximum_error(&self) -> f64 {
        self.bins.iter().map(gap).fold(0.0, f64::max)
    }
}

fn gap(bin: &Bin) -> f64 {
    (bin.accuracy - bin.confidence).abs()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn edges_belong_to_the_lower_bin() {
        let of = |c: &[f64]| Calibration::of(c, &vec![true; c.len()], Binning::EqualWidth, 10).unwrap();
        let counts = |c: &[f64]| of(c).bins().iter().map(|b| b.count).collect::<Vec<_>>();
        assert_eq!(counts(&[0.0, 0.1, 0.3, 1.0]), [2, 0, 1, 0, 0, 0, 0, 0, 0, 1]);
    }

    #[test]
    fn faults_are_named() {
        let fault = |c: f64, bins| Calibration::of(&[c], &[true], Binning::EqualMass, bins).unwrap_err();
        insta::assert_snapshot!(fault(1.5, 10), @"`ece`: confidence 0 is 1.5, not in [0, 1]");
        insta::assert_snapshot!(fault(f64::NAN, 10), @"`ece`: confidence 0 is NaN, not in [0, 1]");
        insta::assert_snapshot!(fault(0.5, 0), @"`bins` must be from 1 to 1000000, but is 0");
        let more_bins = Calibration::of(&[0.5], &[true], Binning::EqualMass, 3).unwrap();
        assert_eq!(more_bins.expected_error(), 0.5);
    }
}
