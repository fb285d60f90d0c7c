//! M³ViT's published ZCU104 numbers, which are closed-form estimates, and the formulas behind them.
#![allow(clippy::expect_used, clippy::unwrap_used)]

use mtl_hw::cost::{Analytical, Bound, CostModel, MoeSchedule, Report};
use mtl_hw::graph::ModelGraph;
use mtl_hw::platform::{FitLevel, Resource};
use mtl_hw::presets::{m3vit_small, vit_small_dense, zcu104_m3vit};
use mtl_hw::routing::Routing;
use serde_json::Value;
use std::collections::BTreeMap;

fn golden() -> Value {
    serde_json::from_str(include_str!("golden/m3vit_reconstruction.json")).unwrap()
}

fn report(graph: &ModelGraph, schedule: MoeSchedule) -> Report {
    let accelerator = zcu104_m3vit().unwrap().with_schedule(schedule);
    Analytical.model(graph, &accelerator, Routing::Uniform).unwrap()
}

const CACHED: MoeSchedule = MoeSchedule::TokenByToken { cache_experts: 4 };

#[test]
fn buffers_equal_the_reconstruction_byte_for_byte() {
    let golden = golden();
    let cases = golden["memory"].as_array().unwrap();
    let (dense, moe) = (vit_small_dense(480, 640).unwrap(), m3vit_small(480, 640).unwrap());
    let reports = [
        report(&dense, MoeSchedule::reordered()),
        report(&moe, MoeSchedule::reordered()),
        report(&moe, MoeSchedule::AllResident),
    ];
    for (case, report) in cases.iter().zip(reports) {
        let parts: BTreeMap<String, u64> =
            report.memory.parts.iter().map(|p| (p.name.clone(), p.bytes)).collect();
        let expected: BTreeMap<String, u64> = serde_json::from_value(case["parts"].clone()).unwrap();
        assert_eq!(parts, expected, "{}", case["case"]);
        assert_eq!(report.memory.total_bytes, case["total_bytes"].as_u64().unwrap());
        assert!((report.on_chip_mib() / case["published_MiB"].as_f64().unwrap() - 1.0).abs() < 1e-4);
    }
    // The cache of four experts is 2304 bytes larger than the dense buffer it replaces; 4.840 is printed for it too.
    assert!((report(&moe, CACHED).on_chip_mib() / 4.840 - 1.0).abs() < 1e-3);
}

#[test]
fn latencies_and_energies_meet_the_published_ones() {
    let golden = golden();
    let (dense, moe) = (vit_small_dense(512, 512).unwrap(), m3vit_small(512, 512).unwrap());
    let published = &golden["published_pascal_ms"];
    for (key, watt_seconds, report) in [
        ("vit_small", 0.689, report(&dense, MoeSchedule::reordered())),
        ("moe_reordered", 0.690, report(&moe, MoeSchedule::reordered())),
        ("moe_cache", 6.375, report(&moe, CACHED)),
    ] {
        let ms = published[key].as_f64().unwrap();
        // 1 % is asked for; the exposed load of the patch embedding's weights brings all three to 1 µs.
        assert!((report.latency_ms() - ms).abs() < 1.5e-3, "{key}: {} for {ms}", report.latency_ms());
        assert!((report.energy_j() - watt_seconds).abs() < 1e-3, "{key}: {}", report.energy_j());
    }
}

#[test]
fn the_parts_of_the_latency_equal_the_reconstruction() {
    let pascal = &golden()["pascal"];
    let number = |key: &str| pascal[key].as_f64().unwrap();
    let (dense, moe) = (vit_small_dense(512, 512).unwrap(), m3vit_small(512, 512).unwrap());
    let plain = report(&dense, MoeSchedule::reordered());
    let reordered = report(&moe, MoeSchedule::reordered());
    let cached = report(&moe, CACHED);
    // The closed form counts a patch-embedding row for the class token.
    assert_eq!(plain.macs + 768 * 384, pascal["macs_encoder"].as_u64().unwrap());
    // 1e-4 ms: the engine rounds each operator up to a whole cycle.
    assert!((plain.compute_only_ms() - number("latency_ms_at_1536_mac_per_cycle")).abs() < 1e-4);
    assert!((reordered.latency_ms() - plain.latency_ms() - number("gate_ms")).abs() < 1e-9);
    assert!((cached.latency_ms() - reordered.latency_ms() - number("cache_penalty_ms")).abs() < 5e-5);
    assert!((cached.energy_j() / reordered.energy_j() - 9.23).abs() < 0.01); // the headline ratio
}

