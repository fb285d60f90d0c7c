//! Misses of a least-recently-used cache of experts: Mattson's stack distances, one pass for all sizes.
use super::Choices;

/// Experts of which a stack fits in one 128-bit number, a byte each.
const PACKED: u64 = 16;
const ONES: u128 = u128::from_ne_bytes([1; 16]);
const TOPS: u128 = ONES << 7;

/// The experts seen so far, most recent first. An access at stack distance d hits in every cache of more than d experts.
#[derive(Debug, Clone)]
pub(crate) struct LruStack {
    packed: bool,
    recent: Vec<u16>,
}

impl LruStack {
    /// A stack for ids below `experts`.
    pub(crate) fn new(experts: u64) -> Self {
        Self { packed: experts <= PACKED, recent: Vec::new() }
    }

    /// Calls `seen` with each access's stack distance, or `None` the first time, starting from an empty stack.
    pub(crate) fn distances(&mut self, choices: Choices<'_>, mut seen: impl FnMut(Option<usize>)) {
        if self.packed {
            let mut stack = u128::MAX; // empty bytes are 255, which is no id
            choices.ids().for_each(|id| seen(access_packed(&mut stack, id)));
        } else {
            self.recent.clear();
            choices.ids().for_each(|id| seen(access(&mut self.recent, id)));
        }
    }
}

fn access(recent: &mut Vec<u16>, id: u16) -> Option<usize> {
    let mut carried = id;
    for (distance, slot) in recent.iter_mut().enumerate() {
        std::mem::swap(slot, &mut carried);
        if carried == id {
            return Some(distance);
        }
    }
    recent.push(carried);
    None
}

/// As [`access`], without a branch per entry.
fn access_packed(stack: &mut u128, id: u16) -> Option<usize> {
    let other = *stack ^ (ONES * u128::from(id & 0xff)); // a zero byte where the id is
    let zeros = other.wrapping_sub(ONES) & !other & TOPS;
    let distance = zeros.trailing_zeros() as usize / 8; // 16 when there is none
    // The bytes below move up by one, over the id or, for a new one, over the last byte, which is empty.
    let shift = 8 * distance.min(15) as u32;
    let below = *stack & !(u128::MAX << shift);
    *stack = *stack >> 8 >> shift << shift << 8 | below << 8 | u128::from(id & 0xff);
    (zeros != 0).then_some(distance)
}

/// The number of experts that ids imply.
fn experts(trace: &[Vec<u16>]) -> u64 {
    trace.iter().flatten().max().map_or(0, |&id| u64::from(id) + 1)
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
    lru_curve_into(trace.into(), &mut LruStack::new(experts(trace)), &mut misses);
    misses
}

/// Fills `misses[c − 1]` for every capacity c up to its length.
pub(crate) fn lru_curve_into(choices: Choices<'_>, stack: &mut LruStack, misses: &mut [u64]) {
    misses.fill(0);
    let mut accesses = 0u64;
    stack.distances(choices, |distance| {
        accesses += 1;
        if let Some(hits) = distance.and_then(|d| misses.get_mut(d)) {
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
    misses_of(trace.into(), &mut LruStack::new(experts(trace)), capacity)
}

/// Misses of one capacity, in memory that the caller keeps.
pub(crate) fn misses_of(choices: Choices<'_>, stack: &mut LruStack, capacity: usize) -> u64 {
    let mut misses = 0;
    stack.distances(choices, |distance| misses += u64::from(distance.is_none_or(|d| d >= capacity)));
    misses
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn the_packed_stack_has_the_distances_of_the_plain_one(ids in proptest::collection::vec(0u16..16, 0..200)) {
            let run = |experts| {
                let mut distances = Vec::new();
                LruStack::new(experts).distances(Choices::Flat { ids: &ids, top_k: 1 }, |d| distances.push(d));
                distances
            };
            prop_assert_eq!(run(16), run(17));
        }
    }
}
