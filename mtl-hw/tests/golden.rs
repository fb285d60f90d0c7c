//! Values of other tools and of published tables; each file under `golden/` says where it is from.
#![allow(clippy::expect_used, clippy::unwrap_used)]

use mtl_hw::cost::engine::{Dataflow, MatrixEngine, Systolic, Tile};
use mtl_hw::cost::ping_pong::{Step, barrier, free_running, matrix_level, serial};
use mtl_hw::cost::{Accelerator, MoeSchedule};
use mtl_hw::cost::{expert_activation_traffic, moe_cost};
use mtl_hw::graph::{Convention, MoeShape, MoeSpec, OpClass, VitSpec};
use mtl_hw::platform::{DspKind, pack};
use mtl_hw::presets;
use mtl_hw::routing::{LayerRouting, OverlapStats, RoutingStats, lru_curve, lru_misses};
use serde_json::Value;

fn load(text: &str) -> Value {
    serde_json::from_str(text).unwrap()
}

fn int(v: &Value) -> u64 {
    v.as_u64().unwrap_or_else(|| v.as_f64().expect("a number") as u64)
}

fn ints(v: &Value) -> Vec<u64> {
    v.as_array().unwrap().iter().map(int).collect()
}

fn near(a: f64, b: &Value, tolerance: f64) {
    let b = b.as_f64().unwrap();
    assert!((a - b).abs() <= tolerance, "{a} is not within {tolerance} of {b}");
}

#[test]
fn counts_equal_those_of_torch_and_fvcore() {
    let golden = load(include_str!("golden/flops_params.json"));
    for (row, spec) in golden.as_array().unwrap().iter().zip([
        VitSpec::tiny(),
        VitSpec::small(),
        VitSpec::base(),
        VitSpec::deit_tiny_distilled(),
    ]) {
        let graph = spec.graph().unwrap();
        assert_eq!(graph.params().unwrap(), int(&row["params"]), "{}", graph.name);
        assert_eq!(graph.activations().unwrap(), int(&row["fvcore_activations"]), "{}", graph.name);
        let torch = graph.count(Convention::Torch).unwrap();
        assert_eq!(torch.total, int(&row["torch_flop_counter_total"]), "{}", graph.name);
        let fvcore = graph.count(Convention::Fvcore).unwrap();
        assert_eq!(fvcore.total, int(&row["fvcore_flops_total"]), "{}", graph.name);
        for (class, torch_key, fvcore_key) in [
            (OpClass::Conv, "aten.convolution", "conv"),
            (OpClass::Linear, "aten.addmm", "linear"),
            (OpClass::Matmul, "aten.bmm", "matmul"),
        ] {
            assert_eq!(torch.by_class[&class], int(&row["torch_flop_counter_by_op"][torch_key]));
            assert_eq!(fvcore.by_class[&class], int(&row["fvcore_by_op"][fvcore_key]));
        }
        assert_eq!(fvcore.by_class[&OpClass::LayerNorm], int(&row["fvcore_by_op"]["layer_norm"]));
        let thop = graph.count(Convention::Thop).unwrap().total;
        assert_eq!(thop, int(&row["fvcore_by_op"]["linear"]) + int(&row["fvcore_by_op"]["conv"]));
    }
}

#[test]
fn stored_parameters_of_m3vit_give_its_published_gpu_memory() {
    let mib = |params: u64| 2.0 * params as f64 / f64::from(1 << 20);
    let dense = VitSpec::small().graph().unwrap().params().unwrap();
    let moe = VitSpec::small().moe(MoeSpec::default()).graph().unwrap().params().unwrap();
    assert_eq!(moe, 43_383_400);
    assert!((mib(dense) - 42.058).abs() < 5e-4);
    assert!((mib(moe) - 82.747).abs() < 5e-4);
}

#[test]
fn packing_rules_match() {
    let golden = load(include_str!("golden/packing.json"));
    for row in golden["packing"].as_array().unwrap() {
        let p = pack(int(&row["width_bits"]), int(&row["depth"]), int(&row["banks"])).unwrap();
        assert_eq!(p.ramb18, int(&row["ramb18"]), "{row}");
        assert_eq!(p.uram, int(&row["uram288"]), "{row}");
        assert_eq!(p.payload_bits, int(&row["payload_bits"]), "{row}");
        near(p.bram_efficiency(), &row["bram_efficiency"], 1e-6);
        near(p.uram_efficiency(), &row["uram_efficiency"], 1e-6);
    }
    for row in golden["dsp48e2"].as_array().unwrap() {
        let (a, b) = (int(&row["a_bits"]) as u32, int(&row["b_bits"]) as u32);
        let blocks = DspKind::Dsp48e2.blocks_per_multiply(a, b).unwrap();
        assert_eq!(blocks, int(&row["dsp_per_multiply"]), "{row}");
    }
}

