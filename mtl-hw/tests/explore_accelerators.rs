//! Search over transformer accelerators: strategies against each other, the evaluator against the cost model.
#![allow(clippy::expect_used, clippy::unwrap_used, clippy::print_stdout)]

mod accelerators;

use accelerators::{dense, experts, overlapped, run, spaces};
use mtl_hw::HwError;
use mtl_hw::cost::engine::{Dataflow, Engine, Systolic, Tile};
use mtl_hw::cost::{Analytical, CostModel, FirstLoad, GateUnit, Granularity, MoeSchedule, VectorUnit};
use mtl_hw::explore::transformer::{DesignDims, EngineKind, Storage, Transformer, TransformerSpec, Workload};
use mtl_hw::explore::{
    Bound, Budget, Ended, Evaluate, Explorer, Fractions, Goal, Nsga2Config, Partial, Point, Rejection, Space,
    Strategy, explore,
};
use mtl_hw::graph::{ModelGraph, MoeSpec, VitSpec};
use mtl_hw::presets::zcu104_m3vit;
use mtl_hw::routing::Routing;
use proptest::prelude::{TestCaseError, any, prop_assert};

#[test]
fn branch_and_bound_returns_the_exhaustive_front_from_a_fifth_of_the_points() {
    for (name, t) in spaces() {
        assert!(t.space().points() >= 100_000, "{name}: {}", t.space().points());
        let all = run(&t, Strategy::Exhaustive);
        let bounded = run(&t, Strategy::BranchAndBound);
        println!("{name}: {all} in {:?}", all.elapsed);
        println!("{name}: {bounded}, {} bounds in {:?}", bounded.bounds, bounded.elapsed);
        assert_eq!(all.ended, Ended::Complete);
        assert_eq!(bounded.ended, Ended::Complete);
        assert!(
            bounded.front == all.front,
            "{name}: fronts of {} and {} points",
            bounded.front.points.len(),
            all.front.points.len()
        );
        assert!(bounded.visited() < 0.2, "{name}: {}", bounded.visited());
    }
}

#[test]
fn nsga2_reaches_98_percent_of_the_volume_with_5_percent_of_the_evaluations() {
    for (name, t) in spaces() {
        let all = run(&t, Strategy::Exhaustive);
        let reference = all.front.nadir(0.1);
        let best = all.front.hypervolume(&reference).unwrap();
        let budget = (t.space().points() / 20) as u64;
        let mut worst = 1.0f64;
        let mut most = 0;
        for seed in 0..10 {
            let found = explore(
                t.space(),
                &t,
                &Strategy::Nsga2(Nsga2Config::default()),
                Budget::evaluations(budget),
                seed,
            )
            .unwrap();
            // Points beyond the reference contribute nothing.
            let inside =
                found.front.costs().into_iter().filter(|c| c.iter().zip(&reference).all(|(v, r)| v <= r));
            let volume = mtl_hw::explore::hypervolume(&inside.collect::<Vec<_>>(), &reference).unwrap();
            worst = worst.min(volume / best);
            most = most.max(found.evaluated);
            assert!(found.evaluated <= budget && found.unexplored() > 0.0);
        }
        println!(
            "{name}: {:.3} % of the volume from at most {most} of {} points",
            100.0 * worst,
            t.space().points()
        );
        assert!(worst >= 0.98, "{name}: {worst}");
    }
}

/// A point of a space from one number per dimension.
fn point(space: &Space, raw: &[u32]) -> Point {
    Point::new(space.sizes().zip(raw).map(|(n, r)| r % n).collect())
}

