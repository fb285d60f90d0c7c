//! The methods that drop entries of task vectors, against plain restatements of their rules and against statistics.
#![allow(clippy::expect_used, clippy::unwrap_used)]
use mtl_core::Seed;
use mtl_merge::{Engine, HostTensor, Recipe, TensorMap};
use proptest::prelude::*;
use rand::RngExt;

const RANDOM: [&str; 4] = ["dare_linear", "dare_ties", "della", "della_linear"];
const ALL: [&str; 7] =
    ["ties", "dare_linear", "dare_ties", "della", "della_linear", "breadcrumbs", "breadcrumbs_ties"];

fn tensor(shape: &[usize], data: Vec<f32>) -> TensorMap {
    TensorMap::from([("w".to_owned(), HostTensor::new(shape.to_vec(), data).unwrap())])
}

fn noise(n: usize, stream: u64) -> Vec<f32> {
    let mut rng = Seed(1).stream("test", stream);
    (0..n).map(|_| (rng.random::<f32>() - 0.5) * 0.02).collect()
}

fn zeros(of: &TensorMap) -> TensorMap {
    let zero = |t: &HostTensor| HostTensor::new(t.shape().to_vec(), vec![0.0; t.data().len()]).unwrap();
    of.iter().map(|(name, t)| (name.clone(), zero(t))).collect()
}

/// One recipe per model list: `(weight, density)` of every model.
fn recipe(method: &str, models: &[(f64, f64)]) -> Recipe {
    let start = Recipe::new(method).base("base");
    models.iter().enumerate().fold(start, |recipe, (i, &(weight, density))| {
        recipe.model_with(format!("model {i}"), [("weight", weight), ("density", density)])
    })
}

fn run(recipe: &Recipe, base: &TensorMap, models: &[&TensorMap]) -> Vec<f32> {
    recipe.run_in_memory(Some(base), models).unwrap().into_values().flat_map(|t| t.into_parts().1).collect()
}

/// What the method leaves of one task vector; the base is 0, so the task vector is the model itself.
fn sparsified(recipe: &Recipe, delta: &TensorMap) -> Vec<f32> {
    run(recipe, &zeros(delta), &[delta])
}

const SHAPE: [usize; 2] = [300, 401];
const N: usize = SHAPE[0] * SHAPE[1];

#[test]
fn the_number_of_kept_entries_is_that_of_independent_draws() {
    let delta = tensor(&SHAPE, noise(N, 0));
    for method in RANDOM {
        for density in [0.2, 0.5, 0.8] {
            let found = sparsified(&recipe(method, &[(1.0, density)]), &delta);
            let kept = found.iter().filter(|&&x| x != 0.0).count() as f64;
            let (n, p) = (N as f64, density);
            assert!((kept - n * p).abs() <= 5.0 * (n * p * (1.0 - p)).sqrt(), "{method} {density}: {kept}");
        }
    }
}

#[test]
fn kept_entries_have_one_common_factor_and_restore_the_sum_of_magnitudes() {
    let delta = tensor(&SHAPE, noise(N, 0));
    let data = delta["w"].data();
    for method in RANDOM {
        let l1 = recipe(method, &[(1.0, 0.3)]);
        let cases = [
            (l1.clone(), None),
            (l1.clone().parameter("rescale_mode", "inverse_density"), Some(1.0 / 0.3)),
            (l1.parameter("rescale", false), Some(1.0)),
        ];
        for (recipe, known) in cases {
            let found = sparsified(&recipe, &delta);
            let pairs = || found.iter().zip(data).filter(|(x, _)| **x != 0.0);
            let sum = |values: &mut dyn Iterator<Item = f32>| values.map(|x| f64::from(x.abs())).sum::<f64>();
            let all = sum(&mut data.iter().copied());
            let factor = known.unwrap_or(all / sum(&mut pairs().map(|(_, d)| *d)));
            for (x, d) in pairs() {
                let expected = f64::from(*d) * factor;
                assert!((f64::from(*x) - expected).abs() <= 1e-6 * expected.abs(), "{method}");
            }
            let mass = sum(&mut found.iter().copied());
            assert!(known.is_some() || (mass / all - 1.0).abs() < 1e-5, "{method}: {mass} of {all}");
        }
    }
}

