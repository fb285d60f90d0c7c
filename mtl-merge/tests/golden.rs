//! The merges of the reference tool, reproduced within its rounding, and float64 arithmetic within ours.
#![allow(clippy::expect_used, clippy::unwrap_used, clippy::panic)]
use mtl_core::params::{Dtype, ParamStore};
use mtl_merge::{FloatType, Recipe};
use std::path::{Path, PathBuf};

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name)
}

fn text(name: &str) -> String {
    golden(name).to_string_lossy().into_owned()
}

/// A recipe, and the sum `Σ factor · checkpoint` it stands for.
struct Case {
    recipe: Recipe,
    terms: Vec<(String, f64)>,
}

fn linear() -> Case {
    let weights = [("f32/ft1.safetensors", 0.5), ("f32/ft2.safetensors", 0.3), ("f32/ft3.safetensors", 0.4)];
    let recipe = weights.iter().fold(Recipe::new("linear"), |r, (m, w)| r.model(text(m), *w));
    Case { recipe, terms: weights.iter().map(|(m, w)| (text(m), w / (0.5 + 0.3 + 0.4))).collect() }
}

fn linear_nonorm() -> Case {
    let weights =
        [("f32/base.safetensors", 1.2), ("f32/ft1.safetensors", 0.3), ("f32/ft2.safetensors", -0.5)];
    let recipe = weights.iter().fold(Recipe::new("linear"), |r, (m, w)| r.model(text(m), *w));
    Case {
        recipe: recipe.parameter("normalize", false),
        terms: weights.iter().map(|(m, w)| (text(m), *w)).collect(),
    }
}

fn task_arithmetic(base: &str, models: [(&str, f64); 3], lambda: f64) -> Case {
    let recipe = Recipe::new("task_arithmetic").base(text(base)).parameter("lambda", lambda);
    let recipe = models.iter().fold(recipe, |r, (m, w)| r.model(text(m), *w));
    let rest = 1.0 - lambda * models.iter().map(|(_, w)| w).sum::<f64>();
    let mut terms = vec![(text(base), rest)];
    terms.extend(models.iter().map(|(m, w)| (text(m), lambda * w)));
    Case { recipe, terms }
}

fn task_arithmetic_f32() -> Case {
    let models = [("f32/ft1.safetensors", 0.4), ("f32/ft2.safetensors", 0.3), ("f32/ft3.safetensors", -0.2)];
    task_arithmetic("f32/base.safetensors", models, 0.7)
}

fn task_arithmetic_bf16() -> Case {
    task_arithmetic("bf16/base", [("bf16/ft1", 0.4), ("bf16/ft2", 0.3), ("bf16/ft3", 0.3)], 1.0)
}

/// Distance between neighbouring values of `dtype` around `x`.
fn spacing(dtype: Dtype, x: f64) -> f64 {
    let (bits, smallest) = match dtype {
        Dtype::F32 => (23, -126),
        Dtype::Bf16 => (7, -126),
        _ => panic!("no golden case has {dtype}"),
    };
    let exponent = if x == 0.0 { smallest } else { (x.abs().log2().floor() as i32).max(smallest) };
    2_f64.powi(exponent - bits)
}

fn merged(recipe: &Recipe) -> (tempfile::TempDir, ParamStore) {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("merged.safetensors");
    recipe.run(&out).unwrap();
    let store = ParamStore::open(&out).unwrap();
    (dir, store)
}

/// Every tensor of `found` has name, type and shape of `expected` and passes `close(expected, found)`.
fn compare(found: &ParamStore, expected: &str, close: impl Fn(f64, f64) -> bool) {
    let expected = ParamStore::open(golden(expected)).unwrap();
    assert_eq!(found.names().collect::<Vec<_>>(), expected.names().collect::<Vec<_>>());
    for name in expected.names() {
        let (a, b) = (expected.info(name).unwrap(), found.info(name).unwrap());
        assert_eq!((a.dtype, &a.shape), (b.dtype, &b.shape), "{name}");
        let (a, b) = (expected.f32s(name).unwrap(), found.f32s(name).unwrap());
        for (i, (&e, &c)) in a.iter().zip(b.iter()).enumerate() {
            assert!(close(e.into(), c.into()), "{name}[{i}]: expected {e}, found {c}");
        }
    }
}

