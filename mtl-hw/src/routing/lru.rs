//! Misses of a least-recently-used cache of experts: Mattson's stack distances, one pass for all sizes.

/// Misses of an LRU cache for every capacity `1..=max`, at most 65536, as ids have 16 bits. Accesses are tokens in sequence, ids in list order.
///
/// ```
/// use mtl_hw::routing::lru_curve;
/// let trace = [vec![0, 1], vec![0, 1], vec![2, 0]];
/// assert_eq!(lru_curve(&trace, 3), [6, 4, 3]);
/// ```
#[must_use]
pub fn lru_curve(trace: &[Vec<u16>], max: usize) -> Vec<u64> {
    let mut stack: Vec<u16> = Vec::new(); // most recent first
    let mut hits_at = vec![0u64; max.min(1 << 16)];
    let mut accesses = 0u64;
    for &id in trace.iter().flatten() {
        accesses += 1;
        if let Some(depth) = stack.iter().position(|&e| e == id) {
            // An access at stack depth d hits in every cache of more than d experts.
            if let Some(hits) = hits_at.get_mut(depth) {
                *hits += 1;
            }
            stack.remove(depth);
        }
        stack.insert(0, id);
    }
    let mut misses = accesses;
    hits_at
        .into_iter()
        .map(|hits| {
            misses -= hits;
            misses
        })
        .collect()
}

/// Misses of an LRU cache of `capacity` experts; without a cache every access misses.
#[must_use]
pub fn lru_misses(trace: &[Vec<u16>], capacity: usize) -> u64 {
    match lru_curve(trace, capacity).last() {
        Some(&misses) => misses,
        None => trace.iter().map(|ids| ids.len() as u64).sum(),
    }
}
