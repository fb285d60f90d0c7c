//! `change_case:*` and `language:*`: upper and lower case, and the language.
use super::arguments::Arguments;
use super::build::Rule;
use super::context::TextContext;
use super::language::same;
use crate::Result;

/// Whether the text is in the language, or in none that can be told.
fn speaks(text: &str, language: &str, context: &TextContext<'_>) -> bool {
    context.language.detect(text).is_none_or(|found| same(found, language))
}

pub(super) fn response_language(arguments: &Arguments<'_>) -> Result<Rule> {
    let language = arguments.text("language")?.to_owned();
    Ok(Box::new(move |text, context| speaks(text, &language, context)))
}

pub(super) fn capital_word_frequency(arguments: &Arguments<'_>) -> Result<Rule> {
    let (relation, number) = (arguments.relation("capital_relation")?, arguments.count("capital_frequency")?);
    Ok(Box::new(move |text, context| {
        let capitals = context.words.tokens(text).into_iter().filter(|t| is_upper(t)).count();
        relation.holds(capitals, number)
    }))
}

fn capital(language: &'static str) -> Result<Rule> {
    Ok(Box::new(move |text, context| is_upper(text) && speaks(text, language, context)))
}

fn lowercase(language: &'static str) -> Result<Rule> {
    Ok(Box::new(move |text, context| is_lower(text) && speaks(text, language, context)))
}

pub(super) fn english_capital(_: &Arguments<'_>) -> Result<Rule> {
    capital("en")
}

pub(super) fn english_lowercase(_: &Arguments<'_>) -> Result<Rule> {
    lowercase("en")
}

pub(super) fn french_capital(_: &Arguments<'_>) -> Result<Rule> {
    capital("fr")
}

pub(super) fn french_lowercase(_: &Arguments<'_>) -> Result<Rule> {
    lowercase("fr")
}

pub(super) fn spanish_capital(_: &Arguments<'_>) -> Result<Rule> {
    capital("es")
}

pub(super) fn spanish_lowercase(_: &Arguments<'_>) -> Result<Rule> {
    lowercase("es")
}

/// Whether there is an upper-case character and no lower-case or title-case one.
fn is_upper(text: &str) -> bool {
    text.chars().any(char::is_uppercase) && !text.chars().any(|c| c.is_lowercase() || is_title(c))
}

/// Whether there is a lower-case character and no upper-case or title-case one.
fn is_lower(text: &str) -> bool {
    text.chars().any(char::is_lowercase) && !text.chars().any(|c| c.is_uppercase() || is_title(c))
}

/// Unicode's category Lt: digraphs and Greek letters with iota whose first half is a capital.
fn is_title(c: char) -> bool {
    matches!(c,
        'ǅ' | 'ǈ' | 'ǋ' | 'ǲ' | '\u{1f88}'..='\u{1f8f}' | '\u{1f98}'..='\u{1f9f}'
        | '\u{1fa8}'..='\u{1faf}' | '\u{1fbc}' | '\u{1fcc}' | '\u{1ffc}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn case_needs_one_cased_character_and_none_of_the_other_case() {
        assert!(is_upper("A1 B") && !is_upper("12") && !is_upper("Ab") && !is_upper("Aǅ"));
        assert!(is_lower("a1 b") && !is_lower("12") && !is_lower("aB") && !is_lower("aǅ"));
        assert!(!is_upper("日本") && !is_lower("日本"));
    }
}
