//! The TOML of a grid as typed tables that remember their lines.
use super::{Cell, protocol::tell_error};
use mtl_core::{Error, Result, registry};
use serde::Deserialize;
use serde_json::{Map, Value};
use std::collections::{BTreeMap, BTreeSet};
use toml::Spanned;

/// Larger grid files are a mistake.
const MAX_BYTES: usize = 1 << 20;

/// A grid file: its tables, not yet multiplied out.
#[derive(Debug)]
pub(super) struct Source {
    name: String,
    pub(super) seeds: Vec<u64>,
    pub(super) seeds_line: usize,
    pub(super) defaults: Keys,
    pub(super) kinds: BTreeMap<String, Keys>,
    pub(super) prerequisites: BTreeMap<String, Keys>,
    pub(super) grid: Vec<Keys>,
}

/// One table of the file, its keys in the order they are written.
#[derive(Debug, Default)]
pub(super) struct Keys {
    pub(super) line: usize,
    pub(super) needs: Vec<String>,
    pub(super) inherit: Vec<String>,
    /// How many of the study's seeds its cells run with; all unless given.
    pub(super) first_seeds: Option<usize>,
    rows: Vec<Row>,
}

#[derive(Debug)]
struct Row {
    key: String,
    line: usize,
    /// The values it takes in turn: several where an array spans.
    choices: Vec<Value>,
}

type RawTable = Spanned<BTreeMap<String, Spanned<toml::Value>>>;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Raw {
    seeds: Spanned<Vec<u64>>,
    defaults: Option<RawTable>,
    #[serde(default)]
    kinds: BTreeMap<String, RawTable>,
    #[serde(default)]
    prerequisites: BTreeMap<String, RawTable>,
    #[serde(default)]
    grid: Vec<RawTable>,
}

/// Where a table stands decides which keys are reserved in it and whether arrays span.
#[derive(Clone, Copy, PartialEq)]
enum Place {
    Defaults,
    Prerequisite,
    Grid,
}

impl Source {
    pub(super) fn parse(name: &str, text: &str) -> Result<Self> {
        if text.len() > MAX_BYTES {
            return Err(Error::format(
                name,
                format!("has {} bytes, but a grid has at most {MAX_BYTES}", text.len()),
            ));
        }
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        let reader = Reader { name, text };
        let raw: Raw = toml::from_str(text).map_err(|e| {
            let line = e.span().map_or(1, |span| reader.line(span.start));
            reader.error(line, suggest(e.message()))
        })?;
        let tables = |tables: BTreeMap<String, RawTable>, place| {
            tables
                .into_iter()
                .map(|(name, table)| Ok((name, reader.keys(table, place)?)))
                .collect::<Result<_>>()
        };
        Ok(Self {
            name: name.to_owned(),
            seeds_line: reader.line(raw.seeds.span().start),
            seeds: raw.seeds.into_inner(),
            defaults: raw
                .defaults
                .map_or(Ok(Keys::default()), |table| reader.keys(table, Place::Defaults))?,
            kinds: tables(raw.kinds, Place::Defaults)?,
            prerequisites: tables(raw.prerequisites, Place::Prerequisite)?,
            grid: raw.grid.into_iter().map(|table| reader.keys(table, Place::Grid)).collect::<Result<_>>()?,
        })
    }

    /// An error about a line of the file.
    pub(super) fn error(&self, line: usize, message: impl AsRef<str>) -> Error {
        located(&self.name, line, message.as_ref())
    }

    /// The prerequisite called `name`, which a table in `line` needs.
    pub(super) fn prerequisite(&self, name: &str, line: usize) -> Result<&Keys> {
        self.prerequisites.get(name).ok_or_else(|| {
            let unknown = Error::unknown("prerequisite", name, self.prerequisites.keys().map(String::as_str));
            self.error(line, unknown.to_string())
        })
    }

