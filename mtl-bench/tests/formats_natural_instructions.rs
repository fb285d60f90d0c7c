//! Natural Instructions: prompts as in the golden file, splits, scores of gold, empty and copied answers, malformed files.
#![allow(clippy::expect_used, clippy::unwrap_used, clippy::panic, clippy::print_stderr)]
use mtl_bench::Error;
use mtl_bench::formats::natural_instructions::{
    Baseline, Budget, Encoding, NiOptions, NiTask, NiVersion, Split, V1Encoding, V1Part, WhiteSpace,
    baseline, evaluate, training_instances,
};
use mtl_bench::metrics::text::normalise;
use mtl_bench::system::{Constant, SavedResponses};
use mtl_core::Seed;
use std::path::{Path, PathBuf};

fn slice() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/natural-instructions")
}

fn has_tokens(text: &str) -> bool {
    text.chars().any(|c| c.is_ascii_alphanumeric())
}

fn gold_and_empty(folder: &Path, n: usize) {
    let tasks = NiTask::read_folder(&folder.join("tasks")).unwrap();
    assert_eq!(tasks.len(), n);
    let all: Vec<&NiTask> = tasks.iter().collect();
    let mut gold = SavedResponses::new("gold");
    // The largest and the smallest score that the protocol can give.
    let (mut with_tokens, mut blank, mut instances) = (0usize, 0usize, 0usize);
    for task in &tasks {
        for instance in task.evaluation_instances(100) {
            let answer = instance.outputs.iter().find(|o| has_tokens(o)).unwrap_or(&instance.outputs[0]);
            gold = gold.with(format!("{}/{}", task.name, instance.id), answer.as_str());
            with_tokens += usize::from(has_tokens(answer));
            blank += usize::from(instance.outputs.iter().any(|o| normalise(o).is_empty()));
            instances += 1;
        }
    }
    let options = NiOptions::default();
    let top = evaluate(&all, &mut gold, &options).unwrap();
    let share = |count: usize| 100.0 * count as f64 / instances as f64;
    assert_eq!((top.overall.instances, top.overall.exact_match), (instances, 100.0));
    assert!((top.overall.rouge_l - share(with_tokens)).abs() < 1e-9, "{:?}", top.overall);
    assert!(share(with_tokens) > 97.0);
    let floor = evaluate(&all, &mut Constant::default(), &options).unwrap();
    assert_eq!(floor.overall.rouge_l, 0.0);
    assert!((floor.overall.exact_match - share(blank)).abs() < 1e-9 && share(blank) < 3.0);
    assert_eq!(top.tasks.len(), n);
    assert_eq!(top.categories.values().map(|c| c.instances).sum::<usize>(), instances);
    let copied = baseline(&all, Baseline::CopyInput, &options).unwrap().overall.rouge_l;
    let shown = baseline(&all, Baseline::CopyDemonstration(Seed(0)), &options).unwrap().overall.rouge_l;
    assert!(copied > 1.0 && shown > 1.0 && copied < 60.0 && shown < 60.0, "{copied} {shown}");
}

#[test]
fn the_slice_scores_gold_at_the_top_and_nothing_at_the_floor() {
    gold_and_empty(&slice(), 3);
}

#[test]
fn the_real_tasks_score_gold_at_the_top_and_nothing_at_the_floor() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/data/natural-instructions");
    if !folder.is_dir() {
        eprintln!("skipped: no Natural Instructions at {}", folder.display());
        return;
    }
    gold_and_empty(&folder, 85);
    let Split::Lists { train, test } = Split::read(&folder.join("splits/default")).unwrap() else { panic!() };
    assert_eq!((train.len(), test.len()), (756, 119));
    let tasks = NiTask::read_folder(&folder.join("tasks")).unwrap();
    let parts = Split::Lists { train, test }.part(&tasks).unwrap();
    assert!(parts.train.len() > 20 && parts.test.len() > 20 && parts.train.len() + parts.test.len() <= 85);
}