#[test]
fn the_published_design_does_not_fit_its_board_and_the_report_says_so() {
    let report = report(&m3vit_small(480, 640).unwrap(), MoeSchedule::reordered());
    assert!(!report.fit.fits());
    assert_eq!(report.fit.entries[0].resource, Resource::Ramb18);
    let dsp = report.fit.entries.iter().find(|e| e.resource == Resource::Dsp).unwrap();
    assert_eq!((dsp.used, dsp.level), (1536, FitLevel::OverCeiling));
    insta::assert_snapshot!(report.fit, @"zcu104: ramb18 667 of 624 (106.9 %) does not fit; uram 96 of 96 (100.0 %) is over the timing ceiling; dsp 1536 of 1728 (88.9 %) is over the timing ceiling");
}

#[test]
fn short_queues_on_a_narrow_port_expose_the_loads() {
    // 257 tokens of which each expert gets 64: above the break-even of 48 at 64 bytes per cycle, below it at 16.
    let graph = m3vit_small(256, 256).unwrap();
    let wide = zcu104_m3vit().unwrap();
    let mut narrow = wide.clone();
    narrow.port.count = 1;
    for (accelerator, bound) in [(wide, Bound::Compute), (narrow, Bound::ExpertLoad)] {
        let report = Analytical.model(&graph, &accelerator, Routing::Uniform).unwrap();
        let layer = report.layers.iter().find(|l| l.moe.is_some()).unwrap();
        assert_eq!(layer.bound, bound, "{layer:?}");
        assert_eq!(layer.exposed_cycles > 0, bound == Bound::ExpertLoad);
    }
}

