//! Approximations that accelerators compute instead of the exact functions: single-pass softmax and tabulated GELU, as in
//! Edge-MoE (ICCAD 2023, arXiv 2305.18691).
use crate::math::positive_float;
use crate::{HwError, Result};

/// Running maximum and sum of a softmax, so that one pass over the scores is enough.
///
/// ```
/// use mtl_hw::cost::numerics::OnlineSoftmax;
/// let mut row = OnlineSoftmax::new();
/// [1.0, 3.0, 2.0].into_iter().try_for_each(|x| row.push(x))?;
/// let (reciprocal, bias) = row.finish()?;
/// let p: Vec<f64> = [1.0f64, 3.0, 2.0].iter().map(|x| (x - bias).exp() * reciprocal).collect();
/// assert!((p.iter().sum::<f64>() - 1.0).abs() < 1e-15);
/// # Ok::<(), mtl_hw::HwError>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct OnlineSoftmax {
    /// The largest score so far.
    pub bias: f64,
    /// Σ exp(x − bias) so far.
    pub sum: f64,
}

impl Default for OnlineSoftmax {
    fn default() -> Self {
        Self::new()
    }
}

impl OnlineSoftmax {
    /// An empty row.
    #[must_use]
    pub fn new() -> Self {
        Self { bias: f64::NEG_INFINITY, sum: 0.0 }
    }

    /// Takes one score.
    ///
    /// # Errors
    ///
    /// [`HwError::Config`] for a score that is not finite.
    pub fn push(&mut self, score: f64) -> Result<()> {
        if !score.is_finite() {
            return Err(HwError::config("score", "finite", score));
        }
        if score > self.bias {
            // exp(−∞) = 0 covers the first score.
            self.sum = self.sum * (self.bias - score).exp() + 1.0;
            self.bias = score;
        } else {
            self.sum += (score - self.bias).exp();
        }
        Ok(())
    }

    /// The reciprocal of the sum and the bias: a probability is exp(x − bias) times the reciprocal.
    ///
    /// # Errors
    ///
    /// [`HwError::Config`] for an empty row.
    pub fn finish(&self) -> Result<(f64, f64)> {
        if self.sum > 0.0 {
            Ok((1.0 / self.sum, self.bias))
        } else {
            Err(HwError::config("scores", "at least one", 0))
        }
    }
}

/// Entries of [`gelu_delta_table`]: beyond them δ is zero in the table's precision.
const DELTA_RANGE: f64 = 5.5;

/// Table of δ(t) = t·(1 − Φ(t)) at steps of 2^`step_log2` from 0 to 5.5, in fixed point with `frac_bits` fraction bits.
///
/// GELU(x) = max(x, 0) − δ(|x|). The released table has steps of 1/32, hence 177 entries.
///
/// ```
/// let table = mtl_hw::cost::numerics::gelu_delta_table(-5, 22)?;
/// assert_eq!((table.len(), table[0]), (177, 0));
/// # Ok::<(), mtl_hw::HwError>(())
/// ```
///
/// # Errors
///
/// [`HwError::Config`] for a step outside 2⁻¹⁶ … 1 or more than 52 fraction bits.
pub fn gelu_delta_table(step_log2: i32, frac_bits: u32) -> Result<Vec<i64>> {
    if !(-16..=0).contains(&step_log2) {
        return Err(HwError::config("step_log2", "from -16 to 0", step_log2));
    }
    if frac_bits > 52 {
        return Err(HwError::config("frac_bits", "at most 52", frac_bits));
    }
    let (step, scale) = (2f64.powi(step_log2), (1u64 << frac_bits) as f64);
    let entries = (DELTA_RANGE / step).floor() as usize + 1;
    Ok((0..entries).map(|i| (delta(i as f64 * step) * scale).round() as i64).collect())
}

/// GELU by linear interpolation in a table of [`gelu_delta_table`] with the same arguments.
///
/// # Errors
///
/// [`HwError::Config`] when `x` is not finite or the table is empty.
pub fn gelu_from_table(x: f64, table: &[i64], step_log2: i32, frac_bits: u32) -> Result<f64> {
    if !x.is_finite() {
        return Err(HwError::config("x", "finite", x));
    }
    let step = positive_float("step", 2f64.powi(step_log2))?;
    let position = x.abs() / step;
    let (index, share) = (position.floor(), position.fract());
    // Saturating cast: far beyond the table both entries are zero.
    let entry = |i: usize| table.get(i).map_or(0.0, |&v| v as f64) / (1u64 << frac_bits.min(52)) as f64;
    let i = index as usize;
    if table.is_empty() {
        return Err(HwError::config("table", "non-empty", 0));
    }
    let delta = entry(i) * (1.0 - share) + entry(i.saturating_add(1)) * share;
    Ok(x.max(0.0) - delta)
}

