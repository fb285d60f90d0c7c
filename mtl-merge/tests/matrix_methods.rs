//! The methods outside the reference tool: published values in float64, and what must hold of them.
#![allow(clippy::expect_used, clippy::unwrap_used, clippy::panic)]
use mtl_core::params::{Dtype, ParamStore, ParamView, write_params};
use mtl_merge::{Engine, Error, ModelEntry, ParamValue, Recipe};
use serde_json::Value;
use std::{collections::BTreeMap, path::Path};

/// Shape and values by name.
type Model = BTreeMap<String, (Vec<usize>, Vec<f64>)>;

struct Files(tempfile::TempDir);

impl Files {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self, name: &str) -> String {
        self.0.path().join(format!("{name}.safetensors")).to_string_lossy().into_owned()
    }

    fn write(&self, name: &str, model: &Model) -> String {
        let bytes: Vec<(&String, &Vec<usize>, Vec<u8>)> = model
            .iter()
            .map(|(name, (shape, values))| {
                (name, shape, values.iter().flat_map(|x| x.to_le_bytes()).collect())
            })
            .collect();
        let views: Vec<ParamView<'_>> =
            bytes.iter().map(|(name, shape, bytes)| ParamView::new(name, Dtype::F64, shape, bytes)).collect();
        write_params(self.path(name), &Default::default(), &views).unwrap();
        self.path(name)
    }

    fn try_run(&self, recipe: &Recipe, threads: usize) -> Result<Model, Error> {
        let out = self.path("merged.safetensors");
        Engine::default().threads(threads).run(recipe, Path::new(&out))?;
        let store = ParamStore::open(&out).unwrap();
        let tensor = |(name, info): (&str, &mtl_core::params::TensorInfo)| {
            let (elements, _) = store.bytes(name).unwrap().as_chunks::<8>();
            (name.to_owned(), (info.shape.clone(), elements.iter().map(|x| f64::from_le_bytes(*x)).collect()))
        };
        Ok(store.iter().map(tensor).collect())
    }

    fn run(&self, recipe: &Recipe) -> Model {
        self.try_run(recipe, 1).unwrap()
    }

    /// A recipe for the base and the models whose task vectors are given.
    fn recipe(&self, method: &str, base: &Model, deltas: &[Model]) -> Recipe {
        let mut recipe = Recipe::new(method).base(self.write("base", base));
        for (i, delta) in deltas.iter().enumerate() {
            recipe = recipe.input(self.write(&format!("model{i}"), &plus(base, delta, 1.0)));
        }
        recipe
    }
}

fn plus(a: &Model, b: &Model, factor: f64) -> Model {
    let sum = |(name, (shape, values)): (&String, &(Vec<usize>, Vec<f64>))| {
        let other = &b[name].1;
        let values = values.iter().zip(other).map(|(x, y)| x + factor * y).collect();
        (name.clone(), (shape.clone(), values))
    };
    a.iter().map(sum).collect()
}

fn golden() -> Vec<Value> {
    let text = std::fs::read_to_string(
        Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/matrix_methods.json"),
    );
    let all: Value = serde_json::from_str(&text.unwrap()).unwrap();
    all["cases"].as_array().unwrap().clone()
}

fn flat(value: &Value, out: &mut Vec<f64>) {
    match value {
        Value::Array(items) => items.iter().for_each(|item| flat(item, out)),
        Value::Bool(x) => out.push(f64::from(u8::from(*x))),
        other => out.push(other.as_f64().unwrap()),
    }
}

fn shape(value: &Value) -> Vec<usize> {
    let mut shape = Vec::new();
    let mut at = value;
    while let Some(items) = at.as_array() {
        shape.push(items.len());
        at = &items[0];
    }
    shape
}

fn tensor(value: &Value) -> (Vec<usize>, Vec<f64>) {
    let mut values = Vec::new();
    flat(value, &mut values);
    (shape(value), values)
}

fn model(value: &Value) -> Model {
    value.as_object().unwrap().iter().map(|(name, value)| (name.clone(), tensor(value))).collect()
}

fn models(value: &Value) -> Vec<Model> {
    value.as_array().unwrap().iter().map(model).collect()
}

