//! Unrolled multiplier tile with adder trees: the unified linear unit of Edge-MoE (ICCAD 2023, arXiv 2305.18691).
use super::MatrixEngine;
use crate::Result;
use crate::math::{positive, product, sum};
use serde::{Deserialize, Serialize};

/// A tile of `t_in`×`t_out` multipliers that takes one token and one weight tile per step.
///
/// ```
/// use mtl_hw::cost::engine::{MatrixEngine, Tile};
/// let unit = Tile { t_in: 16, t_out: 16, ii: 1, depth: 0 };
/// assert_eq!(unit.gemm_cycles(129, 192, 768)?, 74_304);
/// # Ok::<(), mtl_hw::HwError>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tile {
    /// Input channels per step.
    pub t_in: u32,
    /// Output channels per step.
    pub t_out: u32,
    /// Cycles between steps.
    pub ii: u32,
    /// Cycles from the last step to the last result.
    pub depth: u32,
}

impl MatrixEngine for Tile {
    fn gemm_cycles(&self, rows: u64, inner: u64, cols: u64) -> Result<u64> {
        self.peak_macs()?;
        let ii = positive("ii", self.ii.into())?;
        let steps = product(
            "cycles",
            &[ii, rows, inner.div_ceil(self.t_in.into()), cols.div_ceil(self.t_out.into())],
        )?;
        sum("cycles", [steps, self.depth.into()])
    }

    fn peak_macs(&self) -> Result<u64> {
        product("peak macs", &[positive("t_in", self.t_in.into())?, positive("t_out", self.t_out.into())?])
    }
}
