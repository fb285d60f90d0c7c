//! The validation as Markdown.
use super::calibration::power_fits;
use super::{Nature, Prediction, Quantity, Role, Row, mean_absolute_error, predictions, rows};
use crate::Result;
use crate::cost::off_chip::sequence_cycles;
use crate::cost::{Analytical, CostModel, Report};
use crate::graph::OpKind;
use crate::routing::Routing;
use crate::{HwError, presets};
use std::fmt::Write;

/// The whole text of `VALIDATION.md`; the same at every call.
///
/// # Errors
///
/// Errors of [`CostModel::model`].
pub fn render() -> Result<String> {
    let mut out = String::new();
    let (rows, predictions) = (rows()?, predictions()?);
    write_all(&mut out, &rows, &predictions)
        .map_err(|e| HwError::Write { what: "validation", reason: e.to_string() })?;
    breakdown(&mut out)?;
    Ok(out)
}

fn write_all(out: &mut String, rows: &[Row], predictions: &[Prediction]) -> std::fmt::Result {
    writeln!(out, "# Predictions beside published numbers\n")?;
    writeln!(
        out,
        "Written by `cargo run -p mtl-hw --example validation`; a test compares it with what the code says."
    )?;
    writeln!(out, "Error is predicted over published, minus one.\n")?;
    writeln!(
        out,
        "M³ViT's FPGA figures are closed-form estimates of its authors, not measurements; agreeing with them checks\n\
         arithmetic, not realism. Its 4.84 MiB of buffers are more than the 4.746 MiB of block RAM and UltraRAM of the board\n\
         they are stated for, so that design does not fit.\n"
    )?;
    writeln!(out, "## Constants that were fitted\n")?;
    writeln!(out, "| constant | fitted to |\n|---|---|")?;
    writeln!(
        out,
        "| M³ViT: 1536 multipliers, 64 B per cycle, what counts as a buffer | its dense latency and memory |"
    )?;
    writeln!(
        out,
        "| static power of Zynq UltraScale+ boards, one number | the three published powers below |"
    )?;
    writeln!(out, "| static power of Alveo boards, one number | the one published power below |")?;
    writeln!(out, "| burst latency of Edge-MoE, only in the row that says so | its measured latency |\n")?;
    writeln!(
        out,
        "No constant was fitted to a number under validation, but structures were chosen by hand with these in view: which\n\
         loads Edge-MoE hides (read from its sources; hiding all would give -14.5 %), what UbiMoE overlaps and its cost of an\n\
         exponential, and that HeatViT hides softmax and norms. Read those rows as less than blind.\n"
    )?;
    for (title, role) in [
        ("Calibration: numbers that constants were fitted to", Role::Calibration),
        ("Validation: nothing was fitted to these", Role::Validation),
        ("Sanity: the model leaves out something that matters", Role::Sanity),
    ] {
        writeln!(out, "## {title}\n")?;
        writeln!(
            out,
            "| design | model | quantity | published | it is | predicted | error | tolerated | note |"
        )?;
        writeln!(out, "|---|---|---|---:|---|---:|---:|---:|---|")?;
        for r in rows.iter().filter(|r| r.role == role) {
            let digits = if r.quantity == Quantity::Lut { 0 } else { 3 };
            let verdict = if r.holds() { "" } else { " **missed**" };
            writeln!(
                out,
                "| {} | {} | {} | {:.digits$} | {} | {:.digits$} | {:+.1} %{verdict} | {:.1} % | {} |",
                r.design,
                r.model,
                r.quantity,
                r.published,
                r.nature,
                r.predicted,
                100.0 * r.error(),
                100.0 * r.tolerance,
                r.note
            )?;
        }
        writeln!(out)?;
    }
    means(out, rows)?;
    writeln!(
        out,
        "The power model misses Edge-MoE: its published power is the highest of the three designs on that board, its\n\
         estimated resources and activity the lowest. No constant shared by the board can show that; the preset keeps the\n\
         measured power instead, and says so.\n"
    )?;
    writeln!(out, "## Every preset with every model\n")?;
    writeln!(
        out,
        "Predictions only; most of these were never published. UbiMoE is searched anew for each model.\n"
    )?;
    writeln!(
        out,
        "| design | model | latency ms | power W | energy J | memory MiB | DSP | RAMB18 | URAM | board |"
    )?;
    writeln!(out, "|---|---|---:|---:|---:|---:|---:|---:|---:|---|")?;
    for p in predictions {
        match &p.cost {
            Some(c) => writeln!(
                out,
                "| {} | {} | {:.3} | {:.2} | {:.4} | {:.3} | {} | {} | {} | {} |",
                p.design,
                p.model,
                c.latency_ms,
                c.watts,
                c.joules,
                c.memory_mib,
                c.dsp,
                c.ramb18,
                c.uram,
                c.fit
            )?,
            None => {
                writeln!(out, "| {} | {} | - | - | - | - | - | - | - | no size fits |", p.design, p.model)?;
            }
        }
    }
    writeln!(out)
}

