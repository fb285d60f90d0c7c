//! `mtl-hw estimate`: one image's cost in closed form.
use crate::cli::args::{Estimate, Output};
use crate::cli::input::{self, Choices};
use crate::cli::plots::{self, breakdown, roofline};
use crate::cli::table::{Cell, Table, number};
use crate::cli::{UNMET, print, print_json, say};
use crate::cost::{Accelerator, Analytical, CostModel, LayerCost, Provenance, Report, off_chip};
use crate::graph::{ActiveExperts, Convention, CountContext, ModelGraph, Profile};
use crate::platform::FitLevel;
use crate::routing::Routing;
use serde::Serialize;
use std::fmt::Write;

/// What is printed of a report as JSON.
#[derive(Debug, Serialize)]
struct Document<'a> {
    model: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    estimate: Option<Numbers<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    count: Option<&'a Profile>,
}

#[derive(Debug, Serialize)]
struct Numbers<'a> {
    latency_ms: f64,
    energy_mj: f64,
    watts: f64,
    utilisation: f64,
    on_chip_mib: f64,
    dram_bytes: u64,
    provenance: String,
    caveat: Option<&'static str>,
    schedule: String,
    report: &'a Report,
}

pub(crate) fn estimate(args: &Estimate) -> anyhow::Result<u8> {
    let mut graph = input::model(&args.model, args.tokens)?;
    let choices = Choices::of(&args.routing, &graph)?;
    let context = context(args.routing.task, &choices)?;
    let profile = args.count.map(|c| graph.profile(Convention::from(c), &context)).transpose()?;
    let Some(on) = &args.on else {
        output(args, &graph.name, None, profile.as_ref())?;
        return Ok(0);
    };
    if let Some(task) = args.routing.task {
        graph = graph.for_task(task);
    }
    let mut design = input::design(on, args.board.as_deref())?;
    if let Some(schedule) = &args.schedule {
        design.schedule = input::schedule(schedule)?;
    }
    let estimated = Estimated::of(graph, design, choices.routing())?;
    if let Some(path) = &args.roofline {
        plots::save(path, &roofline::draw(&estimated)?)?;
    }
    if let Some(path) = &args.breakdown {
        plots::save(path, &breakdown::draw(&estimated.report)?)?;
    }
    output(args, &estimated.graph.name, Some(&estimated), profile.as_ref())?;
    Ok(verdict(&estimated.report))
}

/// A report with what it was made from.
#[derive(Debug)]
pub(crate) struct Estimated {
    pub(crate) graph: ModelGraph,
    pub(crate) design: Accelerator,
    pub(crate) report: Report,
    /// Bytes of activations through off-chip memory, per layer.
    pub(crate) activations: Vec<u64>,
}

impl Estimated {
    pub(crate) fn of(graph: ModelGraph, design: Accelerator, routing: Routing<'_>) -> anyhow::Result<Self> {
        let report = Analytical.model(&graph, &design, routing)?;
        let activations = match &design.off_chip {
            Some(off_chip) => {
                let kernels = off_chip::kernels(&graph, &design, off_chip, routing)?;
                kernels.iter().map(|k| k.activation_bytes).collect()
            }
            None => vec![0; graph.nodes.len()],
        };
        Ok(Self { graph, design, report, activations })
    }

    /// Layers with their off-chip bytes, weights and activations.
    pub(crate) fn layers(&self) -> impl Iterator<Item = (&LayerCost, u64)> {
        let layers = self.report.layers.iter().zip(&self.activations);
        layers.map(|(l, a)| (l, l.weight_bytes.saturating_add(*a)))
    }

    pub(crate) fn dram_bytes(&self) -> u64 {
        self.layers().map(|(_, bytes)| bytes).fold(0, u64::saturating_add)
    }

