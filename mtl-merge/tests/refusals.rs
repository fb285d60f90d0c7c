//! Recipes that must be refused before anything is written, with a message that names place and cause.
#![allow(clippy::expect_used, clippy::unwrap_used, clippy::panic)]
use mtl_merge::{Engine, Recipe};
use std::{fs, path::Path};

/// The message for one of the golden cases, with paths as the case has them.
fn refusal(case: &str) -> String {
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    let text = fs::read_to_string(golden.join(format!("errors/{case}.yml"))).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join(format!("{case}.yml"));
    fs::write(&file, text.replace("inputs/", &format!("{}/inputs/", golden.display()))).unwrap();
    let error =
        Recipe::from_path(&file).and_then(|recipe| Engine::default().check(&recipe)).unwrap_err().to_string();
    error.replace(&format!("{}/", golden.display()), "").replace(&format!("{}/", dir.path().display()), "")
}

#[test]
fn every_golden_error_names_place_and_cause() {
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/errors/errors.json");
    let cases: serde_json::Value = serde_json::from_slice(&fs::read(golden).unwrap()).unwrap();
    let names = cases.as_array().unwrap().iter().filter_map(|case| case["name"].as_str());
    let refusals: Vec<String> = names.map(refusal).collect();
    assert_eq!(refusals.len(), 15);
    insta::assert_snapshot!(refusals.join("\n"), @r#"
models_and_slices.yml:1: recipe: exactly one of `models`, `slices`, `modules` must be given, but there are `models` and `slices`
missing_weight.yml:3: models[0]: method `linear` requires `weight` of every model, but `inputs/f32/ft1` has none
unknown_method.yml:1: unknown merge method `tie`; did you mean `ties`?
slice_lengths.yml:4: slices[0]: all sources must span the same number of layers, but `inputs/f32/ft1` has 3 and `inputs/f32/base` has 2
slerp_three.yml:3: models: method `slerp` takes exactly 1 model besides the base, but there are 2
ties_no_base.yml:1: method `ties` needs a `base_model`, but the recipe has none
shape_mismatch.yml:2: models: all sources must span the same number of layers, but `inputs/tied/ft1` has 2 and `inputs/f32/ft1` has 4; their `model.embed_tokens.weight` have shapes [64, 32] and [96, 32]
the checkpoints do not fit together: `model.embed_tokens.weight` has 45 rows in `inputs/vocab/b/model.safetensors`, but 43 in `inputs/vocab/a/model.safetensors`: the vocabularies differ; add a `tokenizer` section or cut the tables with `--unsafe-truncate-embeddings`; `lm_head.weight` has 45 rows in `inputs/vocab/b/model.safetensors`, but 43 in `inputs/vocab/a/model.safetensors`: the vocabularies differ; add a `tokenizer` section or cut the tables with `--unsafe-truncate-embeddings`
layer_out_of_range.yml:3: slices[0]: layer_range [2, 6] of `inputs/f32/ft1` is beyond its 4 layers
missing_model.yml:3: models[0]: `inputs/f32/nope` is not on this machine; looked for `inputs/f32/nope`; nothing is downloaded
typo_key.yml:1: merge_metod: unknown key `merge_metod`; did you mean `merge_method`?
unknown_parameter.yml:4: models[0].parameters: method `ties` has no parameter `densty`; did you mean `density`?
duplicate_model.yml:4: models[1] repeats models[0]: `inputs/f32/ft1`
bad_dtype.yml:7: dtype: `int4` is no floating-point type that is known here; expected `float16`, `bfloat16`, `float32` or `float64`
della_epsilon.yml:5: epsilon must be such that density ± epsilon lie between 0 and 1 (density is 0.9), but is 0.15
"#);
}

#[test]
fn strict_engines_refuse_what_others_remark_on() {
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/inputs/f32");
    let text = format!(
        "merge_method: linear\nmodels:\n  - model: {}\n    parameters:\n      weight: 1\n      int8_mask: true\ngradient_clipping: 1\n",
        golden.join("ft1").display()
    );
    let recipe = Recipe::from_yaml(&text).unwrap();
    let report = Engine::default().check(&recipe).unwrap();
    insta::assert_snapshot!(report.warnings.join("\n"), @r#"
line 6: models[0].parameters.int8_mask: method `linear` has no parameter `int8_mask`, which is ignored
line 7: gradient_clipping: unknown key `gradient_clipping`, which is ignored
"#);
    insta::assert_snapshot!(Engine::default().strict(true).check(&recipe).unwrap_err(), @"line 6: models[0].parameters.int8_mask: method `linear` has no parameter `int8_mask`, which is ignored");
}
