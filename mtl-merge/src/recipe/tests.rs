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
    assert_snapshot!(warnings(PUBLISHED[4]), @"line 2: x-common: unknown key `x-common`, which is ignored");
    let text = format!(
        "{HEAD}    parameters: {{weight: 1, normalize: true}}\n    comment: x\ngradient_clipping: 1\n"
    );
    assert_snapshot!(warnings(&text), @r#"
line 5: models[0].parameters.normalize: `normalize` concerns the whole merge and is ignored here; move it to `parameters`
line 6: models[0].comment: unknown key `comment`, which is ignored
line 7: gradient_clipping: unknown key `gradient_clipping`, which is ignored
"#);
    let strict = read(&text).validate_strict(&Methods::default()).unwrap_err();
    assert_snapshot!(strict, @"line 5: models[0].parameters.normalize: `normalize` concerns the whole merge and is ignored here; move it to `parameters`");
}

#[test]
fn typos_are_refused_with_the_line_and_what_was_meant() {
    assert_snapshot!(error(&format!("{HEAD}    paramters: {{weight: 1}}\n")), @"line 5: models[0].paramters: unknown key `paramters`; did you mean `parameters`?");
    assert_snapshot!(error(&format!("{HEAD}    parameters:\n      wieght: 1\n")), @"line 6: models[0].parameters: method `task_arithmetic` has no parameter `wieght`; did you mean `weight`?");
    assert_snapshot!(error(&format!("{HEAD}tokenzier_source: union\n")), @"line 5: tokenzier_source: unknown key `tokenzier_source`; did you mean `tokenizer_source`?");
    assert_snapshot!(error(&HEAD.replace("task_arithmetic", "task_arithmetik")), @"line 1: unknown merge method `task_arithmetik`; did you mean `task_arithmetic`?");
    assert_snapshot!(error("merge_method: linear\nslices:\n- sources:\n  - {model: a,\n     layer_rang: [0, 1]}\n"), @"line 5: slices[0].sources[0].layer_rang: unknown key `layer_rang`; did you mean `layer_range`?");
}

#[test]
fn values_are_checked_at_every_level_and_leaf() {
    let with = |tail: &str| error(&format!("{HEAD}    parameters: {{weight: 1}}\n{tail}"));
    assert_snapshot!(with("parameters:\n  lambda: .nan\n"), @"line 7: parameters.lambda must be a finite number, but is NaN");
    assert_snapshot!(with("parameters:\n  lambda:\n    - {filter: mlp, value: [1, -.inf]}\n"), @"line 8: parameters.lambda[0].value[1] must be a finite number, but is -inf");
    assert_snapshot!(with("parameters: {lambda: high}\n"), @"line 6: parameters.lambda must be a finite number, but is `high`");
    assert_snapshot!(with("parameters:\n  lambda: {a: 1}\n"), @"line 7: parameters.lambda: expected a number, true or false, a text, a list of them, or a list of {filter, value}");
    assert_snapshot!(with("parameters:\n  lambda:\n"), @"line 7: parameters.lambda: expected a number, true or false, a text, a list of them, or a list of {filter, value}");
    assert_snapshot!(with("dtype: int4\n"), @"line 6: dtype: `int4` is no floating-point type that is known here; expected `float16`, `bfloat16`, `float32` or `float64`");
    assert_snapshot!(with("seed: -1\n"), @"line 6: seed: invalid value: integer `-1`, expected u64");
    let slices = |source: &str| {
        error(&format!("merge_method: passthrough\nslices:\n  - sources:\n      - {source}\n"))
    };
    assert_snapshot!(slices("{model: a, parameters: {scale: x}}"), @"line 4: slices[0].sources[0].parameters.scale must be a finite number, but is `x`");
    assert_snapshot!(slices("{model: a, layer_range: [4, 2]}"), @"line 4: slices[0].sources[0].layer_range: [4, 2] is empty or reversed; a range is [first layer, last layer + 1]");
    assert_snapshot!(slices("{model: a, layer_range: [2, 2]}"), @"line 4: slices[0].sources[0].layer_range: [2, 2] is empty or reversed; a range is [first layer, last layer + 1]");
    assert_snapshot!(slices("{model: a, layer_range: [-1, 2]}"), @"line 4: slices[0].sources[0].layer_range[0]: invalid value: integer `-1`, expected usize");
    assert_snapshot!(slices("{model: a@b@c, layer_range: [0, 2]}"), @"line 4: slices[0].sources[0].model: `a@b@c` has more than one `@`; a model is `path@revision`");
}

