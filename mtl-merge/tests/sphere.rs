//! Methods of averages, spheres and selection: the reference tool's results, and what must hold of any checkpoints.
#![allow(clippy::expect_used, clippy::unwrap_used, clippy::panic)]
use mtl_core::params::ParamStore;
use mtl_merge::{Engine, FloatType, HostTensor, Recipe, TensorMap};
use proptest::prelude::*;
use std::path::{Path, PathBuf};

fn golden() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden")
}

fn input(name: &str) -> String {
    golden().join("inputs").join(name).to_string_lossy().into_owned()
}

/// A recipe of three or fewer fine-tuned models, with weights if they are given.
fn recipe(method: &str, base: Option<&str>, models: &[(&str, Option<f64>)]) -> Recipe {
    let start = Recipe::new(method);
    let start = base.map_or(start.clone(), |base| start.base(input(base)));
    models.iter().fold(start, |recipe, (model, weight)| match weight {
        Some(weight) => recipe.model(input(model), *weight),
        None => recipe.input(input(model)),
    })
}

const THREE: [(&str, Option<f64>); 3] = [("f32/ft1", None), ("f32/ft2", None), ("f32/ft3", None)];
const BF16: [(&str, Option<f64>); 3] = [("bf16/ft1", None), ("bf16/ft2", None), ("bf16/ft3", None)];

