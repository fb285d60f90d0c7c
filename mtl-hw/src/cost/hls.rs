//! Cycles of pipelined loops and dataflow regions as high-level synthesis schedules them.
//!
//! Sequential calls add. Calls on disjoint arrays and ports may overlap; a model has to say so, since a source file does
//! not.
use crate::Result;
use crate::math::{positive, product, sum};
use serde::{Deserialize, Serialize};

/// A pipelined loop.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pipeline {
    /// Iterations.
    pub trips: u64,
    /// Initiation interval: cycles between iterations.
    pub ii: u64,
    /// Cycles of one iteration.
    pub depth: u64,
}

impl Pipeline {
    /// A perfect nest flattened into one loop: the trip counts multiply.
    ///
    /// # Errors
    ///
    /// [`HwError::Overflow`](crate::HwError::Overflow) beyond 64 bits.
    pub fn flattened(nest: &[u64], ii: u64, depth: u64) -> Result<Self> {
        Ok(Self { trips: product("trips", nest)?, ii, depth })
    }

    /// (trips − 1)·ii + depth; nothing for a loop that does not run.
    ///
    /// ```
    /// use mtl_hw::cost::hls::Pipeline;
    /// assert_eq!(Pipeline { trips: 100, ii: 2, depth: 7 }.cycles()?, 205);
    /// # Ok::<(), mtl_hw::HwError>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`HwError::Config`](crate::HwError::Config) for an interval of zero,
    /// [`HwError::Overflow`](crate::HwError::Overflow) beyond 64 bits.
    pub fn cycles(&self) -> Result<u64> {
        positive("ii", self.ii)?;
        match self.trips {
            0 => Ok(0),
            n => sum("cycles", [product("cycles", &[n - 1, self.ii])?, self.depth]),
        }
    }
}

/// What limits how often an iteration can start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Constraint {
    /// A value needed again `distance` iterations later takes `latency` cycles.
    Recurrence {
        /// Cycles round the dependence cycle.
        latency: u64,
        /// Iterations between producer and consumer.
        distance: u64,
    },
    /// An on-chip memory is accessed several times per iteration.
    Memory {
        /// Accesses per iteration.
        accesses: u64,
        /// Ports of the memory.
        ports: u64,
    },
    /// Words cross an off-chip port.
    Port {
        /// Words per iteration.
        words: u64,
        /// Bits of a word.
        word_bits: u64,
        /// Bits of the port.
        port_bits: u64,
    },
}

impl Constraint {
    /// The interval that this constraint alone would give.
    ///
    /// # Errors
    ///
    /// [`HwError::Config`](crate::HwError::Config) for a zero distance, port count or port width.
    pub fn interval(&self) -> Result<u64> {
        Ok(match *self {
            Self::Recurrence { latency, distance } => latency.div_ceil(positive("distance", distance)?),
            Self::Memory { accesses, ports } => accesses.div_ceil(positive("ports", ports)?),
            Self::Port { words, word_bits, port_bits } => {
                product("bits", &[words, word_bits])?.div_ceil(positive("port_bits", port_bits)?)
            }
        })
    }
}

/// The initiation interval of a loop, at least 1, and the index of the constraint that sets it, if any does.
///
/// # Errors
///
/// As [`Constraint::interval`].
pub fn initiation_interval(constraints: &[Constraint]) -> Result<(u64, Option<usize>)> {
    let mut best = (1, None);
    for (i, constraint) in constraints.iter().enumerate() {
        let interval = constraint.interval()?;
        if interval > best.0 {
            best = (interval, Some(i));
        }
    }
    Ok(best)
}

/// One process of a dataflow region.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Process {
    /// Cycles from start to end.
    pub latency: u64,
    /// Cycles until the next process can start: a few for a stream, `latency` where a whole block is handed over.
    pub fill: u64,
}

/// Processes in a chain that work at the same time.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Region {
    /// The chain, producers first.
    pub processes: Vec<Process>,
}

impl Region {
    /// Cycles between two runs of the region: its longest process.
    #[must_use]
    pub fn interval(&self) -> u64 {
        self.processes.iter().map(|p| p.latency).max().unwrap_or(0)
    }

    /// Cycles of one run: each process starts when those before it have filled.
    ///
    /// # Errors
    ///
    /// [`HwError::Overflow`](crate::HwError::Overflow) beyond 64 bits.
    pub fn once(&self) -> Result<u64> {
        let (mut start, mut end) = (0u64, 0u64);
        for p in &self.processes {
            end = end.max(sum("cycles", [start, p.latency])?);
            start = sum("cycles", [start, p.fill])?;
        }
        Ok(end)
    }

    /// Cycles of a loop around the region: (iterations − 1)·interval + one run.
    ///
    /// # Errors
    ///
    /// [`HwError::Overflow`](crate::HwError::Overflow) beyond 64 bits.
    pub fn repeated(&self, iterations: u64) -> Result<u64> {
        match iterations {
            0 => Ok(0),
            n => sum("cycles", [product("cycles", &[n - 1, self.interval()])?, self.once()?]),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tightest_constraint_sets_the_interval() {
        let constraints = [
            Constraint::Memory { accesses: 3, ports: 2 },
            Constraint::Recurrence { latency: 9, distance: 3 },
            Constraint::Port { words: 1, word_bits: 256, port_bits: 128 },
        ];
        assert_eq!(initiation_interval(&constraints).unwrap(), (3, Some(1)));
        assert_eq!(initiation_interval(&[]).unwrap(), (1, None));
        assert!(initiation_interval(&[Constraint::Memory { accesses: 1, ports: 0 }]).is_err());
    }

    #[test]
    fn nests_flatten_and_overflow_is_an_error() {
        assert_eq!(Pipeline::flattened(&[129, 12, 12], 1, 1).unwrap().cycles().unwrap(), 18_576);
        assert_eq!(Pipeline { trips: 0, ii: 1, depth: 40 }.cycles().unwrap(), 0);
        assert!(Pipeline { trips: 2, ii: 0, depth: 1 }.cycles().is_err());
        assert!(Pipeline { trips: u64::MAX, ii: 2, depth: 1 }.cycles().is_err());
    }

    #[test]
    fn a_region_runs_at_the_pace_of_its_longest_process() {
        let streams = Region {
            processes: vec![
                Process { latency: 100, fill: 4 },
                Process { latency: 120, fill: 10 },
                Process { latency: 100, fill: 1 },
            ],
        };
        assert_eq!((streams.interval(), streams.once().unwrap()), (120, 124));
        assert_eq!(streams.repeated(3).unwrap(), 2 * 120 + 124);
        let blocks =
            Region { processes: vec![Process { latency: 5, fill: 5 }, Process { latency: 7, fill: 7 }] };
        assert_eq!(blocks.once().unwrap(), 12);
        assert_eq!(blocks.repeated(0).unwrap(), 0);
    }
}
