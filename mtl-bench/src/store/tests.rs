use super::*;

fn record(method: &str, task: &str, seed: u64, value: f64) -> Record {
    Record::new("accuracy", value).method(method).task(task).seed(seed)
}

fn sample() -> Results {
    let mut records = Vec::new();
    for (i, method) in ["b", "a"].iter().enumerate() {
        for task in ["task-10", "task-2"] {
            for seed in 0..2 {
                records.push(record(method, task, seed, 0.1 * (i as f64 + 1.0) + 0.01 * seed as f64));
            }
        }
    }
    Results::from_records(records).unwrap()
}

#[test]
fn files_round_trip_bit_for_bit_and_do_not_depend_on_the_order_of_arrival() {
    let dir = tempfile::tempdir().unwrap();
    let mut shuffled = sample().records().to_vec();
    shuffled.reverse();
    shuffled.push(Record::new("odd", f64::MIN_POSITIVE).method("quote\" , comma\nline"));
    let results = Results::from_records(shuffled).unwrap();
    for name in ["records.csv", "records.jsonl"] {
        let path = dir.path().join(name);
        results.write(&path).unwrap();
        assert_eq!(Results::read(&path).unwrap(), results);
        let first = std::fs::read(&path).unwrap();
        Results::from_records(results.records().iter().rev().cloned()).unwrap().write(&path).unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), first);
    }
}

#[test]
fn an_empty_store_keeps_its_header() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("records.csv");
    Results::default().write(&path).unwrap();
    assert!(Results::read(&path).unwrap().is_empty());
}

fn read_text(name: &str, text: &str) -> String {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join(name);
    std::fs::write(&path, text).unwrap();
    Results::read(&path).unwrap_err().to_string().replace(&format!("{}/", dir.path().display()), "")
}

#[test]
fn a_bad_row_is_named_by_line_and_column() {
    let head = "study,cell,method,setting,seed,task,step,metric,value\n";
    let good = "s,c,m,d,0,t,1,accuracy,0.5\n";
    let csv = |text: &str| read_text("records.csv", text);
    insta::assert_snapshot!(csv(&format!("{head}{good}s,c,m,d,0,t,1,accuracy\n")), @"`records.csv` line 3: a row must have 9 cells, but this one has 8");
    insta::assert_snapshot!(csv(&format!("{head}{good}s,c,m,d,0,t,2,accuracy,NaN\n")), @"`records.csv` line 3: `accuracy of m` must be finite, but is NaN");
    insta::assert_snapshot!(csv(&format!("{head}s,c,m,d,-1,t,2,accuracy,1\n")), @"`records.csv` line 2: `seed`: invalid digit found in string");
    insta::assert_snapshot!(csv("study,cell\n"), @"`records.csv` line 1: the header must be `study,cell,method,setting,seed,task,step,metric,value`, but is `study,cell`");
    insta::assert_snapshot!(csv(&format!("{head}{good}{good}")), @"2 values of `accuracy`, method `m`, setting `d`, task `t`, seed 0, step 1 where one is expected; filter by setting, task or step first");
}

#[test]
fn a_torn_or_strange_json_line_is_refused() {
    let good = serde_json::to_string(&record("m", "t", 0, 0.5)).unwrap();
    let torn = &good[..good.len() - 3];
    insta::assert_snapshot!(read_text("records.jsonl", &format!("{good}\n{torn}")), @"`records.jsonl` line 2: EOF while parsing an object at line 1 column 106");
    assert!(read_text("records.jsonl", "{\"extra\": 1}\n").contains("line 1: unknown field `extra`"));
    assert!(read_text("records.txt", "").contains("must be `csv` or `jsonl`"));
}

#[test]
fn names_come_in_natural_order_and_groups_follow() {
    let results = sample();
    assert_eq!(results.names(Key::Task), ["task-2", "task-10"]);
    assert_eq!(results.names(Key::Method), ["a", "b"]);
    let groups = results.group_by(Key::Method);
    assert_eq!(groups[0].1.len(), 4);
}

#[test]
fn the_mean_over_tasks_needs_every_task() {
    let means = sample().mean_over_tasks().unwrap();
    assert_eq!(means.len(), 4);
    assert_eq!(means.method("b").by_seed().unwrap()[&1], 0.11);
    let holed = sample().filter(|r| !(r.method == "a" && r.task == "task-2" && r.seed == 1));
    let error = holed.mean_over_tasks().unwrap_err().to_string();
    assert_eq!(error, "no records of `accuracy`, method `a`, task `task-2`, seed 1, step 0");
}

#[test]
fn the_last_step_is_taken_per_run() {
    let steps = [(0, 1, 0.1), (0, 5, 0.2), (1, 3, 0.3)];
    let all = steps.map(|(seed, step, value)| Record::new("loss", value).seed(seed).step(step));
    let last = Results::from_records(all).unwrap().last_step();
    assert_eq!(last.by_seed().unwrap().into_values().collect::<Vec<_>>(), [0.2, 0.3]);
}

#[test]
fn mixing_tasks_is_an_error_and_not_an_average() {
    assert!(matches!(sample().method("a").by_seed(), Err(Error::Ambiguous { count: 2, .. })));
}

#[test]
fn a_value_that_is_not_finite_never_enters() {
    assert!(Results::from_records([Record::new("loss", f64::INFINITY)]).is_err());
}
