use super::*;
use crate::params::Filtered;
use insta::assert_snapshot;

fn read(text: &str) -> Recipe {
    Recipe::from_yaml(text).unwrap()
}

fn error(text: &str) -> String {
    let recipe = Recipe::from_yaml(text);
    recipe.and_then(|recipe| recipe.validate(&Methods::default())).unwrap_err().to_string()
}

fn warnings(text: &str) -> String {
    let found = read(text).validate(&Methods::default()).unwrap();
    found.iter().map(|warning| format!("{warning}\n")).collect()
}

const HEAD: &str = "merge_method: task_arithmetic\nbase_model: b\nmodels:\n  - model: m\n";

#[test]
fn the_builder_and_every_text_form_agree() {
    let built = Recipe::new("task_arithmetic")
        .base("org/base@v1")
        .model("a", 0.5)
        .model_with("b+c", [("weight", vec![0.25, 1.0])])
        .parameter("lambda", 0.7)
        .out_dtype(FloatType::Bf16)
        .seed(Seed(7));
    let yaml = "
merge_method: task_arithmetic
base_model: {model: {path: org/base, revision: v1}}
models:
  - {model: a, parameters: {weight: 5e-1}}
  - model: {model: {path: b}, lora: {path: c}}
    parameters: {weight: [0.25, 1]}
parameters: {lambda: .7}
out_dtype: torch.bfloat16
seed: 7
";
    assert_eq!(read(yaml), built);
    let toml = r#"
merge_method = "task_arithmetic"
base_model = "org/base@v1"
out_dtype = "bfloat16"
seed = 7
parameters = { lambda = 0.7 }
[[models]]
model = "a"
parameters.weight = 0.5
[[models]]
model = "b+c"
parameters = { weight = [0.25, 1] }
"#;
    assert_eq!(Recipe::from_toml(toml).unwrap(), built);
    let json = serde_json::to_string(&built).unwrap();
    assert_eq!(serde_json::from_str::<Recipe>(&json).unwrap(), built);
    assert_eq!(read(&json), built, "JSON is YAML");
    let dir = tempfile::tempdir().unwrap();
    for (name, text) in [("a.toml", toml), ("a.json", json.as_str()), ("a.yml", yaml), ("a.mega", yaml)] {
        let path = dir.path().join(name);
        std::fs::write(&path, text).unwrap();
        assert_eq!(Recipe::from_path(&path).unwrap(), built, "{name}");
    }
}

/// The shapes of configurations that people publish.
const PUBLISHED: [&str; 6] = [
    "
models:
  - model: psm/orca-7b # no parameters necessary for base model
  - model: org/math-7b
    parameters:
      density: [1, 0.7, 0.1] # density gradient
      weight: 1.0
  - model: org/code-7b
    parameters:
      density: 0.33
      weight:
        - filter: mlp
          value: 0.5
        - value: 0
merge_method: task_arithmetic
base_model: psm/orca-7b
parameters:
  normalize: true
  int8_mask: true
dtype: float16
",
    "
slices:
  - sources:
      - model: psm/orca-13b
        layer_range: [0, 40]
      - model: garage/platypus-13b
        layer_range: [0, 40]
merge_method: linear
base_model: psm/orca-13b
parameters:
  weight:
    - filter: self_attn
      value: [0, 0.5, 0.3, 0.7, 1]
    - filter: mlp
      value: [1, 0.5, 0.7, 0.3, 0]
    - value: 0.5 # fallback for rest of tensors
dtype: float16
",
    "
slices:
  - sources: [{model: garage/a, layer_range: [0, 20]}]
  - sources:
    - model: garage/b
      layer_range: [10, 30]
      parameters:
        scale:
          - {filter: o_proj, value: 0.0}
          - value: 1.0
merge_method: passthrough
dtype: bfloat16
tokenizer_source: union
chat_template: auto
",
    "
modules:
  text_decoder:
    slices:
      - sources: [{model: x, layer_range: [0, 3]}, {model: y, layer_range: [0, 3]}]
        parameters: {weight: 1}
  vision_tower:
    models: [{model: x}, {model: y}]
    parameters: {weight: [0.1, 0.9]}
merge_method: linear
tokenizer:
  source: union
  tokens:
    <|im_start|>: {source: x, force: true}
    <unk>: {source: {kind: model_token, model: y, token_id: 0}}
  pad_to_multiple_of: 64
",
    "
x-common: &common
  weight: 0.4
merge_method: linear
models:
  - model: a
    parameters: *common
  - model: b
    parameters:
      <<: *common
      weight: 0.6
parameters:
",
    "---\nname: My merge\nmerge_method: linear\nmodels: [{model: a, parameters: {weight: '5e-1'}}]\ndtype:\n---\n",
];

#[test]
fn published_shapes_are_read_and_keep_their_meaning_through_json() {
    let methods = Methods::default();
    for text in PUBLISHED {
        let recipe = read(text);
        recipe.validate(&methods).unwrap_or_else(|e| panic!("{e}\n{text}"));
        let json = serde_json::to_string(&recipe).unwrap();
        assert_eq!(serde_json::from_str::<Recipe>(&json).unwrap(), recipe, "{json}");
    }
    let first = read(PUBLISHED[0]);
    let filters = vec![
        Filtered { filter: Some("mlp".into()), value: 0.5.into() },
        Filtered { filter: None, value: 0.0.into() },
    ];
    assert_eq!(first.models[2].parameters["weight"], ParamValue::Filtered(filters));
    assert_eq!(first.models[1].parameters["density"], vec![1.0, 0.7, 0.1].into());
    let anchored = read(PUBLISHED[4]);
    assert_eq!(anchored.models[0].parameters["weight"], 0.4.into());
    assert_eq!(anchored.models[1].parameters["weight"], 0.6.into());
    let modules = read(PUBLISHED[3]).tokenizer.unwrap();
    assert_eq!(modules["tokens"]["<unk>"]["source"]["token_id"], 0);
    assert_eq!(read(PUBLISHED[5]).models[0].parameters["weight"], 0.5.into());
}

