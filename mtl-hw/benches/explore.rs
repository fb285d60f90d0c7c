//! Whole-network design points per second, with and without tables; strategies; width queries.
//!
//! `cargo bench -p mtl-hw --bench explore`; `RAYON_NUM_THREADS` sets the threads of `explore_*`.
#![allow(clippy::expect_used, clippy::unwrap_used)]
use divan::{Bencher, counter::ItemsCount};
use mtl_hw::explore::transformer::{Transformer, TransformerSpec, Workload};
use mtl_hw::explore::width::{
    AdditiveScore, CostSource, CostTables, Query, Score, SlimLayer, SlimNet, WidthBudget, WidthSpace, Widths,
    search,
};
use mtl_hw::explore::{Evaluate, Explorer, Nsga2Config, Strategy};
use mtl_hw::graph::{MoeSpec, VitSpec};
use mtl_hw::presets::zcu104_m3vit;
use mtl_hw::routing::Routing;

/// Points per sample.
const POINTS: u128 = 10_000;

fn main() {
    divan::main();
}

fn vit_small(moe: bool, memoise: bool) -> Transformer {
    let spec = if moe { VitSpec::small().moe(MoeSpec::default()) } else { VitSpec::small() };
    let workload = Workload::new(&spec.graph().unwrap(), &[Routing::Uniform]).unwrap();
    let mut spec = TransformerSpec::new(zcu104_m3vit().unwrap(), vec![workload]);
    spec.memoise = memoise;
    // Every point is computed in full, none is refused for its resources.
    spec.limits.ceilings = mtl_hw::explore::Fractions { lut: 1e3, ff: 1e3, ramb18: 1e3, uram: 1e3, dsp: 1e3 };
    spec.dims.weight_kib = vec![64, 256, 1024];
    spec.dims.rows.retain(|r| *r <= 48);
    spec.dims.cols.retain(|c| *c <= 48);
    spec.build().unwrap()
}

fn points(bencher: Bencher<'_, '_>, t: &Transformer) {
    let all: Vec<_> = (0..POINTS).map(|i| t.space().point_at(i * 104_729 % t.space().points())).collect();
    bencher
        .counter(ItemsCount::new(POINTS as usize))
        .bench_local(|| all.iter().filter_map(|p| t.eval(p).ok()).map(|o| o.latency_s).sum::<f64>());
}

#[divan::bench]
fn eval_vit_small_memoised(bencher: Bencher<'_, '_>) {
    points(bencher, &vit_small(false, true));
}

#[divan::bench]
fn eval_vit_small_from_formulas(bencher: Bencher<'_, '_>) {
    points(bencher, &vit_small(false, false));
}

#[divan::bench]
fn eval_moe_vit_small_memoised(bencher: Bencher<'_, '_>) {
    points(bencher, &vit_small(true, true));
}

#[divan::bench(sample_count = 5)]
fn build_tables(bencher: Bencher<'_, '_>) {
    bencher.bench_local(|| vit_small(false, true));
}

#[divan::bench(sample_count = 3, args = [1, 2])]
fn explore_exhaustive(bencher: Bencher<'_, '_>, threads: usize) {
    let t = vit_small(false, true);
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
    bencher.counter(ItemsCount::new(t.space().points() as usize)).bench_local(|| {
        pool.install(|| Explorer::new(t.space(), &t).strategy(Strategy::Exhaustive).run().unwrap())
    });
}

#[divan::bench(sample_count = 5)]
fn explore_branch_and_bound(bencher: Bencher<'_, '_>) {
    let t = vit_small(false, true);
    bencher.bench_local(|| Explorer::new(t.space(), &t).strategy(Strategy::BranchAndBound).run().unwrap());
}

#[divan::bench(sample_count = 5)]
fn explore_nsga2(bencher: Bencher<'_, '_>) {
    let t = vit_small(false, true);
    let strategy = Strategy::Nsga2(Nsga2Config::default());
    bencher.bench_local(|| Explorer::new(t.space(), &t).strategy(strategy.clone()).run().unwrap());
}

fn widths() -> (WidthSpace, CostTables, AdditiveScore, Query) {
    let layer = |positions, channels| SlimLayer { positions, kernel: 3, channels, fixed: false };
    let net = SlimNet {
        input_channels: 3,
        encoder: vec![
            vec![layer(3136, 64)],
            vec![layer(784, 128)],
            vec![layer(196, 256)],
            vec![layer(49, 512)],
        ],
        decoders: vec![vec![layer(784, 256)]; 3],
    };
    let space = WidthSpace::uniform(4, &[0.6, 0.7, 0.8, 0.9, 1.0], 3, &[0.5, 0.6, 0.7, 0.8, 0.9, 1.0]);
    let costs = CostTables::build(&space, &net, 8, &CostSource::Macs).unwrap();
    let score = AdditiveScore { encoder: space.encoder.clone(), decoders: space.decoders.clone() };
    let budget = 0.5 * (costs.cost(&space.narrowest()) + costs.cost(&space.widest()));
    let query = Query { budget: WidthBudget::Macs(budget as u64), preferences: vec![0.5, 0.3, 0.2] };
    (space, costs, score, query)
}

#[divan::bench]
fn width_query_additive(bencher: Bencher<'_, '_>) {
    let (space, costs, score, query) = widths();
    bencher.bench_local(|| search(&space, &costs, Score::Additive(&score), &query, 0).unwrap());
}

#[divan::bench]
fn width_query_closure(bencher: Bencher<'_, '_>) {
    let (space, costs, score, query) = widths();
    let value = |w: &Widths| w.encoder.iter().zip(&score.encoder).map(|(&i, t)| t[i]).sum::<f64>();
    bencher.bench_local(|| search(&space, &costs, Score::Closure(&value), &query, 0).unwrap());
}
