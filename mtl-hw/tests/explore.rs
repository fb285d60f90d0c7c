//! Design-space exploration: strategies against each other, evaluators against the cost model.
#![allow(clippy::expect_used, clippy::unwrap_used)]

use mtl_hw::HwError;
use mtl_hw::cost::engine::{Dataflow, Engine, Systolic, Tile};
use mtl_hw::cost::{Analytical, CostModel, FirstLoad, GateUnit, Granularity, MoeSchedule, VectorUnit};
use mtl_hw::explore::transformer::{DesignDims, EngineKind, Storage, Transformer, TransformerSpec, Workload};
use mtl_hw::explore::{
    Bound, Budget, Dim, Ended, Evaluate, Explorer, Fractions, Goal, Nsga2Config, Objectives, ParetoFront,
    Partial, Point, Rejection, Space, Strategy, Violation, explore,
};
use mtl_hw::graph::{ModelGraph, MoeSpec, VitSpec};
use mtl_hw::platform::Platform;
use mtl_hw::presets::zcu104_m3vit;
use mtl_hw::routing::Routing;
use proptest::prelude::*;
use proptest::strategy::Strategy as Generate;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

fn spec(graph: &ModelGraph, board: &str) -> TransformerSpec {
    let mut base = zcu104_m3vit().unwrap();
    base.platform = Platform::builtin(board).unwrap();
    TransformerSpec::new(base, vec![Workload::new(graph, &[Routing::Uniform]).unwrap()])
}

/// Dense ViT-small on a ZCU104.
fn dense() -> Transformer {
    let mut spec = spec(&VitSpec::small().graph().unwrap(), "zcu104");
    spec.dims.copies = vec![1, 2];
    spec.dims.clock_mhz = vec![150, 200, 250, 300];
    spec.dims.attention_p = vec![0, 2, 4, 8];
    spec.dims.attention_u = vec![8, 16];
    spec.dims.weight_kib = vec![64, 256];
    spec.dims.activation_kib = vec![128, 512];
    spec.dims.storage = vec![Storage::WeightsInUltraRam];
    spec.dims.kinds = vec![EngineKind::Tile, EngineKind::WeightStationary];
    spec.dims.rows = vec![4, 8, 16, 24, 32, 48];
    spec.dims.cols = vec![4, 8, 16, 24, 32, 48];
    spec.build().unwrap()
}

/// ViT-tiny on a ZCU102, attention apart and in step with another image, as in UbiMoE.
fn overlapped() -> Transformer {
    let mut spec = spec(&VitSpec::tiny().graph().unwrap(), "zcu102");
    spec.overlap_images = true;
    spec.dims = DesignDims {
        kinds: vec![EngineKind::Tile, EngineKind::OutputStationary],
        rows: vec![4, 8, 12, 16, 24, 32],
        cols: vec![4, 8, 12, 16, 24, 32],
        copies: vec![1, 2, 4],
        activation_bits: vec![16],
        weight_bits: vec![8, 16],
        attention_p: vec![0, 1, 2, 4, 8, 16],
        attention_u: vec![4, 8, 16, 32],
        clock_mhz: vec![200, 300],
        ports: vec![1, 2, 4],
        weight_kib: vec![64, 256],
        activation_kib: vec![128],
        storage: vec![Storage::BlockRam],
        ..DesignDims::default()
    };
    spec.build().unwrap()
}

/// M³ViT-small on a ZCU104 under several schedules.
fn experts() -> Transformer {
    let mut spec = spec(&VitSpec::small().moe(MoeSpec::default()).graph().unwrap(), "zcu104");
    let by = |granularity, prefetch| MoeSchedule::ExpertByExpert {
        prefetch,
        granularity,
        first_load: FirstLoad::AfterGate,
    };
    spec.dims = DesignDims {
        kinds: vec![EngineKind::Tile, EngineKind::OutputStationary, EngineKind::WeightStationary],
        rows: vec![4, 8, 16, 32, 48],
        cols: vec![4, 8, 16, 32, 48],
        copies: vec![1, 2, 4],
        activation_bits: vec![8, 16],
        weight_bits: vec![8, 16],
        attention_p: vec![0, 4, 8],
        attention_u: vec![8, 16],
        schedules: vec![
            MoeSchedule::reordered(),
            by(Granularity::Matrix, true),
            by(Granularity::Expert, false),
            MoeSchedule::TokenByToken { cache_experts: 4 },
        ],
        clock_mhz: vec![200, 300],
        ports: vec![1, 4],
        weight_kib: vec![128, 512],
        activation_kib: vec![512],
        storage: vec![Storage::WeightsInUltraRam],
    };
    spec.build().unwrap()
}

