//! The scans behind a selection: sampling, counting against brackets, resolving ties.
use super::{Key, Rank, Threshold};
use crate::{Error, Piece, Result, Tensor, Work};
use multiversion::multiversion;
use rayon::prelude::*;
use std::ops::Range;

/// Writes the keys of a piece: position of the tensor, piece, list, keys.
pub(super) type Keys<'k, K> = dyn Fn(usize, &Piece<'_>, usize, &mut [K]) + Sync + 'k;

/// Keys of a list that are sampled at most.
const LARGEST_SAMPLE: usize = 1 << 19;

/// Length of a sampled run: long enough to be worth the read, short enough to be nearly independent.
const RUN: usize = 16;

/// The entries of several tensors, taken as one list.
pub(super) struct Job<'j, 't, K> {
    tensors: &'j [&'j Tensor<'t>],
    /// Position of each tensor's first element among all, and the number of all elements.
    offsets: Vec<usize>,
    keys: &'j Keys<'j, K>,
}

/// A rank and two keys, of which at least one entry between should have that rank.
pub(super) struct Bracket<K> {
    pub(super) rank: Rank,
    pub(super) ends: (K, K),
}

/// Keys at random positions.
pub(super) struct Sample<K> {
    /// Keys of every list, run after run.
    lists: Vec<Vec<K>>,
    /// End of every run.
    runs: Vec<usize>,
}

/// What a scan finds in one block.
pub(super) struct Block<K> {
    tensor: usize,
    span: Range<usize>,
    /// For every bracket.
    counts: Vec<Counts<K>>,
}

struct Counts<K> {
    above: usize,
    /// Keys at the upper and at the lower end.
    ties: [usize; 2],
    /// Keys strictly inside the bracket, in order of position.
    inside: Vec<K>,
}

impl<K> Counts<K> {
    const ZERO: Self = Self { above: 0, ties: [0; 2], inside: Vec::new() };
}

/// What lies above a bracket, and how many keys are in each part of it.
struct Histogram {
    above: usize,
    parts: Vec<u64>,
}

impl<'j, 't, K: Key> Job<'j, 't, K> {
    pub(super) fn new(tensors: &'j [&'j Tensor<'t>], keys: &'j Keys<'j, K>) -> Self {
        let mut offsets = vec![0];
        for tensor in tensors {
            offsets.push(offsets[offsets.len() - 1] + tensor.numel());
        }
        Self { tensors, offsets, keys }
    }

    pub(super) fn numel(&self) -> usize {
        self.offsets.last().copied().unwrap_or(0)
    }