/// Cuts a flat list into tensors of the shapes of `like`.
fn cut(values: &[f64], like: &Model) -> Model {
    let mut at = 0;
    let part = |(name, (shape, own)): (&String, &(Vec<usize>, Vec<f64>))| {
        at += own.len();
        (name.clone(), (shape.clone(), values[at - own.len()..at].to_vec()))
    };
    like.iter().map(part).collect()
}

/// The tolerance of the golden file.
#[track_caller]
fn close(found: &Model, expected: &Model, what: &str) {
    assert!(found.keys().eq(expected.keys()));
    for (name, (shape, values)) in expected {
        assert_eq!(&found[name].0, shape);
        for (i, (e, c)) in values.iter().zip(&found[name].1).enumerate() {
            assert!((e - c).abs() <= 1e-8 + 1e-7 * e.abs(), "{what}: {name}[{i}]: expected {e}, found {c}");
        }
    }
}

#[test]
fn spectral_methods_match_the_published_code() {
    for case in golden() {
        let files = Files::new();
        let (base, deltas) = (model(&case["theta0"]), models(&case["task_vectors"]));
        for method in ["tsv_m", "iso_c"] {
            let recipe = files.recipe(method, &base, &deltas);
            close(&files.run(&recipe), &plus(&base, &model(&case[method]), 1.0), method);
            let half = files.run(&recipe.parameter("scale", 0.5));
            close(&half, &plus(&base, &model(&case[method]), 0.5), method);
        }
        for expected in case["iso_cts"].as_array().unwrap() {
            let fraction = expected["common_space_fraction"].as_f64().unwrap();
            let recipe = files.recipe("iso_cts", &base, &deltas).parameter("common_fraction", fraction);
            close(&files.run(&recipe), &plus(&base, &model(&expected["merged"]), 1.0), "iso_cts");
        }
    }
}

#[test]
fn emr_matches_the_published_code() {
    for case in golden() {
        let files = Files::new();
        let (base, deltas) = (model(&case["theta0"]), models(&case["task_vectors"]));
        let recipe = files.recipe("emr", &base, &deltas);
        let unified = model(&case["emr"]["unified"]);
        close(&files.run(&recipe), &plus(&base, &unified, 1.0), "unified");
        for (task, mask) in models(&case["emr"]["masks"]).iter().enumerate() {
            let factor = case["emr"]["rescalers"][task].as_f64().unwrap();
            let mut masked = unified.clone();
            for (name, (_, values)) in &mut masked {
                values.iter_mut().zip(&mask[name].1).for_each(|(x, m)| *x *= m);
            }
            let found = files.run(&recipe.clone().parameter("task", task as f64));
            close(&found, &plus(&base, &masked, factor), "task");
        }
    }
}

#[test]
fn tall_and_consensus_masks_match_the_published_code() {
    for case in golden() {
        let files = Files::new();
        let (base, deltas) = (model(&case["theta0"]), models(&case["task_vectors"]));
        let sum = deltas.iter().skip(1).fold(deltas[0].clone(), |a, b| plus(&a, b, 1.0));
        let masked = |mask: &Value| {
            let mask = cut(&tensor(mask).1, &base);
            let mut masked = sum.clone();
            for (name, (_, values)) in &mut masked {
                values.iter_mut().zip(&mask[name].1).for_each(|(x, m)| *x *= m);
            }
            masked
        };
        let recipe = files.recipe("tall_mask", &base, &deltas);
        close(&files.run(&recipe), &plus(&base, &sum, 1.0), "tall_mask");
        for (lambda, masks) in case["tall_masks"]["masks"].as_object().unwrap() {
            for (task, mask) in masks.as_array().unwrap().iter().enumerate() {
                let recipe = recipe.clone().parameter("lambda", lambda.parse::<f64>().unwrap());
                let found = files.run(&recipe.parameter("task", task as f64));
                close(&found, &plus(&base, &masked(mask), 1.0), "tall_mask");
            }
        }
        for (k, mask) in case["consensus_0.6"].as_object().unwrap() {
            let recipe = files.recipe("consensus_ta", &base, &deltas).parameter("lambda", 0.6);
            let found = files.run(&recipe.parameter("k", k.parse::<f64>().unwrap()).parameter("scale", 0.7));
            close(&found, &plus(&base, &masked(mask), 0.7), "consensus_ta");
        }
    }
}

