//! Functional models: encoders, a Vision Transformer with the names of Hugging Face, and a wrapper with a head per task.
mod cnn;
pub(crate) mod heads;
mod mlp;
mod multi_task;
mod vit;

pub use cnn::{Cnn, CnnConfig, CnnPooling};
pub use mlp::Mlp;
pub use multi_task::MultiTask;
pub use vit::{Pooling, Vit, VitClassifier, VitConfig, rename_timm};
