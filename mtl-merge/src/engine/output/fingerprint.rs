//! What a half-finished output belongs to: shards are kept only for a run that would write the same bytes.
use super::{Target, shards::Shard};
use crate::{Recipe, engine::plan::Plan};
use mtl_core::files::FileStamp;
use serde_json::{Value, json};
use std::{collections::BTreeSet, path::Path};

/// Everything that the bytes of the shards depend on, as text. Threads and memory are not part of it.
pub(super) fn fingerprint(plan: &Plan<'_>, recipe: &Recipe, target: &Target<'_>, shards: &[Shard]) -> String {
    let stamp =
        |stamp: FileStamp| json!({"bytes": stamp.len, "modified_ns": stamp.modified_ns().to_string()});
    let mut inputs = Vec::new();
    for file in plan.opened.iter().flat_map(|opened| opened.source.files()) {
        let real = file.path.canonicalize().unwrap_or_else(|_| file.path.clone());
        let head = file.head.to_hex().to_string();
        inputs
            .push(json!({"path": real.to_string_lossy(), "file": stamp(file.stamp), "header_blake3": head}));
    }
    let recipe = serde_json::to_value(recipe).unwrap_or_default();
    // Parameters may name files of their own, such as statistics of activations.
    let mut named = BTreeSet::new();
    texts(&recipe, &mut named);
    let named = named.into_iter().filter(|text| text.len() < 4096 && Path::new(text).is_file());
    let others: Vec<Value> = named
        .filter_map(|text| Some(json!({"path": text, "file": stamp(FileStamp::read(text.as_ref()).ok()?)})))
        .collect();
    let mut planned = blake3::Hasher::new();
    for tensor in &plan.tensors {
        planned.update(format!("{tensor:?}\n").as_bytes());
    }
    // A program with a method of its user's, or a later build of this crate, is another program.
    let program = std::env::current_exe().ok().and_then(|path| FileStamp::read(&path).ok()).map(stamp);
    let names: Vec<&str> = shards.iter().map(|shard| shard.name.as_str()).collect();
    let all = json!({
        "crate": env!("CARGO_PKG_VERSION"),
        "program": program,
        "recipe": recipe,
        "shard_bytes": target.shard_bytes,
        "allow_non_finite": plan.allow_non_finite,
        "inputs": inputs,
        "other_files": others,
        "tensors_blake3": planned.finalize().to_hex().to_string(),
        "shards": names,
    });
    format!("{all:#}\n")
}

/// All texts within `value`.
fn texts<'v>(value: &'v Value, found: &mut BTreeSet<&'v str>) {
    match value {
        Value::String(text) => drop(found.insert(text)),
        Value::Array(values) => values.iter().for_each(|value| texts(value, found)),
        Value::Object(values) => values.values().for_each(|value| texts(value, found)),
        _ => {}
    }
}
