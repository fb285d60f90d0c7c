//! Transfers between off-chip memory and kernels: bursts, gathers, read-modify-write, and masters that share a memory.
use crate::math::{positive, product, sum};
use crate::{HwError, Result};
use serde::{Deserialize, Serialize};

/// Beats of the longest AXI4 burst.
const MAX_BEATS: u64 = 256;
/// Bytes that an AXI4 burst must not cross.
const MAX_BURST_BYTES: u64 = 4096;

/// One bus master: what the kernel sees, and the port behind it.
///
/// ```
/// use mtl_hw::cost::dram::{Access, Master};
/// // A 256-bit kernel word on a 128-bit port takes two beats.
/// let master = Master { kernel_bits: 256, port_bits: 128, burst_latency: 64, outstanding: 16 };
/// let token = master.transfer(Access::Contiguous { elements: 192 }, 32)?;
/// assert_eq!((token.beats, token.cycles()), (48, 112));
/// # Ok::<(), mtl_hw::HwError>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Master {
    /// Width of a word in the kernel.
    pub kernel_bits: u32,
    /// Width of the port of the device.
    pub port_bits: u32,
    /// Cycles before the first beat of a burst.
    pub burst_latency: u32,
    /// Bursts in flight, over which the latency of separate bursts is spread.
    pub outstanding: u32,
}

/// The pattern of a transfer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Access {
    /// One chain of bursts.
    Contiguous {
        /// Numbers moved.
        elements: u64,
    },
    /// Separate chunks, such as the tokens of one expert: one chain each.
    Gather {
        /// Chunks.
        chunks: u64,
        /// Numbers of a chunk.
        elements: u64,
    },
    /// Chunks that are read, changed and written back.
    ReadModifyWrite {
        /// Chunks.
        chunks: u64,
        /// Numbers of a chunk.
        elements: u64,
    },
}

/// Cost of a transfer on one master.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Transfer {
    /// Bytes moved, both directions.
    pub bytes: u64,
    /// AXI bursts.
    pub bursts: u64,
    /// Cycles in which the port moves data.
    pub beats: u64,
    /// Cycles of latency that are not hidden.
    pub latency: u64,
    /// Which width limits.
    pub width: BindingWidth,
}

/// Which width limits a transfer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum BindingWidth {
    /// The kernel's word.
    Kernel,
    /// The device's port.
    Port,
    /// The memory.
    Memory,
}

impl Transfer {
    /// Cycles from the request to the last beat.
    #[must_use]
    pub fn cycles(&self) -> u64 {
        self.beats.saturating_add(self.latency)
    }
}

impl Master {
    /// Checks the widths.
    ///
    /// # Errors
    ///
    /// [`HwError::Config`] unless both widths are powers of two from 8, `outstanding` is positive and numbers of
    /// `element_bits` fit in a word and in the port.
    pub fn validate(&self, element_bits: u32) -> Result<()> {
        for (field, bits) in [("kernel_bits", self.kernel_bits), ("port_bits", self.port_bits)] {
            if bits < 8 || !bits.is_power_of_two() {
                return Err(HwError::config(field, "a power of two from 8", bits));
            }
            if element_bits == 0 || element_bits > bits {
                return Err(HwError::config(
                    "element_bits",
                    format!("from 1 to `{field}` = {bits}"),
                    element_bits,
                ));
            }
        }
        positive("outstanding", self.outstanding.into()).map(drop)
    }

    /// Beats of one contiguous run of `elements` numbers.
    ///
    /// # Errors
    ///
    /// As [`Master::validate`]; [`HwError::Overflow`] beyond 64 bits.
    pub fn beats(&self, elements: u64, element_bits: u32) -> Result<u64> {
        self.validate(element_bits)?;
        let words = product("bits", &[elements, element_bits.into()])?.div_ceil(self.kernel_bits.into());
        product("beats", &[words, u64::from(self.kernel_bits.div_ceil(self.port_bits))])
    }

    /// Cost of an access to numbers of `element_bits`.
    ///
    /// # Errors
    ///
    /// As [`Master::beats`].
    pub fn transfer(&self, access: Access, element_bits: u32) -> Result<Transfer> {
        let (chunks, elements, directions) = match access {
            Access::Contiguous { elements } => (u64::from(elements > 0), elements, 1),
            Access::Gather { chunks, elements } => (chunks, elements, 1),
            Access::ReadModifyWrite { chunks, elements } => (chunks, elements, 2),
        };
        let bytes = product("bits", &[elements, element_bits.into()])?.div_ceil(8);
        let port_bytes = u64::from(self.port_bits / 8).max(1);
        let burst = MAX_BURST_BYTES.min(MAX_BEATS * port_bytes);
        let latency = product("cycles", &[chunks, directions, self.burst_latency.into()])?;
        Ok(Transfer {
            bytes: product("bytes", &[chunks, directions, bytes])?,
            bursts: product("bursts", &[chunks, directions, bytes.div_ceil(burst)])?,
            beats: product("beats", &[chunks, directions, self.beats(elements, element_bits)?])?,
            // One chain cannot overlap with itself; several spread over the bursts in flight.
            latency: if chunks > 1 { latency.div_ceil(self.outstanding.into()) } else { latency },
            width: if self.port_bits < self.kernel_bits { BindingWidth::Port } else { BindingWidth::Kernel },
        })
    }
}

