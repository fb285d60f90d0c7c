//! Edge-MoE kernel by kernel: its trip counts, its measured latency, and the claims of its paper.
#![allow(clippy::expect_used, clippy::unwrap_used, clippy::print_stdout)]

use mtl_hw::cost::dram::Master;
use mtl_hw::cost::engine::{Engine, Tile, attention_steps};
use mtl_hw::cost::off_chip::{HiddenLoads, Slowest, SoftmaxUnit, kernels};
use mtl_hw::cost::{Accelerator, Analytical, Bound, CostModel, MoeSchedule, Report};
use mtl_hw::explore::off_chip::{OffChipDims, OffChipSearch};
use mtl_hw::explore::transformer::Limits;
use mtl_hw::explore::{Evaluate, Explorer, Goal, Point, Strategy as Search};
use mtl_hw::graph::{ModelGraph, OpKind};
use mtl_hw::presets::{EDGE_MOE_QUEUES, m3vit_tiny_cityscapes, zcu102_edge_moe};
use mtl_hw::routing::Routing;
use mtl_hw::validation::calibrate_burst_latency;
use proptest::prelude::*;
use serde_json::Value;

const MEASURED_MS: f64 = 34.64;
const ROUTING: Routing<'static> = Routing::Histogram(&EDGE_MOE_QUEUES[0]);

fn graph() -> ModelGraph {
    m3vit_tiny_cityscapes().unwrap()
}

fn run(accelerator: &Accelerator) -> Report {
    Analytical.model(&graph(), accelerator, ROUTING).unwrap()
}

fn changed(change: impl Fn(&mut Accelerator)) -> Accelerator {
    let mut accelerator = zcu102_edge_moe().unwrap();
    change(&mut accelerator);
    accelerator
}

#[test]
fn words_and_steps_equal_the_released_loops() {
    let golden: Value = serde_json::from_str(include_str!("golden/edge_moe_trip_counts.json")).unwrap();
    let count = |key: &str| golden["counts"][key].as_u64().unwrap();
    let word = Master { kernel_bits: 256, port_bits: 256, burst_latency: 0, outstanding: 1 };
    assert_eq!(word.beats(192 * 192, 16).unwrap(), count("weights_192_192_words256"));
    assert_eq!(word.beats(192 * 768, 16).unwrap(), count("weights_192_768_words256"));
    assert_eq!(word.beats(192 * 384, 16).unwrap(), count("expert_matrix_words256"));
    assert_eq!(129 * word.beats(192, 32).unwrap(), count("token_matrix_words256"));
    assert_eq!(4 * attention_steps(129, 4).unwrap(), count("softmax_finalise"));
    let accelerator = zcu102_edge_moe().unwrap();
    let all = kernels(&graph(), &accelerator, accelerator.off_chip.as_ref().unwrap(), ROUTING).unwrap();
    let compute = |name: &str| all.iter().find(|k| k.name == name).unwrap().compute;
    assert_eq!(compute("patch_embed"), count("patch_embed"));
    // Query, key and value together.
    assert_eq!(compute("blk.0.attn.qkv"), 3 * count("linear_192_192"));
    assert_eq!(compute("blk.0.attn.proj"), count("linear_192_192"));
    assert_eq!(compute("blk.0.attn.scores"), count("qk_or_av"));
    assert_eq!(compute("blk.0.attn.values"), count("qk_or_av"));
    assert_eq!(compute("blk.0.mlp.fc1"), count("linear_192_768"));
    assert_eq!(compute("blk.0.mlp.fc2"), count("linear_768_192"));
    assert_eq!(compute("blk.1.moe.experts"), 2 * 258 * count("linear_192_384_per_token"));
}

#[test]
fn the_routing_histograms_are_those_of_the_published_trace() {
    let golden: Value =
        serde_json::from_str(include_str!("golden/routing_trace_edge_moe_block1.json")).unwrap();
    for (task, queues) in ["task0", "task1"].into_iter().zip(EDGE_MOE_QUEUES) {
        let histogram: Vec<u64> =
            serde_json::from_value(golden["metrics"][task]["histogram"].clone()).unwrap();
        assert_eq!(histogram, queues);
    }
}

