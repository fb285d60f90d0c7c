//! Analysis of multi-task training: who conflicts, who helps whom, who uses which expert.
//!
//! Gradient conflict ([`conflict`](conflict()), [`ConflictMeter`]) and look-ahead affinity ([`affinity`](affinity()))
//! need tensors; transfer gains ([`transfer_gain`]) and expert usage ([`ExpertCounts`]) do not.
#![cfg_attr(
    not(feature = "torch"),
    doc = "",
    doc = "[`ConflictMeter`]: crate",
    doc = "[`conflict`](conflict()): crate",
    doc = "[`affinity`](affinity()): crate"
)]
#[cfg(feature = "torch")]
mod affinity;
#[cfg(feature = "torch")]
mod conflict;
mod experts;
#[cfg(feature = "torch")]
mod meter;
mod transfer;

pub use experts::{ExpertCounts, ExpertUsage, TaskPrior};
pub use transfer::{ScoreTable, TransferGain, transfer_gain};
#[cfg(feature = "torch")]
pub use {
    affinity::{Affinity, MeanAffinity, affinity, affinity_of},
    conflict::{ConflictReport, alignment, conflict, conflict_by_group, layer_of},
    meter::{ConflictMeter, ConflictWindow},
};
