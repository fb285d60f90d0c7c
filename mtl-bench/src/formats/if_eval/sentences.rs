//! Sentences by rule.
use super::SentenceSplitter;

/// Counts sentences by rules.
///
/// In languages with the Latin script and all others not named below, a sentence ends at `.`, `?` or `!`, with any closing
/// quotation marks and brackets, before white space; what follows the last end is a sentence if it is not blank. No sentence
/// ends
/// - after an abbreviation such as `Dr.` or `e.g.`, unless it can end a sentence (`etc.`, `Inc.`, `U.S.`) and one starts with a
///   capital after it;
/// - after an initial (`J. Smith`) before a capital;
/// - where the next word starts with a lower-case letter, after a full stop or an ellipsis (but not after `?` and `!`);
/// - within a number (`3.14`), an address (`a.com`) or an ellipsis.
///
/// A number with a full stop before white space, as in a numbered list, ends one, as in Punkt. A line end alone does not.
///
/// Hindi: parts between `।`, `!` and `?`. Chinese and Japanese: per line, runs without `! ? 。 . ！ ？ ．`. Thai: runs between
/// white space, which stands between clauses; an estimate, for without a dictionary sentences cannot be told from clauses.
///
/// ```
/// use mtl_bench::formats::if_eval::{RuleSentences, SentenceSplitter};
///
/// assert_eq!(RuleSentences.count("Dr. J. Smith paid $3.50. \"Why?\" she asked.", Some("en")), 3);
/// assert_eq!(RuleSentences.count("你好。你好吗？", Some("zh")), 2);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RuleSentences;

impl SentenceSplitter for RuleSentences {
    fn count(&self, text: &str, language: Option<&str>) -> usize {
        let filled = |parts: &mut dyn Iterator<Item = &str>| parts.filter(|p| !p.trim().is_empty()).count();
        match language {
            Some("hi") => filled(&mut text.split(['।', '!', '?'])),
            Some("zh" | "ja") => {
                let ends = ['!', '?', '。', '.', '！', '？', '．'];
                text.lines().map(|line| filled(&mut line.split(ends))).sum()
            }
            Some("th") => text.split_whitespace().count(),
            _ => latin(text),
        }
    }
}

/// Abbreviations that stand before what they belong to.
const BEFORE: [&str; 36] = [
    "adm", "ca", "capt", "cf", "col", "dr", "e.g", "eq", "fig", "gen", "gov", "hon", "i.e", "lt", "messrs",
    "mlle", "mme", "mr", "mrs", "ms", "mt", "no", "nos", "p", "pp", "prof", "rep", "rev", "sen", "sgt", "sr",
    "sra", "st", "viz", "vol", "vs",
];

/// Abbreviations after which a sentence may end.
const AFTER: [&str; 40] = [
    "a.d", "a.m", "al", "apr", "aug", "ave", "b.c", "bros", "co", "corp", "d.c", "dec", "dept", "dist",
    "etc", "feb", "ft", "hrs", "inc", "jan", "jr", "lbs", "ltd", "m.d", "mar", "min", "nov", "oct", "oz",
    "p.m", "p.s", "ph.d", "rd", "sept", "sp", "st", "u.k", "u.n", "u.s", "u.s.a",
];

fn latin(text: &str) -> usize {
    let mut words = text.split_whitespace().peekable();
    let (mut sentences, mut open) = (0, false);
    while let Some(word) = words.next() {
        open = true;
        if ends(word, words.peek().copied()) {
            sentences += 1;
            open = false;
        }
    }
    sentences + usize::from(open)
}

/// Whether a sentence ends after `word`.
fn ends(word: &str, next: Option<&str>) -> bool {
    let bare = word.trim_end_matches(|c: char| is_closing(c));
    let (Some(last), Some(next)) = (bare.chars().next_back(), next) else { return false };
    match last {
        '?' | '!' => true,
        '.' => {
            let start = next.trim_start_matches(|c: char| !c.is_alphanumeric()).chars().next();
            if start.is_some_and(char::is_lowercase) {
                return false;
            }
            let capital = start.is_some_and(char::is_uppercase);
            let Some(stem) = bare.strip_suffix('.') else { return false };
            if stem.ends_with('.') {
                return capital; // An ellipsis.
            }
            let stem = stem.trim_start_matches(|c: char| !c.is_alphanumeric()).to_lowercase();
            let mut letters = stem.chars();
            let initial = letters.next().is_some_and(char::is_alphabetic) && letters.next().is_none();
            if initial && stem != "i" && capital || BEFORE.contains(&stem.as_str()) {
                return false;
            }
            !AFTER.contains(&stem.as_str()) || capital
        }
        _ => false,
    }
}

/// Marks that may stand between the end of a sentence and the space after it.
fn is_closing(c: char) -> bool {
    matches!(c, '"' | '\'' | '”' | '’' | '»' | ')' | ']' | '}' | '*' | '_' | '`')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sentences_end_where_the_rules_say() {
        for (text, count) in [
            ("", 0),
            ("One", 1),
            ("One. Two! Three?", 3),
            ("He met Mr. Smith. J. R. Tolkien wrote.", 2),
            ("Pi is 3.14. See a.com now.", 2),
            ("Apples, pears, etc. are fruit. In the U.S. They vote.", 3),
            ("Wait... what? Wait... Now.", 3),
            ("(It rains.) \"Yes!\" he said", 3),
            ("1. One\n2. Two", 3),
            ("a\nb", 1),
        ] {
            assert_eq!(RuleSentences.count(text, Some("en")), count, "{text}");
        }
        assert_eq!(RuleSentences.count("नमस्ते। कैसे हो? ठीक", Some("hi")), 3);
        assert_eq!(RuleSentences.count("はい。いいえ\nたぶん！", Some("ja")), 3);
        assert_eq!(RuleSentences.count("ฉันไป เขามา", Some("th")), 2);
    }
}
