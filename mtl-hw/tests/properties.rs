//! Invariants of costs and routing.
#![allow(clippy::expect_used, clippy::unwrap_used)]

use mtl_hw::cost::engine::{Dataflow, Engine, MacPool, Systolic, Tile};
use mtl_hw::cost::{
    Accelerator, Analytical, CostModel, FirstLoad, GateUnit, Granularity, MoeSchedule, VectorUnit, moe_cost,
};
use mtl_hw::graph::{ModelGraph, MoeBlocks, MoeShape, MoeSpec, VitSpec};
use mtl_hw::presets::zcu104_m3vit;
use mtl_hw::routing::{LayerRouting, Routing, RoutingTrace, TraceHeader, TraceLayer, TraceRecord, lru_curve};
use proptest::prelude::*;

const TOKENS: u64 = 17;
const EXPERTS: u64 = 8;

fn graph() -> ModelGraph {
    VitSpec {
        image: [8, 8],
        patch: 2,
        channels: 1,
        dim: 64,
        depth: 3,
        heads: 4,
        mlp_hidden: 96,
        moe: Some(MoeSpec { experts: 8, top_k: 2, hidden: 48, gates: 1, blocks: MoeBlocks::Odd }),
        ..VitSpec::default()
    }
    .graph()
    .unwrap()
}

fn shape() -> MoeShape {
    graph().moe_layers().next().unwrap().1
}

fn schedules() -> impl Strategy<Value = MoeSchedule> {
    prop_oneof![
        Just(MoeSchedule::AllResident),
        (0u32..=8).prop_map(|cache_experts| MoeSchedule::TokenByToken { cache_experts }),
        (any::<bool>(), any::<bool>(), any::<bool>()).prop_map(|(prefetch, matrix, early)| {
            MoeSchedule::ExpertByExpert {
                prefetch,
                granularity: if matrix { Granularity::Matrix } else { Granularity::Expert },
                first_load: if early { FirstLoad::Speculative } else { FirstLoad::AfterGate },
            }
        }),
    ]
}

fn engines() -> impl Strategy<Value = Engine> {
    prop_oneof![
        (1u32..2048).prop_map(|units| Engine::MacPool(MacPool { units })),
        (1u32..32, 1u32..32, 0u8..3).prop_map(|(rows, cols, flow)| {
            let flow = match flow {
                0 => Dataflow::OutputStationary,
                1 => Dataflow::WeightStationary,
                _ => Dataflow::InputStationary,
            };
            Engine::Systolic(Systolic { rows, cols, flow })
        }),
        (1u32..32, 1u32..32).prop_map(|(t_in, t_out)| Engine::Tile(Tile { t_in, t_out, ii: 1, depth: 7 })),
    ]
}

/// Accelerators whose clock leaves room for a factor of four.
fn accelerators() -> impl Strategy<Value = Accelerator> {
    (schedules(), engines(), 1u32..=6, 0u32..100, 1e-3..1.0f64, any::<bool>()).prop_map(
        |(schedule, engine, ports, latency, efficiency, vector)| {
            let mut a = zcu104_m3vit().unwrap().with_schedule(schedule);
            a.clock_mhz = 75.0;
            a.engine = engine;
            a.port.count = ports;
            a.port.burst_latency = latency;
            a.dram_efficiency = efficiency;
            a.gate = if vector { GateUnit::MatrixEngine } else { a.gate };
            a.vector = vector.then_some(VectorUnit { lanes: 4, row_latency: 30 });
            a
        },
    )
}

/// Two different experts for each token.
fn traces() -> impl Strategy<Value = Vec<Vec<u16>>> {
    let token = (0u16..8, 1u16..8).prop_map(|(first, step)| vec![first, (first + step) % 8]);
    proptest::collection::vec(token, TOKENS as usize)
}

fn trace_of(tokens: &[Vec<u16>]) -> RoutingTrace {
    let layer = TraceLayer { id: "blk.1".into(), experts: EXPERTS, top_k: 2, d_model: 64, d_hidden: 48 };
    let mut trace =
        RoutingTrace::new(TraceHeader::new("toy", vec!["task".into()], TOKENS, vec![layer])).unwrap();
    trace.push(TraceRecord::tokens(0, 0, "blk.1", tokens.to_vec())).unwrap();
    trace
}

