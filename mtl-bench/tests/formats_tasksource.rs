//! tasksource annotations: the published file, the golden rows, rules of splits and labels, malformed input.
#![allow(clippy::expect_used, clippy::unwrap_used, clippy::panic, clippy::print_stderr)]
use mtl_bench::Error;
use mtl_bench::formats::tasksource::{
    Annotation, Annotations, ApplyOptions, Dataset, Functions, Row, Table, TaskDataset, Template,
    expand_pattern, fix_splits,
};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

fn slice() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/tasksource")
}

fn table(rows: Value) -> Table {
    Table { rows: rows.as_array().unwrap().iter().map(|r| r.as_object().unwrap().clone()).collect() }
}

fn annotation(json: Value) -> mtl_bench::Result<Annotation> {
    Annotation::from_json(&json.to_string(), Path::new("a.json"))
}

fn sizes(dataset: &Dataset) -> Vec<(&str, usize)> {
    dataset.iter().map(|(name, t)| (name.as_str(), t.rows.len())).collect()
}

#[test]
fn golden_rows_come_out_exactly() {
    let golden: Value = serde_json::from_str(include_str!("golden/tasksource_apply.json")).unwrap();
    let cases = golden["cases"].as_array().unwrap();
    assert_eq!(cases.len(), 4);
    for case in cases {
        let annotation = annotation(case["annotation"].clone()).unwrap();
        let mut options = ApplyOptions::default();
        if let Some(most) = case["max_options"].as_u64() {
            options.max_choices = most as usize;
        }
        let rows = table(golden["rows"].clone());
        let task = annotation.apply_table(rows, &options).unwrap();
        assert_eq!(task.splits["train"], table(case["output"].clone()));
        if let Some(names) = case.get("label_names") {
            assert_eq!(serde_json::to_value(&task.label_names).unwrap(), *names);
        }
    }
}

fn load(path: &Path, n: usize, declarative: usize) -> Annotations {
    let annotations = Annotations::read(path).unwrap();
    assert_eq!(annotations.all.len(), n);
    let (clear, computed): (Vec<_>, Vec<_>) = annotations.all.iter().partition(|a| a.is_declarative());
    assert_eq!((clear.len(), computed.len()), (declarative, n - declarative));
    for annotation in computed {
        // Refused by name, before any data are looked at.
        let error = annotation.apply(Dataset::new(), &ApplyOptions::default()).unwrap_err();
        let Error::Format { record: Some(record), .. } = &error else { panic!("{}: {error}", annotation.id) };
        let part = record.strip_prefix(&format!("{}.", annotation.id)).unwrap();
        assert!(annotation.computed_parts().iter().any(|p| p == part), "{error}");
    }
    annotations
}

#[test]
fn annotations_load_and_computed_ones_are_refused_by_name() {
    let annotations = load(&slice().join("annotations.json"), 14, 10);
    assert!(annotations.get("glue___mnl").unwrap_err().to_string().contains("did you mean `glue___mnli`"));
}

#[test]
fn the_real_annotations_load() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/data/tasksource/annotations.json");
    if !path.is_file() {
        eprintln!("skipped: no annotations at {}", path.display());
        return;
    }
    let annotations = load(&path, 379, 305);
    assert_eq!(annotations.of(Template::Classification).count(), 287);
    assert_eq!(annotations.of(Template::MultipleChoice).count(), 80);
    assert_eq!(annotations.of(Template::TokenClassification).count(), 12);
    assert!(matches!(annotations.get("banking77"), Err(Error::Ambiguous { count: 2, .. })));
}

