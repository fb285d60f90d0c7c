//! Ideal pool of multipliers, as in the cost figures of M³ViT (NeurIPS 2022, arXiv 2210.14793).
use super::MatrixEngine;
use crate::Result;
use crate::math::{positive, product};
use serde::{Deserialize, Serialize};

/// `units` multipliers that are always busy: an upper bound on what hardware can do.
///
/// ```
/// use mtl_hw::cost::engine::{MacPool, MatrixEngine};
/// assert_eq!(MacPool { units: 1536 }.gemm_cycles(1025, 384, 1536)?, 1025 * 384);
/// # Ok::<(), mtl_hw::HwError>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MacPool {
    /// Multiply-accumulates per cycle.
    pub units: u32,
}

impl MatrixEngine for MacPool {
    fn gemm_cycles(&self, rows: u64, inner: u64, cols: u64) -> Result<u64> {
        self.batched_cycles(1, rows, inner, cols)
    }

    /// Heads share the pool, so only the sum is rounded up.
    fn batched_cycles(&self, batch: u64, rows: u64, inner: u64, cols: u64) -> Result<u64> {
        Ok(product("macs", &[batch, rows, inner, cols])?.div_ceil(self.peak_macs()?))
    }

    fn peak_macs(&self) -> Result<u64> {
        positive("units", self.units.into())
    }
}
