//! Three spaces of accelerators that several tests search.
#![allow(dead_code, unreachable_pub, clippy::expect_used, clippy::unwrap_used)]

use mtl_hw::cost::{FirstLoad, Granularity, MoeSchedule};
use mtl_hw::explore::transformer::{DesignDims, EngineKind, Storage, Transformer, TransformerSpec, Workload};
use mtl_hw::explore::{Exploration, Explorer, Strategy};
use mtl_hw::graph::{ModelGraph, MoeSpec, VitSpec};
use mtl_hw::platform::Platform;
use mtl_hw::presets::zcu104_m3vit;
use mtl_hw::routing::Routing;

pub fn spec(graph: &ModelGraph, board: &str) -> TransformerSpec {
    let mut base = zcu104_m3vit().unwrap();
    base.platform = Platform::builtin(board).unwrap();
    TransformerSpec::new(base, vec![Workload::new(graph, &[Routing::Uniform]).unwrap()])
}

/// Dense ViT-small on a ZCU104.
pub fn dense() -> Transformer {
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
pub fn overlapped() -> Transformer {
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
pub fn experts() -> Transformer {
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

pub fn spaces() -> [(&'static str, Transformer); 3] {
    [("dense ViT-small", dense()), ("overlapped ViT-tiny", overlapped()), ("M³ViT-small", experts())]
}

pub fn run(t: &Transformer, strategy: Strategy) -> Exploration {
    Explorer::new(t.space(), t).strategy(strategy).run().unwrap()
}
