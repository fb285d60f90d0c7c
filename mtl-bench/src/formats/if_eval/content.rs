//! `detectable_content:*` and `punctuation:*`: what a text must or must not contain.
use super::arguments::{Arguments, pattern};
use super::build::Rule;
use crate::Result;

pub(super) fn number_placeholders(arguments: &Arguments<'_>) -> Result<Rule> {
    let (relation, number) =
        (arguments.relation_or_at_least("relation")?, arguments.count("num_placeholders")?);
    let brackets = pattern("num_placeholders", r"\[.*?\]", false)?;
    Ok(Box::new(move |text, _| relation.holds(brackets.find_iter(text).count(), number)))
}

pub(super) fn postscript(arguments: &Arguments<'_>) -> Result<Rule> {
    const NAME: &str = "postscript_marker";
    let marker = match arguments.text(NAME)? {
        "P.P.S" => pattern(NAME, r"p\.\s?p\.\s?s", false)?,
        "P.S." => pattern(NAME, r"p\.\s?s\.", false)?,
        other => pattern(NAME, &arguments.part(&other.trim().to_lowercase()), false)?,
    };
    // The published pattern goes on with anything up to the line's end, which always matches.
    Ok(Box::new(move |text, _| marker.is_match(&text.to_lowercase())))
}

pub(super) fn no_comma(_: &Arguments<'_>) -> Result<Rule> {
    Ok(Box::new(|text, _| !text.contains(',')))
}

/// Of M-IFEval.
pub(super) fn no_digits(_: &Arguments<'_>) -> Result<Rule> {
    let digit = pattern("no_digits", r"\d", false)?;
    Ok(Box::new(move |text, _| !digit.is_match(text)))
}
