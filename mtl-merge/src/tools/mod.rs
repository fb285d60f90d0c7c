//! What one wants to know about checkpoints before and after a merge, and grids of merges.
use crate::{
    Error, Result,
    engine::{
        lora::LoraSource,
        source::{FileSource, Source},
    },
};
use std::path::Path;

mod diff;
mod grid;
mod inspect;
mod pareto;

pub use diff::{Diff, ShapeDiff, TensorDiff, Tolerance, diff};
pub use grid::{Axis, grid};
pub use inspect::{ModelStats, TensorStats, ValueStats, inspect};
pub use pareto::pareto_front;

/// Opens a checkpoint, or `checkpoint+adapter`; `role` is for the message if that fails.
pub(crate) fn open(role: &str, model: &str) -> Result<Box<dyn Source>> {
    let file = |path: &str| {
        FileSource::open(Path::new(path)).map_err(|source| Error::Open { role: role.to_owned(), source })
    };
    match model.split_once('+') {
        Some((path, adapter)) if !Path::new(model).exists() => {
            Ok(Box::new(LoraSource::open(Box::new(file(path)?), Path::new(adapter))?))
        }
        _ => Ok(Box::new(file(model)?)),
    }
}
