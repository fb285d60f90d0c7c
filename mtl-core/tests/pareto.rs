//! Every balancer descends two quadratics of unlike scale to their Pareto set.
//!
//! `L_k(x) = ½ s_k Σ h_kd (x_d − c_kd)² + ½` with scales `s` of 1 and 10. Pareto-optimal points are the minimisers of
//! `t L_1 + (1 − t) L_2`, a curve from one minimum to the other. Steps of plain gradient descent decay to zero.
#![cfg(feature = "torch")]
#![allow(clippy::unwrap_used)] // Helpers of tests count as library code for clippy.
mod balancer_support;

use balancer_support::{build, combine, finish};
use mtl_core::{
    Seed, StateDict,
    balancing::{BALANCERS, TaskGrads},
    learner::Boundary,
    rng, solve,
};
use serde_json::{Value, json};
use tch::{Kind, Tensor};

const DIM: usize = 3;
const SCALES: [f64; 2] = [1.0, 10.0];
const CURVATURES: [[f64; DIM]; 2] = [[1.0, 0.8, 1.5], [1.0, 1.5, 0.8]];
const MINIMA: [[f64; DIM]; 2] = [[1.0, 1.0, 0.0], [-1.0, 0.5, 1.0]];
/// Centre of the points that descent starts from.
const START: [f64; DIM] = [0.0, 3.0, -2.0];
const STEPS: u64 = 600;

type Point = [f64; DIM];

fn loss(task: usize, x: &Point) -> f64 {
    let term = |d: usize| CURVATURES[task][d] * (x[d] - MINIMA[task][d]).powi(2);
    0.5 * SCALES[task] * (0..DIM).map(term).sum::<f64>() + 0.5
}

fn grad(task: usize, x: &Point) -> Point {
    std::array::from_fn(|d| SCALES[task] * CURVATURES[task][d] * (x[d] - MINIMA[task][d]))
}

/// The point that minimises `t L_1 + (1 − t) L_2`.
fn optimum(t: f64) -> Point {
    std::array::from_fn(|d| {
        let weight = |task: usize, t: f64| t * SCALES[task] * CURVATURES[task][d];
        let (a, b) = (weight(0, t), weight(1, 1.0 - t));
        (a * MINIMA[0][d] + b * MINIMA[1][d]) / (a + b)
    })
}

/// Distance to the Pareto set, to about 1e-4 from above: the curve is sampled finely in the log odds of t.
fn distance(x: &Point) -> f64 {
    let to = |p: Point| (0..DIM).map(|d| (x[d] - p[d]).powi(2)).sum::<f64>().sqrt();
    let inner = (-12_000..=12_000).map(|i| to(optimum(1.0 / (1.0 + (-f64::from(i) / 1000.0).exp()))));
    inner.fold(to(MINIMA[0]).min(to(MINIMA[1])), f64::min)
}

fn dot(a: &Point, b: &Point) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

/// What the methods promise of each direction `v` for gradients `g`.
fn check_direction(method: &str, config: &Value, v: &Point, g: &[Point; 2], weights: Option<&[f64]>) {
    let along = [dot(v, &g[0]), dot(v, &g[1])];
    let size = [dot(&g[0], &g[0]), dot(&g[1], &g[1])];
    // Rounding is relative to the largest gradient.
    let slack = 1e-7 * size[0].max(size[1]);
    let norm = dot(v, v).sqrt();
    let tells = |ok: bool| assert!(ok, "{method} {config}: v = {v:?}, g = {g:?}");
    let opposite = dot(&g[0], &g[1]) < -0.999 * (size[0] * size[1]).sqrt();
    match method {
        // With normalisation it holds for the normalised gradients.
        "mgda" if config == &json!({}) => tells(along.iter().all(|a| *a >= norm * norm - slack)),
        "pcgrad" => tells(along.iter().all(|a| *a >= -slack)),
        // Its regularised problem may conflict by some 1e-4 of the gradients' size.
        "upgrad" => tells(along.iter().all(|a| *a >= -1e-3 * (size[0] + size[1]))),
        "cagrad" => {
            let c = 0.5;
            let scale = if config == &json!({"rescale": "none"}) { 1.0 } else { 1.0 + c * c };
            let mean: Point = std::array::from_fn(|d| 0.5 * (g[0][d] + g[1][d]));
            let apart: Point = std::array::from_fn(|d| v[d] * scale - mean[d]);
            let radius = c * dot(&mean, &mean).sqrt();
            tells((dot(&apart, &apart).sqrt() - radius).abs() <= 1e-3 * (1e-3 + radius) || opposite);
        }
        "nash_mtl" | "fairgrad" if !opposite => {
            let alpha = weights.unwrap();
            let limited = config == &json!({}) && method == "nash_mtl";
            tells((norm - if limited { 1.0 } else { 2f64.sqrt() }).abs() < 1e-6);
            tells(limited || along.iter().zip(alpha).all(|(a, w)| (a * w - 1.0).abs() < 1e-6));
            tells(along.iter().all(|a| *a > 0.0));
        }
        "imtl_g" => {
            tells(
                (along[0] / size[0].sqrt() - along[1] / size[1].sqrt()).abs()
                    < 1e-6 * size[0].max(size[1]).sqrt(),
            );
            tells((weights.unwrap().iter().sum::<f64>() - 1.0).abs() < 1e-9);
        }
        // All directions of the aligned system have the length of its shortest, √λ_min; v is the sum of two of them.
        "aligned_mtl" if config == &json!({}) && !opposite => {
            let gram = vec![vec![size[0], dot(&g[0], &g[1])], vec![dot(&g[0], &g[1]), size[1]]];
            let (values, _) = solve::eigen_symmetric(&gram);
            let least = values.iter().copied().fold(f64::INFINITY, f64::min);
            tells((norm * norm - 2.0 * least).abs() < 1e-6 * size[0].max(size[1]));
        }
        _ => {}
    }
}

