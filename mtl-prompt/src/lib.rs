//! Prompt tuning: a frozen model, and a few learned vectors that steer it.
//!
//! A prompt is a set of parameters under names that the model looks for ([`prompts`]); laid over the frozen parameters
//! with [`mtl_core::source::Overlay`] it needs no model of its own. [`PromptTuning`] trains prompts and heads and leaves
//! the rest untouched.
//!
//! ```
//! use mtl_core::Seed;
//! use mtl_prompt::prompts::{Frame, registry};
//!
//! let frame = Frame { layers: 4, dim: 64, patch_values: 16 };
//! let config = serde_json::json!({ "tokens": 5, "deep": true });
//! let prompt = registry().build("visual-prompt-tuning", config)?;
//! let params = prompt.init(&frame, Seed(0))?;
//! assert_eq!(params.numel(), 4 * 5 * 64); // against some 200 000 of the model
//! # Ok::<(), mtl_core::Error>(())
//! ```
pub mod prompts;
mod tuning;

pub use tuning::PromptTuning;
