//! BIG-bench tasks: prompts as in the golden file, scores of gold and empty answers, malformed files.
#![allow(clippy::expect_used, clippy::unwrap_used, clippy::panic, clippy::print_stderr)]
use mtl_bench::formats::big_bench::{self, LengthNormalisation, Metric, Options, Shot, Task, Tasks};
use mtl_bench::system::{Constant, SavedResponses};
use mtl_bench::{Error, Result};
use mtl_core::Seed;
use std::path::{Path, PathBuf};

fn slice() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/big-bench")
}

fn read(name: &str) -> Task {
    Task::read(&slice().join(name).join("task.json")).unwrap()
}

/// Answers each question with its gold answer.
fn gold(tasks: &Tasks) -> SavedResponses {
    let mut gold = SavedResponses::new("gold");
    for task in tasks.iter() {
        for (i, example) in task.examples.iter().enumerate() {
            let id = format!("{}/{i}", task.name);
            gold = gold.with(&id, *example.accepted().first().unwrap());
            if !example.choices.is_empty() {
                let best = example.answers();
                let score = |c: &str| if c == best[0] { 0.0 } else { f64::NEG_INFINITY };
                gold = gold.with_scores(&id, example.choices.iter().map(|(c, _)| (c.clone(), score(c))));
            }
        }
    }
    gold
}

fn gold_and_empty(folder: &Path, n: usize) {
    let tasks = big_bench::load(folder).unwrap();
    assert_eq!(tasks.iter().count(), n);
    let top = big_bench::evaluate_all(&tasks, &mut gold(&tasks), &Options::default()).unwrap();
    let floor = big_bench::evaluate_all(&tasks, &mut Constant::default(), &Options::default()).unwrap();
    for (top, floor) in top.parts.iter().zip(&floor.parts) {
        let (task, empty) = (top.scores.as_ref().unwrap(), floor.scores.as_ref().unwrap());
        let max = task.preferred.top().unwrap();
        assert!((top.preferred_score.unwrap() - max).abs() < 1e-9, "{}: {:?}", top.name, task.metrics);
        assert!((top.normalised.unwrap() - 100.0).abs() < 1e-9, "{}", top.name);
        assert!(task.predictions.iter().all(|p| p.right), "{}", top.name);
        if task.preferred == Metric::MultipleChoiceGrade {
            // Equal scores: the first choice wins, and each probability is 1 of the number of choices.
            let Tasks::Group { parts, .. } = &tasks else { panic!() };
            let file = parts.iter().flat_map(Tasks::iter).find(|t| t.name == top.name).unwrap();
            let first =
                file.examples.iter().map(|e| e.choices[0].1).sum::<f64>() / file.examples.len() as f64;
            assert!((empty.preferred_score().unwrap() - first).abs() < 1e-12);
            assert!((empty.low - file.chance()).abs() < 1e-12);
            assert_eq!(task.metrics["multiple_choice_brier_score"], 0.0);
            assert!(task.metrics["expected_calibration_error"].abs() < 1e-12);
        } else {
            assert_eq!((empty.preferred_score(), empty.low), (Some(0.0), 0.0), "{}", top.name);
        }
        for (name, value) in empty.metrics.iter().filter(|(n, _)| n.starts_with("rouge") || **n == "bleu") {
            assert_eq!(*value, 0.0, "{name}");
            assert!(task.metrics[name] > 99.0, "{name}: {}", task.metrics[name]);
        }
    }
    assert!((top.normalised.unwrap() - 100.0).abs() < 1e-9);
}

#[test]
fn the_slice_scores_gold_at_the_top_and_nothing_at_the_floor() {
    gold_and_empty(&slice(), 5);
}

#[test]
fn the_real_tasks_score_gold_at_the_top_and_nothing_at_the_floor() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/data/big-bench/tasks");
    if !folder.is_dir() {
        eprintln!("skipped: no BIG-bench tasks at {}", folder.display());
        return;
    }
    gold_and_empty(&folder, 22);
}

#[test]
fn prompts_are_those_of_the_golden_file() {
    let golden: serde_json::Value =
        serde_json::from_str(include_str!("golden/bigbench_prompts.json")).unwrap();
    for case in golden.as_array().unwrap() {
        let task = read(case["task"].as_str().unwrap());
        let shots: Vec<Shot> = case["shot_indices"]
            .as_array()
            .unwrap()
            .iter()
            .map(|i| Shot::first(i.as_u64().unwrap() as usize))
            .collect();
        let query = case["example_index"].as_u64().unwrap() as usize;
        assert_eq!(task.prompt(query, &shots).unwrap(), case["prompt"].as_str().unwrap());
        let choices: Vec<&str> = task.examples[query].choices.iter().map(|c| c.0.as_str()).collect();
        match case["choices"].as_array() {
            Some(expected) => {
                assert_eq!(choices, expected.iter().map(|c| c.as_str().unwrap()).collect::<Vec<_>>())
            }
            None => assert!(choices.is_empty()),
        }
    }
    assert_eq!(golden.as_array().unwrap().len(), 8);
}