    /// Off-chip bytes per second: the weight ports' or the memory's; the memory's where activations have ports of their own.
    pub(crate) fn bandwidth(&self) -> anyhow::Result<u64> {
        let design = &self.design;
        let memory = (design.platform.peak_bytes_per_s() as f64 * design.dram_efficiency) as u64;
        if design.off_chip.is_some() {
            return Ok(memory);
        }
        Ok(memory.min(design.port.bytes_per_cycle()?.saturating_mul(design.clock_hz())))
    }
}

fn context(task: Option<u32>, choices: &Choices) -> anyhow::Result<CountContext> {
    let mut context = CountContext::default();
    if let Choices::Trace { trace, image, task } = choices {
        context.active_experts = ActiveExperts::of_trace(trace, *image, *task)?;
    }
    context.task = task;
    Ok(context)
}

fn output(
    args: &Estimate,
    model: &str,
    estimated: Option<&Estimated>,
    profile: Option<&Profile>,
) -> anyhow::Result<()> {
    let Output { json, csv, quiet } = args.output;
    let caveat = estimated.and_then(|e| caveat(&e.report));
    if json {
        let estimate = estimated.map(|e| Numbers {
            latency_ms: e.report.latency_ms(),
            energy_mj: e.report.energy_mj(),
            watts: e.report.power.watts(),
            utilisation: e.report.utilisation(),
            on_chip_mib: e.report.on_chip_mib(),
            dram_bytes: e.dram_bytes(),
            provenance: e.report.provenance.to_string(),
            caveat,
            schedule: input::schedule_name(e.design.schedule),
            report: &e.report,
        });
        return print_json(&Document { model, estimate, count: profile });
    }
    if csv {
        return match (estimated, profile) {
            (Some(e), _) if args.totals => print(&totals(e).csv()),
            (Some(e), _) => print(&layers(e).csv()),
            (None, Some(p)) => print(&counts(p).csv()),
            (None, None) => Ok(()),
        };
    }
    let mut text = String::new();
    if let Some(e) = estimated {
        let table = if args.totals { totals(e) } else { layers(e) };
        write!(text, "{} on {}\n\n{table}\n{}", e.report.model, e.report.accelerator, summary(e))?;
        writeln!(text, "\n{}", memory(&e.report))?;
        write!(text, "{}", resources(&e.report))?;
        if !quiet {
            writeln!(text, "\n{}: {}", e.report.accelerator, e.report.provenance)?;
            caveat.into_iter().try_for_each(|c| writeln!(text, "{c}"))?;
        }
    }
    if let Some(p) = profile {
        let gap = if estimated.is_some() { "\n" } else { "" };
        write!(text, "{gap}{model}: {}\n\n{}", p.ops, counts(p))?;
    }
    print(&text)
}

/// What to know about the published numbers behind a design.
pub(crate) fn caveat(report: &Report) -> Option<&'static str> {
    (report.provenance == Provenance::ClosedFormEstimate).then_some(
        "M³ViT's published FPGA figures are closed-form estimates of its authors, not measurements: multipliers never \
         idle, bandwidth is the\nmemory's peak, softmax, norms and GELU are free, and power is a constant. Real latency \
         is longer.",
    )
}

/// The exit code, after telling on stderr by how much a design does not fit.
pub(crate) fn verdict(report: &Report) -> u8 {
    let mut code = 0;
    for e in report.fit.entries.iter().filter(|e| e.level == FitLevel::DoesNotFit) {
        say(&format!(
            "{} does not fit {}: {} {} of {}, {} too many ({:.1} %)",
            report.accelerator,
            report.fit.platform,
            e.used,
            e.resource,
            e.total,
            e.used - e.total.min(e.used),
            e.percent()
        ));
        code = UNMET;
    }
    code
}

