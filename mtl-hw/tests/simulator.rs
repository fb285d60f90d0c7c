//! The event-driven simulator against closed forms, golden makespans and its own invariants.
#![allow(clippy::expect_used, clippy::unwrap_used)]

use mtl_hw::cost::engine::{Engine, MacPool};
use mtl_hw::cost::ping_pong::{Step, barrier, free_running, matrix_level, serial};
use mtl_hw::cost::{
    Accelerator, Analytical, CostModel, FirstLoad, Granularity, MoeSchedule, VectorUnit, moe_cost,
};
use mtl_hw::graph::{ModelGraph, MoeBlocks, MoeShape, MoeSpec, VitSpec};
use mtl_hw::presets::{m3vit_small, vit_small_dense, zcu104_m3vit};
use mtl_hw::routing::{LayerRouting, Routing, RoutingTrace, TraceHeader, TraceLayer, TraceRecord};
use mtl_hw::sim::{
    EventSim, ExpertOrder, Job, LayerSim, Overlap, SharedMemory, SimOptions, TaskGraph, makespan,
};
use proptest::prelude::*;
use serde_json::Value;

const CACHED: MoeSchedule = MoeSchedule::TokenByToken { cache_experts: 4 };

fn golden(text: &str) -> Value {
    serde_json::from_str(text).unwrap()
}

fn ints(v: &Value) -> Vec<u64> {
    serde_json::from_value(v.clone()).unwrap()
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
fn errors_are_typed() {
    let graph = m3vit_small(64, 64).unwrap();
    let narrow = |s| zcu104_m3vit().unwrap().with_schedule(s);
    let error = |a: &Accelerator, o: SimOptions| {
        EventSim::default().simulate(&graph, a, Routing::Uniform, o).unwrap_err().to_string()
    };
    let options = SimOptions::default();
    insta::assert_snapshot!(error(&narrow(CACHED), SimOptions { weight_buffers: Some(0), ..options }), @"`weight_buffers` must be from 1 to 65536, but is 0");
    insta::assert_snapshot!(error(&narrow(MoeSchedule::reordered()), SimOptions { order: ExpertOrder::Exhaustive, ..options }), @"`active experts` must be at most 10 for an exhaustive search, but is 16");
    let accelerator = narrow(CACHED);
    let shape = MoeShape { tokens: 129, dim: 192, hidden: 384, experts: 16, top_k: 2 };
    let mut layer = LayerSim::new("blk.1", &shape, &accelerator, options).unwrap();
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
