//! Memories of past examples.
mod reservoir;

pub use reservoir::Reservoir;

use mtl_core::{Result, Seed, StateDict};
use std::fmt::Debug;
use tch::Tensor;

/// Examples with what belongs to them, row by row.
#[derive(Debug)]
pub struct Rows {
    /// Inputs, `[rows, …]`.
    pub input: Tensor,
    /// Labels, `[rows]`.
    pub label: Tensor,
    /// Task of each row, `[rows]`.
    pub task: Tensor,
}

/// A memory of bounded size that decides what to keep.
///
/// Chance comes from the seed and the number of the step, so a memory has no generator to save.
pub trait Buffer: Debug + Send {
    /// Offers the rows of one batch, in order.
    ///
    /// # Errors
    ///
    /// [`mtl_core::Error::Shape`] when the inputs have another shape than those before, [`mtl_core::Error::Memory`] when
    /// the machine cannot hold the capacity.
    fn offer(&mut self, rows: &Rows, seed: Seed, step: u64) -> Result<()>;

    /// Draws `n` different rows, or all when there are fewer; `None` while the memory is empty.
    fn draw(&self, n: usize, seed: Seed, step: u64) -> Option<Rows>;

    /// Rows kept.
    fn len(&self) -> usize;

    /// Whether nothing is kept yet.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes of the rows kept.
    fn bytes(&self) -> usize;

    /// The whole content and its counters.
    fn state(&self) -> StateDict;

    /// Becomes what [`state`](Self::state) saw.
    ///
    /// # Errors
    ///
    /// [`mtl_core::Error::Mismatch`] when the state is of a memory of another capacity.
    fn load_state(&mut self, state: &StateDict) -> Result<()>;
}
