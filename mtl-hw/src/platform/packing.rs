//! Rules that turn bits into block memories and multiplications into multiplier blocks.
use crate::Result;
use crate::math::{positive, product};
use serde::{Deserialize, Serialize};

/// Bits of a RAMB18.
pub const RAMB18_BITS: u64 = 18_432;
/// Bits of an UltraRAM.
pub const URAM_BITS: u64 = 294_912;

/// Shapes of a RAMB18, depth and width; the last needs simple dual-port mode.
const RAMB18_MODES: [(u64, u64); 6] = [(16_384, 1), (8192, 2), (4096, 4), (2048, 9), (1024, 18), (512, 36)];
/// The only shape of an UltraRAM, depth and width.
const URAM_MODE: (u64, u64) = (4096, 72);

/// Block memories that one array needs, in either kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemoryPacking {
    /// Block RAMs of 18 Kib, if it is built of those.
    pub ramb18: u64,
    /// UltraRAMs, if it is built of those.
    pub uram: u64,
    /// Bits stored.
    pub payload_bits: u64,
}

impl MemoryPacking {
    /// Stored bits over bits of the occupied block RAMs.
    #[must_use]
    pub fn bram_efficiency(&self) -> f64 {
        self.payload_bits as f64 / (self.ramb18 as f64 * RAMB18_BITS as f64)
    }

    /// Stored bits over bits of the occupied UltraRAMs.
    #[must_use]
    pub fn uram_efficiency(&self) -> f64 {
        self.payload_bits as f64 / (self.uram as f64 * URAM_BITS as f64)
    }
}

/// Packs an array of `depth` words of `width_bits`, `banks` times, in the best single mode.
///
/// Width decides as much as bits: the 4096-bit words of a 16×16 weight tile leave block RAM 44 % empty.
///
/// ```
/// let tile = mtl_hw::platform::pack(4096, 576, 1)?;
/// assert_eq!((tile.ramb18, tile.uram), (228, 57));
/// # Ok::<(), mtl_hw::HwError>(())
/// ```
///
/// # Errors
///
/// [`HwError::Config`](crate::HwError::Config) for a zero, [`HwError::Overflow`](crate::HwError::Overflow) beyond 64 bits.
pub fn pack(width_bits: u64, depth: u64, banks: u64) -> Result<MemoryPacking> {
    positive("width_bits", width_bits)?;
    positive("depth", depth)?;
    positive("banks", banks)?;
    let blocks =
        |(d, w): (u64, u64)| product("block memories", &[width_bits.div_ceil(w), depth.div_ceil(d), banks]);
    let mut ramb18 = u64::MAX;
    for mode in RAMB18_MODES {
        ramb18 = ramb18.min(blocks(mode)?);
    }
    Ok(MemoryPacking {
        ramb18,
        uram: blocks(URAM_MODE)?,
        payload_bits: product("bits", &[width_bits, depth, banks])?,
    })
}

/// Look-up tables that hold an array of `depth` words of `width_bits` as distributed RAM, 64 bits each: the choice for
/// arrays below about 1 Kib, which would leave a block RAM nearly empty.
///
/// ```
/// assert_eq!(mtl_hw::platform::lutram(16, 64)?, 16);
/// # Ok::<(), mtl_hw::HwError>(())
/// ```
///
/// # Errors
///
/// [`HwError::Config`](crate::HwError::Config) for a zero, [`HwError::Overflow`](crate::HwError::Overflow) beyond 64 bits.
pub fn lutram(width_bits: u64, depth: u64) -> Result<u64> {
    positive("width_bits", width_bits)?;
    positive("depth", depth)?;
    product("look-up tables", &[width_bits, depth.div_ceil(64)])
}

/// Look-up tables of an `a_bits`×`b_bits` multiplier without multiplier blocks, to about ±20 % (from memory, not checked
/// against synthesis).
///
/// # Errors
///
/// [`HwError::Config`](crate::HwError::Config) for a width of zero.
pub fn lut_multiplier(a_bits: u32, b_bits: u32) -> Result<u64> {
    positive("a_bits", a_bits.into())?;
    positive("b_bits", b_bits.into())?;
    product("look-up tables", &[a_bits.into(), b_bits.into()])
}

/// A family of multiplier blocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum DspKind {
    /// 7-series, 25×18 signed.
    Dsp48e1,
    /// UltraScale+, 27×18 signed.
    Dsp48e2,
    /// Versal, 27×24 signed.
    Dsp58,
}

impl DspKind {
    /// Signed operand widths of the multiplier.
    #[must_use]
    pub fn widths(self) -> (u32, u32) {
        match self {
            Self::Dsp48e1 => (25, 18),
            Self::Dsp48e2 => (27, 18),
            Self::Dsp58 => (27, 24),
        }
    }

    /// Blocks for one signed `a_bits`×`b_bits` multiplication in the better orientation.
    ///
    /// A signed operand splits into pieces of one bit less than the port, since all but the top piece are unsigned.
    ///
    /// # Errors
    ///
    /// [`HwError::Config`](crate::HwError::Config) for a width of zero.
    pub fn blocks_per_multiply(self, a_bits: u32, b_bits: u32) -> Result<u64> {
        positive("a_bits", a_bits.into())?;
        positive("b_bits", b_bits.into())?;
        let (wide, narrow) = self.widths();
        let pieces = |bits: u32, port: u32| u64::from((bits - 1).max(1).div_ceil(port - 1));
        let oriented = |a: u32, b: u32| pieces(a, wide) * pieces(b, narrow);
        Ok(oriented(a_bits, b_bits).min(oriented(b_bits, a_bits)))
    }

    /// Signed products that one block computes per cycle at best: in a DSP48E2 two of 8 bits or four of 4 bits that share
    /// operands, in a DSP58 three of 8 bits that are added up; 1 where the operands are wider, 0 where one block is not
    /// enough.
    ///
    /// ```
    /// use mtl_hw::platform::DspKind;
    /// assert_eq!(DspKind::Dsp48e2.products_per_block(8, 8)?, 2);
    /// assert_eq!(DspKind::Dsp48e1.products_per_block(8, 8)?, 1); // its port is two bits too narrow
    /// assert_eq!(DspKind::Dsp48e2.products_per_block(32, 32)?, 0);
    /// # Ok::<(), mtl_hw::HwError>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`HwError::Config`](crate::HwError::Config) for a width of zero.
    pub fn products_per_block(self, a_bits: u32, b_bits: u32) -> Result<u64> {
        if self.blocks_per_multiply(a_bits, b_bits)? > 1 {
            return Ok(0);
        }
        Ok(match (self, a_bits.max(b_bits)) {
            (Self::Dsp48e1, _) => 1,
            (Self::Dsp48e2, ..=4) => 4,
            (Self::Dsp48e2, ..=8) => 2,
            (Self::Dsp58, ..=8) => 3,
            _ => 1,
        })
    }
}