fn weighted(weights: [f64; 3]) -> [(&'static str, Option<f64>); 3] {
    [0, 1, 2].map(|i| (THREE[i].0, Some(weights[i])))
}

fn relative(method: &str) -> Recipe {
    recipe(method, Some("f32/base"), &THREE)
}

fn one(method: &str) -> Recipe {
    recipe(method, Some("f32/base"), &THREE[1..2])
}

/// Merges and compares with what the reference tool makes of the case.
fn check(case: &str, recipe: &Recipe) {
    let folder = golden().join("cases").join(case);
    let meta: serde_json::Value =
        serde_json::from_slice(&std::fs::read(folder.join("meta.json")).unwrap()).unwrap();
    let tolerance = |key: &str| meta["tolerance"][key].as_f64().unwrap_or(0.0);
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("merged.safetensors");
    recipe.run(&out).unwrap();
    let found = ParamStore::open(&out).unwrap();
    let expected = ParamStore::open(folder.join("expected.safetensors")).unwrap();
    assert_eq!(found.names().collect::<Vec<_>>(), expected.names().collect::<Vec<_>>());
    let (mut failed, mut all, mut first) = (0, 0, String::new());
    for name in expected.names() {
        let (a, b) = (expected.info(name).unwrap(), found.info(name).unwrap());
        assert_eq!((a.dtype, &a.shape), (b.dtype, &b.shape), "{case}: {name}");
        let (a, b) = (expected.f32s(name).unwrap(), found.f32s(name).unwrap());
        for (i, (&e, &c)) in a.iter().zip(b.iter()).enumerate() {
            let (e, c) = (f64::from(e), f64::from(c));
            let ulp = 2_f64.powi((e.abs().max(2_f64.powi(-126)).log2().floor() as i32) - 7);
            let steps = tolerance("bf16_ulp");
            let atol = if steps > 0.0 { 2e-8 } else { tolerance("atol") };
            all += 1;
            if (c - e).abs() > atol + tolerance("rtol") * e.abs() + steps * ulp {
                failed += 1;
                first = format!("{name}[{i}]: expected {e}, found {c}");
            }
        }
    }
    let allowed = tolerance("max_mismatch_fraction") * f64::from(all);
    assert!(f64::from(failed) <= allowed, "{case}: {failed} of {all} differ, such as {first}");
}

#[test]
fn slerp_and_nuslerp_agree_with_the_reference() {
    check("slerp", &recipe("slerp", Some("f32/ft1"), &THREE[1..2]).parameter("t", 0.35));
    check("bf16_slerp", &recipe("slerp", Some("bf16/base"), &BF16[..1]).parameter("t", 0.6));
    check("nuslerp", &recipe("nuslerp", None, &[("f32/ft1", Some(0.7)), ("f32/ft3", Some(0.5))]));
    let based = |second| {
        let models = [("f32/ft1", Some(1.0)), ("f32/ft2", Some(second))];
        recipe("nuslerp", Some("f32/base"), &models).parameter("nuslerp_flatten", false)
    };
    check("nuslerp_base_rows", &based(2.0));
    check("nuslerp_base_dim0", &based(0.5).parameter("nuslerp_row_wise", true));
}

#[test]
fn means_on_the_sphere_agree_with_the_reference() {
    check("multislerp", &recipe("multislerp", None, &weighted([0.2, 0.3, 0.5])));
    check("multislerp_base", &recipe("multislerp", Some("f32/base"), &weighted([1.0, 1.0, 2.0])));
    check("karcher", &recipe("karcher", None, &THREE));
}

#[test]
fn model_stock_agrees_with_the_reference() {
    check("model_stock", &relative("model_stock"));
    check("model_stock_filter_wise", &relative("model_stock").parameter("filter_wise", true));
    let bf16 = recipe("model_stock", Some("bf16/base"), &BF16).out_dtype(FloatType::Bf16);
    check("bf16_model_stock_f32math", &bf16);
}

#[test]
fn methods_that_choose_values_agree_with_the_reference() {
    check("nearswap", &one("nearswap").parameter("t", 0.002));
    check("arcee_fusion", &one("arcee_fusion"));
    check("ram", &relative("ram").parameter("epsilon", 0.004));
    let plus = relative("ramplus_tl").parameter("epsilon", 0.004);
    check("ramplus_tl", &plus.parameter("r", 0.5).parameter("alpha", 1.5));
    check("sce", &relative("sce"));
    check("sce_topk", &relative("sce").parameter("select_topk", 0.6));
}

/// A matrix and a vector.
fn map(values: &[f32]) -> TensorMap {
    let (a, b) = values.split_at(6);
    TensorMap::from([
        ("a".to_owned(), HostTensor::new(vec![2, 3], a.to_vec()).unwrap()),
        ("b".to_owned(), HostTensor::vector(b.to_vec())),
    ])
}

fn values() -> impl Strategy<Value = TensorMap> {
    prop::collection::vec(-4.0_f32..4.0, 10).prop_map(|values| map(&values))
}

/// The method with parameters that show its ways, by name.
fn named(method: &str) -> Recipe {
    let start = Recipe::new(method);
    let start =
        if ["nuslerp", "multislerp", "karcher"].contains(&method) { start } else { start.base("base") };
    match method {
        "slerp" | "nearswap" => start.parameter("t", 0.3),
        "nuslerp" | "multislerp" => start.parameter("weight", 0.7),
        "sce" => start.parameter("select_topk", 0.5),
        "model_stock" => start.parameter("filter_wise", true),
        _ => start,
    }
}

fn run(method: Recipe, base: &TensorMap, models: &[&TensorMap]) -> TensorMap {
    let recipe = (0..models.len()).fold(method, |recipe, i| recipe.input(format!("model {i}")));
    let base = recipe.base.as_ref().map(|_| base);
    recipe.run_in_memory(base, models).unwrap()
}

fn near(a: &TensorMap, b: &TensorMap) -> bool {
    let flat = |map: &TensorMap| map.values().flat_map(|t| t.data().to_vec()).collect::<Vec<f32>>();
    flat(a).iter().zip(flat(b)).all(|(a, b)| (a - b).abs() <= 1e-5 * (1.0 + a.abs()))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn the_order_of_models_does_not_matter(base in values(), a in values(), b in values(), c in values()) {
        for method in ["multislerp", "karcher", "model_stock", "ram", "ramplus_tl", "sce"] {
            let found = run(named(method), &base, &[&a, &b, &c]);
            prop_assert!(near(&found, &run(named(method), &base, &[&c, &a, &b])), "{}", method);
        }
        prop_assert!(near(&run(named("nuslerp"), &base, &[&a, &b]), &run(named("nuslerp"), &base, &[&b, &a])));
        let slerp = |t: f64| named("slerp").parameter("t", t);
        prop_assert!(near(&run(slerp(0.3), &a, &[&b]), &run(slerp(0.7), &b, &[&a])));
    }

    #[test]
    fn equal_models_merge_to_themselves(base in values(), a in values()) {
        for method in ["multislerp", "karcher", "model_stock", "ram"] {
            prop_assert!(near(&run(named(method), &base, &[&a, &a, &a]), &a), "{}", method);
        }
        prop_assert!(near(&run(named("sce").parameter("select_topk", 1.0), &base, &[&a, &a]), &a));
        prop_assert!(near(&run(named("nuslerp"), &base, &[&a, &a]), &a));
        for method in ["slerp", "nearswap", "arcee_fusion"] {
            prop_assert!(near(&run(named(method), &a, &[&a]), &a), "{}", method);
        }
    }

    #[test]
    fn the_ends_are_the_inputs(a in values(), b in values()) {
        for (t, end) in [(0.0, &a), (1.0, &b)] {
            prop_assert!(near(&run(named("slerp").parameter("t", t), &a, &[&b]), end));
            for (flatten, row_wise) in [(true, false), (false, false), (false, true)] {
                let recipe = Recipe::new("nuslerp").model("a", 1.0 - t).model("b", t);
                let recipe = recipe.parameter("nuslerp_flatten", flatten).parameter("nuslerp_row_wise", row_wise);
                prop_assert!(near(&recipe.run_in_memory(None, &[&a, &b]).unwrap(), end));
            }
        }
        prop_assert!(near(&run(named("nearswap").parameter("t", 0.0), &a, &[&b]), &a));
        prop_assert!(near(&run(named("nearswap").parameter("t", 10.0), &a, &[&b]), &b));
    }

    #[test]
    fn moving_all_models_moves_the_result(base in values(), a in values(), b in values()) {
        let moved = |map: &TensorMap| {
            let moved = |t: &HostTensor| t.data().iter().map(|x| x + 0.5).collect::<Vec<f32>>();
            map.iter().map(|(name, t)| (name.clone(), HostTensor::new(t.shape().to_vec(), moved(t)).unwrap()))
                .collect::<TensorMap>()
        };
        for method in ["model_stock", "ram", "ramplus_tl", "nearswap"] {
            let models: &[&TensorMap] = if method == "nearswap" { &[&a] } else { &[&a, &b] };
            let (base2, models2) = (moved(&base), models.iter().map(|m| moved(m)).collect::<Vec<_>>());
            let found = run(named(method), &base2, &models2.iter().collect::<Vec<_>>());
            prop_assert!(near(&found, &moved(&run(named(method), &base, models))), "{}", method);
        }
    }
}

#[test]
fn results_do_not_depend_on_threads() {
    let (rows, cols) = (700, 900);
    let list = |k: usize| {
        let value = move |i: usize| (((i * k + i / 13) % 1009) as f32 / 504.0 - 1.0) * 0.1;
        TensorMap::from([
            (
                "big".to_owned(),
                HostTensor::new(vec![rows, cols], (0..rows * cols).map(value).collect()).unwrap(),
            ),
            ("small".to_owned(), HostTensor::vector((0..cols).map(value).collect())),
        ])
    };
    let [base, a, b, c] = [3, 5, 7, 11].map(list);
    let mut cases: Vec<(Recipe, Vec<&TensorMap>)> = Vec::new();
    for method in ["multislerp", "karcher", "model_stock", "ram", "ramplus_tl", "sce"] {
        cases.push((named(method), vec![&a, &b, &c]));
    }
    for method in ["slerp", "nearswap", "arcee_fusion"] {
        cases.push((named(method), vec![&a]));
    }
    for row_wise in [false, true] {
        let recipe =
            named("nuslerp").parameter("nuslerp_flatten", false).parameter("nuslerp_row_wise", row_wise);
        cases.push((recipe, vec![&a, &b]));
    }
    cases.push((named("nuslerp"), vec![&a, &b]));
    cases.push((named("model_stock").parameter("filter_wise", false), vec![&a, &b, &c]));
    for (recipe, models) in cases {
        let recipe = (0..models.len()).fold(recipe, |recipe, i| recipe.input(format!("model {i}")));
        let base = recipe.base.as_ref().map(|_| &base);
        let merged =
            [1, 3].map(|n| Engine::default().threads(n).run_in_memory(&recipe, base, &models).unwrap());
        assert!(merged[0] == merged[1], "{}", recipe.method);
    }
}

#[test]
fn counts_of_models_and_missing_parameters_are_told() {
    let maps = [1.0, 2.0, 3.0].map(|x| TensorMap::from([("w".to_owned(), HostTensor::vector(vec![x]))]));
    let models: Vec<&TensorMap> = maps.iter().collect();
    let error = |recipe: Recipe, n: usize| {
        let recipe = (0..n).fold(recipe, |recipe, i| recipe.input(format!("model {i}")));
        let base = recipe.base.as_ref().map(|_| models[0]);
        recipe.run_in_memory(base, &models[..n]).unwrap_err().to_string()
    };
    assert!(error(named("slerp"), 2).contains("exactly 1 model besides the base"));
    assert!(error(named("nuslerp"), 3).contains("exactly 2 models"));
    assert!(error(named("model_stock"), 1).contains("at least 2 models besides the base"));
    assert!(error(Recipe::new("slerp").base("base"), 1).contains("requires `t`"));
    assert!(error(Recipe::new("arcee_fusion"), 1).contains("needs a `base_model`"));
    assert!(error(named("sce").parameter("select_topk", 1.5), 2).contains("a number from 0 to 1"));
}