#[test]
fn systolic_cycles_and_accesses_equal_those_of_scale_sim() {
    let golden = load(include_str!("golden/scalesim.json"));
    let mut compared = 0;
    for row in golden["rows"].as_array().unwrap() {
        let flow = match row["flow"].as_str().unwrap() {
            "os" => Dataflow::OutputStationary,
            "ws" => Dataflow::WeightStationary,
            _ => Dataflow::InputStationary,
        };
        let array = Systolic { rows: int(&row["rows"]) as u32, cols: int(&row["cols"]) as u32, flow };
        let (m, k, n) = (int(&row["m"]), int(&row["k"]), int(&row["n"]));
        let cost = array.cost(m, k, n).unwrap();
        // The peer prints one cycle less, and counts array fills as output writes for one dataflow.
        assert_eq!(cost.cycles - 1 + int(&row["stalls"]), int(&row["cycles"]), "{row}");
        let fill = cost.folds * u64::from(array.rows + array.cols);
        let artefact = if flow == Dataflow::OutputStationary { fill } else { 0 };
        assert_eq!(
            [cost.sram.a, cost.sram.b, cost.sram.c + artefact].as_slice(),
            ints(&row["sram"]),
            "{row}"
        );
        let cells = array.peak_macs().unwrap() as f64;
        near(100.0 * (m * n * k) as f64 / (cells * int(&row["cycles"]) as f64), &row["util_pct"], 1e-9);
        near(100.0 * cost.used_cells as f64 / (cells * cost.folds as f64), &row["mapping_pct"], 1e-9);
        if row["mode"] == "CALC" {
            let words = array.dram_words(m, k, n, 1024 * int(&row["sram_kib"])).unwrap();
            let peer = ints(&row["dram"]);
            assert_eq!(words.a, peer[0], "{row}");
            if flow != Dataflow::OutputStationary {
                assert_eq!(words.b, peer[1], "{row}");
            }
            assert!(words.c.abs_diff(peer[2]) < u64::from(array.cols), "{row}");
        }
        compared += 1;
    }
    assert_eq!(compared, 101);
}

#[test]
fn tile_cycles_equal_the_trip_counts_of_edge_moe() {
    let golden = load(include_str!("golden/edge_moe_trip_counts.json"));
    let unit = Tile { t_in: 16, t_out: 16, ii: 1, depth: 0 };
    for (key, rows, inner, cols) in [
        ("patch_embed", 128, 768, 192),
        ("linear_192_192", 129, 192, 192),
        ("linear_192_768", 129, 192, 768),
        ("linear_768_192", 129, 768, 192),
        ("linear_192_384_per_token", 1, 192, 384),
    ] {
        assert_eq!(unit.gemm_cycles(rows, inner, cols).unwrap(), int(&golden["counts"][key]), "{key}");
    }
}

fn steps(compute: &Value, load: &Value) -> Vec<Step> {
    ints(load).into_iter().zip(ints(compute)).map(|(load, compute)| Step { load, compute }).collect()
}

#[test]
fn double_buffering_makespans_match() {
    let golden = load(include_str!("golden/double_buffer.json"));
    let cases = golden["cases"].as_array().unwrap();
    assert_eq!(cases.len(), 40);
    for case in cases {
        let first = steps(&case["compute"], &case["load"]);
        assert_eq!(serial(&first).unwrap(), int(&case["serial"]));
        assert_eq!(barrier(&first).unwrap(), int(&case["ping_pong_barrier"]));
        assert_eq!(free_running(&first).unwrap(), int(&case["two_buffers_no_barrier"]));
        let matrix = &case["matrix_level"];
        let second = steps(&matrix["compute2"], &matrix["load2"]);
        assert_eq!(matrix_level(&first, &second).unwrap(), int(&matrix["makespan"]));
    }
}

fn tokens(v: &Value) -> Vec<Vec<u16>> {
    serde_json::from_value(v.clone()).unwrap()
}

/// A 16-bit accelerator with a schedule; traffic does not depend on its other parameters.
fn with(schedule: MoeSchedule) -> Accelerator {
    presets::zcu104_m3vit().unwrap().with_schedule(schedule)
}

