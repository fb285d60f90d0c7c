//! Kinds of prompts.
mod no_prompt;
mod visual_prompt_tuning;

pub use no_prompt::NoPromptConfig;
pub use visual_prompt_tuning::VisualPromptTuningConfig;

use mtl_core::{
    Result, Seed, StateDict,
    registry::{Entry, Registry},
};
use std::fmt::Debug;

/// What a prompt must know of the model it is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Frame {
    /// Number of layers.
    pub layers: usize,
    /// Width of a token.
    pub dim: i64,
    /// Numbers in one patch: channels × patch height × patch width.
    pub patch_values: i64,
}

/// A kind of prompt: which parameters it adds, and how they start.
pub trait PromptModule: Debug {
    /// Fresh parameters under the names that the model looks for, none requiring gradients yet.
    ///
    /// # Errors
    ///
    /// [`mtl_core::Error::Config`] when a hyper-parameter is outside its range.
    fn init(&self, frame: &Frame, seed: Seed) -> Result<StateDict>;
}

/// Every kind of prompt of this crate, in the order of the documentation.
pub const PROMPTS: &[Entry<dyn PromptModule>] = &[no_prompt::ENTRY, visual_prompt_tuning::ENTRY];

/// Registry of [`PROMPTS`]; add your own rows with [`Registry::with`].
pub fn registry() -> Registry<dyn PromptModule> {
    Registry::new(PROMPTS)
}
