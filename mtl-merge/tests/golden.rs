//! Every merge of the reference tool, reproduced within its tolerance.
#![allow(clippy::expect_used, clippy::unwrap_used, clippy::panic)]
use mtl_core::params::{Dtype, ParamStore};
use mtl_merge::{Engine, Recipe};
use serde_json::Value;
use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

fn golden() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden")
}

fn json(path: &Path) -> Value {
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

/// Distance between neighbouring bfloat16 values at `x`.
fn ulp(x: f64) -> f64 {
    let exponent = if x == 0.0 { -126 } else { (x.abs().log2().floor() as i32).max(-126) };
    2_f64.powi(exponent - 7)
}

/// Ids of all tokens of a `tokenizer.json`.
fn tokens(path: &Path) -> BTreeMap<String, usize> {
    let file = json(path);
    let id = |v: &Value| v.as_u64().unwrap() as usize;
    let plain = file["model"]["vocab"].as_object().unwrap().iter().map(|(t, v)| (t.clone(), id(v)));
    let added = file["added_tokens"].as_array().unwrap().iter();
    plain.chain(added.map(|t| (t["content"].as_str().unwrap().to_owned(), id(&t["id"])))).collect()
}

/// For each row of the expected embedding tables the row of ours: the ids that mergekit gives to the tokens a union
/// adds differ from one of its runs to the next.
fn rows(case: &Path, out: &Path) -> Option<BTreeMap<usize, usize>> {
    let expected = case.join("expected_tokenizer.json");
    let expected = expected.is_file().then(|| tokens(&expected))?;
    let ours = tokens(&out.join("tokenizer.json"));
    assert_eq!(expected.keys().collect::<Vec<_>>(), ours.keys().collect::<Vec<_>>());
    Some(expected.iter().map(|(token, &row)| (row, ours[token])).collect())
}

/// What `compare.py` checks: names, types, shapes, values within the tolerance of `meta.json`.
fn compare(case: &Path, out: &Path, meta: &Value) -> Result<(), String> {
    let found = ParamStore::open(out).unwrap();
    let rows = rows(case, out);
    let expected = ParamStore::open(case.join("expected.safetensors")).unwrap();
    let ideal = ParamStore::open(case.join("ideal.safetensors")).ok();
    let (names, ours): (Vec<_>, Vec<_>) = (expected.names().collect(), found.names().collect());
    if names != ours {
        return Err(format!("expected {} tensors, found {}: {ours:?}", names.len(), ours.len()));
    }
    let number = |key: &str| meta["tolerance"][key].as_f64();
    let (mut failed, mut all, mut first) = (0_usize, 0_usize, String::new());
    for name in names {
        let (a, b) = (expected.info(name).unwrap(), found.info(name).unwrap());
        if (a.dtype, &a.shape) != (b.dtype, &b.shape) {
            return Err(format!("{name}: {} {:?} instead of {} {:?}", b.dtype, b.shape, a.dtype, a.shape));
        }
        assert!(matches!(a.dtype, Dtype::F32 | Dtype::Bf16));
        let (a, b) = (expected.f32s(name).unwrap(), found.f32s(name).unwrap());
        let ideal = ideal.as_ref().map(|ideal| ideal.f32s(name).unwrap());
        let table = name.contains("embed_tokens") || name.contains("lm_head");
        let width = *expected.info(name).unwrap().shape.last().unwrap();
        for i in 0..a.len() {
            let row = rows.as_ref().filter(|_| table).and_then(|rows| rows.get(&(i / width)));
            let ours = row.map_or(i, |row| row * width + i % width);
            let (e, c) = (f64::from(a[i]), f64::from(b[ours]));
            let atol = number("atol").unwrap_or(if number("bf16_ulp").is_some() { 2e-8 } else { 0.0 });
            let allowed = atol
                + number("rtol").map_or(0.0, |r| r * e.abs())
                + number("bf16_ulp").map_or(0.0, |n| n * ulp(e));
            let near_ideal = ideal.as_ref().zip(number("ideal_bf16_ulp")).is_some_and(|(ideal, n)| {
                let x = f64::from(ideal[i]);
                (c - x).abs() <= n * ulp(x) + atol
            });
            if !((c - e).abs() <= allowed || near_ideal) {
                failed += 1;
                if first.is_empty() {
                    first = format!("{name}[{i}]: expected {e}, found {c}");
                }
            }
        }
        all += a.len();
    }
    let share = number("max_mismatch_fraction").unwrap_or(0.0);
    if failed as f64 > share * all as f64 {
        return Err(format!("{failed} of {all} elements differ, the first is {first}"));
    }
    Ok(())
}

/// Runs one case into a folder and compares tensors, files and configuration.
fn run(case: &Path) -> Result<(), String> {
    let meta = json(&case.join("meta.json"));
    let text = fs::read_to_string(case.join("config.yml")).unwrap();
    // The paths in the recipes are relative to the folder of the golden files.
    let text = text.replace("inputs/", &format!("{}/inputs/", golden().display()));
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("out");
    let arguments: Vec<&str> =
        meta["cli_args"].as_array().unwrap().iter().filter_map(Value::as_str).collect();
    let engine = match arguments.as_slice() {
        [] => Engine::default(),
        ["--out-shard-size", size] => Engine::default().shard_bytes(size.parse().unwrap()),
        other => panic!("unknown arguments {other:?}"),
    };
    let recipe = Recipe::from_yaml(&text).map_err(|e| e.to_string())?;
    engine.run(&recipe, &out).map_err(|e| e.to_string())?;
    compare(case, &out, &meta)?;
    for file in meta["files_out"].as_array().unwrap().iter().filter_map(Value::as_str) {
        if !out.join(file).is_file() {
            return Err(format!("`{file}` is missing"));
        }
    }
    let (expected, found) = (json(&case.join("expected_config.json")), json(&out.join("config.json")));
    for key in ["architectures", "num_hidden_layers", "vocab_size", "hidden_size", "tie_word_embeddings"] {
        if expected.get(key) != found.get(key) {
            return Err(format!("config.json: `{key}` is {:?}, not {:?}", found.get(key), expected.get(key)));
        }
    }
    let dtype = |config: &Value| config.get("torch_dtype").or(config.get("dtype")).cloned();
    if dtype(&expected) != dtype(&found) {
        return Err(format!("config.json: the type is {:?}, not {:?}", dtype(&found), dtype(&expected)));
    }
    Ok(())
}

#[test]
fn all_cases_agree_with_the_reference_tool() {
    let mut cases: Vec<PathBuf> =
        fs::read_dir(golden().join("cases")).unwrap().map(|entry| entry.unwrap().path()).collect();
    cases.sort();
    assert_eq!(cases.len(), 36);
    let outcomes = cases.iter().map(|case| (case.file_name().unwrap(), run(case)));
    let failed: Vec<String> = outcomes
        .filter_map(|(name, outcome)| Some(format!("{}: {}", name.to_string_lossy(), outcome.err()?)))
        .collect();
    assert!(failed.is_empty(), "{} of 36 cases fail:\n{}", failed.len(), failed.join("\n"));
}