fn check_metrics(trace: &[Vec<u16>], m: &Value) {
    let shape = MoeShape {
        tokens: int(&m["tokens"]),
        dim: int(&m["d_model"]),
        hidden: int(&m["d_hidden"]),
        experts: int(&m["experts"]),
        top_k: int(&m["top_k"]),
    };
    let stats = RoutingStats::of_tokens("t", trace, shape.experts).unwrap();
    assert_eq!(stats.histogram, ints(&m["histogram"]));
    assert_eq!(stats.active, int(&m["active_experts"]));
    near(stats.imbalance, &m["imbalance_max_over_mean"], 1e-6);
    near(stats.cv, &m["cv"], 1e-6);
    near(stats.normalised_entropy, &m["normalised_entropy"], 1e-6);
    near(stats.adjacency.unwrap(), &m["mean_experts_shared_with_previous_token"], 1e-6);

    let routing = LayerRouting::Tokens(trace);
    let bytes = |s| moe_cost("t", &shape, &with(s), &routing).unwrap().weight_bytes;
    assert_eq!(bytes(MoeSchedule::reordered()), int(&m["weight_bytes_expert_by_expert"]));
    assert_eq!(bytes(MoeSchedule::AllResident), int(&m["weight_bytes_all_resident_once"]));
    let uncached = MoeSchedule::TokenByToken { cache_experts: 0 };
    assert_eq!(bytes(uncached), int(&m["weight_bytes_token_by_token_no_cache"]));

    let curve = lru_curve(trace, 16);
    for (capacity, misses) in m["weight_loads_lru"].as_object().unwrap() {
        let capacity: usize = capacity.parse().unwrap();
        assert_eq!(curve[capacity - 1], int(misses));
        assert_eq!(lru_misses(trace, capacity), int(misses));
    }
    for (capacity, expected) in m["expected_loads_uniform"].as_object().unwrap() {
        let cached = with(MoeSchedule::TokenByToken { cache_experts: capacity.parse().unwrap() });
        let loads = moe_cost("t", &shape, &cached, &LayerRouting::Uniform).unwrap().expert_loads;
        assert_eq!(loads as f64, expected.as_f64().unwrap().ceil());
    }

    let traffic = expert_activation_traffic(&shape, 8 * int(&m["act_bytes"]) as u32).unwrap();
    let off_chip = &m["act_bytes_expert_by_expert_offchip"];
    for (key, ours) in [
        ("read_in", traffic.read_in),
        ("write_hidden", traffic.write_hidden),
        ("read_hidden", traffic.read_hidden),
        ("rmw_read_out", traffic.rmw_read_out),
        ("rmw_write_out", traffic.rmw_write_out),
        ("zero_init", traffic.zero_init),
    ] {
        assert_eq!(ours, int(&off_chip[key]), "{key}");
    }
    assert_eq!(traffic.token_by_token_fused, int(&m["act_bytes_token_by_token_fused"]["read_in"]));
}

#[test]
fn statistics_and_traffic_of_synthetic_traces_match() {
    let golden = load(include_str!("golden/moe_traffic_synthetic.json"));
    for case in golden["cases"].as_array().unwrap() {
        check_metrics(&tokens(&case["trace"]), &case["metrics"]);
    }
}

#[test]
fn statistics_traffic_and_schedule_of_the_edge_moe_trace_match() {
    let golden = load(include_str!("golden/routing_trace_edge_moe_block1.json"));
    let both: Vec<Vec<Vec<u16>>> = ["task0", "task1"].iter().map(|t| tokens(&golden["trace"][*t])).collect();
    for (task, trace) in ["task0", "task1"].iter().zip(&both) {
        check_metrics(trace, &golden["metrics"][*task]);
        let queues: Vec<u64> =
            ints(&golden["metrics"][*task]["histogram"]).into_iter().filter(|&n| n > 0).collect();
        for row in golden["schedule"][*task].as_array().unwrap() {
            let load = int(&row["load_cycles_per_matrix"]);
            let half: Vec<Step> = queues.iter().map(|&n| Step { load, compute: 288 * n }).collect();
            assert_eq!(matrix_level(&half, &half).unwrap(), int(&row["makespan_matrix_ping_pong"]));
            assert_eq!(2 * serial(&half).unwrap(), int(&row["serial"]));
        }
    }
    let overlap = OverlapStats::of_tasks("t", &both[0], &both[1], 16).unwrap();
    let cross = &golden["cross_task"];
    near(overlap.shared_per_token, &cross["mean_experts_shared_per_token"], 1e-6);
    near(overlap.histogram_overlap, &cross["histogram_overlap"], 1e-6);
    near(overlap.active_jaccard, &cross["active_set_jaccard"], 1e-6);
    assert!((overlap.batch_reuse - 25.0 / 13.0).abs() < 1e-12);
}