#[test]
fn pcb_matches_the_published_rules() {
    for case in golden() {
        let files = Files::new();
        let (base, deltas) = (model(&case["theta0"]), models(&case["task_vectors"]));
        let expected = cut(&tensor(&case["pcb_ratio_0.2"]["merged_flat"]).1, &base);
        let recipe = files.recipe("pcb", &base, &deltas).parameter("ratio", 0.2).parameter("weight", 1.0);
        close(&files.run(&recipe), &plus(&base, &expected, 1.0), "pcb");
        let usual = files.run(&files.recipe("pcb", &base, &deltas).parameter("ratio", 0.2));
        close(&usual, &plus(&base, &expected, 1.2), "pcb");
    }
}

/// Models given by one matrix each, with a file of statistics each.
fn with_statistics(
    files: &Files,
    method: &str,
    weights: &Value,
    statistics: &[(Vec<usize>, Vec<f64>)],
) -> Recipe {
    let mut recipe = Recipe::new(method);
    let parameter = if method == "regmean" { "gram" } else { method };
    for (i, (weight, entry)) in weights.as_array().unwrap().iter().zip(statistics).enumerate() {
        let one = |t: (Vec<usize>, Vec<f64>)| Model::from([("layer.weight".to_owned(), t)]);
        let statistics = files.write(&format!("statistics{i}"), &one(entry.clone()));
        let model = files.write(&format!("model{i}"), &one(tensor(weight)));
        recipe = recipe.model_with(model, [(parameter, statistics.as_str())]);
    }
    recipe
}

fn gram(inputs: &Value) -> (Vec<usize>, Vec<f64>) {
    let (shape, x) = tensor(inputs);
    let (rows, n) = (shape[0], shape[1]);
    let element =
        |i: usize, j: usize| (0..rows).map(|r| x[r * n + i] * x[r * n + j]).sum::<f64>() / rows as f64;
    (vec![n, n], (0..n * n).map(|at| element(at / n, at % n)).collect())
}

#[test]
fn regmean_matches_the_published_rules() {
    for case in golden() {
        let files = Files::new();
        let grams: Vec<_> = case["regmean"]["inputs"].as_array().unwrap().iter().map(gram).collect();
        let recipe = with_statistics(&files, "regmean", &case["regmean"]["weights_out_in"], &grams);
        for expected in case["regmean"]["results"].as_array().unwrap() {
            let found = files.run(&recipe.clone().parameter("alpha", expected["alpha"].as_f64().unwrap()));
            let expected = Model::from([("layer.weight".to_owned(), tensor(&expected["merged"]))]);
            close(&found, &expected, "regmean");
        }
    }
}

#[test]
fn fisher_matches_the_published_rules() {
    for case in golden() {
        let files = Files::new();
        let fisher: Vec<_> = case["fisher"]["weights"].as_array().unwrap().iter().map(tensor).collect();
        let recipe = with_statistics(&files, "fisher", &case["regmean"]["weights_out_in"], &fisher);
        for expected in case["fisher"]["results"].as_array().unwrap() {
            let found =
                files.run(&recipe.clone().parameter("normalize", expected["normalize"].as_f64().unwrap()));
            let expected = Model::from([("layer.weight".to_owned(), tensor(&expected["merged"]))]);
            close(&found, &expected, "fisher");
        }
    }
}

#[test]
fn methods_that_descend_match_a_direct_transcription_of_their_equations() {
    let text = std::fs::read_to_string(
        Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/descent_methods.json"),
    );
    let expected: Value = serde_json::from_str(&text.unwrap()).unwrap();
    for (case, expected) in golden().iter().zip(expected["cases"].as_array().unwrap()) {
        let files = Files::new();
        let (base, deltas) = (model(&case["theta0"]), models(&case["task_vectors"]));
        let merged = |name: &str| plus(&base, &model(&expected[name]), 1.0);
        let wudi = files.recipe("wudi", &base, &deltas);
        close(&files.run(&wudi.clone().parameter("lr", 1e-3)), &merged("wudi_adam"), "wudi");
        close(
            &files.run(&wudi.parameter("solver", "closed_form")),
            &merged("wudi_closed_form"),
            "closed form",
        );
        let doge = files.recipe("doge_ta", &base, &deltas).parameter("subspace", 3.0);
        let found = files.run(&doge.parameter("steps", 100.0).parameter("lr", 1e-2));
        close(&found, &merged("doge_ta"), "doge_ta");
    }
}

