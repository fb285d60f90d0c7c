//! Schedules of experts on the routing of Edge-MoE's first MoE block, and of networks routed like it.
#![allow(clippy::expect_used, clippy::unwrap_used)]

use mtl_hw::cost::engine::{Engine, Tile};
use mtl_hw::cost::ping_pong::Step;
use mtl_hw::cost::{Accelerator, CostModel, FirstLoad, Granularity, MoeSchedule, WeightPort};
use mtl_hw::graph::{ModelGraph, MoeBlocks, MoeShape, MoeSpec, VitHead, VitSpec};
use mtl_hw::plot::{Gantt, TimeUnit};
use mtl_hw::presets::zcu104_m3vit;
use mtl_hw::routing::{
    LayerRouting, MergedQueues, Routing, RoutingTrace, TraceHeader, TraceLayer, TraceRecord,
};
use mtl_hw::sim::{
    EventSim, ExpertOrder, Job, LayerSim, Predictor, SimOptions, SwitchCost, expert_order, makespan,
    prefetch_gap,
};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

const UNCACHED: MoeSchedule = MoeSchedule::TokenByToken { cache_experts: 0 };

fn edge_moe() -> (Value, [Vec<Vec<u16>>; 2]) {
    let golden: Value =
        serde_json::from_str(include_str!("golden/routing_trace_edge_moe_block1.json")).unwrap();
    let task = |name: &str| serde_json::from_value(golden["trace"][name].clone()).unwrap();
    let traces = [task("task0"), task("task1")];
    (golden, traces)
}

/// The layer of the golden trace.
const EDGE: MoeShape = MoeShape { tokens: 129, dim: 192, hidden: 384, experts: 16, top_k: 2 };

/// A 16×16 tile at 300 MHz behind one port of 128 bits, as the structure of Edge-MoE has it.
fn narrow(schedule: MoeSchedule) -> Accelerator {
    let mut a = zcu104_m3vit().unwrap().with_schedule(schedule);
    a.engine = Engine::Tile(Tile { t_in: 16, t_out: 16, ii: 1, depth: 0 });
    a.port = WeightPort { width_bits: 128, count: 1, burst_latency: 0, outstanding: 1 };
    a
}

fn per_matrix(first_load: FirstLoad) -> MoeSchedule {
    MoeSchedule::ExpertByExpert { prefetch: true, granularity: Granularity::Matrix, first_load }
}

#[test]
fn the_golden_schedule_of_the_edge_moe_layer_is_met_and_reordering_never_loses() {
    let (golden, traces) = edge_moe();
    for (task, trace) in ["task0", "task1"].iter().zip(&traces) {
        let queues = LayerRouting::Tokens(trace).queues(&EDGE).unwrap();
        for row in golden["schedule"][*task].as_array().unwrap() {
            let load = row["load_cycles_per_matrix"].as_u64().unwrap();
            let job = |&n: &u64| {
                let half = Step { load, compute: 288 * n };
                Job { first: half, second: Some(half) }
            };
            let jobs: Vec<Job> = queues.iter().filter(|&&n| n > 0).map(job).collect();
            let of = |order| {
                let order = expert_order(&jobs, order, Some(2)).unwrap();
                makespan(&jobs, &order, Some(2)).unwrap()
            };
            let index = of(ExpertOrder::Index);
            assert_eq!(index, row["makespan_matrix_ping_pong"].as_u64().unwrap());
            for order in [ExpertOrder::ShortestLast, ExpertOrder::Johnson, ExpertOrder::Best] {
                assert!(of(order) <= index, "{order:?}");
            }
            // Eight experts can be searched in full.
            let eight = &jobs[..8];
            for buffers in [None, Some(2)] {
                let cycles = |o| makespan(eight, &expert_order(eight, o, buffers).unwrap(), buffers).unwrap();
                assert!(cycles(ExpertOrder::Exhaustive) <= cycles(ExpertOrder::Best));
                if buffers.is_none() {
                    assert_eq!(cycles(ExpertOrder::Johnson), cycles(ExpertOrder::Exhaustive));
                }
            }
        }
    }
}

