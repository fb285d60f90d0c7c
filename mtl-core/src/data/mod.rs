//! Data: loaders of the files it lies in (IDX, CSV) and, with tensors, splits, samplers and task suites.
pub mod csv;
#[cfg(feature = "torch")]
mod dataset;
pub mod idx;
#[cfg(feature = "torch")]
mod sampler;
mod samples;
#[cfg(feature = "torch")]
mod suite;

pub use samples::{RawValues, Samples};
#[cfg(feature = "torch")]
pub use {
    dataset::{Normalize, TensorDataset},
    sampler::{EpochSampler, Stage, TaskMixture},
    suite::{
        Experience, JointSuite, LabelledImages, OverlaidPairs, Response, StreamKind, SyntheticRegression,
        TaskStream,
    },
};
