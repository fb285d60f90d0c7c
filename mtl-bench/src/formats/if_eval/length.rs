//! `length_constraints:*`: numbers of words, sentences and paragraphs.
use super::arguments::{Arguments, pattern};
use super::build::Rule;
use super::words::count_words;
use crate::Result;

pub(super) fn number_sentences(arguments: &Arguments<'_>) -> Result<Rule> {
    let (relation, number) = (arguments.relation("relation")?, arguments.count("num_sentences")?);
    Ok(Box::new(move |text, context| {
        relation.holds(context.sentences.count(text, context.language.detect(text)), number)
    }))
}

pub(super) fn number_words(arguments: &Arguments<'_>) -> Result<Rule> {
    let (relation, number) = (arguments.relation("relation")?, arguments.count("num_words")?);
    Ok(Box::new(move |text, context| {
        relation.holds(count_words(text, context.language.detect(text)), number)
    }))
}

/// Paragraphs are separated by `***`; an empty one inside fails.
pub(super) fn number_paragraphs(arguments: &Arguments<'_>) -> Result<Rule> {
    let number = arguments.count("num_paragraphs")?;
    let separator = pattern("num_paragraphs", r"\s?\*\*\*\s?", false)?;
    Ok(Box::new(move |text, _| {
        let blank: Vec<bool> = separator.split(text).map(|part| part.trim().is_empty()).collect();
        let outer = |i: usize| i == 0 || i + 1 == blank.len();
        let inner_blank = blank.iter().enumerate().any(|(i, &b)| b && !outer(i));
        !inner_blank && blank.iter().filter(|b| !**b).count() == number
    }))
}

/// Paragraphs are separated by a blank line.
pub(super) fn nth_paragraph_first_word(arguments: &Arguments<'_>) -> Result<Rule> {
    let number = arguments.count("num_paragraphs")?;
    let nth = arguments.position("nth_paragraph")?;
    let word = arguments.text("first_word")?.to_lowercase();
    Ok(Box::new(move |text, _| {
        let paragraphs: Vec<&str> = text.split("\n\n").collect();
        let filled = paragraphs.iter().filter(|p| !p.trim().is_empty()).count();
        // The position counts blank parts, the number of paragraphs does not.
        let Some(token) = paragraphs.get(nth - 1).and_then(|p| p.split_whitespace().next()) else {
            return false;
        };
        let token = token.trim_start_matches('\'').trim_start_matches('"');
        let found = token.split(['.', ',', '?', '!', '\'', '"']).next().unwrap_or_default();
        nth <= filled && filled == number && found.to_lowercase() == word
    }))
}
