//! Dong et al., *UbiMoE: A Ubiquitous Mixture-of-Experts Vision Transformer Accelerator With Hybrid Computation Pattern on
//! FPGA*, ISCAS 2025, arXiv 2502.05602, and its released sources (DJ000011/UbiMoE).
//!
//! Two kernels in a pipeline over images: attention (norm, projections on a linear unit, both products in one stream) and
//! feed-forward network (norm, two matrices on a second linear unit). The paper's search sizes them for a board.
//!
//! # Departures
//!
//! The paper's first stage is a genetic search over the attention kernel; ours tries all its sizes, of which there are
//! 2048. The paper fixes multiplier budgets per board; ours are the usual timing ceilings of the board, block RAM included.
use crate::cost::dram::Master;
use crate::cost::engine::{AttentionEngine, Engine, Tile};
use crate::cost::off_chip::{HiddenLoads, OffChip, SoftmaxUnit, sequence_cycles};
use crate::cost::{
    Accelerator, FirstLoad, GateUnit, Granularity, MoeSchedule, PowerModel, Precision, Provenance,
    WeightPort, estimate_resources,
};
use crate::graph::{ModelGraph, Node, Op, Part, VitSpec};
use crate::platform::{FitLevel, Platform};
use crate::power::PowerCoefficients;
use crate::{HwError, Result};

/// Sides of linear tiles that the search tries.
const SIDES: [u32; 8] = [4, 8, 12, 16, 24, 32, 48, 64];
/// Parallel queries that the search tries at most.
const MAX_QUERIES: u32 = 32;

/// UbiMoE as searched for ViT-tiny on a ZCU102: 16 bit, 300 MHz.
///
/// # Errors
///
/// None for the embedded board; an error would mean that its file is broken.
pub fn zcu102_ubimoe() -> Result<Accelerator> {
    ubimoe(&Platform::builtin("zcu102")?, 300.0, &encoder(VitSpec::tiny())?)
}

/// UbiMoE as searched for ViT-small on an Alveo U280: 16 bit, 250 MHz.
///
/// # Errors
///
/// None for the embedded board; an error would mean that its file is broken.
pub fn u280_ubimoe() -> Result<Accelerator> {
    ubimoe(&Platform::builtin("alveo-u280")?, 250.0, &encoder(VitSpec::small())?)
}

fn encoder(spec: VitSpec) -> Result<ModelGraph> {
    VitSpec { heads_out: Vec::new(), ..spec }.graph()
}

/// UbiMoE's two-stage search for a board, a clock and a model.
///
/// Stage one takes the largest linear tile for the feed-forward kernel and looks for an attention kernel, in what is left,
/// that is no slower. Where there is none, stage two shrinks the linear tile by bisection until both take the same time.
///
/// # Errors
///
/// [`HwError::Config`] when no size fits the board, for a bad clock, or a model without encoder blocks.
pub fn ubimoe(platform: &Platform, clock_mhz: f64, model: &ModelGraph) -> Result<Accelerator> {
    let search = Search::new(platform, clock_mhz, model)?;
    let tiles = search.feed_forward_tiles()?;
    let attentions = search.attentions()?;
    // Tiles are sorted by size, fastest last. The first index at which the feed-forward kernel is no slower than the best
    // attention kernel in what it leaves.
    let (mut low, mut high) = (0, tiles.len());
    while low < high {
        let middle = low + (high - low) / 2;
        let balanced = match tiles.get(middle) {
            Some(tile) => match search.best_attention(tile, &attentions)? {
                Some(attention) => tile.cycles <= attention.cycles,
                None => true,
            },
            None => true,
        };
        if balanced { high = middle } else { low = middle + 1 }
    }
    // The crossing lies between this tile and the one before.
    let mut best: Option<(u64, u64, Accelerator)> = None;
    for tile in tiles.iter().skip(low.saturating_sub(1)).take(2) {
        if let Some(attention) = search.best_attention(tile, &attentions)? {
            let key = (tile.cycles.max(attention.cycles), attention.dsp);
            if best.as_ref().is_none_or(|(cycles, dsp, _)| key < (*cycles, *dsp)) {
                best = Some((key.0, key.1, attention.accelerator));
            }
        }
    }
    best.map(|(_, _, accelerator)| accelerator).ok_or_else(|| {
        HwError::config("platform", "large enough for the smallest UbiMoE design", &platform.name)
    })
}

/// A linear tile of the feed-forward kernel.
#[derive(Clone, Copy)]
struct FeedForward {
    tile: Tile,
    cycles: u64,
}

/// Projections' tile and parallel queries of the attention kernel.
#[derive(Clone, Copy)]
struct Attention {
    tile: Tile,
    queries: u32,
    cycles: u64,
}

struct Found {
    cycles: u64,
    dsp: u64,
    accelerator: Accelerator,
}

struct Search<'a> {
    base: Accelerator,
    model: &'a ModelGraph,
    /// Blocks with different operators, and how often each occurs.
    blocks: Vec<(Vec<&'a Node>, u64)>,
}

