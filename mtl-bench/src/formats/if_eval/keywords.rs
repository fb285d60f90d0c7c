//! `keywords:*`: words and letters that must or must not occur.
use super::arguments::{Arguments, pattern};
use super::build::Rule;
use crate::{Error, Result};

pub(super) fn existence(arguments: &Arguments<'_>) -> Result<Rule> {
    let words = arguments.texts("keywords")?;
    let build = |word: &&str| pattern("keywords", &arguments.part(word), true);
    let patterns = words.iter().map(build).collect::<Result<Vec<_>>>()?;
    Ok(Box::new(move |text, _| patterns.iter().all(|p| p.is_match(text))))
}

pub(super) fn frequency(arguments: &Arguments<'_>) -> Result<Rule> {
    // White space around the keyword does not belong to it.
    let word = pattern("keyword", &arguments.part(arguments.text("keyword")?.trim()), true)?;
    let (relation, number) = (arguments.relation("relation")?, arguments.count("frequency")?);
    Ok(Box::new(move |text, _| relation.holds(word.find_iter(text).count(), number)))
}

pub(super) fn forbidden_words(arguments: &Arguments<'_>) -> Result<Rule> {
    let words = arguments.texts("forbidden_words")?;
    let build = |word: &&str| pattern("forbidden_words", &format!(r"\b{}\b", arguments.part(word)), true);
    let patterns = words.iter().map(build).collect::<Result<Vec<_>>>()?;
    Ok(Box::new(move |text, _| !patterns.iter().any(|p| p.is_match(text))))
}

pub(super) fn letter_frequency(arguments: &Arguments<'_>) -> Result<Rule> {
    let letter = arguments.text("letter")?.trim().to_lowercase();
    if letter.chars().count() != 1 {
        return Err(Error::argument("letter", "a single character", format!("`{letter}`")));
    }
    let (relation, number) = (arguments.relation("let_relation")?, arguments.count("let_frequency")?);
    Ok(Box::new(move |text, _| relation.holds(text.to_lowercase().matches(&letter).count(), number)))
}
