//! MoE layers in floating-point cycles: the sums of [`crate::cost::moe_cost`] on tables of expert cycles.
use crate::cost::{Accelerator, FirstLoad, Granularity, MoeSchedule, expert_activation_traffic};
use crate::graph::MoeShape;
use crate::math::{product, sum};
use crate::routing::{LayerRouting, Routing, lru_curve};
use crate::{HwError, Result};
use std::ops::Range;

/// Queues and cache misses of one routing.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Queues {
    /// Tokens of the active experts, in order.
    lengths: Vec<u64>,
    misses: Misses,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Misses {
    /// Loads by cache size, from 1.
    Curve(Vec<u64>),
    /// Expectation of an even deal.
    Uniform,
    /// Unknown without the order of tokens.
    Unknown,
}

/// One distinct MoE layer under all routings.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct MoeWork {
    shape: [u64; 5],
    routings: Vec<Queues>,
}

/// Cycles of loads that a MoE layer may need.
#[derive(Debug, Clone, Copy)]
pub(super) struct MoeLoads {
    pub(super) whole: f64,
    pub(super) first: f64,
    pub(super) second: f64,
    pub(super) all: f64,
    pub(super) activations: f64,
}

pub(super) const MOE_LOADS: usize = 5;

/// A MoE layer on one design under one routing.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct MoeCycles {
    pub(super) compute: f64,
    /// Load before the first computation.
    pub(super) first: f64,
    /// From the first computation to the end.
    pub(super) steady: f64,
    /// Cycles of the port that the next layer's load may use.
    pub(super) tail: f64,
    /// Experts loaded.
    pub(super) loads: f64,
    /// Whether earlier layers may hide the first load.
    pub(super) early: bool,
}

impl MoeWork {
    pub(super) fn new(id: &str, shape: &MoeShape, routings: &[Routing<'_>]) -> Result<Self> {
        let experts = usize::try_from(shape.experts).unwrap_or(usize::MAX);
        let one = |routing: &Routing<'_>| -> Result<Queues> {
            let layer = routing.layer(id, shape)?;
            let lengths = layer.queues(shape)?.into_iter().filter(|&n| n > 0).collect();
            let misses = match layer {
                LayerRouting::Uniform => Misses::Uniform,
                LayerRouting::Queues(_) => Misses::Unknown,
                LayerRouting::Tokens(tokens) => Misses::Curve(lru_curve(tokens, experts)),
            };
            Ok(Queues { lengths, misses })
        };
        let routings = routings.iter().map(one).collect::<Result<Vec<_>>>()?;
        Ok(Self { shape: [shape.tokens, shape.dim, shape.hidden, shape.experts, shape.top_k], routings })
    }

    pub(super) fn shape(&self) -> MoeShape {
        let [tokens, dim, hidden, experts, top_k] = self.shape;
        MoeShape { tokens, dim, hidden, experts, top_k }
    }

    /// Refuses schedules that the routings cannot serve.
    pub(super) fn check(&self, schedule: MoeSchedule, layer: &str) -> Result<()> {
        let MoeSchedule::TokenByToken { cache_experts } = schedule else { return Ok(()) };
        if u64::from(cache_experts) > self.shape().experts {
            let must = format!("at most {}", self.shape().experts);
            return Err(HwError::config("schedule.cache_experts", must, cache_experts));
        }
        let blind = self.routings.iter().any(|q| q.misses == Misses::Unknown);
        if cache_experts > 0 && blind { Err(HwError::NeedsTrace { layer: layer.to_owned() }) } else { Ok(()) }
    }

    /// Numbers in the engine row: for each routing both matrices of each queue, then both matrices for one token.
    pub(super) fn row_len(&self) -> usize {
        self.routings.iter().map(|q| 2 * q.lengths.len()).sum::<usize>() + 1
    }

    /// Cycles of the engine row from a function of rows, inner and outer width.
    pub(super) fn row(&self, gemm: &dyn Fn(u64, u64, u64) -> Result<u64>, out: &mut Vec<f64>) -> Result<()> {
        let s = self.shape();
        for q in &self.routings {
            for &n in &q.lengths {
                out.push(gemm(n, s.dim, s.hidden)? as f64);
            }
            for &n in &q.lengths {
                out.push(gemm(n, s.hidden, s.dim)? as f64);
            }
        }
        out.push(sum("cycles", [gemm(1, s.dim, s.hidden)?, gemm(1, s.hidden, s.dim)?])? as f64);
        Ok(())
    }

    fn range(&self, routing: usize) -> Range<usize> {
        let start: usize = self.routings.iter().take(routing).map(|q| 2 * q.lengths.len()).sum();
        start..start + self.routings.get(routing).map_or(0, |q| 2 * q.lengths.len())
    }