fn means(out: &mut String, rows: &[Row]) -> std::fmt::Result {
    writeln!(out, "## Mean absolute errors\n")?;
    writeln!(out, "| over | error | numbers |\n|---|---:|---:|")?;
    let latency = |r: &Row| r.quantity == Quantity::LatencyMs;
    let power = |r: &Row| r.quantity == Quantity::PowerW;
    type Keep<'a> = &'a dyn Fn(&Row) -> bool;
    let groups: [(&str, Keep<'_>); 5] = [
        ("latency on boards, not fitted (validation and sanity)", &|r| {
            latency(r) && r.nature == Nature::Board && r.role != Role::Calibration
        }),
        ("latency on boards, validation only", &|r| {
            latency(r) && r.nature == Nature::Board && r.role == Role::Validation
        }),
        ("latency, published estimates, validation only", &|r| {
            latency(r) && r.nature == Nature::Estimate && r.role == Role::Validation
        }),
        ("power, residuals of the fit with more points than constants", &|r| {
            power(r) && r.role == Role::Calibration && r.design.starts_with("zcu102")
        }),
        ("power, each design left out of its fit", &|r| power(r) && r.role == Role::Validation),
    ];
    for (name, keep) in groups {
        if let Some((error, n)) = mean_absolute_error(rows, keep) {
            writeln!(out, "| {name} | {:.1} % | {n} |", 100.0 * error)?;
        }
    }
    writeln!(out)
}

/// Where Edge-MoE's time goes, and the parts of modelled power.
fn breakdown(out: &mut String) -> Result<()> {
    let report = Analytical.model(
        &presets::m3vit_tiny_cityscapes()?,
        &presets::zcu102_edge_moe()?,
        Routing::Histogram(&presets::EDGE_MOE_QUEUES[0]),
    )?;
    let fits = power_fits()?;
    let best = most_queries()?;
    let write = |out: &mut String| -> std::fmt::Result {
        writeln!(out, "## Where Edge-MoE's time goes\n")?;
        writeln!(out, "Predicted share of each kind of kernel, loads included, with no constant fitted.\n")?;
        writeln!(out, "| kernels | ms | share |\n|---|---:|---:|")?;
        for (name, cycles) in edge_moe_parts(&report) {
            let (ms, share) =
                (1e3 * cycles as f64 / report.clock_hz as f64, cycles as f64 / report.cycles as f64);
            writeln!(out, "| {name} | {ms:.2} | {:.1} % |", 100.0 * share)?;
        }
        writeln!(
            out,
            "\nWith more parallel queries than its 4, an attention product of this design gains up to {best}; then the port\n\
             to which scores are written is full."
        )?;
        writeln!(out, "\n## Parts of modelled power\n")?;
        writeln!(
            out,
            "| design | family | dynamic W, not fitted | static W, fitted | predicted | published |"
        )?;
        writeln!(out, "|---|---|---:|---:|---:|---:|")?;
        for f in &fits {
            writeln!(
                out,
                "| {} | {} | {:.2} | {:.2} | {:.2} | {:.2} |",
                f.design,
                f.family,
                f.dynamic,
                f.fitted_static,
                f.predicted(),
                f.published
            )?;
        }
        Ok(())
    };
    write(out).map_err(|e| HwError::Write { what: "validation", reason: e.to_string() })
}

/// Cycles of attention products, linear layers (experts among them) and the rest.
fn edge_moe_parts(report: &Report) -> [(&'static str, u64); 3] {
    let of =
        |kinds: &[OpKind]| report.layers.iter().filter(|l| kinds.contains(&l.kind)).map(|l| l.cycles).sum();
    let products = of(&[OpKind::AttentionScores, OpKind::AttentionValues]);
    let linear = of(&[OpKind::Gemm, OpKind::MoeFfn]);
    [
        ("attention products", products),
        ("linear layers and experts", linear),
        ("the rest", report.cycles.saturating_sub(products).saturating_sub(linear)),
    ]
}

/// Parallel queries at which Edge-MoE's attention product is fastest.
fn most_queries() -> Result<u32> {
    let (graph, mut accelerator) = (presets::m3vit_tiny_cityscapes()?, presets::zcu102_edge_moe()?);
    let block: Vec<_> = graph.nodes.into_iter().filter(|n| n.name == "blk.0.attn.scores").collect();
    let mut best = (u64::MAX, 0);
    for queries in 1..=100 {
        if let Some(unit) = &mut accelerator.attention {
            unit.queries = queries;
        }
        if let Some(design) = &accelerator.off_chip {
            best = best.min((sequence_cycles(&block, &accelerator, design)?, queries));
        }
    }
    Ok(best.1)
}
