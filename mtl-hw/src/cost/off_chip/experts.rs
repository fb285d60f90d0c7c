//! A MoE layer as kernels: gathered tokens in, hidden activations through memory, outputs accumulated in place.
use super::kernel::{Kernel, Slowest, Time, Unit};
use crate::Result;
use crate::cost::dram::Access;
use crate::cost::ping_pong::{Step, barrier_after_first};
use crate::cost::schedule::{Granularity, MoeSchedule, cache_loads};
use crate::cost::{MoeCost, expert_activation_traffic};
use crate::graph::{MoeShape, Node};
use crate::math::{product, sum};
use crate::routing::LayerRouting;

/// Both matrices of one expert for the tokens of one queue.
struct Expert {
    first: Time,
    second: Time,
    compute: u64,
}

/// The kernel of a MoE layer; the zeroing of its output precedes the first load.
pub(super) fn kernel(
    unit: &Unit<'_>,
    node: &Node,
    id: &str,
    shape: &MoeShape,
    routing: &LayerRouting<'_>,
) -> Result<Kernel> {
    shape.validate()?;
    routing.check(id, shape)?;
    let acc = unit.accelerator;
    let queues: Vec<u64> = routing.queues(shape)?.into_iter().filter(|&n| n > 0).collect();
    let loads = (
        acc.load_cycles(acc.weight_bytes(shape.first_params()?)?)?,
        acc.load_cycles(acc.weight_bytes(shape.second_params()?)?)?,
    );
    let expert_bytes = acc.weight_bytes(shape.expert_params()?)?;
    let zero = unit.region(0, &[], &[unit.rows(shape.tokens, shape.dim)?])?;
    let cost = match acc.schedule {
        MoeSchedule::TokenByToken { cache_experts } => {
            let count = cache_loads(id, shape, cache_experts, routing)?;
            let one = expert(unit, shape, 1)?;
            let pairs = shape.pairs()?;
            let work = product("cycles", &[pairs, sum("cycles", [one.first.cycles, one.second.cycles])?])?;
            let load = count.scaled(sum("cycles", [loads.0, loads.1])?)?;
            MoeCost {
                active_experts: queues.len() as u64,
                expert_loads: count.scaled(1)?,
                weight_bytes: count.scaled(expert_bytes)?,
                compute_cycles: product("cycles", &[pairs, one.compute])?,
                load_cycles: load,
                first_load_cycles: 0,
                steady_cycles: sum("cycles", [work, load])?,
            }
        }
        MoeSchedule::AllResident => {
            let mut cost = by_expert(unit, shape, &queues, (0, 0), false, Granularity::Expert)?;
            let all = product("weight bytes", &[shape.experts, expert_bytes])?;
            cost.load_cycles = acc.load_cycles(all)?;
            cost.first_load_cycles = cost.load_cycles;
            MoeCost { expert_loads: shape.experts, weight_bytes: all, ..cost }
        }
        MoeSchedule::ExpertByExpert { prefetch, granularity, .. } => {
            let hidden = prefetch && unit.loads_hidden();
            let cost = by_expert(unit, shape, &queues, loads, hidden, granularity)?;
            MoeCost { weight_bytes: product("weight bytes", &[queues.len() as u64, expert_bytes])?, ..cost }
        }
    };
    let cycles = sum("cycles", [zero.cycles, cost.steady_cycles])?;
    let waiting = cycles.saturating_sub(cost.compute_cycles);
    let t = expert_activation_traffic(shape, acc.precision.activation_bits)?;
    Ok(Kernel {
        name: node.name.clone(),
        compute: cost.compute_cycles,
        load_cycles: cost.load_cycles,
        first_load: cost.first_load_cycles,
        cycles,
        weight_bytes: cost.weight_bytes,
        activation_bytes: sum(
            "activation bytes",
            [t.read_in, t.write_hidden, t.read_hidden, t.rmw_read_out, t.rmw_write_out, t.zero_init],
        )?,
        slowest: if waiting > cost.compute_cycles || cost.load_cycles > cost.compute_cycles {
            Slowest::ExpertLoad
        } else {
            Slowest::Compute
        },
        moe: Some(cost),
    })
}

fn by_expert(
    unit: &Unit<'_>,
    shape: &MoeShape,
    queues: &[u64],
    loads: (u64, u64),
    hidden: bool,
    granularity: Granularity,
) -> Result<MoeCost> {
    let mut steps = Vec::with_capacity(2 * queues.len());
    let mut compute = 0;
    for &n in queues {
        let e = expert(unit, shape, n)?;
        compute = sum("cycles", [compute, e.compute])?;
        match granularity {
            Granularity::Matrix => {
                steps.push(Step { load: loads.0, compute: e.first.cycles });
                steps.push(Step { load: loads.1, compute: e.second.cycles });
            }
            Granularity::Expert => steps.push(Step {
                load: sum("cycles", [loads.0, loads.1])?,
                compute: sum("cycles", [e.first.cycles, e.second.cycles])?,
            }),
        }
    }
    let load = sum("cycles", steps.iter().map(|s| s.load))?;
    let first = steps.first().map_or(0, |s| s.load);
    let steady = if hidden {
        barrier_after_first(&steps)?
    } else {
        sum("cycles", [sum("cycles", steps.iter().map(|s| s.compute))?, load - first])?
    };
    Ok(MoeCost {
        active_experts: queues.len() as u64,
        expert_loads: queues.len() as u64,
        weight_bytes: 0,
        compute_cycles: compute,
        load_cycles: load,
        first_load_cycles: first,
        steady_cycles: steady,
    })
}

fn expert(unit: &Unit<'_>, shape: &MoeShape, n: u64) -> Result<Expert> {
    let engine = unit.accelerator.engine.get();
    let (dim, hidden) = (shape.dim, shape.hidden);
    let (first, second) = (engine.gemm_cycles(n, dim, hidden)?, engine.gemm_cycles(n, hidden, dim)?);
    let between = unit.rows(n, hidden)?;
    // A queue that holds all tokens is read in order.
    let tokens = if n == shape.tokens {
        unit.rows(n, dim)?
    } else {
        unit.scattered(Access::Gather { chunks: n, elements: dim })?
    };
    let out = unit.scattered(Access::ReadModifyWrite { chunks: n, elements: dim })?;
    Ok(Expert {
        first: unit.region(first, &[tokens], &[between])?,
        second: unit.region(second, &[between], &[out])?,
        compute: sum("cycles", [first, second])?,
    })
}
