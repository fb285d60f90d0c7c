//! Words: tokens after the conventions of the Penn Treebank, and word counts.
use super::WordTokenizer;

/// Tokens after the conventions of the Penn Treebank.
///
/// White space separates. Brackets, quotation marks, `; @ # $ % & ? ! *`, dashes `--` and runs of dots are tokens of their
/// own; so are commas and colons before anything but a digit. The endings `'s 'm 'd 'll 're 've n't` are parted from their
/// word. A full stop stays with its word: it changes no word's case.
///
/// ```
/// use mtl_bench::formats::if_eval::{TreebankWords, WordTokenizer};
///
/// assert_eq!(TreebankWords.tokens("I'M (NOT) 1,000, DON'T"), ["I", "'M", "(", "NOT", ")", "1,000", ",", "DO", "N'T"]);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct TreebankWords;

impl WordTokenizer for TreebankWords {
    fn tokens<'t>(&self, text: &'t str) -> Vec<&'t str> {
        let mut tokens = Vec::new();
        for chunk in text.split_whitespace() {
            let mut start = 0;
            let mut rest = chunk.char_indices().peekable();
            while let Some((at, c)) = rest.next() {
                let next = rest.peek().map(|(_, c)| *c);
                let mut end = at + c.len_utf8();
                if is_run(c) && next == Some(c) {
                    while let Some((i, _)) = rest.next_if(|(_, n)| *n == c) {
                        end = i + c.len_utf8();
                    }
                } else if !(is_alone(c)
                    || matches!(c, ',' | ':') && !next.is_some_and(|n| n.is_ascii_digit()))
                {
                    continue;
                }
                word(chunk.get(start..at), &mut tokens);
                tokens.extend(chunk.get(at..end));
                start = end;
            }
            word(chunk.get(start..), &mut tokens);
        }
        tokens
    }
}

/// Characters that are one token when there are several of them.
fn is_run(c: char) -> bool {
    matches!(c, '.' | '-' | '`' | '\'')
}

fn is_alone(c: char) -> bool {
    matches!(
        c,
        '(' | ')' | '[' | ']' | '{' | '}' | '<' | '>' | '"' | '“' | '”' | '„' | '«' | '»' | '‘' | '’' | '`'
    ) || matches!(c, ';' | '@' | '#' | '$' | '%' | '&' | '?' | '!' | '*')
}

/// Adds a word, its contracted ending apart.
fn word<'t>(word: Option<&'t str>, tokens: &mut Vec<&'t str>) {
    const ENDINGS: [&str; 7] = ["n't", "'ll", "'re", "'ve", "'s", "'m", "'d"];
    let Some(word) = word.filter(|w| !w.is_empty()) else { return };
    let split = ENDINGS.iter().find_map(|ending| {
        let (stem, tail) = word.split_at_checked(word.len().checked_sub(ending.len())?)?;
        (!stem.is_empty() && tail.eq_ignore_ascii_case(ending)).then_some((stem, tail))
    });
    match split {
        Some((stem, tail)) => tokens.extend([stem, tail]),
        None => tokens.push(word),
    }
}

/// Number of words of a text in this language (ISO 639-1), if it is known.
///
/// In Chinese and Japanese every ideograph, kana, hangul syllable and emoji is one word, and so is what white space separates
/// of the rest without punctuation. Thai writes no spaces between words, and no dictionary is at hand: the count is one word
/// for every 4 Thai letters (marks left out), rounded up per run, and so an estimate. Elsewhere a word is a run of letters,
/// digits and underscores; as in Python, combining marks end it.
///
/// ```
/// use mtl_bench::formats::if_eval::count_words;
///
/// assert_eq!(count_words("don't stop", Some("en")), 3);
/// assert_eq!(count_words("你好，世界 GPU 2", Some("zh")), 6);
/// ```
pub fn count_words(text: &str, language: Option<&str>) -> usize {
    match language {
        Some("zh" | "ja") => {
            let rest: String = text
                .chars()
                .filter(|&c| !is_punctuation(c))
                .map(|c| if is_ideographic(c) || is_emoji(c) { ' ' } else { c })
                .collect();
            text.chars().filter(|&c| is_ideographic(c) || is_emoji(c)).count()
                + rest.split_whitespace().count()
        }
        Some("th") => {
            let runs = text.split(|c| !is_thai(c)).filter(|run| !run.is_empty());
            let thai: usize = runs.map(|r| r.chars().filter(|c| c.is_alphabetic()).count().div_ceil(4)).sum();
            thai + runs_of_word_characters(&text.replace(is_thai, " "))
        }
        _ => runs_of_word_characters(text),
    }
}

