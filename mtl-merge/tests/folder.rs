//! What an output folder holds besides correct tensors.
#![allow(clippy::expect_used, clippy::unwrap_used)]
mod common;
use common::Folder;
use mtl_core::params::{ParamFile, ParamStore, ParamView};
use mtl_merge::{Engine, FloatType, Recipe};
use serde_json::{Value, json};
use std::{fs, path::Path};

/// A model of the golden files.
fn input(name: &str) -> String {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/golden/inputs")
        .join(name)
        .to_string_lossy()
        .into_owned()
}

fn config(dir: &Folder, name: &str) -> Value {
    serde_json::from_slice(&fs::read(dir.path(&format!("{name}/config.json"))).unwrap()).unwrap()
}

#[test]
fn a_folder_has_everything_that_a_loader_wants() {
    let dir = Folder::new();
    let recipe = Recipe::new("linear").model(input("f32/ft1"), 1.0).model(input("f32/ft2"), 1.0);
    let text = "merge_method: linear # by hand\n";
    let engine = Engine::default().recipe_text(text);
    engine.run(&recipe, dir.path("out").as_ref()).unwrap();
    let files = [
        "README.md",
        "config.json",
        "mergekit_config.yml",
        "model.safetensors",
        "tokenizer.json",
        "tokenizer_config.json",
    ];
    assert_eq!(dir.names("out"), files);
    assert_eq!(fs::read_to_string(dir.path("out/mergekit_config.yml")).unwrap(), text);
    let card = fs::read_to_string(dir.path("out/README.md")).unwrap();
    assert!(card.contains("# out\n") && card.contains(text) && card.contains("f32/ft2`"), "{card}");
    assert_eq!(
        fs::read(dir.path("out/tokenizer.json")).unwrap(),
        fs::read(Path::new(&input("f32/ft1")).join("tokenizer.json")).unwrap()
    );
    let expected: Value =
        serde_json::from_slice(&fs::read(Path::new(&input("f32/ft1")).join("config.json")).unwrap()).unwrap();
    assert_eq!(config(&dir, "out"), expected);
    assert_eq!(ParamFile::open(dir.path("out/model.safetensors")).unwrap().metadata()["format"], "pt");
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        let mode = |name: &str| fs::metadata(dir.path(name)).unwrap().permissions().mode() & 0o777;
        fs::write(dir.path("plain"), "").unwrap();
        assert_eq!(mode("out/model.safetensors"), mode("plain"), "colleagues may read it");
    }
}

#[test]
fn without_tokenizer_and_card_there_are_none() {
    let dir = Folder::new();
    let engine = Engine::default().copy_tokenizer(false).model_card(false);
    let recipe = Recipe::new("linear").model(input("f32/ft1"), 1.0);
    engine.run(&recipe, dir.path("out").as_ref()).unwrap();
    assert_eq!(dir.names("out"), ["config.json", "mergekit_config.yml", "model.safetensors"]);
    let again: Recipe =
        serde_json::from_slice(&fs::read(dir.path("out/mergekit_config.yml")).unwrap()).unwrap();
    assert_eq!(again, recipe);
}

#[test]
fn bare_files_give_a_folder_without_configuration() {
    let dir = Folder::new();
    dir.vector("a.safetensors", &[1.0]);
    dir.linear(&["a.safetensors"]).run(dir.path("out").as_ref()).unwrap();
    assert_eq!(dir.names("out"), ["README.md", "mergekit_config.yml", "model.safetensors"]);
}