#[test]
fn della_keeps_the_larger_half_of_each_row_more_often() {
    let delta = tensor(&SHAPE, noise(N, 0));
    let (density, epsilon) = (0.5, 0.3);
    for method in ["della", "della_linear"] {
        let recipe = recipe(method, &[(1.0, density)]).parameter("epsilon", epsilon);
        let found = sparsified(&recipe, &delta);
        let (mut upper, mut lower, mut total) = (0.0, 0.0, 0.0);
        for (row, kept) in delta["w"].data().chunks(SHAPE[1]).zip(found.chunks(SHAPE[1])) {
            let mut sizes: Vec<f32> = row.iter().map(|x| x.abs()).collect();
            sizes.sort_by(f32::total_cmp);
            let median = sizes[SHAPE[1] / 2];
            for (d, x) in row.iter().zip(kept) {
                let kept = f64::from(u8::from(*x != 0.0));
                total += kept;
                if d.abs() > median {
                    upper += kept;
                } else if d.abs() < median {
                    lower += kept;
                }
            }
        }
        // Probabilities rise linearly: the halves' means are epsilon apart.
        let half = (SHAPE[0] * (SHAPE[1] / 2)) as f64;
        let difference = (upper - lower) / half;
        assert!((difference - epsilon).abs() < 5.0 * (0.5 / half).sqrt(), "{method}: {difference}");
        let average = total / N as f64;
        assert!((average - density).abs() < 5.0 * (0.25 / N as f64).sqrt(), "{method}: {average}");
    }
}

#[test]
fn masks_of_models_and_tensors_are_independent() {
    let n = 100_000;
    let map = |value: f32| {
        let vector = || HostTensor::vector(vec![value; n]);
        TensorMap::from([("a".to_owned(), vector()), ("b".to_owned(), vector())])
    };
    // 1 and 2 tell in the sum which model's entry was kept.
    let recipe = recipe("dare_linear", &[(1.0, 0.5), (1.0, 0.5)]).parameter("rescale", false);
    let merged = recipe.run_in_memory(Some(&map(0.0)), &[&map(1.0), &map(2.0)]).unwrap();
    let (a, b) = (merged["a"].data(), merged["b"].data());
    let expect = |count: usize, p: f64| {
        let n = n as f64;
        assert!((count as f64 - n * p).abs() < 5.0 * (n * p * (1.0 - p)).sqrt(), "{count} for {p}");
    };
    for value in [0.0, 1.0, 2.0, 3.0] {
        expect(a.iter().filter(|&&x| x == value).count(), 0.25);
    }
    expect(a.iter().zip(b).filter(|(a, b)| a == b).count(), 0.25);
}

#[test]
fn the_mean_over_seeds_is_the_dense_merge() {
    let n = 2000;
    let (base, a, b) = ([2, 3, 4]).map(|stream| tensor(&[n], noise(n, stream))).into();
    let weights = [(0.6, 0.4), (0.5, 0.7)];
    let dense = run(&recipe("task_arithmetic", &weights), &base, &[&a, &b]);
    let seeds = 200;
    for method in ["dare_linear", "della_linear"] {
        let draws = recipe(method, &weights).parameter("rescale_mode", "inverse_density");
        let draws = if method == "della_linear" { draws.parameter("epsilon", 0.0) } else { draws };
        let mut mean = vec![0.0; n];
        for seed in 0..seeds {
            let one = run(&draws.clone().seed(Seed(seed)), &base, &[&a, &b]);
            mean.iter_mut().zip(one).for_each(|(mean, x)| *mean += f64::from(x) / seeds as f64);
        }
        let (w0, wa, wb) = (base["w"].data(), a["w"].data(), b["w"].data());
        let mut squares = 0.0;
        for i in 0..n {
            let variance = |x: f32, (w, p): (f64, f64)| (w * f64::from(x - w0[i])).powi(2) * (1.0 - p) / p;
            let error = ((variance(wa[i], weights[0]) + variance(wb[i], weights[1])) / seeds as f64).sqrt();
            let z = (mean[i] - f64::from(dense[i])) / error;
            assert!(z.abs() < 6.0, "{method} at {i}: {z}");
            squares += z * z;
        }
        // Sum of n squares of nearly normal numbers; neighbouring elements are independent.
        let spread = (squares - n as f64) / (2.0 * n as f64).sqrt();
        assert!(spread.abs() < 6.0, "{method}: {spread}");
    }
}

