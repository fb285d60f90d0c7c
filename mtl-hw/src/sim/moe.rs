//! Mixture-of-experts layers as stages, under each schedule.
use super::order::{ExpertOrder, Job, expert_order};
use super::stage::{Overlap, Stage};
use crate::cost::engine::MatrixEngine;
use crate::cost::ping_pong::Step;
use crate::cost::{Accelerator, FirstLoad, Granularity, MoeSchedule};
use crate::graph::MoeShape;
use crate::math::{product, sum};
use crate::routing::{Choices, LruStack};
use crate::{HwError, Result};
use serde::{Deserialize, Serialize};

/// How a simulation departs from one design to the next.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SimOptions {
    /// How far loads run ahead.
    pub overlap: Overlap,
    /// Buffers for large weights, whole experts or matrices of experts; `None` for any number.
    pub weight_buffers: Option<u32>,
    /// Order of a layer's experts.
    pub order: ExpertOrder,
}

impl Default for SimOptions {
    /// Two buffers without barriers, experts by index.
    fn default() -> Self {
        Self { overlap: Overlap::Free, weight_buffers: Some(2), order: ExpertOrder::Index }
    }
}

/// Cycles of one expert's loads and computations.
#[derive(Debug, Clone, Copy)]
pub(super) struct ExpertTimes<'a> {
    pub(super) shape: MoeShape,
    accelerator: &'a Accelerator,
    engine: &'a dyn MatrixEngine,
    pub(super) bytes: u64,
    pub(super) whole: u64,
    halves: (u64, u64),
}

impl<'a> ExpertTimes<'a> {
    pub(super) fn new(shape: &MoeShape, accelerator: &'a Accelerator) -> Result<Self> {
        shape.validate()?;
        let bytes = |params: u64| accelerator.weight_bytes(params);
        let load = |params: u64| accelerator.load_cycles(accelerator.weight_bytes(params)?);
        Ok(Self {
            shape: *shape,
            accelerator,
            engine: accelerator.engine.get(),
            bytes: bytes(shape.expert_params()?)?,
            whole: load(shape.expert_params()?)?,
            halves: (load(shape.first_params()?)?, load(shape.second_params()?)?),
        })
    }

    /// Cycles of the two matrices on `n` tokens.
    pub(super) fn compute(&self, n: u64) -> Result<(u64, u64)> {
        let (dim, hidden) = (self.shape.dim, self.shape.hidden);
        Ok((self.engine.gemm_cycles(n, dim, hidden)?, self.engine.gemm_cycles(n, hidden, dim)?))
    }

    fn job(&self, n: u64, granularity: Granularity) -> Result<Job> {
        let (first, second) = self.compute(n)?;
        Ok(match granularity {
            Granularity::Expert => {
                let compute = sum("cycles", [first, second])?;
                Job { first: Step { load: self.whole, compute }, second: None }
            }
            Granularity::Matrix => Job {
                first: Step { load: self.halves.0, compute: first },
                second: Some(Step { load: self.halves.1, compute: second }),
            },
        })
    }
}

/// Appends the stages of a layer.
#[derive(Debug, Clone, Copy)]
pub(super) struct Builder<'a> {
    pub(super) times: ExpertTimes<'a>,
    pub(super) schedule: MoeSchedule,
    pub(super) options: SimOptions,
    pub(super) node: u32,
}

