//! One mixture-of-experts layer by itself: fast for many records, or as a timeline for one.
use super::moe::{Builder, ExpertTimes, SimOptions, check_cache};
use super::stage::{Chain, Network, Stage};
use super::timeline::Timeline;
use crate::cost::{Accelerator, MoeSchedule};
use crate::graph::MoeShape;
use crate::math::{product, sum};
use crate::routing::{Choices, LayerRouting, LruStack, misses_of};
use crate::{HwError, Result};
use serde::{Deserialize, Serialize};

/// Simulated cost of one MoE layer by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct LayerRun {
    /// Experts with at least one token.
    pub active_experts: u64,
    /// Expert loads from off-chip memory.
    pub expert_loads: u64,
    /// Bytes of these loads.
    pub weight_bytes: u64,
    /// Cycles in which the engine works.
    pub compute_cycles: u64,
    /// Cycles in which the port works.
    pub load_cycles: u64,
    /// Cycles from the end of the gate to the end of the layer, the first load included.
    pub cycles: u64,
}

impl LayerRun {
    /// Cycles in which the engine waits for weights.
    #[must_use]
    pub fn exposed_cycles(&self) -> u64 {
        self.cycles - self.compute_cycles
    }
}

/// Simulates one MoE layer under the schedule of an accelerator, as often as wanted.
///
/// ```
/// use mtl_hw::cost::MoeSchedule;
/// use mtl_hw::graph::MoeShape;
/// use mtl_hw::sim::{LayerSim, SimOptions};
/// let shape = MoeShape { tokens: 1025, dim: 384, hidden: 384, experts: 16, top_k: 4 };
/// let accelerator = mtl_hw::presets::zcu104_m3vit()?;
/// let mut layer = LayerSim::new("blk.1", &shape, &accelerator, SimOptions::default())?;
/// let mut queues = [0; 16];
/// queues[..4].fill(1025); // all tokens chose the same experts
/// let run = layer.run_queues(&queues)?;
/// assert_eq!((run.expert_loads, run.exposed_cycles()), (4, 9240)); // only the first load is seen
/// # Ok::<(), mtl_hw::HwError>(())
/// ```
#[derive(Debug)]
pub struct LayerSim<'a> {
    layer: String,
    accelerator: &'a Accelerator,
    builder: Builder<'a>,
    chain: Chain,
    // Memory that runs share.
    stages: Vec<Stage>,
    queues: Vec<u64>,
    stack: LruStack,
}

impl<'a> LayerSim<'a> {
    /// A layer of `shape`, named in errors and timelines.
    ///
    /// # Errors
    ///
    /// [`HwError::Config`] for a bad shape, accelerator or option, [`HwError::Overflow`] beyond 64 bits.
    pub fn new(
        layer: &str,
        shape: &MoeShape,
        accelerator: &'a Accelerator,
        options: SimOptions,
    ) -> Result<Self> {
        accelerator.validate()?;
        Self::with_schedule(layer, shape, accelerator, accelerator.schedule, options)
    }

    pub(super) fn with_schedule(
        layer: &str,
        shape: &MoeShape,
        accelerator: &'a Accelerator,
        schedule: MoeSchedule,
        options: SimOptions,
    ) -> Result<Self> {
        let times = ExpertTimes::new(shape, accelerator)?;
        if let MoeSchedule::TokenByToken { cache_experts } = schedule {
            check_cache(cache_experts, shape)?;
        }
        Ok(Self {
            layer: layer.to_owned(),
            accelerator,
            builder: Builder { times, schedule, options, node: 0 },
            chain: Chain::new(options.overlap, options.weight_buffers)?,
            stages: Vec::new(),
            queues: vec![0; shape.experts as usize], // at most 65536
            stack: LruStack::new(shape.experts),
        })
    }

    /// Runs checked decisions.
    ///
    /// # Errors
    ///
    /// Routing errors for decisions that contradict the layer, [`HwError::NeedsTrace`] when a cache meets decisions without
    /// an order of tokens, [`HwError::Overflow`] beyond 64 bits.
    pub fn run(&mut self, routing: &LayerRouting<'_>) -> Result<LayerRun> {
        let shape = self.builder.times.shape;
        routing.check(&self.layer, &shape)?;
        match routing {
            LayerRouting::Tokens(tokens) => self.unchecked((*tokens).into()),
            _ => self.run_queues(&routing.queues(&shape)?),
        }
    }

    /// Runs expert ids per token; a capacity limit may have dropped some.
    ///
    /// # Errors
    ///
    /// [`HwError::Routing`] for an id that is out of range or repeated, or too many of them; as [`LayerSim::run`].
    pub fn run_choices(&mut self, choices: Choices<'_>) -> Result<LayerRun> {
        let shape = self.builder.times.shape;
        match choices.fault(shape.experts, shape.top_k, true) {
            Some(reason) => Err(HwError::Routing { layer: self.layer.clone(), reason }),
            None => self.unchecked(choices),
        }
    }

