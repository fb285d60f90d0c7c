//! Metrics against the values of the reference libraries; each file in `golden/` was made by them.
#![allow(clippy::expect_used, clippy::unwrap_used)]
use mtl_bench::metrics::pairwise::{
    BradleyTerry, BradleyTerryOptions, Elo, Game, Rating, TrueSkill, Winner, minorise_maximise, normalised,
    wins,
};
use mtl_bench::metrics::*;
use serde_json::Value;

fn load(name: &str) -> Value {
    let path = format!("{}/tests/golden/{name}.json", env!("CARGO_MANIFEST_DIR"));
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

fn number(value: &Value) -> f64 {
    value.as_f64().or_else(|| value.as_bool().map(|b| f64::from(u8::from(b)))).unwrap()
}

fn flat(value: &Value) -> Vec<f64> {
    match value {
        Value::Array(items) => items.iter().flat_map(flat).collect(),
        other => vec![number(other)],
    }
}

fn items(value: &Value) -> &[Value] {
    value.as_array().unwrap()
}

fn labels(value: &Value) -> Vec<i64> {
    flat(value).into_iter().map(|v| v as i64).collect()
}

fn flags(value: &Value) -> Vec<bool> {
    flat(value).into_iter().map(|v| v == 1.0).collect()
}

fn near(found: f64, expected: &Value, relative: f64) {
    let expected = number(expected);
    let slack = relative * expected.abs() + 1e-12;
    assert!((found - expected).abs() <= slack, "{found} instead of {expected}");
}

/// The files print 12 significant digits.
fn close(found: f64, expected: &Value) {
    near(found, expected, 1e-9);
}

fn all_close(found: &[f64], expected: &Value) {
    let expected = items(expected);
    assert_eq!(found.len(), expected.len());
    found.iter().zip(expected).for_each(|(&f, e)| close(f, e));
}

#[test]
fn classification() {
    let golden = load("classification");
    let (probabilities, targets) = (flat(&golden["probs"]), labels(&golden["labels"]));
    for k in [2, 3] {
        let found = top_k_accuracy(&probabilities, &targets, 5, k).unwrap();
        close(found, &golden[format!("top{k}_accuracy")]);
    }
    let argmax = |row: &[f64]| (1..row.len()).fold(0, |b, i| if row[i] > row[b] { i } else { b }) as i64;
    let predictions: Vec<i64> = probabilities.chunks(5).map(argmax).collect();
    let counts = Confusion::of("accuracy", &predictions, &targets, 5, None).unwrap();
    close(counts.accuracy(), &golden["accuracy"]);
    close(counts.macro_f1(), &golden["macro_f1"]);
    close(counts.micro_f1(), &golden["micro_f1"]);
    close(counts.weighted_f1(), &golden["weighted_f1"]);
    close(counts.balanced_accuracy(), &golden["balanced_accuracy"]);
    close(counts.matthews(), &golden["mcc"]);
    close(counts.kappa(KappaWeights::Equal).unwrap(), &golden["cohen_kappa"]);
    close(counts.kappa(KappaWeights::Quadratic).unwrap(), &golden["cohen_kappa_quadratic"]);
    for (found, expected) in counts.per_class().iter().zip(items(&golden["per_class"])) {
        all_close(&[found.precision, found.recall, found.f1], expected);
    }
    close(negative_log_likelihood(&probabilities, &targets, 5).unwrap(), &golden["log_loss"]);
    close(auroc_one_vs_rest(&probabilities, &targets, 5).unwrap(), &golden["roc_auc_ovr_macro"]);

    let binary = &golden["binary"];
    let (scores, positive) = (flat(&binary["scores"]), flags(&binary["labels"]));
    close(average_precision(&scores, &positive).unwrap(), &binary["average_precision"]);
    close(auroc(&scores, &positive).unwrap(), &binary["roc_auc"]);
    close(binary_brier(&scores, &positive).unwrap(), &binary["brier"]);
    let predicted: Vec<i64> = scores.iter().map(|&s| i64::from(s >= 0.5)).collect();
    let counts = Confusion::of("f1", &predicted, &labels(&binary["labels"]), 2, None).unwrap();
    close(counts.per_class()[1].f1, &binary["f1_at_0.5"]);
}

#[test]
fn multi_label() {
    let golden = &load("classification")["multilabel"];
    let (scores, targets) = (flat(&golden["scores"]), flat(&golden["labels"]));
    close(mean_average_precision(&scores, &targets, 6).unwrap(), &golden["map_macro"]);
    close(micro_average_precision(&scores, &targets).unwrap(), &golden["map_micro"]);
    let per_class: Vec<f64> = (0..6)
        .map(|label| {
            let column = |v: &[f64]| v.iter().skip(label).step_by(6).copied().collect::<Vec<_>>();
            let positive: Vec<bool> = column(&targets).iter().map(|&t| t == 1.0).collect();
            average_precision(&column(&scores), &positive).unwrap()
        })
        .collect();
    all_close(&per_class, &golden["ap_per_class"]);
    let check = |found: MultiLabelScores, expected: &Value| {
        close(found.class_precision, &expected["CP"]);
        close(found.class_recall, &expected["CR"]);
        close(found.class_f1, &expected["CF1"]);
        close(found.overall_precision, &expected["OP"]);
        close(found.overall_recall, &expected["OR"]);
        close(found.overall_f1, &expected["OF1"]);
    };
    let found = multi_label_scores(&scores, &targets, 6, Selection::AtLeast(0.5)).unwrap();
    check(found, golden);
    close(found.hamming_loss, &golden["hamming_loss"]);
    close(found.subset_accuracy, &golden["subset_accuracy"]);
    close(found.example_f1, &golden["samples_f1"]);
    check(multi_label_scores(&scores, &targets, 6, Selection::Top(3)).unwrap(), &golden["top3_stable"]);
}

#[test]
fn calibration() {
    let golden = load("calibration");
    let (confidence, correct) = (flat(&golden["confidence"]), flags(&golden["correct"]));
    for (name, binning) in [("width", Binning::EqualWidth), ("mass", Binning::EqualMass)] {
        for bins in [10, 15] {
            let found = Calibration::of(&confidence, &correct, binning, bins).unwrap();
            close(found.expected_error(), &golden[format!("ece_{name}_{bins}")]);
            close(found.maximum_error(), &golden[format!("mce_{name}_{bins}")]);
            let Some(expected) = golden.get(format!("bins_{name}_{bins}")) else { continue };
            for (bin, expected) in found.bins().iter().zip(items(expected)) {
                assert_eq!(bin.count as f64, number(&expected[0]));
                if bin.count > 0 {
                    close(bin.accuracy, &expected[1]);
                    close(bin.confidence, &expected[2]);
                }
            }
        }
    }
    let multi = &golden["multiclass"];
    let (probabilities, targets) = (flat(&multi["probs"]), labels(&multi["labels"]));
    let found = brier(&probabilities, &targets, 5).unwrap();
    close(found.sum, &multi["brier_sum"]);
    close(found.mean, &multi["brier_mean_over_classes"]);
    close(negative_log_likelihood(&probabilities, &targets, 5).unwrap(), &multi["nll"]);

    let scaled = &golden["temperature"];
    let found = fit_temperature(&flat(&scaled["logits"]), &labels(&scaled["labels"]), 5).unwrap();
    close(found.nll_before, &scaled["nll_T1"]);
    // The reference minimiser stops at this tolerance; the loss is flat there.
    near(found.temperature, &scaled["T"], 1e-5);
    close(found.nll_after, &scaled["nll_T"]);

    let golden = &golden["bigbench"];
    let questions: Vec<Choice> = items(&golden["examples"])
        .iter()
        .map(|e| Choice::of(&flat(&e["log_probs"]), &flat(&e["target_scores"])).unwrap())
        .collect();
    all_close(&questions.iter().map(|q| q.brier).collect::<Vec<_>>(), &golden["per_example_brier"]);
    let found = choice_scores(&questions, 1.0).unwrap();
    close(found.grade, &golden["multiple_choice_grade"]);
    close(found.brier, &golden["brier_mean_over_choices"]);
    close(found.ece, &golden["ece_width_10"]);
    close(found.normalised_grade, &golden["normalised_grade"]);
    close(found.chance, &golden["chance_low_score"]);
}

#[test]
fn dense_prediction() {
    let golden = load("dense");
    let seg = &golden["seg"];
    let counts = Confusion::of("miou", &labels(&seg["pred"]), &labels(&seg["gt"]), 4, Some(255)).unwrap();
    close(counts.mean_iou(), &seg["miou"]);
    close(counts.accuracy(), &seg["pixel_acc"]);
    close(counts.balanced_accuracy(), &seg["mean_class_acc"]);

    let depth = &golden["depth"];
    let found = depth_errors(&flat(&depth["pred"]), &flat(&depth["gt"])).unwrap();
    close(found.absolute, &depth["abs_err"]);
    close(found.absolute_relative, &depth["abs_rel"]);
    close(found.squared_relative, &depth["sq_rel"]);
    close(found.rmse, &depth["rmse"]);
    close(found.rmse_log, &depth["rmse_log"]);
    close(found.log10, &depth["log10"]);
    (0..3).for_each(|i| close(found.delta[i], &depth[format!("delta{}", i + 1)]));

    let normals = &golden["normals"];
    let found = normal_errors(&flat(&normals["pred"]), &flat(&normals["gt"])).unwrap();
    close(found.mean, &normals["mean_deg"]);
    close(found.median, &normals["median_deg"]);
    close(found.rmse, &normals["rmse_deg"]);
    let limits = ["11.25", "22.5", "30"];
    (0..3).for_each(|i| close(found.within[i], &normals[format!("within_{}", limits[i])]));

    let map = &golden["saliency"];
    let found = saliency(&flat(&map["pred"]), &flags(&map["gt"])).unwrap();
    close(found.max_f, &map["max_f_beta2_0.3_thresholds_i_over_255_ge"]);
    close(found.mae, &map["mae"]);

    let gain = &golden["delta_m"];
    let task = |t: &Value| {
        let up = if number(&t["higher_better"]) == 1.0 { Better::Higher } else { Better::Lower };
        let name = t["name"].as_str().unwrap().to_owned();
        TaskScores {
            task: name.clone(),
            metrics: vec![(name, up, number(&t["multi"]), number(&t["single"]))],
        }
    };
    let tasks: Vec<TaskScores> = items(&gain["tasks"]).iter().map(task).collect();
    close(delta_m(&tasks, DeltaMOptions::default()).unwrap().percent, &gain["percent"]);
}

#[test]
fn regression() {
    let golden = load("regression");
    let (x, y) = (flat(&golden["x"]), flat(&golden["y"]));
    let pair = |c: Correlation| [c.value, c.p];
    all_close(&pair(pearson(&x, &y).unwrap()), &golden["pearson"]);
    all_close(&pair(spearman(&x, &y).unwrap()), &golden["spearman"]);
    all_close(&pair(kendall(&x, &y).unwrap()), &golden["kendall_tau_b"]);
    close(mse(&x, &y).unwrap(), &golden["mse"]);
    close(mae(&x, &y).unwrap(), &golden["mae"]);
    close(r_squared(&y, &x).unwrap(), &golden["r2_true_x_pred_y"]);
    close(explained_variance(&y, &x).unwrap(), &golden["explained_variance"]);
}

#[test]
fn retrieval() {
    let golden = load("retrieval");
    let mut queries = Vec::new();
    for query in items(&golden["queries"]) {
        let ranked = Ranked::new(&flat(&query["scores"]), &flat(&query["relevance"])).unwrap();
        for k in [5, 10] {
            close(ranked.ndcg(k, Gain::Exponential).unwrap(), &query[format!("ndcg@{k}_exp")]);
            close(ranked.ndcg(k, Gain::Linear).unwrap(), &query[format!("ndcg@{k}_lin")]);
            close(ranked.recall(k).unwrap(), &query[format!("recall@{k}")]);
            close(ranked.precision(k).unwrap(), &query[format!("precision@{k}")]);
            close(ranked.reciprocal_rank(k).unwrap(), &query[format!("mrr@{k}")]);
            close(ranked.average_precision(k).unwrap(), &query[format!("map@{k}")]);
        }
        queries.push(ranked);
    }
    let mean = &golden["mean"];
    for k in [5, 10] {
        let found = ranking_scores(&queries, k, Gain::Exponential).unwrap();
        close(found.ndcg, &mean[format!("ndcg@{k}_exp")]);
        close(found.recall, &mean[format!("recall@{k}")]);
        close(found.precision, &mean[format!("precision@{k}")]);
        close(found.mrr, &mean[format!("mrr@{k}")]);
        close(found.map, &mean[format!("map@{k}")]);
        let linear = ranking_scores(&queries, k, Gain::Linear).unwrap();
        close(linear.ndcg, &mean[format!("ndcg@{k}_lin")]);
    }
    let next = &golden["next_item"];
    let mut ranks = Vec::new();
    for case in items(&next["cases"]) {
        let rank = rank_of(&flat(&case["scores"]), number(&case["target"]) as usize).unwrap();
        assert_eq!(rank as f64, number(&case["rank"]));
        ranks.push(rank);
    }
    for k in [5, 10, 20] {
        let found = next_item(&ranks, k).unwrap();
        let expected = &next[format!("@{k}")];
        close(found.hit_rate, &expected["hr"]);
        close(found.mrr, &expected["mrr"]);
        close(found.ndcg, &expected["ndcg"]);
    }
}

#[test]
fn instructions_and_skills() {
    let golden = load("instruction_metrics");
    let conversations: Vec<Vec<Vec<bool>>> = items(&golden["conversations_turn_instruction_followed"])
        .iter()
        .map(|c| items(c).iter().map(flags).collect())
        .collect();
    for turn in 0..3 {
        let verdicts: Vec<&Vec<bool>> = conversations.iter().map(|c| &c[turn]).collect();
        let verdicts: Vec<&[bool]> = verdicts.iter().map(|v| v.as_slice()).collect();
        let found = instruction_accuracy(&verdicts).unwrap();
        close(found.prompt, &golden["prompt_level"][turn]);
        close(found.instruction, &golden["instruction_level"][turn]);
        if turn > 0 {
            let change = turn_change(&conversations, turn).unwrap();
            close(change.forgetting.unwrap(), &golden["forgetting_ratio_turn2_turn3"][turn - 1]);
            close(change.correction.unwrap(), &golden["correction_ratio_turn2_turn3"][turn - 1]);
        }
    }
    let golden = &golden["skill_mix_k3"];
    let mut grades = Vec::new();
    for item in items(&golden["items"]) {
        let flag = |name: &str| flags(&item[name])[0];
        let grade = SkillGrade {
            skills: flags(&item["skills"]),
            topic: flag("topic"),
            coherent: flag("coherent"),
            length: flag("length"),
        };
        assert_eq!(grade.points() as f64, number(&item["total"]));
        assert_eq!(grade.full_marks(), flag("full_marks"));
        assert_eq!(grade.all_skills(), flag("all_skills"));
        close(grade.skill_fraction(), &item["skill_fraction_gated"]);
        grades.push(grade);
    }
    let found = skill_mix(&grades).unwrap();
    close(found.full_marks, &golden["ratio_full_marks"]);
    close(found.all_skills, &golden["ratio_all_skills"]);
    close(found.skill_fraction, &golden["skill_fraction"]);
}

#[test]
fn continual_learning() {
    let golden = load("continual");
    let rows: Vec<Vec<f64>> = items(&golden["R_rows_after_task_columns_task"]).iter().map(flat).collect();
    let names: Vec<String> = (0..rows.len()).map(|t| t.to_string()).collect();
    let matrix = AccuracyMatrix::full(&names, rows).unwrap();
    close(matrix.forgetting(Forgetting::Chaudhry).unwrap(), &golden["forgetting"]);
    close(matrix.backward_transfer_all_steps().unwrap(), &golden["bwt_lopez_paz_matrix_mean"]);
}

fn games(golden: &Value) -> Vec<Game> {
    let game = |row: &Value| {
        let row = labels(row);
        let winner = [Winner::Draw, Winner::First, Winner::Second][row[2] as usize];
        Game { first: row[0] as usize, second: row[1] as usize, winner }
    };
    items(&golden["comparisons"]).iter().map(game).collect()
}

/// The reference approximates Φ.
fn rating_close(found: Rating, expected: &Value) {
    near(found.mu, &expected[0], 1e-5);
    near(found.sigma, &expected[1], 1e-5);
}

#[test]
fn true_skill_and_elo() {
    let golden = load("pairwise_ranking");
    let games = games(&golden);
    let expected = &golden["trueskill"];
    let model = TrueSkill::default();
    let mut last = Vec::new();
    for (i, after) in items(&expected["after_each_game_mu_sigma"]).iter().enumerate() {
        last = model.rate(4, &games[..=i]).unwrap();
        last.iter().zip(items(after)).for_each(|(&found, expected)| rating_close(found, expected));
    }
    for (name, winner) in
        [("first_win_from_default", Winner::First), ("first_draw_from_default", Winner::Draw)]
    {
        let (a, b) = model.update(model.start(), model.start(), winner).unwrap();
        rating_close(a, &expected[name][0]);
        rating_close(b, &expected[name][1]);
    }
    near(model.quality(last[0], last[1]), &expected["quality"][0], 1e-5);
    near(model.quality(last[2], last[3]), &expected["quality"][1], 1e-5);
    for (rating, expected) in last.iter().zip(items(&expected["conservative_mu_minus_3sigma"])) {
        near(rating.conservative(), expected, 1e-5);
    }
    for (pair, expected) in golden["matchmaking_after_last_game"].as_object().unwrap() {
        let (a, b) = pair.split_once('-').unwrap();
        let (a, b): (Rating, Rating) = (last[a.parse::<usize>().unwrap()], last[b.parse::<usize>().unwrap()]);
        near(model.win_probability(a, b), &expected["win_probability_first"], 1e-5);
        near(model.information(a, b).unwrap(), &expected["expected_uncertainty_decrease"], 1e-5);
    }
    let means: Vec<f64> = last.iter().map(|r| r.mu).collect();
    let scores = normalised(&means, 3, 2).unwrap();
    for (score, expected) in scores.iter().zip(items(&golden["normalised_by_reference"]["score"])) {
        near(*score, expected, 1e-5);
    }
    all_close(&Elo::default().rate(4, &games).unwrap(), &golden["elo_k32_start1000"]);
}

#[test]
fn bradley_terry() {
    let golden = load("pairwise_ranking");
    let games = games(&golden);
    let expected = &golden["bradley_terry"];
    let wins = wins(4, &games).unwrap();
    assert_eq!(wins.concat(), flat(&expected["wins_matrix_draw_half"]));
    // Players 0 and 3 never win against 1 and 2: there is no maximum, and the fit says so.
    let fault = BradleyTerry::fit(4, &games, BradleyTerryOptions::default()).unwrap_err().to_string();
    assert!(fault.contains("[[0, 3], [1, 2]]"), "{fault}");
    // The file holds the reference's iterate 200 000, which is still on its way: strengths fall like 1/steps.
    let strengths = minorise_maximise(&wins, 200_000).unwrap();
    all_close(&strengths, &expected["strength_sum1"]);
    // What does converge is the order inside the groups.
    for (i, j, games) in [(0, 3, [2.0, 3.0]), (1, 2, [1.5, 3.5])] {
        assert!((strengths[i] / strengths[j] - games[0] / games[1]).abs() < 1e-5);
    }
}