#[test]
fn real_tables_become_tasks_with_all_rows() {
    let spam = annotation(json!({"id": "sms_spam", "kind": "classification", "dataset": "sms_spam",
        "fields": {"sentence1": {"column": "text"}, "labels": {"column": "label", "names": ["ham", "spam"]}}}));
    let spam = spam.unwrap();
    let read = |path: &Path| Table::read_delimited(path, b'\t', Some(&["label", "text"])).unwrap();
    let check = |rows: Table, name: &str| {
        let n = rows.rows.len();
        let task = spam.apply([("all".to_owned(), rows.clone())].into(), &ApplyOptions::default()).unwrap();
        assert_eq!(task.label_names.as_deref(), Some(&["ham".to_owned(), "spam".to_owned()][..]), "{name}");
        let counts: Vec<usize> =
            ["train", "validation", "test"].iter().map(|s| task.splits[*s].rows.len()).collect();
        let held = n.div_ceil(10);
        assert_eq!(counts, [n - held, held - held.div_ceil(2), held.div_ceil(2)], "{name}");
        let pairs = |dataset: &Dataset, text: &str, label: &str| {
            let mut pairs: Vec<String> = dataset
                .values()
                .flat_map(|t| t.rows.iter().map(|r| format!("{} {}", r[label], r[text])))
                .collect();
            pairs.sort();
            pairs
        };
        let source = Dataset::from([("all".to_owned(), rows)]);
        assert_eq!(pairs(&task.splits, "sentence1", "labels"), pairs(&source, "text", "label"), "{name}");
    };
    check(read(&slice().join("sms_spam.tsv")), "slice");
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/data/text");
    if !folder.is_dir() {
        eprintln!("skipped: no text data at {}", folder.display());
        return;
    }
    for file in ["sms_spam_all", "sst2_train", "subj_all", "customer_reviews_all"] {
        check(read(&folder.join(format!("{file}.tsv"))), file);
    }
}

#[test]
fn splits_follow_the_rules() {
    let rows = |n: usize, label: fn(usize) -> usize| Table {
        rows: (0..n)
            .map(|i| Row::from_iter([("i".to_owned(), i.into()), ("labels".to_owned(), label(i).into())]))
            .collect(),
    };
    let fixed = |names: &[(&str, usize)], label: fn(usize) -> usize| {
        let mut dataset: Dataset = names.iter().map(|(s, n)| ((*s).to_owned(), rows(*n, label))).collect();
        fix_splits(&mut dataset);
        sizes(&dataset).iter().map(|(s, n)| format!("{s} {n}")).collect::<Vec<_>>().join(", ")
    };
    let own = |i| i;
    assert_eq!(fixed(&[("full", 100)], own), "train 90, validation 10");
    assert_eq!(fixed(&[("train", 90), ("validation", 10)], own), "test 5, train 90, validation 5");
    assert_eq!(fixed(&[("validation", 10), ("test", 4)], own), "test 4, train 5, validation 5");
    assert_eq!(fixed(&[("train", 20), ("test", 4)], own), "test 4, train 18, validation 2");
    assert_eq!(fixed(&[("train", 20), ("test", 4)], |_| 7), "train 18, validation 2");
    assert_eq!(
        fixed(&[("train", 2), ("validation", 2), ("test", 2), ("auxiliary_train", 9)], own),
        "test 2, train 2, validation 2"
    );
    let mut dataset = Dataset::from([("train".to_owned(), rows(50, own))]);
    fix_splits(&mut dataset);
    let order = |name: &str| dataset[name].rows.iter().map(|r| r["i"].as_u64().unwrap()).collect::<Vec<_>>();
    assert!(order("train").is_sorted() && order("validation").is_sorted());
    let all: BTreeSet<u64> = order("train").into_iter().chain(order("validation")).collect();
    assert_eq!(all.len(), 50);
}

#[test]
fn named_splits_caps_and_hooks_apply() {
    let a = annotation(
        json!({"id": "x", "kind": "classification", "dataset": "x", "splits": ["main", null, "held"],
        "fields": {"sentence1": {"constant": "s"}, "labels": {"computed": true}}, "post_process": {"computed": true}}),
    );
    let a = a.unwrap();
    assert_eq!(a.computed_parts(), ["post_process", "labels"]);
    let rows =
        |n: usize| Table { rows: (0..n).map(|i| Row::from_iter([("i".to_owned(), i.into())])).collect() };
    let data = || {
        Dataset::from([("main".into(), rows(40)), ("held".into(), rows(9)), ("validation".into(), rows(5))])
    };
    let functions = Functions::default()
        .field("x.labels", |row| {
            Ok((if row["i"].as_u64() == Some(0) { -1 } else { (row["i"].as_u64().unwrap() % 3) as i64 })
                .into())
        })
        .hook("x.post_process", |mut d| {
            d.values_mut().for_each(|t| t.rows.retain(|r| r["labels"] != json!(-1)));
            Ok(d)
        });
    let mut options = ApplyOptions::default();
    options.functions = Some(&functions);
    let task = a.apply(data(), &options).unwrap();
    assert_eq!(sizes(&task.splits).iter().map(|s| s.1).sum::<usize>(), 47);
    assert!(task.hidden_labels.values().all(|n| *n == 0));
    (options.max_train, options.max_evaluation) = (Some(6), Some(3));
    let few = a.apply(data(), &options).unwrap();
    assert!(few.splits["train"].rows.len() <= 6 && few.splits["test"].rows.len() <= 3);
    assert_eq!(a.apply(data(), &options).unwrap(), few);
    let error = a.apply(Dataset::from([("main".into(), rows(4))]), &options).unwrap_err().to_string();
    assert!(error.contains("`x`: has no split `held`"), "{error}");
}