    /// Refuses a `[kinds.…]` table that no cell is of.
    pub(super) fn check_kinds<'a>(&self, used: impl Iterator<Item = &'a str>) -> Result<()> {
        let mut known: BTreeSet<&str> = used.collect();
        known.extend(self.prerequisites.values().flat_map(Keys::kinds));
        match self.kinds.iter().find(|(kind, _)| !known.contains(kind.as_str())) {
            Some((kind, keys)) => {
                let unknown = Error::unknown("kind", kind, known);
                Err(self.error(keys.line, format!("[kinds.{kind}] fits no cell: {unknown}")))
            }
            None => Ok(()),
        }
    }

    /// All tables with keys of cells.
    pub(super) fn tables(&mut self) -> impl Iterator<Item = &mut Keys> {
        let named = self.kinds.values_mut().chain(self.prerequisites.values_mut());
        std::iter::once(&mut self.defaults).chain(named).chain(&mut self.grid)
    }

    /// The tables in which an array has no meaning.
    pub(super) fn fixed_tables(&self) -> impl Iterator<Item = &Keys> {
        std::iter::once(&self.defaults).chain(self.kinds.values()).chain(self.prerequisites.values())
    }

    /// The error of a study about one cell, with the line of the key it is about and the nearest known key.
    pub(crate) fn locate(name: &str, cell: &Cell, error: &anyhow::Error) -> Error {
        let text = suggest(&tell_error(error));
        let keys = text.split('`').skip(1).step_by(2).chain(text.split([':', '.', '[']).take(1));
        let line = keys.filter_map(|key| cell.lines.get(key)).next();
        let message = format!("{text} (cell `{}`)", cell.label());
        match line {
            Some(&line) => located(name, line, &message),
            None => Error::format(name, message),
        }
    }
}

impl Keys {
    /// The key's line, or the table's.
    pub(super) fn line_of(&self, key: &str) -> usize {
        self.rows.iter().find(|row| row.key == key).map_or(self.line, |row| row.line)
    }

    /// Each key with the values it takes.
    pub(super) fn choices(&self) -> impl Iterator<Item = (&String, &[Value])> {
        self.rows.iter().map(|row| (&row.key, row.choices.as_slice()))
    }

    /// Each key with its one value, for tables that do not span.
    pub(super) fn literals(&self) -> impl Iterator<Item = (&String, &Value)> {
        self.rows.iter().filter_map(|row| Some((&row.key, row.choices.first()?)))
    }

    /// The kinds of its cells.
    pub(super) fn kinds(&self) -> impl Iterator<Item = &str> {
        let rows = self.rows.iter().filter(|row| row.key == "kind");
        rows.flat_map(|row| &row.choices).filter_map(Value::as_str)
    }

    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.rows.iter().map(|row| row.key.as_str())
    }

    /// Replaces the values of `key`; `false` when the table has no such key.
    pub(super) fn replace(&mut self, key: &str, choices: &[Value]) -> bool {
        match self.rows.iter_mut().find(|row| row.key == key) {
            Some(row) => {
                row.choices = choices.to_vec();
                true
            }
            None => false,
        }
    }

    /// Adds `key` or replaces its values.
    pub(super) fn put(&mut self, key: &str, choices: &[Value]) {
        if !self.replace(key, choices) {
            self.rows.push(Row { key: key.to_owned(), line: self.line, choices: choices.to_vec() });
        }
    }
}

struct Reader<'a> {
    name: &'a str,
    text: &'a str,
}

