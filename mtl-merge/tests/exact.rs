//! The merges of linear methods against float64 arithmetic: half a unit in the last place, and one rounding to f32.
#![allow(clippy::expect_used, clippy::unwrap_used, clippy::panic)]
use mtl_core::params::{Dtype, ParamStore};
use mtl_merge::Recipe;
use std::path::Path;

fn input(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/inputs").join(name);
    path.to_string_lossy().into_owned()
}

/// A recipe, and the sum `Σ factor · checkpoint` it stands for.
struct Case {
    recipe: Recipe,
    terms: Vec<(String, f64)>,
}

fn linear(normalize: bool, weights: [(&str, f64); 3]) -> Case {
    let recipe = weights.iter().fold(Recipe::new("linear"), |r, (m, w)| r.model(input(m), *w));
    let divisor = if normalize { weights.iter().map(|(_, w)| w).sum() } else { 1.0 };
    Case {
        recipe: recipe.parameter("normalize", normalize),
        terms: weights.iter().map(|(m, w)| (input(m), w / divisor)).collect(),
    }
}

fn task_arithmetic(base: &str, models: [(&str, f64); 3], lambda: f64) -> Case {
    let recipe = Recipe::new("task_arithmetic").base(input(base)).parameter("lambda", lambda);
    let recipe = models.iter().fold(recipe, |r, (m, w)| r.model(input(m), *w));
    let rest = 1.0 - lambda * models.iter().map(|(_, w)| w).sum::<f64>();
    let mut terms = vec![(input(base), rest)];
    terms.extend(models.iter().map(|(m, w)| (input(m), lambda * w)));
    Case { recipe, terms }
}

/// Distance between neighbouring values of `dtype` around `x`.
fn spacing(dtype: Dtype, x: f64) -> f64 {
    let (bits, smallest) = match dtype {
        Dtype::F32 => (23, -126),
        Dtype::Bf16 => (7, -126),
        _ => panic!("no case has {dtype}"),
    };
    let exponent = if x == 0.0 { smallest } else { (x.abs().log2().floor() as i32).max(smallest) };
    2_f64.powi(exponent - bits)
}

fn check(case: &Case) {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("merged.safetensors");
    case.recipe.run(&out).unwrap();
    let found = ParamStore::open(&out).unwrap();
    let inputs: Vec<_> = case.terms.iter().map(|(path, w)| (ParamStore::open(path).unwrap(), *w)).collect();
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

#[test]
fn averages_are_rounded_once() {
    check(&linear(true, [("f32/ft1", 0.5), ("f32/ft2", 0.3), ("f32/ft3", 0.4)]));
    check(&linear(false, [("f32/base", 1.2), ("f32/ft1", 0.3), ("f32/ft2", -0.5)]));
    check(&linear(true, [("bf16/ft1", 0.5), ("bf16/ft2", 0.3), ("bf16/ft3", 0.4)]));
}

#[test]
fn task_arithmetic_is_rounded_once() {
    check(&task_arithmetic("f32/base", [("f32/ft1", 0.4), ("f32/ft2", 0.3), ("f32/ft3", -0.2)], 0.7));
    check(&task_arithmetic("bf16/base", [("bf16/ft1", 0.4), ("bf16/ft2", 0.3), ("bf16/ft3", 0.3)], 1.0));
}

#[test]
fn bfloat16_differs_from_the_ideal_in_double_rounding_alone() {
    let case = task_arithmetic("bf16/base", [("bf16/ft1", 0.4), ("bf16/ft2", 0.3), ("bf16/ft3", 0.3)], 1.0);
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("merged.safetensors");
    case.recipe.run(&out).unwrap();
    let found = ParamStore::open(&out).unwrap();
    let ideal = input("../cases/bf16_ta_native/ideal.safetensors");
    let ideal = ParamStore::open(ideal).unwrap();
    let (mut different, mut all) = (0, 0);
    for name in ideal.names() {
        let (a, b) = (ideal.f32s(name).unwrap(), found.f32s(name).unwrap());
        different += a.iter().zip(b.iter()).filter(|(a, b)| a != b).count();
        all += a.len();
    }
    assert!(different * 1000 <= all, "{different} of {all} elements differ");
}