const TASK_VECTOR_METHODS: [&str; 9] =
    ["tsv_m", "iso_c", "iso_cts", "consensus_ta", "tall_mask", "pcb", "emr", "wudi", "doge_ta"];

#[test]
fn results_do_not_depend_on_threads_nor_on_the_order_of_models() {
    let case = &golden()[0];
    let files = Files::new();
    let (base, deltas) = (model(&case["theta0"]), models(&case["task_vectors"]));
    for method in TASK_VECTOR_METHODS {
        let recipe = files.recipe(method, &base, &deltas);
        let one = files.try_run(&recipe, 1).unwrap();
        assert_eq!(one, files.try_run(&recipe, 3).unwrap(), "{method}");
        let mut turned = recipe.clone();
        turned.models.rotate_left(1);
        close(&files.run(&turned), &one, method);
    }
}

#[test]
fn models_equal_to_the_base_give_the_base() {
    let case = &golden()[1];
    let base = model(&case["theta0"]);
    let zero = plus(&base, &base, -1.0);
    for method in TASK_VECTOR_METHODS {
        let files = Files::new();
        let recipe = files.recipe(method, &base, &[zero.clone(), zero.clone()]);
        assert_eq!(files.run(&recipe), base, "{method}");
    }
}

#[test]
fn a_model_alone_comes_back() {
    let case = &golden()[0];
    let (base, deltas) = (model(&case["theta0"]), models(&case["task_vectors"]));
    let files = Files::new();
    let alone = plus(&base, &deltas[0], 1.0);
    close(&files.run(&files.recipe("tsv_m", &base, &deltas[..1])), &alone, "tsv_m");
    close(&files.run(&files.recipe("tall_mask", &base, &deltas[..1])), &alone, "tall_mask");
    // Closed form: two equal models, whose task vector satisfies both.
    let twice = [deltas[0].clone(), deltas[0].clone()];
    let recipe = files.recipe("wudi", &base, &twice).parameter("solver", "closed_form");
    close(&files.run(&recipe), &alone, "wudi");
    close(&files.run(&files.recipe("emr", &base, &twice)), &alone, "emr");
    let recipe = files.recipe("emr", &base, &twice).parameter("task", 1.0);
    close(&files.run(&recipe), &alone, "emr");
}

#[test]
fn a_common_factor_of_the_task_vectors_comes_through() {
    let case = &golden()[0];
    let (base, deltas) = (model(&case["theta0"]), models(&case["task_vectors"]));
    let zero = plus(&base, &base, -1.0);
    let doubled: Vec<Model> = deltas.iter().map(|d| plus(d, d, 1.0)).collect();
    for method in ["tsv_m", "iso_c", "iso_cts", "consensus_ta", "tall_mask", "pcb", "emr", "wudi"] {
        let files = Files::new();
        let with = |deltas: &[Model]| {
            let recipe = files.recipe(method, &zero, deltas);
            if method == "wudi" { recipe.parameter("solver", "closed_form") } else { recipe }
        };
        let (once, twice) = (files.run(&with(&deltas)), files.run(&with(&doubled)));
        close(&twice, &plus(&once, &once, 1.0), method);
    }
}

#[test]
fn equal_models_keep_the_leading_part_of_their_task_vector() {
    // diag(4, 3, 2, 1) twice: each task has room for two triplets, and both have the same two.
    let diagonal = |d: [f64; 4]| {
        let values = (0..16).map(|i| if i % 5 == 0 { d[i / 5] } else { 0.0 }).collect();
        Model::from([("w".to_owned(), (vec![4, 4], values))])
    };
    let files = Files::new();
    let delta = diagonal([4.0, 3.0, 2.0, 1.0]);
    let recipe = files.recipe("tsv_m", &diagonal([0.0; 4]), &[delta.clone(), delta]);
    close(&files.run(&recipe), &diagonal([4.0, 3.0, 0.0, 0.0]), "tsv_m");
}

