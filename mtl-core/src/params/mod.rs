//! Parameter files: safetensors read by memory map and checked, written atomically; sharded checkpoints.
//!
//! [`ParamStore`] opens whatever holds a model: one file, or a directory with a file or with shards and their index.
//! [`ParamFile`] is one file. [`write_params`] writes tensors that are all at hand, [`ParamWriter`] one after the
//! other. Whatever is read was checked first: a file that is damaged, or something else altogether, is refused as a
//! whole with an error that says what it is.
//!
//! The payload of safetensors is little-endian; a file with swapped bytes cannot be told from a sound one.
pub mod convert;
mod dtype;
mod file;
mod header;
mod index;
mod mmap;
mod scatter;
pub(crate) mod sniff;
mod store;
mod write;

pub use dtype::Dtype;
pub use file::ParamFile;
pub use header::{MAX_HEADER_BYTES, TensorInfo};
pub use mmap::guard_mapped_files;
pub use scatter::ParamScatter;
pub use store::ParamStore;
pub use write::{ParamSpec, ParamView, ParamWriter, file_order, write_params};

#[cfg(test)]
mod tests;