#[test]
fn shots_never_hold_the_query_and_depend_on_the_seed_only() {
    let task = read("snarks");
    let n = task.examples.len();
    for query in 0..n {
        let mut all: Vec<usize> =
            task.draw_shots(query, n - 1, Seed(3)).unwrap().iter().map(|s| s.example).collect();
        all.sort_unstable();
        assert_eq!(all, (0..n).filter(|&i| i != query).collect::<Vec<_>>());
    }
    let draw = |seed| (0..n).map(|q| task.draw_shots(q, 3, Seed(seed)).unwrap()).collect::<Vec<_>>();
    assert_eq!(draw(1), draw(1));
    assert_ne!(draw(1), draw(2));
    assert!(task.draw_shots(0, n, Seed(0)).is_err());
    assert!(task.prompt(0, &[Shot::first(0)]).is_err());
    assert!(task.prompt(n, &[]).is_err());
}

#[test]
fn choices_are_appended_and_answers_cleaned_as_the_file_says() {
    let task = write("{\"append\": 0}", |t| {
        t["examples"] = serde_json::json!([
            {"input": "1 + 1?", "target_scores": {"z": 0, "a": 1}},
            {"input": "2 + 2?", "target_scores": {"b": 0.5, "a": 0.5}}
        ]);
        t["stop_string"] = "\n".into();
        t["output_regex"] = "([0-9]+)[.]?$".into();
    });
    let task = task.unwrap();
    assert_eq!(task.format.clean(" it is 42.\nQ: next 7"), "42");
    assert_eq!(task.format.clean("  none \n"), "none");
    let draws: Vec<usize> = (0..40).map(|s| task.draw_shots(0, 1, Seed(s)).unwrap()[0].answer).collect();
    assert!(draws.contains(&0) && draws.contains(&1), "ties are drawn");
    let prompt = task.prompt(0, &[]).unwrap();
    assert!(prompt.starts_with("\nQ: 1 + 1?\n  choice: ") && prompt.ends_with("\nA: "), "{prompt:?}");
}

#[test]
fn options_change_what_is_asked_and_what_is_compared() {
    let task = read("snarks");
    let options = |change: fn(&mut Options)| {
        let mut options = Options::default();
        change(&mut options);
        options
    };
    let few = options(|o| o.max_examples = Some(4));
    let scores = big_bench::evaluate(&task, &mut Constant::default(), &few).unwrap();
    assert_eq!((scores.examples, scores.predictions.len()), (4, 4));
    let asked: Vec<usize> = scores.predictions.iter().map(|p| p.example).collect();
    assert!(asked.is_sorted());
    let high = options(|o| o.high = Some(0.5));
    let error = big_bench::evaluate(&task, &mut Constant::default(), &high).unwrap_err();
    assert!(error.to_string().contains("not above chance"), "{error}");

    let task = write("x", |t| {
        t["examples"] = serde_json::json!([{"input": "?", "target_scores": {"long answer": 1, "no": 0}}]);
    });
    let task = task.unwrap();
    let mut saved =
        SavedResponses::new("s").with_scores("t/0", [("long answer", -4.0), ("no", -2.0)]).with("t/0", "");
    let raw = big_bench::evaluate(&task, &mut saved, &Options::default()).unwrap();
    assert_eq!(raw.preferred_score(), Some(0.0));
    let by_length = options(|o| o.length = LengthNormalisation::Characters);
    assert_eq!(big_bench::evaluate(&task, &mut saved, &by_length).unwrap().preferred_score(), Some(1.0));
    for bad in [[f64::NEG_INFINITY; 2], [f64::NAN, 0.0], [f64::INFINITY, 0.0]] {
        let mut saved =
            SavedResponses::new("s").with_scores("t/0", [("long answer", bad[0]), ("no", bad[1])]);
        let error = big_bench::evaluate(&task, &mut saved, &Options::default()).unwrap_err();
        assert!(matches!(error, Error::System { .. }) && error.to_string().contains("`t/0`"), "{error}");
    }
}

