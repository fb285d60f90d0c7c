//! Accelerators that move activations through off-chip memory ([`crate::cost::off_chip`]) as a search space: the linear
//! unit, a unit of their own for the projections of attention or none, parallel queries, and the clock.
//!
//! Every point is computed by [`Analytical`], so a point's latency and resources are those that `estimate` reports. A constant
//! power belongs to the one design it was measured on: points take the model of the board's family instead.
use super::objectives::{Evaluate, Fractions, Objectives, Rejection, Violation};
use super::space::{Dim, Point, Space};
use super::transformer::Limits;
use crate::cost::engine::{Engine, Tile};
use crate::cost::{Accelerator, Analytical, CostModel, PowerModel, Report};
use crate::graph::{ModelGraph, Op};
use crate::platform::{Platform, Resource};
use crate::power::PowerCoefficients;
use crate::routing::Routing;
use crate::{HwError, Result};
use serde::{Deserialize, Serialize};

/// Values of every parameter of an off-chip design.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct OffChipDims {
    /// Input channels T_in per cycle of the linear unit.
    pub t_in: Vec<u32>,
    /// Output channels T_out per cycle of the linear unit.
    pub t_out: Vec<u32>,
    /// Side of a square unit of its own for the projections of attention, which then overlap the feed-forward network of
    /// another image; 0 for one unit that does both in turn.
    pub projections: Vec<u32>,
    /// Parallel queries p of the attention unit.
    pub queries: Vec<u32>,
    /// Dimensions u per cycle and query of the attention unit.
    pub lanes: Vec<u32>,
    /// Clocks in MHz.
    pub clock_mhz: Vec<u32>,
}

impl Default for OffChipDims {
    fn default() -> Self {
        Self {
            t_in: vec![4, 8, 12, 16, 24, 32, 48, 64],
            t_out: vec![4, 8, 12, 16, 24, 32, 48, 64],
            projections: vec![0, 8, 12, 16, 24, 32],
            queries: vec![1, 2, 4, 8, 16, 32],
            lanes: vec![4, 8, 16, 32],
            clock_mhz: vec![150, 200, 250, 300],
        }
    }
}

const T_IN: usize = 0;
const T_OUT: usize = 1;
const PROJECTIONS: usize = 2;
const QUERIES: usize = 3;
const LANES: usize = 4;
const CLOCK: usize = 5;

impl OffChipDims {
    fn space(&self) -> Result<Space> {
        for (name, values) in [
            ("t_in", &self.t_in),
            ("t_out", &self.t_out),
            ("queries", &self.queries),
            ("lanes", &self.lanes),
            ("clock_mhz", &self.clock_mhz),
        ] {
            if values.contains(&0) {
                return Err(HwError::config(format!("off_chip.{name}"), "positive", 0));
            }
        }
        let numbers = |name: &str, values: &[u32]| Dim::choice(name, values.iter().map(|&v| u64::from(v)));
        Space::new(vec![
            numbers("t_in", &self.t_in),
            numbers("t_out", &self.t_out),
            numbers("projections", &self.projections),
            numbers("queries", &self.queries),
            numbers("lanes", &self.lanes),
            numbers("clock_mhz", &self.clock_mhz),
        ])
    }
}

/// Evaluator of designs that share everything with a base but the parameters of [`OffChipDims`].
///
/// ```
/// use mtl_hw::explore::{Budget, Strategy, explore};
/// use mtl_hw::explore::off_chip::{OffChipDims, OffChipSearch};
/// use mtl_hw::explore::transformer::Limits;
/// use mtl_hw::{presets, routing::Routing};
/// let dims = OffChipDims { t_in: vec![16], t_out: vec![16], lanes: vec![8], clock_mhz: vec![300], ..OffChipDims::default() };
/// let (base, graph) = (presets::zcu102_edge_moe()?, presets::m3vit_tiny_cityscapes()?);
/// let search = OffChipSearch::new(base, graph, &[Routing::Uniform], dims, Limits::default())?;
/// let found = explore(search.space(), &search, &Strategy::Exhaustive, Budget::unlimited(), 0)?;
/// assert_eq!(found.unexplored(), 0.0);
/// # Ok::<(), mtl_hw::HwError>(())
/// ```
#[derive(Debug, Clone)]
pub struct OffChipSearch<'a> {
    base: Accelerator,
    graph: ModelGraph,
    routings: Vec<Routing<'a>>,
    limits: Limits,
    space: Space,
    /// Fewest queries of an attention product: a unit with as many in parallel is refused.
    fewest_queries: Option<u64>,
}

