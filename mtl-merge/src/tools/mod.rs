//! Tools beside merging: adapters out of fine-tuned models, mixtures of experts out of dense ones.
pub mod extract_lora;
mod folder;
mod model;
pub mod moe;
mod shards;
