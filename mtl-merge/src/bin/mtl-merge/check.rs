//! `mtl-merge check`: what `run` would do.
use crate::{args::Check, print, print_json, run, size, table::Table};

pub(crate) fn check(args: &Check) -> anyhow::Result<u8> {
    let recipe = run::read(&args.config, &args.merge)?;
    let report = run::engine(&args.merge)?.shard_bytes(args.out_shard_size).check(&recipe)?;
    if args.json {
        print_json(&report)?;
        return Ok(0);
    }
    let shards = match args.out_shard_size {
        0 => 1,
        bytes => report.bytes_written.div_ceil(bytes).max(1),
    };
    let mut table = Table::new(&["", ""]).bare();
    let dtype = recipe.out_dtype.or(recipe.dtype).map_or("that of the inputs", |dtype| dtype.name());
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
    print(&table.to_string())?;
    run::warn(&report);
    Ok(0)
}
