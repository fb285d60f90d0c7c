//! Misses of a least-recently-used cache of experts: Mattson's stack distances, one pass for all sizes.
use super::Choices;

/// The experts seen so far, most recent first. An access at stack distance d hits in every cache of more than d experts.
#[derive(Debug, Clone, Default)]
pub(crate) struct LruStack {
    recent: Vec<u16>,
}

impl LruStack {
    /// Forgets all experts, and keeps the memory.
    pub(crate) fn clear(&mut self) {
        self.recent.clear();
    }

    /// The stack distance of `id`, or `None` the first time; moves it to the front.
    pub(crate) fn access(&mut self, id: u16) -> Option<usize> {
        let mut carried = id;
        for (distance, slot) in self.recent.iter_mut().enumerate() {
            std::mem::swap(slot, &mut carried);
            if carried == id {
                return Some(distance);
            }
        }
        self.recent.push(carried);
        None
    }
}

/// Misses of an LRU cache for every capacity `1..=max`, at most 65536, as ids have 16 bits. Accesses are tokens in sequence, ids in list order.
///
/// ```
/// use mtl_hw::routing::lru_curve;
/// let trace = [vec![0, 1], vec![0, 1], vec![2, 0]];
/// assert_eq!(lru_curve(&trace, 3), [6, 4, 3]);
/// ```
#[must_use]
pub fn lru_curve(trace: &[Vec<u16>], max: usize) -> Vec<u64> {
    let mut misses = vec![0; max.min(1 << 16)];
    lru_curve_into(trace.into(), &mut LruStack::default(), &mut misses);
    misses
}

/// Fills `misses[c − 1]` for every capacity c up to its length.
pub(crate) fn lru_curve_into(choices: Choices<'_>, stack: &mut LruStack, misses: &mut [u64]) {
    stack.clear();
    misses.fill(0);
    let mut accesses = 0u64;
    choices.ids().for_each(|id| {
        accesses += 1;
        if let Some(hits) = stack.access(id).and_then(|distance| misses.get_mut(distance)) {
            *hits += 1;
        }
    });
    // Hits at distance c − 1 become misses of capacity c.
    let mut left = accesses;
    for slot in misses {
        left -= *slot;
        *slot = left;
    }
}

/// Misses of an LRU cache of `capacity` experts; without a cache every access misses.
#[must_use]
pub fn lru_misses(trace: &[Vec<u16>], capacity: usize) -> u64 {
    misses_of(trace.into(), &mut LruStack::default(), capacity)
}

/// Misses of one capacity, in memory that the caller keeps.
pub(crate) fn misses_of(choices: Choices<'_>, stack: &mut LruStack, capacity: usize) -> u64 {
    stack.clear();
    let mut misses = 0;
    choices.ids().for_each(|id| misses += u64::from(stack.access(id).is_none_or(|d| d >= capacity)));
    misses
}