/// Within half a spacing of float64 arithmetic, plus one rounding to f32.
fn compare_with_float64(found: &ParamStore, terms: &[(String, f64)]) {
    let inputs: Vec<_> = terms.iter().map(|(path, w)| (ParamStore::open(path).unwrap(), *w)).collect();
    for (name, info) in found.iter() {
        let tensors: Vec<_> = inputs.iter().map(|(store, w)| (store.f32s(name).unwrap(), *w)).collect();
        for (i, &c) in found.f32s(name).unwrap().iter().enumerate() {
            let exact: f64 = tensors.iter().map(|(t, w)| w * f64::from(t[i])).sum();
            // The sum itself is rounded in float64, relative to its largest term.
            let size: f64 = tensors.iter().map(|(t, w)| (w * f64::from(t[i])).abs()).sum();
            let allowed = 0.5 * spacing(info.dtype, exact) + 0.5 * spacing(Dtype::F32, exact) + 1e-14 * size;
            assert!((f64::from(c) - exact).abs() <= allowed, "{name}[{i}]: exactly {exact}, found {c}");
        }
    }
}

fn near(expected: f64, found: f64) -> bool {
    (found - expected).abs() <= 2e-7 + 2e-5 * expected.abs()
}

#[test]
fn linear_cases_match_mergekit_and_float64() {
    for (case, expected) in
        [(linear(), "expected/linear.safetensors"), (linear_nonorm(), "expected/linear_nonorm.safetensors")]
    {
        let (_dir, found) = merged(&case.recipe);
        compare(&found, expected, near);
        compare_with_float64(&found, &case.terms);
    }
}

#[test]
fn task_arithmetic_matches_mergekit_and_float64() {
    let case = task_arithmetic_f32();
    let (_dir, found) = merged(&case.recipe);
    compare(&found, "expected/task_arithmetic.safetensors", near);
    compare_with_float64(&found, &case.terms);
}

#[test]
fn bfloat16_is_rounded_once() {
    let case = task_arithmetic_bf16();
    let steps = |n: f64| move |e: f64, c: f64| (c - e).abs() <= n * spacing(Dtype::Bf16, e) + 2e-8;
    let mut recipe = case.recipe.clone();
    recipe.dtype = Some(FloatType::F32); // Only mergekit's arithmetic depends on it.
    let (_dir, found) = merged(&recipe.out_dtype(FloatType::Bf16));
    compare(&found, "expected/bf16_ta_f32math.safetensors", steps(1.0));

    let (_dir, found) = merged(&case.recipe);
    assert!(found.iter().all(|(_, info)| info.dtype == Dtype::Bf16), "the type of the inputs is kept");
    compare(&found, "expected/bf16_ideal.safetensors", steps(1.0));
    compare_with_float64(&found, &case.terms);
    // The oracle rounds after every operation and is up to 10 steps off; then the ideal decides, as checked above.
    let oracle = ParamStore::open(golden("expected/bf16_ta_native.safetensors")).unwrap();
    let far = |name: &str| {
        let (a, b) = (oracle.f32s(name).unwrap(), found.f32s(name).unwrap());
        a.iter().zip(b.iter()).filter(|&(&e, &c)| !steps(2.0)(e.into(), c.into())).count()
    };
    let far: usize = oracle.names().map(far).sum();
    assert!(far < 84_288 / 20, "{far} of 84288 elements are far from the oracle");
}

#[test]
fn bfloat16_differs_from_the_ideal_in_double_rounding_alone() {
    let (_dir, found) = merged(&task_arithmetic_bf16().recipe);
    let ideal = ParamStore::open(golden("expected/bf16_ideal.safetensors")).unwrap();
    let (mut different, mut all) = (0, 0);
    for name in ideal.names() {
        let (a, b) = (ideal.f32s(name).unwrap(), found.f32s(name).unwrap());
        different += a.iter().zip(b.iter()).filter(|(a, b)| a != b).count();
        all += a.len();
    }
    assert!(different * 1000 <= all, "{different} of {all} elements differ");
}