#[test]
fn the_table_of_a_small_model() {
    use mtl_hw::graph::{MoeSpec, VitHead, VitSpec};
    let spec = VitSpec {
        name: "digits".to_owned(),
        image: [8, 8],
        patch: 2,
        channels: 1,
        dim: 64,
        depth: 2,
        heads: 4,
        mlp_hidden: 128,
        moe: Some(MoeSpec { experts: 4, top_k: 2, hidden: 64, gates: 2, ..MoeSpec::default() }),
        heads_out: vec![VitHead::task(0, 10)],
        ..VitSpec::default()
    };
    insta::assert_snapshot!(report(&spec.graph().unwrap(), MoeSchedule::reordered()), @r"
    digits on zcu104-m3vit: closed-form estimate, checked against a published estimate, not against a board
    layers                   compute     exposed      cycles        us weights KiB  bound
    embedding                      3          43          46       0.2         2.9  weight load
    blk.0 attention              208         394         602       2.0        32.8  weight load
    blk.0 feed-forward           182         385         567       1.9        32.6  weight load
    blk.1 attention              208         303         511       1.7        32.8  weight load
    blk.1 experts                269         781        1050       3.5        65.8  expert load
    head                           1           0           1       0.0         1.5  compute
    latency 0.009 ms (0.003 ms of it compute), 28.1 % of peak
    energy 0.093 mJ at constant 10 W (a constant of the M³ViT paper)
    on-chip buffers 0.069 MiB, weights loaded 0.164 MiB per image
    zcu104: dsp 1536 of 1728 (88.9 %) is over the timing ceiling; uram 2 of 96 (2.1 %) fits (memory packed without loss; LUTs not estimated)
    ");
}

#[test]
fn a_report_survives_json() {
    let report = report(&m3vit_small(64, 64).unwrap(), CACHED);
    let json = serde_json::to_string(&report).unwrap();
    assert_eq!(serde_json::from_str::<Report>(&json).unwrap(), report);
}

#[test]
fn bad_accelerators_name_the_key() {
    let graph = m3vit_small(64, 64).unwrap();
    let error = |change: fn(&mut mtl_hw::cost::Accelerator)| {
        let mut accelerator = zcu104_m3vit().unwrap();
        change(&mut accelerator);
        Analytical.model(&graph, &accelerator, Routing::Uniform).unwrap_err().to_string()
    };
    insta::assert_snapshot!(error(|a| a.clock_mhz = 400.0), @"`clock_mhz` must be at most 333, the limit of zcu104, but is 400");
    insta::assert_snapshot!(error(|a| a.clock_mhz = f64::NAN), @"`clock_mhz` must be positive and finite, but is NaN");
    insta::assert_snapshot!(error(|a| a.port.width_bits = 512), @"`port.width_bits` must be at most 128, the width of a port of zcu104, but is 512");
    insta::assert_snapshot!(error(|a| a.port.count = 7), @"`port.count` must be at most 6, the ports of zcu104, but is 7");
    insta::assert_snapshot!(error(|a| a.dram_efficiency = 1.5), @"`dram_efficiency` must be in (0, 1], but is 1.5");
    insta::assert_snapshot!(error(|a| a.schedule = MoeSchedule::TokenByToken { cache_experts: 17 }), @"`schedule.cache_experts` must be at most 16, but is 17");
    let mut histogram = vec![0; 16];
    histogram[..4].fill(17);
    let cached = zcu104_m3vit().unwrap().with_schedule(CACHED);
    let error = Analytical.model(&graph, &cached, Routing::Histogram(&histogram)).unwrap_err();
    insta::assert_snapshot!(error, @"layer `blk.1`: an expert cache depends on token order; give a routing trace instead of a histogram");
}

#[test]
fn any_sequence_of_tasks_costs_its_frames_and_nothing_more() {
    use mtl_hw::graph::{MoeSpec, VitHead, VitSpec};
    let spec = VitSpec {
        image: [512, 512],
        moe: Some(MoeSpec { gates: 2, ..MoeSpec::default() }),
        heads_out: vec![VitHead::task(0, 21), VitHead::task(1, 21)],
        ..VitSpec::small()
    };
    let graph = spec.graph().unwrap();
    let cycles = |task| report(&graph.for_task(task), MoeSchedule::reordered()).cycles;
    // Balanced traces: the same frame for either task, so a sequence costs the number of its frames.
    assert_eq!(cycles(0), cycles(1));
    // With fewer active experts, only their loads and the rounding of cycles differ.
    let accelerator = zcu104_m3vit().unwrap();
    let mut few = [0u64; 16];
    few[..4].fill(1025);
    let skewed = Analytical.model(&graph.for_task(0), &accelerator, Routing::Histogram(&few)).unwrap();
    assert!(skewed.cycles.abs_diff(cycles(0)) <= 6 * 2 * 16);
    assert!(skewed.weight_bytes < report(&graph.for_task(0), MoeSchedule::reordered()).weight_bytes);
}

#[test]
fn more_experts_cost_only_their_gate_while_queues_are_long() {
    use mtl_hw::graph::{MoeSpec, VitSpec};
    let at = |experts: u32, schedule| {
        let moe = MoeSpec { experts, ..MoeSpec::default() };
        let spec = VitSpec {
            image: [512, 512],
            heads: 12,
            heads_out: Vec::new(),
            moe: Some(moe),
            ..VitSpec::small()
        };
        report(&spec.graph().unwrap(), schedule)
    };
    let base = at(4, MoeSchedule::reordered());
    // 1025 · 4 / 64 = 64 tokens per expert, above the break-even of 48.
    for experts in [8, 16, 32, 64] {
        let more = at(experts, MoeSchedule::reordered());
        // The gate takes 5 cycles per token whatever E is; what is left is rounding of each expert's cycles.
        assert!(more.cycles.abs_diff(base.cycles) <= 6 * 2 * u64::from(experts), "{experts}");
        for layer in more.layers.iter().filter_map(|l| l.moe) {
            assert_eq!(layer.steady_cycles, layer.compute_cycles, "{experts}: a load is exposed");
        }
    }
    let short = at(256, MoeSchedule::reordered());
    assert!(short.layers.iter().any(|l| l.bound == Bound::ExpertLoad));
    let resident = |experts| at(experts, MoeSchedule::AllResident).memory.total_bytes;
    assert_eq!(resident(64) - resident(32), 2 * (resident(32) - resident(16)));
}
