//! Cells: one point of the grid and one seed, identified by the hash of everything that decides the result.
use mtl_core::{Result, Seed, registry};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;

/// What, besides its own configuration, decides the result of a cell.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Scope {
    /// Name of the study.
    pub study: String,
    /// Package version and revision of the study, such as `0.1.0+r2`.
    pub code: String,
    /// Hash of the user's data files; empty when the study brings its own.
    pub data: String,
    /// Threads each cell computes with.
    pub threads: usize,
}

/// The unit of work: a resolved configuration and a seed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Cell {
    id: String,
    kind: String,
    seed: Seed,
    config: Map<String, Value>,
    /// Prerequisites by name, with the identifiers of their cells.
    needs: BTreeMap<String, String>,
    /// Lines of the grid file that the keys come from, for error messages.
    #[serde(skip)]
    pub(super) lines: BTreeMap<String, usize>,
    /// Whether the grid lists it, as opposed to a cell that others only need.
    #[serde(skip)]
    pub(super) listed: bool,
}

impl Cell {
    pub(super) fn new(
        scope: &Scope,
        kind: String,
        seed: Seed,
        config: Map<String, Value>,
        needs: BTreeMap<String, String>,
    ) -> Self {
        let identity = json!({
            "study": scope.study,
            "code": scope.code,
            "data": scope.data,
            "threads": scope.threads,
            "kind": kind,
            "seed": seed,
            "config": config,
            "needs": needs,
        });
        let mut text = String::new();
        canonical(&identity, &mut text);
        let id = blake3::hash(text.as_bytes()).to_hex()[..16].to_owned();
        Self { id, kind, seed, config, needs, lines: BTreeMap::new(), listed: false }
    }

    /// Identifier: 16 hexadecimal digits of the hash of the resolved configuration; also the name of its directory.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// What sort of work it is; the study decides by it what to run.
    pub fn kind(&self) -> &str {
        &self.kind
    }

    /// Seed of the run.
    pub fn seed(&self) -> Seed {
        self.seed
    }

    /// The cell's keys as the study's own type, which should deny unknown fields.
    ///
    /// # Errors
    ///
    /// [`mtl_core::Error::Parse`] for a key that is unknown, missing or of the wrong type.
    pub fn config<C: DeserializeOwned>(&self) -> Result<C> {
        registry::parse(Value::Object(self.config.clone()))
    }

    /// The cell's keys as they stand in the grid.
    pub fn keys(&self) -> &Map<String, Value> {
        &self.config
    }

    /// Identifiers of the prerequisite cells, by name.
    pub fn needs(&self) -> &BTreeMap<String, String> {
        &self.needs
    }

    /// One line for people: kind, keys and seed.
    pub fn label(&self) -> String {
        let keys = self.config.iter().filter(|(_, v)| !v.is_object() && !v.is_array());
        let keys: String = keys.map(|(k, v)| format!(" {k}={}", plain(v))).collect();
        format!("{}{keys} seed={}", self.kind, self.seed.0)
    }

    /// Value of `key` as `--only` compares it; `kind` and `seed` are keys too.
    pub(super) fn facet(&self, key: &str) -> Option<String> {
        match key {
            "kind" => Some(self.kind.clone()),
            "seed" => Some(self.seed.0.to_string()),
            _ => self.config.get(key).map(plain),
        }
    }
}

/// A value without the quotes of JSON.
fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

/// JSON with sorted keys, so that equal configurations have equal text whatever the map type underneath.
fn canonical(value: &Value, out: &mut String) {
    match value {
        Value::Object(map) => {
            let sorted: BTreeMap<&String, &Value> = map.iter().collect();
            out.push('{');
            for (key, value) in sorted {
                out.push_str(&Value::from(key.as_str()).to_string());
                out.push(':');
                canonical(value, out);
                out.push(',');
            }
            out.push('}');
        }
        Value::Array(items) => {
            out.push('[');
            for item in items {
                canonical(item, out);
                out.push(',');
            }
            out.push(']');
        }
        leaf => out.push_str(&leaf.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cell(threads: usize, config: Value, seed: u64) -> Cell {
        let scope = Scope { study: "s".into(), code: "0.1.0+r1".into(), data: String::new(), threads };
        let config = config.as_object().unwrap().clone();
        Cell::new(&scope, "train".into(), Seed(seed), config, BTreeMap::new())
    }

    #[test]
    fn the_identifier_depends_on_everything_but_the_order_of_keys() {
        let base = cell(1, json!({"a": 1, "b": {"x": 1.5, "y": [1, 2]}}), 0);
        assert_eq!(base.id().len(), 16);
        assert_eq!(base.id(), cell(1, json!({"b": {"y": [1, 2], "x": 1.5}, "a": 1}), 0).id());
        assert_ne!(base.id(), cell(2, json!({"a": 1, "b": {"x": 1.5, "y": [1, 2]}}), 0).id());
        assert_ne!(base.id(), cell(1, json!({"a": 1, "b": {"x": 1.5, "y": [1, 2]}}), 1).id());
        assert_ne!(base.id(), cell(1, json!({"a": 1, "b": {"x": 1.5, "y": [2, 1]}}), 0).id());
        assert_ne!(cell(1, json!({"a": "1"}), 0).id(), cell(1, json!({"a": 1}), 0).id());
    }

    #[test]
    fn the_label_names_kind_keys_and_seed() {
        let cell = cell(1, json!({"method": "sgd", "steps": 3, "widths": [1]}), 4);
        insta::assert_snapshot!(cell.label(), @"train method=sgd steps=3 seed=4");
    }
}