#[test]
fn bounds_are_never_above_a_point_below_them() {
    for (name, t) in spaces() {
        for (p, o) in &run(&t, Strategy::Exhaustive).front.points {
            for len in 1..14 {
                let Bound::AtLeast(low) = t.lower_bound(&Partial::new(t.space(), &p.indices()[..len])) else {
                    panic!("{name}: {} has no bound at {len}", t.space().describe(p));
                };
                for goal in Goal::defaults() {
                    assert!(goal.cost(&low) <= goal.cost(o), "{name} {goal} at {len}: {low:?} {o:?}");
                }
            }
        }
        let mut runner = proptest::test_runner::TestRunner::deterministic();
        let cases = (proptest::collection::vec(any::<u32>(), 14), 1usize..14);
        runner
            .run(&cases, |(raw, len)| {
                let p = point(t.space(), &raw);
                let bound = t.lower_bound(&Partial::new(t.space(), &p.indices()[..len]));
                match (bound, t.eval(&p)) {
                    (Bound::AtLeast(low), Ok(o)) => {
                        for goal in
                            [Goal::Latency, Goal::LatencyP95, Goal::Energy, Goal::MaxResource, Goal::Memory]
                        {
                            prop_assert!(goal.cost(&low) <= goal.cost(&o), "{name} {goal} {low:?} {o:?}");
                        }
                    }
                    (Bound::Infeasible(v), outcome) => {
                        let Err(Rejection::Infeasible(broken)) = outcome else {
                            return Err(TestCaseError::fail(format!("{name}: {v:?} but {outcome:?}")));
                        };
                        let same = broken.iter().find(|b| b.constraint == v.constraint).unwrap();
                        prop_assert!(same.margin >= v.margin);
                    }
                    _ => {}
                }
                Ok(())
            })
            .unwrap();
    }
}

/// Buffers and ceilings that leave the layers whole and the activations on chip.
fn roomy(graph: &ModelGraph, routing: Routing<'_>) -> TransformerSpec {
    let mut base = zcu104_m3vit().unwrap();
    base.gate = GateUnit::MatrixEngine;
    base.vector = Some(VectorUnit { lanes: 16, row_latency: 20 });
    base.port.burst_latency = 30;
    let mut spec = TransformerSpec::new(base, vec![Workload::new(graph, &[routing]).unwrap()]);
    spec.limits.ceilings = Fractions { lut: 1e6, ff: 1e6, ramb18: 1e6, uram: 1e6, dsp: 1e6 };
    spec.fabric.clock_derate = 1.0;
    let by =
        |prefetch, granularity, first_load| MoeSchedule::ExpertByExpert { prefetch, granularity, first_load };
    spec.dims = DesignDims {
        kinds: vec![
            EngineKind::Tile,
            EngineKind::OutputStationary,
            EngineKind::WeightStationary,
            EngineKind::InputStationary,
        ],
        rows: vec![4, 24, 64],
        cols: vec![8, 48],
        copies: vec![1],
        activation_bits: vec![16],
        weight_bits: vec![8, 16],
        attention_p: vec![0],
        attention_u: vec![8],
        schedules: vec![
            MoeSchedule::AllResident,
            MoeSchedule::TokenByToken { cache_experts: 0 },
            MoeSchedule::TokenByToken { cache_experts: 5 },
            by(true, Granularity::Expert, FirstLoad::Speculative),
            by(true, Granularity::Matrix, FirstLoad::AfterGate),
            by(false, Granularity::Expert, FirstLoad::AfterGate),
            by(false, Granularity::Matrix, FirstLoad::Speculative),
        ],
        clock_mhz: vec![100, 300],
        ports: vec![1, 4],
        weight_kib: vec![1 << 20],
        activation_kib: vec![1 << 20],
        storage: vec![Storage::BlockRam],
    };
    spec
}

