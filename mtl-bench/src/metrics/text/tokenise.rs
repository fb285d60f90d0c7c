//! Tokenisers of BLEU: Post, *A Call for Clarity in Reporting BLEU Scores*, WMT 2018, arXiv 1804.08771 (sacreBLEU).
use serde::{Deserialize, Serialize};

/// How text becomes tokens; say which one a BLEU score used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Tokeniser {
    /// `mteval-v13a`, the default of WMT and sacreBLEU.
    #[default]
    #[serde(rename = "13a")]
    V13a,
    /// White space only.
    None,
    /// Every character but white space is a token.
    Char,
}

impl Tokeniser {
    /// Tokens of `text`.
    ///
    /// ```
    /// use mtl_bench::metrics::text::Tokeniser;
    ///
    /// assert_eq!(Tokeniser::V13a.tokens("A 3.5%, b."), ["A", "3.5", "%", ",", "b", "."]);
    /// ```
    pub fn tokens(self, text: &str) -> Vec<String> {
        let text = text.trim_end();
        match self {
            Self::V13a => v13a(text).split_whitespace().map(str::to_owned).collect(),
            Self::None => text.split_whitespace().map(str::to_owned).collect(),
            Self::Char => text.chars().filter(|c| !c.is_whitespace()).map(String::from).collect(),
        }
    }
}

fn v13a(text: &str) -> String {
    let mut text = text.replace("<skipped>", "").replace("-\n", "").replace('\n', " ");
    for (entity, character) in [("&quot;", "\""), ("&amp;", "&"), ("&lt;", "<"), ("&gt;", ">")] {
        text = text.replace(entity, character);
    }
    let mut spaced = String::with_capacity(text.len() * 2);
    for c in format!(" {text} ").chars() {
        if matches!(c, '{'..='~' | '['..='`' | ' '..='&' | '('..='+' | ':'..='@' | '/') {
            spaced.extend([' ', c, ' ']);
        } else {
            spaced.push(c);
        }
    }
    let point = |c: char| c == '.' || c == ',';
    let other = |c: char| !c.is_ascii_digit();
    let spaced = pairs(&spaced, other, point, |a, b| [a, ' ', b, ' ']);
    let spaced = pairs(&spaced, point, other, |a, b| [' ', a, ' ', b]);
    pairs(&spaced, |c| c.is_ascii_digit(), |c| c == '-', |a, b| [a, ' ', b, ' '])
}

/// Rewrites, from left to right, pairs of characters that do not overlap.
fn pairs(
    text: &str,
    first: impl Fn(char) -> bool,
    second: impl Fn(char) -> bool,
    write: impl Fn(char, char) -> [char; 4],
) -> String {
    let mut out = String::with_capacity(text.len() * 2);
    let mut rest = text.chars().peekable();
    while let Some(a) = rest.next() {
        match rest.peek().copied() {
            Some(b) if first(a) && second(b) => {
                rest.next();
                out.extend(write(a, b));
            }
            _ => out.push(a),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn points_stay_inside_numbers_only() {
        let tokens = |text| Tokeniser::V13a.tokens(text).join(" ");
        assert_eq!(tokens("It's 1,000.5 km... (ca. 3-4)"), "It's 1,000.5 km . . . ( ca . 3 - 4 )");
        assert_eq!(tokens("a &amp; b/c"), "a & b / c");
        assert_eq!(tokens(""), "");
        assert_eq!(Tokeniser::Char.tokens("a b"), ["a", "b"]);
    }
}
