//! Roofline: what a design can reach at a given number of operations per off-chip byte.
use crate::Result;
use crate::math::{positive, positive_float};
use serde::{Deserialize, Serialize};

/// Peak compute and bandwidth of a design.
///
/// ```
/// use mtl_hw::cost::roofline::Roofline;
/// let m3vit = Roofline { peak_macs: 1536, clock_hz: 300_000_000, bytes_per_s: 19_200_000_000 };
/// assert_eq!(m3vit.break_even_tokens(16)?, 48);
/// # Ok::<(), mtl_hw::HwError>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Roofline {
    /// Multiply-accumulates per cycle.
    pub peak_macs: u64,
    /// Clock in Hz.
    pub clock_hz: u64,
    /// Off-chip bandwidth in bytes per second.
    pub bytes_per_s: u64,
}

/// Which of the two lines a point is under.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Side {
    /// Bandwidth limits.
    Memory,
    /// Multipliers limit.
    Compute,
}

impl Roofline {
    /// Multiply-accumulates per byte above which multipliers limit.
    ///
    /// # Errors
    ///
    /// [`HwError::Config`](crate::HwError::Config) for a zero.
    pub fn ridge(&self) -> Result<f64> {
        let peak =
            positive("peak_macs", self.peak_macs)? as f64 * positive("clock_hz", self.clock_hz)? as f64;
        Ok(peak / positive("bytes_per_s", self.bytes_per_s)? as f64)
    }

    /// Multiply-accumulates per second at `intensity` multiply-accumulates per byte, and what limits them.
    ///
    /// # Errors
    ///
    /// [`HwError::Config`](crate::HwError::Config) for a zero, or an intensity that is not positive and finite.
    pub fn attainable(&self, intensity: f64) -> Result<(f64, Side)> {
        positive_float("intensity", intensity)?;
        if intensity < self.ridge()? {
            Ok((intensity * self.bytes_per_s as f64, Side::Memory))
        } else {
            Ok((self.peak_macs as f64 * self.clock_hz as f64, Side::Compute))
        }
    }

    /// Tokens per expert from which its computation hides the load of another: n tokens do 2·n·D·H operations on 2·D·H
    /// weights, an intensity of n over the bytes of a weight.
    ///
    /// # Errors
    ///
    /// [`HwError::Config`](crate::HwError::Config) for a zero.
    pub fn break_even_tokens(&self, weight_bits: u32) -> Result<u64> {
        positive("weight_bits", weight_bits.into())?;
        positive("bytes_per_s", self.bytes_per_s)?;
        let bits = u128::from(self.peak_macs) * u128::from(self.clock_hz) * u128::from(weight_bits);
        let tokens = bits.div_ceil(8 * u128::from(self.bytes_per_s));
        u64::try_from(tokens).map_err(|_| crate::HwError::Overflow { what: "tokens".to_owned() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn break_even_of_edge_moe_is_32_tokens() {
        let roof = Roofline { peak_macs: 256, clock_hz: 300_000_000, bytes_per_s: 4_800_000_000 };
        assert_eq!(roof.break_even_tokens(16).unwrap(), 32);
        assert_eq!(roof.attainable(10.0).unwrap(), (48e9, Side::Memory));
        assert_eq!(roof.attainable(16.0).unwrap(), (76.8e9, Side::Compute));
        assert!(roof.attainable(f64::NAN).is_err());
        assert!(Roofline { bytes_per_s: 0, ..roof }.ridge().is_err());
    }
}
