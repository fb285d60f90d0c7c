//! What a design costs, which constraints it breaks, and who computes that.
use super::space::{Partial, Point};
use crate::platform::Resource;
use crate::{HwError, Result};
use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use std::fmt;

/// Shares of a board's resources.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct Fractions {
    /// Look-up tables.
    pub lut: f64,
    /// Flip-flops.
    pub ff: f64,
    /// Block RAMs.
    pub ramb18: f64,
    /// UltraRAMs.
    pub uram: f64,
    /// Multiplier blocks.
    pub dsp: f64,
}

impl Fractions {
    /// The share of one resource.
    #[must_use]
    pub fn get(&self, resource: Resource) -> f64 {
        match resource {
            Resource::Lut => self.lut,
            Resource::Ff => self.ff,
            Resource::Ramb18 => self.ramb18,
            Resource::Uram => self.uram,
            Resource::Dsp => self.dsp,
        }
    }

    /// The largest share.
    #[must_use]
    pub fn max(&self) -> f64 {
        self.lut.max(self.ff).max(self.ramb18).max(self.uram).max(self.dsp)
    }
}

/// Cost of one design.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct Objectives {
    /// Latency in seconds; the mean where there are several routings.
    pub latency_s: f64,
    /// 95th percentile of the latency over routings, in seconds; the latency where there is one.
    pub latency_p95_s: f64,
    /// Energy of one image in joules.
    pub energy_j: f64,
    /// Shares of the board.
    pub resources: Fractions,
    /// On-chip buffers in bytes.
    pub memory_bytes: f64,
    /// Accuracy or Δm, the only one that is better when larger.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub accuracy: Option<f64>,
}

/// One axis of the trade-off.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Goal {
    /// Least latency.
    Latency,
    /// Least 95th percentile of the latency.
    LatencyP95,
    /// Least energy.
    Energy,
    /// Least of the largest resource share.
    MaxResource,
    /// Least share of one resource.
    Resource(Resource),
    /// Least on-chip memory.
    Memory,
    /// Most accuracy.
    Accuracy,
}

impl Goal {
    /// The value to minimise; accuracy is negated, and absent when nobody measured it.
    #[must_use]
    pub fn cost(self, o: &Objectives) -> Option<f64> {
        Some(match self {
            Self::Latency => o.latency_s,
            Self::LatencyP95 => o.latency_p95_s,
            Self::Energy => o.energy_j,
            Self::MaxResource => o.resources.max(),
            Self::Resource(r) => o.resources.get(r),
            Self::Memory => o.memory_bytes,
            Self::Accuracy => -o.accuracy?,
        })
    }

    /// The card's axes: latency, energy, largest resource share.
    #[must_use]
    pub fn defaults() -> Vec<Self> {
        vec![Self::Latency, Self::Energy, Self::MaxResource]
    }
}

impl fmt::Display for Goal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Latency => f.write_str("latency_s"),
            Self::LatencyP95 => f.write_str("latency_p95_s"),
            Self::Energy => f.write_str("energy_j"),
            Self::MaxResource => f.write_str("max_resource"),
            Self::Resource(r) => r.fmt(f),
            Self::Memory => f.write_str("memory_bytes"),
            Self::Accuracy => f.write_str("accuracy"),
        }
    }
}

/// A constraint that a design breaks.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Violation {
    /// Name of the constraint, such as `dsp`.
    pub constraint: Cow<'static, str>,
    /// How far beyond the limit, as a share of the limit; positive.
    pub margin: f64,
}

impl Violation {
    /// A violation when `value` exceeds `limit`.
    #[must_use]
    pub fn above(constraint: &'static str, value: f64, limit: f64) -> Option<Self> {
        let constraint = Cow::Borrowed(constraint);
        (value > limit).then(|| Self { constraint, margin: (value - limit) / scale(limit) })
    }

