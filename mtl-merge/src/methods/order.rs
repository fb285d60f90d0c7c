//! Exact order statistics of whole models.
use crate::{
    Piece, Resolved, Result, Tensor,
    select::{Rank, select_among},
};

/// A value asked for: the one at `rank` in ascending order, from 0, among those of the model with number `lane`. A rank
/// beyond the last means the last.
#[derive(Debug, Clone, Copy)]
pub(super) struct Query {
    pub(super) lane: usize,
    pub(super) rank: usize,
}

/// Key of a value that a model lacks: below all others.
const ABSENT: i128 = 0;

/// An integer in the order of the numbers.
#[inline(always)]
fn key(x: f64) -> i128 {
    let bits = x.to_bits();
    i128::from(if bits >> 63 == 1 { !bits } else { bits | 1 << 63 }) + 1
}

fn number(key: i128) -> f64 {
    let bits = u64::try_from(key - 1).unwrap_or_default();
    f64::from_bits(if bits >> 63 == 1 { bits & (u64::MAX >> 1) } else { !bits })
}

/// Elements of every model, by number, in the tensors that `counts` is true for.
pub(super) fn sizes(tensors: &[(Tensor<'_>, &Resolved)], counts: impl Fn(usize) -> bool) -> Vec<usize> {
    let mut sizes = Vec::new();
    for (tensor, _) in tensors.iter().enumerate().filter(|(at, _)| counts(*at)).map(|(_, t)| t) {
        for number in (0..tensor.n_models()).map(|m| tensor.number(m)) {
            sizes.resize(sizes.len().max(number + 1), 0);
            sizes[number] += tensor.numel();
        }
    }
    sizes
}

/// The answers to `queries`; 0 for a model without values.
///
/// `values(tensor, piece, m, out)` writes the values of the piece for model `m` of the tensor, or gives `false` when the
/// tensor has no part in the list. `sizes` are the lengths of the lists, by the models' numbers.
///
/// # Errors
///
/// Errors of reading.
pub(super) fn ranked(
    tensors: &[(Tensor<'_>, &Resolved)],
    sizes: &[usize],
    queries: &[Query],
    values: impl Fn(usize, &Piece<'_>, usize, &mut [f64]) -> bool + Sync,
) -> Result<Vec<f64>> {
    let keys = |at: usize, piece: &Piece<'_>, lane: usize, out: &mut [i128]| {
        let model = tensors.get(at).and_then(|(t, _)| (0..t.n_models()).find(|&m| t.number(m) == lane));
        let mut list = vec![0.0; out.len()];
        if model.is_some_and(|m| values(at, piece, m, &mut list)) {
            out.iter_mut().zip(list).for_each(|(key_out, x)| *key_out = key(x));
        } else {
            out.fill(ABSENT);
        }
    };
    let size = |query: &Query| sizes.get(query.lane).copied().unwrap_or(0);
    let rank = |query: &Query| Rank {
        list: query.lane,
        k: size(query).saturating_sub(query.rank).clamp(1, size(query).max(1)),
    };
    let all: Vec<&Tensor<'_>> = tensors.iter().map(|(tensor, _)| tensor).collect();
    // All entries of a list have no threshold; their smallest is found apart.
    let (whole, part): (Vec<&Query>, Vec<&Query>) = queries.iter().partition(|q| rank(q).k >= size(q));
    let part_ranks: Vec<Rank> = part.iter().map(|q| rank(q)).collect();
    let mut parts = select_among(&all, &part_ranks, keys)?.into_iter().map(|threshold| number(threshold.key));
    let mut smallest = vec![i128::MAX; whole.len()];
    for (at, tensor) in all.iter().enumerate().filter(|_| !whole.is_empty()) {
        let blocks = tensor.blocks(
            |_| vec![i128::MAX; whole.len()],
            |smallest, piece| {
                let mut list = vec![ABSENT; piece.len()];
                for (smallest, query) in smallest.iter_mut().zip(&whole) {
                    keys(at, piece, query.lane, &mut list);
                    let least = list.iter().copied().filter(|&key| key != ABSENT).min();
                    *smallest = (*smallest).min(least.unwrap_or(i128::MAX));
                }
            },
        )?;
        for block in blocks {
            smallest.iter_mut().zip(block).for_each(|(a, b)| *a = (*a).min(b));
        }
    }
    let mut wholes = smallest.into_iter().map(|key| if key == i128::MAX { 0.0 } else { number(key) });
    let answer = |query: &Query| {
        let next = if rank(query).k >= size(query) { wholes.next() } else { parts.next() };
        next.unwrap_or(0.0)
    };
    Ok(queries.iter().map(answer).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_in_the_order_of_numbers_and_lead_back() {
        let numbers =
            [f64::NEG_INFINITY, -2.5, -1e-300, -0.0, 0.0, 1e-310, 1.0, 1.0 + f64::EPSILON, f64::MAX];
        assert!(numbers.map(key).is_sorted());
        assert!(numbers.iter().all(|&x| key(x) > ABSENT && number(key(x)).to_bits() == x.to_bits()));
    }
}