#[test]
fn latency_and_energy_are_within_12_percent_without_a_fitted_constant() {
    let report = run(&zcu102_edge_moe().unwrap());
    let error = report.latency_ms() / MEASURED_MS - 1.0;
    assert!(error.abs() < 0.12, "{error}");
    assert!((report.energy_j() / 0.504 - 1.0).abs() < 0.12);
    let of = |kinds: &[OpKind]| -> u64 {
        report.layers.iter().filter(|l| kinds.contains(&l.kind)).map(|l| l.cycles).sum()
    };
    let products = of(&[OpKind::AttentionScores, OpKind::AttentionValues]);
    let linear = of(&[OpKind::Gemm, OpKind::MoeFfn]);
    assert!(products > linear && linear > report.cycles - products - linear);
    assert!(report.fit.fits());
    // Serial loads of experts are the other end of what the sources allow.
    let serial = changed(|a| a.off_chip.as_mut().unwrap().hidden_loads = HiddenLoads::None);
    let serial = run(&serial).latency_ms() / MEASURED_MS - 1.0;
    assert!(error < serial && serial.abs() < 0.05, "{serial}");
}

#[test]
fn the_narrow_port_alone_explains_most_of_the_gap() {
    // Kernel words on a port of their own width: what counting loop iterations gives.
    let mut wide = changed(|a| {
        a.off_chip.as_mut().unwrap().master =
            Master { kernel_bits: 256, port_bits: 256, burst_latency: 0, outstanding: 16 };
        a.off_chip.as_mut().unwrap().hidden_loads = HiddenLoads::All;
        a.port.width_bits = 256;
        a.port.burst_latency = 0;
    });
    let error = Analytical.model(&graph(), &wide, ROUTING).unwrap_err();
    insta::assert_snapshot!(error, @"`port.width_bits` must be at most 128, the width of a port of zcu102, but is 256");
    wide.platform.memory.port_bits = 256;
    let counted = run(&wide).latency_ms();
    assert!(counted < 0.65 * MEASURED_MS, "{counted}");
    let report = run(&zcu102_edge_moe().unwrap());
    for kind in [OpKind::AttentionScores, OpKind::AttentionValues] {
        assert!(report.layers.iter().filter(|l| l.kind == kind).all(|l| l.bound == Bound::Port));
    }
    assert!(report.layers.iter().filter(|l| l.kind == OpKind::MoeFfn).all(|l| l.bound == Bound::ExpertLoad));
}

#[test]
fn one_fitted_burst_latency_brings_it_to_5_percent() {
    let accelerator = zcu102_edge_moe().unwrap();
    let (cycles, ms) = calibrate_burst_latency(&graph(), &accelerator, ROUTING, MEASURED_MS).unwrap();
    assert!((ms / MEASURED_MS - 1.0).abs() < 0.05, "{cycles} {ms}");
    assert!(cycles > 64);
    assert!(calibrate_burst_latency(&graph(), &accelerator, ROUTING, f64::NAN).is_err());
    let on_chip = mtl_hw::presets::zcu104_m3vit().unwrap();
    assert!(calibrate_burst_latency(&graph(), &on_chip, ROUTING, 1.0).is_err());
}

#[test]
fn expert_by_expert_loads_12_experts_instead_of_258() {
    let by_expert = run(&zcu102_edge_moe().unwrap());
    let with = |cache_experts| {
        let schedule = MoeSchedule::TokenByToken { cache_experts };
        run(&zcu102_edge_moe().unwrap().with_schedule(schedule))
    };
    let by_token = with(0);
    let loads = |r: &Report| r.layers.iter().find_map(|l| l.moe).unwrap().expert_loads;
    assert_eq!((loads(&by_expert), loads(&by_token)), (12, 258));
    let bytes = |r: &Report| r.layers.iter().find_map(|l| l.moe).unwrap().weight_bytes;
    assert_eq!((bytes(&by_expert), bytes(&by_token)), (3_552_768, 76_384_512));
    // The paper's 1.50 is over kernels that take 433 ms. Over ours, 258 loads of 18,432 beats in six blocks are 95 ms
    // more, so the same step is larger here than the 1.3 to 2.5 that one would expect from the paper.
    let ratio = by_token.latency_ms() / by_expert.latency_ms();
    assert!(ratio > 2.5 && ratio < 4.5, "{ratio}");
    let over_published = (433.4 + by_token.latency_ms() - by_expert.latency_ms()) / 433.4;
    assert!(over_published > 1.1 && over_published < 1.5, "{over_published}");
}

