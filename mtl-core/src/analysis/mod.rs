//! Analysis of multi-task training: who conflicts, who helps whom, who uses which expert.
//!
//! Gradient conflict ([`conflict`](conflict()), [`ConflictMeter`]) and look-ahead affinity ([`affinity`](affinity()))
//! need tensors; transfer gains ([`transfer_gain`]) and expert usage ([`ExpertCounts`]) do not.
//!
//! During training the meters are fed from the reports of the steps: `measure_every`, `affinity_every` and `trace_every` of
//! `JointConfig` say how often a report has inner products for a [`ConflictMeter`], affinities for a [`MeanAffinity`], and the
//! gates of experts for [`ExpertCounts`]. At 0, the default, nothing of it is computed; otherwise training is the same to the
//! last bit.
#![cfg_attr(
    not(feature = "torch"),
    doc = "",
    doc = "[`ConflictMeter`]: crate",
    doc = "[`MeanAffinity`]: crate",
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
