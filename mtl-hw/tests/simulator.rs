//! The event-driven simulator against closed forms, golden schedules and its own invariants.
#![allow(clippy::expect_used, clippy::unwrap_used)]

use mtl_hw::cost::engine::{Engine, MacPool, Tile};
use mtl_hw::cost::ping_pong::{Step, barrier, free_running, matrix_level, serial};
use mtl_hw::cost::{
    Accelerator, Analytical, CostModel, FirstLoad, Granularity, MoeSchedule, VectorUnit, WeightPort, moe_cost,
};
use mtl_hw::graph::{ModelGraph, MoeBlocks, MoeShape, MoeSpec, VitHead, VitSpec};
use mtl_hw::plot::{Gantt, TimeUnit};
use mtl_hw::presets::{m3vit_small, vit_small_dense, zcu104_m3vit};
use mtl_hw::routing::{
    LayerRouting, MergedQueues, Routing, RoutingTrace, TraceHeader, TraceLayer, TraceRecord,
};
use mtl_hw::sim::{
    EventSim, ExpertOrder, Job, LayerSim, Overlap, Predictor, SharedMemory, SimOptions, SwitchCost,
    TaskGraph, expert_order, makespan, prefetch_gap,
};
use proptest::prelude::*;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

const CACHED: MoeSchedule = MoeSchedule::TokenByToken { cache_experts: 4 };
const UNCACHED: MoeSchedule = MoeSchedule::TokenByToken { cache_experts: 0 };

fn golden(text: &str) -> Value {
    serde_json::from_str(text).unwrap()
}

fn ints(v: &Value) -> Vec<u64> {
    serde_json::from_value(v.clone()).unwrap()
}

