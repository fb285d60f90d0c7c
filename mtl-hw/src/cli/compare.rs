//! `mtl-hw compare`: models, designs and schedules side by side.
use crate::cli::args::{Compare, SortBy};
use crate::cli::estimate::Estimated;
use crate::cli::input::{self, Choices};
use crate::cli::table::Table;
use crate::cli::{UNMET, print, print_json, say};
use crate::presets;
use serde::Serialize;

#[derive(Debug, Serialize)]
struct Row {
    model: String,
    design: String,
    board: String,
    schedule: String,
    latency_ms: f64,
    energy_mj: f64,
    utilisation: f64,
    on_chip_mib: f64,
    dram_mib: f64,
    fullest: String,
    fullest_percent: f64,
    fit: String,
    provenance: String,
}

pub(crate) fn compare(args: &Compare) -> anyhow::Result<u8> {
    let designs: Vec<String> =
        if args.on.is_empty() { presets::names().map(str::to_owned).collect() } else { args.on.clone() };
    let mut schedules = Vec::new();
    for text in &args.schedule {
        schedules.push(Some(input::schedule(text)?));
    }
    if schedules.is_empty() {
        schedules.push(None);
    }
    let designs = designs.iter().map(|d| input::design(d, None)).collect::<anyhow::Result<Vec<_>>>()?;
    let (mut rows, mut code) = (Vec::new(), 0);
    for name in &args.models {
        let whole = input::model(name, None)?;
        let graph = args.routing.task.map_or_else(|| whole.clone(), |task| whole.for_task(task));
        // A dense model has nothing to route.
        let choices = match graph.moe_layers().next() {
            Some(_) => Choices::of(&args.routing, &graph)?,
            None => Choices::Uniform,
        };
        for design in &designs {
            for schedule in &schedules {
                let mut design = design.clone();
                design.schedule = schedule.unwrap_or(design.schedule);
                let label = format!("{name} on {}", design.name);
                match Estimated::of(graph.clone(), design, choices.routing()) {
                    Ok(e) => rows.push(row(&e)),
                    Err(e) => {
                        say(&format!("left out: {label}: {}", crate::cli::tell(&e)));
                        code = UNMET;
                    }
                }
            }
        }
    }
    let key = |r: &Row| match args.sort {
        SortBy::Latency => r.latency_ms,
        SortBy::Energy => r.energy_mj,
        SortBy::Memory => r.on_chip_mib,
        SortBy::Traffic => r.dram_mib,
        SortBy::None => 0.0,
    };
    rows.sort_by(|a, b| key(a).total_cmp(&key(b)));
    if args.output.json {
        print_json(&rows)?;
        return Ok(code);
    }
    let table = table(&rows);
    print(&if args.output.csv { table.csv() } else { table.to_string() })?;
    if !args.output.quiet && rows.iter().any(|r| r.provenance.contains("published estimate")) {
        say(
            "remark: zcu104-m3vit reproduces a closed-form estimate of its authors, not a measurement; the other presets estimate built designs",
        );
    }
    Ok(code)
}

fn row(e: &Estimated) -> Row {
    let r = &e.report;
    let fullest = r.fit.entries.first();
    Row {
        model: r.model.clone(),
        design: r.accelerator.clone(),
        board: r.fit.platform.clone(),
        schedule: input::schedule_name(e.design.schedule),
        latency_ms: r.latency_ms(),
        energy_mj: r.energy_mj(),
        utilisation: r.utilisation(),
        on_chip_mib: r.on_chip_mib(),
        dram_mib: e.dram_bytes() as f64 / f64::from(1 << 20),
        fullest: fullest.map_or_else(String::new, |f| f.resource.to_string()),
        fullest_percent: fullest.map_or(0.0, crate::platform::Fit::percent),
        fit: r.fit.level().to_string(),
        provenance: r.provenance.to_string(),
    }
}

fn table(rows: &[Row]) -> Table {
    let mut table = Table::new([
        "model",
        "design",
        "schedule",
        "ms",
        "mJ",
        "of peak %",
        "on-chip MiB",
        "DRAM MiB",
        "fullest",
        "%",
        "fit",
    ]);
    for r in rows {
        table.row([
            r.model.as_str().into(),
            r.design.as_str().into(),
            r.schedule.as_str().into(),
            r.latency_ms.into(),
            r.energy_mj.into(),
            (100.0 * r.utilisation).into(),
            r.on_chip_mib.into(),
            r.dram_mib.into(),
            r.fullest.as_str().into(),
            r.fullest_percent.into(),
            r.fit.as_str().into(),
        ]);
    }
    table
}
