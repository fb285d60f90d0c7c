//! Systolic array in the closed form of SCALE-Sim (Samajdar et al., ISPASS 2020, arXiv 1811.02883), version 3.0.0.
use super::MatrixEngine;
use crate::Result;
use crate::math::{positive, product, sum};
use serde::{Deserialize, Serialize};

/// Which operand stays in the array.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Dataflow {
    /// Outputs stay; both operands stream.
    OutputStationary,
    /// Weights stay.
    WeightStationary,
    /// Inputs stay.
    InputStationary,
}

/// Array of multiply-accumulate cells.
///
/// ```
/// use mtl_hw::cost::engine::{Dataflow, MatrixEngine, Systolic};
/// let array = Systolic { rows: 16, cols: 16, flow: Dataflow::OutputStationary };
/// // 13 × 36 folds of 16 + 16 + 192 − 2 cycles
/// assert_eq!(array.gemm_cycles(197, 192, 576)?, 468 * 222);
/// # Ok::<(), mtl_hw::HwError>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Systolic {
    /// Rows R of cells.
    pub rows: u32,
    /// Columns C of cells.
    pub cols: u32,
    /// Dataflow.
    pub flow: Dataflow,
}

/// Words moved for the three operands of C = A·B.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Accesses {
    /// Reads of A.
    pub a: u64,
    /// Reads of B.
    pub b: u64,
    /// Writes of C.
    pub c: u64,
}

/// One product on a [`Systolic`] array.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct SystolicCost {
    /// Times the array is filled.
    pub folds: u64,
    /// Cycles per filling.
    pub cycles_per_fold: u64,
    /// Cycles in total, physically. SCALE-Sim prints one less (a known off-by-one).
    pub cycles: u64,
    /// Cells that hold useful work, summed over folds.
    pub used_cells: u64,
    /// On-chip buffer accesses.
    pub sram: Accesses,
}

/// What SCALE-Sim 3.0.0 prints for one product in its estimate mode (no stalls), for comparison with it.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct ScaleSimRow {
    /// One cycle less than the physical total (scalesim-project/SCALE-Sim issue 125).
    pub cycles: u64,
    /// Useful share of cells and `cycles` in percent.
    pub utilisation_pct: f64,
    /// Cells that hold useful work, in percent, as a mean over folds.
    pub mapping_efficiency_pct: f64,
    /// Buffer accesses; output-stationary writes include the array's fill, R + C words per fold.
    pub sram: Accesses,
    /// Off-chip words. Two of the peer's numbers differ by its own granularity: outputs by up to C − 1 words, and B of
    /// an output-stationary array when it exceeds half its buffer.
    pub dram: Accesses,
}

impl Systolic {
    /// `[m, k] · [k, n]` in SCALE-Sim's convention, each operand's buffer holding `buffer_words`.
    ///
    /// # Errors
    ///
    /// As [`Systolic::cost`].
    pub fn scale_sim(&self, m: u64, k: u64, n: u64, buffer_words: u64) -> Result<ScaleSimRow> {
        let cost = self.cost(m, k, n)?;
        let cells = self.peak_macs()? as f64;
        let cycles = cost.cycles - 1;
        let mut sram = cost.sram;
        let dram = dram_words(&sram, m, k, n, buffer_words)?;
        if self.flow == Dataflow::OutputStationary {
            let fill =
                product("buffer accesses", &[cost.folds, u64::from(self.rows) + u64::from(self.cols)])?;
            sram.c = sum("buffer accesses", [sram.c, fill])?;
        }
        Ok(ScaleSimRow {
            cycles,
            utilisation_pct: 100.0 * product("macs", &[m, k, n])? as f64 / (cells * cycles as f64),
            mapping_efficiency_pct: 100.0 * cost.used_cells as f64 / (cells * cost.folds as f64),
            sram,
            dram,
        })
    }

    /// Cost of `[m, k] · [k, n]`.
    ///
    /// # Errors
    ///
    /// [`HwError::Config`](crate::HwError::Config) for a zero, [`HwError::Overflow`](crate::HwError::Overflow) beyond
    /// 64 bits.
    pub fn cost(&self, m: u64, k: u64, n: u64) -> Result<SystolicCost> {
        for (field, value) in [("m", m), ("k", k), ("n", n)] {
            positive(field, value)?;
        }
        let (r, c) = (positive("rows", self.rows.into())?, positive("cols", self.cols.into())?);
        // The two dimensions laid out on the array, the one that streams, and cycles to load what stays.
        let (on_rows, on_cols, streamed, preload) = match self.flow {
            Dataflow::OutputStationary => (m, n, k, 0),
            Dataflow::WeightStationary => (k, n, m, r),
            Dataflow::InputStationary => (k, m, n, r),
        };
        let (row_folds, col_folds) = (on_rows.div_ceil(r), on_cols.div_ceil(c));
        let folds = product("folds", &[row_folds, col_folds])?;
        let cycles_per_fold = sum("cycles", [preload, r, c, streamed])? - 2;
        let words = |x: u64, y: u64, passes: u64| product("buffer accesses", &[x, y, passes]);
        let sram = match self.flow {
            Dataflow::OutputStationary => {
                Accesses { a: words(m, k, col_folds)?, b: words(k, n, row_folds)?, c: words(m, n, 1)? }
            }
            Dataflow::WeightStationary => {
                Accesses { a: words(m, k, col_folds)?, b: words(k, n, 1)?, c: words(m, n, row_folds)? }
            }
            Dataflow::InputStationary => {
                Accesses { a: words(m, k, 1)?, b: words(k, n, col_folds)?, c: words(m, n, row_folds)? }
            }
        };
        Ok(SystolicCost {
            folds,
            cycles_per_fold,
            cycles: product("cycles", &[folds, cycles_per_fold])?,
            used_cells: product("cells", &[on_rows, on_cols])?,
            sram,
        })
    }

    /// Off-chip words as SCALE-Sim's estimate mode counts them, when each operand's buffer holds `buffer_words`: an
    /// operand that fits half its buffer (the other half prefetches) is read once, else once per pass.
    ///
    /// # Errors
    ///
    /// As [`Systolic::cost`].
    pub fn dram_words(&self, m: u64, k: u64, n: u64, buffer_words: u64) -> Result<Accesses> {
        dram_words(&self.cost(m, k, n)?.sram, m, k, n, buffer_words)
    }
}

fn dram_words(sram: &Accesses, m: u64, k: u64, n: u64, buffer_words: u64) -> Result<Accesses> {
    let once_if_small = |operand: u64, all: u64| if operand <= buffer_words / 2 { operand } else { all };
    Ok(Accesses {
        a: once_if_small(product("words", &[m, k])?, sram.a),
        b: once_if_small(product("words", &[k, n])?, sram.b),
        c: sram.c,
    })
}

impl MatrixEngine for Systolic {
    fn gemm_cycles(&self, rows: u64, inner: u64, cols: u64) -> Result<u64> {
        Ok(self.cost(rows, inner, cols)?.cycles)
    }

    fn peak_macs(&self) -> Result<u64> {
        product("peak macs", &[positive("rows", self.rows.into())?, positive("cols", self.cols.into())?])
    }
}
