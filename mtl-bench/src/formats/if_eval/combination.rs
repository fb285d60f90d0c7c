//! `combination:*` and `startend:*`: the shape of the response as a whole.
use super::arguments::Arguments;
use super::build::Rule;
use crate::Result;

/// Two different responses separated by six asterisks.
pub(super) fn two_responses(_: &Arguments<'_>) -> Result<Rule> {
    Ok(Box::new(|text, _| {
        let parts: Vec<&str> = text.split("******").map(str::trim).collect();
        let inner_blank =
            parts.iter().enumerate().any(|(i, p)| p.is_empty() && i != 0 && i + 1 != parts.len());
        let filled: Vec<&&str> = parts.iter().filter(|p| !p.is_empty()).collect();
        !inner_blank && matches!(filled.as_slice(), [a, b] if a != b)
    }))
}

pub(super) fn repeat_prompt(arguments: &Arguments<'_>) -> Result<Rule> {
    let prompt = arguments.text("prompt_to_repeat")?.trim().to_lowercase();
    Ok(Box::new(move |text, _| text.trim().to_lowercase().starts_with(&prompt)))
}

pub(super) fn end_checker(arguments: &Arguments<'_>) -> Result<Rule> {
    let phrase = arguments.text("end_phrase")?.trim().to_lowercase();
    Ok(Box::new(move |text, _| text.trim().trim_matches('"').to_lowercase().ends_with(&phrase)))
}

pub(super) fn quotation(_: &Arguments<'_>) -> Result<Rule> {
    const PAIRS: [(char, char); 3] = [('"', '"'), ('“', '”'), ('「', '」')];
    Ok(Box::new(|text, _| {
        let text = text.trim();
        let ends = |(open, close): &(char, char)| text.starts_with(*open) && text.ends_with(*close);
        text.chars().nth(1).is_some() && PAIRS.iter().any(ends)
    }))
}
