//! The largest entries of a tensor, exactly, without sorting and in one scan.
//!
//! A sample brackets the wanted key. The scan counts what lies above and on the ends of the bracket and collects the few
//! keys inside it, among which the wanted one is then selected. A bracket that misses, which is rare, is widened and
//! the scan repeated; one that would hold many keys is narrowed first, by a scan that counts instead of collecting.
//! Memory: the sample and the keys inside the brackets, some megabytes however large the tensor.
use crate::{Piece, Result, Tensor};
use rayon::prelude::*;
use scan::{Bracket, Job};
use std::fmt::Debug;

mod scan;

/// A sort key; never negative, since signed comparisons are the fast ones.
pub(crate) trait Key: Copy + Ord + Debug + Send + Sync + 'static {
    /// Below every key.
    const BELOW: Self;
    /// Not below any key.
    const TOP: Self;

    /// How far it is above a lower key.
    fn above(self, low: Self) -> u128;

    /// The key so far above.
    fn plus(self, distance: u128) -> Self;
}

impl Key for i32 {
    const BELOW: Self = -1;
    const TOP: Self = Self::MAX;

    #[inline(always)]
    fn above(self, low: Self) -> u128 {
        u128::from(self.wrapping_sub(low) as u32)
    }

    fn plus(self, distance: u128) -> Self {
        self.wrapping_add(distance as Self)
    }
}

impl Key for i64 {
    const BELOW: Self = -1;
    const TOP: Self = Self::MAX;

    #[inline(always)]
    fn above(self, low: Self) -> u128 {
        u128::from(self.wrapping_sub(low) as u64)
    }

    fn plus(self, distance: u128) -> Self {
        self.wrapping_add(distance as Self)
    }
}

impl Key for i128 {
    const BELOW: Self = -1;
    const TOP: Self = Self::MAX;

    #[inline(always)]
    fn above(self, low: Self) -> u128 {
        self.wrapping_sub(low) as u128
    }

    fn plus(self, distance: u128) -> Self {
        self.wrapping_add(distance as Self)
    }
}

/// The order of `|x|` rounded to `f32`, as an integer; NaN comes last.
#[inline(always)]
pub(crate) fn key32(x: f64) -> i32 {
    ((x as f32).to_bits() & 0x7fff_ffff) as i32
}

/// The order of `|x|` as an integer; NaN comes last.
#[inline(always)]
#[cfg_attr(not(test), allow(dead_code))]
pub(crate) fn key64(x: f64) -> i64 {
    (x.to_bits() & (u64::MAX >> 1)) as i64
}

/// A number of largest keys wanted of one list of keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Rank {
    /// Which list; passed on to the function that computes keys.
    pub(crate) list: usize,
    /// How many of its entries.
    pub(crate) k: usize,
}

/// Separates the `k` largest entries from the others; among equal keys those of lower index are the larger.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Threshold<K> {
    /// Key of the smallest chosen entry.
    pub(crate) key: K,
    /// Entries with exactly that key are chosen if their index is below this.
    pub(crate) cutoff: usize,
}

impl<K: Key> Threshold<K> {
    /// Chooses every entry.
    pub(crate) const ALL: Self = Self { key: K::BELOW, cutoff: usize::MAX };
    /// Chooses no entry.
    pub(crate) const NONE: Self = Self { key: K::TOP, cutoff: 0 };

    /// Whether the entry belongs to the largest.
    #[inline(always)]
    #[cfg_attr(not(test), allow(dead_code))]
    pub(crate) fn keep(&self, key: K, index: usize) -> bool {
        key > self.key || (key == self.key && index < self.cutoff)
    }
}