#[test]
fn where_signs_agree_the_mean_of_elections_is_the_dense_merge() {
    let n = 2000;
    let up = |stream| tensor(&[n], noise(n, stream).iter().map(|x| x.abs() + 0.001).collect());
    let (a, b) = (up(5), up(6));
    let base = zeros(&a);
    let weights = [(0.6, 0.5), (0.4, 0.5)];
    let dense = run(&recipe("task_arithmetic", &weights), &base, &[&a, &b]);
    let total = |values: &[f32]| values.iter().map(|&x| f64::from(x)).sum::<f64>();
    let draws = recipe("dare_ties", &weights).parameter("rescale_mode", "inverse_density");
    let sums: Vec<f64> =
        (0..200).map(|seed| total(&run(&draws.clone().seed(Seed(seed)), &base, &[&a, &b]))).collect();
    let mean = sums.iter().sum::<f64>() / sums.len() as f64;
    let variance = sums.iter().map(|s| (s - mean).powi(2)).sum::<f64>() / (sums.len() - 1) as f64;
    let error = (variance / sums.len() as f64).sqrt();
    assert!((mean - total(&dense)).abs() < 5.0 * error, "{mean} ± {error}, but {}", total(&dense));
}

#[test]
fn a_seed_gives_the_same_bits_for_any_threads_and_another_seed_others() {
    let shape = [700, 801]; // Blocks end inside rows.
    let n = shape[0] * shape[1];
    let maps = [7, 8, 9].map(|stream| tensor(&shape, noise(n, stream)));
    let [base, a, b] = &maps;
    for method in ALL {
        let recipe = recipe(method, &[(0.6, 0.5), (0.7, 0.4)]).parameter("rescale", true);
        let merge = |threads, seed| {
            let recipe = recipe.clone().seed(Seed(seed));
            Engine::default().threads(threads).run_in_memory(&recipe, Some(base), &[a, b]).unwrap()
        };
        let one = merge(1, 3);
        assert!(one == merge(3, 3), "{method}");
        assert_eq!(one != merge(1, 4), RANDOM.contains(&method), "{method}");
    }
}

#[test]
fn density_one_is_the_dense_method() {
    let shape = [30, 40];
    let maps = [10, 11, 12].map(|stream| tensor(&shape, noise(1200, stream)));
    let [base, a, b] = &maps;
    let weights = [(0.6, 1.0), (-0.7, 1.0)];
    for normalize in [false, true] {
        let merge = |method: &str| {
            let recipe = recipe(method, &weights).parameter("normalize", normalize);
            run(&recipe, base, &[a, b])
        };
        let (sum, elected) = (merge("task_arithmetic"), merge("ties"));
        assert_ne!(sum, elected);
        for method in ["dare_linear", "della_linear", "breadcrumbs"] {
            assert_eq!(merge(method), sum, "{method}");
        }
        for method in ["dare_ties", "della", "breadcrumbs_ties"] {
            assert_eq!(merge(method), elected, "{method}");
        }
    }
}

