//! Records from files of any column names.
use super::args::Input;
use crate::Results;
use crate::interchange::{ColumnMap, Field, read_long_csv};
use crate::store::Key;
use anyhow::{Context, bail, ensure};
use std::collections::BTreeMap;
use std::path::Path;

/// Our columns, and whether a file may lack them.
const COLUMNS: [(&str, bool); 9] = [
    ("study", true),
    ("cell", true),
    ("method", false),
    ("setting", true),
    ("seed", true),
    ("task", true),
    ("step", true),
    ("metric", true),
    ("value", false),
];

/// The records that the arguments name: one metric, filtered. All steps when `steps` is set, else the last of each run.
pub(super) fn results(input: &Input, steps: bool) -> anyhow::Result<Results> {
    let mut results = read(input)?;
    ensure!(!results.is_empty(), "`{}` has no records", input.file.display());
    if let Some(metric) = &input.metric {
        results = only(results, Key::Metric, std::slice::from_ref(metric))?;
    }
    if let Some(setting) = &input.setting {
        results = only(results, Key::Setting, std::slice::from_ref(setting))?;
    }
    results = only(results, Key::Task, &input.tasks)?;
    results = only(results, Key::Method, &input.methods)?;
    if let Some(step) = input.step {
        results = results.filter(|r| r.step == step);
        ensure!(!results.is_empty(), "no records of step {step}");
    } else if !steps {
        results = results.into_last_step();
    }
    Ok(results)
}

/// The single metric of the results.
pub(super) fn metric(results: &Results) -> anyhow::Result<String> {
    match results.names(Key::Metric).as_slice() {
        [one] => Ok(one.clone()),
        several => bail!("there are several metrics ({}); choose one by `--metric`", several.join(", ")),
    }
}

fn only(results: Results, key: Key, names: &[String]) -> anyhow::Result<Results> {
    if names.is_empty() {
        return Ok(results);
    }
    let known = results.names(key);
    if let Some(bad) = names.iter().find(|n| !known.contains(n)) {
        return Err(mtl_core::Error::unknown(key.name(), bad, known.iter().map(String::as_str)).into());
    }
    Ok(results.filter(|r| names.iter().any(|n| n == key.of(r))))
}

/// Their column for each of ours.
fn mapping(pairs: &[String]) -> anyhow::Result<BTreeMap<&'static str, String>> {
    let mut map: BTreeMap<&'static str, String> = BTreeMap::new();
    for pair in pairs {
        let Some((ours, theirs)) = pair.split_once('=') else {
            bail!("`--columns {pair}` must be ours=theirs, such as method=algo")
        };
        let Some((name, _)) = COLUMNS.iter().find(|(name, _)| *name == ours) else {
            return Err(mtl_core::Error::unknown("column", ours, COLUMNS.iter().map(|(n, _)| *n)).into());
        };
        ensure!(map.insert(name, theirs.to_owned()).is_none(), "`--columns` names `{ours}` twice");
    }
    Ok(map)
}

fn read(input: &Input) -> anyhow::Result<Results> {
    let map = mapping(&input.columns)?;
    match input.file.extension().and_then(|e| e.to_str()) {
        Some("jsonl") if map.is_empty() => Ok(Results::read(&input.file)?),
        Some("jsonl") => bail!("`--columns` is for CSV files"),
        Some("tsv") => table(&input.file, b'\t', &map, input.metric.as_deref()),
        _ => table(&input.file, b',', &map, input.metric.as_deref()),
    }
}

/// Sets where a field of the records comes from.
type Setter = fn(ColumnMap, Field) -> ColumnMap;

fn table(
    path: &Path,
    delimiter: u8,
    map: &BTreeMap<&'static str, String>,
    metric: Option<&str>,
) -> anyhow::Result<Results> {
    let name = || format!("`{}`", path.display());
    let mut reader = csv::ReaderBuilder::new().delimiter(delimiter).from_path(path).with_context(name)?;
    let header = reader.headers().with_context(name)?.clone();
    ensure!(!header.is_empty(), "{} is empty; its first line must name its columns", name());
    let mut at: BTreeMap<&str, usize> = BTreeMap::new();
    for (ours, optional) in COLUMNS {
        let theirs = map.get(ours).map_or(ours, String::as_str);
        let mut found = header.iter().enumerate().filter(|(_, h)| h.trim() == theirs);
        match (found.next(), found.next()) {
            (Some(_), Some(_)) => bail!("{} has two columns `{theirs}`", name()),
            (Some((i, _)), None) => drop(at.insert(ours, i)),
            (None, _) if optional && !map.contains_key(ours) => {}
            (None, _) => bail!(
                "{} has no column `{theirs}`; its columns are {}. `--columns {ours}=NAME` says which one it is",
                name(),
                header.iter().collect::<Vec<_>>().join(", ")
            ),
        }
    }
    drop(reader);
    let column =
        |ours: &str| at.contains_key(ours).then(|| Field::column(map.get(ours).map_or(ours, String::as_str)));
    let metric = column("metric").unwrap_or_else(|| Field::fixed(metric.unwrap_or("value")));
    let value = map.get("value").map_or("value", String::as_str);
    let mut columns = ColumnMap::new(value, metric).delimiter(delimiter);
    let setters: [(&str, Setter); 7] = [
        ("study", ColumnMap::study),
        ("cell", ColumnMap::cell),
        ("method", ColumnMap::method),
        ("setting", ColumnMap::setting),
        ("seed", ColumnMap::seed),
        ("task", ColumnMap::task),
        ("step", ColumnMap::step),
    ];
    for (ours, set) in setters {
        if let Some(field) = column(ours) {
            columns = set(columns, field);
        }
    }
    Ok(read_long_csv(path, &columns)?)
}
