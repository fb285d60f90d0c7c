//! What ran when: the record of a simulation.
use super::Outcome;
use super::stage::{Stage, StageTimes, Unit};
use super::tasks::Interval;
use serde::{Deserialize, Serialize};

/// What a [`Span`] shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SpanKind {
    /// Weights on a port.
    Load,
    /// Work on a unit.
    Compute,
}

/// One load or computation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Span {
    /// First cycle.
    pub start: u64,
    /// Cycle after the last.
    pub end: u64,
    /// Index in [`Timeline::lanes`].
    pub lane: usize,
    /// Index in [`Timeline::layers`].
    pub layer: usize,
    /// Expert, in MoE layers.
    pub expert: Option<u16>,
    /// Load or computation.
    pub kind: SpanKind,
}

/// Spans of all resources.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Timeline {
    /// What was simulated.
    pub title: String,
    /// Clock in Hz.
    pub clock_hz: u64,
    /// Cycles in all.
    pub cycles: u64,
    /// Events in all.
    pub events: u64,
    /// Names of the resources that were used.
    pub lanes: Vec<String>,
    /// Names of the layers.
    pub layers: Vec<String>,
    /// Spans of at least one cycle, in the order in which they were issued.
    pub spans: Vec<Span>,
}

const LANES: [&str; 4] = ["weight port", "matrix engine", "vector unit", "gate unit"];

impl Timeline {
    pub(super) fn of(
        title: &str,
        clock_hz: u64,
        layers: Vec<String>,
        outcome: Outcome,
        stages: &[Stage],
        intervals: &[StageTimes],
    ) -> Self {
        let mut spans = Vec::with_capacity(2 * stages.len());
        for (s, &(load, compute)) in stages.iter().zip(intervals) {
            let unit = match s.unit {
                Unit::Matrix => 1,
                Unit::Vector => 2,
                Unit::Gate => 3,
            };
            for (kind, lane, interval) in [(SpanKind::Load, 0, load), (SpanKind::Compute, unit, compute)] {
                if let Some(Interval { start, end }) = interval.filter(|i| i.end > i.start) {
                    spans.push(Span { start, end, lane, layer: s.node as usize, expert: s.expert, kind });
                }
            }
        }
        // Lanes without a span are left out.
        let mut index = [None; LANES.len()];
        let mut lanes = Vec::new();
        for (lane, slot) in index.iter_mut().enumerate() {
            if spans.iter().any(|s| s.lane == lane) {
                *slot = Some(lanes.len());
                lanes.push(LANES[lane].to_owned());
            }
        }
        spans.iter_mut().for_each(|s| s.lane = index[s.lane].unwrap_or(0));
        Self {
            title: title.to_owned(),
            clock_hz,
            cycles: outcome.cycles,
            events: outcome.events,
            lanes,
            layers,
            spans,
        }
    }

    /// Share of the cycles in which a resource works.
    #[must_use]
    pub fn utilisation(&self, lane: usize) -> f64 {
        let busy: u64 = self.spans.iter().filter(|s| s.lane == lane).map(|s| s.end - s.start).sum();
        if self.cycles == 0 { 0.0 } else { busy as f64 / self.cycles as f64 }
    }

    /// The part of the timeline within some layers, by index, with time starting at their first span.
    #[must_use]
    pub fn layers(&self, layers: std::ops::Range<usize>) -> Self {
        let mut part = self.clone();
        part.spans.retain(|s| layers.contains(&s.layer));
        let start = part.spans.iter().map(|s| s.start).min().unwrap_or(0);
        for s in &mut part.spans {
            (s.start, s.end) = (s.start - start, s.end - start);
        }
        part.cycles = part.spans.iter().map(|s| s.end).max().unwrap_or(0);
        part
    }
}