    /// A violation when `value` is below `limit`.
    #[must_use]
    pub fn below(constraint: &'static str, value: f64, limit: f64) -> Option<Self> {
        let constraint = Cow::Borrowed(constraint);
        (value < limit).then(|| Self { constraint, margin: (limit - value) / scale(limit) })
    }
}

/// What a margin is a share of; a limit of zero leaves the excess itself.
fn scale(limit: f64) -> f64 {
    if limit == 0.0 { 1.0 } else { limit.abs() }
}

/// Why a point has no objectives.
#[derive(Debug, Clone, PartialEq)]
pub enum Rejection {
    /// It breaks these constraints, at least one.
    Infeasible(Vec<Violation>),
    /// It cannot be computed; the search ends with this error.
    Failed(HwError),
}

impl From<HwError> for Rejection {
    fn from(error: HwError) -> Self {
        Self::Failed(error)
    }
}

/// What is known about all points below a partial assignment.
#[derive(Debug, Clone, PartialEq)]
pub enum Bound {
    /// Nothing.
    Unknown,
    /// No point below costs less, goal by goal; for accuracy, none has more.
    AtLeast(Objectives),
    /// Every point below breaks this constraint by at least this margin.
    Infeasible(Violation),
}

/// Computes the cost of points; shared by all threads.
pub trait Evaluate: Sync {
    /// The cost of a point.
    ///
    /// # Errors
    ///
    /// [`Rejection::Infeasible`] with the broken constraints, [`Rejection::Failed`] to end the search.
    fn eval(&self, point: &Point) -> Result<Objectives, Rejection>;

    /// A bound that no point below undercuts. Rounding counts: a bound one unit in the last place too high loses points.
    fn lower_bound(&self, _partial: &Partial<'_>) -> Bound {
        Bound::Unknown
    }

    /// Good designs to start from; they need not be feasible.
    fn seeds(&self) -> Vec<Point> {
        Vec::new()
    }

    /// The two stages of a pipelined accelerator, where the design has them.
    fn two_stage(&self) -> Option<&dyn TwoStage> {
        None
    }
}

/// An accelerator of an attention part and a linear part that work at the same time.
pub trait TwoStage: Sync {
    /// Dimensions that size the attention part.
    fn attention_dims(&self) -> &[usize];
    /// Dimensions that size the linear part.
    fn linear_dims(&self) -> &[usize];
    /// Cycles of the attention part and of the linear part for one image.
    ///
    /// # Errors
    ///
    /// Those of the cost model.
    fn stage_cycles(&self, point: &Point) -> Result<(f64, f64)>;
    /// Share of the multiplier ceiling that the attention part and the linear part take.
    ///
    /// # Errors
    ///
    /// Those of the resource model.
    fn stage_dsp(&self, point: &Point) -> Result<(f64, f64)>;
}

/// Most goals of one search.
pub(super) const MAX_GOALS: usize = 8;

/// Values to minimise, without a heap allocation.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Costs {
    n: usize,
    values: [f64; MAX_GOALS],
}

impl Costs {
    /// The goals' values; an error for a missing or non-finite one.
    pub(super) fn of(goals: &[Goal], o: &Objectives, at: &dyn Fn() -> String) -> Result<Self> {
        let mut costs = Self { n: goals.len().min(MAX_GOALS), values: [0.0; MAX_GOALS] };
        for (slot, goal) in costs.values.iter_mut().zip(goals) {
            match goal.cost(o) {
                // Adding zero turns −0 into 0, so that equal costs have equal bits.
                Some(v) if v.is_finite() => *slot = v + 0.0,
                Some(v) => {
                    return Err(HwError::config(
                        format!("objective {goal}"),
                        "finite",
                        format!("{v} at {}", at()),
                    ));
                }
                None => {
                    return Err(HwError::config(
                        format!("objective {goal}"),
                        "given",
                        format!("absent at {}", at()),
                    ));
                }
            }
        }
        Ok(costs)
    }

    pub(super) fn as_slice(&self) -> &[f64] {
        self.values.get(..self.n).unwrap_or_default()
    }
}
