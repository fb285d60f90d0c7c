//! Dong et al., *HeatViT: Hardware-Efficient Adaptive Token Pruning for Vision Transformers*, HPCA 2023, arXiv 2211.08110,
//! as a plausibility check.
use crate::Result;
use crate::cost::engine::{Engine, Tile};
use crate::cost::{Accelerator, GateUnit, MoeSchedule, PowerModel, Precision, Provenance, WeightPort};
use crate::platform::Platform;
use crate::power::PowerCoefficients;

/// An 8-bit matrix engine that fills a ZCU102's multipliers to their timing ceiling, as a stand-in for HeatViT.
///
/// Sizes are ours, not the paper's: the largest tile that divides DeiT-small's widths and stays within 80 % of the
/// multiplier blocks, one multiplication each. Softmax, norms and GELU are taken to be hidden in the matrix pipeline; with a
/// vector unit of 16 lanes in series the result would be half as long again. Token pruning, which the published design is about, is not modelled, so
/// this estimates the same board on the unpruned network and is expected to agree only within 40 %.
///
/// # Errors
///
/// None for the embedded board; an error would mean that its file is broken.
pub fn zcu102_heatvit() -> Result<Accelerator> {
    Ok(Accelerator {
        name: "zcu102-heatvit".to_owned(),
        platform: Platform::builtin("zcu102")?,
        clock_mhz: 300.0,
        engine: Engine::Tile(Tile { t_in: 64, t_out: 24, ii: 1, depth: 10 }),
        attention: None,
        off_chip: None,
        gate: GateUnit::MatrixEngine,
        vector: None,
        port: WeightPort { width_bits: 128, count: 4, burst_latency: 64, outstanding: 1 },
        dram_efficiency: 0.85,
        precision: Precision { activation_bits: 8, weight_bits: 8 },
        schedule: MoeSchedule::reordered(),
        embed_prefix_rows: false,
        power: PowerModel::Utilisation {
            coefficients: PowerCoefficients::zynq_ultrascale(),
            source: "one static constant fitted per board family".to_owned(),
            point: None,
        },
        provenance: Provenance::BoardMeasurement,
    })
}