fn layers(e: &Estimated) -> Table {
    let mut table =
        Table::new(["layer", "kind", "cycles", "ms", "bound by", "DRAM bytes", "exposed", "of peak %"]);
    let (hz, peak) = (e.report.clock_hz as f64, e.report.peak_macs as f64);
    for (l, bytes) in e.layers() {
        let share = (l.cycles > 0 && l.macs > 0).then(|| 100.0 * l.macs as f64 / (peak * l.cycles as f64));
        table.row([
            l.name.as_str().into(),
            l.kind.to_string().into(),
            l.cycles.into(),
            (1e3 * l.cycles as f64 / hz).into(),
            l.bound.to_string().into(),
            bytes.into(),
            l.exposed_cycles.into(),
            share.into(),
        ]);
    }
    table
}

fn totals(e: &Estimated) -> Table {
    let mut table =
        Table::new(["block and unit", "cycles", "ms", "bound by", "weight bytes", "exposed", "of time %"]);
    for t in e.report.totals() {
        table.row([
            t.group.into(),
            t.cycles.into(),
            (1e3 * t.cycles as f64 / e.report.clock_hz as f64).into(),
            t.bound.to_string().into(),
            t.weight_bytes.into(),
            t.exposed_cycles.into(),
            (100.0 * t.cycles as f64 / e.report.cycles as f64).into(),
        ]);
    }
    table
}

fn summary(e: &Estimated) -> String {
    let r = &e.report;
    let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
    let exposed: u64 = r.layers.iter().map(|l| l.exposed_cycles).sum();
    let activations = e.dram_bytes() - r.weight_bytes.min(e.dram_bytes());
    format!(
        "latency   {} ms, {} cycles at {} MHz, {:.1} % of them loads that nothing hides\n\
         energy    {} mJ at {}\n\
         compute   {} GMAC, {:.1} % of the peak of {} per cycle\n\
         traffic   {} MiB of weights and {} MiB of activations per image\n\
         schedule  {}\n",
        number(r.latency_ms()),
        r.cycles,
        r.clock_hz as f64 / 1e6,
        100.0 * exposed as f64 / r.cycles.max(1) as f64,
        number(r.energy_mj()),
        r.power,
        number(r.macs as f64 / 1e9),
        100.0 * r.utilisation(),
        r.peak_macs,
        number(mib(r.weight_bytes)),
        number(mib(activations)),
        input::schedule_name(e.design.schedule),
    )
}

fn memory(report: &Report) -> Table {
    let mut table = Table::new(["on-chip buffer", "bytes", "KiB"]);
    for part in &report.memory.parts {
        table.row([part.name.as_str().into(), part.bytes.into(), (part.bytes as f64 / 1024.0).into()]);
    }
    let total = report.memory.total_bytes;
    table.row(["total".into(), total.into(), (total as f64 / 1024.0).into()]);
    table
}

fn resources(report: &Report) -> Table {
    let head = ["resource", "used", "of", "used %", "timing ceiling %", "left", "verdict"];
    let mut table = Table::new(head);
    for e in &report.fit.entries {
        let left = if e.used > e.total {
            Cell::from(format!("-{}", e.used - e.total))
        } else {
            (e.total - e.used).into()
        };
        table.row([
            e.resource.to_string().into(),
            e.used.into(),
            e.total.into(),
            e.percent().into(),
            (100.0 * e.resource.ceiling()).into(),
            left,
            e.level.to_string().into(),
        ]);
    }
    table
}

fn counts(p: &Profile) -> Table {
    let mut table = Table::new(["count", "value"]);
    let mut add = |name: String, value: u64| table.row([name.into(), value.into()]);
    add(format!("operations ({})", p.ops.convention), p.ops.total);
    add("multiply-accumulates".to_owned(), p.ops.macs);
    for (kind, n) in &p.ops.by_kind {
        add(format!("operations of {kind}"), *n);
    }
    add("parameters stored".to_owned(), p.params.stored);
    add("parameters active".to_owned(), p.params.active);
    add("parameters trainable".to_owned(), p.params.trainable);
    add("activations (fvcore)".to_owned(), p.activations.fvcore);
    add("bytes of live activations at most".to_owned(), p.activations.peak_live_bytes);
    table
}