fn apply(fields: Value, kind: &str, data: Value) -> mtl_bench::Result<TaskDataset> {
    let a = annotation(json!({"id": "x", "kind": kind, "dataset": "data", "fields": fields}))?;
    let dataset =
        data.as_object().unwrap().iter().map(|(s, rows)| (s.clone(), table(rows.clone()))).collect();
    a.apply(dataset, &ApplyOptions::default())
}

#[test]
fn wrong_data_name_split_row_and_column() {
    let two = json!({"sentence1": {"column": "t"}, "labels": {"column": "l"}});
    let data = |train: Value| json!({"train": train, "validation": [{"t": "a", "l": "x"}], "test": [{"t": "a", "l": "x"}, {"t": "a", "l": "y"}]});
    let good = json!([{"t": "a", "l": "x"}, {"t": "b", "l": "y"}]);
    assert!(apply(two.clone(), "classification", data(good.clone())).is_ok());
    let choices =
        json!({"inputs": {"column": "t"}, "choices_list": {"column": "c"}, "labels": {"column": "l"}});
    let tokens = json!({"tokens": {"column": "t"}, "labels": {"column": "l"}});
    let cases = [
        (
            two.clone(),
            "classification",
            data(json!([{"t": "a", "l": "x"}, {"t": "b", "l": 3}])),
            "`data`, train[1].labels: is of kind integer",
        ),
        (
            two.clone(),
            "classification",
            data(json!([{"t": "a", "l": "x"}, {"l": "y"}])),
            "train[1].sentence1: there is no column `t`",
        ),
        (
            two.clone(),
            "classification",
            data(json!([{"t": "a", "l": "x"}, {"t": "a", "l": "z"}])),
            "test[1].labels: `y` is not a label of the training split",
        ),
        (
            two.clone(),
            "classification",
            data(json!([{"t": "a", "l": "x"}, {"t": "a", "l": "x"}])),
            "a class label needs two",
        ),
        (two.clone(), "classification", data(json!([])), "train: has no rows"),
        (
            two,
            "classification",
            data(json!([{"u": "a", "l": "x"}])),
            "`data`, train: `sentence1`: there is no column `t`",
        ),
        (
            json!({"sentence1": {"path": "t.u"}, "labels": {"column": "l"}}),
            "classification",
            data(good.clone()),
            "`t` must be of kind object, but is of kind text",
        ),
        (
            json!({"sentence1": {"path": "o.u[2]"}, "labels": {"constant": 0}}),
            "classification",
            json!({"train": [{"o": {"u": [1, 2]}}]}),
            "asks for item 2 of a list of 2",
        ),
        (
            json!({"sentence1": {"column": "t"}, "labels": {"column": "n", "names": ["a", "b"]}}),
            "classification",
            json!({"train": [{"t": "a", "n": 0}, {"t": "a", "n": 2}, {"t": "a", "n": 2}]}),
            "`n` is 2, but there are 2 names",
        ),
        (
            choices.clone(),
            "multiple_choice",
            json!({"train": [{"t": "a", "c": ["x", "y"], "l": 2}, {"t": "a", "c": ["x", "y"], "l": 2}]}),
            "2 is not the index of one, but there are 2 choices",
        ),
        (
            choices,
            "multiple_choice",
            json!({"train": [{"t": "a", "c": ["x", "y"], "l": -1}, {"t": "a", "c": ["x", "y"], "l": -1}]}),
            "-1 stands for no label",
        ),
        (
            tokens,
            "token_classification",
            json!({"train": [{"t": ["a", "b"], "l": [1]}, {"t": ["a"], "l": [1, 2]}]}),
            "labels for",
        ),
    ];
    for (fields, kind, data, message) in cases {
        let error = apply(fields, kind, data).unwrap_err();
        assert!(
            matches!(error, Error::Format { .. }) && error.to_string().contains(message),
            "{message}: {error}"
        );
    }
}