fn runs_of_word_characters(text: &str) -> usize {
    text.split(|c| !is_word_character(c)).filter(|run| !run.is_empty()).count()
}

/// Letters, numbers and the underscore, without the marks that Unicode counts as alphabetic.
fn is_word_character(c: char) -> bool {
    c == '_' || c.is_alphanumeric() && !is_alphabetic_mark(c)
}

/// Dependent vowel signs of Indic and South-East Asian scripts, Arabic and Hebrew vowel points.
fn is_alphabetic_mark(c: char) -> bool {
    let c = c as u32;
    match c {
        0x0345 | 0x05B0..=0x05C7 | 0x0610..=0x061A | 0x064B..=0x065F | 0x0670 | 0x06D6..=0x06ED => {
            !matches!(c, 0x06E5 | 0x06E6 | 0x06EE | 0x06EF)
        }
        // The nine Indic blocks from Devanagari to Malayalam share their layout.
        0x0900..=0x0D7F => {
            matches!(c % 0x80, 0x00..=0x03 | 0x3A | 0x3B | 0x3E..=0x4F | 0x55..=0x57 | 0x62 | 0x63)
                && !matches!(
                    c,
                    0x0950 | 0x0AD0 | 0x0B83 | 0x0C80 | 0x0D3A | 0x0D4E | 0x0D4F | 0x0D54..=0x0D56 | 0x0904
                )
        }
        0x0E31 | 0x0E34..=0x0E3A | 0x0E4D => true,
        0x102B..=0x103E => true,
        _ => false,
    }
}

fn is_thai(c: char) -> bool {
    ('\u{e00}'..='\u{e7f}').contains(&c)
}

fn is_ideographic(c: char) -> bool {
    matches!(c, '\u{3041}'..='\u{30fa}' | '\u{30fc}'..='\u{30ff}' | '\u{31f0}'..='\u{31ff}' | '\u{3400}'..='\u{4dbf}'
        | '\u{4e00}'..='\u{9fff}' | '\u{ac00}'..='\u{d7a3}' | '\u{f900}'..='\u{faff}' | '\u{20000}'..='\u{323af}')
}

fn is_emoji(c: char) -> bool {
    matches!(c, '\u{1f300}'..='\u{1f64f}' | '\u{1f680}'..='\u{1f6ff}' | '\u{1f900}'..='\u{1faff}'
        | '\u{2600}'..='\u{27bf}' | '\u{1f1e6}'..='\u{1f1ff}')
}

fn is_punctuation(c: char) -> bool {
    c.is_ascii_punctuation()
        || matches!(c, '\u{2010}'..='\u{2027}' | '\u{2030}'..='\u{205e}' | '\u{3001}'..='\u{3003}'
            | '\u{3008}'..='\u{3011}' | '\u{3014}'..='\u{301f}' | '\u{30fb}' | '\u{ff01}'..='\u{ff0f}'
            | '\u{ff1a}'..='\u{ff20}' | '\u{ff3b}'..='\u{ff40}' | '\u{ff5b}'..='\u{ff65}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_follow_the_treebank() {
        for (text, tokens) in [
            ("A:B, C... D--E", vec!["A", ":", "B", ",", "C", "...", "D", "--", "E"]),
            ("IT'S \"DONE\"!", vec!["IT", "'S", "\"", "DONE", "\"", "!"]),
            ("10:30 U.S. well-known DON’T", vec!["10:30", "U.S.", "well-known", "DON", "’", "T"]),
            ("  ", vec![]),
        ] {
            assert_eq!(TreebankWords.tokens(text), tokens);
        }
    }

    #[test]
    fn words_are_counted_by_language() {
        assert_eq!(count_words("a_b c-d é", None), 4);
        assert_eq!(count_words("今日は、Rust 1.80 を学ぶ😀。", Some("ja")), 3 + 2 + 3 + 1);
        assert_eq!(count_words("ภาษาไทย GPU", Some("th")), 3);
        // Each vowel sign ends a run: क-ि-त-ा-ब.
        assert_eq!(count_words("किताब", Some("hi")), 3);
    }
}