#[test]
fn attention_time_falls_with_parallel_queries_until_its_scores_fill_their_port() {
    let cycles = |queries: u32, reordered: bool| {
        let a = changed(|a| {
            let unit = a.attention.as_mut().unwrap();
            (unit.queries, unit.reordered) = (queries, reordered);
        });
        let all = kernels(&graph(), &a, a.off_chip.as_ref().unwrap(), ROUTING).unwrap();
        all.into_iter().find(|k| k.name == "blk.0.attn.scores").unwrap()
    };
    // Twice the queries, half the passes, up to one pass more.
    for p in [1, 2, 4, 8] {
        let (one, two) = (cycles(p, true).cycles, cycles(2 * p, true).cycles);
        assert!(two <= one / 2 + 129 * 48 + 128, "{p}");
    }
    // A key token takes 48 beats, the scores of one query and key two: from 24 queries on the scores' port decides, and
    // more gain nothing but a better fit of whole passes.
    let best = (1..=100).min_by_key(|&p| cycles(p, true).cycles).unwrap();
    assert_eq!(best, 26);
    assert!(cycles(48, true).cycles as f64 > 0.95 * cycles(24, true).cycles as f64);
    // Without reordering every query needs its own stream, and a port that is full at one query gains nothing.
    assert!(cycles(8, false).cycles as f64 > 0.95 * cycles(1, false).cycles as f64);
    assert_eq!(cycles(8, false).slowest, Slowest::Port);
}

#[test]
fn online_softmax_saves_a_pass_over_the_scores() {
    let two_pass = changed(|a| a.off_chip.as_mut().unwrap().softmax = SoftmaxUnit::TwoPass);
    assert!(run(&two_pass).cycles > run(&zcu102_edge_moe().unwrap()).cycles + 12 * 129 * 129);
}

#[test]
fn bad_designs_name_the_key() {
    let error = |change: fn(&mut Accelerator)| {
        Analytical.model(&graph(), &changed(change), ROUTING).unwrap_err().to_string()
    };
    insta::assert_snapshot!(error(|a| a.precision.activation_bits = 0), @"`precision.activation_bits` must be from 1 to 64, but is 0");
    insta::assert_snapshot!(error(|a| a.off_chip.as_mut().unwrap().master.port_bits = 16), @"`off_chip.master.element_bits` must be from 1 to `port_bits` = 16, but is 32");
    insta::assert_snapshot!(error(|a| a.off_chip.as_mut().unwrap().master.port_bits = 512), @"`off_chip.master.port_bits` must be at most 128, the width of a port of zcu102, but is 512");
    insta::assert_snapshot!(error(|a| a.attention.as_mut().unwrap().queries = 129), @"`p` must be below the 129 tokens, but is 129");
    insta::assert_snapshot!(error(|a| a.attention.as_mut().unwrap().lanes = 0), @"`attention.lanes` must be positive, but is 0");
    insta::assert_snapshot!(error(|a| a.clock_mhz = f64::NAN), @"`clock_mhz` must be positive and finite, but is NaN");
}

fn designs() -> impl Strategy<Value = Accelerator> {
    (1u32..5, 1u32..5, 1u32..40, 0u32..4, 0u32..200, 0u8..3, any::<[bool; 3]>(), 0.05f64..1.0).prop_map(
        |(t_in, t_out, queries, shift, latency, hidden, [fused, halves, own], efficiency)| {
            changed(|a| {
                let tile = Engine::Tile(Tile { t_in: 4 << t_in, t_out: 4 << t_out, ii: 1, depth: 3 });
                a.engine = tile.clone();
                a.attention.as_mut().unwrap().queries = queries;
                a.port.burst_latency = latency;
                a.dram_efficiency = efficiency;
                let d = a.off_chip.as_mut().unwrap();
                d.master.port_bits = 32 << shift.min(2);
                d.master.burst_latency = latency;
                d.hidden_loads =
                    [HiddenLoads::None, HiddenLoads::Experts, HiddenLoads::All][usize::from(hidden)];
                (d.fused_attention, d.overlap_halves) = (fused, halves);
                d.projections = own.then_some(tile);
            })
        },
    )
}