#[test]
fn prompts_are_those_of_the_golden_file() {
    let golden: serde_json::Value = serde_json::from_str(include_str!("golden/ni_prompts.json")).unwrap();
    for case in golden.as_array().unwrap() {
        let name = case["task"].as_str().unwrap();
        let task = NiTask::read(&slice().join("tasks").join(format!("{name}.json"))).unwrap();
        let [definition, positives, both, negatives, explained] = Encoding::TK_INSTRUCT;
        let encoding = match case["encoding"].as_str().unwrap() {
            "definition" => definition,
            "2pos" => positives,
            "definition+2pos" => both,
            "definition+2pos+2neg" => negatives,
            "definition+2pos+expl" => explained,
            "name+definition" => Encoding { task_name: true, ..definition },
            other => panic!("{other}"),
        };
        let instance = &task.instances[case["instance_index"].as_u64().unwrap() as usize];
        assert_eq!(encoding.prompt(&task, instance, None), case["prompt"].as_str().unwrap());
        let references: Vec<&str> =
            case["references"].as_array().unwrap().iter().map(|r| r.as_str().unwrap()).collect();
        assert_eq!(instance.outputs, references);
    }
    assert_eq!(golden.as_array().unwrap().len(), 18);
}

#[test]
fn budgets_drop_examples_and_then_cut() {
    let task = NiTask::read(&slice().join("tasks/task1146_country_capital.json")).unwrap();
    let instance = &task.instances[1];
    let counter = WhiteSpace;
    let with = |tokens| Encoding::DEFAULT.prompt(&task, instance, Some(Budget { tokens, counter: &counter }));
    let full = Encoding::DEFAULT.prompt(&task, instance, None);
    let length = full.split_whitespace().count();
    assert_eq!(with(length), full);
    let one = with(length - 1);
    assert!(one.contains("Positive Example 1") && !one.contains("Positive Example 2"));
    let bare = Encoding::DEFINITION.prompt(&task, instance, None);
    assert_eq!(with(bare.split_whitespace().count()), bare);
    assert_eq!(with(3), "Definition: In this");
    assert_eq!(with(0), "");
    let drawn: std::collections::BTreeSet<Encoding> =
        (0..60).map(|s| Encoding::draw(Seed(s), instance)).collect();
    assert_eq!(drawn.len(), 5);
}

#[test]
fn version_1_files_give_prompts_and_instances() {
    let task = NiTask::read(&slice().join("v1/subtask001_colour.json")).unwrap();
    assert_eq!((task.version, task.avoid.as_deref()), (NiVersion::V1, None));
    assert_eq!(task.instances[1].id, "subtask001_colour-1");
    let encoding = V1Encoding {
        parts: vec![V1Part::Title, V1Part::Definition, V1Part::Avoid, V1Part::Caution],
        positives: 1,
        negatives: 1,
        reasons: false,
    };
    let expected = "Title: Naming a colour\nDefinition: You are given a thing; name its colour.\nEmphasis & Caution: One word only.\ninput: grass\noutput: green\nNegative Example 1- \ninput: snow\noutput: cold\nreason: Not a colour.\nsuggestion: white\n\ninput: coal\noutput:";
    assert_eq!(encoding.prompt(&task, &task.instances[0]), expected);
    let mut long = task.clone();
    long.instances = (0..260)
        .map(|i| {
            let mut instance = task.instances[0].clone();
            instance.id = i.to_string();
            instance
        })
        .collect();
    let ids: Vec<&str> = long.evaluation_instances(100).iter().map(|i| i.id.as_str()).collect();
    assert_eq!((ids.len(), ids[0], ids[1]), (100, "60", "62"));
}

#[test]
fn splits_part_every_task_once() {
    let tasks = NiTask::read_folder(&slice().join("tasks")).unwrap();
    let names = |tasks: &[&NiTask]| tasks.iter().map(|t| t.name.clone()).collect::<Vec<_>>();
    let lists = Split::read(&slice().join("splits/default")).unwrap();
    let parts = lists.part(&tasks).unwrap();
    assert_eq!(names(&parts.test), ["task835_mathdataset_answer_generation"]);
    assert_eq!(parts.train.len(), 2);
    for split in [
        Split::LeaveCategoryOut("Misc.".into()),
        Split::LeaveTaskOut("task1146_country_capital".into()),
        Split::LeaveSourceOut(tasks[1].sources[0].clone()),
    ] {
        let parts = split.part(&tasks).unwrap();
        assert_eq!(
            (names(&parts.test), parts.train.len()),
            (vec!["task1146_country_capital".to_owned()], 2),
            "{split:?}"
        );
    }
    assert_eq!(Split::Random { seed: Seed(1), per_category: 1 }.part(&tasks).unwrap().test.len(), 3);
    let error = Split::LeaveCategoryOut("None".into()).part(&tasks).unwrap_err();
    assert!(matches!(error, Error::Missing { .. }));
    let ids = |seed| training_instances(&tasks[0], 5, seed).iter().map(|i| i.id.clone()).collect::<Vec<_>>();
    assert_eq!((ids(Seed(0)), ids(Seed(0)).len()), (ids(Seed(0)), 5));
    assert_ne!(ids(Seed(0)), ids(Seed(1)));
}

