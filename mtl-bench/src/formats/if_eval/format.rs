//! `detectable_format:*`: lists, highlights, sections, titles, JSON.
use super::arguments::{Arguments, pattern};
use super::build::Rule;
use crate::Result;
use serde::de::IgnoredAny;

pub(super) fn number_bullet_lists(arguments: &Arguments<'_>) -> Result<Rule> {
    const NAME: &str = "num_bullets";
    let number = arguments.count(NAME)?;
    // `\s*` may run over line ends, as published.
    let star = pattern(NAME, r"^\s*\*[^\*].*$", false)?;
    let dash = pattern(NAME, r"^\s*-.*$", false)?;
    Ok(Box::new(move |text, _| star.find_iter(text).count() + dash.find_iter(text).count() == number))
}

pub(super) fn constrained_response(_: &Arguments<'_>) -> Result<Rule> {
    const OPTIONS: [&str; 3] = ["My answer is yes.", "My answer is no.", "My answer is maybe."];
    Ok(Box::new(|text, _| OPTIONS.iter().any(|o| text.contains(o))))
}

pub(super) fn number_highlighted_sections(arguments: &Arguments<'_>) -> Result<Rule> {
    const NAME: &str = "num_highlights";
    let (relation, number) = (arguments.relation_or_at_least("relation")?, arguments.count(NAME)?);
    let single = pattern(NAME, r"\*[^\n\*]*\*", false)?;
    let double = pattern(NAME, r"\*\*[^\n\*]*\*\*", false)?;
    Ok(Box::new(move |text, _| {
        let filled = |found: &regex::Match<'_>| !found.as_str().trim_matches('*').trim().is_empty();
        let count =
            single.find_iter(text).filter(filled).count() + double.find_iter(text).filter(filled).count();
        relation.holds(count, number)
    }))
}

pub(super) fn multiple_sections(arguments: &Arguments<'_>) -> Result<Rule> {
    const NAME: &str = "section_spliter";
    let (relation, number) = (arguments.relation_or_at_least("relation")?, arguments.count("num_sections")?);
    let splitter = arguments.part(arguments.text(NAME)?.trim());
    let header = pattern(NAME, &format!(r"\s?{splitter}\s?\d+\s?"), false)?;
    Ok(Box::new(move |text, _| relation.holds(header.find_iter(text).count(), number)))
}

pub(super) fn json_format(_: &Arguments<'_>) -> Result<Rule> {
    Ok(Box::new(|text, _| {
        let mut text = text.trim();
        for fence in ["```json", "```Json", "```JSON", "```"] {
            text = text.strip_prefix(fence).unwrap_or(text);
        }
        let text = text.strip_suffix("```").unwrap_or(text).trim();
        serde_json::from_str::<IgnoredAny>(text).is_ok()
    }))
}

pub(super) fn title(_: &Arguments<'_>) -> Result<Rule> {
    let title = pattern("title", r"<<[^\n]+>>", false)?;
    Ok(Box::new(move |text, _| {
        let inner =
            |m: regex::Match<'_>| !m.as_str().trim_start_matches('<').trim_end_matches('>').trim().is_empty();
        title.find_iter(text).any(inner)
    }))
}
