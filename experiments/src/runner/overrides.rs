//! What the command line changes about a grid: seeds, values, a selection of cells.
use super::{
    cell::Cell,
    source::{Source, choices},
};
use mtl_core::{Error, Result};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// Changes to a grid; empty for the grid as it is written.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Overrides {
    /// Seeds that replace those of the file.
    pub seeds: Option<Vec<u64>>,
    /// `key=value`, replacing the key wherever it stands, or `kind.key=value` for the cells of one kind.
    pub set: Vec<String>,
    /// `key=value` filters on the listed cells: any value of one key, all of several keys.
    pub only: Vec<String>,
}

impl Overrides {
    /// Whether the filters let `cell` through.
    pub(super) fn selects(&self, cell: &Cell) -> bool {
        let mut wanted: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
        for (key, value) in self.only.iter().filter_map(|filter| filter.split_once('=')) {
            wanted.entry(key.trim()).or_default().insert(value.trim());
        }
        wanted.iter().all(|(key, values)| cell.facet(key).is_some_and(|own| values.contains(own.as_str())))
    }

    /// Refuses filters that no cell answers to.
    pub(super) fn check_filters(&self, cells: &[Cell]) -> Result<()> {
        for filter in &self.only {
            let (key, value) = pair("--only", filter)?;
            let values: BTreeSet<String> = cells.iter().filter_map(|cell| cell.facet(key)).collect();
            if values.is_empty() {
                let keys = cells.iter().flat_map(|cell| cell.keys().keys().map(String::as_str));
                return Err(Error::unknown("key", key, keys.chain(["kind", "seed"])));
            }
            if !values.contains(value) {
                let what = if key == "method" { "method" } else { "value" };
                return Err(Error::unknown(what, value, values.iter().map(String::as_str)));
            }
        }
        if !self.only.is_empty() && !cells.iter().any(|cell| self.selects(cell)) {
            return Err(Error::config(
                "--only",
                "filters that at least one cell passes",
                self.only.join(" "),
            ));
        }
        Ok(())
    }
}

/// Splits `key=value`.
fn pair<'a>(option: &str, text: &'a str) -> Result<(&'a str, &'a str)> {
    let split = text.split_once('=').map(|(key, value)| (key.trim(), value.trim()));
    split
        .filter(|(key, _)| !key.is_empty())
        .ok_or_else(|| Error::config(option, "of the form key=value", text))
}

/// Applies one `--set`.
pub(super) fn apply(source: &mut Source, set: &str) -> Result<()> {
    let (key, text) = pair("--set", set)?;
    let value = toml::from_str::<toml::Table>(&format!("v = {text}")).ok().and_then(|mut t| t.remove("v"));
    let value = value.unwrap_or_else(|| toml::Value::String(text.to_owned()));
    if let Some((kind, key)) = key.split_once('.') {
        return apply_to_kind(source, kind, key, value).map_err(|e| match e {
            Error::Parse { message, .. } => refusal(set, message),
            other => other,
        });
    }
    let grid = source.grid.iter().any(|keys| keys.names().any(|name| name == key));
    let elsewhere = source.fixed_tables().any(|keys| keys.names().any(|name| name == key));
    if !(grid || elsewhere) || key == "kind" {
        let mut known = BTreeSet::new();
        for table in source.tables() {
            known.extend(table.names().filter(|name| *name != "kind").map(str::to_owned));
        }
        return Err(Error::unknown("key", key, known.iter().map(String::as_str)));
    }
    let choices = choices(key, value, !elsewhere).map_err(|message| refusal(set, message))?;
    for table in source.tables() {
        table.replace(key, &choices);
    }
    Ok(())
}

fn refusal(set: &str, message: String) -> Error {
    Error::Parse { path: format!("--set {set}"), message }
}

/// Sets `key` for every cell of `kind`: in the tables of that kind alone, so that an array spans the grid.
fn apply_to_kind(source: &mut Source, kind: &str, key: &str, value: toml::Value) -> Result<()> {
    let mut kinds = BTreeSet::new();
    for table in source.grid.iter().chain(source.prerequisites.values()) {
        kinds.extend(table.kinds().map(str::to_owned));
    }
    if !kinds.contains(kind) {
        return Err(Error::unknown("kind", kind, kinds.iter().map(String::as_str)));
    }
    let refuse = |message: String| refusal(key, message);
    let spans = !source.prerequisites.values().any(|table| table.kinds().any(|k| k == kind));
    let choices = choices(key, value, spans).map_err(refuse)?;
    for table in source.grid.iter_mut().chain(source.prerequisites.values_mut()) {
        let of: Vec<&str> = table.kinds().collect();
        match of.as_slice() {
            [only] if *only == kind => table.put(key, &choices),
            several if several.contains(&kind) => {
                let message =
                    format!("a table of several kinds ({}) has no key of one kind", several.join(", "));
                return Err(refuse(message));
            }
            _ => {}
        }
    }
    Ok(())
}
