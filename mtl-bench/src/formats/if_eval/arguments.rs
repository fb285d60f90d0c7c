//! Arguments of instructions.
use crate::{Error, Result};
use regex::{Regex, RegexBuilder};
use serde_json::{Map, Value};

/// How a count must stand to the number asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Relation {
    /// That many or more.
    AtLeast,
    /// Fewer.
    LessThan,
    /// That many or fewer.
    AtMost,
}

impl Relation {
    const WORDS: [(&'static str, Self); 7] = [
        ("at least", Self::AtLeast),
        ("less than", Self::LessThan),
        ("au moins", Self::AtLeast),
        ("moins de", Self::LessThan),
        ("al menos", Self::AtLeast),
        ("como máximo", Self::AtMost),
        ("以上", Self::AtLeast),
    ];

    /// Reads a relation as IFEval, Multi-IF and M-IFEval (French, Spanish, Japanese) write it.
    ///
    /// ```
    /// use mtl_bench::formats::if_eval::Relation;
    ///
    /// assert_eq!(Relation::parse("moins de"), Some(Relation::LessThan));
    /// assert_eq!(Relation::parse("about"), None);
    /// ```
    pub fn parse(text: &str) -> Option<Self> {
        if text == "未満" {
            return Some(Self::LessThan);
        }
        Self::WORDS.iter().find(|(word, _)| *word == text).map(|(_, relation)| *relation)
    }

    /// Whether `count` stands in this relation to `number`.
    pub fn holds(self, count: usize, number: usize) -> bool {
        match self {
            Self::AtLeast => count >= number,
            Self::LessThan => count < number,
            Self::AtMost => count <= number,
        }
    }
}

/// The arguments of one instruction; `null` is as good as absent.
pub(super) struct Arguments<'a> {
    pub(super) values: &'a Map<String, Value>,
    pub(super) literal: bool,
}

impl Arguments<'_> {
    fn get(&self, name: &'static str) -> Option<&Value> {
        self.values.get(name).filter(|v| !v.is_null())
    }

    fn wrong(&self, name: &'static str, must: &str) -> Error {
        Error::argument(name, must, self.get(name).map_or_else(|| "missing".to_owned(), Value::to_string))
    }

    pub(super) fn count(&self, name: &'static str) -> Result<usize> {
        let value = self.get(name);
        // Tables made by statistics packages write counts as 3.0.
        let whole = |f: f64| (f.fract() == 0.0 && (0.0..1e9).contains(&f)).then_some(f as u64);
        let count = value.and_then(|v| v.as_u64().or_else(|| v.as_f64().and_then(whole)));
        let count = count.and_then(|c| usize::try_from(c).ok());
        count.ok_or_else(|| self.wrong(name, "a whole number of at least 0"))
    }

    /// A position, counted from 1.
    pub(super) fn position(&self, name: &'static str) -> Result<usize> {
        match self.count(name)? {
            0 => Err(self.wrong(name, "a whole number of at least 1")),
            n => Ok(n),
        }
    }

    pub(super) fn text(&self, name: &'static str) -> Result<&str> {
        let text = self.get(name).and_then(Value::as_str).filter(|t| !t.trim().is_empty());
        text.ok_or_else(|| self.wrong(name, "a text that is not blank"))
    }

    pub(super) fn texts(&self, name: &'static str) -> Result<Vec<&str>> {
        let must = "a list of texts that are not blank";
        let list = self.get(name).and_then(Value::as_array).filter(|l| !l.is_empty());
        let list = list.ok_or_else(|| self.wrong(name, must))?;
        let one = |v: &'_ Value| v.as_str().is_some_and(|t| !t.trim().is_empty());
        if !list.iter().all(one) {
            return Err(self.wrong(name, must));
        }
        Ok(list.iter().filter_map(Value::as_str).collect())
    }

    pub(super) fn relation(&self, name: &'static str) -> Result<Relation> {
        let found = self.get(name).and_then(Value::as_str).and_then(Relation::parse);
        found.ok_or_else(|| {
            self.wrong(name, "`at least` or `less than`, or the same in the prompt's language")
        })
    }

    /// A relation that only M-IFEval gives; IFEval means "at least".
    pub(super) fn relation_or_at_least(&self, name: &'static str) -> Result<Relation> {
        if self.get(name).is_none() { Ok(Relation::AtLeast) } else { self.relation(name) }
    }

    /// A user's text as a part of a pattern: a regular expression, or the text itself.
    pub(super) fn part(&self, text: &str) -> String {
        if self.literal { regex::escape(text) } else { text.to_owned() }
    }
}

/// Compiles a pattern that came from the argument `name`.
pub(super) fn pattern(name: &'static str, pattern: &str, ignore_case: bool) -> Result<Regex> {
    let built = RegexBuilder::new(pattern).case_insensitive(ignore_case).multi_line(true).build();
    built.map_err(|e| {
        let reason = e.to_string();
        let reason = reason.lines().last().unwrap_or_default().trim_start_matches("error: ").to_owned();
        Error::argument(name, "a valid regular expression", format!("`{pattern}`: {reason}"))
    })
}
