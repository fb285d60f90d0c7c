//! The grammar: writes texts, and accepts those that it could have written.
use super::{Catalogue, Combo, Text};
use crate::{Error, Result};
use mtl_core::Seed;
use rand::RngExt;
use regex::Regex;

/// Classes of words other than the topics' nouns.
const CLASSES: [(&str, &[&str]); 17] = [
    ("verb", &["waits", "moves", "shines", "rests", "turns", "changes", "helps", "returns"]),
    ("adjective", &["quiet", "old", "small", "gentle", "strange", "clever", "warm", "proud"]),
    (
        "alliteration",
        &["wild winds whisper", "seven silver swans sleep", "bright birds bounce", "tall trees tremble"],
    ),
    ("rhyme", &["night; they wait for light", "spring; they hear us sing", "rain; they take the train"]),
    ("often", &["again again again", "on on on", "round round round"]),
    ("noise", &["bang", "buzz", "boom", "splash", "click", "clang", "thud", "whoosh"]),
    ("start", &["here again", "once more", "far away"]),
    ("command", &["bring", "take", "carry", "show", "send"]),
    ("past", &["waited", "rested", "turned", "stood", "sang", "went"]),
    ("superlative", &["smallest", "oldest", "proudest", "strangest", "warmest"]),
    ("comparative", &["older", "smaller", "warmer", "prouder", "stranger"]),
    ("number", &["two", "three", "five", "seven", "twelve"]),
    ("colour", &["red", "blue", "green", "yellow", "purple"]),
    ("time", &["every morning", "tomorrow", "today", "at noon", "in winter"]),
    ("place", &["under", "above", "behind", "inside", "over"]),
    ("hedge", &["perhaps", "maybe", "possibly", "probably"]),
    ("saying", &["welcome home", "good evening", "come along"]),
];

fn class(name: &str) -> &'static [&'static str] {
    CLASSES.iter().find(|(n, _)| *n == name).map_or(&[], |(_, words)| words)
}

/// Pieces of a frame: text and the names of slots, in turn.
fn pieces(frame: &str) -> impl Iterator<Item = (&str, Option<&str>)> {
    frame.split('}').map(|part| match part.split_once('{') {
        Some((text, slot)) => (text, Some(slot)),
        None => (part, None),
    })
}

/// A text that shows the skills of a combination: one sentence for each, in their order.
///
/// The draw depends on the seed and the combination only.
///
/// ```
/// use mtl_bench::formats::skill_mix::{Catalogue, Combo, Grader, Rubric, write};
///
/// let catalogue = Catalogue::default();
/// let combo = Combo::new(&catalogue, &["question", "hedge"], "music")?;
/// let text = write(&catalogue, &combo, mtl_core::Seed(0))?;
/// assert!(Rubric::new(&catalogue)?.grade(&combo, &text, 0)?.full_marks());
/// # Ok::<(), mtl_bench::Error>(())
/// ```
///
/// # Errors
///
/// [`Error::Argument`] for a combination that is not of this catalogue.
pub fn write(catalogue: &Catalogue, combo: &Combo, seed: Seed) -> Result<String> {
    combo.check(catalogue)?;
    let mut rng = seed.fork(&combo.id(catalogue)).stream("skill-mix-text", 0);
    let nouns = catalogue.topics.get(combo.topic).map_or(&[][..], |t| &t.words[..]);
    let mut text = String::new();
    for skill in combo.skills.iter().filter_map(|&s| catalogue.skills.get(s)) {
        let mut sentence = String::new();
        let (mut used_nouns, mut used): (Vec<&str>, Vec<(&str, &str)>) = (Vec::new(), Vec::new());
        for (literal, slot) in pieces(skill.frame) {
            sentence.push_str(literal);
            let word = match slot {
                None => continue,
                Some("=noun1") => used_nouns.first().copied(),
                Some("=noun2") => used_nouns.get(1).copied(),
                Some("noun") => {
                    let left: Vec<&str> = nouns.iter().copied().filter(|n| !used_nouns.contains(n)).collect();
                    let word = left.get(rng.random_range(0..left.len().max(1))).copied();
                    used_nouns.extend(word);
                    word
                }
                Some(name) => match name.strip_prefix('=') {
                    Some(same) => used.iter().find(|(n, _)| *n == same).map(|(_, w)| *w),
                    None => {
                        let words = class(name);
                        let word = words.get(rng.random_range(0..words.len().max(1))).copied();
                        used.extend(word.map(|w| (name, w)));
                        word
                    }
                },
            };
            sentence.push_str(word.unwrap_or_default());
        }
        if !text.is_empty() {
            text.push(' ');
        }
        let mut letters = sentence.chars();
        text.extend(letters.next().into_iter().flat_map(char::to_uppercase));
        text.push_str(letters.as_str());
    }
    Ok(text)
}

/// Accepts the sentences of the grammar, with the nouns of all topics.
#[derive(Debug, Clone)]
pub struct Grammar {
    sentences: Regex,
}

impl Grammar {
    /// Compiles the grammar of a catalogue.
    ///
    /// # Errors
    ///
    /// [`Error::Argument`] for an empty catalogue or one too large to compile.
    pub fn new(catalogue: &Catalogue) -> Result<Self> {
        if catalogue.skills.is_empty() || catalogue.topics.is_empty() {
            return Err(Error::argument("catalogue", "at least one skill and one topic", "empty"));
        }
        let choice = |words: &mut dyn Iterator<Item = &str>| {
            format!("(?:{})", words.map(regex::escape).collect::<Vec<_>>().join("|"))
        };
        let nouns = choice(&mut catalogue.topics.iter().flat_map(|t| t.words));
        let mut frames = Vec::new();
        for skill in &catalogue.skills {
            let mut pattern = String::new();
            for (literal, slot) in pieces(skill.frame) {
                pattern.push_str(&regex::escape(literal));
                match slot.map(|s| s.trim_start_matches('=').trim_end_matches(char::is_numeric)) {
                    None => {}
                    Some("noun") => pattern.push_str(&nouns),
                    Some(name) => pattern.push_str(&choice(&mut class(name).iter().copied())),
                }
            }
            frames.push(pattern);
        }
        let pattern = format!(r"(?i)\A\s*(?:(?:{})(?:\s+|\z))+\z", frames.join("|"));
        let built = regex::RegexBuilder::new(&pattern).size_limit(1 << 27).build();
        let sentences = built.map_err(|e| Error::argument("catalogue", "small enough to compile", e))?;
        Ok(Self { sentences })
    }

    /// Whether every sentence of the text is one of the grammar.
    pub fn accepts(&self, text: &str) -> bool {
        Text::new(text).sentences() > 0 && self.sentences.is_match(text)
    }
}