#[test]
fn m3vit_reordering_loads_12_experts_instead_of_258() {
    let (_, [trace, _]) = edge_moe();
    let routing = LayerRouting::Tokens(&trace);
    let run = |schedule| {
        let accelerator = narrow(schedule);
        LayerSim::new("blk.1", &EDGE, &accelerator, SimOptions::default()).unwrap().run(&routing).unwrap()
    };
    let reordered = run(per_matrix(FirstLoad::AfterGate));
    let uncached = run(UNCACHED);
    assert_eq!((reordered.expert_loads, uncached.expert_loads), (12, 258));
    assert_eq!((reordered.weight_bytes, uncached.weight_bytes), (3_552_768, 76_384_512));
    for (cache, misses) in [(1, 250), (2, 173), (4, 123), (8, 33), (16, 12)] {
        assert_eq!(run(MoeSchedule::TokenByToken { cache_experts: cache }).expert_loads, misses);
    }
    // 258 loads of 18 504 cycles against 148 608 cycles of compute: the layer is 21 times slower without the queues.
    let ratio = uncached.cycles as f64 / reordered.cycles as f64;
    insta::assert_snapshot!(format!("{} {} {ratio:.2}", uncached.cycles, reordered.cycles), @"4922640 226872 21.70");
    // Below the break-even queue the port, not the engine, sets the pace, whatever M³ViT's estimate says.
    assert!(reordered.exposed_cycles() > 0);
    let wide = zcu104_m3vit().unwrap();
    let balanced = MoeShape { tokens: 1025, dim: 384, hidden: 384, experts: 16, top_k: 4 };
    let mut layer = LayerSim::new("blk.1", &balanced, &wide, SimOptions::default()).unwrap();
    let long = layer.run(&LayerRouting::Uniform).unwrap();
    assert_eq!(long.exposed_cycles(), 9240); // the first load alone
}

/// A tiny two-task M³ViT as Edge-MoE runs it, all MoE blocks routed as the golden block.
fn edge_network() -> (ModelGraph, RoutingTrace) {
    let spec = VitSpec {
        name: "m3vit-tiny".to_owned(),
        image: [128, 256],
        heads: 3,
        moe: Some(MoeSpec { experts: 16, top_k: 2, hidden: 384, gates: 2, blocks: MoeBlocks::Odd }),
        heads_out: Vec::new(),
        ..VitSpec::tiny()
    };
    let graph = spec.graph().unwrap();
    let (_, traces) = edge_moe();
    let layers = graph.moe_layers().map(|(id, s)| TraceLayer {
        id,
        experts: s.experts,
        top_k: s.top_k,
        d_model: s.dim,
        d_hidden: s.hidden,
    });
    let header = TraceHeader::new("edge", vec!["seg".into(), "depth".into()], 129, layers.collect());
    let mut trace = RoutingTrace::new(header).unwrap();
    for (id, _) in graph.moe_layers() {
        for (task, tokens) in traces.iter().enumerate() {
            trace.push(TraceRecord::tokens(0, task as u32, &id, tokens.clone())).unwrap();
        }
    }
    (graph, trace)
}

#[test]
fn the_whole_network_is_faster_reordered() {
    let (graph, trace) = edge_network();
    let routing = Routing::Trace { trace: &trace, image: 0, task: 0 };
    let ms = |s| EventSim::default().model(&graph, &narrow(s), routing).unwrap().latency_ms();
    let (reordered, uncached) = (ms(per_matrix(FirstLoad::AfterGate)), ms(UNCACHED));
    insta::assert_snapshot!(format!("{reordered:.3} ms, {uncached:.3} ms, {:.2}", uncached / reordered), @"12.079 ms, 106.057 ms, 8.78");
}

#[test]
fn batching_both_tasks_loads_each_expert_once() {
    let (_, traces) = edge_moe();
    let queues = traces.each_ref().map(|t| LayerRouting::Tokens(t).queues(&EDGE).unwrap());
    let merged = MergedQueues::of(&[&queues[0], &queues[1]]).unwrap();
    assert_eq!((merged.loads, merged.separate_loads), (13, 25));
    assert!((merged.reuse() - 25.0 / 13.0).abs() < 1e-12);
    let accelerator = narrow(per_matrix(FirstLoad::AfterGate));
    let mut layer = LayerSim::new("blk.1", &EDGE, &accelerator, SimOptions::default()).unwrap();
    let apart: Vec<_> = queues.iter().map(|q| layer.run_queues(q).unwrap()).collect();
    let together = layer.run_queues(&merged.queues).unwrap();
    assert_eq!(together.compute_cycles, apart[0].compute_cycles + apart[1].compute_cycles);
    assert!(together.load_cycles < apart[0].load_cycles + apart[1].load_cycles);
    assert!(together.cycles < apart[0].cycles + apart[1].cycles);
}

