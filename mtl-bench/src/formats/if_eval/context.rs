//! What verifiers need to know about languages.
use super::{RuleSentences, TreebankWords, Trigrams};
use std::fmt;

/// Tells the language of a text.
pub trait LanguageId: fmt::Debug + Sync {
    /// Code of ISO 639-1, such as `en`; `None` when the text does not say, as numbers do not.
    fn detect(&self, text: &str) -> Option<&'static str>;
}

/// Counts sentences.
pub trait SentenceSplitter: fmt::Debug + Sync {
    /// Number of sentences of a text in this language (ISO 639-1), if it is known.
    fn count(&self, text: &str, language: Option<&str>) -> usize;
}

/// Splits text into words and punctuation.
pub trait WordTokenizer: fmt::Debug + Sync {
    /// The tokens.
    fn tokens<'t>(&self, text: &'t str) -> Vec<&'t str>;
}

/// The tools that verifiers use; by default those of this crate.
#[derive(Debug, Clone, Copy)]
pub struct TextContext<'a> {
    /// Tells the language.
    pub language: &'a dyn LanguageId,
    /// Counts sentences.
    pub sentences: &'a dyn SentenceSplitter,
    /// Finds words.
    pub words: &'a dyn WordTokenizer,
}

impl Default for TextContext<'_> {
    fn default() -> Self {
        Self { language: &Trigrams, sentences: &RuleSentences, words: &TreebankWords }
    }
}
