//! `mtl-bench table`: means over seeds.
use super::args::{KeyArg, TableArgs, TableFormat};
use super::{input, print};
use crate::Pivot;
use crate::store::Key;
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
