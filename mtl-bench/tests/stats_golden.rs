//! Tests, intervals and corrections against scipy, scikit-posthocs and statsmodels (`golden/stat_tests.json`).
#![allow(clippy::expect_used, clippy::unwrap_used)]
use mtl_bench::metrics::Better;
use mtl_bench::stats::*;
use serde_json::Value;

fn load() -> Value {
    let path = format!("{}/tests/golden/stat_tests.json", env!("CARGO_MANIFEST_DIR"));
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

fn flat(value: &Value) -> Vec<f64> {
    value.as_array().unwrap().iter().map(|v| v.as_f64().unwrap()).collect()
}

fn rows(value: &Value) -> Vec<Vec<f64>> {
    value.as_array().unwrap().iter().map(flat).collect()
}

/// The files print 12 significant digits; 1e-9 of the card, or a tolerance of its own.
#[track_caller]
fn within(found: f64, expected: &Value, tolerance: f64) {
    let expected = expected.as_f64().unwrap();
    assert!((found - expected).abs() <= tolerance * expected.abs() + 1e-12, "{found} instead of {expected}");
}

#[track_caller]
fn close(found: f64, expected: &Value) {
    within(found, expected, 1e-9);
}

#[track_caller]
fn all_close(found: &[f64], expected: &Value) {
    let expected = expected.as_array().unwrap();
    assert_eq!(found.len(), expected.len());
    found.iter().zip(expected).for_each(|(&f, e)| close(f, e));
}

fn ends(interval: Interval) -> [f64; 2] {
    [interval.low, interval.high]
}

#[test]
fn two_samples() {
    let golden = load();
    let (mut exact_u, mut exact_w) = (0, 0);
    for case in golden["pairs"].as_array().unwrap() {
        let (a, b) = (flat(&case["a"]), flat(&case["b"]));
        let d: Vec<f64> = a.iter().zip(&b).map(|(a, b)| b - a).collect();
        let found = welch(&b, &a, 0.95).unwrap().unwrap();
        close(found.t, &case["welch_t"]["t"]);
        close(found.p, &case["welch_t"]["p"]);
        close(found.df, &case["welch_t"]["df"]);
        all_close(&ends(found.interval), &case["welch_t"]["ci95"]);
        let found = student_t(&b, &a, 0.95).unwrap().unwrap();
        close(found.t, &case["student_t"]["t"]);
        close(found.p, &case["student_t"]["p"]);

        let plain = WilcoxonOptions { exact_up_to: 0, ..WilcoxonOptions::default() };
        let found = wilcoxon_with(&d, plain).unwrap();
        close(found.statistic, &case["wilcoxon_approx"]["W"]);
        close(found.p, &case["wilcoxon_approx"]["p"]);
        assert_eq!(found.n as u64, case["wilcoxon_approx"]["n_nonzero"]);
        let found = wilcoxon_with(&d, WilcoxonOptions { continuity: true, ..plain }).unwrap();
        close(found.p, &case["wilcoxon_approx_cc"]["p"]);
        let found = wilcoxon_with(&d, WilcoxonOptions { zeros: Zeros::Pratt, ..plain }).unwrap();
        close(found.statistic, &case["wilcoxon_pratt_approx"]["W"]);
        close(found.p, &case["wilcoxon_pratt_approx"]["p"]);
        if let Some(exact) = case.get("wilcoxon_exact") {
            close(wilcoxon(&d).unwrap().p, &exact["p"]);
            exact_w += 1;
        }

        let found = sign_test(&d).unwrap();
        assert_eq!(
            (found.positive, found.n),
            (case["sign_test"]["positive"].as_u64().unwrap(), case["sign_test"]["n"].as_u64().unwrap())
        );
        close(found.p, &case["sign_test"]["p"]);
        let found = mann_whitney(&b, &a, MannWhitneyMethod::Normal).unwrap();
        close(found.u, &case["mannwhitney"]["U"]);
        close(found.p, &case["mannwhitney"]["p"]);
        if let Some(exact) = case.get("mannwhitney_exact") {
            let found = mann_whitney(&b, &a, MannWhitneyMethod::Exact).unwrap();
            close(found.p, &exact["p"]);
            exact_u += 1;
        }

        close(cohen_d(&b, &a).unwrap().unwrap(), &case["cohen_d_pooled"]);
        close(hedges_g(&b, &a).unwrap().unwrap(), &case["hedges_g"]);
        close(cliffs_delta(&b, &a).unwrap(), &case["cliffs_delta"]);
        close(vargha_delaney(&b, &a).unwrap(), &case["vargha_delaney_A"]);
        for (fraction, name) in [(0.0, "correlated_t_rho0.0"), (0.1, "correlated_t_rho0.1")] {
            let expected = &case[name];
            let found = correlated_t(&d, fraction, expected["rope"].as_f64().unwrap()).unwrap().unwrap();
            close(found.t, &expected["t"]);
            close(found.p, &expected["p"]);
            let posterior = found.posterior;
            all_close(&[posterior.left, posterior.rope, posterior.right], &expected["p_left_rope_right"]);
        }
        let jackknife = Jackknife::of(&d, mean).unwrap();
        close(jackknife.standard_error, &case["jackknife_se_mean_diff"]);
        close(jackknife.acceleration, &case["bca_acceleration"]);
    }
    assert!(exact_u >= 1 && exact_w >= 2);
}

#[test]
fn a_fixed_bootstrap() {
    let golden = &load()["bootstrap_fixed_resamples"];
    let x = flat(&golden["x"]);
    let of = |indices: &Vec<f64>| mean(&indices.iter().map(|&i| x[i as usize]).collect::<Vec<_>>());
    let means = rows(&golden["resample_indices"]).iter().map(of).collect();
    let replicates = Replicates::new(mean(&x), means).unwrap();
    let acceleration = Jackknife::of(&x, mean).unwrap().acceleration;
    close(replicates.estimate, &golden["theta"]);
    close(replicates.bias_correction(), &golden["z0_fraction_strictly_less"]);
    close(acceleration, &golden["acceleration"]);
    close(replicates.standard_error().unwrap(), &golden["se_bootstrap_ddof1"]);
    all_close(&ends(replicates.percentile(0.95)), &golden["percentile95"]);
    all_close(&ends(replicates.basic(0.95)), &golden["basic95"]);
    let levels = replicates.bca_levels(0.95, acceleration).unwrap();
    all_close(&[levels.0, levels.1], &golden["bca_levels"]);
    all_close(&ends(replicates.bca(0.95, acceleration).unwrap()), &golden["bca95"]);
}

#[test]
fn ranks_over_tasks() {
    let golden = load();
    for case in golden["friedman"].as_array().unwrap() {
        let blocks = rows(&case["scores_blocks_by_method"]);
        for (block, expected) in blocks.iter().zip(case["ranks"].as_array().unwrap()) {
            all_close(&ranks(block, Better::Higher).unwrap(), expected);
        }
        let found = friedman(&blocks, Better::Higher).unwrap();
        all_close(&found.average_ranks, &case["average_ranks"]);
        close(found.chi_squared, &case["friedman_chi2"]);
        close(found.uncorrected, &case["friedman_chi2_without_tie_correction"]);
        close(found.chi_squared_p, &case["p"]);
        close(found.f, &case["iman_davenport_F"]);
        close(found.p, &case["iman_davenport_p"]);
        close(found.kendall_w, &case["kendall_w"]);
        let control = found.against_control(0).unwrap();
        let column = |f: fn(&ControlComparison) -> f64| control.iter().map(f).collect::<Vec<_>>();
        all_close(&column(|c| c.z), &case["vs_control_0"]["z"]);
        all_close(&column(|c| c.p), &case["vs_control_0"]["p"]);
        all_close(&column(|c| c.holm), &case["vs_control_0"]["holm"]);
        all_close(&column(|c| c.bonferroni_dunn), &case["vs_control_0"]["bonferroni_dunn"]);

        let names: Vec<String> = (0..found.average_ranks.len()).map(|i| i.to_string()).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let diagram = CriticalDifference::nemenyi(&found, &names, 0.95).unwrap();
        // The references integrate numerically.
        within(diagram.cd, &case["nemenyi_cd_0.05"], 1e-6);
        let order: Vec<usize> = diagram.ranks.iter().map(|(name, _)| name.parse().unwrap()).collect();
        assert_eq!(order, flat(&case["order_best_first"]).iter().map(|&v| v as usize).collect::<Vec<_>>());
        for (i, row) in diagram.p.iter().enumerate() {
            for (j, p) in row.iter().enumerate() {
                within(*p, &case["nemenyi_p_scikit_posthocs"][order[i]][order[j]], 1e-6);
            }
        }
        let groups: Vec<Vec<usize>> = diagram.groups.iter().map(|&(a, b)| vec![a, b]).collect();
        assert_eq!(serde_json::json!(groups), case["cd_groups_by_sorted_position"]);
    }
}

#[test]
fn corrections() {
    let many = &load()["multiple_comparisons"];
    let p = flat(&many["p"]);
    let all = [
        (Correction::Bonferroni, "bonferroni"),
        (Correction::Holm, "holm"),
        (Correction::Hochberg, "simes-hochberg"),
        (Correction::Hommel, "hommel"),
        (Correction::BenjaminiHochberg, "fdr_bh"),
        (Correction::BenjaminiYekutieli, "fdr_by"),
        (Correction::Sidak, "sidak"),
        (Correction::HolmSidak, "holm-sidak"),
    ];
    for (correction, name) in all {
        all_close(&adjust(&p, correction).unwrap(), &many[name]);
        assert!(adjust(&[], correction).unwrap().is_empty());
        assert_eq!(adjust(&[0.2], correction).unwrap().len(), 1);
    }
}

#[test]
fn proportions() {
    let golden = load();
    for case in golden["mcnemar"].as_array().unwrap() {
        let count = |name: &str| case[name].as_u64().unwrap();
        let found = mcnemar(count("only_a_correct"), count("only_b_correct")).unwrap();
        close(found.exact_p, &case["exact_p"]);
        close(found.statistic, &case["chi2_cc"]);
        close(found.chi_squared_p, &case["chi2_cc_p"]);
    }
    for case in golden["proportion_ci"].as_array().unwrap() {
        let (k, n) = (case["successes"].as_u64().unwrap(), case["n"].as_u64().unwrap());
        all_close(&ends(wilson(k, n, 0.95).unwrap()), &case["wilson95"]);
        all_close(&ends(clopper_pearson(k, n, 0.95).unwrap()), &case["clopper_pearson95"]);
    }
}

#[test]
fn studentised_range() {
    let golden = &load()["distributions"];
    for case in rows(&golden["studentized_range_ppf_0.95_df_inf"]) {
        let found = studentised_range_quantile(0.05, case[0] as usize, f64::INFINITY).unwrap();
        within(found, &serde_json::json!(case[1]), 1e-6);
    }
    for case in rows(&golden["studentized_range_sf_df_inf"]) {
        let found = studentised_range_sf(case[0], case[1] as usize, f64::INFINITY).unwrap();
        within(found, &serde_json::json!(case[2]), 1e-6);
    }
    // Published table at 0.05 (Pearson and Hartley): k = 3 with 10 and 60 degrees of freedom, k = 5 with 20.
    for (k, df, q) in [(3, 10.0, 3.877), (3, 60.0, 3.399), (5, 20.0, 4.232), (2, 1.0, 17.97)] {
        let found = studentised_range_quantile(0.05, k, df).unwrap();
        assert!((found - q).abs() < 0.006 * q.max(1.0) / 3.0, "{found} instead of {q}");
    }
    // With two groups the range is √2 |t|.
    let p = studentised_range_sf(3.0, 2, 7.0).unwrap();
    let t = PairedDifference::of(&[1.0, 2.0, 4.0, 3.0, 2.5, 0.5, 1.5, 3.5], 0.95).unwrap();
    let q = (t.mean / (t.std.unwrap() / 8_f64.sqrt())) * std::f64::consts::SQRT_2;
    assert!((studentised_range_sf(q, 2, 7.0).unwrap() - t.p.unwrap()).abs() < 1e-10, "{p}");
}
