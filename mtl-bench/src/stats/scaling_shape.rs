//! Shape of a score over model scale: Srivastava et al., *Beyond the Imitation Game*, TMLR 2023, arXiv 2206.04615,
//! appendix B.
use super::{check_values, median};
use crate::Result;

/// How a score grows with scale.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ScalingShape {
    /// Rise from the lowest to the highest score, negative when the highest comes first.
    pub rise: f64,
    /// 1 for a straight rise, near 0 for noise or a late jump.
    pub linearity: f64,
    /// Rise over the median step, clipped to 0..=100.
    pub breakthroughness: f64,
}

impl ScalingShape {
    /// Of `scores` in the order of scale.
    ///
    /// ```
    /// use mtl_bench::stats::ScalingShape;
    ///
    /// let shape = ScalingShape::of(&[0.1, 0.1, 0.11, 0.1, 0.9])?;
    /// assert!((shape.linearity - 0.5).abs() < 1e-3 && (shape.breakthroughness - 80.0).abs() < 1e-9);
    /// # Ok::<(), mtl_bench::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`crate::Error::Argument`] for fewer than 2 scores or one that is not finite.
    pub fn of(scores: &[f64]) -> Result<Self> {
        check_values(scores, 2)?;
        let (mut least, mut most) = (0, 0);
        for (i, &score) in scores.iter().enumerate() {
            if score < scores[least] {
                least = i;
            }
            if score > scores[most] {
                most = i;
            }
        }
        let range = scores[most] - scores[least];
        let rise = if most > least { range } else { -range };
        let squares: Vec<f64> = scores.windows(2).map(|w| (w[1] - w[0]).powi(2)).collect();
        let steps = squares.len() as f64;
        let rms = (squares.iter().sum::<f64>() / steps).sqrt();
        let typical = median(&squares).sqrt();
        let linearity = if rms > 0.0 { rise / rms / steps } else { 0.0 };
        let breakthroughness = if typical > 0.0 {
            (rise / typical).clamp(0.0, 100.0)
        } else if rise > 0.0 {
            100.0
        } else {
            0.0
        };
        Ok(Self { rise, linearity, breakthroughness })
    }
}
