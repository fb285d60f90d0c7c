//! Liang et al., *M³ViT: Mixture-of-Experts Vision Transformer for Efficient Multi-task Learning with
//! Model-Accelerator Co-design*, NeurIPS 2022, arXiv 2210.14793.
use crate::Result;
use crate::cost::engine::{Engine, MacPool};
use crate::cost::{Accelerator, GateUnit, MoeSchedule, PowerModel, Precision, Provenance, WeightPort};
use crate::graph::{ModelGraph, MoeSpec, VitSpec};
use crate::platform::Platform;

/// M³ViT's accelerator on a ZCU104: 300 MHz, 16 bit, 1536 multipliers, 64 bytes of weights per cycle, 10 W.
///
/// The published latencies, memories and energies of this design come from a closed-form model, not from a board: the
/// authors' later paper (arXiv 2305.18691) says so, and this preset reproduces them to the printed digits. It therefore
/// inherits their optimism: multipliers that never idle, the full DDR4 peak as bandwidth, softmax, norms and GELU free,
/// the first expert of a layer loaded before the gate has named it, 10 W whatever runs. At 480×640 pixels its 4.84 MiB
/// of buffers exceed the board's 4.746 MiB of block RAM and UltraRAM, which the report's `fit` says.
///
/// Compute and gate alone give 0.03 ms less than the published latencies. The difference equals the load of the patch
/// embedding's weights, which nothing can hide; that the authors meant this is our reading, not their statement.
///
/// # Errors
///
/// None for the embedded board; an error would mean that its file is broken.
pub fn zcu104_m3vit() -> Result<Accelerator> {
    Ok(Accelerator {
        name: "zcu104-m3vit".to_owned(),
        platform: Platform::builtin("zcu104")?,
        clock_mhz: 300.0,
        // 12 heads × 128 multipliers, 89 % of the board's.
        engine: Engine::MacPool(MacPool { units: 1536 }),
        gate: GateUnit::PerToken { cycles: 5 },
        vector: None,
        port: WeightPort { width_bits: 128, count: 4, burst_latency: 0, outstanding: 1 },
        dram_efficiency: 1.0,
        precision: Precision { activation_bits: 16, weight_bits: 16 },
        schedule: MoeSchedule::reordered(),
        embed_prefix_rows: true,
        attention: None,
        off_chip: None,
        power: PowerModel::Constant { watts: 10.0, source: "a constant of the M³ViT paper".to_owned() },
        provenance: Provenance::ClosedFormEstimate,
    })
}

/// The encoder of M³ViT-small: 12 blocks of width 384 with 12 heads; odd blocks have 16 experts, 4 per token, and two
/// task gates.
///
/// # Errors
///
/// [`HwError::Config`](crate::HwError::Config) when a side is zero or not a multiple of 16.
pub fn m3vit_small(height: u32, width: u32) -> Result<ModelGraph> {
    let moe = MoeSpec { gates: 2, ..MoeSpec::default() };
    VitSpec { name: "m3vit-small".to_owned(), moe: Some(moe), ..spec(height, width) }.graph()
}

/// The dense ViT-small that M³ViT is compared with, encoder only.
///
/// # Errors
///
/// [`HwError::Config`](crate::HwError::Config) when a side is zero or not a multiple of 16.
pub fn vit_small_dense(height: u32, width: u32) -> Result<ModelGraph> {
    spec(height, width).graph()
}

fn spec(height: u32, width: u32) -> VitSpec {
    // The hardware figure and the model code have 12 heads, not the 6 of timm's ViT-small.
    VitSpec { image: [height, width], heads: 12, heads_out: Vec::new(), ..VitSpec::small() }
}
