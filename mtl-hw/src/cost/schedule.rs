//! Schedules of a mixture-of-experts layer, in closed form: which expert weights are loaded, and what hides the loads.
use super::Accelerator;
use super::ping_pong::{Step, barrier_after_first};
use crate::graph::MoeShape;
use crate::math::{product, sum};
use crate::routing::{LayerRouting, lru_misses};
use crate::{HwError, Result};
use serde::{Deserialize, Serialize};

/// What alternates between the two weight buffers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Granularity {
    /// Whole experts, as in M³ViT; two experts are stored.
    #[default]
    Expert,
    /// First and second matrix of an expert, as in Edge-MoE; one expert is stored.
    Matrix,
}

/// When the first expert of a layer is loaded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FirstLoad {
    /// After the gate: its load is exposed.
    #[default]
    AfterGate,
    /// While attention runs, on the guess that the first expert is active: M³ViT's published latencies imply it.
    Speculative,
}

/// How a MoE layer uses its experts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
#[non_exhaustive]
pub enum MoeSchedule {
    /// All experts of a layer are on chip while it runs.
    AllResident,
    /// Tokens in sequence; experts that are not in a least-recently-used cache are loaded on demand.
    TokenByToken {
        /// Experts that the cache holds; 0 for none.
        cache_experts: u32,
    },
    /// Tokens queue at their experts; each active expert is loaded once.
    ExpertByExpert {
        /// Whether the next expert loads while this one computes.
        prefetch: bool,
        /// What the two buffers hold.
        #[serde(default)]
        granularity: Granularity,
        /// When the first expert is loaded.
        #[serde(default)]
        first_load: FirstLoad,
    },
}

impl MoeSchedule {
    /// M³ViT's reordering: expert by expert with prefetch of whole experts, the first of them speculatively.
    #[must_use]
    pub fn reordered() -> Self {
        Self::ExpertByExpert {
            prefetch: true,
            granularity: Granularity::Expert,
            first_load: FirstLoad::Speculative,
        }
    }
}

/// Cost of one MoE layer by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct MoeCost {
    /// Experts with at least one token.
    pub active_experts: u64,
    /// Expert loads from off-chip memory; rounded up where they are an expectation.
    pub expert_loads: u64,
    /// Bytes of these loads.
    pub weight_bytes: u64,
    /// Cycles in which the engine works.
    pub compute_cycles: u64,
    /// Cycles in which the port works.
    pub load_cycles: u64,
    /// The part of `load_cycles` that precedes the first computation, and earlier layers may hide.
    pub first_load_cycles: u64,
    /// Cycles from the first computation to the end.
    pub steady_cycles: u64,
}

/// Cost of a MoE layer on an accelerator.
///
/// ```
/// use mtl_hw::cost::moe_cost;
/// use mtl_hw::{graph::MoeShape, presets, routing::LayerRouting};
/// let layer = MoeShape { tokens: 1025, dim: 384, hidden: 384, experts: 16, top_k: 4 };
/// let cost = moe_cost("blk.1", &layer, &presets::zcu104_m3vit()?, &LayerRouting::Uniform)?;
/// assert_eq!((cost.expert_loads, cost.first_load_cycles), (16, 9240));
/// assert_eq!(cost.steady_cycles, cost.compute_cycles); // every later load is hidden
/// # Ok::<(), mtl_hw::HwError>(())
/// ```
///
/// # Errors
///
/// [`HwError::Config`] for a bad shape or a cache larger than the layer, [`HwError::NeedsTrace`] when a cache meets a
/// histogram, routing errors, [`HwError::Overflow`] beyond 64 bits.
pub fn moe_cost(
    layer: &str,
    shape: &MoeShape,
    accelerator: &Accelerator,
    routing: &LayerRouting<'_>,
) -> Result<MoeCost> {
    shape.validate()?;
    routing.check(layer, shape)?;
    let costs = ExpertCosts { shape, accelerator };
    let queues: Vec<u64> = routing.queues(shape)?.into_iter().filter(|&n| n > 0).collect();
    match accelerator.schedule {
        MoeSchedule::AllResident => costs.all_resident(&queues),
        MoeSchedule::TokenByToken { cache_experts } => {
            let loads = cache_loads(layer, shape, cache_experts, routing)?;
            costs.token_by_token(&queues, loads)
        }
        MoeSchedule::ExpertByExpert { prefetch, granularity, .. } => {
            costs.expert_by_expert(&queues, prefetch, granularity)
        }
    }
}

/// Expert loads as a fraction: the uniform expectation need not be whole.
pub(crate) struct Loads {
    numerator: u64,
    denominator: u64,
}

impl Loads {
    /// `x` per load, rounded up.
    pub(crate) fn scaled(&self, x: u64) -> Result<u64> {
        Ok(product("expert loads", &[self.numerator, x])?.div_ceil(self.denominator))
    }
}

