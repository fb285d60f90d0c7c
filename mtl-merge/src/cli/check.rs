//! `mtl-merge check`: what `run` would do.
use crate::cli::{args::Check, print, print_json, run, say, size, table::Table};
use crate::{MergeReport, Methods, Recipe};

pub(crate) fn check(args: &Check, methods: &Methods) -> anyhow::Result<u8> {
    let engine = run::engine(&args.merge, methods)?.shard_bytes(args.out_shard_size);
    let mut reports = Vec::new();
    for stage in run::read(&args.config, &args.merge)? {
        let recipe = &stage.recipe;
        if let (false, Some(name)) = (stage.needs.is_empty(), stage.needs.first()) {
            // Its checkpoints are not there yet.
            let remarks = recipe.validate(methods)?;
            remarks.iter().for_each(|remark| say(&format!("warning: {remark}")));
            let what = recipe.name.as_deref().unwrap_or("the final recipe");
            say(&format!(
                "note: {what} is checked without its checkpoints, since it needs the result `{name}`"
            ));
            continue;
        }
        let report = engine.check(recipe)?;
        if !args.json {
            print(&text(recipe, &report, args))?;
            run::warn(&report);
        }
        reports.push(report);
    }
    match reports.as_slice() {
        _ if !args.json => {}
        [report] => print_json(report)?,
        reports => print_json(&reports)?,
    }
    Ok(0)
}

fn text(recipe: &Recipe, report: &MergeReport, args: &Check) -> String {
    let shards = match args.out_shard_size {
        0 => 1,
        bytes => report.bytes_written.div_ceil(bytes).max(1),
    };
    let mut table = Table::new(&["", ""]).bare();
    let dtype = recipe.out_dtype.or(recipe.dtype).map_or("that of the inputs", |dtype| dtype.name());
    if let Some(name) = &recipe.name {
        table.row(&["name", name]);
    }
    for (what, value) in [
        ("method", recipe.method.clone()),
        ("tensors", format!("{}, of which {} copied", report.tensors, report.copied)),
        ("parameters", report.elements.to_string()),
        ("type", dtype.to_owned()),
        ("bytes read", size::human(report.bytes_read)),
        ("bytes written", size::human(report.bytes_written)),
        ("shards", if shards == 1 { "1".to_owned() } else { format!("about {shards}") }),
        ("memory", format!("about {} besides mapped files", size::human(report.memory_bytes))),
    ] {
        table.row(&[what, &value]);
    }
    table.to_string()
}
