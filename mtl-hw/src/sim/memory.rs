//! Memory that several ports share.
use super::tasks::overflow;
use crate::math::{positive, positive_float};
use crate::{HwError, Result};

/// Fractions of a cycle of work that are kept, so that shares need not divide evenly.
const FRACTION_BITS: u32 = 32;

/// Bandwidth of a memory. While transfers together ask for more, each runs slower by the same factor.
///
/// ```
/// use mtl_hw::sim::{SharedMemory, TaskGraph};
/// let mut graph = TaskGraph::new();
/// graph.share(SharedMemory::new(24, 1)?);
/// for _ in 0..2 {
///     let port = graph.resource(1)?;
///     graph.transfer(port, 300, 16)?; // 4800 bytes at 16 bytes per cycle
/// }
/// assert_eq!(graph.run()?.cycles, 400); // 9600 bytes at 24 bytes per cycle
/// # Ok::<(), mtl_hw::HwError>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SharedMemory {
    bytes: u64,
    cycles: u64,
}

impl SharedMemory {
    /// A memory that moves `bytes` in `cycles`.
    ///
    /// # Errors
    ///
    /// [`HwError::Config`] for a zero.
    pub fn new(bytes: u64, cycles: u64) -> Result<Self> {
        Ok(Self { bytes: positive("bytes", bytes)?, cycles: positive("cycles", cycles)? })
    }

    /// A memory of `bytes_per_s`, of which a share `efficiency` is reached, seen at a clock.
    ///
    /// # Errors
    ///
    /// [`HwError::Config`] for a zero or an efficiency outside (0, 1].
    pub fn of_bandwidth(bytes_per_s: u64, efficiency: f64, clock_hz: u64) -> Result<Self> {
        if positive_float("efficiency", efficiency)? > 1.0 {
            return Err(HwError::config("efficiency", "in (0, 1]", efficiency));
        }
        Self::new((bytes_per_s as f64 * efficiency).round() as u64, clock_hz)
    }

    /// Work per cycle as a fraction of the full rate, at most one, when `demand` bytes per cycle are asked for.
    fn speed(&self, demand: u64) -> Speed {
        let asked = u128::from(demand) * u128::from(self.cycles);
        let given = u128::from(self.bytes);
        if given >= asked { Speed::FULL } else { Speed { given, asked } }
    }
}

/// `given / asked` of the full rate.
#[derive(Debug, Clone, Copy)]
struct Speed {
    given: u128,
    asked: u128,
}

impl Speed {
    const FULL: Self = Self { given: 1, asked: 1 };

    /// Fractions done in some cycles. Rounded up, so that what ends at a whole cycle ends there.
    fn done(self, cycles: u64) -> Result<u128> {
        let scaled = (u128::from(cycles) << FRACTION_BITS).checked_mul(self.given).ok_or_else(overflow)?;
        Ok(scaled.div_ceil(self.asked))
    }

    /// Cycles until some fractions are done.
    fn cycles(self, left: u128) -> Result<u64> {
        let scaled = left.checked_mul(self.asked).ok_or_else(overflow)?;
        let given = self.given.checked_mul(1 << FRACTION_BITS).ok_or_else(overflow)?;
        u64::try_from(scaled.div_ceil(given)).map_err(|_| overflow())
    }
}

#[derive(Debug, Clone, Copy)]
struct Transfer {
    id: u32,
    demand: u32,
    start: u64,
    left: u128, // fractions of a cycle at full rate
}

/// Transfers under way; their number is that of ports, so they are searched linearly.
#[derive(Debug, Clone)]
pub(super) struct Transfers {
    memory: Option<SharedMemory>,
    active: Vec<Transfer>,
    demand: u64,
    speed: Speed,
    updated: u64,
    next: Option<(u64, u32)>,
}

impl Transfers {
    pub(super) fn new(memory: Option<SharedMemory>) -> Self {
        Self { memory, active: Vec::new(), demand: 0, speed: Speed::FULL, updated: 0, next: None }
    }

    pub(super) fn clear(&mut self) {
        self.active.clear();
        (self.demand, self.updated, self.next) = (0, 0, None);
    }

    /// Whether transfers depend on each other at all.
    pub(super) fn shared(&self) -> bool {
        self.memory.is_some()
    }

    /// Time and id of the transfer that ends next.
    pub(super) fn next(&self) -> Option<(u64, u32)> {
        self.next
    }

    pub(super) fn start(&mut self, id: u32, cycles: u64, demand: u32, now: u64) -> Result<()> {
        self.advance(now)?;
        let left = u128::from(cycles) << FRACTION_BITS;
        self.active.push(Transfer { id, demand, start: now, left });
        self.demand += u64::from(demand);
        self.plan()
    }

    /// Removes the transfer that ends; returns its start.
    pub(super) fn finish(&mut self, (now, id): (u64, u32)) -> Result<u64> {
        self.advance(now)?;
        let index = self.active.iter().position(|t| t.id == id).unwrap_or_default();
        let transfer = self.active.remove(index);
        self.demand -= u64::from(transfer.demand);
        self.plan()?;
        Ok(transfer.start)
    }

    /// Takes off the work done since the last change.
    fn advance(&mut self, now: u64) -> Result<()> {
        let done = self.speed.done(now - self.updated)?;
        self.active.iter_mut().for_each(|t| t.left = t.left.saturating_sub(done));
        self.updated = now;
        Ok(())
    }

    /// Sets the speed of all transfers, and which of them ends next.
    fn plan(&mut self) -> Result<()> {
        self.next = None;
        let Some(memory) = self.memory.filter(|_| !self.active.is_empty()) else { return Ok(()) };
        self.speed = memory.speed(self.demand);
        for t in &self.active {
            let rest = self.speed.cycles(t.left)?;
            let end = (self.updated.checked_add(rest).ok_or_else(overflow)?, t.id);
            self.next = Some(self.next.map_or(end, |next| next.min(end)));
        }
        Ok(())
    }
}