#[test]
fn stray_keys_and_parameters_of_other_methods_are_warnings() {
    assert_snapshot!(warnings(PUBLISHED[0]), @"");
    assert_snapshot!(warnings(PUBLISHED[4]), @"");
    let text = format!("{HEAD}    parameters: {{weight: 1, normalize: true}}\n    comment: x\ngradient_clipping: 1\n");
    assert_snapshot!(warnings(&text), @"");
    let strict = read(&text).validate_strict(&Methods::default()).unwrap_err();
    assert_snapshot!(strict, @"");
}

#[test]
fn typos_are_refused_with_the_line_and_what_was_meant() {
    assert_snapshot!(error(&format!("{HEAD}    paramters: {{weight: 1}}\n")), @"");
    assert_snapshot!(error(&format!("{HEAD}    parameters:\n      wieght: 1\n")), @"");
    assert_snapshot!(error(&format!("{HEAD}tokenzier_source: union\n")), @"");
    assert_snapshot!(error(&HEAD.replace("task_arithmetic", "task_arithmetik")), @"");
    assert_snapshot!(error("merge_method: linear\nslices:\n- sources:\n  - {model: a,\n     layer_rang: [0, 1]}\n"), @"");
}

#[test]
fn values_are_checked_at_every_level_and_leaf() {
    let with = |tail: &str| error(&format!("{HEAD}    parameters: {{weight: 1}}\n{tail}"));
    assert_snapshot!(with("parameters:\n  lambda: .nan\n"), @"");
    assert_snapshot!(with("parameters:\n  lambda:\n    - {filter: mlp, value: [1, -.inf]}\n"), @"");
    assert_snapshot!(with("parameters: {lambda: high}\n"), @"");
    assert_snapshot!(with("parameters:\n  lambda: {a: 1}\n"), @"");
    assert_snapshot!(with("parameters:\n  lambda:\n"), @"");
    assert_snapshot!(with("dtype: int4\n"), @"");
    assert_snapshot!(with("seed: -1\n"), @"");
    let slices = |source: &str| {
        error(&format!("merge_method: passthrough\nslices:\n  - sources:\n      - {source}\n"))
    };
    assert_snapshot!(slices("{model: a, parameters: {scale: x}}"), @"");
    assert_snapshot!(slices("{model: a, layer_range: [4, 2]}"), @"");
    assert_snapshot!(slices("{model: a, layer_range: [2, 2]}"), @"");
    assert_snapshot!(slices("{model: a, layer_range: [-1, 2]}"), @"");
    assert_snapshot!(slices("{model: a@b@c, layer_range: [0, 2]}"), @"");
}

#[test]
fn forms_models_and_bases_are_checked_without_files() {
    assert_snapshot!(error("merge_method: linear\n"), @"");
    assert_snapshot!(error("merge_method: linear\nmodels: []\n"), @"");
    assert_snapshot!(error("models: [{model: a}]\n"), @"");
    assert_snapshot!(error("merge_method: linear\nmodules: {m: {parameters: {weight: 1}}}\n"), @"");
    assert_snapshot!(error("merge_method: linear\nmodels: [{model: a}, {model: a}]\nparameters: {weight: 1}\n"), @"");
    assert_snapshot!(error("merge_method: linear\nmodels:\n- {model: a, parameters: {weight: 1}}\n- model: b\n"), @"");
    assert_snapshot!(error("merge_method: linear\nbase_model: o\nmodels: [{model: a, parameters: {weight: 1}}]\n"), @"");
    assert_snapshot!(error("merge_method: task_arithmetic\nmodels: [{model: a, parameters: {weight: 1}}]\n"), @"");
    assert_snapshot!(error("merge_method: passthrough\nmodels: [{model: a}, {model: b}]\n"), @"");
    assert_snapshot!(error("merge_method: linear\nslices:\n  - sources: []\n"), @"");
    assert_snapshot!(error("merge_method: task_arithmetic\nbase_model: o\nslices:\n  - sources: [{model: a}]\nparameters: {weight: 1}\n"), @"");
    assert_snapshot!(error(&format!("{HEAD}tokenizer_source: base\ntokenizer: {{source: union}}\n")), @"");
}

#[test]
fn texts_that_are_no_recipe_are_refused() {
    assert_snapshot!(error(""), @"");
    assert_snapshot!(error("hello"), @"");
    assert_snapshot!(error("- 1\n- 2\n"), @"");
    assert_snapshot!(error("name: a\n---\nname: b\n"), @"");
    assert_snapshot!(error("merge_method: linear\nmodels: a\n"), @"");
    assert_snapshot!(error("merge_method: linear\nmodels: [a]\n"), @"");
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("r.yml");
    let file = |bytes: &[u8]| {
        std::fs::write(&path, bytes).unwrap();
        let error = Recipe::from_path(&path).unwrap_err().to_string();
        error.replace(&format!("{}/", dir.path().display()), "")
    };
    assert_snapshot!(file(b"a: \xff"), @"");
    assert_snapshot!(file(b"merge_method: linear\nmodles: []\n"), @"");
    assert_snapshot!(file(&vec![b'x'; 3 << 20]), @"");
    assert!(Recipe::from_path(dir.path().join("none.yml")).unwrap_err().to_string().contains("none.yml"));
}
