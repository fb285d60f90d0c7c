//! `mtl-hw simulate`: events beside the closed form, per schedule.
use crate::cli::args::{OrderArg, OverlapArg, Simulate};
use crate::cli::estimate::{caveat, verdict};
use crate::cli::input::{self, Choices};
use crate::cli::plots;
use crate::cli::table::Table;
use crate::cli::{print, print_json, say};
use crate::cost::{Accelerator, Analytical, CostModel};
use crate::graph::ModelGraph;
use crate::plot::Gantt;
use crate::routing::{Routing, Spread};
use crate::sim::{EventSim, ExpertOrder, Overlap, SimOptions, Simulation, Timeline};
use anyhow::{Context, bail};
use serde::Serialize;

/// One schedule; means over images.
#[derive(Debug, Default, Serialize)]
struct Row {
    schedule: String,
    images: u64,
    simulated_ms: f64,
    sd_ms: f64,
    closed_form_ms: f64,
    exposed_share: f64,
    energy_mj: f64,
    expert_loads: f64,
    dram_mib: f64,
    on_chip_mib: f64,
    fits: bool,
    events: u64,
}

pub(crate) fn simulate(args: &Simulate) -> anyhow::Result<u8> {
    let mut graph = input::model(&args.model, args.tokens)?;
    let choices = Choices::of(&args.routing, &graph)?;
    if let Some(task) = args.routing.task {
        graph = graph.for_task(task);
    }
    let design = input::design(&args.target.on, args.target.board.as_deref())?;
    if design.off_chip.is_some() && !args.output.quiet {
        say(
            "remark: the simulator runs loads of weights and computations; it takes the time of activations from the closed form",
        );
    }
    let mut schedules = Vec::new();
    for text in &args.schedule {
        schedules.push(input::schedule(text)?);
    }
    if schedules.is_empty() {
        schedules.push(design.schedule);
    }
    let options = options(args);
    let (mut rows, mut code, mut remark) = (Vec::new(), 0, None);
    for (i, &schedule) in schedules.iter().enumerate() {
        let design = design.clone().with_schedule(schedule);
        let row = runs(args, &graph, &design, &choices, options, i == 0)?;
        remark = remark.or_else(|| caveat(&row.1));
        code = code.max(verdict(&row.1));
        rows.push(row.0);
    }
    if args.output.json {
        print_json(&rows)?;
        return Ok(code);
    }
    let table = table(&rows);
    if args.output.csv {
        print(&table.csv())?;
    } else {
        print(&format!("{} on {}\n\n{table}", graph.name, design.name))?;
        if !args.output.quiet {
            let clock = design.clock_mhz;
            print(&format!("\nOne image at {clock} MHz; energy is power times simulated latency.\n"))?;
            remark.into_iter().try_for_each(|c| print(&format!("{c}\n")))?;
        }
    }
    Ok(code)
}

fn options(args: &Simulate) -> SimOptions {
    SimOptions {
        overlap: match args.overlap {
            OverlapArg::Free => Overlap::Free,
            OverlapArg::Barrier => Overlap::Barrier,
            OverlapArg::Serial => Overlap::Serial,
        },
        weight_buffers: (args.buffers > 0).then_some(args.buffers),
        order: match args.order {
            OrderArg::Index => ExpertOrder::Index,
            OrderArg::ShortestLast => ExpertOrder::ShortestLast,
            OrderArg::Johnson => ExpertOrder::Johnson,
            OrderArg::Best => ExpertOrder::Best,
            OrderArg::Exhaustive => ExpertOrder::Exhaustive,
        },
    }
}

/// All images under one schedule, and the report of the last.
fn runs(
    args: &Simulate,
    graph: &ModelGraph,
    design: &Accelerator,
    choices: &Choices,
    options: SimOptions,
    draw: bool,
) -> anyhow::Result<(Row, crate::cost::Report)> {
    let images: Vec<Routing<'_>> = match choices {
        Choices::Trace { trace, task, .. } if args.all_images => {
            let images = trace.images(*task).map(|image| Routing::Trace { trace, image, task: *task });
            images.collect()
        }
        choices => vec![choices.routing()],
    };
    let (mut simulated, mut closed, mut exposed, mut energy) = <(Spread, Spread, Spread, Spread)>::default();
    let (mut loads, mut bytes) = <(Spread, Spread)>::default();
    let mut last: Option<Simulation> = None;
    for (i, &routing) in images.iter().enumerate() {
        let record = draw && i == 0 && args.gantt.is_some();
        let mut run = EventSim { record }.simulate(graph, design, routing, options)?;
        if let (Some(path), Some(timeline)) = (&args.gantt, run.timeline.take()) {
            let svg = Gantt::default().svg(&part(timeline, args.layers.as_deref())?)?;
            plots::save_svg(path, &svg)?;
        }
        let report = &run.report;
        simulated.push(report.latency_ms());
        closed.push(Analytical.model(graph, design, routing)?.latency_ms());
        let waiting: u64 = report.layers.iter().map(|l| l.exposed_cycles).sum();
        exposed.push(waiting as f64 / report.cycles.max(1) as f64);
        energy.push(report.energy_mj());
        loads.push(report.layers.iter().filter_map(|l| l.moe).map(|m| m.expert_loads as f64).sum());
        bytes.push(report.weight_bytes as f64 / f64::from(1 << 20));
        last = Some(run);
    }
    let run = last.context("the trace has no image of this task")?;
    let row = Row {
        schedule: input::schedule_name(design.schedule),
        images: simulated.n,
        simulated_ms: simulated.mean,
        sd_ms: simulated.sd,
        closed_form_ms: closed.mean,
        exposed_share: exposed.mean,
        energy_mj: energy.mean,
        expert_loads: loads.mean,
        dram_mib: bytes.mean,
        on_chip_mib: run.report.on_chip_mib(),
        fits: run.report.fit.fits(),
        events: run.events,
    };
    Ok((row, run.report))
}

/// The layers whose names start with a prefix.
fn part(timeline: Timeline, prefix: Option<&str>) -> anyhow::Result<Timeline> {
    let Some(prefix) = prefix else { return Ok(timeline) };
    let matching = |l: &String| l.starts_with(prefix);
    let (Some(first), Some(last)) =
        (timeline.layers.iter().position(matching), timeline.layers.iter().rposition(matching))
    else {
        bail!(
            "`--layers {prefix}`: no layer's name starts so; the first is `{}`",
            timeline.layers.first().map_or("", |l| l)
        );
    };
    Ok(timeline.layers(first..last + 1))
}

fn table(rows: &[Row]) -> Table {
    let several = rows.iter().any(|r| r.images > 1);
    let mut head = vec!["schedule", "simulated ms"];
    if several {
        head.extend(["sd ms", "images"]);
    }
    head.extend(["closed form ms", "difference %", "exposed %", "energy mJ", "expert loads", "weights MiB"]);
    head.extend(["on-chip MiB", "events", "fits"]);
    let mut table = Table::new(head);
    for r in rows {
        let mut cells = vec![r.schedule.as_str().into(), r.simulated_ms.into()];
        if several {
            cells.extend([r.sd_ms.into(), r.images.into()]);
        }
        cells.extend([
            r.closed_form_ms.into(),
            (100.0 * (r.simulated_ms / r.closed_form_ms - 1.0)).into(),
            (100.0 * r.exposed_share).into(),
            r.energy_mj.into(),
            r.expert_loads.into(),
            r.dram_mib.into(),
            r.on_chip_mib.into(),
            r.events.into(),
            if r.fits { "yes" } else { "no" }.into(),
        ]);
        table.row(cells);
    }
    table
}
