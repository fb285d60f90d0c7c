//! Checks of skills, by words and punctuation alone.

/// A text in sentences, clauses and words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Text {
    raw: String,
    /// The mark at its end (a blank if there is none), and the words in lower case by clause.
    sentences: Vec<(char, Vec<Vec<String>>)>,
}

impl Text {
    /// Parses a text: sentences end at `. ? !`, clauses also at `; ,`; words are runs of letters, digits and apostrophes.
    pub fn new(raw: &str) -> Self {
        let mut sentences = Vec::new();
        for part in raw.split_inclusive(['.', '?', '!']) {
            let end = part.chars().next_back().filter(|c| matches!(c, '.' | '?' | '!')).unwrap_or(' ');
            let clauses: Vec<Vec<String>> =
                part.split([';', ',']).map(words).filter(|c| !c.is_empty()).collect();
            if !clauses.is_empty() {
                sentences.push((end, clauses));
            }
        }
        Self { raw: raw.to_owned(), sentences }
    }

    /// Number of sentences.
    pub fn sentences(&self) -> usize {
        self.sentences.len()
    }

    /// All words, in lower case.
    pub fn words(&self) -> impl Iterator<Item = &str> {
        self.clauses().flatten().map(String::as_str)
    }

    fn clauses(&self) -> impl Iterator<Item = &Vec<String>> {
        self.sentences.iter().flat_map(|(_, clauses)| clauses)
    }

    fn has(&self, list: &[&str]) -> bool {
        self.words().any(|w| list.contains(&w))
    }

    /// Whether `two` holds for two clauses that follow each other.
    fn neighbours(&self, two: impl Fn(&[String], &[String]) -> bool) -> bool {
        let clauses: Vec<&Vec<String>> = self.clauses().collect();
        clauses.iter().zip(clauses.iter().skip(1)).any(|(a, b)| two(a, b))
    }

    /// Whether a clause has the words, with anything that passes `gap` where the pattern has an empty word.
    fn phrase(&self, pattern: &[&str]) -> bool {
        let fits = |found: &[String]| found.iter().zip(pattern).all(|(w, p)| p.is_empty() || w == p);
        self.clauses().any(|c| c.windows(pattern.len()).any(fits))
    }

    /// Whether a sentence begins with the word and goes on after a comma.
    fn opens(&self, word: &str) -> bool {
        let opens =
            |clauses: &Vec<Vec<String>>| clauses.first().and_then(|c| c.first()).is_some_and(|w| w == word);
        self.sentences.iter().any(|(_, clauses)| clauses.len() > 1 && opens(clauses))
    }

    /// Whether there is text with two words or more between the marks.
    fn between(&self, open: char, close: char) -> bool {
        let Some((_, rest)) = self.raw.split_once(open) else { return false };
        rest.split_once(close).is_some_and(|(inner, _)| words(inner).len() >= 2)
    }

    /// Whether the text names the thing.
    pub(super) fn names(&self, name: &str) -> bool {
        let wanted: Vec<&str> = name.split(' ').collect();
        let all: Vec<&str> = self.words().collect();
        all.windows(wanted.len()).any(|w| w == wanted)
    }
}

fn words(text: &str) -> Vec<String> {
    let parts = text.split(|c: char| !(c.is_alphanumeric() || c == '\''));
    parts.map(|w| w.trim_matches('\'').to_lowercase()).filter(|w| !w.is_empty()).collect()
}

pub(super) fn alliteration(text: &Text) -> bool {
    let same = |w: &[String]| {
        let first: Vec<Option<char>> = w.iter().map(|w| w.chars().next()).collect();
        first.windows(2).all(|p| p.first() == p.last()) && first.iter().flatten().all(|c| c.is_alphabetic())
    };
    // The same word thrice is repetition.
    text.clauses().any(|c| c.windows(3).any(|w| same(w) && w.first() != w.last()))
}

pub(super) fn rhyme(text: &Text) -> bool {
    let ending = |w: &str| w.len().checked_sub(3).and_then(|at| w.get(at..)).map(str::to_owned);
    text.neighbours(|a, b| match (a.last(), b.last()) {
        (Some(x), Some(y)) => x != y && x.len() > 3 && y.len() > 3 && ending(x) == ending(y),
        _ => false,
    })
}

pub(super) fn repetition(text: &Text) -> bool {
    let all: Vec<&str> = text.words().collect();
    all.windows(3).any(|w| w.iter().all(|x| Some(x) == w.first()))
}

pub(super) fn onomatopoeia(text: &Text) -> bool {
    text.has(&[
        "bang", "buzz", "hiss", "boom", "splash", "click", "woof", "meow", "clang", "tick", "thud", "whoosh",
    ])
}

pub(super) fn simile(text: &Text) -> bool {
    text.phrase(&["like", "a"]) || text.phrase(&["like", "an"]) || text.phrase(&["as", "", "as"])
}

pub(super) fn anaphora(text: &Text) -> bool {
    text.neighbours(|a, b| a.len() > 2 && b.len() > 2 && a.get(..2) == b.get(..2))
}

pub(super) fn epistrophe(text: &Text) -> bool {
    text.neighbours(|a, b| a.len() > 1 && b.len() > 1 && a.last() == b.last())
}

