//! What fills a column of a task.
use super::table::{Row, kind};
use crate::formats::document::{Json, Node};
use crate::{Error, Result};
use serde_json::Value;

/// A specification of one column.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Field {
    /// The value of a source column.
    Column(String),
    /// A value inside a source column.
    Path(JsonPath),
    /// The texts of several fields, joined.
    Concat {
        /// The fields.
        parts: Vec<Field>,
        /// Between them; one space by default.
        separator: String,
    },
    /// The same value in each row.
    Constant(Value),
    /// An integer column as an index into names.
    Names {
        /// The source column.
        column: String,
        /// The names.
        names: Vec<String>,
    },
    /// A function upstream, to be registered by the caller.
    Computed,
}

/// A path such as `a.b[0]`: keys of nested objects and indices of lists.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JsonPath {
    text: String,
    steps: Vec<Step>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Step {
    Key(String),
    Index(usize),
}

impl JsonPath {
    /// Parses a path.
    ///
    /// # Errors
    ///
    /// A message for an empty key, an index that is not a number or a bracket without its other half.
    pub fn parse(text: &str) -> Result<Self, String> {
        let bad = |what: &str| format!("`{text}` is no path such as a.b[0]: {what}");
        let mut steps = Vec::new();
        for part in text.split('.') {
            let mut pieces = part.split('[');
            match pieces.next() {
                Some(key) if !key.is_empty() && !key.contains(']') => steps.push(Step::Key(key.to_owned())),
                _ => return Err(bad("a key is empty")),
            }
            for piece in pieces {
                let index = piece.strip_suffix(']').and_then(|i| i.parse().ok());
                steps.push(Step::Index(index.ok_or_else(|| bad("an index is not a number in brackets"))?));
            }
        }
        Ok(Self { text: text.to_owned(), steps })
    }

    /// The source column, in which the path starts.
    pub fn column(&self) -> &str {
        match self.steps.first() {
            Some(Step::Key(key)) => key,
            _ => "",
        }
    }

    fn find<'v>(&self, row: &'v Row) -> Result<&'v Value, String> {
        let mut steps = self.steps.iter();
        steps.next();
        let mut value = column(row, self.column())?;
        for step in steps {
            value = match (step, value) {
                (Step::Key(key), Value::Object(fields)) => {
                    fields.get(key).ok_or_else(|| format!("`{}` finds no key `{key}`", self.text))?
                }
                (Step::Index(i), Value::Array(items)) => items.get(*i).ok_or_else(|| {
                    format!("`{}` asks for item {i} of a list of {}", self.text, items.len())
                })?,
                (Step::Key(key), other) => {
                    return Err(format!(
                        "`{}` looks for `{key}` in a value of kind {}",
                        self.text,
                        kind(other)
                    ));
                }
                (Step::Index(i), other) => {
                    return Err(format!(
                        "`{}` looks for item {i} in a value of kind {}",
                        self.text,
                        kind(other)
                    ));
                }
            };
        }
        Ok(value)
    }
}

fn column<'v>(row: &'v Row, name: &str) -> Result<&'v Value, String> {
    row.get(name).ok_or_else(|| format!("there is no column `{name}`"))
}

impl Field {
    /// The value in a row; a message says what is wrong.
    pub(super) fn value(&self, row: &Row) -> Result<Value, String> {
        match self {
            Self::Column(name) => column(row, name).cloned(),
            Self::Path(path) => path.find(row).cloned(),
            Self::Constant(value) => Ok(value.clone()),
            Self::Concat { parts, separator } => {
                let text = |part: &Self| match part.value(row)? {
                    Value::String(text) => Ok(text),
                    value @ (Value::Number(_) | Value::Bool(_)) => Ok(value.to_string()),
                    other => Err(format!("a part to be joined is of kind {}", kind(&other))),
                };
                let texts: Vec<String> = parts.iter().map(text).collect::<Result<_, String>>()?;
                Ok(texts.join(separator).into())
            }
            Self::Names { column: name, names } => {
                let value = column(row, name)?;
                let index = value.as_u64().and_then(|i| usize::try_from(i).ok());
                let found = index.and_then(|i| names.get(i));
                found
                    .map(|n| n.as_str().into())
                    .ok_or_else(|| format!("`{name}` is {value}, but there are {} names", names.len()))
            }
            Self::Computed => Err("is a function that is not registered".into()),
        }
    }

