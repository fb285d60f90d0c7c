//! The folder around the tensors: `config.json`, tokenizer and generation files, the recipe, a model card.
mod card;
mod config;
mod extras;
mod layers;
mod write;

pub(crate) use config::ModelConfig;
pub(crate) use extras::{Extras, TokenizerFiles};
pub(crate) use layers::{LayerSource, Stacked};
pub(crate) use write::write;