/// GELU with the exact normal distribution.
#[must_use]
pub fn gelu(x: f64) -> f64 {
    x.max(0.0) - delta(x.abs())
}

/// t·(1 − Φ(t)) = t·erfc(t/√2)/2 for t ≥ 0.
fn delta(t: f64) -> f64 {
    0.5 * t * erfc(t / std::f64::consts::SQRT_2)
}

/// Complementary error function for x ≥ 0: a series near zero, a continued fraction (Lentz) beyond.
fn erfc(x: f64) -> f64 {
    let root_pi = std::f64::consts::PI.sqrt();
    if x < 2.0 {
        // erf x = 2/√π · Σ (−1)ⁿ x²ⁿ⁺¹ / (n! (2n + 1))
        let (mut term, mut total, mut n) = (x, x, 0.0);
        while term.abs() > 1e-18 && n < 200.0 {
            n += 1.0;
            term *= -x * x / n;
            total += term / (2.0 * n + 1.0);
        }
        return 1.0 - 2.0 / root_pi * total;
    }
    // erfc x = exp(−x²)/√π · 1/(x + (1/2)/(x + (2/2)/(x + …)))
    let tail = (1..=80).rev().fold(x, |tail, n| x + f64::from(n) / 2.0 / tail);
    (-x * x).exp() / root_pi / tail
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn one_pass_gives_the_softmax_of_two(scores in proptest::collection::vec(-1e4f64..1e4, 1..64)) {
            let mut row = OnlineSoftmax::new();
            for &x in &scores {
                row.push(x).unwrap();
            }
            let (reciprocal, bias) = row.finish().unwrap();
            let max = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            let total: f64 = scores.iter().map(|x| (x - max).exp()).sum();
            for &x in &scores {
                let (ours, exact) = ((x - bias).exp() * reciprocal, (x - max).exp() / total);
                prop_assert!((ours - exact).abs() <= 1e-12);
            }
        }

        #[test]
        fn the_tabulated_gelu_is_within_1e_4(x in -8.0f64..8.0) {
            let table = gelu_delta_table(-5, 22).unwrap();
            prop_assert!((gelu_from_table(x, &table, -5, 22).unwrap() - gelu(x)).abs() <= 1e-4);
        }
    }

    #[test]
    fn erfc_equals_tabulated_values() {
        for (x, exact) in [
            (0.0, 1.0),
            (0.5, 0.479_500_122_186_953_5),
            (1.0, 0.157_299_207_050_285_13),
            (2.0, 0.004_677_734_981_047_266),
            (3.0, 2.209_049_699_858_544e-5),
        ] {
            assert!((erfc(x) - exact).abs() < 1e-14, "{x}: {} for {exact}", erfc(x));
        }
        assert!((erfc(2.0 - 1e-12) - erfc(2.0 + 1e-12)).abs() < 1e-12);
    }

    #[test]
    fn the_released_table_has_177_entries_and_gelu_its_known_values() {
        let table = gelu_delta_table(-5, 22).unwrap();
        assert_eq!(table.len(), 177);
        assert!((gelu(1.0) - 0.841_344_746_068_542_9).abs() < 1e-12);
        assert!((gelu(-1.0) + 0.158_655_253_931_457_05).abs() < 1e-12);
        // The worst interpolation error over a fine grid.
        let worst = (0..=60_000)
            .map(|i| {
                let x = f64::from(i) * 1e-4;
                (gelu_from_table(x, &table, -5, 22).unwrap() - gelu(x)).abs()
            })
            .fold(0.0, f64::max);
        assert!(worst > 9e-5 && worst <= 1e-4, "{worst}");
    }

    #[test]
    fn bad_arguments_are_typed_errors() {
        assert!(gelu_delta_table(1, 8).is_err() && gelu_delta_table(-40, 8).is_err());
        assert!(gelu_delta_table(-5, 60).is_err());
        assert!(gelu_from_table(f64::NAN, &[0], -5, 8).is_err() && gelu_from_table(0.0, &[], -5, 8).is_err());
        assert!(OnlineSoftmax::new().finish().is_err() && OnlineSoftmax::new().push(f64::INFINITY).is_err());
    }
}
