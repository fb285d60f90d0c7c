//! GUIDE: annotations, splits, captions, guidelines.
#![allow(clippy::expect_used, clippy::unwrap_used, clippy::print_stdout)]
use mtl_bench::formats::guide::*;
use mtl_core::Seed;
use proptest::prelude::*;
use std::path::{Path, PathBuf};

fn file() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/guide/tasks.json")
}

#[test]
fn annotations_keep_their_rules() {
    let tasks = read(&file()).unwrap();
    assert_eq!((tasks.len(), tasks[0].videos[0].overlaps()), (2, vec![(0, 1)]));
    let good = std::fs::read_to_string(file()).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tasks.json");
    for (from, to, message) in [
        (r#""end": 11.5"#, r#""end": 3.0"#, "[0].videos[0].steps[0].start: must hold 0 ≤ start < end ≤ 93.4"),
        (r#""end": 90.0"#, r#""end": 94.0"#, "[0].videos[0].steps[2].start: must hold"),
        (r#""start": 10.0"#, r#""start": 2.0"#, "steps[1].start: is 2, before that of the step before"),
        (r#""guideline": 1,"#, r#""guideline": 9,"#, "steps[1].guideline: step 9 is not in the guideline"),
        (r#"{"id": 1, "#, r#"{"id": 0, "#, "[0].guideline[1].id: 0 was there before"),
        (r#""duration": 50.0"#, r#""duration": 0"#, "[0].videos[1].duration: must be positive"),
        (r#""id": "v3""#, r#""id": "v1""#, "[1].videos[0].id: `v1` was there before"),
        ("hang a picture", "make scrambled eggs", "[1].task: `make scrambled eggs` was there before"),
        ("taste a piece of bread", " ", "steps[2].caption: is blank"),
        (r#""domain": "food""#, r#""domain": """#, "[0].domain: is blank"),
        (r#""domain": "food""#, r#""dominion": "food""#, "unknown field `dominion`"),
        (r#""duration": 12.0"#, r#""duration": 1e999"#, "number out of range"),
    ] {
        assert!(good.contains(from), "{from}");
        std::fs::write(&path, good.replacen(from, to, 1)).unwrap();
        let error = read(&path).unwrap_err().to_string().replace(", [", " [");
        assert!(error.contains(message), "{error} instead of {message}");
    }
    std::fs::write(&path, "[]").unwrap();
    assert!(read(&path).unwrap_err().to_string().contains("holds no tasks"));
}

#[test]
fn splits_are_by_task() {
    let one = read(&file()).unwrap().remove(0);
    let tasks: Vec<Task> = (0..20).map(|i| Task { task: format!("task {i}"), ..one.clone() }).collect();
    let parts = split_by_task(&tasks, 0.1, 0.25, Seed(3)).unwrap();
    assert_eq!(parts.each_ref().map(Vec::len), [13, 2, 5]);
    let mut all = parts.concat();
    all.sort_unstable();
    assert_eq!(all, (0..20).collect::<Vec<_>>());
    assert_eq!(parts, split_by_task(&tasks, 0.1, 0.25, Seed(3)).unwrap());
    assert_ne!(parts, split_by_task(&tasks, 0.1, 0.25, Seed(4)).unwrap());
    assert!(
        split_by_task(&tasks, 0.5, 0.5, Seed(0)).is_err()
            && split_by_task(&tasks, -0.1, 0.5, Seed(0)).is_err()
    );
}

#[test]
fn captions_are_scored_from_nothing_to_perfect() {
    let tasks = read(&file()).unwrap();
    let steps: Vec<&Step> = tasks.iter().flat_map(|t| &t.videos).flat_map(|v| &v.steps).collect();
    let pairs = |f: &dyn Fn(&Step) -> String| -> Vec<(String, Vec<String>)> {
        steps.iter().map(|s| (f(s), vec![s.caption.clone()])).collect()
    };
    let perfect = caption_scores(&pairs(&|s| s.caption.to_uppercase() + "!")).unwrap();
    assert!((perfect.cider_d - 10.0).abs() < 1e-9 && (perfect.rouge_l - 1.0).abs() < 1e-9, "{perfect:?}");
    assert!((perfect.bleu[3] - 1.0).abs() < 1e-6 && perfect.meteor_lite > 0.95);
    let empty = caption_scores(&pairs(&|_| String::new())).unwrap();
    assert!(empty.cider == 0.0 && empty.cider_d == 0.0 && empty.meteor_lite == 0.0 && empty.rouge_l == 0.0);
    assert!(empty.bleu[0] < 1e-6 && empty.distinct_1 == 0.0, "{empty:?}");
    assert!(caption_scores(&pairs(&|s| s.caption.clone())[..1]).is_err());

    let (task, step) = (&tasks[0], &tasks[0].videos[0].steps[0]);
    let asked = |guidance| caption_prompt(task, step, "bowl", guidance);
    assert!(
        !asked(Guidance::None).contains("eggs") && asked(Guidance::Guideline).contains("heat the pan\ncook")
    );
    let oracle = asked(Guidance::Oracle);
    assert!(oracle.starts_with("Guideline step: prepare the eggs\n") && !oracle.contains("heat"), "{oracle}");
}

#[test]
fn dense_captions_are_matched_in_time() {
    let steps = read(&file()).unwrap()[0].videos[0].steps.clone();
    let predicted = |shift: f64| -> Vec<Predicted> {
        let one =
            |s: &Step| Predicted { start: s.start + shift, end: s.end + shift, caption: s.caption.clone() };
        steps.iter().map(one).collect()
    };
    let exact = dense_scores(&[(predicted(0.0), steps.clone())]).unwrap();
    assert!(exact.iter().all(|s| s.recall == 1.0 && s.precision == 1.0 && s.rouge_l > 0.999), "{exact:?}");
    // A shift of 6 s leaves IoU 2.5/14.5, 14/26 = 0.54 and 44/56 = 0.79.
    let shifted = dense_scores(&[(predicted(6.0), steps.clone())]).unwrap();
    assert_eq!(shifted.map(|s| (s.recall * 3.0).round()), [2.0, 2.0, 1.0]);
    assert!((shifted[2].meteor_recall - shifted[2].meteor_lite / 3.0).abs() < 1e-12);
    let none = dense_scores(&[(Vec::new(), steps.clone())]).unwrap();
    assert!(none.iter().all(|s| s.recall == 0.0 && s.precision == 0.0 && s.meteor_recall == 0.0));
    let mut broken = predicted(0.0);
    broken[1].end = f64::NAN;
    assert!(dense_scores(&[(broken, steps)]).unwrap_err().to_string().contains("prediction 1 of video 0"));
    assert!(dense_scores(&[]).is_err());
    assert_eq!(temporal_iou((0.0, 2.0), (1.0, 3.0)), 1.0 / 3.0);
    assert_eq!((temporal_iou((0.0, 1.0), (1.0, 2.0)), temporal_iou((0.0, 0.0), (0.0, 0.0))), (0.0, 0.0));
}

#[test]
fn guidelines_are_matched_step_by_step() {
    let reference = ["prepare the eggs", "heat the pan", "cook the eggs"];
    let score = |p: &[&str]| guideline_score(p, &reference).unwrap();
    let same = score(&reference);
    assert_eq!((same.precision, same.recall, same.order_tau, same.text.f1), (1.0, 1.0, Some(1.0), 1.0));
    let half = score(&["heat the pan", "call a friend at once"]);
    assert_eq!((half.precision, half.recall, half.order_tau), (0.5, 1.0 / 3.0, None));
    let empty = score(&[]);
    assert_eq!((empty.precision, empty.f1, empty.text.f1, empty.order_tau), (0.0, 0.0, 0.0, None));
    assert!(guideline_score(&["a"], &Vec::<&str>::new()).is_err());
}

/// The largest sum over all one-to-one assignments, by trying them all.
fn largest(scores: &[Vec<f64>], row: usize, used: &mut Vec<bool>) -> f64 {
    if row == scores.len() {
        return 0.0;
    }
    let free = used.iter().filter(|u| !**u).count();
    // A row may go without only when there are too few columns.
    let mut best = if scores.len() - row > free { largest(scores, row + 1, used) } else { f64::NEG_INFINITY };
    for column in 0..used.len() {
        if !used[column] {
            used[column] = true;
            best = best.max(scores[row][column] + largest(scores, row + 1, used));
            used[column] = false;
        }
    }
    best
}

proptest! {
    #[test]
    fn assignments_are_optimal(rows in 1_usize..6, columns in 1_usize..6, values in proptest::collection::vec(-1.0..1.0_f64, 36)) {
        let scores: Vec<Vec<f64>> = (0..rows).map(|i| values[i * columns..(i + 1) * columns].to_vec()).collect();
        let found = best_assignment(&scores).unwrap();
        let mut used: Vec<usize> = found.iter().flatten().copied().collect();
        used.sort_unstable();
        used.dedup();
        prop_assert_eq!(used.len(), rows.min(columns));
        let sum: f64 = found.iter().enumerate().filter_map(|(i, j)| j.map(|j| scores[i][j])).sum();
        prop_assert!((sum - largest(&scores, 0, &mut vec![false; columns])).abs() < 1e-9);
    }
}
