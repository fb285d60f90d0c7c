//! What one wants to know about checkpoints before and after a merge, grids of merges, adapters out of fine-tuned models,
//! mixtures of experts out of dense ones.
use crate::{
    Error, ModelRef, Result,
    engine::{
        lora::LoraSource,
        source::{FileSource, Source},
    },
};
use std::path::Path;

mod diff;
pub mod extract_lora;
mod folder;
mod grid;
mod inspect;
mod model;
pub mod moe;
mod pareto;
mod shards;

pub use diff::{Diff, ShapeDiff, TensorDiff, Tolerance, diff};
pub use grid::{Axis, grid};
pub use inspect::{ModelStats, TensorStats, ValueStats, inspect};
pub use pareto::pareto_front;

/// Opens a checkpoint, or `checkpoint+adapter`; `role` is for the message if that fails.
pub(crate) fn open(role: &str, model: &str) -> Result<Box<dyn Source>> {
    let file =
        |path: &Path| FileSource::open(path).map_err(|source| Error::Open { role: role.to_owned(), source });
    if Path::new(model).exists() {
        return Ok(Box::new(file(Path::new(model))?)); // Whatever characters its name has.
    }
    let place = |error: Error| match error {
        Error::Recipe { message, .. } => Error::Recipe { path: role.to_owned(), message },
        error => Error::Recipe { path: role.to_owned(), message: error.to_string() },
    };
    let parsed = ModelRef::parse(model).map_err(place)?;
    let source = file(&parsed.locate(Path::new("")).map_err(place)?)?;
    match parsed.locate_lora(Path::new("")).map_err(place)? {
        Some(adapter) => Ok(Box::new(LoraSource::open(Box::new(source), &adapter)?)),
        None => Ok(Box::new(source)),
    }
}