#[test]
fn unusual_tasks_are_scored_or_refused() {
    let mut task = NiTask::read(&slice().join("tasks/task1146_country_capital.json")).unwrap();
    task.positive.truncate(1);
    task.positive[0].input = task.instances[0].input.clone();
    let report = evaluate(&[&task], &mut Constant::default(), &NiOptions::default()).unwrap();
    assert_eq!(report.short_of_examples, [task.name.as_str()]);
    assert_eq!(report.leaked, [task.instances[0].id.as_str()]);
    assert!(matches!(
        evaluate(&[&task, &task], &mut Constant::default(), &NiOptions::default()),
        Err(Error::Ambiguous { .. })
    ));
    assert!(matches!(
        evaluate(&[], &mut Constant::default(), &NiOptions::default()),
        Err(Error::Missing { .. })
    ));
    task.instances[2].outputs = vec!["東京".into()];
    let error = evaluate(&[&task], &mut Constant::default(), &NiOptions::default()).unwrap_err().to_string();
    assert!(error.contains("task1146_country_capital") && error.contains("no Latin letter"), "{error}");
}

#[test]
fn malformed_files_name_the_place() {
    use serde_json::json;
    let read = |text: &str| {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("task1.json");
        std::fs::write(&path, text).unwrap();
        NiTask::read(&path)
    };
    type Change = fn(&mut serde_json::Value);
    let cases: &[(Change, &str, &str)] = &[
        (|t| drop(t.as_object_mut().unwrap().remove("Definition")), "Definition", "is missing"),
        (|t| t["Definition"] = json!([]), "Definition", "is empty"),
        (|t| t["Definition"] = json!(["a", 2]), "Definition[1]", "must be a text"),
        (|t| t["Categories"] = json!([]), "Categories", "is empty"),
        (|t| t["Positive Examples"] = json!("x"), "Positive Examples", "must be a list"),
        (|t| t["Positive Examples"] = json!([{"input": "a"}]), "Positive Examples[0].output", "is missing"),
        (|t| t["Instances"] = json!([]), "Instances", "is empty"),
        (|t| drop(t["Instances"][0].as_object_mut().unwrap().remove("id")), "Instances[0].id", "is missing"),
        (|t| t["Instances"][0]["output"] = json!([]), "Instances[0].output", "no reference"),
        (|t| t["Instances"][0]["output"] = json!(1), "Instances[0].output", "a text or a list"),
        (|t| t["Instances"][1] = t["Instances"][0].clone(), "Instances[1].id", "there twice"),
    ];
    for (change, place, message) in cases {
        let mut task = json!({
            "Categories": ["C"], "Definition": "d", "Positive Examples": [],
            "Instances": [{"id": "1", "input": "a", "output": ["b"]}, {"id": "2", "input": "", "output": "c"}]
        });
        assert!(read(&task.to_string()).is_ok());
        change(&mut task);
        match read(&task.to_string()).unwrap_err() {
            Error::Format { record, message: found, .. } => {
                assert_eq!(record.as_deref(), Some(*place), "{found}");
                assert!(found.contains(message), "{place}: {found}");
            }
            other => panic!("{place}: {other}"),
        }
    }
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("train_tasks.txt"), "a\nb\n").unwrap();
    std::fs::write(folder.path().join("test_tasks.txt"), "b\n").unwrap();
    assert!(Split::read(folder.path()).unwrap_err().to_string().contains("`b` is also in"));
    std::fs::write(folder.path().join("train_tasks.txt"), "a\na\n").unwrap();
    assert!(Split::read(folder.path()).unwrap_err().to_string().contains("line 2: `a` is there twice"));
    assert!(NiTask::read_folder(folder.path()).unwrap_err().to_string().contains("no `.json` files"));
}
