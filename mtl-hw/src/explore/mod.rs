//! Design-space exploration: Pareto fronts of latency, energy and resources over discrete designs.
//!
//! A [`Space`] lists the parameters, an [`Evaluate`] computes what a point costs, and [`Explorer`] searches: every point,
//! branch and bound with admissible bounds, NSGA-II, random points, or the two stages of UbiMoE. [`transformer`] holds the
//! evaluator for transformer accelerators, [`off_chip`] that for designs that keep activations off chip, [`width`] the search for the widths of slimmable networks under a budget.
//!
//! Results depend on the seed but not on the number of threads; searches run in rayon's current pool.
mod branch;
mod exhaustive;
mod front;
mod hypervolume;
mod nsga2;
mod objectives;
pub mod off_chip;
mod plot;
mod rng;
mod search;
mod space;
mod strategy;
pub mod transformer;
mod ubimoe;
pub mod width;

pub use front::ParetoFront;
pub use hypervolume::hypervolume;
pub use nsga2::Nsga2Config;
pub use objectives::{Bound, Evaluate, Fractions, Goal, Objectives, Rejection, TwoStage, Violation};
pub use plot::PlotData;
pub use search::{Budget, ConstraintTally, Ended, Exploration, Progress};
pub use space::{Dim, Partial, Point, Space};
pub use strategy::{Explorer, Strategy, explore};