#[test]
fn forms_models_and_bases_are_checked_without_files() {
    assert_snapshot!(error("merge_method: linear\n"), @"line 1: recipe: exactly one of `models`, `slices`, `modules` must be given, but there is none");
    assert_snapshot!(error("merge_method: linear\nmodels: []\n"), @"line 1: recipe: exactly one of `models`, `slices`, `modules` must be given, but there is none");
    assert_snapshot!(error("models: [{model: a}]\n"), @"line 1: recipe: missing field `merge_method`");
    assert_snapshot!(error("merge_method: linear\nmodules: {m: {parameters: {weight: 1}}}\n"), @"line 2: modules.m: exactly one of `models`, `slices` must be given, but there is none");
    assert_snapshot!(error("merge_method: linear\nmodels: [{model: a}, {model: a}]\nparameters: {weight: 1}\n"), @"line 2: models[1] repeats models[0]: `a`");
    assert_snapshot!(error("merge_method: linear\nmodels:\n- {model: a, parameters: {weight: 1}}\n- model: b\n"), @"line 4: models[1]: method `linear` requires `weight` of every model, but `b` has none");
    assert_snapshot!(error("merge_method: linear\nbase_model: o\nmodels: [{model: a, parameters: {weight: 1}}]\n"), @"line 2: base_model: method `linear` requires `weight` of every model, but `o` has none");
    assert_snapshot!(error("merge_method: task_arithmetic\nmodels: [{model: a, parameters: {weight: 1}}]\n"), @"line 1: method `task_arithmetic` needs a `base_model`, but the recipe has none");
    assert_snapshot!(error("merge_method: passthrough\nmodels: [{model: a}, {model: b}]\n"), @"line 2: models: method `passthrough` takes exactly 1 model, but there are 2");
    assert_snapshot!(error("merge_method: linear\nslices:\n  - sources: []\n"), @"line 3: slices[0].sources: a slice needs at least one source");
    assert_snapshot!(error("merge_method: task_arithmetic\nbase_model: o\nslices:\n  - sources: [{model: a}]\nparameters: {weight: 1}\n"), @"line 4: slices[0].sources: method `task_arithmetic` needs the base model among the sources");
    assert_snapshot!(error(&format!("{HEAD}tokenizer_source: base\ntokenizer: {{source: union}}\n")), @"line 5: tokenizer_source: `tokenizer` and `tokenizer_source` exclude each other; keep one");
}

#[test]
fn texts_that_are_no_recipe_are_refused() {
    assert_snapshot!(error(""), @"there is no recipe in the text");
    assert_snapshot!(error("hello"), @"line 1: recipe: expected keys such as `merge_method` and `models`, each with a value");
    assert_snapshot!(error("- 1\n- 2\n"), @"line 1: recipe: expected keys such as `merge_method` and `models`, each with a value");
    assert_snapshot!(error("name: a\n---\nname: b\n"), @"there are 2 recipes in the text; they are stages of one merge");
    assert_snapshot!(error("merge_method: linear\nmodels: a\n"), @r#"line 2: models: invalid type: string "a", expected a sequence"#);
    assert_snapshot!(error("merge_method: linear\nmodels: [a]\n"), @r#"line 2: models[0]: invalid type: string "a", expected a model: {model, parameters}"#);
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("r.yml");
    let file = |bytes: &[u8]| {
        std::fs::write(&path, bytes).unwrap();
        let error = Recipe::from_path(&path).unwrap_err().to_string();
        error.replace(&format!("{}/", dir.path().display()), "")
    };
    assert_snapshot!(file(b"a: \xff"), @"r.yml: no text: byte 3 is not UTF-8");
    assert_snapshot!(file(b"merge_method: linear\nmodles: []\n"), @"r.yml:2: modles: unknown key `modles`; did you mean `modules`?");
    assert_snapshot!(file(&vec![b'x'; 3 << 20]), @"r.yml: a recipe has at most 1048576 bytes, but this has 1048577");
    assert!(Recipe::from_path(dir.path().join("none.yml")).unwrap_err().to_string().contains("none.yml"));
}
