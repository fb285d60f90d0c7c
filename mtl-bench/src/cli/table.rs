//! `mtl-bench table`: means over seeds.
use super::args::{KeyArg, TableArgs, TableFormat};
use super::{input, print};
use crate::stats::{CompareOptions, Scores, compare};
use crate::store::Key;
use crate::{Pivot, Results, Table};
use anyhow::ensure;

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
