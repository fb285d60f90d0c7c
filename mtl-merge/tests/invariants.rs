//! What must hold for any checkpoints and weights.
#![allow(clippy::expect_used, clippy::unwrap_used)]
use mtl_merge::{HostTensor, Recipe, TensorMap, task_vector};
use proptest::prelude::*;

const SIZE: usize = 5;

fn map(values: &[f32]) -> TensorMap {
    let (a, b) = values.split_at(2);
    TensorMap::from([
        ("a".to_owned(), HostTensor::new(vec![1, 2], a.to_vec()).unwrap()),
        ("b".to_owned(), HostTensor::vector(b.to_vec())),
    ])
}

fn values() -> impl Strategy<Value = Vec<f32>> {
    prop::collection::vec(-4.0_f32..4.0, SIZE)
}

fn flat(map: &TensorMap) -> Vec<f32> {
    map.values().flat_map(|t| t.data().to_vec()).collect()
}

fn recipe(method: &str, weights: &[f64]) -> Recipe {
    let start = Recipe::new(method);
    let start = if method == "linear" { start } else { start.base("base") };
    weights.iter().enumerate().fold(start, |r, (i, &w)| r.model(format!("model {i}"), w))
}

fn run(recipe: &Recipe, base: &TensorMap, models: &[&TensorMap]) -> TensorMap {
    let base = recipe.base.as_ref().map(|_| base);
    recipe.run_in_memory(base, models).unwrap()
}

/// Equal but for the last bits: both sides round to f32 once, after sums of size up to 100 in f64.
fn close(a: &TensorMap, b: &TensorMap) -> bool {
    flat(a).iter().zip(flat(b)).all(|(a, b)| (a - b).abs() <= 1e-6 * (1.0 + a.abs()))
}

proptest! {
    #[test]
    fn the_order_of_models_does_not_matter(
        base in values(), a in values(), b in values(), c in values(),
        weights in prop::array::uniform3(0.1_f64..2.0),
    ) {
        let (base, a, b, c) = (map(&base), map(&a), map(&b), map(&c));
        let [x, y, z] = weights;
        for method in ["linear", "task_arithmetic"] {
            let one = run(&recipe(method, &[x, y, z]), &base, &[&a, &b, &c]);
            let other = run(&recipe(method, &[z, x, y]), &base, &[&c, &a, &b]);
            prop_assert!(close(&one, &other));
        }
    }

    #[test]
    fn equal_models_merge_to_themselves(base in values(), a in values(), weights in prop::array::uniform3(0.1_f64..2.0)) {
        let (base, a) = (map(&base), map(&a));
        prop_assert_eq!(&run(&recipe("linear", &weights), &base, &[&a, &a, &a]), &a);
        let normalized = recipe("task_arithmetic", &weights).parameter("normalize", true);
        prop_assert!(close(&run(&normalized, &base, &[&a, &a, &a]), &a));
    }

    #[test]
    fn a_weight_of_zero_leaves_the_base(base in values(), a in values(), b in values(), lambda in -3.0_f64..3.0) {
        let (base, a, b) = (map(&base), map(&a), map(&b));
        let zero = recipe("task_arithmetic", &[0.0, 0.0]).parameter("lambda", lambda);
        prop_assert_eq!(&run(&zero, &base, &[&a, &b]), &base);
        let off = recipe("task_arithmetic", &[1.0, -0.5]).parameter("lambda", 0.0);
        prop_assert_eq!(&run(&off, &base, &[&a, &b]), &base);
    }

    #[test]
    fn task_arithmetic_is_linear_in_the_weights(
        base in values(), a in values(), b in values(), x in -2.0_f64..2.0, y in -2.0_f64..2.0,
    ) {
        let (base, a, b) = (map(&base), map(&a), map(&b));
        let both = run(&recipe("task_arithmetic", &[x, y]), &base, &[&a, &b]);
        let first = run(&recipe("task_arithmetic", &[x]), &base, &[&a]);
        let second = run(&recipe("task_arithmetic", &[y]), &base, &[&b]);
        let sum: Vec<f32> = flat(&task_vector(&base, &first).unwrap())
            .iter().zip(flat(&task_vector(&base, &second).unwrap())).zip(flat(&base))
            .map(|((a, b), x0)| x0 + a + b).collect();
        // Four roundings to f32 of values below 40.
        prop_assert!(flat(&both).iter().zip(sum).all(|(a, b)| (a - b).abs() < 2e-5));
    }

    #[test]
    fn a_weight_scales_and_linear_is_homogeneous(a in values(), b in values(), x in 0.1_f64..2.0, y in 0.1_f64..2.0) {
        let (a, b) = (map(&a), map(&b));
        // Normalized weights may be multiplied by any factor; a power of two changes no bit.
        let one = run(&recipe("linear", &[x, y]), &a, &[&a, &b]);
        prop_assert_eq!(&one, &run(&recipe("linear", &[4.0 * x, 4.0 * y]), &a, &[&a, &b]));
        let open = |k: f64| recipe("linear", &[k * x, k * y]).parameter("normalize", false);
        let (single, double) = (run(&open(1.0), &a, &[&a, &b]), run(&open(2.0), &a, &[&a, &b]));
        let doubled: Vec<f32> = flat(&single).iter().map(|x| 2.0 * x).collect();
        prop_assert_eq!(doubled, flat(&double));
    }
}