#[test]
fn malformed_annotations_name_the_place() {
    let base = |fields: Value| json!({"kind": "classification", "fields": fields});
    let with = |labels: Value| base(json!({"sentence1": {"column": "a"}, "labels": labels}));
    let cases = [
        (json!({"kind": "classificatio", "fields": {}}), "kind: unknown kind"),
        (json!({"kind": "classification"}), "fields: is missing"),
        (base(json!({"sentence1": {"column": "a"}})), "fields: has no `labels`"),
        (with(json!({"colum": "a"})), "fields.labels: must be one of"),
        (with(json!({"column": 1})), "fields.labels.column: must be a text"),
        (with(json!({"column": "a", "names": []})), "fields.labels.names: is empty"),
        (with(json!({"path": "a..b"})), "fields.labels.path: `a..b` is no path"),
        (with(json!({"path": "a[x]"})), "an index is not a number"),
        (with(json!({"concat": []})), "fields.labels.concat: is empty"),
        (with(json!({"computed": false})), "fields.labels.computed: must be true"),
        (
            json!({"kind": "multiple_choice", "fields": {"inputs": {"column": "a"}, "labels": {"column": "l"}}}),
            "neither `choices`",
        ),
        (
            json!({"kind": "multiple_choice", "fields": {"inputs": {"column": "a"}, "labels": {"column": "l"}, "choices": {"expand_pattern": "a+"}}}),
            "fields.choices.expand_pattern: matches infinitely many",
        ),
        (
            json!({"kind": "multiple_choice", "fields": {"inputs": {"column": "a"}, "labels": {"column": "l"}, "choice0": {"column": "a"}, "choices": {"literal": ["b"]}}}),
            "`choice0` is filled twice",
        ),
        (
            json!({"kind": "classification", "splits": ["a"], "fields": {"sentence1": {"column": "a"}, "labels": {"column": "a"}}}),
            "splits: must name train",
        ),
    ];
    for (json, message) in cases {
        let error = annotation(json).unwrap_err();
        assert!(
            matches!(error, Error::Format { .. }) && error.to_string().contains(message),
            "{message}: {error}"
        );
    }
    assert_eq!(expand_pattern("a(b|cd)?[xy]{1,2}").unwrap().len(), 3 * (2 + 4));
    for bad in ["[a-z]{9}", "^a", "a.", "(", "x{5000}"] {
        assert!(expand_pattern(bad).is_err(), "{bad}");
    }
}

#[test]
fn tables_are_read_by_their_ending() {
    let folder = tempfile::tempdir().unwrap();
    let read = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        Table::read(&path)
    };
    let expected = table(json!([{"a": "x, \"y\"", "n": 1, "f": 1.5}, {"a": null, "n": -2, "f": 2.0}]));
    assert_eq!(read("t.csv", "a,n,f\n\"x, \"\"y\"\"\",1,1.5\n,-2,2\n").unwrap(), expected);
    assert_eq!(read("t.tsv", "a\tn\tf\nx, \"y\"\t1\t1.5\n\t-2\t2\n").unwrap(), expected);
    assert_eq!(read("t.json", &serde_json::to_string(&expected.rows).unwrap()).unwrap(), expected);
    let lines: Vec<String> = expected.rows.iter().map(|r| serde_json::to_string(r).unwrap()).collect();
    assert_eq!(read("t.jsonl", &lines.join("\n")).unwrap(), expected);
    for (name, text, message) in [
        ("t.csv", "a,b\n1\n", "line 2: has 1 cells, but there are 2 columns"),
        ("t.csv", "a,a\n1,2\n", "two columns `a`"),
        ("t.jsonl", "{\"a\": 1}\n[1]\n", "line 2: must be an object"),
        ("t.jsonl", "{\"a\": 1}\n{\"a\": {\"b\": tru}}\n", "line 2, a.b: expected ident"),
        ("t.json", "{}", "must be a list"),
        ("t.xml", "", "must end in"),
    ] {
        let error = read(name, text).unwrap_err().to_string();
        assert!(error.contains(message), "{message}: {error}");
    }
}