    /// Source columns that it reads.
    pub fn columns(&self) -> Vec<&str> {
        match self {
            Self::Column(name) | Self::Names { column: name, .. } => vec![name],
            Self::Path(path) => vec![path.column()],
            Self::Concat { parts, .. } => parts.iter().flat_map(Self::columns).collect(),
            Self::Constant(_) | Self::Computed => Vec::new(),
        }
    }

    /// Kinds of source values that it can read; `None` when it takes any.
    pub(super) fn kinds_read(&self) -> Option<&'static [&'static str]> {
        match self {
            Self::Names { .. } => Some(&["integer"]),
            Self::Path(path) => match path.steps.get(1) {
                Some(Step::Key(_)) => Some(&["object"]),
                Some(Step::Index(_)) => Some(&["list"]),
                None => None,
            },
            _ => None,
        }
    }

    pub(super) fn is_computed(&self) -> bool {
        match self {
            Self::Computed => true,
            Self::Concat { parts, .. } => parts.iter().any(Self::is_computed),
            _ => false,
        }
    }

    pub(super) fn parse(node: &Node<'_>) -> Result<Self> {
        let keys: Vec<&str> = node.fields()?.iter().map(|(k, _)| *k).collect();
        match keys.as_slice() {
            ["column"] => Ok(Self::Column(node.need("column")?.text()?.to_owned())),
            ["column", "names"] | ["names", "column"] => {
                let names = node.need("names")?;
                let column = node.need("column")?.text()?.to_owned();
                let names = Self::Names { column, names: names.texts().and_then(|n| not_empty(&names, n))? };
                Ok(names)
            }
            ["path"] => {
                let path = node.need("path")?;
                Ok(Self::Path(JsonPath::parse(path.text()?).map_err(|e| path.error(e))?))
            }
            ["concat"] | ["concat", "separator"] | ["separator", "concat"] => {
                let concat = node.need("concat")?;
                let parts: Vec<Self> = concat.items()?.iter().map(Self::parse).collect::<Result<_>>()?;
                let separator = node.text_of("separator")?.unwrap_or_else(|| " ".into());
                Ok(Self::Concat { parts: not_empty(&concat, parts)?, separator })
            }
            ["constant"] => match node.fields()?.into_iter().next() {
                Some((_, value)) => Ok(Self::Constant(value.json().to_value())),
                None => Err(node.error("is empty")),
            },
            ["computed"] => computed(node).map(|()| Self::Computed),
            _ => Err(node.error(format!(
                "must be one of `column`, `column` and `names`, `path`, `concat`, `constant` and `computed`, but has the keys {keys:?}"
            ))),
        }
    }

    /// Fields of choices: a list of fields, column names (`literal`, or `expand_pattern`), or a function.
    pub(super) fn parse_choices(node: &Node<'_>) -> Result<Vec<(String, Self)>> {
        let columns = |names: Vec<String>| names.into_iter().map(Self::Column).collect::<Vec<_>>();
        let fields = match node.json() {
            Json::List(_) => node.items()?.iter().map(Self::parse).collect::<Result<Vec<_>>>()?,
            _ => match node.fields()?.as_slice() {
                [("literal", names)] => columns(names.texts()?),
                [("expand_pattern", pattern)] => {
                    columns(super::expand_pattern(pattern.text()?).map_err(|e| pattern.error(e))?)
                }
                _ => return Ok(vec![("choices".into(), Self::parse(node)?)]),
            },
        };
        let fields = not_empty(node, fields)?;
        Ok(fields.into_iter().enumerate().map(|(i, f)| (format!("choice{i}"), f)).collect())
    }
}

fn not_empty<T>(node: &Node<'_>, items: Vec<T>) -> Result<Vec<T>> {
    if items.is_empty() { Err(node.error("is empty")) } else { Ok(items) }
}

/// Checks that a node is `{"computed": true}`.
pub(super) fn computed(node: &Node<'_>) -> Result<()> {
    let flag = node.need("computed")?;
    if flag.flag()? { Ok(()) } else { Err::<(), Error>(flag.error("must be true")) }
}
