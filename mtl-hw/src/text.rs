//! TOML and JSON with errors that name the key.
use crate::{HwError, Result};
use serde::{Serialize, de::DeserializeOwned};

/// Reads TOML; the error names the key at which reading stopped.
pub(crate) fn from_toml<T: DeserializeOwned>(what: &'static str, text: &str) -> Result<T> {
    let de = toml::Deserializer::parse(text).map_err(|e| HwError::Parse {
        what,
        path: ".".to_owned(),
        reason: e.message().to_owned(),
    })?;
    serde_path_to_error::deserialize(de).map_err(|e| HwError::Parse {
        what,
        path: e.path().to_string(),
        reason: e.inner().message().lines().next().unwrap_or_default().to_owned(),
    })
}

/// Reads JSON; the error names the key at which reading stopped.
pub(crate) fn from_json<T: DeserializeOwned>(what: &'static str, text: &str) -> Result<T> {
    let mut de = serde_json::Deserializer::from_str(text);
    let value = serde_path_to_error::deserialize(&mut de).map_err(|e| HwError::Parse {
        what,
        path: e.path().to_string(),
        reason: e.inner().to_string(),
    })?;
    de.end().map_err(|e| HwError::Parse { what, path: ".".to_owned(), reason: e.to_string() })?;
    Ok(value)
}

/// Writes TOML.
pub(crate) fn to_toml<T: Serialize>(what: &'static str, value: &T) -> Result<String> {
    toml::to_string(value).map_err(|e| HwError::Write { what, reason: e.to_string() })
}

/// Writes indented JSON.
pub(crate) fn to_json<T: Serialize>(what: &'static str, value: &T) -> Result<String> {
    serde_json::to_string_pretty(value).map_err(|e| HwError::Write { what, reason: e.to_string() })
}

/// The error for a name that is not in `known`, with the nearest name when one is close.
pub(crate) fn unknown(kind: &'static str, name: &str, known: &[&str]) -> HwError {
    let nearest = known.iter().map(|k| (distance(&name.to_lowercase(), k), k)).min();
    let hint = match nearest {
        Some((d, k)) if d <= 2 => format!("did you mean `{k}`?"),
        _ => format!("known are {}", known.join(", ")),
    };
    HwError::Unknown { kind, name: name.to_owned(), hint }
}

/// Levenshtein distance in characters.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, ca) in a.chars().enumerate() {
        let mut diagonal = i;
        let mut left = i + 1;
        let mut next = vec![left];
        for (&cb, &above) in b.iter().zip(row.iter().skip(1)) {
            left = (diagonal + usize::from(ca != cb)).min(above + 1).min(left + 1);
            diagonal = above;
            next.push(left);
        }
        row = next;
    }
    row.last().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances_are_those_of_levenshtein() {
        assert_eq!(distance("kitten", "sitting"), 3);
        assert_eq!(distance("", "abc"), 3);
        assert_eq!(distance("zcu104", "zcu104"), 0);
    }
}