    /// Loads on one accelerator; activations only when they stream.
    pub(super) fn loads(&self, acc: &Accelerator, resident: bool) -> Result<(MoeLoads, u64)> {
        let s = self.shape();
        let load = |params: u64| Ok::<f64, HwError>(acc.load_cycles(acc.weight_bytes(params)?)? as f64);
        let traffic = if resident {
            0
        } else {
            let t = expert_activation_traffic(&s, acc.precision.activation_bits)?;
            sum(
                "activation bytes",
                [t.read_in, t.write_hidden, t.read_hidden, t.rmw_read_out, t.rmw_write_out, t.zero_init],
            )?
        };
        let all = acc.load_cycles(product("bytes", &[s.experts, acc.weight_bytes(s.expert_params()?)?])?)?;
        let loads = MoeLoads {
            whole: load(s.expert_params()?)?,
            first: load(s.first_params()?)?,
            second: load(s.second_params()?)?,
            all: all as f64,
            activations: acc.load_cycles(traffic)? as f64,
        };
        Ok((loads, traffic))
    }

    /// Cycles in which the engine works.
    pub(super) fn compute(&self, schedule: MoeSchedule, routing: usize, row: &[f64]) -> f64 {
        match schedule {
            MoeSchedule::TokenByToken { .. } => {
                let s = self.shape();
                (s.tokens * s.top_k) as f64 * row.last().copied().unwrap_or(0.0)
            }
            _ => row.get(self.range(routing)).unwrap_or_default().iter().sum(),
        }
    }

    /// Fewest experts loaded under any schedule.
    pub(super) fn least_loads(&self, routing: usize) -> f64 {
        self.routings.get(routing).map_or(0.0, |q| q.lengths.len() as f64)
    }

    /// One routing of a layer, from its part of the engine row.
    pub(super) fn cycles(
        &self,
        schedule: MoeSchedule,
        routing: usize,
        row: &[f64],
        loads: &MoeLoads,
    ) -> MoeCycles {
        let mut c = self.resident_cycles(schedule, routing, row, loads);
        // Streaming activations share the port with the weights.
        if loads.activations > 0.0 {
            let busy = c.steady - c.tail + loads.activations;
            c.steady = c.steady.max(busy);
            c.tail = c.steady - busy;
        }
        c
    }

    fn resident_cycles(&self, schedule: MoeSchedule, routing: usize, row: &[f64], l: &MoeLoads) -> MoeCycles {
        let compute = self.compute(schedule, routing, row);
        let queues = row.get(self.range(routing)).unwrap_or_default();
        let active = queues.len() / 2;
        match schedule {
            MoeSchedule::AllResident => {
                let loads = self.shape().experts as f64;
                MoeCycles { compute, first: l.all, steady: compute, tail: compute, loads, early: true }
            }
            MoeSchedule::TokenByToken { cache_experts } => {
                let (n, of) = self.cache_loads(routing, cache_experts);
                let load = (n * l.whole as u128).div_ceil(of) as f64;
                let loads = n as f64 / of as f64;
                MoeCycles { compute, first: 0.0, steady: compute + load, tail: compute, loads, early: true }
            }
            MoeSchedule::ExpertByExpert { prefetch, granularity, first_load } => {
                let (c1, c2) = queues.split_at(active);
                let (first, load) = match granularity {
                    Granularity::Expert => (l.whole, active as f64 * l.whole),
                    Granularity::Matrix => (l.first, active as f64 * (l.first + l.second)),
                };
                let steady = match (prefetch, granularity) {
                    (false, _) => compute + load - first,
                    (true, Granularity::Expert) => barrier(c1, c2, 0.0, l.whole),
                    (true, Granularity::Matrix) => barrier(c1, c2, l.second, l.first),
                };
                let early = first_load == FirstLoad::Speculative;
                MoeCycles {
                    compute,
                    first,
                    steady,
                    tail: steady - (load - first),
                    loads: active as f64,
                    early,
                }
            }
        }
    }

    /// Expert loads as a fraction: the uniform expectation need not be whole.
    fn cache_loads(&self, routing: usize, cache: u32) -> (u128, u128) {
        let [tokens, _, _, experts, top_k] = self.shape.map(u128::from);
        let Some(index) = (cache as usize).checked_sub(1) else { return (tokens * top_k, 1) };
        match self.routings.get(routing).map(|q| &q.misses) {
            Some(Misses::Curve(curve)) => {
                (curve.get(index).or(curve.last()).map_or(tokens * top_k, |&n| u128::from(n)), 1)
            }
            // K + (N − 1)·K·(1 − c/E), as in `cost::moe_cost`.
            _ => {
                let missing = experts.saturating_sub(u128::from(cache));
                (top_k * experts + (tokens - 1) * top_k * missing, experts)
            }
        }
    }
}

/// Steps with a barrier after each, without the first load. A load between the matrices of one expert of `between`, before
/// the next expert of `next`; without a load between, the two matrices are one step.
fn barrier(c1: &[f64], c2: &[f64], between: f64, next: f64) -> f64 {
    let Some((&last1, head1)) = c1.split_last() else { return 0.0 };
    let Some((&last2, head2)) = c2.split_last() else { return 0.0 };
    if between > 0.0 {
        let body: f64 = head1.iter().zip(head2).map(|(a, b)| a.max(between) + b.max(next)).sum();
        body + last1.max(between) + last2
    } else {
        let body: f64 = head1.iter().zip(head2).map(|(a, b)| (a + b).max(next)).sum();
        body + last1 + last2
    }
}