#[test]
fn shards_are_those_of_the_reference_tool() {
    let dir = Folder::new();
    let weights = [("bf16/ft1", 0.5), ("bf16/ft2", 0.3), ("bf16/ft3", 0.2)];
    let recipe = weights.iter().fold(Recipe::new("linear"), |r, (m, w)| r.model(input(m), *w));
    let report = Engine::default().shard_bytes(100_000).run(&recipe, dir.path("out").as_ref()).unwrap();
    assert_eq!(report.files, ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"]);
    let index: Value =
        serde_json::from_slice(&fs::read(dir.path("out/model.safetensors.index.json")).unwrap()).unwrap();
    assert_eq!(index["metadata"]["total_size"], json!(84_288 * 2));
    for (tensor, shard) in index["weight_map"].as_object().unwrap() {
        let file = ParamFile::open(dir.path("out").as_ref() as &Path);
        assert!(file.is_err(), "a folder is no file");
        let file = ParamFile::open(Path::new(&dir.path("out")).join(shard.as_str().unwrap())).unwrap();
        assert!(file.info(tensor).is_some() && file.nbytes() <= 100_000);
    }
    assert_eq!(ParamStore::open(dir.path("out")).unwrap().len(), 21);
    assert_eq!(config(&dir, "out")["torch_dtype"], "bfloat16");
}

#[test]
fn the_number_of_layers_and_the_type_follow_the_recipe() {
    let dir = Folder::new();
    let source =
        |model: &str, range: [usize; 2]| json!({"sources": [{"model": input(model), "layer_range": range}]});
    let recipe: Recipe = serde_json::from_value(json!({
        "merge_method": "passthrough",
        "slices": [source("f32/ft1", [0, 3]), source("f32/ft2", [1, 4])],
        "out_dtype": "bfloat16",
    }))
    .unwrap();
    recipe.run(dir.path("out").as_ref()).unwrap();
    let config = config(&dir, "out");
    assert_eq!((&config["num_hidden_layers"], &config["torch_dtype"]), (&json!(6), &json!("bfloat16")));
    assert!(ParamStore::open(dir.path("out")).unwrap().info("model.layers.5.mlp.up_proj.weight").is_some());
}

#[test]
fn lists_of_layers_are_taken_from_where_the_layers_come_from() {
    let dir = Folder::new();
    dir.model("a", 2, 4, r#"{"num_hidden_layers": 2, "layer_types": ["full", "sliding"]}"#);
    dir.model("b", 3, 4, r#"{"num_hidden_layers": 3, "layer_types": ["x", "y", "z"]}"#);
    let source = |model: &str, range: [usize; 2]| json!({"sources": [{"model": dir.path(model), "layer_range": range}]});
    let recipe: Recipe = serde_json::from_value(json!({
        "merge_method": "passthrough", "slices": [source("b", [1, 3]), source("a", [0, 2])],
    }))
    .unwrap();
    recipe.run(dir.path("out").as_ref()).unwrap();
    let expected = json!({"num_hidden_layers": 4, "layer_types": ["y", "z", "full", "sliding"]});
    assert_eq!(config(&dir, "out"), expected);
}

/// A model with an embedding table of `rows` rows and perhaps a head.
fn language_model(dir: &Folder, name: &str, rows: usize, tied: bool, value: f32) {
    let table = vec![value; rows * 2];
    let shape = [rows, 2];
    let mut views = vec![ParamView::f32("model.embed_tokens.weight", &shape, &table)];
    if !tied {
        views.push(ParamView::f32("lm_head.weight", &shape, &table));
    }
    dir.write(&format!("{name}/model.safetensors"), &views);
    let config = json!({"vocab_size": rows, "tie_word_embeddings": tied, "torch_dtype": "float32"});
    dir.text(&format!("{name}/config.json"), &config.to_string());
}

#[test]
fn a_head_that_is_not_the_table_is_told_in_the_configuration() {
    let dir = Folder::new();
    language_model(&dir, "tied", 3, true, 1.0);
    language_model(&dir, "tied2", 3, true, 2.0);
    language_model(&dir, "own", 3, false, 3.0);
    let tie = |models: &[&str]| {
        Engine::default().overwrite(true).run(&dir.linear(models), dir.path("out").as_ref()).unwrap();
        let store = ParamStore::open(dir.path("out")).unwrap();
        let head = store.f32s("lm_head.weight").ok().map(|head| head[0]);
        (config(&dir, "out")["tie_word_embeddings"].clone(), head)
    };
    assert_eq!(tie(&["tied", "tied2"]), (json!(true), None));
    // The tied model's head is its table: (1 + 3) / 2.
    assert_eq!(tie(&["tied", "own"]), (json!(false), Some(2.0)));
    assert_eq!(tie(&["own", "tied"]), (json!(false), Some(2.0)));
}

#[test]
fn tables_cut_to_the_shortest_change_the_vocabulary() {
    let dir = Folder::new();
    language_model(&dir, "long", 5, true, 1.0);
    language_model(&dir, "short", 3, true, 2.0);
    let recipe = dir.linear(&["long", "short"]).out_dtype(FloatType::F16);
    assert!(dir.refusal(&recipe).contains("the vocabularies differ"));
    let report = Engine::default().truncate_embeddings(true).run(&recipe, dir.path("out").as_ref()).unwrap();
    assert!(report.warnings.iter().any(|w| w.contains("is cut to 3 rows")), "{:?}", report.warnings);
    let expected = json!({"vocab_size": 3, "tie_word_embeddings": true, "torch_dtype": "float16"});
    assert_eq!(config(&dir, "out"), expected);
}