impl Reader<'_> {
    fn line(&self, offset: usize) -> usize {
        1 + self.text.as_bytes().iter().take(offset).filter(|&&byte| byte == b'\n').count()
    }

    fn error(&self, line: usize, message: impl AsRef<str>) -> Error {
        located(self.name, line, message.as_ref())
    }

    fn keys(&self, table: RawTable, place: Place) -> Result<Keys> {
        let mut keys = Keys { line: self.line(table.span().start), ..Keys::default() };
        let mut entries: Vec<_> = table.into_inner().into_iter().collect();
        entries.sort_by_key(|(_, value)| value.span().start);
        for (key, value) in entries {
            let line = self.line(value.span().start);
            let value = value.into_inner();
            match (key.as_str(), place) {
                ("kind" | "needs" | "inherit", Place::Defaults)
                | ("inherit", Place::Grid)
                | ("first_seeds", Place::Defaults | Place::Prerequisite) => {
                    return Err(self.error(line, format!("`{key}` has no meaning in this table")));
                }
                ("needs", _) => keys.needs = self.names(&key, value, line)?,
                ("first_seeds", _) => {
                    let count = value.as_integer().and_then(|n| usize::try_from(n).ok()).filter(|n| *n > 0);
                    let Some(count) = count else {
                        return Err(self.error(line, "`first_seeds` must be a number of at least 1"));
                    };
                    keys.first_seeds = Some(count);
                }
                ("inherit", _) => keys.inherit = self.names(&key, value, line)?,
                _ => {
                    let choices =
                        choices(&key, value, place == Place::Grid).map_err(|m| self.error(line, m))?;
                    keys.rows.push(Row { key, line, choices });
                }
            }
        }
        Ok(keys)
    }

    fn names(&self, key: &str, value: toml::Value, line: usize) -> Result<Vec<String>> {
        value.try_into().map_err(|_| self.error(line, format!("`{key}` must be an array of names")))
    }
}

/// The values a key takes: the elements of an array where arrays span, otherwise the one value.
pub(super) fn choices(key: &str, value: toml::Value, spans: bool) -> Result<Vec<Value>, String> {
    match value {
        toml::Value::Array(_) if !spans => Err(format!(
            "`{key}` is an array, which spans the grid only in a [[grid]] table; \
             write `{{ list = [...] }}` for a literal list"
        )),
        toml::Value::Array(items) if items.is_empty() => Err(format!("`{key}` must list at least one value")),
        toml::Value::Array(items) => items.into_iter().map(|item| literal(key, item)).collect(),
        toml::Value::Table(mut table) if table.len() == 1 && table.contains_key("list") => {
            match table.remove("list") {
                Some(list @ toml::Value::Array(_)) => Ok(vec![literal(key, list)?]),
                _ => Err(format!("`{key}.list` must be an array")),
            }
        }
        other => Ok(vec![literal(key, other)?]),
    }
}

fn literal(key: &str, value: toml::Value) -> Result<Value, String> {
    Ok(match value {
        toml::Value::String(text) => Value::String(text),
        toml::Value::Integer(number) => Value::from(number),
        toml::Value::Float(number) if number.is_finite() => Value::from(number),
        toml::Value::Float(number) => {
            return Err(format!("`{key}` must be a finite number, but is {number}"));
        }
        toml::Value::Boolean(flag) => Value::Bool(flag),
        toml::Value::Datetime(date) => return Err(format!("`{key}` is the date {date}; write it in quotes")),
        toml::Value::Array(items) => {
            Value::Array(items.into_iter().map(|item| literal(key, item)).collect::<Result<_, _>>()?)
        }
        toml::Value::Table(table) => {
            let entries = table.into_iter().map(|(name, item)| Ok((name, literal(key, item)?)));
            Value::Object(entries.collect::<Result<Map<_, _>, String>>()?)
        }
    })
}

fn located(name: &str, line: usize, message: &str) -> Error {
    Error::format(name, format!("line {line}: {message}"))
}

/// Adds "did you mean" to serde's "unknown field `a`, expected one of `b`, `c`".
pub(super) fn suggest(message: &str) -> String {
    let message = message.lines().collect::<Vec<_>>().join(" ");
    let Some((_, rest)) =
        message.split_once("unknown field `").or_else(|| message.split_once("unknown variant `"))
    else {
        return message;
    };
    let mut names = rest.split('`').step_by(2);
    let unknown = names.next().unwrap_or_default();
    let known = rest.split('`').skip(2).step_by(2);
    match registry::nearest(unknown, known) {
        Some(near) => format!("{message}; did you mean `{near}`?"),
        None => message,
    }
}
