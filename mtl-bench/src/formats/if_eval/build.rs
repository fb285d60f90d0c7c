//! Verifiers by name.
use super::arguments::Arguments;
use super::context::TextContext;
use super::{case, combination, content, format, keywords, length};
use crate::{Error, Result};
use serde_json::{Map, Value};
use std::fmt;

/// Decides whether a response follows one instruction.
pub trait Verifier: fmt::Debug + Send + Sync {
    /// Name of the kind, such as `punctuation:no_comma`.
    fn id(&self) -> &'static str;

    /// Whether the response, as it is, follows the instruction. A blank response follows none.
    fn check(&self, response: &str, context: &TextContext<'_>) -> bool;
}

/// What a kind decides of a response that is not blank.
pub(super) type Rule = Box<dyn Fn(&str, &TextContext<'_>) -> bool + Send + Sync>;

/// Makes the rule of a kind from arguments.
pub(super) type Make = fn(&Arguments<'_>) -> Result<Rule>;

struct Named {
    id: &'static str,
    rule: Rule,
}

impl fmt::Debug for Named {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Verifier").field("id", &self.id).finish_non_exhaustive()
    }
}

impl Verifier for Named {
    fn id(&self) -> &'static str {
        self.id
    }

    fn check(&self, response: &str, context: &TextContext<'_>) -> bool {
        !response.trim().is_empty() && (self.rule)(response, context)
    }
}

/// The 25 kinds of IFEval, and after them 5 that M-IFEval adds.
const KINDS: [(&str, Make); 30] = [
    ("keywords:existence", keywords::existence),
    ("keywords:frequency", keywords::frequency),
    ("keywords:forbidden_words", keywords::forbidden_words),
    ("keywords:letter_frequency", keywords::letter_frequency),
    ("language:response_language", case::response_language),
    ("length_constraints:number_sentences", length::number_sentences),
    ("length_constraints:number_paragraphs", length::number_paragraphs),
    ("length_constraints:number_words", length::number_words),
    ("length_constraints:nth_paragraph_first_word", length::nth_paragraph_first_word),
    ("detectable_content:number_placeholders", content::number_placeholders),
    ("detectable_content:postscript", content::postscript),
    ("detectable_format:number_bullet_lists", format::number_bullet_lists),
    ("detectable_format:constrained_response", format::constrained_response),
    ("detectable_format:number_highlighted_sections", format::number_highlighted_sections),
    ("detectable_format:multiple_sections", format::multiple_sections),
    ("detectable_format:json_format", format::json_format),
    ("detectable_format:title", format::title),
    ("combination:two_responses", combination::two_responses),
    ("combination:repeat_prompt", combination::repeat_prompt),
    ("startend:end_checker", combination::end_checker),
    ("startend:quotation", combination::quotation),
    ("change_case:capital_word_frequency", case::capital_word_frequency),
    ("change_case:english_capital", case::english_capital),
    ("change_case:english_lowercase", case::english_lowercase),
    ("punctuation:no_comma", content::no_comma),
    ("change_case:french_capital", case::french_capital),
    ("change_case:french_lowercase", case::french_lowercase),
    ("change_case:spanish_capital", case::spanish_capital),
    ("change_case:spanish_lowercase", case::spanish_lowercase),
    ("detectable_content:no_digits", content::no_digits),
];

/// Names of the 25 kinds of IFEval and Multi-IF.
pub const IDS: [&str; 25] = {
    let mut ids = [""; 25];
    let mut i = 0;
    while i < ids.len() {
        ids[i] = KINDS[i].0;
        i += 1;
    }
    ids
};

/// Builds verifiers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Builder {
    /// Take keywords, splitters and markers literally; by default they are regular expressions, as published.
    pub literal_keywords: bool,
}

impl Builder {
    /// The verifier of the kind `id`, whose arguments may be absent where the kind needs none.
    ///
    /// A language in front, as in M-IFEval's `fr:punctuation:no_comma`, does not matter.
    ///
    /// # Errors
    ///
    /// [`mtl_core::Error::Unknown`] for another kind; [`Error::Argument`] for an argument that is missing, negative, of
    /// another type or no regular expression.
    pub fn build(&self, id: &str, kwargs: &Map<String, Value>) -> Result<Box<dyn Verifier>> {
        let bare = match id.split_once(':') {
            Some((language, rest)) if language.len() == 2 => rest,
            _ => id,
        };
        let Some((id, make)) = KINDS.iter().find(|(known, _)| *known == bare) else {
            let known = KINDS.iter().map(|(known, _)| *known);
            return Err(Error::Core(mtl_core::Error::unknown("instruction", bare, known)));
        };
        let rule = make(&Arguments { values: kwargs, literal: self.literal_keywords })?;
        Ok(Box::new(Named { id, rule }))
    }
}

/// The verifier of the kind `id` with these arguments, whose keywords are regular expressions.
///
/// ```
/// use mtl_bench::formats::if_eval::{TextContext, build};
///
/// let kwargs = serde_json::json!({"num_words": 3, "relation": "less than"});
/// let short = build("length_constraints:number_words", kwargs.as_object().expect("an object"))?;
/// assert!(short.check("two words", &TextContext::default()));
/// assert!(!short.check("no, three words", &TextContext::default()));
///
/// let error = build("punctuation:no_coma", &Default::default()).unwrap_err().to_string();
/// assert_eq!(error, "unknown instruction `punctuation:no_coma`; did you mean `punctuation:no_comma`?");
/// # Ok::<(), mtl_bench::Error>(())
/// ```
///
/// # Errors
///
/// As [`Builder::build`].
pub fn build(id: &str, kwargs: &Map<String, Value>) -> Result<Box<dyn Verifier>> {
    Builder::default().build(id, kwargs)
}