    /// Draws about `4 n^(2/3)` keys of every list, in runs at jittered equal distances.
    pub(super) fn sample(&self, wanted: &[Rank]) -> Result<Sample<K>> {
        let n = self.numel();
        let size = ((4.0 * (n as f64).powf(2.0 / 3.0)) as usize).min(LARGEST_SAMPLE);
        let n_lists = wanted.iter().map(|rank| rank.list + 1).max().unwrap_or(0);
        let mut listed = vec![false; n_lists];
        wanted.iter().for_each(|rank| listed[rank.list] = true);
        let mut sample = Sample { lists: vec![Vec::new(); n_lists], runs: Vec::new() };
        for (t, tensor) in self.tensors.iter().enumerate() {
            let whole_rows = tensor.spec.work == Work::Rows;
            let run = if whole_rows { tensor.cols().max(1) } else { RUN };
            let share = size as f64 * tensor.numel() as f64 / n as f64;
            let least = if whole_rows { 32 } else { 1 };
            let places = tensor.numel().div_ceil(run);
            let runs = ((share / run as f64) as usize).max(least).min(places);
            for r in 0..runs {
                let (from, to) = (places * r / runs, places * (r + 1) / runs);
                // Equal distances may fall in step with the rows: jitter by a multiplicative hash.
                let jitter =
                    ((r as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32) as usize % (to - from).max(1);
                let start = (from + jitter) * run;
                let end = (start + run).min(tensor.numel());
                tensor.pieces(start..end, |piece| {
                    for (list, out) in sample.lists.iter_mut().enumerate().filter(|(list, _)| listed[*list]) {
                        let len = out.len();
                        out.resize(len + piece_len(piece), K::BELOW);
                        (self.keys)(t, piece, list, &mut out[len..]);
                    }
                    Ok(())
                })?;
                let before = sample.runs.last().copied().unwrap_or(0);
                sample.runs.push(before + (end - start));
            }
        }
        Ok(sample)
    }

    pub(super) fn scan(&self, brackets: &[Bracket<K>]) -> Result<Vec<Block<K>>> {
        let spans = self.tensors.iter().enumerate();
        let spans: Vec<_> =
            spans.flat_map(|(t, tensor)| tensor.spans().into_iter().map(move |s| (t, s))).collect();
        let blocks: Vec<Result<_>> = match spans.as_slice() {
            [(t, span)] => vec![self.block(*t, span.clone(), brackets)],
            _ => spans.into_par_iter().map(|(t, span)| self.block(t, span, brackets)).collect(),
        };
        blocks.into_iter().collect()
    }

    fn block(&self, tensor: usize, span: Range<usize>, brackets: &[Bracket<K>]) -> Result<Block<K>> {
        let mut counts: Vec<_> = brackets.iter().map(|_| Counts::ZERO).collect();
        self.sift(tensor, span.clone(), brackets, &mut counts, |_, _| ())?;
        Ok(Block { tensor, span, counts })
    }

    /// Counts the keys of a part of a tensor against the brackets; `after` is called for every bracket and piece.
    fn sift(
        &self,
        tensor: usize,
        span: Range<usize>,
        brackets: &[Bracket<K>],
        counts: &mut [Counts<K>],
        mut after: impl FnMut(usize, &mut Counts<K>),
    ) -> Result<()> {
        let mut keys = Vec::new();
        self.tensors[tensor].pieces(span, |piece| {
            keys.resize(piece_len(piece), K::BELOW);
            let mut current = None;
            for (j, (bracket, counts)) in brackets.iter().zip(counts.iter_mut()).enumerate() {
                if current != Some(bracket.rank.list) {
                    (self.keys)(tensor, piece, bracket.rank.list, &mut keys);
                    current = Some(bracket.rank.list);
                }
                sift(&keys, bracket.ends, counts);
                after(j, counts);
            }
            Ok(())
        })
    }

    /// Narrows brackets that many keys may lie in, by a scan that counts the keys in parts of them: memory stays small
    /// however large the tensor.
    pub(super) fn narrow(&self, brackets: &mut [Bracket<K>]) -> Result<()> {
        let zero = || -> Vec<Histogram> {
            brackets.iter().map(|_| Histogram { above: 0, parts: vec![0; PARTS] }).collect()
        };
        let shifts: Vec<u32> = brackets.iter().map(|b| shift(b.ends.1.above(b.ends.0))).collect();
        let spans = self.tensors.iter().enumerate();
        let spans: Vec<_> =
            spans.flat_map(|(t, tensor)| tensor.spans().into_iter().map(move |s| (t, s))).collect();
        let count = |mut histograms: Vec<Histogram>, (t, span): (usize, Range<usize>)| {
            let mut counts: Vec<_> = brackets.iter().map(|_| Counts::ZERO).collect();
            self.sift(t, span, brackets, &mut counts, |j, counts| {
                for key in counts.inside.drain(..) {
                    histograms[j].parts[(key.above(brackets[j].ends.0) >> shifts[j]) as usize] += 1;
                }
            })?;
            for (histogram, counts) in histograms.iter_mut().zip(&counts) {
                histogram.above += counts.above + counts.ties[HI];
            }
            Ok::<_, Error>(histograms)
        };
        let histograms = spans.into_par_iter().try_fold(zero, count).try_reduce(zero, |mut a, b| {
            for (a, b) in a.iter_mut().zip(b) {
                a.above += b.above;
                a.parts.iter_mut().zip(b.parts).for_each(|(a, b)| *a += b);
            }
            Ok(a)
        })?;
        for ((bracket, histogram), shift) in brackets.iter_mut().zip(histograms).zip(shifts) {
            let Some(mut need) = bracket.rank.k.checked_sub(histogram.above).filter(|&need| need > 0) else {
                continue; // At the upper end or beyond it: the scan that follows tells.
            };
            let (lo, hi) = bracket.ends;
            for (part, &keys) in histogram.parts.iter().enumerate().rev() {
                if need as u64 <= keys {
                    let start = lo.plus((part as u128) << shift);
                    // Beyond the highest key there is none to count on.
                    let end = if hi.above(start) > 1 << shift { start.plus(1 << shift) } else { hi };
                    bracket.ends.0 = if part == 0 { lo } else { start.plus(1_u128.wrapping_neg()) };
                    bracket.ends.1 = end;
                    break;
                }
                need -= keys as usize;
            }
        }
        Ok(())
    }

    /// The threshold, unless the bracket misses it; the bracket is number `j` in `blocks`.
    pub(super) fn resolve(
        &self,
        bracket: &Bracket<K>,
        j: usize,
        blocks: &[Block<K>],
    ) -> Result<Option<Threshold<K>>> {
        let (lo, hi) = bracket.ends;
        let total = |of: &dyn Fn(&Counts<K>) -> usize| blocks.iter().map(|b| of(&b.counts[j])).sum::<usize>();
        let ties = |end: usize| total(&|c| c.ties[end]);
        let Some(mut need) = bracket.rank.k.checked_sub(total(&|c| c.above)).filter(|&need| need > 0) else {
            return Ok(None);
        };
        let at_hi = ties(HI);
        if need <= at_hi {
            return self.cutoff(bracket.rank.list, hi, need, at_hi, blocks, |b| b.counts[j].ties[HI]);
        }
        need -= at_hi;
        let inside = total(&|c| c.inside.len());
        if need <= inside {
            let mut keys = Vec::with_capacity(inside);
            blocks.iter().for_each(|b| keys.extend_from_slice(&b.counts[j].inside));
            let (larger, &mut key, smaller) = keys.select_nth_unstable_by(need - 1, |a, b| b.cmp(a));
            let equal = |keys: &[K]| keys.iter().filter(|&&k| k == key).count();
            let (before, after) = (equal(larger), equal(smaller));
            let (list, all) = (bracket.rank.list, before + 1 + after);
            return self.cutoff(list, key, before + 1, all, blocks, |b| equal(&b.counts[j].inside));
        }
        need -= inside;
        let at_lo = ties(LO);
        if need <= at_lo {
            return self.cutoff(bracket.rank.list, lo, need, at_lo, blocks, |b| b.counts[j].ties[LO]);
        }
        Ok(None)
    }

    /// Where the first `take` of `all` entries with `key` end; `ties` counts those of a block.
    fn cutoff(
        &self,
        list: usize,
        key: K,
        take: usize,
        all: usize,
        blocks: &[Block<K>],
        ties: impl Fn(&Block<K>) -> usize,
    ) -> Result<Option<Threshold<K>>> {
        let mut threshold = Threshold { key, cutoff: usize::MAX };
        if take == all {
            return Ok(Some(threshold));
        }
        let mut left = take;
        for block in blocks {
            let here = ties(block);
            if here < left {
                left -= here;
                continue;
            }
            let mut keys = Vec::new();
            self.tensors[block.tensor].pieces(block.span.clone(), |piece| {
                if left > 0 {
                    keys.resize(piece_len(piece), K::BELOW);
                    (self.keys)(block.tensor, piece, list, &mut keys);
                    let equal = keys.iter().filter(|k| **k == key).count();
                    if equal >= left {
                        let mut places = keys.iter().enumerate().filter(|(_, k)| **k == key);
                        if let Some((at, _)) = places.nth(left - 1) {
                            threshold.cutoff = self.offsets[block.tensor] + piece.start + at + 1;
                        }
                    }
                    left = left.saturating_sub(equal);
                }
                Ok(())
            })?;
            break;
        }
        Ok(Some(threshold))
    }
}

/// Places of the counts of ties.
const HI: usize = 0;
const LO: usize = 1;

/// Parts of a bracket in a histogram.
const PARTS: usize = 1 << 12;

/// How far a distance within a bracket is shifted to give the number of its part.
fn shift(width: u128) -> u32 {
    (u128::BITS - width.leading_zeros()).saturating_sub(PARTS.trailing_zeros())
}

impl<K: Key> Sample<K> {
    /// Keys at `margin` standard errors around the rank's place in the sample.
    pub(super) fn bracket(&self, rank: Rank, n: usize, margin: f64) -> (K, K) {
        let mut keys = self.lists[rank.list].clone();
        let size = keys.len();
        let place = rank.k as f64 / n as f64 * size as f64;
        let middle = (place as usize).min(size - 1);
        let (_, &mut key, _) = keys.select_nth_unstable_by(middle, |a, b| b.cmp(a));
        // Neighbouring entries are alike: the error follows from the counts of whole runs. Differences between
        // neighbouring runs leave out what is due to even sampling.
        let (mut start, mut last, mut squares) = (0, None, 0.0);
        for &end in &self.runs {
            let count = self.lists[rank.list][start..end].iter().filter(|&&k| k >= key).count() as f64;
            squares += last.map_or(0.0, |last: f64| (count - last) * (count - last) / 2.0);
            (start, last) = (end, Some(count));
        }
        let binomial = place * (1.0 - place / size as f64);
        let reach = margin * squares.max(binomial).sqrt() + 2.0;
        let (above, below) = (place - reach, place + reach);
        let mut nth = |at: f64| *keys.select_nth_unstable_by(at as usize, |a, b| b.cmp(a)).1;
        let hi = if above < 0.0 { K::TOP } else { nth(above) };
        let lo = if below >= size as f64 { K::BELOW } else { nth(below) };
        (lo, hi)
    }