#[test]
fn matrices_can_be_spared() {
    let case = &golden()[0];
    let (base, deltas) = (model(&case["theta0"]), models(&case["task_vectors"]));
    let files = Files::new();
    let spare: ParamValue =
        serde_json::from_str(r#"[{"filter": "w0", "value": false}, {"value": true}]"#).unwrap();
    let found = files.run(&files.recipe("iso_c", &base, &deltas).parameter("matrix_rule", spare));
    let third = |m: &Model| deltas.iter().fold(m.clone(), |a, d| plus(&a, d, 1.0 / 3.0));
    let mut expected = plus(&base, &model(&case["iso_c"]), 1.0);
    expected.insert("w0".to_owned(), third(&base)["w0"].clone());
    close(&found, &expected, "iso_c");
}

#[test]
fn statistics_that_do_not_suit_are_named() {
    let case = &golden()[0];
    let files = Files::new();
    let weights = &case["regmean"]["weights_out_in"];
    let message = |recipe: &Recipe| {
        let text = files.try_run(recipe, 1).unwrap_err().to_string();
        text.replace(&files.0.path().to_string_lossy().into_owned(), "DIR")
    };
    let ones = |shape: [usize; 2]| (shape.to_vec(), vec![1.0; shape[0] * shape[1]]);

    let recipe = with_statistics(&files, "fisher", weights, &[ones([8, 6]), ones([8, 6]), ones([6, 8])]);
    insta::assert_snapshot!(message(&recipe), @"`layer.weight` in the fisher statistics `DIR/statistics2.safetensors` has shape [6, 8], but must have [8, 6]");
    let mut negative = ones([8, 6]);
    negative.1[7] = -1.0;
    let recipe = with_statistics(&files, "fisher", weights, &[negative, ones([8, 6]), ones([8, 6])]);
    insta::assert_snapshot!(message(&recipe), @"`layer.weight` in the fisher statistics `DIR/statistics0.safetensors` holds NaN, infinity or negative numbers");
    let other = Model::from([("other".to_owned(), ones([8, 6]))]);
    files.write("statistics1", &other);
    insta::assert_snapshot!(message(&with_path(&recipe, 0, &files.path("statistics1"))), @"`layer.weight` in the fisher statistics `DIR/statistics1.safetensors` is missing");
    insta::assert_snapshot!(message(&with_path(&recipe, 2, &files.path("nowhere"))), @"parameter `fisher`: cannot read `DIR/nowhere.safetensors`: No such file or directory (os error 2)");
    let mut without = recipe.clone();
    without.models[1].parameters.clear();
    insta::assert_snapshot!(message(&without), @"models[1]: method `fisher` requires `fisher` of every model, but `DIR/model1.safetensors` has none");

    let mut skew = ones([6, 6]);
    skew.1[1] = 2.0;
    let recipe = with_statistics(&files, "regmean", weights, &[ones([6, 6]), skew, ones([6, 6])]);
    insta::assert_snapshot!(message(&recipe), @"`layer.weight` in the gram statistics `DIR/statistics1.safetensors` is not symmetric: elements [1, 0] and [0, 1] are 1 and 2");
    files.write("statistics1", &other);
    insta::assert_snapshot!(message(&recipe), @"`layer.weight` in the gram statistics `DIR/statistics1.safetensors` is missing");
    let zeros = (vec![6, 6], vec![0.0; 36]);
    let recipe = with_statistics(&files, "regmean", weights, &[zeros.clone(), zeros.clone(), zeros]);
    insta::assert_snapshot!(message(&recipe), @"method `regmean` cannot merge `layer.weight`: its system of equations is singular; with a filter, `matrix_rule: false` spares single tensors");
}

fn with_path(recipe: &Recipe, model: usize, path: &str) -> Recipe {
    let mut recipe = recipe.clone();
    let entry: &mut ModelEntry = &mut recipe.models[model];
    entry.parameters.values_mut().for_each(|v| *v = path.into());
    recipe
}

#[test]
fn matrices_without_statistics_are_averaged_with_a_warning_and_singular_ones_get_a_ridge() {
    let case = &golden()[0];
    let files = Files::new();
    let weights = &case["regmean"]["weights_out_in"];
    let ones = (vec![6, 6], vec![1.0; 36]);
    let recipe = with_statistics(&files, "regmean", weights, &[ones.clone(), ones.clone(), ones]);
    let report = Engine::default()
        .run(&recipe.clone().parameter("alpha", 1.0), Path::new(&files.path("out")))
        .unwrap();
    assert_eq!(
        report.warnings,
        ["`layer.weight`: its summed Gram matrices are singular, so 1e-6 of their mean diagonal is added"]
    );
    for i in 0..3 {
        files.write(&format!("statistics{i}"), &Model::from([("other".to_owned(), (vec![1], vec![1.0]))]));
    }
    let report = Engine::default().run(&recipe, Path::new(&files.path("out"))).unwrap();
    assert_eq!(report.warnings, ["`layer.weight`: no file has a Gram matrix for it, so it is averaged"]);
    let mean = weights.as_array().unwrap().iter().map(|w| tensor(w).1[5]).sum::<f64>() / 3.0;
    assert!((files.run(&recipe)["layer.weight"].1[5] - mean).abs() < 1e-15);
}

#[test]
fn wrong_parameters_are_refused() {
    let case = &golden()[0];
    let (base, deltas) = (model(&case["theta0"]), models(&case["task_vectors"]));
    let files = Files::new();
    let message = |recipe: Recipe| files.try_run(&recipe, 1).unwrap_err().to_string();
    insta::assert_snapshot!(message(files.recipe("emr", &base, &deltas).parameter("task", 3.0)), @"parameters.task must be one number for all tensors, that of a model (0, 1, 2), but is 3");
    insta::assert_snapshot!(message(files.recipe("wudi", &base, &deltas).parameter("solver", "newton")), @"parameters.solver must be `adam` or `closed_form`, but is `newton`");
    let mixed: ParamValue =
        serde_json::from_str(r#"[{"filter": "w0", "value": 0.1}, {"value": 0.2}]"#).unwrap();
    insta::assert_snapshot!(message(files.recipe("pcb", &base, &deltas).parameter("ratio", mixed)), @"method `pcb` cannot merge `w1`: its `ratio` is 0.2, that of other tensors 0.1, but quantiles of the whole model decide; give one number");
}

#[test]
fn what_a_matrix_takes_is_checked_against_the_limit() {
    let base = Model::from([("w".to_owned(), (vec![600, 600], vec![0.5; 360_000]))]);
    let files = Files::new();
    let recipe = files.recipe("tsv_m", &base, std::slice::from_ref(&base));
    let run = |recipe: &Recipe, mib| {
        Engine::default().threads(1).max_memory_mib(mib).run(recipe, Path::new(&files.path("out")))
    };
    insta::assert_snapshot!(run(&recipe, 16).unwrap_err(), @"`w` takes 72 MiB with method `tsv_m`, but the limit is 16 MiB; raise `--max-memory`");
    run(&recipe.parameter("matrix_rule", false), 16).unwrap();
}

#[test]
fn nan_that_is_allowed_is_an_error_where_it_decides() {
    let case = &golden()[1];
    let (base, mut deltas) = (model(&case["theta0"]), models(&case["task_vectors"]));
    deltas[0].get_mut("w0").unwrap().1[3] = f64::NAN;
    for method in TASK_VECTOR_METHODS {
        let files = Files::new();
        let recipe = files.recipe(method, &base, &deltas);
        assert!(matches!(files.try_run(&recipe, 1), Err(Error::NonFinite { .. })), "{method}");
        let result = Engine::default().allow_non_finite(true).run(&recipe, Path::new(&files.path("out")));
        let decomposes = ["tsv_m", "iso_c", "iso_cts", "doge_ta"].contains(&method);
        assert_eq!(matches!(result, Err(Error::Unmergeable { .. })), decomposes, "{method}: {result:?}");
    }
}