fn seconds(accelerator: &Accelerator, trace: &RoutingTrace) -> f64 {
    let routing = Routing::Trace { trace, image: 0, task: 0 };
    Analytical.model(&graph(), accelerator, routing).unwrap().latency_s()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn more_bandwidth_never_costs_time(a in accelerators(), tokens in traces()) {
        let trace = trace_of(&tokens);
        let mut faster = a.clone();
        faster.dram_efficiency = (2.0 * a.dram_efficiency).min(1.0);
        prop_assert!(seconds(&faster, &trace) <= seconds(&a, &trace));
        let mut wider = a.clone();
        wider.port.count = 6;
        prop_assert!(seconds(&wider, &trace) <= seconds(&a, &trace));
    }

    #[test]
    fn a_multiple_of_the_clock_never_costs_time(a in accelerators(), tokens in traces(), factor in 2u32..=4) {
        // Whole multiples: with others, rounding up to cycles may cost one per load.
        let trace = trace_of(&tokens);
        let mut faster = a.clone();
        faster.clock_mhz *= f64::from(factor);
        prop_assert!(seconds(&faster, &trace) <= seconds(&a, &trace) * (1.0 + 1e-12));
    }

    #[test]
    fn latency_lies_between_the_busiest_resource_and_no_overlap(a in accelerators(), tokens in traces()) {
        let trace = trace_of(&tokens);
        let report = Analytical.model(&graph(), &a, Routing::Trace { trace: &trace, image: 0, task: 0 }).unwrap();
        let compute: u64 = report.layers.iter().map(|l| l.compute_cycles).sum();
        let load: u64 = report.layers.iter().map(|l| l.load_cycles).sum();
        prop_assert!(report.cycles >= compute.max(load));
        prop_assert!(report.cycles <= compute + load);
        for l in &report.layers {
            prop_assert_eq!(l.cycles, l.compute_cycles + l.exposed_cycles);
        }
    }

    #[test]
    fn expert_by_expert_loads_least_and_ignores_token_order(tokens in traces(), cache in 0u32..=8) {
        let bytes = |schedule, tokens: &[Vec<u16>]| {
            let a = zcu104_m3vit().unwrap().with_schedule(schedule);
            moe_cost("blk.1", &shape(), &a, &LayerRouting::Tokens(tokens)).unwrap()
        };
        let reordered = bytes(MoeSchedule::reordered(), &tokens);
        let cached = bytes(MoeSchedule::TokenByToken { cache_experts: cache }, &tokens);
        let uncached = bytes(MoeSchedule::TokenByToken { cache_experts: 0 }, &tokens);
        prop_assert!(reordered.weight_bytes <= cached.weight_bytes);
        prop_assert!(cached.weight_bytes <= uncached.weight_bytes);
        prop_assert!(reordered.weight_bytes <= bytes(MoeSchedule::AllResident, &tokens).weight_bytes);
        let mut reversed = tokens.clone();
        reversed.reverse();
        prop_assert_eq!(bytes(MoeSchedule::reordered(), &reversed), reordered);
    }

    #[test]
    fn prefetching_never_costs_time(tokens in traces(), units in 1u32..2048, matrix in any::<bool>()) {
        let cycles = |prefetch| {
            let mut a = zcu104_m3vit().unwrap().with_schedule(MoeSchedule::ExpertByExpert {
                prefetch,
                granularity: if matrix { Granularity::Matrix } else { Granularity::Expert },
                first_load: FirstLoad::AfterGate,
            });
            a.engine = Engine::MacPool(MacPool { units });
            moe_cost("blk.1", &shape(), &a, &LayerRouting::Tokens(&tokens)).unwrap().steady_cycles
        };
        prop_assert!(cycles(true) <= cycles(false));
    }

    #[test]
    fn a_larger_cache_never_misses_more(tokens in traces()) {
        let curve = lru_curve(&tokens, 8);
        prop_assert!(curve.windows(2).all(|w| w[1] <= w[0]));
        let active = LayerRouting::Tokens(&tokens).queues(&shape()).unwrap().iter().filter(|&&n| n > 0).count();
        prop_assert_eq!(curve[7], active as u64); // compulsory misses only
    }

    #[test]
    fn arbitrary_text_is_an_error_not_a_panic(text in "\\PC{0,200}") {
        prop_assert!(ModelGraph::from_toml(&text).is_err());
        prop_assert!(ModelGraph::from_json(&text).is_err());
        prop_assert!(mtl_hw::platform::Platform::from_toml(&text).is_err());
        prop_assert!(RoutingTrace::read(text.as_bytes()).is_err());
    }

    #[test]
    fn absurd_dimensions_are_an_error_not_a_panic(
        image in any::<[u32; 2]>(), patch in any::<u32>(), dim in any::<u32>(), heads in 1u32..4, hidden in any::<u32>(),
        units in any::<u32>(),
    ) {
        let spec = VitSpec { image, patch, dim: dim - dim % heads, heads, mlp_hidden: hidden, depth: 2, ..VitSpec::default() };
        if let Ok(graph) = spec.graph() {
            let mut a = zcu104_m3vit().unwrap();
            a.engine = Engine::MacPool(MacPool { units });
            // Either outcome is fine; arithmetic must not wrap, which debug builds turn into a panic.
            let _ = Analytical.model(&graph, &a, Routing::Uniform);
        }
    }
}