#[test]
fn unsupported_metrics_are_reported() {
    let task =
        write("x", |t| t["metrics"] = serde_json::json!(["multiple_choice_grade", "bleurt", "macro_f1"]));
    let scores = big_bench::evaluate(&task.unwrap(), &mut Constant::default(), &Options::default()).unwrap();
    assert_eq!(scores.unsupported, [Metric::Bleurt]);
    assert!(scores.metrics.contains_key("macro_f1") && !scores.metrics.contains_key("bleurt"));
    let task = write("x", |t| {
        t["metrics"] = serde_json::json!(["bleurt"]);
        t["preferred_score"] = "bleurt".into();
    });
    let scores = big_bench::evaluate(&task.unwrap(), &mut Constant::default(), &Options::default()).unwrap();
    assert_eq!((scores.preferred_score(), scores.normalised), (None, None));
}

/// A small valid task, changed, written and read.
fn write(_name: &str, change: impl FnOnce(&mut serde_json::Value)) -> Result<Task> {
    let mut task = serde_json::json!({
        "name": "t", "description": "d", "keywords": [], "metrics": ["multiple_choice_grade"],
        "preferred_score": "multiple_choice_grade",
        "examples": [{"input": "a", "target_scores": {"yes": 1, "no": 0}, "comment": 1}]
    });
    change(&mut task);
    read_text(&task.to_string())
}

fn read_text(text: &str) -> Result<Task> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("task.json");
    std::fs::write(&path, text).unwrap();
    Task::read(&path)
}

#[test]
fn malformed_files_name_the_place() {
    use serde_json::json;
    type Change = fn(&mut serde_json::Value);
    let cases: &[(Change, &str, &str)] = &[
        (|t| drop(t.as_object_mut().unwrap().remove("name")), "name", "is missing"),
        (|t| drop(t.as_object_mut().unwrap().remove("examples")), "examples", "is missing"),
        (|t| t["examples"] = json!([]), "examples", "is empty"),
        (|t| t["examples"] = json!({}), "examples", "must be a list, but is an object"),
        (|t| t["examples"][0]["input"] = json!(3), "examples[0].input", "must be a text, but is a number"),
        (|t| t["examples"][0]["input"] = json!(null), "examples[0].input", "is missing"),
        (|t| t["examples"][0]["target_scores"] = json!(null), "examples[0].target_scores", "is missing"),
        (
            |t| t["examples"][0]["target_scores"]["no"] = json!("0"),
            "examples[0].target_scores.no",
            "must be a number",
        ),
        (|t| t["examples"][0]["target_scores"]["no"] = json!(-1), "examples[0].target_scores.no", "negative"),
        (|t| t["examples"][0]["target_scores"]["yes"] = json!(0), "examples[0].target_scores", "above 0"),
        (|t| t["examples"][0]["target_scores"][" no"] = json!(0), "examples[0].target_scores.no", "twice"),
        (|t| t["examples"][0]["target"] = json!("no"), "examples[0].target", "not one of the best"),
        (|t| t["examples"][0]["target"] = json!([]), "examples[0].target", "is empty"),
        (|t| t["examples"][0]["target"] = json!([1]), "examples[0].target[0]", "must be a text"),
        (|t| t["metrics"] = json!(["multiple_choice_grad"]), "metrics[0]", "did you mean"),
        (|t| t["preferred_score"] = json!("bleu"), "preferred_score", "not among"),
        (|t| t["output_regex"] = json!("("), "output_regex", "does not compile"),
        (|t| t["append_choices_to_input"] = json!("no"), "append_choices_to_input", "true or false"),
        (|t| t["stop_string"] = json!(["\n"]), "stop_string", "must be a text, but is a list"),
    ];
    for (change, place, message) in cases {
        match write("x", change).unwrap_err() {
            Error::Format { record, message: found, .. } => {
                assert_eq!(record.as_deref(), Some(*place), "{found}");
                assert!(found.contains(message), "{place}: {found}");
            }
            other => panic!("{place}: {other}"),
        }
    }
    let nan = "{\"name\": \"t\", \"examples\": [{\"input\": \"a\", \"target_scores\": {\"yes\": NaN}}]}";
    for (text, message) in [
        (nan, "examples[0].target_scores.yes: expected value"),
        ("{\"name\": \"a\", \"name\": \"b\"}", "the key `name` is there twice"),
        ("[]", "must be an object, but is a list"),
        ("{\"name\": \"t\"", "EOF"),
        ("{} {}", "trailing"),
        ("version https://git-lfs.github.com/spec/v1\n", "Git LFS pointer"),
        (&"[".repeat(100_000), "recursion limit"),
    ] {
        let error = read_text(text).unwrap_err().to_string();
        assert!(error.contains(message), "{error}");
    }
    let empty = tempfile::tempdir().unwrap();
    assert!(big_bench::load(empty.path()).unwrap_err().to_string().contains("has no `task.json`"));
    assert!(big_bench::load(&empty.path().join("absent.json")).is_err());
}
