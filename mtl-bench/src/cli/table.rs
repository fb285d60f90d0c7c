//! `mtl-bench table`: means over seeds.
use super::args::{KeyArg, TableArgs, TableFormat};
use super::{input, print};
use crate::stats::{CompareOptions, Scores, compare, detectable_difference, median, std};
use crate::store::Key;
use crate::{Pivot, Record, Results, Table};
use anyhow::ensure;
use std::collections::BTreeMap;

impl From<KeyArg> for Key {
    fn from(arg: KeyArg) -> Self {
        match arg {
            KeyArg::Study => Self::Study,
            KeyArg::Setting => Self::Setting,
            KeyArg::Method => Self::Method,
            KeyArg::Task => Self::Task,
            KeyArg::Metric => Self::Metric,
        }
    }
}

pub(super) fn table(args: &TableArgs) -> anyhow::Result<u8> {
    let results = input::results(&args.input, false)?;
    if args.cols != KeyArg::Metric && args.rows != KeyArg::Metric {
        input::metric(&results)?;
    }
    ensure!(args.rows != args.cols, "rows and columns must differ");
    let mut pivot = Pivot::new(args.rows.into(), args.cols.into()).level(args.level);
    if args.percent {
        pivot = pivot.percent();
    }
    if args.mean {
        pivot = pivot.with_mean();
    }
    if let Some(decimals) = args.decimals {
        pivot = pivot.decimals(decimals);
    }
    let mut table = pivot.table(&results)?;
    if let Some(baseline) = &args.baseline {
        table = marked(table, args, &results, baseline)?;
    } else if args.rows == KeyArg::Method {
        for note in reach(&results, args)? {
            table = table.note(note);
        }
    }
    if let Some(title) = &args.title {
        table = table.title(title);
    }
    print(&match args.format {
        TableFormat::Text => table.to_text(),
        TableFormat::Markdown => table.to_markdown(),
        TableFormat::Latex => table.to_latex(),
        TableFormat::Csv => table.to_csv(),
        TableFormat::Html => table.to_html(),
    })?;
    Ok(0)
}

/// The table with marks on every column: comparisons over the seeds of one task each.
fn marked(mut table: Table, args: &TableArgs, results: &Results, baseline: &str) -> anyhow::Result<Table> {
    ensure!(
        args.rows == KeyArg::Method && args.cols == KeyArg::Task,
        "`--baseline` marks tables of methods by tasks"
    );
    let metric = input::metric(results)?;
    let better = super::stats::direction(&metric, args.better.map(Into::into))?;
    let tasks = results.names(Key::Task);
    for task in &tasks {
        let scores = Scores::from_results(&results.task(task), &metric, better)?;
        let options = CompareOptions {
            control: Some(baseline.to_owned()),
            level: args.level,
            ..CompareOptions::default()
        };
        table = table.significance(task, &compare(&scores, &options)?)?;
    }
    if tasks.len() > 1 {
        table = table.note(format!(
            "Marks of the {} columns are corrected within each column, not over all of them.",
            tasks.len()
        ));
    }
    Ok(table)
}

/// Power at which the smallest difference that could have been detected is told.
const POWER: f64 = 0.8;

/// What differences between two methods the runs behind a table could have shown: from the median, over pairs of methods
/// and columns, of the spread of paired differences.
fn reach(results: &Results, args: &TableArgs) -> anyhow::Result<Vec<String>> {
    let key = Key::from(args.cols);
    // Runs by column and method, and what a spread of 1 lets so many pairs find.
    let mut columns: BTreeMap<&str, BTreeMap<&str, Vec<&Record>>> = BTreeMap::new();
    for runs in results.records().chunk_by(|a, b| key.of(a) == key.of(b) && a.method == b.method) {
        if let Some(first) = runs.first() {
            columns.entry(key.of(first)).or_default().entry(&first.method).or_default().extend(runs);
        }
    }
    let mut unit: BTreeMap<usize, f64> = BTreeMap::new();
    let (mut smallest, mut fewest) = (Vec::new(), usize::MAX);
    for methods in columns.values() {
        // The table has refused two values of a seed already.
        let mut methods: Vec<Vec<(u64, f64)>> =
            methods.values().map(|runs| runs.iter().map(|r| (r.seed, r.value)).collect()).collect();
        methods.iter_mut().for_each(|runs| runs.sort_unstable_by_key(|(seed, _)| *seed));
        for (i, a) in methods.iter().enumerate() {
            for b in methods.iter().skip(i + 1) {
                let pairs = differences(a, b);
                let n = pairs.len();
                fewest = fewest.min(n);
                let Some(spread) = std(&pairs).filter(|s| *s > 0.0) else { continue };
                let factor = match unit.get(&n) {
                    Some(factor) => *factor,
                    None => detectable_difference(1.0, n, POWER, args.level)?,
                };
                unit.insert(n, factor);
                smallest.push(spread * factor);
            }
        }
    }
    let mut notes = Vec::new();
    if !smallest.is_empty() {
        let scale = if args.percent { 100.0 } else { 1.0 };
        notes.push(format!(
            "Smallest difference of two methods in one column that a paired test finds with a probability of {:.0} %: {:.3} \
             (median over pairs and columns).",
            100.0 * POWER,
            scale * median(&smallest)
        ));
    }
    if (1..10).contains(&fewest) {
        let least = 2_f64.powi(1 - fewest as i32);
        let never = if least >= 1.0 - args.level { ", so it can never show a difference here" } else { "" };
        notes
            .push(format!("With {fewest} paired seeds an exact test cannot give p below {least:.4}{never}."));
    }
    Ok(notes)
}

/// Differences at the seeds that both have, which ascend.
fn differences(a: &[(u64, f64)], b: &[(u64, f64)]) -> Vec<f64> {
    let mut rest = b.iter().peekable();
    let pair = |&(seed, x): &(u64, f64)| {
        while rest.next_if(|(other, _)| *other < seed).is_some() {}
        rest.next_if(|(other, _)| *other == seed).map(|(_, y)| x - y)
    };
    a.iter().filter_map(pair).collect()
}
