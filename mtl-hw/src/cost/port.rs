//! The ports through which weights arrive.
use crate::Result;
use crate::math::{positive, product, sum};
use serde::{Deserialize, Serialize};

/// Equal ports read in parallel, at the accelerator's clock.
///
/// ```
/// use mtl_hw::cost::WeightPort;
/// let port = WeightPort { width_bits: 128, count: 4, burst_latency: 0, outstanding: 1 };
/// assert_eq!(port.cycles(591_360, 1)?, 9240); // one M³ViT-small expert in 16 bits
/// # Ok::<(), mtl_hw::HwError>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WeightPort {
    /// Width of one port in bits.
    pub width_bits: u32,
    /// Ports used.
    pub count: u32,
    /// Cycles before the first beat of a burst.
    pub burst_latency: u32,
    /// Bursts in flight, over which the latency is spread.
    pub outstanding: u32,
}

impl WeightPort {
    /// Bytes per cycle of all ports.
    ///
    /// # Errors
    ///
    /// [`HwError::Config`](crate::HwError::Config) when the width is not a whole number of bytes or a field is zero.
    pub fn bytes_per_cycle(&self) -> Result<u64> {
        positive("port.width_bits", self.width_bits.into())?;
        positive("port.count", self.count.into())?;
        if !self.width_bits.is_multiple_of(8) {
            return Err(crate::HwError::config("port.width_bits", "a multiple of 8", self.width_bits));
        }
        Ok(u64::from(self.width_bits / 8) * u64::from(self.count))
    }

    /// Cycles to move `bytes` in `bursts` separate chains; contiguous data is one chain.
    ///
    /// # Errors
    ///
    /// [`HwError::Config`](crate::HwError::Config) for a zero field, [`HwError::Overflow`](crate::HwError::Overflow)
    /// beyond 64 bits.
    pub fn cycles(&self, bytes: u64, bursts: u64) -> Result<u64> {
        let beats = bytes.div_ceil(self.bytes_per_cycle()?);
        let outstanding = positive("port.outstanding", self.outstanding.into())?;
        let latency = product("cycles", &[bursts, self.burst_latency.into()])?.div_ceil(outstanding);
        sum("cycles", [beats, latency])
    }
}
