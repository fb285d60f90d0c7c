//! Sarkar et al., *Edge-MoE: Memory-Efficient Multi-Task Vision Transformer Architecture with Task-level Sparsity via
//! Mixture-of-Experts*, ICCAD 2023, arXiv 2305.18691, and its released sources (sharc-lab/Edge-MoE).
use crate::Result;
use crate::cost::dram::Master;
use crate::cost::engine::{AttentionEngine, Engine, Tile};
use crate::cost::off_chip::{HiddenLoads, OffChip, SoftmaxUnit};
use crate::cost::{
    Accelerator, FirstLoad, GateUnit, Granularity, MoeSchedule, PowerModel, Precision, Provenance, WeightPort,
};
use crate::graph::{ModelGraph, MoeSpec, Part, VitSpec};
use crate::platform::Platform;

/// Tokens per expert in the first MoE block for the two tasks, from the published weights and image: the one real routing
/// histogram of this design.
pub const EDGE_MOE_QUEUES: [[u64; 16]; 2] = [
    [0, 6, 0, 32, 0, 27, 15, 24, 22, 19, 0, 22, 11, 33, 32, 15],
    [0, 17, 0, 41, 1, 22, 16, 25, 2, 19, 0, 23, 16, 1, 51, 24],
];

/// Published power of the board at work, in watts.
pub(crate) const EDGE_MOE_WATTS: f64 = 14.54;

/// Edge-MoE on a ZCU102, kernel by kernel: 300 MHz, a 16×16 linear unit, 4 parallel queries × 8 dimensions, 32-bit
/// activations and 16-bit weights, 256-bit kernel words on the board's 128-bit ports.
///
/// Nothing here is fitted to the measured 34.64 ms. Loop orders, widths and the burst latency of 64 cycles are those of the
/// released sources. There, a load waits for the kernel before it wherever an early exit separates the two calls, which is
/// everywhere but in the loop over experts; so only loads of experts are hidden. Divisions, roots and exponentials take
/// 40 cycles, the middle of what they take at 300 MHz.
///
/// Power is the published measurement, not a prediction; replace it with
/// [`PowerCoefficients::zynq_ultrascale`](crate::power::PowerCoefficients::zynq_ultrascale) for one.
///
/// # Errors
///
/// None for the embedded board; an error would mean that its file is broken.
pub fn zcu102_edge_moe() -> Result<Accelerator> {
    let master = Master { kernel_bits: 256, port_bits: 128, burst_latency: 64, outstanding: 16 };
    Ok(Accelerator {
        name: "zcu102-edge-moe".to_owned(),
        platform: Platform::builtin("zcu102")?,
        clock_mhz: 300.0,
        engine: Engine::Tile(Tile { t_in: 16, t_out: 16, ii: 1, depth: 0 }),
        attention: Some(AttentionEngine { queries: 4, lanes: 8, reordered: true }),
        off_chip: Some(OffChip {
            master,
            row_latency: 40,
            softmax: SoftmaxUnit::Online,
            fused_attention: false,
            hidden_loads: HiddenLoads::Experts,
            projections: None,
            overlap_halves: false,
        }),
        gate: GateUnit::MatrixEngine,
        vector: None,
        port: WeightPort { width_bits: 128, count: 1, burst_latency: 64, outstanding: 1 },
        dram_efficiency: 0.85,
        precision: Precision { activation_bits: 32, weight_bits: 16 },
        schedule: MoeSchedule::ExpertByExpert {
            prefetch: true,
            granularity: Granularity::Matrix,
            first_load: FirstLoad::AfterGate,
        },
        embed_prefix_rows: false,
        power: PowerModel::Constant {
            watts: EDGE_MOE_WATTS,
            source: "measured on the board, Edge-MoE paper".to_owned(),
        },
        provenance: Provenance::BoardMeasurement,
    })
}

/// The encoder of Edge-MoE: 128×256 pixels, 12 blocks of width 192 with 3 heads; odd blocks have 16 experts of hidden
/// width 384, 2 per token, and two task gates. The last norm and the decoders run on the host and are left out.
///
/// # Errors
///
/// None; an error would mean that the specification is broken.
pub fn m3vit_tiny_cityscapes() -> Result<ModelGraph> {
    let mut graph = VitSpec {
        name: "m3vit-tiny".to_owned(),
        image: [128, 256],
        moe: Some(MoeSpec { top_k: 2, gates: 2, ..MoeSpec::default() }),
        heads_out: Vec::new(),
        ..VitSpec::tiny()
    }
    .graph()?;
    graph.nodes.retain(|n| n.part != Part::Head);
    Ok(graph)
}