pub(crate) fn cache_loads(
    layer: &str,
    shape: &MoeShape,
    cache: u32,
    routing: &LayerRouting<'_>,
) -> Result<Loads> {
    let cache = u64::from(cache);
    if cache > shape.experts {
        return Err(HwError::config("schedule.cache_experts", format!("at most {}", shape.experts), cache));
    }
    let whole = |numerator| Ok(Loads { numerator, denominator: 1 });
    match routing {
        // Every pair loads its expert, in whatever order.
        _ if cache == 0 => whole(shape.pairs()?),
        LayerRouting::Tokens(tokens) => {
            whole(lru_misses(tokens, usize::try_from(cache).unwrap_or(usize::MAX)))
        }
        LayerRouting::Queues(_) => Err(HwError::NeedsTrace { layer: layer.to_owned() }),
        // K + (N − 1)·K·(1 − c/E): the expectation that M³ViT's published baseline uses.
        LayerRouting::Uniform => {
            let first = product("expert loads", &[shape.top_k, shape.experts])?;
            let later = product("expert loads", &[shape.tokens - 1, shape.top_k, shape.experts - cache])?;
            Ok(Loads { numerator: sum("expert loads", [first, later])?, denominator: shape.experts })
        }
    }
}

struct ExpertCosts<'a> {
    shape: &'a MoeShape,
    accelerator: &'a Accelerator,
}

impl ExpertCosts<'_> {
    /// Cycles of the two matrices of one expert on `n` tokens.
    fn compute(&self, n: u64) -> Result<(u64, u64)> {
        let engine = self.accelerator.engine.get();
        let (dim, hidden) = (self.shape.dim, self.shape.hidden);
        Ok((engine.gemm_cycles(n, dim, hidden)?, engine.gemm_cycles(n, hidden, dim)?))
    }

    fn compute_all(&self, queues: &[u64]) -> Result<u64> {
        queues.iter().try_fold(0, |acc, &n| {
            let (first, second) = self.compute(n)?;
            sum("cycles", [acc, first, second])
        })
    }

    fn expert_bytes(&self) -> Result<u64> {
        self.accelerator.weight_bytes(self.shape.expert_params()?)
    }

    fn all_resident(&self, queues: &[u64]) -> Result<MoeCost> {
        let weight_bytes = product("weight bytes", &[self.shape.experts, self.expert_bytes()?])?;
        let (load, compute) = (self.accelerator.load_cycles(weight_bytes)?, self.compute_all(queues)?);
        Ok(MoeCost {
            active_experts: queues.len() as u64,
            expert_loads: self.shape.experts,
            weight_bytes,
            compute_cycles: compute,
            load_cycles: load,
            first_load_cycles: load,
            steady_cycles: compute,
        })
    }

    fn token_by_token(&self, queues: &[u64], loads: Loads) -> Result<MoeCost> {
        let bytes = self.expert_bytes()?;
        let (first, second) = self.compute(1)?;
        let compute = product("cycles", &[self.shape.pairs()?, sum("cycles", [first, second])?])?;
        let load = loads.scaled(self.accelerator.load_cycles(bytes)?)?;
        Ok(MoeCost {
            active_experts: queues.len() as u64,
            expert_loads: loads.scaled(1)?,
            weight_bytes: loads.scaled(bytes)?,
            compute_cycles: compute,
            load_cycles: load,
            first_load_cycles: 0,
            steady_cycles: sum("cycles", [compute, load])?,
        })
    }

    fn expert_by_expert(&self, queues: &[u64], prefetch: bool, granularity: Granularity) -> Result<MoeCost> {
        let steps = self.steps(queues, granularity)?;
        let load_cycles = sum("cycles", steps.iter().map(|s| s.load))?;
        let compute_cycles = sum("cycles", steps.iter().map(|s| s.compute))?;
        let first_load_cycles = steps.first().map_or(0, |s| s.load);
        let steady_cycles = if prefetch {
            barrier_after_first(&steps)?
        } else {
            sum("cycles", [compute_cycles, load_cycles - first_load_cycles])?
        };
        Ok(MoeCost {
            active_experts: queues.len() as u64,
            expert_loads: queues.len() as u64,
            weight_bytes: product("weight bytes", &[queues.len() as u64, self.expert_bytes()?])?,
            compute_cycles,
            load_cycles,
            first_load_cycles,
            steady_cycles,
        })
    }

    fn steps(&self, queues: &[u64], granularity: Granularity) -> Result<Vec<Step>> {
        let acc = self.accelerator;
        let mut steps = Vec::with_capacity(2 * queues.len());
        let whole = acc.load_cycles(self.expert_bytes()?)?;
        let halves = (
            acc.load_cycles(acc.weight_bytes(self.shape.first_params()?)?)?,
            acc.load_cycles(acc.weight_bytes(self.shape.second_params()?)?)?,
        );
        for &n in queues {
            let (first, second) = self.compute(n)?;
            match granularity {
                Granularity::Expert => {
                    steps.push(Step { load: whole, compute: sum("cycles", [first, second])? });
                }
                Granularity::Matrix => {
                    steps.push(Step { load: halves.0, compute: first });
                    steps.push(Step { load: halves.1, compute: second });
                }
            }
        }
        Ok(steps)
    }
}
