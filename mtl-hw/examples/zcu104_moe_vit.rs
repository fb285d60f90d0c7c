//! Prints M³ViT-small on a ZCU104 under three schedules of its experts, layer by layer for the best.
#![allow(clippy::print_stdout)]

use mtl_hw::cost::{Analytical, CostModel, MoeSchedule};
use mtl_hw::{Result, presets, routing::Routing};

fn main() -> Result<()> {
    let graph = presets::m3vit_small(512, 512)?;
    let accelerator = presets::zcu104_m3vit()?;
    let schedules = [
        ("expert by expert", MoeSchedule::reordered()),
        ("token by token, 4 cached", MoeSchedule::TokenByToken { cache_experts: 4 }),
        ("all experts resident", MoeSchedule::AllResident),
    ];
    println!(
        "{:<26} {:>11} {:>10} {:>12} {:>12}",
        "schedule", "latency ms", "energy J", "on-chip MiB", "loaded MiB"
    );
    for (name, schedule) in schedules {
        let report =
            Analytical.model(&graph, &accelerator.clone().with_schedule(schedule), Routing::Uniform)?;
        println!(
            "{name:<26} {:>11.3} {:>10.3} {:>12.3} {:>12.1}",
            report.latency_ms(),
            report.energy_j(),
            report.on_chip_mib(),
            report.weight_bytes as f64 / f64::from(1 << 20),
        );
    }
    println!("\n{}", Analytical.model(&graph, &accelerator, Routing::Uniform)?);
    Ok(())
}