impl<'a> Search<'a> {
    fn new(platform: &Platform, clock_mhz: f64, model: &'a ModelGraph) -> Result<Self> {
        model.validate()?;
        let base = template(platform, clock_mhz)?;
        base.validate()?;
        let mut blocks: Vec<(Vec<&Node>, u64)> = Vec::new();
        let count = model.nodes.iter().filter_map(|n| n.block).max().map_or(0, |last| u64::from(last) + 1);
        for block in 0..count {
            let nodes: Vec<&Node> =
                model.nodes.iter().filter(|n| n.block.is_some_and(|b| u64::from(b) == block)).collect();
            let ops = |nodes: &[&Node]| nodes.iter().map(|n| n.op.clone()).collect::<Vec<Op>>();
            match blocks.iter_mut().find(|(known, _)| ops(known) == ops(&nodes)) {
                Some((_, times)) => *times += 1,
                None => blocks.push((nodes, 1)),
            }
        }
        if blocks.is_empty() {
            return Err(HwError::config("model", "a model with encoder blocks", &model.name));
        }
        Ok(Self { base, model, blocks })
    }

    fn half(&self, accelerator: &Accelerator, part: Part) -> Result<u64> {
        let Some(design) = &accelerator.off_chip else { return Ok(0) };
        self.blocks.iter().try_fold(0u64, |acc, (nodes, times)| {
            let half = nodes.iter().copied().filter(|n| n.part == part);
            let cycles =
                crate::math::product("cycles", &[*times, sequence_cycles(half, accelerator, design)?])?;
            crate::math::sum("cycles", [acc, cycles])
        })
    }

    fn with(&self, feed_forward: Tile, projections: Tile, queries: u32) -> Accelerator {
        let mut accelerator = self.base.clone();
        accelerator.engine = Engine::Tile(feed_forward);
        if let Some(attention) = &mut accelerator.attention {
            attention.queries = queries;
        }
        if let Some(design) = &mut accelerator.off_chip {
            design.projections = Some(Engine::Tile(projections));
        }
        accelerator
    }

    /// Tiles that no smaller tile beats, by size.
    fn feed_forward_tiles(&self) -> Result<Vec<FeedForward>> {
        let mut all = Vec::new();
        for tile in tiles() {
            let accelerator = self.with(tile, tile, 1);
            all.push(FeedForward { tile, cycles: self.half(&accelerator, Part::FeedForward)? });
        }
        all.sort_by_key(|f| (f.tile.t_in * f.tile.t_out, f.cycles, f.tile.t_in));
        let mut front: Vec<FeedForward> = Vec::new();
        for f in all {
            if front.last().is_none_or(|best| f.cycles < best.cycles) {
                front.push(f);
            }
        }
        Ok(front)
    }

    fn attentions(&self) -> Result<Vec<Attention>> {
        let mut all = Vec::new();
        for tile in tiles() {
            for queries in 1..=MAX_QUERIES {
                // Fails for a model with fewer tokens than queries.
                if let Ok(cycles) = self.half(&self.with(tile, tile, queries), Part::Attention) {
                    all.push(Attention { tile, queries, cycles });
                }
            }
        }
        all.sort_by_key(|a| (a.cycles, a.tile.t_in * a.tile.t_out, a.queries, a.tile.t_in));
        Ok(all)
    }

    /// The fastest attention kernel that fits beside a feed-forward tile, within the ceilings for timing.
    fn best_attention(&self, beside: &FeedForward, attentions: &[Attention]) -> Result<Option<Found>> {
        for a in attentions {
            let accelerator = self.with(beside.tile, a.tile, a.queries);
            let used = estimate_resources(self.model, &accelerator)?;
            if accelerator.platform.check(&used).level() == FitLevel::Ok {
                return Ok(Some(Found { cycles: a.cycles, dsp: used.dsp, accelerator }));
            }
        }
        Ok(None)
    }
}

fn tiles() -> impl Iterator<Item = Tile> {
    SIDES
        .into_iter()
        .flat_map(|t_in| SIDES.into_iter().map(move |t_out| Tile { t_in, t_out, ii: 1, depth: 0 }))
}

/// The released design with its sizes still open: 256-bit kernel words of 16-bit numbers on the board's ports, weights
/// loaded before a kernel starts, token by token norms.
fn template(platform: &Platform, clock_mhz: f64) -> Result<Accelerator> {
    let port_bits = platform.memory.port_bits.min(256);
    let tile = Tile { t_in: 16, t_out: 16, ii: 1, depth: 0 };
    Ok(Accelerator {
        name: format!("{}-ubimoe", platform.name.trim_start_matches("alveo-")),
        platform: platform.clone(),
        clock_mhz,
        engine: Engine::Tile(tile),
        attention: Some(AttentionEngine { queries: 4, lanes: 16, reordered: true }),
        off_chip: Some(OffChip {
            master: Master { kernel_bits: 256, port_bits, burst_latency: 64, outstanding: 16 },
            row_latency: 40,
            softmax: SoftmaxUnit::Online,
            fused_attention: true,
            hidden_loads: HiddenLoads::None,
            projections: Some(Engine::Tile(tile)),
            overlap_halves: true,
        }),
        gate: GateUnit::MatrixEngine,
        vector: None,
        port: WeightPort { width_bits: port_bits, count: 1, burst_latency: 64, outstanding: 1 },
        dram_efficiency: 0.85,
        precision: Precision { activation_bits: 16, weight_bits: 16 },
        schedule: MoeSchedule::ExpertByExpert {
            prefetch: true,
            granularity: Granularity::Matrix,
            first_load: FirstLoad::AfterGate,
        },
        embed_prefix_rows: false,
        power: PowerModel::Utilisation {
            coefficients: PowerCoefficients::of_board(platform),
            source: "one static constant fitted per board family".to_owned(),
            point: None,
        },
        provenance: Provenance::BoardMeasurement,
    })
}