/// Multiplies the sides of a tile.
fn scale(engine: &mut Engine, by_in: u32, by_out: u32) {
    if let Engine::Tile(tile) = engine {
        tile.t_in *= by_in;
        tile.t_out *= by_out;
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn more_units_bandwidth_and_overlap_never_cost_time(a in designs()) {
        let before = run(&a).cycles;
        let better = |change: &dyn Fn(&mut Accelerator)| {
            let mut b = a.clone();
            change(&mut b);
            run(&b).cycles
        };
        prop_assert!(better(&|b| scale(&mut b.engine, 2, 1)) <= before);
        prop_assert!(better(&|b| scale(&mut b.engine, 1, 2)) <= before);
        prop_assert!(better(&|b| b.attention.as_mut().unwrap().lanes *= 2) <= before);
        prop_assert!(better(&|b| b.off_chip.as_mut().unwrap().master.port_bits = 128) <= before);
        prop_assert!(better(&|b| b.dram_efficiency = 1.0) <= before);
        prop_assert!(better(&|b| b.port.burst_latency /= 2) <= before);
        prop_assert!(better(&|b| b.off_chip.as_mut().unwrap().hidden_loads = HiddenLoads::All) <= before);
    }

    #[test]
    fn latency_is_at_least_what_multipliers_and_memory_allow(a in designs()) {
        let report = run(&a);
        let design = a.off_chip.as_ref().unwrap();
        let own = design.projections.as_ref().map_or(0, |e| e.get().peak_macs().unwrap());
        let units = a.engine.get().peak_macs().unwrap() + own + 2 * a.attention.unwrap().peak_macs();
        prop_assert!(report.cycles >= report.macs / units);
        let activations: u64 =
            kernels(&graph(), &a, design, ROUTING).unwrap().iter().map(|k| k.activation_bytes).sum();
        let peak = a.platform.memory.peak_gb_per_s * 1e9;
        if !design.overlap_halves && design.hidden_loads != HiddenLoads::All {
            prop_assert!(report.latency_s() >= activations as f64 / peak);
            prop_assert!(report.latency_s() >= report.weight_bytes as f64 / peak);
        }
        for l in &report.layers {
            prop_assert!(l.cycles == l.compute_cycles + l.exposed_cycles || l.bound == Bound::Hidden);
        }
    }
}

#[test]
fn convolutions_and_pooling_take_time_too() {
    use mtl_hw::graph::{Conv2dShape, Node, Op, Part};
    let node = |name: &str, op| Node::new(name, Part::Backbone, &[], op);
    let graph = ModelGraph {
        name: "conv".into(),
        nodes: vec![
            node("conv", Op::Conv2d(Conv2dShape::same(8, 8, 32, 64, 3))),
            node("pool", Op::GlobalPool { channels: 64, positions: 64 }),
        ],
    };
    let report = Analytical.model(&graph, &zcu102_edge_moe().unwrap(), Routing::Uniform).unwrap();
    // 64 positions, 288 by 64 in tiles of 16 by 16.
    assert_eq!(report.layers[0].compute_cycles, 64 * 18 * 4);
    assert!(report.layers[1].cycles > 64 * 64 * 32 / 256);
}

/// On the published design's board and under its own model there are faster designs, and the fastest has a unit of its own for
/// the projections of attention. Its latency then is the time between images.
#[test]
fn a_search_finds_faster_designs_than_the_published_one_and_they_separate_attention() {
    let dims = OffChipDims { clock_mhz: vec![300], ..OffChipDims::default() };
    let base = zcu102_edge_moe().unwrap();
    let search = OffChipSearch::new(base.clone(), graph(), &[ROUTING], dims, Limits::default()).unwrap();
    let space = search.space();
    let published = [16, 16, 0, 4, 8, 300];
    let point = |values: [u64; 6]| {
        let index = |(d, v)| (0..space.size(d)).find(|&i| space.value(d, i) == v).unwrap();
        Point::new(values.into_iter().enumerate().map(index).collect())
    };
    let own = search.eval(&point(published)).unwrap();
    assert_eq!(own.latency_s, run(&base).latency_s());
    // The measured watts are those of the published design alone: a smaller one draws less.
    let small = search.eval(&point([4, 4, 0, 1, 4, 300])).unwrap();
    assert!(small.energy_j / small.latency_s < own.energy_j / own.latency_s);
    let found = Explorer::new(space, &search)
        .goals(&[Goal::Latency, Goal::MaxResource])
        .strategy(Search::Exhaustive)
        .run()
        .unwrap();
    let front = &found.front.points;
    let fastest = front.iter().min_by(|a, b| a.1.latency_s.total_cmp(&b.1.latency_s)).unwrap();
    println!("published {:.2} ms, {:?}", 1e3 * own.latency_s, own.resources);
    for (p, o) in front {
        println!("{:.2} ms, {:.1} %: {}", 1e3 * o.latency_s, 100.0 * o.resources.max(), space.describe(p));
    }
    assert!(fastest.1.latency_s < own.latency_s);
    assert!(space.value(2, fastest.0.index(2)) > 0, "{}", space.describe(&fastest.0));
}
