//! Events per second of the task simulator, and a thousand images of routing through all layers.
//!
//! `cargo bench -p mtl-hw --bench simulator`; divan reports items (events, expert choices) per second.
#![allow(clippy::expect_used, clippy::unwrap_used)]
use divan::{Bencher, counter::ItemsCount};
use mtl_hw::cost::{CostModel, MoeSchedule};
use mtl_hw::presets;
use mtl_hw::routing::{PackedTrace, Routing, SyntheticRouting, TraceSummary};
use mtl_hw::sim::{EventSim, SharedMemory, SimOptions, TaskGraph, sweep};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

fn main() {
    divan::main();
}

/// Loads on two ports, computations and stores on two units, with double buffers.
fn pipeline(steps: u64, transfers: bool) -> TaskGraph {
    let mut graph = TaskGraph::new();
    if transfers {
        graph.share(SharedMemory::new(24, 1).unwrap());
    }
    let ports = [graph.resource(1).unwrap(), graph.resource(1).unwrap()];
    let units = [graph.resource(1).unwrap(), graph.resource(1).unwrap()];
    let pool = graph.pool(2).unwrap();
    for i in 0..steps {
        let (load_cycles, compute_cycles) = (100 + i % 37, 90 + i % 53);
        let load = if transfers {
            graph.transfer(ports[0], load_cycles, 16).unwrap()
        } else {
            graph.task(ports[0], load_cycles).unwrap()
        };
        graph.acquire(load, pool).unwrap();
        let compute = graph.task(units[0], compute_cycles).unwrap();
        graph.after(compute, load).unwrap();
        graph.release(compute, pool).unwrap();
        let post = graph.task(units[1], 20).unwrap();
        graph.after(post, compute).unwrap();
        let store = if transfers {
            graph.transfer(ports[1], 40, 16).unwrap()
        } else {
            graph.task(ports[1], 40).unwrap()
        };
        graph.after(store, post).unwrap();
    }
    graph
}

#[divan::bench(sample_count = 20)]
fn events(bencher: Bencher<'_, '_>) {
    let graph = pipeline(50_000, false);
    let mut simulator = graph.simulator();
    bencher.counter(ItemsCount::new(graph.len())).bench_local(|| simulator.run().unwrap());
}

#[divan::bench(sample_count = 20)]
fn events_with_shared_memory(bencher: Bencher<'_, '_>) {
    let graph = pipeline(50_000, true);
    let mut simulator = graph.simulator();
    bencher.counter(ItemsCount::new(graph.len())).bench_local(|| simulator.run().unwrap());
}

/// 1000 images × 12 layers × 2 tasks × 197 tokens, two experts of sixteen each.
fn thousand_images() -> PackedTrace {
    let config = SyntheticRouting {
        images: 1000,
        layers: 12,
        zipf: 0.8,
        stickiness: 0.4,
        task_overlap: 0.5,
        ..SyntheticRouting::default()
    };
    config.generate(&mut ChaCha8Rng::seed_from_u64(0)).unwrap()
}

const BOTH: [MoeSchedule; 2] = [
    MoeSchedule::ExpertByExpert {
        prefetch: true,
        granularity: mtl_hw::cost::Granularity::Matrix,
        first_load: mtl_hw::cost::FirstLoad::AfterGate,
    },
    MoeSchedule::TokenByToken { cache_experts: 4 },
];

#[divan::bench(sample_count = 5)]
fn queues_and_cache_of_a_thousand_images(bencher: Bencher<'_, '_>) {
    let (trace, accelerator) = (thousand_images(), presets::zcu104_m3vit().unwrap());
    bencher
        .counter(ItemsCount::new(trace.choices()))
        .bench_local(|| sweep(&trace, &accelerator, &BOTH, SimOptions::default()).unwrap());
}

#[divan::bench(sample_count = 5)]
fn statistics_of_a_thousand_images(bencher: Bencher<'_, '_>) {
    let trace = thousand_images();
    bencher.counter(ItemsCount::new(trace.choices())).bench_local(|| TraceSummary::of(&trace).unwrap());
}

#[divan::bench(sample_count = 5)]
fn drawing_a_thousand_images(bencher: Bencher<'_, '_>) {
    bencher.bench_local(thousand_images);
}

#[divan::bench(sample_count = 5)]
fn reading_a_thousand_images(bencher: Bencher<'_, '_>) {
    let trace = thousand_images();
    let mut bytes = Vec::new();
    trace.write_binary(&mut bytes).unwrap();
    bencher
        .counter(ItemsCount::new(trace.choices()))
        .bench_local(|| PackedTrace::read_binary(bytes.as_slice()).unwrap());
}

#[divan::bench(sample_count = 50)]
fn whole_network(bencher: Bencher<'_, '_>) {
    let graph = presets::m3vit_small(512, 512).unwrap();
    let accelerator = presets::zcu104_m3vit().unwrap();
    bencher.bench_local(|| EventSim::default().model(&graph, &accelerator, Routing::Uniform).unwrap());
}
