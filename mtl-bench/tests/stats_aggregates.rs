//! Aggregates over tasks against rliable (`golden/rliable.json`), and fits against scipy (`golden/fits.json`).
#![allow(clippy::expect_used, clippy::unwrap_used)]
use mtl_bench::metrics::Better;
use mtl_bench::stats::*;
use serde_json::Value;

fn load(name: &str) -> Value {
    let path = format!("{}/tests/golden/{name}.json", env!("CARGO_MANIFEST_DIR"));
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

fn flat(value: &Value) -> Vec<f64> {
    value.as_array().unwrap().iter().map(|v| v.as_f64().unwrap()).collect()
}

fn rows(value: &Value) -> Vec<Vec<f64>> {
    value.as_array().unwrap().iter().map(flat).collect()
}

#[track_caller]
fn within(found: f64, expected: &Value, tolerance: f64) {
    let expected = expected.as_f64().unwrap();
    assert!((found - expected).abs() <= tolerance * expected.abs() + 1e-12, "{found} instead of {expected}");
}

#[track_caller]
fn all_close(found: &[f64], expected: &Value) {
    let expected = expected.as_array().unwrap();
    assert_eq!(found.len(), expected.len());
    found.iter().zip(expected).for_each(|(&f, e)| within(f, e, 1e-9));
}

const NAMES: [&str; 3] = ["alpha", "beta", "gamma"];

fn scores(golden: &Value, name: &str) -> RunsByTasks {
    RunsByTasks::from_rows(&rows(&golden["algorithms"][name]["scores_runs_by_tasks"])).unwrap()
}

#[test]
fn aggregates_and_profiles() {
    let golden = load("rliable");
    let tau = flat(&golden["tau"]);
    for name in NAMES {
        let (found, expected) = (scores(&golden, name), &golden["algorithms"][name]);
        within(MeanOfTasks.eval(&found), &expected["mean"], 1e-9);
        within(MedianOfTasks.eval(&found), &expected["median"], 1e-9);
        within(Iqm.eval(&found), &expected["iqm"], 1e-9);
        within(OptimalityGap::default().eval(&found), &expected["optimality_gap_gamma1"], 1e-9);
        let expected = &golden["profiles_strictly_greater"][name];
        all_close(&performance_profile(&found, &tau, ProfileKind::Runs), &expected["run_score"]);
        all_close(&performance_profile(&found, &tau, ProfileKind::TaskMeans), &expected["average_score"]);
    }
    for case in golden["odd_sizes"].as_array().unwrap() {
        within(interquartile_mean(&mut flat(&case["x"])), &case["iqm"], 1e-9);
    }
}

#[test]
fn comparisons_of_algorithms() {
    let golden = load("rliable");
    let options = Bootstrap { replicates: 50, ..Bootstrap::default() };
    for (pair, expected) in golden["probability_of_improvement"].as_object().unwrap() {
        let (a, b) = pair.split_once('>').unwrap();
        let (a, b) = (scores(&golden, a), scores(&golden, b));
        let found = probability_of_improvement(&a, &b, Better::Higher, Sides::Independent, &options).unwrap();
        within(found.probability, expected, 1e-9);
        let lower = probability_of_improvement(&a, &b, Better::Lower, Sides::Paired, &options).unwrap();
        assert!((found.probability + lower.probability - 1.0).abs() < 1e-12);
    }
    let flats = NAMES.map(|n| scores(&golden, n).flat());
    let blocks: Vec<Vec<f64>> = (0..flats[0].len()).map(|i| flats.iter().map(|f| f[i]).collect()).collect();
    let found = average_ranks(&blocks, Better::Higher).unwrap();
    for (name, rank) in NAMES.iter().zip(found) {
        within(rank, &golden["average_rank_over_paired_runs_tasks"][*name], 1e-9);
    }
}

#[test]
fn power_law_with_offset() {
    let golden = &load("fits")["power_law_offset"];
    let (x, y) = (flat(&golden["x"]), flat(&golden["y"]));
    let fit = fit_power_law(&x, &y, &FitOptions::default()).unwrap();
    let parameters = [fit.a, fit.b, fit.c];
    // 1e-4 for an iterative fit.
    for (i, found) in parameters.iter().enumerate() {
        within(found.value, &golden["a_b_c"][i], 1e-4);
        within(found.standard_error, &golden["se"][i], 1e-4);
        within(found.interval.low, &golden["ci95_t"][i][0], 1e-4);
        within(found.interval.high, &golden["ci95_t"][i][1], 1e-4);
        for j in 0..3 {
            within(fit.covariance[i][j], &golden["cov"][i][j], 1e-4);
        }
    }
    within(fit.sse, &golden["sse"], 1e-6);
    assert!(fit.r2 > 0.999);
    let intervals = fit.residual_bootstrap(&Bootstrap { replicates: 200, ..Bootstrap::default() }).unwrap();
    for (interval, found) in intervals.iter().zip(parameters) {
        assert!(interval.contains(found.value));
        let ratio = interval.half_width() / found.interval.half_width();
        assert!((0.4..1.3).contains(&ratio), "{ratio}");
    }
    let reached = fit.reaches(0.1).unwrap();
    assert!(reached.outside && (fit.predict(reached.x) - 0.1).abs() < 1e-9);
    assert!(fit.reaches(0.0).is_none());
    assert_eq!(choose_power_law(&x, &y).unwrap()[0].shape, Shape::Offset);
    let error = fit_power_law(&x[..3], &y[..3], &FitOptions::default()).unwrap_err();
    assert_eq!(error.to_string(), "`values` must be at least 4 numbers, but is 3");
    assert!(fit_power_law(&x, &[0.5; 7], &FitOptions::default()).is_err());
}

#[test]
fn weights_move_a_fit_and_its_scale_does_not() {
    let golden = &load("fits")["power_law_offset"];
    let (x, y) = (flat(&golden["x"]), flat(&golden["y"]));
    let weighted = |w: Vec<f64>| {
        let options = FitOptions { weights: Some(w), ..FitOptions::default() };
        fit_power_law(&x, &y, &options).unwrap()
    };
    let (plain, scaled) = (fit_power_law(&x, &y, &FitOptions::default()).unwrap(), weighted(vec![9.0; 7]));
    assert!((plain.b.value - scaled.b.value).abs() < 1e-7);
    assert!((plain.b.standard_error - scaled.b.standard_error).abs() < 1e-7);
    let late = weighted(vec![1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 100.0]);
    assert!(late.residuals[6].abs() < plain.residuals[6].abs());
}

#[test]
fn rising_and_broken_laws_are_found() {
    let x: Vec<f64> = (0..12).map(|i| 2_f64.powi(i)).collect();
    let rising: Vec<f64> = x.iter().map(|x| 0.9 - 0.6 * x.powf(-0.4)).collect();
    let fit = fit_power_law(&x, &rising, &FitOptions::default()).unwrap();
    assert!((fit.a.value + 0.6).abs() < 1e-5 && (fit.c.value - 0.9).abs() < 1e-5, "{fit:?}");
    let broken: Vec<f64> = x
        .iter()
        .enumerate()
        .map(|(i, x)| {
            2.0 * x.powf(-0.1) * (1.0 + (x / 64.0).powi(4)).powf(-0.2) + 1e-4 * f64::from(i as u32 % 3)
        })
        .collect();
    let fits = choose_power_law(&x, &broken).unwrap();
    assert_eq!(fits[0].shape, Shape::Broken);
    assert!((fits[0].predict(64.0) - broken[6]).abs() < 0.01);
}

#[test]
fn logarithms_and_curves() {
    let golden = load("fits");
    let expected = &golden["power_law_loglog"];
    let fit = fit_log_log(&flat(&expected["x"]), &flat(&expected["y"]), 0.95).unwrap();
    within(fit.slope.value, &expected["slope"], 1e-9);
    within(fit.slope.standard_error, &expected["slope_se"], 1e-9);
    within(fit.intercept.value, &expected["intercept"], 1e-9);
    within(fit.intercept.standard_error, &expected["intercept_se"], 1e-9);
    all_close(&[fit.slope.interval.low, fit.slope.interval.high], &expected["slope_ci95"]);
    within(fit.r2, &expected["r2"], 1e-9);
    within(fit.p, &expected["p"], 1e-9);

    let expected = &golden["sample_efficiency"];
    let curve = Curve::new(flat(&expected["n"]), flat(&expected["score"])).unwrap();
    let target = expected["target"].as_f64().unwrap();
    let needed = samples_needed(&curve, target, Better::Higher).unwrap();
    within(needed.value().unwrap(), &expected["n_needed_log_interp"], 1e-9);
    let never = samples_needed(&curve, expected["unreachable_target"].as_f64().unwrap(), Better::Higher);
    assert_eq!(never.unwrap(), Needed::MoreThan(3200.0));
    within(curve.area(Axis::Log).unwrap(), &expected["aulc_logx_trapz_normalised"], 1e-9);

    for case in golden["scaling_shape"].as_array().unwrap() {
        let shape = ScalingShape::of(&flat(&case["scores_in_order_of_scale"])).unwrap();
        within(shape.rise, &case["I"], 1e-9);
        within(shape.linearity, &case["linearity"], 1e-9);
        within(shape.breakthroughness, &case["breakthroughness_clipped_0_100"], 1e-9);
    }
}
