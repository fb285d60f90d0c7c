//! Instructions that programs can verify: Zhou et al., *Instruction-Following Evaluation for Large Language Models*
//! (IFEval), arXiv 2311.07911; over turns and languages He et al., *Multi-IF*, arXiv 2410.15553.
//!
//! A prompt carries instructions of 25 kinds, each a name such as `punctuation:no_comma` and arguments; [`build`] makes the
//! [`Verifier`] of one. A response is judged strictly, as it is, and loosely, with usual decoration removed ([`loose`]). In
//! the conversations of Multi-IF every turn adds instructions and the earlier ones stay in force; [`evaluate`] lets a system
//! answer turn by turn and [`Report`] says how accuracy falls and what was forgotten.
//!
//! # Departures
//!
//! - Where the published checkers draw missing or negative numbers at random, and replace a `letter` outside a–z by a random
//!   one, such arguments are errors here, and the letter is counted as it is.
//! - A keyword that is no valid regular expression is an error, unless [`Builder::literal_keywords`] takes all of them
//!   literally. Patterns run in linear time, so look-around and back-references are not valid.
//! - Sentences, words and languages are found by this crate's own rules ([`RuleSentences`], [`TreebankWords`]) and by
//!   trigrams ([`Trigrams`]) in place of Punkt, NLTK and langdetect; others can be put into a [`TextContext`].
mod arguments;
mod build;
mod case;
mod combination;
mod content;
mod context;
mod evaluate;
mod format;
mod keywords;
mod language;
mod length;
mod load;
mod report;
mod sentences;
mod words;

pub use arguments::Relation;
pub use build::{Builder, IDS, Verifier, build};
pub use context::{LanguageId, SentenceSplitter, TextContext, WordTokenizer};
pub use evaluate::{Options, evaluate, judge, loose, strict};
pub use language::Trigrams;
pub use load::{Conversation, Instruction, Turn, read_ifeval, read_multi_if};
pub use report::{Judged, Mode, Report, Share};
pub use sentences::RuleSentences;
pub use words::{TreebankWords, count_words};