/// Cycles in which a memory delivers `bytes` at `efficiency` of its peak, at the accelerator's clock.
///
/// # Errors
///
/// [`HwError::Config`] unless the efficiency is in (0, 1] and leaves some bandwidth, [`HwError::Overflow`] beyond 64 bits.
pub fn memory_cycles(bytes: u64, clock_hz: u64, peak_bytes_per_s: u64, efficiency: f64) -> Result<u64> {
    if !(efficiency > 0.0 && efficiency <= 1.0) {
        return Err(HwError::config("dram_efficiency", "in (0, 1]", efficiency));
    }
    let bandwidth = (peak_bytes_per_s as f64 * efficiency).round() as u64;
    let bandwidth = positive("effective bandwidth in bytes per second", bandwidth)?;
    let cycles = (u128::from(bytes) * u128::from(clock_hz)).div_ceil(u128::from(bandwidth));
    u64::try_from(cycles).map_err(|_| HwError::Overflow { what: "load cycles".to_owned() })
}

/// Bandwidth that each of several masters gets: its demand, at most its own limit, all scaled by one factor where the
/// memory cannot serve the sum. Any unit, the same for all.
///
/// ```
/// let got = mtl_hw::cost::dram::fair_share(&[(6.0, 4.0), (4.0, 4.0)], 4.0)?;
/// assert_eq!(got, [2.0, 2.0]);
/// # Ok::<(), mtl_hw::HwError>(())
/// ```
///
/// # Errors
///
/// [`HwError::Config`] for a demand or limit that is negative or not finite, or a capacity that is not positive.
pub fn fair_share(demands_and_limits: &[(f64, f64)], capacity: f64) -> Result<Vec<f64>> {
    crate::math::positive_float("capacity", capacity)?;
    let mut wanted = Vec::with_capacity(demands_and_limits.len());
    for (i, &(demand, limit)) in demands_and_limits.iter().enumerate() {
        for (field, value) in [("demand", demand), ("limit", limit)] {
            if !(value >= 0.0 && value.is_finite()) {
                return Err(HwError::config(
                    format!("masters[{i}].{field}"),
                    "non-negative and finite",
                    value,
                ));
            }
        }
        wanted.push(demand.min(limit));
    }
    let total: f64 = wanted.iter().sum();
    let factor = if total > capacity { capacity / total } else { 1.0 };
    Ok(wanted.into_iter().map(|w| w * factor).collect())
}

/// Sum of the cycles of transfers on one port.
///
/// # Errors
///
/// [`HwError::Overflow`] beyond 64 bits.
pub fn in_sequence(transfers: &[Transfer]) -> Result<u64> {
    sum("cycles", transfers.iter().map(Transfer::cycles))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const MASTER: Master = Master { kernel_bits: 256, port_bits: 128, burst_latency: 64, outstanding: 16 };

    #[test]
    fn patterns_charge_latency_once_per_chain() {
        let contiguous = MASTER.transfer(Access::Contiguous { elements: 129 * 192 }, 32).unwrap();
        assert_eq!((contiguous.beats, contiguous.latency, contiguous.width), (6192, 64, BindingWidth::Port));
        assert_eq!((contiguous.bytes, contiguous.bursts), (99_072, 25));
        let gather = MASTER.transfer(Access::Gather { chunks: 32, elements: 192 }, 32).unwrap();
        assert_eq!((gather.beats, gather.latency), (32 * 48, 32 * 64 / 16));
        let single = Master { outstanding: 1, ..MASTER };
        let rmw = single.transfer(Access::ReadModifyWrite { chunks: 32, elements: 192 }, 32).unwrap();
        assert_eq!((rmw.beats, rmw.latency), (64 * 48, 64 * 64));
        assert_eq!(in_sequence(&[gather, rmw]).unwrap(), gather.cycles() + rmw.cycles());
        assert_eq!(MASTER.transfer(Access::Contiguous { elements: 0 }, 32).unwrap().cycles(), 0);
    }

    #[test]
    fn an_element_wider_than_the_port_is_refused() {
        let narrow = Master { port_bits: 16, ..MASTER };
        insta::assert_snapshot!(narrow.beats(8, 32).unwrap_err(), @"`element_bits` must be from 1 to `port_bits` = 16, but is 32");
        assert!(Master { port_bits: 100, ..MASTER }.beats(8, 32).is_err());
        assert!(Master { outstanding: 0, ..MASTER }.beats(8, 32).is_err());
        assert!(MASTER.beats(u64::MAX, 32).is_err());
        assert!(fair_share(&[(f64::NAN, 1.0)], 1.0).is_err() && fair_share(&[], 0.0).is_err());
    }

    #[test]
    fn one_hbm_pseudo_channel_is_slower_than_one_ddr4_channel() {
        let cycles = |peak| memory_cycles(1 << 20, 300_000_000, peak, 1.0).unwrap();
        assert!(cycles(14_375_000_000) > cycles(19_200_000_000));
        assert!(memory_cycles(1, 300_000_000, 19_200_000_000, f64::NAN).is_err());
    }

    proptest! {
        #[test]
        fn nobody_gets_more_than_asked_and_all_no_more_than_there_is(
            masters in proptest::collection::vec((0.0f64..1e3, 0.0f64..1e3), 0..8), capacity in 1.0f64..1e3,
        ) {
            let got = fair_share(&masters, capacity).unwrap();
            prop_assert!(got.iter().zip(&masters).all(|(g, (d, l))| *g <= d.min(*l)));
            prop_assert!(got.iter().sum::<f64>() <= capacity * (1.0 + 1e-12));
        }

        #[test]
        fn a_wider_port_never_costs_time(elements in 0u64..1 << 20, chunks in 0u64..100, shift in 0u32..4) {
            let wide = Master { port_bits: 128 << shift, ..MASTER };
            let access = Access::Gather { chunks, elements };
            prop_assert!(wide.transfer(access, 16).unwrap().cycles() <= MASTER.transfer(access, 16).unwrap().cycles());
        }
    }
}