#[test]
fn a_record_shows_each_resource_once_at_a_time() {
    let (graph, trace) = edge_network();
    let routing = Routing::Trace { trace: &trace, image: 0, task: 1 };
    let sim = EventSim { record: true };
    let accelerator = narrow(per_matrix(FirstLoad::AfterGate));
    let run = sim.simulate(&graph, &accelerator, routing, SimOptions::default()).unwrap();
    let timeline = run.timeline.as_ref().unwrap();
    assert_eq!(timeline.cycles, run.report.cycles);
    for lane in 0..timeline.lanes.len() {
        let mut spans: Vec<_> =
            timeline.spans.iter().filter(|s| s.lane == lane).map(|s| (s.start, s.end)).collect();
        spans.sort_unstable();
        assert!(spans.windows(2).all(|w| w[0].1 <= w[1].0), "{}", timeline.lanes[lane]);
    }
    let port: u64 = timeline.spans.iter().filter(|s| s.lane == 0).map(|s| s.end - s.start).sum();
    assert_eq!(port, run.report.layers.iter().map(|l| l.load_cycles).sum::<u64>());
    assert_eq!(sim.simulate(&graph, &accelerator, routing, SimOptions::default()).unwrap(), run);
    let unrecorded = EventSim::default().model(&graph, &accelerator, routing).unwrap();
    assert_eq!(unrecorded, run.report);
    let svg = Gantt { unit: TimeUnit::Cycles, ..Gantt::default() }.svg(timeline).unwrap();
    assert!(svg.contains("expert 14 compute, blk.1"));
    let block = timeline.layers(0..5);
    assert!(block.cycles < timeline.cycles && block.spans.iter().all(|s| s.end <= block.cycles));
}

#[test]
fn changes_of_task_cost_gates_subsets_or_the_whole_model() {
    let (graph, trace) = edge_network();
    let accelerator = narrow(per_matrix(FirstLoad::AfterGate));
    // Six gates of 16 × 192 in 16 bits.
    assert_eq!(SwitchCost::gates(&graph, &accelerator, 1).unwrap().bytes, 36_864);
    let active = |task| -> BTreeMap<String, BTreeSet<u16>> {
        let of = |id: &str| trace.record(id, 0, task).unwrap().experts.clone().unwrap();
        graph.moe_layers().map(|(id, _)| (id.clone(), of(&id).into_iter().flatten().collect())).collect()
    };
    let subset = |old: u32, new: u32| {
        SwitchCost::resident_subset(&graph, &accelerator, &active(old), &active(new)).unwrap()
    };
    // Task 1 uses expert 4, which task 0 does not, in each of six layers.
    assert_eq!(subset(0, 1).bytes, 6 * 296_064);
    assert_eq!(subset(1, 0).bytes, 0);
    let whole = SwitchCost::whole_model(&graph, &accelerator).unwrap();
    assert_eq!(whole.bytes, 2 * graph.params().unwrap());
    assert_eq!(whole.cycles, whole.bytes.div_ceil(16));
    let unknown = BTreeMap::from([("blk.7x".to_owned(), BTreeSet::new())]);
    insta::assert_snapshot!(SwitchCost::resident_subset(&graph, &accelerator, &unknown, &unknown).unwrap_err(), @"`layer` must be a MoE layer of the graph, but is `blk.7x`");
    // A head of a task moves with it.
    let heads = VitSpec { heads_out: vec![VitHead::task(0, 10), VitHead::task(1, 2)], ..VitSpec::tiny() };
    let dense = heads.graph().unwrap();
    assert_eq!(SwitchCost::gates(&dense, &accelerator, 1).unwrap().bytes, 2 * (192 * 2 + 2));
}

#[test]
fn prediction_costs_what_the_misses_expose() {
    let (_, [earlier, now]) = edge_moe();
    let counts = LayerRouting::Tokens(&earlier).queues(&EDGE).unwrap();
    let queues = LayerRouting::Tokens(&now).queues(&EDGE).unwrap();
    let jobs: Vec<(u16, Job)> = (0u16..)
        .zip(&queues)
        .filter(|&(_, &n)| n > 0)
        .map(|(e, &n)| (e, Job { first: Step { load: 9252, compute: 576 * n }, second: None }))
        .collect();
    let mut before = u64::MAX;
    for top in [0, 4, 8, 12, 16] {
        let gap = prefetch_gap(&jobs, Predictor::Histogram { counts: &counts, top }).unwrap();
        assert_eq!(gap.hits + gap.misses, 13);
        assert!(gap.gap_cycles() <= before);
        assert!(gap.exposed_per_miss() <= 9252.0);
        before = gap.gap_cycles();
    }
    assert_eq!(before, 0);
}
