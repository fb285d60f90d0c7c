//! Values of parameters, as recipes give them.
use serde::{Deserialize, Deserializer, Serialize};
use std::{collections::BTreeMap, fmt};

/// A parameter's value in a recipe: a constant, a gradient over depth, or a choice by tensor name.
///
/// ```
/// use mtl_merge::ParamValue;
///
/// let t: ParamValue =
///     serde_json::from_str(r#"[{"filter": "mlp", "value": [0, 0.5, 1]}, {"value": 5e-1}]"#)?;
/// assert_eq!(t.at("model.layers.1.mlp.up_proj.weight", 0.75), Some(ParamValue::Number(0.75)));
/// assert_eq!(t.at("model.norm.weight", 0.75), Some(ParamValue::Number(0.5)));
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(untagged)]
#[non_exhaustive]
pub enum ParamValue {
    /// `true` or `false`.
    Flag(bool),
    /// Any number; integers are read as `f64`.
    Number(f64),
    /// A name or a path.
    Text(String),
    /// A gradient: values at equal distances from the first layer to the last.
    List(Vec<ParamValue>),
    /// The first entry that fits the tensor's name holds.
    Filtered(Vec<Filtered>),
}

/// A value for the tensors whose name contains `filter`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Filtered {
    /// Part of the tensor's name; `*` or nothing fits every name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub filter: Option<String>,
    /// The value where the filter fits.
    pub value: ParamValue,
}

impl<'de> Deserialize<'de> for ParamValue {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(
            untagged,
            expecting = "expected a number, true or false, a text, a list of them, or a list of {filter, value}"
        )]
        enum Raw {
            Flag(bool),
            Number(f64),
            Text(String),
            Filtered(Vec<Filtered>),
            List(Vec<ParamValue>),
            One(Filtered),
        }
        Ok(match Raw::deserialize(deserializer)? {
            Raw::Flag(value) => Self::Flag(value),
            Raw::Number(value) => Self::Number(value),
            // YAML 1.1 takes 5e-1 for a text; whoever wrote it meant the number.
            Raw::Text(text) => match text.parse() {
                Ok(value) if text.starts_with(|c: char| c.is_ascii_digit() || "+-.".contains(c)) => {
                    Self::Number(value)
                }
                // So it has words for true and false.
                _ if ["yes", "Yes", "YES", "on", "On", "ON"].contains(&text.as_str()) => Self::Flag(true),
                _ if ["no", "No", "NO", "off", "Off", "OFF"].contains(&text.as_str()) => Self::Flag(false),
                _ => Self::Text(text),
            },
            Raw::Filtered(entries) if !entries.is_empty() => Self::Filtered(entries),
            Raw::Filtered(_) => Self::List(Vec::new()),
            Raw::List(values) => Self::List(values),
            Raw::One(entry) => Self::Filtered(vec![entry]),
        })
    }
}

impl ParamValue {
    /// The constant that holds for the tensor called `name` at relative depth `t`, in [0, 1].
    ///
    /// Numbers of a gradient are interpolated linearly; of other lists, the element at or before `t` is taken. `None`
    /// when no filter fits or a list is empty.
    #[must_use]
    pub fn at(&self, name: &str, t: f64) -> Option<Self> {
        match self {
            Self::List(values) => {
                let last = values.len().checked_sub(1)?;
                let s = t.clamp(0.0, 1.0) * last as f64;
                let i = (s.floor() as usize).min(last);
                let share = s - i as f64;
                match (&values[i], &values[(i + 1).min(last)]) {
                    (Self::Number(a), Self::Number(b)) => Some(Self::Number((1.0 - share) * a + share * b)),
                    (value, _) => value.at(name, t),
                }
            }
            Self::Filtered(entries) => {
                let fits = |f: &Filtered| f.filter.as_deref().is_none_or(|f| f == "*" || name.contains(f));
                entries.iter().find(|entry| fits(entry))?.value.at(name, t)
            }
            constant => Some(constant.clone()),
        }
    }

    /// Calls `check` with every constant inside and its path, such as `[1].value[0]`.
    pub(crate) fn leaves<E>(
        &self,
        path: &str,
        check: &mut impl FnMut(&str, &Self) -> Result<(), E>,
    ) -> Result<(), E> {
        match self {
            Self::List(values) => {
                values.iter().enumerate().try_for_each(|(i, v)| v.leaves(&format!("{path}[{i}]"), check))
            }
            Self::Filtered(entries) => entries
                .iter()
                .enumerate()
                .try_for_each(|(i, entry)| entry.value.leaves(&format!("{path}[{i}].value"), check)),
            constant => check(path, constant),
        }
    }
}

impl From<f64> for ParamValue {
    fn from(value: f64) -> Self {
        Self::Number(value)
    }
}

impl From<bool> for ParamValue {
    fn from(value: bool) -> Self {
        Self::Flag(value)
    }
}

impl From<&str> for ParamValue {
    fn from(value: &str) -> Self {
        Self::Text(value.to_owned())
    }
}

impl<V: Into<Self>> From<Vec<V>> for ParamValue {
    fn from(values: Vec<V>) -> Self {
        Self::List(values.into_iter().map(Into::into).collect())
    }
}

impl fmt::Display for ParamValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Flag(value) => write!(f, "{value}"),
            Self::Number(value) => write!(f, "{value}"),
            Self::Text(value) => write!(f, "`{value}`"),
            Self::List(_) => f.write_str("a list"),
            Self::Filtered(_) => f.write_str("a list of filters"),
        }
    }
}

/// Parameters by name, as a recipe gives them.
pub type Params = BTreeMap<String, ParamValue>;

#[cfg(test)]
mod tests {
    use super::*;

    fn value(json: &str) -> ParamValue {
        serde_json::from_str(json).unwrap()
    }

    fn number(value: &ParamValue, name: &str, t: f64) -> f64 {
        match value.at(name, t) {
            Some(ParamValue::Number(x)) => x,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn gradients_are_interpolated_between_their_points() {
        let gradient = value("[0, 0.25, 1]");
        for (t, expected) in [(0.0, 0.0), (0.25, 0.125), (0.5, 0.25), (0.75, 0.625), (1.0, 1.0)] {
            assert_eq!(number(&gradient, "w", t), expected, "{t}");
        }
        assert_eq!(number(&value("[3]"), "w", 0.4), 3.0);
        assert_eq!(value("[]").at("w", 0.0), None);
        assert_eq!(value("[true, false]").at("w", 0.9), Some(ParamValue::Flag(true)));
    }

    #[test]
    fn the_first_filter_that_fits_decides_and_none_falls_through() {
        let filters = value(r#"[{"filter": "mlp", "value": 1}, {"filter": "*", "value": 2}]"#);
        assert_eq!(number(&filters, "a.mlp.b", 0.0), 1.0);
        assert_eq!(number(&filters, "a.attn.b", 0.0), 2.0);
        assert_eq!(value(r#"{"filter": "mlp", "value": 1}"#).at("attn", 0.0), None);
    }

    #[test]
    fn scientific_notation_written_as_a_text_is_a_number() {
        assert_eq!(value(r#""5e-1""#), ParamValue::Number(0.5));
        assert_eq!(value(r#""-1E3""#), ParamValue::Number(-1000.0));
        assert_eq!(value(r#""nan""#), ParamValue::Text("nan".into()));
    }

    #[test]
    fn yes_and_no_are_flags() {
        assert_eq!(value(r#""yes""#), ParamValue::Flag(true));
        assert_eq!(value(r#""Off""#), ParamValue::Flag(false));
        assert_eq!(value(r#""y""#), ParamValue::Text("y".into()));
    }
}