impl<'a> OffChipSearch<'a> {
    /// An evaluator for one network and the routings over which latency is averaged.
    ///
    /// # Errors
    ///
    /// [`HwError::Config`] for a base that keeps activations on chip or lacks an attention unit, no routing, a bad limit,
    /// an empty dimension, a zero where none may be, or a clock beyond the board's.
    pub fn new(
        mut base: Accelerator,
        graph: ModelGraph,
        routings: &[Routing<'a>],
        dims: OffChipDims,
        limits: Limits,
    ) -> Result<Self> {
        base.validate().map_err(|e| e.within("base"))?;
        graph.validate()?;
        limits.validate()?;
        if base.off_chip.is_none() || base.attention.is_none() {
            return Err(HwError::config(
                "base",
                "a design with `off_chip` and `attention`",
                format!("`{}`, which lacks one", base.name),
            ));
        }
        if routings.is_empty() {
            return Err(HwError::config("routings", "at least one", "none"));
        }
        for &clock in &dims.clock_mhz {
            let design = Accelerator { clock_mhz: f64::from(clock), ..base.clone() };
            design.validate().map_err(|e| e.within("off_chip"))?;
        }
        if matches!(base.power, PowerModel::Constant { .. }) {
            base.power = PowerModel::Utilisation {
                coefficients: PowerCoefficients::of_board(&base.platform),
                source: "one static constant fitted per board family".to_owned(),
                point: None,
            };
        }
        let space = dims.space()?;
        let queries =
            |op: &Op| if let Op::AttentionScores { queries, .. } = op { Some(*queries) } else { None };
        let fewest_queries = graph.nodes.iter().filter_map(|n| queries(&n.op)).min();
        Ok(Self { base, graph, routings: routings.to_vec(), limits, space, fewest_queries })
    }

    /// The space of its designs.
    #[must_use]
    pub fn space(&self) -> &Space {
        &self.space
    }

    /// The design of a point.
    ///
    /// # Errors
    ///
    /// [`HwError::Config`] for a point of another space.
    pub fn design(&self, point: &Point) -> Result<Accelerator> {
        self.space.check(point)?;
        let value = |dim: usize| self.space.value(dim, point.index(dim)) as u32;
        let tile = |t_in, t_out| Engine::Tile(Tile { t_in, t_out, ii: 1, depth: 0 });
        let mut design = self.base.clone();
        design.engine = tile(value(T_IN), value(T_OUT));
        design.clock_mhz = f64::from(value(CLOCK));
        if let Some(attention) = &mut design.attention {
            (attention.queries, attention.lanes) = (value(QUERIES), value(LANES));
        }
        if let Some(off_chip) = &mut design.off_chip {
            let side = value(PROJECTIONS);
            off_chip.projections = (side > 0).then(|| tile(side, side));
            off_chip.overlap_halves = side > 0;
        }
        Ok(design)
    }

    fn violations(&self, o: &Objectives, board: &Platform) -> Vec<Violation> {
        let limits = &self.limits;
        let usable = board.usable();
        let mut broken: Vec<Violation> = Vec::new();
        for (name, resource) in [
            ("dsp", Resource::Dsp),
            ("lut", Resource::Lut),
            ("ff", Resource::Ff),
            ("ramb18", Resource::Ramb18),
            ("uram", Resource::Uram),
        ] {
            // A board without a resource has no share of it.
            let ceiling = if usable.get(resource) == 0 { 0.0 } else { limits.ceilings.get(resource) };
            broken.extend(Violation::above(name, o.resources.get(resource), ceiling));
        }
        for (name, value, limit) in [
            ("latency", o.latency_s, limits.latency_s),
            ("energy", o.energy_j, limits.energy_j),
            ("power", o.energy_j / o.latency_s, limits.power_w),
        ] {
            broken.extend(limit.and_then(|limit| Violation::above(name, value, limit)));
        }
        broken
    }
}

/// Shares of the board that a report's resources take.
fn fractions(report: &Report) -> Fractions {
    let share = |resource: Resource| {
        let entry = report.fit.entries.iter().find(|e| e.resource == resource);
        entry.map_or(0.0, |e| if e.total == 0 { e.used as f64 } else { e.used as f64 / e.total as f64 })
    };
    Fractions {
        lut: share(Resource::Lut),
        ff: share(Resource::Ff),
        ramb18: share(Resource::Ramb18),
        uram: share(Resource::Uram),
        dsp: share(Resource::Dsp),
    }
}

impl Evaluate for OffChipSearch<'_> {
    fn eval(&self, point: &Point) -> Result<Objectives, Rejection> {
        let design = self.design(point)?;
        let queries = design.attention.as_ref().map_or(0, |a| u64::from(a.queries));
        let most = self.fewest_queries.map_or(f64::INFINITY, |n| n as f64 - 1.0);
        if let Some(violation) = Violation::above("queries", queries as f64, most) {
            return Err(Rejection::Infeasible(vec![violation]));
        }
        let mut latencies = Vec::with_capacity(self.routings.len());
        let (mut energy, mut last) = (0.0, None);
        for &routing in &self.routings {
            let report = Analytical.model(&self.graph, &design, routing)?;
            latencies.push(report.latency_s());
            energy += report.energy_j();
            last = Some(report);
        }
        let n = latencies.len() as f64;
        let Some(report) = last else {
            return Err(HwError::config("routings", "at least one", "none").into());
        };
        let mean = latencies.iter().sum::<f64>() / n;
        latencies.sort_by(f64::total_cmp);
        let rank = (latencies.len() * 95).div_ceil(100).saturating_sub(1);
        let objectives = Objectives {
            latency_s: mean,
            latency_p95_s: latencies.get(rank).copied().unwrap_or(mean),
            energy_j: energy / n,
            resources: fractions(&report),
            memory_bytes: report.memory.total_bytes as f64,
            accuracy: None,
        };
        let broken = self.violations(&objectives, &design.platform);
        if broken.is_empty() { Ok(objectives) } else { Err(Rejection::Infeasible(broken)) }
    }
}