    /// About how many of `n` keys lie inside a bracket.
    pub(super) fn estimate(&self, list: usize, (lo, hi): (K, K), n: usize) -> usize {
        let keys = &self.lists[list];
        let inside = keys.iter().filter(|&&key| key > lo && key < hi).count();
        (inside as f64 / keys.len().max(1) as f64 * n as f64) as usize
    }
}

/// Counts the keys of a piece against a bracket and collects those inside.
#[multiversion(targets("x86_64+avx2"))]
fn sift<K: Key>(keys: &[K], (lo, hi): (K, K), counts: &mut Counts<K>) {
    // Four plain counts: LLVM keeps them in vector registers.
    let (mut over_hi, mut from_hi, mut over_lo, mut from_lo) = (0_u32, 0_u32, 0_u32, 0_u32);
    for &key in keys {
        over_hi += u32::from(key > hi);
        from_hi += u32::from(key >= hi);
        over_lo += u32::from(key > lo);
        from_lo += u32::from(key >= lo);
    }
    counts.above += over_hi as usize;
    if over_lo > from_hi {
        const GROUP: usize = 16;
        let inside = |key: K| key > lo && key < hi;
        let (groups, rest) = keys.as_chunks::<GROUP>();
        for group in groups {
            let mut any = false;
            for &key in group {
                any |= (key > lo) & (key < hi);
            }
            if any {
                let (mut chosen, mut n) = ([lo; GROUP], 0);
                for &key in group {
                    chosen[n % GROUP] = key;
                    n += usize::from(inside(key));
                }
                counts.inside.extend_from_slice(&chosen[..n]);
            }
        }
        counts.inside.extend(rest.iter().copied().filter(|&key| inside(key)));
    }
    // With both ends equal, they count once.
    let at_lo = if lo == hi { 0 } else { from_lo - over_lo };
    counts.ties[HI] += (from_hi - over_hi) as usize;
    counts.ties[LO] += at_lo as usize;
}

fn piece_len(piece: &Piece<'_>) -> usize {
    piece.base.or_else(|| piece.models.first().copied()).map_or(0, <[f64]>::len)
}
