//! Values of the reference libraries; each file in `golden/` was made by them.
#![allow(clippy::expect_used, clippy::unwrap_used)]
use mtl_bench::metrics::*;
use mtl_bench::stats::*;
use serde_json::Value;

fn load(name: &str) -> Value {
    let path = format!("{}/tests/golden/{name}.json", env!("CARGO_MANIFEST_DIR"));
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

fn flat(value: &Value) -> Vec<f64> {
    match value {
        Value::Array(items) => items.iter().flat_map(flat).collect(),
        other => vec![other.as_f64().unwrap()],
    }
}

fn rows(value: &Value) -> Vec<Vec<f64>> {
    value.as_array().unwrap().iter().map(flat).collect()
}

fn labels(value: &Value) -> Vec<i64> {
    flat(value).into_iter().map(|v| v as i64).collect()
}

/// The files print 12 significant digits.
fn close(found: f64, expected: &Value) {
    let expected = expected.as_f64().unwrap();
    assert!((found - expected).abs() <= 1e-9 * expected.abs() + 1e-12, "{found} instead of {expected}");
}

fn all_close(found: &[f64], expected: &Value) {
    let expected = expected.as_array().unwrap();
    assert_eq!(found.len(), expected.len());
    found.iter().zip(expected).for_each(|(&f, e)| close(f, e));
}

#[test]
fn classification() {
    let golden = load("classification");
    let targets = labels(&golden["labels"]);
    let argmax =
        |row: &Vec<f64>| row.iter().enumerate().fold(0, |b, (i, v)| if *v > row[b] { i } else { b }) as i64;
    let predictions: Vec<i64> = rows(&golden["probs"]).iter().map(argmax).collect();
    close(accuracy(&predictions, &targets).unwrap(), &golden["accuracy"]);
    close(macro_f1(&predictions, &targets, 5).unwrap(), &golden["macro_f1"]);
    let counts = Confusion::of("accuracy", &predictions, &targets, 5, None).unwrap();
    let flat_counts: Vec<f64> = (0..25).map(|i| counts.count(i / 5, i % 5) as f64).collect();
    assert_eq!(flat_counts, flat(&golden["confusion"]));

    let binary = &golden["binary"];
    let positive: Vec<bool> = labels(&binary["labels"]).iter().map(|&l| l == 1).collect();
    close(average_precision(&flat(&binary["scores"]), &positive).unwrap(), &binary["average_precision"]);

    let multi = &golden["multilabel"];
    let (scores, targets) = (flat(&multi["scores"]), flat(&multi["labels"]));
    close(mean_average_precision(&scores, &targets, 6).unwrap(), &multi["map_macro"]);
}

#[test]
fn dense_and_regression() {
    let golden = load("dense");
    let seg = &golden["seg"];
    let (predictions, targets) = (labels(&seg["pred"]), labels(&seg["gt"]));
    close(mean_iou(&predictions, &targets, 4, Some(255)).unwrap(), &seg["miou"]);
    let counts = Confusion::of("miou", &predictions, &targets, 4, Some(255)).unwrap();
    close(counts.accuracy(), &seg["pixel_acc"]);
    all_close(&counts.iou().into_iter().flatten().collect::<Vec<_>>(), &seg["iou"]);

    let regression = load("regression");
    close(mse(&flat(&regression["x"]), &flat(&regression["y"])).unwrap(), &regression["mse"]);
}

fn direction(higher: bool) -> Better {
    if higher { Better::Higher } else { Better::Lower }
}

#[test]
fn relative_gain() {
    let golden = &load("delta_m")["delta_m"];
    let (base, new, up) = (rows(&golden["base"]), rows(&golden["new"]), rows(&golden["higher_is_better"]));
    let task = |t: usize| TaskScores {
        task: t.to_string(),
        metrics: (0..base[t].len())
            .map(|m| (m.to_string(), direction(up[t][m] == 1.0), new[t][m], base[t][m]))
            .collect(),
    };
    let tasks: Vec<TaskScores> = (0..base.len()).map(task).collect();
    let gain = delta_m(&tasks, DeltaMOptions::default()).unwrap();
    close(gain.percent, &golden["delta_m_percent"]);
    all_close(&gain.per_task, &golden["per_task_percent"]);
    let flat_mean = DeltaMOptions { averaging: Averaging::Metrics, sign: GainSign::LowerIsBetter };
    close(-delta_m(&tasks, flat_mean).unwrap().percent, &golden["flat_metric_average_percent"]);
}

fn matrix(value: &Value) -> AccuracyMatrix {
    let rows = rows(value);
    let names: Vec<String> = (0..rows.len()).map(|t| t.to_string()).collect();
    AccuracyMatrix::full(&names, rows).unwrap()
}

#[test]
fn continual_learning() {
    let golden = load("continual");
    let m = matrix(&golden["R_rows_after_task_columns_task"]);
    close(m.average_accuracy(), &golden["average_accuracy_final"]);
    close(m.average_incremental_accuracy(), &golden["average_incremental_accuracy"]);
    close(m.backward_transfer().unwrap(), &golden["backward_transfer"]);
    close(m.forward_transfer(&flat(&golden["random_init_accuracy"])).unwrap(), &golden["forward_transfer"]);
    close(m.learning_accuracy(), &golden["learning_accuracy"]);

    let mut seen = 0;
    for case in load("accuracy_matrix")["cases"].as_array().unwrap().iter().filter(|c| c.get("R").is_some()) {
        let m = matrix(&case["R"]);
        close(m.average_accuracy(), &case["average_accuracy"]);
        all_close(&m.average_accuracy_curve(), &case["average_accuracy_per_step"]);
        close(m.average_incremental_accuracy(), &case["average_incremental_accuracy"]);
        close(m.forgetting(Forgetting::Chaudhry).unwrap(), &case["forgetting_chaudhry"]);
        close(m.forgetting(Forgetting::FromLearning).unwrap(), &case["forgetting_chaudhry_from_learning"]);
        close(m.forgetting(Forgetting::InitialMinusLast).unwrap(), &case["forgetting_initial_minus_last"]);
        close(m.forgetting(Forgetting::NonNegative).unwrap(), &case["forgetting_nonnegative"]);
        close(m.backward_transfer().unwrap(), &case["backward_transfer"]);
        close(m.forward_transfer(&flat(&case["random_init"])).unwrap(), &case["forward_transfer"]);
        close(m.worst_task_accuracy(), &case["worst_task_final"]);
        seen += 1;
    }
    assert!(seen >= 3);
}

#[test]
fn pareto() {
    let golden = load("pareto");
    for (points, front, volume, dims) in [
        ("points2", "nondominated2", "hypervolume2_ref_1.1", 2),
        ("points3", "nondominated3", "hypervolume3_ref_1.1", 3),
    ] {
        let points = rows(&golden[points]);
        let found: Vec<f64> = non_dominated(&points, &vec![Better::Lower; dims])
            .unwrap()
            .into_iter()
            .map(|i| i as f64)
            .collect();
        assert_eq!(found, flat(&golden[front]));
        close(hypervolume(&points, &vec![1.1; dims]).unwrap(), &golden[volume]);
    }
}

#[test]
fn tests_of_paired_runs() {
    let golden = load("stat_tests");
    let mut exact = 0;
    for case in golden["pairs"].as_array().unwrap() {
        let (a, b) = (flat(&case["a"]), flat(&case["b"]));
        let differences: Vec<f64> = a.iter().zip(&b).map(|(a, b)| b - a).collect();
        let d = PairedDifference::of(&differences, 0.95).unwrap();
        close(d.mean, &case["paired_t"]["mean_diff"]);
        close(d.p.unwrap(), &case["paired_t"]["p"]);
        close(d.effect.unwrap(), &case["cohen_dz"]);
        let interval = d.interval.unwrap();
        all_close(&[interval.low, interval.high], &case["paired_t"]["ci95"]);
        let test = wilcoxon(&differences).unwrap();
        let expected = case.get("wilcoxon_exact").filter(|_| test.exact).unwrap_or(&case["wilcoxon_approx"]);
        close(test.statistic, &expected["W"]);
        close(test.p, &expected["p"]);
        exact += usize::from(test.exact);
        if let Some(flips) = case.get("sign_flip_permutation_exact") {
            close(sign_flip(&differences).unwrap().p, &flips["p_two_sided"]);
        }
    }
    assert!(exact >= 2);
    let many = &golden["multiple_comparisons"];
    all_close(&holm(&flat(&many["p"])).unwrap(), &many["holm"]);
}

#[test]
fn quantiles_of_a_fixed_bootstrap() {
    let golden = &load("stat_tests")["bootstrap_fixed_resamples"];
    let x = flat(&golden["x"]);
    let statistic = |indices: &Vec<f64>| mean(&indices.iter().map(|&i| x[i as usize]).collect::<Vec<_>>());
    let mut means: Vec<f64> = rows(&golden["resample_indices"]).iter().map(statistic).collect();
    means.sort_by(f64::total_cmp);
    all_close(&[quantile(&means, 0.025), quantile(&means, 0.975)], &golden["percentile95"]);
}