#[test]
fn with_one_engine_and_room_for_everything_cycles_equal_the_analytical_model() {
    let moe = VitSpec::tiny().moe(MoeSpec { hidden: 192, ..MoeSpec::default() }).graph().unwrap();
    for graph in [VitSpec::small().graph().unwrap(), moe] {
        let spec = roomy(&graph, Routing::Uniform);
        let t = spec.clone().build().unwrap();
        let mut p = t.space().point_at(0);
        for i in 0..t.space().points() {
            p.clone_from(&t.space().point_at(i));
            let value = |name: &str| {
                let dim = t.space().dims().iter().position(|d| d.name() == name).unwrap();
                (p.index(dim), t.space().value(dim, p.index(dim)) as u32)
            };
            let (rows, cols) = (value("rows").1, value("cols").1);
            let systolic = |flow| Engine::Systolic(Systolic { rows, cols, flow });
            let mut a = spec.base.clone();
            a.engine = match value("engine").0 {
                0 => Engine::Tile(Tile { t_in: rows, t_out: cols, ii: 1, depth: 0 }),
                1 => systolic(Dataflow::OutputStationary),
                2 => systolic(Dataflow::WeightStationary),
                _ => systolic(Dataflow::InputStationary),
            };
            a.precision.weight_bits = value("weight_bits").1;
            a.clock_mhz = value("clock_mhz").1.into();
            a.port.count = value("ports").1;
            a.schedule = spec.dims.schedules[value("schedule").0 as usize];
            let report = Analytical.model(&graph, &a, Routing::Uniform).unwrap();
            let ours = t.eval(&p).unwrap().latency_s;
            assert!(
                (ours / report.latency_s() - 1.0).abs() < 1e-12,
                "{} {ours} {}",
                t.space().describe(&p),
                report.latency_s()
            );
        }
    }
}

#[test]
fn several_routings_give_mean_and_95th_percentile() {
    let graph = VitSpec::tiny()
        .moe(MoeSpec { experts: 4, top_k: 1, hidden: 768, ..MoeSpec::default() })
        .graph()
        .unwrap();
    let histograms: [[u64; 4]; 3] = [[197, 0, 0, 0], [50, 49, 49, 49], [100, 97, 0, 0]];
    let build = |routings: &[Routing<'_>]| {
        let mut spec = roomy(&graph, Routing::Uniform);
        spec.workloads = vec![Workload::new(&graph, routings).unwrap()];
        spec.dims.schedules.retain(|s| !matches!(s, MoeSchedule::TokenByToken { cache_experts: 5 }));
        spec.build().unwrap()
    };
    let all: Vec<Routing<'_>> = histograms.iter().map(|h| Routing::Histogram(h)).collect();
    let joint = build(&all);
    let single: Vec<Transformer> = all.iter().map(|r| build(&[*r])).collect();
    for i in (0..joint.space().points()).step_by(7) {
        let p = joint.space().point_at(i);
        let o = joint.eval(&p).unwrap();
        let each: Vec<f64> = single.iter().map(|t| t.eval(&p).unwrap().latency_s).collect();
        assert!((o.latency_s - each.iter().sum::<f64>() / 3.0).abs() < 1e-12);
        assert!((o.latency_p95_s - each.iter().copied().fold(0.0, f64::max)).abs() < 1e-12);
    }
    let mut cached = roomy(&graph, Routing::Uniform);
    cached.dims.schedules = vec![MoeSchedule::TokenByToken { cache_experts: 2 }];
    cached.workloads = vec![Workload::new(&graph, &all).unwrap()];
    assert!(matches!(cached.build().unwrap_err(), HwError::NeedsTrace { .. }));
}

#[test]
fn points_computed_from_formulas_equal_points_from_tables() {
    for (name, t) in spaces() {
        let mut spec = t.spec().clone();
        spec.memoise = false;
        let direct = spec.build().unwrap();
        for i in 0..500u128 {
            let p = t.space().point_at(i * 7919 * 31 % t.space().points());
            assert_eq!(t.eval(&p), direct.eval(&p), "{name} {}", t.space().describe(&p));
        }
    }
}

#[test]
fn results_do_not_depend_on_the_number_of_threads() {
    let t = experts();
    let strategies = [
        Strategy::Exhaustive,
        Strategy::BranchAndBound,
        Strategy::Nsga2(Nsga2Config { generations: 10, ..Nsga2Config::default() }),
        Strategy::Random { n: 3000 },
        Strategy::UbiMoe,
    ];
    for strategy in strategies {
        let with = |threads| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| run(&t, strategy.clone()))
        };
        let (one, four) = (with(1), with(4));
        assert!(one.front == four.front, "{strategy:?}");
        assert_eq!((one.evaluated, one.pruned, one.bounds), (four.evaluated, four.pruned, four.bounds));
        assert_eq!(one.violations, four.violations);
    }
}

