//! Design-space exploration: strategies against each other on synthetic costs, budgets, bad input, output.
#![allow(clippy::expect_used, clippy::unwrap_used, clippy::print_stdout)]

mod accelerators;

use accelerators::{dense, overlapped, run};
use mtl_hw::HwError;
use mtl_hw::explore::{
    Bound, Budget, Dim, Ended, Evaluate, Explorer, Fractions, Goal, Objectives, ParetoFront, Partial, Point,
    Rejection, Space, Strategy, Violation, explore,
};
use proptest::prelude::*;
use proptest::strategy::Strategy as Generate;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

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