/// Finds the threshold of every wanted rank over the entries of a tensor.
///
/// `keys(piece, list, out)` writes the keys of a piece; pieces begin anywhere, but hold whole rows if the method works on
/// rows. All ranks share the scans.
///
/// # Errors
///
/// As [`Tensor::blocks`].
pub(crate) fn select<K: Key>(
    tensor: &Tensor<'_>,
    wanted: &[Rank],
    keys: impl Fn(&Piece<'_>, usize, &mut [K]) + Sync,
) -> Result<Vec<Threshold<K>>> {
    select_among(&[tensor], wanted, |_, piece, list, out| keys(piece, list, out))
}

/// Finds the thresholds over several tensors taken as one: a cutoff counts the entries of the earlier tensors too.
///
/// `keys` gets the position of the tensor in `tensors` first.
///
/// # Errors
///
/// As [`Tensor::blocks`].
pub(crate) fn select_among<K: Key>(
    tensors: &[&Tensor<'_>],
    wanted: &[Rank],
    keys: impl Fn(usize, &Piece<'_>, usize, &mut [K]) + Sync,
) -> Result<Vec<Threshold<K>>> {
    let job = Job::new(tensors, &keys);
    let n = job.numel();
    let trivial = |rank: &Rank| match rank.k {
        0 => Some(Threshold::NONE),
        k if k >= n => Some(Threshold::ALL),
        _ => None,
    };
    let mut found: Vec<_> = wanted.iter().map(trivial).collect();
    let sample = if n > SMALL && found.contains(&None) { Some(job.sample(wanted)?) } else { None };
    let mut margin = 5.0; // Standard errors.
    while found.contains(&None) {
        let open: Vec<usize> = (0..wanted.len()).filter(|&i| found[i].is_none()).collect();
        let bracket = |&i: &usize| Bracket {
            rank: wanted[i],
            ends: sample.as_ref().map_or((K::BELOW, K::TOP), |s| s.bracket(wanted[i], n, margin)),
        };
        let mut brackets: Vec<_> = open.iter().map(bracket).collect();
        if let Some(sample) = &sample
            && brackets.iter().map(|b| sample.estimate(b.rank.list, b.ends, n)).sum::<usize>() > MOST_INSIDE
        {
            job.narrow(&mut brackets)?;
        }
        let blocks = job.scan(&brackets)?;
        let found_now = (0..open.len()).into_par_iter().map(|j| job.resolve(&brackets[j], j, &blocks));
        let found_now: Vec<Result<_>> = found_now.collect();
        for (i, threshold) in open.into_iter().zip(found_now) {
            found[i] = threshold?;
        }
        margin *= 4.0;
    }
    Ok(found.into_iter().flatten().collect())
}

/// Keys inside brackets that are collected in one scan, 4 to 16 bytes each; brackets that hold more are narrowed first.
const MOST_INSIDE: usize = if cfg!(test) { 1 << 12 } else { 1 << 20 };

/// Tensors of up to so many elements are not sampled; all their keys are collected.
const SMALL: usize = 1 << 14;
#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        MethodSpec, Work,
        tensor::{BLOCK, Values, Warnings},
    };
    use mtl_core::Seed;
    use rand::RngExt;
    use std::ops::Range;

    static ELEMENTS: MethodSpec = MethodSpec::new("test", "none", "none");
    static ROWS: MethodSpec = MethodSpec::new("test", "none", "none").work(Work::Rows);

    struct List(Vec<f64>);

    impl Values for List {
        fn read(&self, span: Range<usize>, out: &mut [f64]) -> Result<bool> {
            out.copy_from_slice(&self.0[span]);
            Ok(true)
        }

        fn label(&self) -> String {
            "memory".to_owned()
        }

        fn name(&self) -> &str {
            "w"
        }
    }

    /// Runs `work` on a tensor whose models hold `lists`.
    fn with<R>(
        lists: &[Vec<f64>],
        shape: &[usize],
        spec: &'static MethodSpec,
        work: impl FnOnce(&Tensor<'_>) -> R,
    ) -> R {
        let warnings = Warnings::default();
        work(&Tensor {
            name: "w",
            shape,
            spec,
            base: None,
            models: lists.iter().map(|list| Box::new(List(list.clone())) as Box<dyn Values>).collect(),
            numbers: (0..lists.len()).collect(),
            seed: Seed(0),
            allow_non_finite: false,
            survey: None,
            warnings: &warnings,
        })
    }

    fn keys(piece: &Piece<'_>, list: usize, out: &mut [i32]) {
        out.iter_mut().zip(piece.models[list]).for_each(|(out, &x)| *out = key32(x));
    }

    /// The threshold as sorting finds it.
    fn sorted(list: &[f64], k: usize) -> Threshold<i32> {
        let mut order: Vec<_> =
            list.iter().enumerate().map(|(i, &x)| (std::cmp::Reverse(key32(x)), i)).collect();
        order.sort_unstable();
        let (std::cmp::Reverse(key), last) = order[k - 1];
        let all = order.get(k).is_none_or(|(next, _)| next.0 != key);
        Threshold { key, cutoff: if all { usize::MAX } else { last + 1 } }
    }

    /// Compares with sorting, for `ks` of every list at once.
    fn check(lists: &[Vec<f64>], shape: &[usize], spec: &'static MethodSpec, ks: &[usize]) {
        let n = lists[0].len();
        let wanted: Vec<_> =
            (0..lists.len()).flat_map(|list| ks.iter().map(move |&k| Rank { list, k })).collect();
        let found = with(lists, shape, spec, |tensor| select(tensor, &wanted, keys).unwrap());
        for (rank, found) in wanted.iter().zip(found) {
            match rank.k {
                0 => assert_eq!(found, Threshold::NONE),
                k if k >= n => assert_eq!(found, Threshold::ALL),
                k => assert_eq!(found, sorted(&lists[rank.list], k), "{rank:?} of {n}"),
            }
        }
    }

    fn random(n: usize, stream: u64, draw: impl Fn(f64) -> f64) -> Vec<f64> {
        let mut rng = Seed(5).stream("select", stream);
        (0..n).map(|_| draw(rng.random::<f64>() - 0.5)).collect()
    }

    #[test]
    fn thresholds_are_those_of_sorting() {
        for n in [1, 2, 5, 100, SMALL, SMALL + 1, BLOCK + 7, 2 * BLOCK + BLOCK / 2] {
            let continuous = random(n, 0, |x| x * x * x);
            let coarse = random(n, 1, |x| (x * 20.0).round());
            let sparse = random(n, 2, |x| if x.abs() < 0.0001 { x } else { 0.0 });
            let ks = [0, 1, 2, n / 3, n / 2, n - n / 100, n - 1, n, n + 1];
            check(&[continuous, coarse, sparse], &[n], &ELEMENTS, &ks);
        }
    }

    #[test]
    fn equal_keys_give_way_to_the_lower_index() {
        let n = BLOCK + 10;
        let list = vec![2.0; n];
        check(&[vec![0.0; n], list], &[n], &ELEMENTS, &[1, 4096, 4097, BLOCK, n - 1]);
        let threshold = Threshold { key: 7, cutoff: 3 };
        assert_eq!([6, 7, 8].map(|key| threshold.keep(key, 2)), [false, true, true]);
        assert_eq!([6, 7, 8].map(|key| threshold.keep(key, 3)), [false, false, true]);
    }

    #[test]
    fn a_sample_that_misleads_costs_a_scan_and_nothing_else() {
        // What is large lies in a few places, or one after the other.
        let n = BLOCK + BLOCK / 2;
        let late: Vec<f64> = (0..n).map(|i| if i > n - 300 { 1.0 + i as f64 } else { 0.5 }).collect();
        let rising: Vec<f64> = (0..n).map(|i| i as f64).collect();
        let periodic: Vec<f64> = (0..n).map(|i| ((i * 7919) % 1024) as f64).collect();
        check(&[late, rising, periodic], &[n], &ELEMENTS, &[1, 10, 298, 299, 300, n / 2, n - 5]);
    }

    #[test]
    fn whole_rows_stay_whole() {
        let (rows, cols) = (300, 1000);
        let list = random(rows * cols, 3, |x| x);
        let key = |piece: &Piece<'_>, out: &mut [i32]| {
            assert_eq!((piece.start % cols, piece.models[0].len() % cols), (0, 0));
            keys(piece, 0, out);
        };
        let wanted = [Rank { list: 0, k: 1234 }];
        let found = with(std::slice::from_ref(&list), &[rows, cols], &ROWS, |tensor| {
            select(tensor, &wanted, |piece, _, out| key(piece, out)).unwrap()
        });
        assert_eq!(found, [sorted(&list, 1234)]);
    }

    #[test]
    fn several_tensors_count_as_one() {
        let sizes = [BLOCK + 3, 0, 5, 70_000];
        let parts: Vec<_> = sizes.iter().map(|&n| random(n, n as u64, |x| (x * 50.0).round())).collect();
        let shapes: Vec<_> = sizes.iter().map(|&n| [n]).collect();
        let all = parts.concat();
        with(&[parts[0].clone()], &shapes[0], &ELEMENTS, |a| {
            with(&[parts[1].clone()], &shapes[1], &ELEMENTS, |b| {
                with(&[parts[2].clone()], &shapes[2], &ELEMENTS, |c| {
                    with(&[parts[3].clone()], &shapes[3], &ELEMENTS, |d| {
                        for k in [1, 1000, all.len() / 2, all.len() - 1] {
                            let key = |_, piece: &Piece<'_>, list, out: &mut [i32]| keys(piece, list, out);
                            let found = select_among(&[a, b, c, d], &[Rank { list: 0, k }], key).unwrap();
                            assert_eq!(found, [sorted(&all, k)]);
                        }
                    });
                });
            });
        });
    }

    #[test]
    fn brackets_that_end_at_the_highest_key_are_narrowed() {
        let n = 60_000_usize;
        let list: Vec<i32> = (0..n).map(|i| i32::MAX - 1 - (i * 7919 % n * 279) as i32).collect();
        let values = list.iter().map(|&key| key.into()).collect();
        let key = |piece: &Piece<'_>, list: usize, out: &mut [i32]| {
            out.iter_mut().zip(piece.models[list]).for_each(|(out, &x)| *out = x as i32);
        };
        let wanted = [1, 2, 5, n / 4, n / 2, n - 1].map(|k| Rank { list: 0, k });
        let found = with(&[values], &[n], &ELEMENTS, |t| select(t, &wanted, key).unwrap());
        for (rank, found) in wanted.iter().zip(found) {
            assert_eq!(found.key, i32::MAX - 1 - 279 * (rank.k as i32 - 1));
        }
    }

    #[test]
    fn keys_of_64_bits_tell_more_apart() {
        let n = 40_000;
        let list: Vec<f64> = (0..n).map(|i| 1.0 + ((i * 7919) % n) as f64 * 1e-12).collect();
        let key = |piece: &Piece<'_>, list: usize, out: &mut [i64]| {
            out.iter_mut().zip(piece.models[list]).for_each(|(out, &x)| *out = key64(x));
        };
        let found = with(&[list], &[n], &ELEMENTS, |t| select(t, &[Rank { list: 0, k: 10 }], key).unwrap());
        assert_eq!(found, [Threshold { key: key64(1.0 + (n - 10) as f64 * 1e-12), cutoff: usize::MAX }]);
    }

    #[test]
    fn thresholds_do_not_depend_on_threads() {
        let n = 3 * BLOCK;
        let list = random(n, 9, |x| (x * 1000.0).round());
        let found = [1, 5].map(|threads| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| {
                with(std::slice::from_ref(&list), &[n], &ELEMENTS, |t| {
                    select(t, &[Rank { list: 0, k: n / 3 }], keys).unwrap()
                })
            })
        });
        assert_eq!(found[0], found[1]);
    }
}