#[test]
fn the_two_stages_of_ubimoe_balance_attention_and_the_rest() {
    let t = overlapped();
    let heuristic = run(&t, Strategy::UbiMoe);
    let all = run(&t, Strategy::Exhaustive);
    println!("{heuristic}");
    // A baseline: a few hundred designs, none better than the exhaustive front.
    assert!(heuristic.evaluated < 1000);
    let fastest = |e: &mtl_hw::explore::Exploration| e.front.points[0].1.latency_s;
    println!("UbiMoE {} ms, best {} ms", 1e3 * fastest(&heuristic), 1e3 * fastest(&all));
    assert!(fastest(&heuristic) >= fastest(&all) && fastest(&heuristic) <= 1.5 * fastest(&all));
    // The fastest design of all keeps attention apart from the linear layers.
    let attention = t.space().dims().iter().position(|d| d.name() == "attention").unwrap();
    let text =
        |e: &mtl_hw::explore::Exploration| t.space().text(attention, e.front.points[0].0.index(attention));
    assert_ne!(text(&all), "shared");
    assert_ne!(text(&heuristic), "shared");
}

#[test]
fn contradictory_constraints_name_the_one_that_excludes_everything() {
    let mut spec = dense().spec().clone();
    spec.limits.latency_s = Some(1e-6);
    let t = spec.clone().build().unwrap();
    for strategy in [Strategy::Exhaustive, Strategy::BranchAndBound] {
        let error = Explorer::new(t.space(), &t).strategy(strategy).run().unwrap_err().to_string();
        assert!(error.starts_with("`constraint."), "{error}");
        assert!(error.contains("latency"), "{error}");
    }
    spec.limits.latency_s = None;
    spec.limits.ceilings.dsp = 1e-4;
    let t = spec.build().unwrap();
    for strategy in [Strategy::Exhaustive, Strategy::BranchAndBound, Strategy::Random { n: 50 }] {
        let error = Explorer::new(t.space(), &t).strategy(strategy).run().unwrap_err().to_string();
        assert!(
            error.starts_with("`constraint.dsp` must be met by at least one point, but is broken by all "),
            "{error}"
        );
    }
}

#[test]
fn accuracy_is_traded_against_latency_over_networks_and_widths() {
    let mut spec = overlapped().spec().clone();
    let vit = |v: VitSpec| Workload::new(&v.graph().unwrap(), &[Routing::Uniform]).unwrap();
    let slim = VitSpec { name: "slim".into(), dim: 96, mlp_hidden: 384, ..VitSpec::tiny() };
    spec.workloads =
        vec![vit(VitSpec::tiny()).accuracy(0.75).accuracy_at(16, 8, 0.74), vit(slim).accuracy(0.6)];
    spec.dims.rows = vec![8, 16];
    spec.dims.cols = vec![8, 16];
    let goals = [Goal::Latency, Goal::Accuracy];
    let t = spec.clone().build().unwrap();
    let explorer = Explorer::new(t.space(), &t).goals(&goals);
    let all = explorer.run().unwrap();
    let bounded = explorer.clone().strategy(Strategy::BranchAndBound).run().unwrap();
    assert!(all.front == bounded.front);
    let accuracies: Vec<_> = all.front.points.iter().map(|(_, o)| o.accuracy.unwrap()).collect();
    assert_eq!(accuracies.first(), Some(&0.6));
    assert_eq!(accuracies.last(), Some(&0.75));
    spec.limits.accuracy = Some(0.7);
    let t = spec.build().unwrap();
    let strict = Explorer::new(t.space(), &t).goals(&goals).strategy(Strategy::BranchAndBound).run().unwrap();
    assert!(strict.front.points.iter().all(|(_, o)| o.accuracy.unwrap() >= 0.7));
}
