//! Design-space exploration: strategies against each other, evaluators against the cost model.
#![allow(clippy::expect_used, clippy::unwrap_used)]

use mtl_hw::HwError;
use mtl_hw::cost::engine::{Dataflow, Engine, Systolic, Tile};
use mtl_hw::cost::{Analytical, CostModel, FirstLoad, GateUnit, Granularity, MoeSchedule, VectorUnit};
use mtl_hw::explore::transformer::{DesignDims, EngineKind, Storage, Transformer, TransformerSpec, Workload};
use mtl_hw::explore::{
    Bound, Budget, Dim, Ended, Evaluate, Explorer, Fractions, Goal, Nsga2Config, Objectives, ParetoFront, Partial,
    Point, Rejection, Space, Strategy, Violation, explore,
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
        assert_eq!(bounded.front, all.front, "{name}");
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
            let inside = found.front.costs().into_iter().filter(|c| c.iter().zip(&reference).all(|(v, r)| v <= r));
            let volume = mtl_hw::explore::hypervolume(&inside.collect::<Vec<_>>(), &reference).unwrap();
            worst = worst.min(volume / best);
            most = most.max(found.evaluated);
            assert!(found.evaluated <= budget && found.unexplored() > 0.0);
        }
        println!("{name}: {:.3} % of the volume from at most {most} of {} points", 100.0 * worst, t.space().points());
        assert!(worst >= 0.98, "{name}: {worst}");
    }
}