fn edge_moe() -> (Value, [Vec<Vec<u16>>; 2]) {
    let golden = golden(include_str!("golden/routing_trace_edge_moe_block1.json"));
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

/// Loads on `ports` ports feed computations on `units` units through `buffers` buffers, as tasks; with a barrier, all
/// wait for the swap of buffers.
fn pipeline(steps: &[Step], ports: u32, units: u32, buffers: Option<u32>, with_barrier: bool) -> u64 {
    let mut graph = TaskGraph::new();
    let (port, unit, swaps) =
        (graph.resource(ports).unwrap(), graph.resource(units).unwrap(), graph.resource(1).unwrap());
    let pool = buffers.map(|n| graph.pool(n).unwrap());
    let (mut swap, mut last) = (None, None);
    for s in steps {
        let load = graph.task(port, s.load).unwrap();
        if let Some(swap) = swap {
            graph.after(load, swap).unwrap();
        }
        let mut ready = load;
        if with_barrier {
            ready = graph.task(swaps, 0).unwrap();
            graph.after(ready, load).unwrap();
            if let Some(last) = last {
                graph.after(ready, last).unwrap();
            }
            swap = Some(ready);
        }
        let compute = graph.task(unit, s.compute).unwrap();
        graph.after(compute, ready).unwrap();
        if let Some(pool) = pool {
            graph.acquire(load, pool).unwrap();
            graph.release(compute, pool).unwrap();
        }
        last = Some(compute);
    }
    graph.run().unwrap().cycles
}

#[test]
fn events_give_the_golden_makespans_of_double_buffering() {
    let golden = golden(include_str!("golden/double_buffer.json"));
    for case in golden["cases"].as_array().unwrap() {
        let steps = |compute: &Value, load: &Value| -> Vec<Step> {
            ints(load).into_iter().zip(ints(compute)).map(|(load, compute)| Step { load, compute }).collect()
        };
        let first = steps(&case["compute"], &case["load"]);
        let int = |key: &str| case[key].as_u64().unwrap();
        assert_eq!(pipeline(&first, 1, 1, Some(2), false), int("two_buffers_no_barrier"));
        assert_eq!(pipeline(&first, 1, 1, Some(2), true), int("ping_pong_barrier"));
        assert_eq!(pipeline(&first, 1, 1, Some(1), false), int("serial"));
        let matrix = &case["matrix_level"];
        let second = steps(&matrix["compute2"], &matrix["load2"]);
        let halves: Vec<Step> = first.iter().zip(&second).flat_map(|(&a, &b)| [a, b]).collect();
        let expected = matrix["makespan"].as_u64().unwrap();
        assert_eq!(pipeline(&halves, 1, 1, Some(2), true), expected);
        let jobs: Vec<Job> =
            first.iter().zip(&second).map(|(&first, &b)| Job { first, second: Some(b) }).collect();
        let index: Vec<usize> = (0..jobs.len()).collect();
        assert_eq!(makespan(&jobs, &index, Some(2)).unwrap(), expected);
    }
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
fn published_networks_simulate_to_the_cycles_of_the_closed_form() {
    let accelerator = zcu104_m3vit().unwrap();
    let (dense, moe) = (vit_small_dense(512, 512).unwrap(), m3vit_small(512, 512).unwrap());
    for (graph, schedule) in
        [(&dense, MoeSchedule::reordered()), (&moe, MoeSchedule::reordered()), (&moe, CACHED)]
    {
        let accelerator = accelerator.clone().with_schedule(schedule);
        let closed = Analytical.model(graph, &accelerator, Routing::Uniform).unwrap();
        let simulated = EventSim::default().model(graph, &accelerator, Routing::Uniform).unwrap();
        assert_eq!(simulated.cycles, closed.cycles);
        assert_eq!(simulated.weight_bytes, closed.weight_bytes);
        assert_eq!(simulated.layers.iter().map(|l| l.cycles).sum::<u64>(), simulated.cycles);
    }
}

#[test]
fn scaling_experts_exposes_no_load_but_the_first() {
    // Claim 3 of M³ViT: at least 48 tokens per expert hide every load, however many experts there are.
    let accelerator = zcu104_m3vit().unwrap();
    for experts in [4u64, 16, 64, 256] {
        let shape =
            MoeShape { tokens: 48 * experts / 4, dim: 384, hidden: 384, experts, top_k: 4.min(experts) };
        let mut layer = LayerSim::new("blk.1", &shape, &accelerator, SimOptions::default()).unwrap();
        let run = layer.run_queues(&vec![49; experts as usize]).unwrap();
        assert_eq!(run.exposed_cycles(), 9240, "{experts}");
    }
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

#[test]
fn errors_are_typed() {
    let (graph, _) = edge_network();
    let error = |a: &Accelerator, o: SimOptions| {
        EventSim::default().simulate(&graph, a, Routing::Uniform, o).unwrap_err().to_string()
    };
    let options = SimOptions::default();
    insta::assert_snapshot!(error(&narrow(CACHED), SimOptions { weight_buffers: Some(0), ..options }), @"`weight_buffers` must be from 1 to 65536, but is 0");
    insta::assert_snapshot!(error(&narrow(per_matrix(FirstLoad::AfterGate)), SimOptions { order: ExpertOrder::Exhaustive, ..options }), @"`active experts` must be at most 10 for an exhaustive search, but is 16");
    let accelerator = narrow(CACHED);
    let mut layer = LayerSim::new("blk.1", &EDGE, &accelerator, options).unwrap();
    insta::assert_snapshot!(layer.run_queues(&[1; 16]).unwrap_err(), @"layer `blk.1`: an expert cache depends on token order; give a routing trace instead of a histogram");
    insta::assert_snapshot!(layer.run_queues(&[1; 15]).unwrap_err(), @"routing of layer `blk.1`: expected queues of 16 experts, but found 15");
    insta::assert_snapshot!(layer.run_choices([vec![3u16, 16]].as_slice().into()).unwrap_err(), @"routing of layer `blk.1`: token 0 names expert 16, but there are 16");
    // Two tasks want the only slot, and the one that gives it back comes after both.
    let mut tasks = TaskGraph::new();
    let (port, pool) = (tasks.resource(1).unwrap(), tasks.pool(1).unwrap());
    let (a, b) = (tasks.task(port, 1).unwrap(), tasks.task(port, 1).unwrap());
    tasks.acquire(a, pool).unwrap();
    tasks.acquire(b, pool).unwrap();
    insta::assert_snapshot!(tasks.run().unwrap_err(), @"`tasks` must be able to start once slots are free, but is task 1");
    assert!(tasks.after(a, b).is_err() && tasks.after(a, a).is_err());
    assert!(tasks.resource(0).is_err() && tasks.pool(0).is_err() && tasks.transfer(port, 1, 0).is_err());
    let long = tasks.resource(1).unwrap();
    tasks.task(long, u64::MAX).unwrap();
    tasks.task(long, 1).unwrap();
    assert!(tasks.run().unwrap_err().to_string().contains("64 bits"));
}

/// `streams` ports with transfers of given cycles, 16 bytes per cycle each, behind a memory of `bytes` per cycle.
fn shared(streams: &[Vec<u64>], bytes: u64) -> u64 {
    let mut graph = TaskGraph::new();
    graph.share(SharedMemory::new(bytes, 1).unwrap());
    for stream in streams {
        let port = graph.resource(1).unwrap();
        for &cycles in stream {
            graph.transfer(port, cycles, 16).unwrap();
        }
    }
    graph.run().unwrap().cycles
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = (0u64..100, 0u64..100).prop_map(|(load, compute)| Step { load, compute });
    proptest::collection::vec(step, 1..20)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn events_equal_the_closed_forms_of_ping_pong(steps in steps(), second in steps()) {
        prop_assert_eq!(pipeline(&steps, 1, 1, Some(2), false), free_running(&steps).unwrap());
        prop_assert_eq!(pipeline(&steps, 1, 1, Some(2), true), barrier(&steps).unwrap());
        prop_assert_eq!(pipeline(&steps, 1, 1, Some(1), false), serial(&steps).unwrap());
        let n = steps.len().min(second.len());
        let halves: Vec<Step> = steps.iter().zip(&second).flat_map(|(&a, &b)| [a, b]).collect();
        prop_assert_eq!(
            pipeline(&halves, 1, 1, Some(2), true),
            matrix_level(&steps[..n], &second[..n]).unwrap()
        );
    }

    #[test]
    fn unlimited_buffers_leave_the_busier_resource_and_its_edges(steps in steps()) {
        let cycles = pipeline(&steps, 1, 1, None, false);
        // The longest path: loads up to some step, computations from it on.
        let path = |k: usize| {
            let loads: u64 = steps[..=k].iter().map(|s| s.load).sum();
            loads + steps[k..].iter().map(|s| s.compute).sum::<u64>()
        };
        prop_assert_eq!(cycles, (0..steps.len()).map(path).max().unwrap());
        let equal = vec![steps[0]; steps.len()];
        let n = steps.len() as u64;
        let (load, compute) = (steps[0].load, steps[0].compute);
        prop_assert_eq!(pipeline(&equal, 1, 1, None, false), n * load.max(compute) + load.min(compute));
        // Equal steps fill two buffers as well as any number.
        prop_assert_eq!(pipeline(&equal, 1, 1, Some(2), true), n * load.max(compute) + load.min(compute));
    }

    #[test]
    fn bandwidth_buffers_ports_and_units_never_cost_time(
        steps in steps(), ports in 1u32..3, units in 1u32..3, buffers in 1u32..5, cut in 1u64..4,
    ) {
        let cycles = pipeline(&steps, ports, units, Some(buffers), false);
        prop_assert!(pipeline(&steps, ports, units, Some(buffers + 1), false) <= cycles);
        prop_assert!(pipeline(&steps, ports, units, None, false) <= cycles);
        prop_assert!(pipeline(&steps, ports + 1, units, Some(buffers), false) <= cycles);
        prop_assert!(pipeline(&steps, ports, units + 1, Some(buffers), false) <= cycles);
        let faster: Vec<Step> = steps.iter().map(|s| Step { load: s.load / cut, ..*s }).collect();
        prop_assert!(pipeline(&faster, ports, units, Some(buffers), false) <= cycles);
        let stronger: Vec<Step> = steps.iter().map(|s| Step { compute: s.compute / cut, ..*s }).collect();
        prop_assert!(pipeline(&stronger, ports, units, Some(buffers), false) <= cycles);
        let loads: u64 = steps.iter().map(|s| s.load).sum();
        let computes: u64 = steps.iter().map(|s| s.compute).sum();
        prop_assert!(cycles >= loads.div_ceil(ports.into()).max(computes.div_ceil(units.into())));
        prop_assert!(cycles <= loads + computes);
    }

    #[test]
    fn a_shared_memory_is_fair_and_never_faster_than_its_bandwidth(
        streams in proptest::collection::vec(proptest::collection::vec(0u64..500, 0..6), 1..4), bytes in 1u64..64,
    ) {
        let cycles = shared(&streams, bytes);
        let total: u64 = streams.iter().flatten().sum();
        let longest = streams.iter().map(|s| s.iter().sum::<u64>()).max().unwrap();
        prop_assert!(cycles >= longest.max((16 * total).div_ceil(bytes)));
        // Each change of the set of transfers may round up by a cycle.
        let events = streams.iter().flatten().count() as u64;
        prop_assert!(cycles <= (16 * total).div_ceil(bytes).max(longest).max(total) + events);
        prop_assert!(shared(&streams, bytes + 1) <= cycles + events);
        if bytes >= 16 * streams.len() as u64 {
            prop_assert_eq!(cycles, longest);
        }
        let equal = vec![vec![300]; 3];
        prop_assert_eq!(shared(&equal, bytes), (3 * 300 * 16u64).div_ceil(bytes).max(300));
    }
}

fn toy(moe: bool) -> ModelGraph {
    VitSpec {
        image: [8, 8],
        patch: 2,
        channels: 1,
        dim: 64,
        depth: 3,
        heads: 4,
        mlp_hidden: 96,
        moe: moe.then_some(MoeSpec { experts: 8, top_k: 2, hidden: 48, gates: 1, blocks: MoeBlocks::Odd }),
        ..VitSpec::default()
    }
    .graph()
    .unwrap()
}

fn toy_trace(tokens: &[Vec<u16>]) -> RoutingTrace {
    let layer = TraceLayer { id: "blk.1".into(), experts: 8, top_k: 2, d_model: 64, d_hidden: 48 };
    let mut trace = RoutingTrace::new(TraceHeader::new("toy", vec!["task".into()], 17, vec![layer])).unwrap();
    trace.push(TraceRecord::tokens(0, 0, "blk.1", tokens.to_vec())).unwrap();
    trace
}

fn toy_tokens() -> impl Strategy<Value = Vec<Vec<u16>>> {
    let token = (0u16..8, 1u16..8).prop_map(|(first, step)| vec![first, (first + step) % 8]);
    proptest::collection::vec(token, 17)
}

fn accelerators() -> impl Strategy<Value = Accelerator> {
    let schedule = prop_oneof![
        Just(MoeSchedule::AllResident),
        (0u32..=8).prop_map(|cache_experts| MoeSchedule::TokenByToken { cache_experts }),
        (any::<bool>(), any::<bool>(), any::<bool>()).prop_map(|(prefetch, matrix, early)| {
            MoeSchedule::ExpertByExpert {
                prefetch,
                granularity: if matrix { Granularity::Matrix } else { Granularity::Expert },
                first_load: if early { FirstLoad::Speculative } else { FirstLoad::AfterGate },
            }
        }),
    ];
    (schedule, 1u32..2048, 1u32..=6, 0u32..100, 1e-2..1.0f64, any::<bool>()).prop_map(
        |(schedule, units, ports, latency, efficiency, vector)| {
            let mut a = zcu104_m3vit().unwrap().with_schedule(schedule);
            a.engine = Engine::MacPool(MacPool { units });
            a.port.count = ports;
            a.port.burst_latency = latency;
            a.dram_efficiency = efficiency;
            a.vector = vector.then_some(VectorUnit { lanes: 4, row_latency: 30 });
            a
        },
    )
}

const OVERLAPS: [Overlap; 3] = [Overlap::Free, Overlap::Barrier, Overlap::Serial];

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn a_dense_network_with_barriers_takes_the_cycles_of_the_closed_form(a in accelerators()) {
        let graph = toy(false);
        let closed = Analytical.model(&graph, &a, Routing::Uniform).unwrap();
        let run = |overlap, weight_buffers| {
            let options = SimOptions { overlap, weight_buffers, ..SimOptions::default() };
            EventSim::default().simulate(&graph, &a, Routing::Uniform, options).unwrap().report
        };
        let barrier = run(Overlap::Barrier, Some(2));
        prop_assert_eq!(&barrier, &closed);
        prop_assert!(run(Overlap::Free, Some(2)).cycles <= closed.cycles);
        prop_assert!(run(Overlap::Free, Some(3)).cycles <= run(Overlap::Free, Some(2)).cycles);
        prop_assert!(run(Overlap::Free, None).cycles <= run(Overlap::Free, Some(3)).cycles);
        prop_assert!(run(Overlap::Serial, Some(2)).cycles >= closed.cycles);
    }

    #[test]
    fn a_network_with_experts_stays_within_its_brackets(a in accelerators(), tokens in toy_tokens()) {
        let (graph, trace) = (toy(true), toy_trace(&tokens));
        let routing = Routing::Trace { trace: &trace, image: 0, task: 0 };
        let mut before = 0;
        for overlap in OVERLAPS {
            let options = SimOptions { overlap, ..SimOptions::default() };
            let run = EventSim { record: true }.simulate(&graph, &a, routing, options).unwrap();
            let report = &run.report;
            let compute: u64 = report.layers.iter().map(|l| l.compute_cycles).sum();
            let load: u64 = report.layers.iter().map(|l| l.load_cycles).sum();
            prop_assert!(report.cycles >= before.max(compute).max(load));
            prop_assert!(report.cycles <= compute + load);
            for l in &report.layers {
                prop_assert_eq!(l.cycles, l.compute_cycles + l.exposed_cycles);
            }
            before = report.cycles;
        }
    }

    #[test]
    fn one_layer_takes_the_cycles_of_its_closed_form(a in accelerators(), tokens in toy_tokens()) {
        let shape = toy(true).moe_layers().next().unwrap().1;
        for routing in [LayerRouting::Tokens(&tokens), LayerRouting::Uniform] {
            if matches!((a.schedule, &routing), (MoeSchedule::TokenByToken { .. }, LayerRouting::Uniform)) {
                continue; // an expectation, not a sequence
            }
            let closed = moe_cost("blk.1", &shape, &a, &routing).unwrap();
            for overlap in [Overlap::Free, Overlap::Barrier] {
                let options = SimOptions { overlap, ..SimOptions::default() };
                let mut layer = LayerSim::new("blk.1", &shape, &a, options).unwrap();
                let run = layer.run(&routing).unwrap();
                prop_assert_eq!(run.cycles, closed.first_load_cycles + closed.steady_cycles);
                prop_assert_eq!(run.compute_cycles, closed.compute_cycles);
                prop_assert_eq!(run.load_cycles, closed.load_cycles);
                prop_assert_eq!(run.weight_bytes, closed.weight_bytes);
                prop_assert_eq!(run.expert_loads, closed.expert_loads);
                prop_assert_eq!(layer.timeline(&routing).unwrap().cycles, run.cycles);
            }
        }
    }

    #[test]
    fn no_order_of_experts_is_worse_than_the_index_with_best(a in accelerators(), tokens in toy_tokens()) {
        let a = match a.schedule {
            MoeSchedule::ExpertByExpert { .. } => a,
            _ => a.with_schedule(MoeSchedule::reordered()),
        };
        let shape = toy(true).moe_layers().next().unwrap().1;
        let cycles = |order| {
            let options = SimOptions { order, ..SimOptions::default() };
            let mut layer = LayerSim::new("blk.1", &shape, &a, options).unwrap();
            layer.run(&LayerRouting::Tokens(&tokens)).unwrap().cycles
        };
        let index = cycles(ExpertOrder::Index);
        for order in [ExpertOrder::ShortestLast, ExpertOrder::Johnson, ExpertOrder::Best] {
            prop_assert!(cycles(order) <= index, "{:?}", order);
        }
        prop_assert!(cycles(ExpertOrder::Exhaustive) <= cycles(ExpertOrder::Best));
    }
}
