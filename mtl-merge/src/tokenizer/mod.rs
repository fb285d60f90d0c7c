//! Vocabularies of models: which embedding rows a merge takes, and the tokenizer and chat template it writes.
//!
//! Nothing here touches weights. [`plan_vocabulary`] compares the vocabularies of a recipe's models, and
//! [`VocabPlan::mapping`] says row by row where the re-indexed embedding of each model is from.

mod chat;
mod config;
mod document;
mod mapping;
mod output;
mod plan;
mod vocabulary;

pub use chat::{CHAT_TEMPLATES, chat_template_of, resolve_chat_template};
pub use config::{TokenConfig, TokenEmbedding, TokenizerConfig, VocabularySource};
pub use mapping::RowSource;
pub use output::{OutputFile, SIDE_FILES, copied_files};
pub use plan::{ModelVocabulary, VocabPlan, plan_vocabulary};
pub use vocabulary::{AddedToken, Vocabulary};