pub(super) fn chiasmus(text: &Text) -> bool {
    // Articles and the like may come in any order: they are no key words.
    let key = |w: &str| w.len() > 2 && !["the", "and", "that", "this", "are", "for", "with"].contains(&w);
    text.neighbours(|a, b| {
        let place = |word: &str| b.iter().position(|w| w == word);
        let shared: Vec<usize> = a.iter().filter(|w| key(w)).filter_map(|w| place(w)).collect();
        matches!((shared.first(), shared.last()), (Some(first), Some(last)) if first > last)
    })
}

pub(super) fn question(text: &Text) -> bool {
    text.sentences.iter().any(|(end, _)| *end == '?')
}

pub(super) fn exclamation(text: &Text) -> bool {
    text.sentences.iter().any(|(end, _)| *end == '!')
}

pub(super) fn imperative(text: &Text) -> bool {
    const COMMANDS: [&str; 10] =
        ["bring", "take", "carry", "show", "send", "give", "lead", "look", "keep", "remember"];
    let first = |clauses: &[Vec<String>]| clauses.first().and_then(|c| c.first()).cloned();
    text.sentences
        .iter()
        .any(|(end, c)| *end != '?' && first(c).is_some_and(|w| COMMANDS.contains(&w.as_str())))
}

pub(super) fn past_tense(text: &Text) -> bool {
    const IRREGULAR: [&str; 10] =
        ["was", "were", "went", "grew", "fell", "saw", "came", "stood", "sang", "ran"];
    const OTHER: [&str; 8] = ["seaweed", "seed", "need", "feed", "speed", "indeed", "hundred", "weed"];
    text.words().any(|w| IRREGULAR.contains(&w) || w.len() > 4 && w.ends_with("ed") && !OTHER.contains(&w))
}

pub(super) fn superlative(text: &Text) -> bool {
    const OTHER: [&str; 8] =
        ["forest", "guest", "request", "interest", "honest", "modest", "harvest", "tempest"];
    text.words().any(|w| w.len() > 5 && w.ends_with("est") && !OTHER.contains(&w))
        || text.has(&["best", "worst"])
        || text.phrase(&["the", "most"])
}

pub(super) fn parenthesis(text: &Text) -> bool {
    text.between('(', ')')
}

pub(super) fn quotation(text: &Text) -> bool {
    text.between('"', '"')
}

pub(super) fn negation(text: &Text) -> bool {
    text.has(&["not", "never", "no", "nobody", "nothing", "cannot"])
        || text.words().any(|w| w.ends_with("n't"))
}

pub(super) fn cause(text: &Text) -> bool {
    text.clauses().any(|c| c.iter().position(|w| w == "because").is_some_and(|at| at > 1 && c.len() > at + 2))
}

pub(super) fn condition(text: &Text) -> bool {
    text.opens("if")
}

pub(super) fn concession(text: &Text) -> bool {
    text.opens("although") || text.opens("though")
}

pub(super) fn contrast(text: &Text) -> bool {
    let inside = |words: Vec<&String>| {
        words.iter().position(|w| *w == "but").is_some_and(|at| at > 1 && words.len() > at + 2)
    };
    text.sentences.iter().any(|(_, clauses)| inside(clauses.iter().flatten().collect()))
}

pub(super) fn comparative(text: &Text) -> bool {
    let degree = |w: &str| w.ends_with("er") || ["better", "worse", "less"].contains(&w);
    text.clauses().any(|c| {
        c.windows(2).any(|w| matches!(w, [a, b] if b == "than" && degree(a)))
            || c.windows(3).any(|w| matches!(w, [a, _, b] if (a == "more" || a == "less") && b == "than"))
    })
}

pub(super) fn number_word(text: &Text) -> bool {
    text.has(&[
        "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve", "twenty",
        "hundred", "thousand",
    ])
}

pub(super) fn colour_word(text: &Text) -> bool {
    text.has(&[
        "red", "blue", "green", "yellow", "white", "black", "brown", "purple", "grey", "orange", "pink",
    ])
}

pub(super) fn time_expression(text: &Text) -> bool {
    text.has(&["today", "tomorrow", "yesterday", "tonight", "now", "soon", "always", "daily"])
        || text.phrase(&["every", "day"])
        || text.phrase(&["every", "morning"])
        || text.phrase(&["at", "noon"])
        || text.phrase(&["in", "winter"])
}

pub(super) fn spatial_preposition(text: &Text) -> bool {
    text.has(&["under", "above", "behind", "between", "beneath", "inside", "below", "over"])
}

pub(super) fn hedge(text: &Text) -> bool {
    text.has(&["perhaps", "maybe", "possibly", "probably", "apparently"])
}

pub(super) fn list_of_three(text: &Text) -> bool {
    // a, b and c: a comma, then a short clause with `and` inside it.
    text.sentences.iter().any(|(_, clauses)| {
        clauses
            .iter()
            .skip(1)
            .any(|c| c.iter().position(|w| w == "and").is_some_and(|at| (1..=3).contains(&at)))
    }) && text.raw.contains(',')
}