    /// Runs tokens per expert, of any number of tasks, tokens and images.
    ///
    /// # Errors
    ///
    /// [`HwError::Routing`] for another number of experts; as [`LayerSim::run`].
    pub fn run_queues(&mut self, queues: &[u64]) -> Result<LayerRun> {
        self.check_queues(queues)?;
        self.stages.clear();
        self.builder.queues(&self.layer, queues, &mut self.stages)?;
        let active = queues.iter().filter(|&&n| n > 0).count() as u64;
        self.chained(active)
    }

    fn check_queues(&self, queues: &[u64]) -> Result<()> {
        let experts = self.queues.len();
        if queues.len() != experts {
            let reason = format!("expected queues of {experts} experts, but found {}", queues.len());
            return Err(HwError::Routing { layer: self.layer.clone(), reason });
        }
        Ok(())
    }

    /// Runs choices that were checked.
    pub(super) fn unchecked(&mut self, choices: Choices<'_>) -> Result<LayerRun> {
        self.queues.fill(0);
        choices.count_into(&mut self.queues);
        let active = self.queues.iter().filter(|&&n| n > 0).count() as u64;
        if let MoeSchedule::TokenByToken { cache_experts } = self.builder.schedule {
            let misses = misses_of(choices, &mut self.stack, cache_experts as usize);
            return self.one_by_one(active, self.queues.iter().sum(), misses);
        }
        self.stages.clear();
        self.builder.queues(&self.layer, &self.queues, &mut self.stages)?;
        self.chained(active)
    }

    /// Every pair computes after the one before it and, after a miss, its load: a sum.
    fn one_by_one(&self, active: u64, pairs: u64, misses: u64) -> Result<LayerRun> {
        let times = &self.builder.times;
        let (first, second) = times.compute(1)?;
        let compute_cycles = product("cycles", &[pairs, sum("cycles", [first, second])?])?;
        let load_cycles = product("cycles", &[misses, times.whole])?;
        Ok(LayerRun {
            active_experts: active,
            expert_loads: misses,
            weight_bytes: product("weight bytes", &[misses, times.bytes])?,
            compute_cycles,
            load_cycles,
            cycles: sum("cycles", [compute_cycles, load_cycles])?,
        })
    }

    fn chained(&mut self, active: u64) -> Result<LayerRun> {
        self.chain.clear();
        let mut run = LayerRun { active_experts: active, ..LayerRun::default() };
        for s in &self.stages {
            self.chain.push(s)?;
            // Parts of the chain's end or of a sum below 2⁶⁴ of them.
            run.load_cycles = sum("cycles", [run.load_cycles, s.load])?;
            run.compute_cycles = sum("cycles", [run.compute_cycles, s.compute])?;
        }
        let times = &self.builder.times;
        run.expert_loads = match self.builder.schedule {
            MoeSchedule::AllResident => times.shape.experts,
            _ => active,
        };
        run.weight_bytes = product("weight bytes", &[run.expert_loads, times.bytes])?;
        run.cycles = self.chain.compute_end;
        Ok(run)
    }

    /// The events of checked decisions, for a plot.
    ///
    /// # Errors
    ///
    /// As [`LayerSim::run`].
    pub fn timeline(&mut self, routing: &LayerRouting<'_>) -> Result<Timeline> {
        let shape = self.builder.times.shape;
        routing.check(&self.layer, &shape)?;
        let mut stages = Vec::new();
        match routing {
            LayerRouting::Tokens(tokens) => {
                self.builder.choices(&self.layer, (*tokens).into(), &mut stages)?;
            }
            _ => self.builder.queues(&self.layer, &routing.queues(&shape)?, &mut stages)?,
        }
        self.record(&stages)
    }

    /// The events of tokens per expert, for a plot.
    ///
    /// # Errors
    ///
    /// As [`LayerSim::run_queues`].
    pub fn timeline_of_queues(&mut self, queues: &[u64]) -> Result<Timeline> {
        self.check_queues(queues)?;
        let mut stages = Vec::new();
        self.builder.queues(&self.layer, queues, &mut stages)?;
        self.record(&stages)
    }

    fn record(&self, stages: &[Stage]) -> Result<Timeline> {
        let options = self.builder.options;
        let (outcome, intervals) = Network::of(stages, options.overlap, options.weight_buffers)?.run()?;
        Ok(Timeline::of(
            &self.layer,
            self.accelerator.clock_hz(),
            vec![self.layer.clone()],
            outcome,
            stages,
            &intervals,
        ))
    }
}