impl Builder<'_> {
    fn stage(&self, expert: usize, step: Step) -> Stage {
        // Shapes have at most 65536 experts.
        Stage { node: self.node, expert: Some(expert as u16), ..Stage::step(step) }
    }

    /// Stages of tokens per expert. A cache needs the order of tokens instead.
    pub(super) fn queues(&self, layer: &str, queues: &[u64], stages: &mut Vec<Stage>) -> Result<()> {
        match self.schedule {
            MoeSchedule::AllResident => self.resident(queues, stages),
            MoeSchedule::ExpertByExpert { prefetch, granularity, first_load } => {
                self.expert_by_expert(queues, prefetch, granularity, first_load, stages)
            }
            MoeSchedule::TokenByToken { .. } => Err(HwError::NeedsTrace { layer: layer.to_owned() }),
        }
    }

    /// Stages of expert ids per token.
    pub(super) fn choices(&self, layer: &str, choices: Choices<'_>, stages: &mut Vec<Stage>) -> Result<()> {
        match self.schedule {
            MoeSchedule::TokenByToken { cache_experts } => {
                self.token_by_token(choices, cache_experts, stages)
            }
            _ => {
                let mut queues = vec![0; self.times.shape.experts as usize];
                choices.count_into(&mut queues);
                self.queues(layer, &queues, stages)
            }
        }
    }

    fn resident(&self, queues: &[u64], stages: &mut Vec<Stage>) -> Result<()> {
        let start = stages.len();
        for (e, &n) in queues.iter().enumerate().filter(|&(_, &n)| n > 0) {
            let (first, second) = self.times.compute(n)?;
            let compute = sum("cycles", [first, second])?;
            let stage = self.stage(e, Step { load: 0, compute });
            stages.push(Stage { acquires: false, releases: false, ..stage });
        }
        let bytes = product("weight bytes", &[self.times.shape.experts, self.times.bytes])?;
        if let Some(first) = stages.get_mut(start) {
            // One load of all experts, whose buffer is free again after the last of them.
            first.load = self.times.accelerator.load_cycles(bytes)?;
            first.acquires = true;
        }
        if let Some(last) = stages.get_mut(start..).and_then(<[_]>::last_mut) {
            last.releases = true;
        }
        Ok(())
    }

    fn expert_by_expert(
        &self,
        queues: &[u64],
        prefetch: bool,
        granularity: Granularity,
        first_load: FirstLoad,
        stages: &mut Vec<Stage>,
    ) -> Result<()> {
        let start = stages.len();
        let active = || queues.iter().enumerate().filter(|&(_, &n)| n > 0);
        if self.options.order == ExpertOrder::Index {
            for (e, &n) in active() {
                stages.extend(self.times.job(n, granularity)?.steps().map(|s| self.stage(e, s)));
            }
        } else {
            let experts: Vec<usize> = active().map(|(e, _)| e).collect();
            let jobs = active().map(|(_, &n)| self.times.job(n, granularity)).collect::<Result<Vec<_>>>()?;
            for i in expert_order(&jobs, self.options.order, self.options.weight_buffers)? {
                stages.extend(jobs[i].steps().map(|s| self.stage(experts[i], s)));
            }
        }
        for (i, s) in stages.iter_mut().skip(start).enumerate() {
            s.on_demand = if i == 0 { first_load == FirstLoad::AfterGate } else { !prefetch };
        }
        Ok(())
    }

    fn token_by_token(&self, choices: Choices<'_>, cache: u32, stages: &mut Vec<Stage>) -> Result<()> {
        check_cache(cache, &self.times.shape)?;
        let (first, second) = self.times.compute(1)?;
        let compute = sum("cycles", [first, second])?;
        let mut ids = choices.ids();
        LruStack::new(self.times.shape.experts).distances(choices, |distance| {
            let Some(id) = ids.next() else { return };
            let miss = distance.is_none_or(|d| d >= cache as usize);
            let load = if miss { self.times.whole } else { 0 };
            // The cache has its own memory, apart from the weight buffers.
            stages.push(Stage {
                acquires: false,
                releases: false,
                on_demand: true,
                ..self.stage(id.into(), Step { load, compute })
            });
        });
        Ok(())
    }
}

pub(super) fn check_cache(cache: u32, shape: &MoeShape) -> Result<()> {
    if u64::from(cache) > shape.experts {
        let must = format!("at most {}", shape.experts);
        return Err(HwError::config("schedule.cache_experts", must, cache));
    }
    Ok(())
}
