//! Matrix engines: how many cycles a product takes.
//!
//! An engine is one file with a struct that implements [`MatrixEngine`], and one variant of [`Engine`].
mod attention;
mod mac_pool;
mod systolic;
mod tile;

pub use attention::{AttentionEngine, attention_loads, attention_steps};
pub use mac_pool::MacPool;
pub use systolic::{Accesses, Dataflow, ScaleSimRow, Systolic, SystolicCost};
pub use tile::Tile;

use crate::Result;
use crate::math::product;
use serde::{Deserialize, Serialize};
use std::fmt;

/// Computes matrix products.
pub trait MatrixEngine: fmt::Debug {
    /// Cycles of `[rows, inner] · [inner, cols]`.
    ///
    /// # Errors
    ///
    /// [`HwError::Config`](crate::HwError::Config) for a zero dimension, [`HwError::Overflow`](crate::HwError::Overflow)
    /// beyond 64 bits.
    fn gemm_cycles(&self, rows: u64, inner: u64, cols: u64) -> Result<u64>;

    /// Cycles of `batch` independent products of one shape; one after the other unless the engine does better.
    ///
    /// # Errors
    ///
    /// As [`MatrixEngine::gemm_cycles`].
    fn batched_cycles(&self, batch: u64, rows: u64, inner: u64, cols: u64) -> Result<u64> {
        product("cycles", &[batch, self.gemm_cycles(rows, inner, cols)?])
    }

    /// Multiply-accumulates per cycle at full use.
    ///
    /// # Errors
    ///
    /// [`HwError::Config`](crate::HwError::Config) when a parameter of the engine is zero.
    fn peak_macs(&self) -> Result<u64>;
}

/// The matrix engine of an accelerator, as data.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Engine {
    /// Ideal pool of multipliers.
    MacPool(MacPool),
    /// Systolic array.
    Systolic(Systolic),
    /// Unrolled tile with adder trees.
    Tile(Tile),
}

impl Engine {
    /// The engine behind the variant.
    #[must_use]
    pub fn get(&self) -> &dyn MatrixEngine {
        match self {
            Self::MacPool(e) => e,
            Self::Systolic(e) => e,
            Self::Tile(e) => e,
        }
    }
}