/// Where descent ends that starts from a point drawn with `seed`.
fn descend(method: &str, config: &Value, seed: u64) -> (Point, Point) {
    let mut draws = Seed(seed).stream("test", 0);
    let start =
        Vec::<f64>::try_from(rng::uniform(&mut draws, &[DIM as i64], 2.0).to_kind(Kind::Double)).unwrap();
    let start: Point = std::array::from_fn(|d| START[d] + start[d]);
    let mut x = start;
    let mut balancer = build(method, config.clone());
    let rate = match method {
        // Directions as short as the shortest gradient, or with weights of sum 1.
        "mgda" | "famo" | "modo" => 0.1,
        // Directions as long as the losses, which are some hundreds at the start.
        "moco" => 0.04,
        _ => 0.05,
    };
    for step in 0..STEPS {
        let lr = rate * (1.0 - step as f64 / STEPS as f64).powi(2);
        let g = [grad(0, &x), grad(1, &x)];
        let losses = [loss(0, &x), loss(1, &x)];
        let dict = |g: &Point| StateDict::from_iter([("x".to_owned(), Tensor::from_slice(g))]);
        let grads = TaskGrads::new(g.iter().map(dict).collect()).unwrap();
        let found = combine(&mut balancer, &grads, &losses, seed * STEPS + step).unwrap();
        let v = Vec::<f64>::try_from(found.direction.get("x").unwrap()).unwrap();
        let v: Point = v.try_into().unwrap();
        check_direction(method, config, &v, &g, found.weights.as_deref());
        x = std::array::from_fn(|d| x[d] - lr * v[d]);
        // Numbers learned beside the model have losses of some hundreds as gradients at the start.
        finish(&mut balancer, 0.02 * lr, &[loss(0, &x), loss(1, &x)]).unwrap();
        if step % 50 == 49 {
            balancer.boundary(&Boundary::EpochEnd { epoch: step / 50 }).unwrap();
        }
    }
    (start, x)
}

#[test]
fn every_balancer_ends_at_pareto_optimal_points() {
    let config_of = |method: &str| match method {
        // The default stops short of the set; see the test below.
        "aligned_mtl" => json!({"scale": "median"}),
        _ => json!({}),
    };
    let names = BALANCERS.iter().map(|entry| (entry.info.name, config_of(entry.info.name)));
    let options = [
        ("equal", json!({"reduction": "mean"})),
        ("mgda", json!({"solver": "frank-wolfe"})),
        ("mgda", json!({"normalisation": "length"})),
        ("cagrad", json!({"rescale": "none"})),
        ("nash_mtl", json!({"max_norm": 0.0})),
        ("gradvac", json!({"granularity": "tensor", "beta": 0.5})),
        ("gradnorm", json!({"initial_loss": "first-epoch"})),
    ];
    let mut misses = Vec::new();
    for (method, config) in names.chain(options) {
        // Chance in the weights moves the point along the curve and, as the curve bends, off it.
        let tolerance = if matches!(method, "rlw" | "graddrop" | "sdmgrad" | "modo") { 2e-2 } else { 2e-3 };
        for seed in 0..3 {
            let (start, end) = descend(method, &config, seed);
            assert!(distance(&start) > 0.3, "a start at the goal shows nothing");
            let apart = distance(&end);
            if apart.is_nan() || apart >= tolerance {
                misses.push(format!("{method} {config} from seed {seed}: {apart:.4} at {end:.3?}"));
            }
        }
    }
    assert!(misses.is_empty(), "{}", misses.join("\n"));
}

/// With all directions as short as the shortest, nothing moves where the gradients are parallel, be they opposite or not.
#[test]
fn aligned_gradients_at_their_shortest_end_where_gradients_are_parallel() {
    for seed in 0..3 {
        let (start, end) = descend("aligned_mtl", &json!({}), seed);
        let sine = |x: &Point| {
            let (a, b) = (grad(0, x), grad(1, x));
            (1.0 - dot(&a, &b).powi(2) / (dot(&a, &a) * dot(&b, &b))).max(0.0).sqrt()
        };
        assert!(sine(&end) < 0.1 * sine(&start), "{} {} {end:?}", sine(&start), sine(&end));
        assert!((0..2).all(|task| loss(task, &end) < loss(task, &start)));
    }
}

#[test]
fn the_distance_is_to_the_curve_between_the_minima() {
    for t in [0.001, 0.2, 0.5, 0.9, 0.999] {
        let x = optimum(t);
        assert!(distance(&x) < 1e-3);
        // There, and nowhere else, the gradients are opposite.
        let (a, b) = (grad(0, &x), grad(1, &x));
        assert!(dot(&a, &b) < -0.999_999 * (dot(&a, &a) * dot(&b, &b)).sqrt());
    }
    let beyond: Point = std::array::from_fn(|d| MINIMA[0][d] + (MINIMA[0][d] - MINIMA[1][d]));
    assert!(distance(&beyond) > 1.0);
}