#[test]
fn without_task_vectors_the_base_is_left() {
    let base = tensor(&[30, 40], noise(1200, 13));
    let data = base["w"].data();
    for method in ALL {
        let half = recipe(method, &[(0.5, 0.5), (0.5, 0.5)]);
        assert_eq!(run(&half, &base, &[&base, &base]), data, "{method} of equal models");
        let none = recipe(method, &[]).run_in_memory(Some(&base), &[]).unwrap_err().to_string();
        assert!(none.contains("exactly one of `models`"), "{method} of no models: {none}");
        let other = tensor(&[30, 40], noise(1200, 14));
        let nothing = recipe(method, &[(0.5, 0.0), (0.5, 0.0)]);
        assert_eq!(run(&nothing, &base, &[&other, &other]), data, "{method} of density 0");
        let cancel = recipe(method, &[(0.5, 0.5), (-0.5, 0.5)]).parameter("normalize", true);
        let merged = run(&cancel, &base, &[&other, &other]);
        assert!(merged.iter().all(|x| x.is_finite()), "{method} with weights that cancel");
    }
}

#[test]
fn parameters_outside_their_ranges_are_refused() {
    let map = tensor(&[2], vec![1.0, 2.0]);
    let refusal = |recipe: Recipe| recipe.run_in_memory(Some(&map), &[&map]).unwrap_err().to_string();
    let error = refusal(recipe("della", &[(1.0, 0.9)]).parameter("epsilon", 0.2));
    assert!(error.contains("density ± epsilon lie between 0 and 1 (density is 0.9)"), "{error}");
    assert!(error.contains("0.2"), "{error}");
    let error = refusal(recipe("della_linear", &[(1.0, 0.1)]));
    assert!(error.contains("density is 0.1") && error.contains("0.15"), "{error}");
    let error = refusal(recipe("dare_ties", &[(1.0, 0.5)]).parameter("rescale_mode", "l2"));
    assert!(error.contains("`l1` or `inverse_density`") && error.contains("`l2`"), "{error}");
    let error = refusal(recipe("ties", &[(1.0, 0.5)]).parameter("trim_scope", "layer"));
    assert!(error.contains("`tensor` or `model`") && error.contains("`layer`"), "{error}");
    for method in ALL {
        for density in [-0.1, 1.1, f64::NAN] {
            let error = refusal(recipe(method, &[(1.0, density)]));
            assert!(error.contains("density") && error.contains("from 0 to 1"), "{method}: {error}");
        }
    }
}

/// Positions of a list from the largest magnitude to the smallest, equal ones by position.
fn descending(delta: &[f64]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..delta.len()).collect();
    order.sort_by(|&i, &j| (delta[j] as f32).abs().total_cmp(&(delta[i] as f32).abs()).then(i.cmp(&j)));
    order
}

fn keep(delta: &[f64], chosen: &[usize]) -> Vec<f64> {
    let mut kept = vec![0.0; delta.len()];
    chosen.iter().for_each(|&i| kept[i] = delta[i]);
    kept
}

/// The rules of sign election, one element at a time.
fn elect(kept: &[Vec<f64>], weights: &[f64], normalize: bool, i: usize) -> f64 {
    let scaled: Vec<f64> = kept.iter().zip(weights).map(|(kept, w)| w * kept[i]).collect();
    let sign = if scaled.iter().sum::<f64>() >= 0.0 { 1.0 } else { -1.0 };
    let agree = |d: f64| d * sign > 0.0;
    let sum: f64 = scaled.iter().filter(|d| agree(**d)).sum();
    let share: f64 = scaled.iter().zip(weights).filter(|(d, _)| agree(**d)).map(|(_, w)| w).sum();
    if normalize && share != 0.0 { sum / share } else { sum }
}

/// Multiples of 1/4: sums are exact and many magnitudes are equal.
fn coarse(n: usize) -> impl Strategy<Value = Vec<f32>> {
    prop::collection::vec((-8_i8..=8).prop_map(|i| f32::from(i) / 4.0), n)
}

const SMALL: usize = 24;