fn spaces() -> [(&'static str, Transformer); 3] {
    [("dense ViT-small", dense()), ("overlapped ViT-tiny", overlapped()), ("M³ViT-small", experts())]
}

fn run(t: &Transformer, strategy: Strategy) -> mtl_hw::explore::Exploration {
    Explorer::new(t.space(), t).strategy(strategy).run().unwrap()
}

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

/// Integer costs that add up over dimensions: latency, energy, DSP share; a limit on a fourth sum.
#[derive(Debug, Clone)]
struct Sums {
    space: Space,
    costs: Vec<Vec<[u8; 4]>>,
    limit: f64,
    bounded: bool,
}

impl Sums {
    fn new(costs: Vec<Vec<[u8; 4]>>, limit: f64) -> Self {
        let dim = |(i, list): (usize, &Vec<[u8; 4]>)| Dim::choice(&format!("d{i}"), 0..list.len() as u64);
        let space = Space::new(costs.iter().enumerate().map(dim).collect()).unwrap();
        Self { space, costs, limit, bounded: true }
    }

    fn sums(&self, partial: &Partial<'_>) -> [f64; 4] {
        let mut sums = [0.0; 4];
        for (dim, list) in self.costs.iter().enumerate() {
            for (k, sum) in sums.iter_mut().enumerate() {
                *sum += f64::from(partial.open(dim).map(|i| list[i as usize][k]).min().unwrap());
            }
        }
        sums
    }
}

fn objectives([latency_s, energy_j, dsp, _]: [f64; 4]) -> Objectives {
    let resources = Fractions { dsp, ..Fractions::default() };
    Objectives { latency_s, latency_p95_s: latency_s, energy_j, resources, ..Objectives::default() }
}

impl Evaluate for Sums {
    fn eval(&self, point: &Point) -> Result<Objectives, Rejection> {
        let sums = self.sums(&Partial::new(&self.space, point.indices()));
        match Violation::above("weight", sums[3], self.limit) {
            Some(v) => Err(Rejection::Infeasible(vec![v])),
            None => Ok(objectives(sums)),
        }
    }

    fn lower_bound(&self, partial: &Partial<'_>) -> Bound {
        if !self.bounded {
            return Bound::Unknown;
        }
        let sums = self.sums(partial);
        Violation::above("weight", sums[3], self.limit)
            .map_or(Bound::AtLeast(objectives(sums)), Bound::Infeasible)
    }
}

fn sums() -> impl Generate<Value = Sums> {
    let list = proptest::collection::vec(any::<[u8; 4]>().prop_map(|c| c.map(|v| v % 8)), 1..6);
    (proptest::collection::vec(list, 1..6), 0.0..40.0f64).prop_map(|(costs, limit)| Sums::new(costs, limit))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn branch_and_bound_equals_the_exhaustive_search_on_random_spaces(problem in sums(), n in 1usize..=3) {
        let goals = [Goal::Latency, Goal::Energy, Goal::MaxResource];
        let run = |s: Strategy| Explorer::new(&problem.space, &problem).goals(&goals[..n]).strategy(s).run();
        match (run(Strategy::Exhaustive), run(Strategy::BranchAndBound)) {
            (Ok(all), Ok(bounded)) => {
                prop_assert_eq!(&bounded.front, &all.front);
                prop_assert_eq!(bounded.covered, problem.space.points());
                // Against the definition: nothing dominates a member, everything else is dominated or a larger duplicate.
                let points = (0..problem.space.points()).map(|i| problem.space.point_at(i));
                let feasible: Vec<_> = points.filter_map(|p| Some((p.clone(), problem.eval(&p).ok()?))).collect();
                let cost = |o: &Objectives| goals[..n].iter().map(|g| g.cost(o).unwrap()).collect::<Vec<_>>();
                let expected = feasible.iter().filter(|(p, o)| {
                    !feasible.iter().any(|(q, r)| {
                        let (a, b) = (cost(r), cost(o));
                        a.iter().zip(&b).all(|(x, y)| x <= y) && (a != b || q < p)
                    })
                });
                let mut expected: Vec<Point> = expected.map(|(p, _)| p.clone()).collect();
                let mut found: Vec<Point> = all.front.points.iter().map(|(p, _)| p.clone()).collect();
                expected.sort();
                found.sort();
                prop_assert_eq!(found, expected);
            }
            (Err(a), Err(b)) => prop_assert_eq!(a.to_string(), b.to_string()),
            (a, b) => prop_assert!(false, "{a:?} {b:?}"),
        }
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

/// Whatever a closure says.
struct Fake<F>(F);

impl<F: Fn(&Point) -> Result<Objectives, Rejection> + Sync> Evaluate for Fake<F> {
    fn eval(&self, point: &Point) -> Result<Objectives, Rejection> {
        (self.0)(point)
    }
}

fn line(n: u64) -> Space {
    Space::new(vec![Dim::Range { name: "x".into(), from: 1, to: n, step: 1 }]).unwrap()
}

#[test]
fn nonsense_is_refused() {
    let space = line(10);
    let nan = Fake(|p: &Point| {
        let latency_s = if p.index(0) == 3 { f64::NAN } else { 1.0 };
        Ok(Objectives { latency_s, ..Objectives::default() })
    });
    let error = |e: &dyn Evaluate, goals: &[Goal]| {
        Explorer::new(&space, e).goals(goals).run().unwrap_err().to_string()
    };
    insta::assert_snapshot!(error(&nan, &[Goal::Latency]), @"`objective latency_s` must be finite, but is NaN at x=4");
    insta::assert_snapshot!(error(&nan, &[Goal::Accuracy]), @"`objective accuracy` must be given, but is absent at x=1");
    insta::assert_snapshot!(error(&nan, &[]), @"`goals` must be 1 to 8 different ones, but is []");
    insta::assert_snapshot!(error(&nan, &[Goal::Energy, Goal::Energy]), @"`goals` must be 1 to 8 different ones, but is [energy_j, energy_j]");
    let failing = Fake(|_: &Point| Err(Rejection::Failed(HwError::Overflow { what: "cycles".into() })));
    insta::assert_snapshot!(error(&failing, &[Goal::Energy]), @"`cycles` does not fit in 64 bits; check the dimensions");
    let fine = Fake(|_: &Point| Ok(Objectives::default()));
    let refused = |s, b| explore(&space, &fine, &s, b, 0).unwrap_err().to_string();
    insta::assert_snapshot!(refused(Strategy::Auto, Budget::evaluations(0)), @"`budget.evaluations` must be positive, but is 0");
    insta::assert_snapshot!(refused(Strategy::UbiMoe, Budget::unlimited()), @"`strategy` must be one that suits the evaluator, but is ubi-moe, but the design has no two stages");
    insta::assert_snapshot!(refused(Strategy::Random { n: 0 }, Budget::unlimited()), @"`random.n` must be positive, but is 0");
    let mut spec = dense().spec().clone();
    spec.dims.ports = vec![7];
    insta::assert_snapshot!(spec.clone().build().unwrap_err(), @"`dims.port.count` must be at most 6, the ports of zcu104, but is 7");
    spec.dims.ports = vec![];
    insta::assert_snapshot!(spec.clone().build().unwrap_err(), @"`space.ports` must be a dimension with at least one value, but is empty");
    spec.dims.ports = vec![1];
    spec.workloads.clear();
    assert!(spec.build().is_err());
}

#[test]
fn a_search_that_ends_early_says_so_and_how_much_is_unexplored() {
    let t = dense();
    for strategy in [Strategy::Exhaustive, Strategy::BranchAndBound, Strategy::Random { n: 1_000_000 }] {
        // Bounds leave so little that only a small budget cuts them short.
        let budget = if strategy == Strategy::BranchAndBound { 150 } else { 10_000 };
        let found = explore(t.space(), &t, &strategy, Budget::evaluations(budget), 0).unwrap();
        println!("{found}");
        assert_eq!(found.ended, Ended::Evaluations);
        assert!(found.evaluated <= budget && found.unexplored() > 0.0 && found.unexplored() < 1.0);
    }
    let stop = AtomicBool::new(false);
    let seen = Mutex::new(Vec::new());
    let progress = |p: &mtl_hw::explore::Progress| {
        seen.lock().unwrap().push(*p);
        stop.store(true, Ordering::Relaxed);
    };
    let found = Explorer::new(t.space(), &t)
        .strategy(Strategy::Exhaustive)
        .stop_flag(&stop)
        .progress(&progress)
        .run()
        .unwrap();
    assert_eq!(found.ended, Ended::Stopped);
    assert!(found.unexplored() > 0.9);
    let seen = seen.into_inner().unwrap();
    assert!(seen[0].points_per_s > 0.0 && seen[0].evaluated == found.evaluated);
    let found = explore(t.space(), &t, &Strategy::Exhaustive, Budget::time(std::time::Duration::ZERO), 0);
    assert!(found.unwrap_err().to_string().contains("time budget"));
}

#[test]
fn the_default_strategy_follows_from_size_and_pruning() {
    let small = run(&overlapped(), Strategy::Auto);
    assert_eq!(small.strategy, "exhaustive");
    // One value per dimension is best in every respect: bounds exclude nearly everything.
    let costs: Vec<Vec<[u8; 4]>> = (0..9).map(|d| (0..8).map(|i: u8| [(i + d) % 8; 4]).collect()).collect();
    let mut problem = Sums::new(costs, 1e3);
    let run = |p: &Sums| {
        let budget = Budget::evaluations(20_000);
        explore(&p.space, p, &Strategy::Auto, budget, 0).unwrap()
    };
    let found = run(&problem);
    println!("{found}: {:?}", found.reason);
    assert_eq!(
        (found.strategy, found.ended, found.front.points.len()),
        ("branch-and-bound", Ended::Complete, 1)
    );
    problem.bounded = false;
    let found = run(&problem);
    assert_eq!(found.strategy, "nsga2");
    assert!(found.reason.unwrap().contains("134217728 points; bounds exclude 0.0 %"));
}

#[test]
fn fronts_keep_one_of_equal_points_and_write_csv_and_json() {
    let space = Space::new(vec![Dim::choice("bits", [8, 16]), Dim::label("engine", ["a,b", "c"])]).unwrap();
    let eval = Fake(|p: &Point| {
        let accuracy = Some(0.5 + 0.25 * f64::from(p.index(0)));
        Ok(Objectives { latency_s: 1.0 + f64::from(p.index(0)), accuracy, ..Objectives::default() })
    });
    let found = Explorer::new(&space, &eval).goals(&[Goal::Latency, Goal::Accuracy]).run().unwrap();
    let points: Vec<_> = found.front.points.iter().map(|(p, _)| p.indices().to_vec()).collect();
    assert_eq!(points, [[0, 0], [1, 0]]);
    insta::assert_snapshot!(found.front.to_csv(&space), @r#"
    bits,engine,latency_s,latency_p95_s,energy_j,lut,ff,ramb18,uram,dsp,memory_bytes,accuracy
    8,"a,b",1,0,0,0,0,0,0,0,0,0.5
    16,"a,b",2,0,0,0,0,0,0,0,0,0.75
    "#);
    let json: serde_json::Value = serde_json::from_str(&found.front.to_json(&space).unwrap()).unwrap();
    assert_eq!(json["points"][1]["parameters"]["bits"], 16);
    assert_eq!(json["points"][0]["parameters"]["engine"], "a,b");
    let plot = found.front.plot_data(&space, 0, 1).unwrap();
    assert_eq!((plot.x, plot.y), (vec![1.0, 2.0], vec![0.5, 0.75]));
    assert!(found.front.plot_data(&space, 0, 2).is_err());
    assert!((found.front.hypervolume(&[3.0, 0.0]).unwrap() - (2.0 * 0.5 + 0.25)).abs() < 1e-12);
    assert!(found.front.hypervolume(&[1.5, 0.0]).is_err());
}

#[test]
fn the_knee_is_farthest_below_the_chord() {
    let at = |x: f64, y: f64| Objectives { latency_s: x, energy_j: y, ..Objectives::default() };
    let points = [at(0.0, 10.0), at(1.0, 2.0), at(4.0, 1.0), at(10.0, 0.0)];
    let points = points.into_iter().enumerate().map(|(i, o)| (Point::new(vec![i as u32]), o));
    let front = ParetoFront::of(&[Goal::Latency, Goal::Energy], points).unwrap();
    assert_eq!(front.knee().unwrap().0.indices(), [1]);
    assert!(ParetoFront::of(&[Goal::Latency], []).unwrap().knee().is_none());
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