proptest! {
    #[test]
    fn ties_and_breadcrumbs_follow_their_rules(
        base in coarse(SMALL), a in coarse(SMALL), b in coarse(SMALL), c in coarse(SMALL),
        weights in prop::array::uniform3(prop::sample::select(vec![-0.5, 0.25, 0.5, 1.0])),
        densities in prop::array::uniform3(prop::sample::select(vec![0.0, 0.01, 0.3, 0.5, 0.99, 1.0])),
        gamma in prop::sample::select(vec![0.0, 0.1, 0.6]),
        normalize: bool, whole: bool, lambda in prop::sample::select(vec![0.5, 1.0]),
    ) {
        let models = [a, b, c];
        let pairs = [0, 1, 2].map(|i| (weights[i], densities[i]));
        let deltas = models.clone().map(|m| m.iter().zip(&base).map(|(x, x0)| f64::from(x - x0)).collect::<Vec<_>>());
        // Two tensors of different sizes.
        let map = |v: &[f32]| TensorMap::from([
            ("a".to_owned(), HostTensor::vector(v[..5].to_vec())),
            ("b".to_owned(), HostTensor::new(vec![SMALL - 5, 1], v[5..].to_vec()).unwrap()),
        ]);
        let trim = |delta: &[f64], density: f64, crumbs: bool| {
            let n = delta.len();
            let target = (density * n as f64) as usize;
            let order = descending(delta);
            match (density, crumbs) {
                (1.0, _) => delta.to_vec(),
                (0.0, _) => vec![0.0; n],
                (_, true) => {
                    let top = ((gamma * n as f64) as usize).min(n - target);
                    keep(delta, &order[top..top + target])
                }
                (_, false) => keep(delta, &order[..target.max(1)]),
            }
        };
        for method in ["ties", "breadcrumbs", "breadcrumbs_ties"] {
            let whole = whole && method == "ties";
            let kept: Vec<Vec<f64>> = deltas.iter().zip(densities).map(|(delta, density)| {
                let trim = |part: &[f64]| trim(part, density, method != "ties");
                if whole { trim(delta) } else { [trim(&delta[..5]), trim(&delta[5..])].concat() }
            }).collect();
            let mut recipe = recipe(method, &pairs).parameter("normalize", normalize).parameter("lambda", lambda);
            recipe = match method {
                "ties" => recipe.parameter("trim_scope", if whole { "model" } else { "tensor" }),
                _ => recipe.parameter("gamma", gamma),
            };
            let maps = models.each_ref().map(|m| map(m));
            let found = run(&recipe, &map(&base), &maps.each_ref());
            for i in 0..SMALL {
                let mixed = if method == "breadcrumbs" {
                    let sum: f64 = kept.iter().zip(weights).map(|(kept, w)| w * kept[i]).sum();
                    let share: f64 = weights.iter().sum();
                    if normalize && share != 0.0 { sum / share } else { sum }
                } else {
                    elect(&kept, &weights, normalize, i)
                };
                let expected = f64::from(base[i]) + lambda * mixed;
                prop_assert!((f64::from(found[i]) - expected).abs() <= 1e-6 * (1.0 + expected.abs()),
                    "{} at {}: {} instead of {}", method, i, found[i], expected);
            }
        }
    }
}

#[test]
fn trimming_whole_models_takes_each_model_with_the_tensors_it_has() {
    let map = |names: &[&str], values: [f32; 2]| -> TensorMap {
        names.iter().map(|name| ((*name).to_owned(), HostTensor::vector(values.to_vec()))).collect()
    };
    let mut base = map(&["a", "b"], [0.0, 0.0]);
    let mut one = map(&["a"], [1.0, 2.0]);
    one.extend(map(&["b"], [3.0, 4.0]));
    base.extend(map(&["c"], [0.0, 0.0]));
    one.extend(map(&["c"], [5.0, 6.0]));
    let recipe = recipe("ties", &[(1.0, 0.5)]).parameter("trim_scope", "model");
    assert_eq!(run(&recipe, &base, &[&one]), [0.0, 0.0, 0.0, 4.0, 5.0, 6.0]);
}
