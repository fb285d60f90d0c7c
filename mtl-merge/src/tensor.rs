//! One tensor as a merge method sees it: in all checkpoints at once, in pieces, without being in memory.
use crate::{Error, MethodSpec, Result, Work, method::Survey};
use mtl_core::Seed;
use multiversion::multiversion;
use rayon::prelude::*;
use std::{cell::RefCell, ops::Range, sync::Mutex};

use crate::method::Piece;

/// Elements of a block: the unit of parallel work. Sums are formed per block and added up in order, so that no result
/// depends on the number of threads.
pub(crate) const BLOCK: usize = 1 << 18;
/// Elements of a piece: inputs and output stay in the second-level cache.
pub(crate) const PIECE: usize = 1 << 12;

/// The values of one tensor in one checkpoint.
pub(crate) trait Values: Sync {
    /// Writes elements `span` to `out` and tells whether all are finite.
    fn read(&self, span: Range<usize>, out: &mut [f64]) -> Result<bool>;

    /// Checkpoint or file, for messages.
    fn label(&self) -> String;

    /// Name of the tensor there.
    fn name(&self) -> &str;
}

/// One tensor in all checkpoints.
///
/// Values are read from mapped files when they are needed, in pieces, and as `f64` whatever the stored type.
pub struct Tensor<'a> {
    pub(crate) name: &'a str,
    pub(crate) shape: &'a [usize],
    pub(crate) spec: &'static MethodSpec,
    pub(crate) base: Option<Box<dyn Values + 'a>>,
    pub(crate) models: Vec<Box<dyn Values + 'a>>,
    /// Positions of `models` in the recipe.
    pub(crate) numbers: Vec<usize>,
    pub(crate) seed: Seed,
    pub(crate) allow_non_finite: bool,
    pub(crate) survey: Option<&'a Survey>,
    pub(crate) warnings: &'a Warnings,
}

impl std::fmt::Debug for Tensor<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tensor").field("name", &self.name).field("shape", &self.shape).finish_non_exhaustive()
    }
}

/// Remarks of a run, in the order of their text.
#[derive(Debug, Default)]
pub(crate) struct Warnings(Mutex<std::collections::BTreeSet<String>>);

impl Warnings {
    pub(crate) fn add(&self, text: String) {
        if let Ok(mut warnings) = self.0.lock() {
            warnings.insert(text);
        }
    }

    pub(crate) fn take(&self) -> Vec<String> {
        self.0
            .lock()
            .map(|mut warnings| std::mem::take(&mut *warnings).into_iter().collect())
            .unwrap_or_default()
    }
}

impl<'a> Tensor<'a> {
    /// Name in the output.
    #[must_use]
    pub fn name(&self) -> &str {
        self.name
    }

    /// Sizes of the axes.
    #[must_use]
    pub fn shape(&self) -> &[usize] {
        self.shape
    }

    /// Number of elements.
    #[must_use]
    pub fn numel(&self) -> usize {
        self.shape.iter().product()
    }

    /// Length of a row: the last axis; a vector is one row, a scalar has length 1.
    #[must_use]
    pub fn cols(&self) -> usize {
        self.shape.last().copied().unwrap_or(1)
    }

    /// Number of rows.
    #[must_use]
    pub fn rows(&self) -> usize {
        self.numel().checked_div(self.cols()).unwrap_or(0)
    }

    /// Whether there is a base model.
    #[must_use]
    pub fn has_base(&self) -> bool {
        self.base.is_some()
    }

    /// Models that have this tensor.
    #[must_use]
    pub fn n_models(&self) -> usize {
        self.models.len()
    }

    /// Position of model number `model` of this tensor in the recipe, which may have models without it.
    #[must_use]
    pub fn number(&self, model: usize) -> usize {
        self.numbers.get(model).copied().unwrap_or(model)
    }

    /// Name of the tensor in model number `model`.
    #[must_use]
    pub fn source_name(&self, model: usize) -> &str {
        self.models.get(model).map_or(self.name, |values| values.name())
    }

    /// What [`MergeMethod::survey`](crate::MergeMethod::survey) found out.
    #[must_use]
    pub fn survey<T: 'static>(&self) -> Option<&T> {
        self.survey?.downcast_ref()
    }

    /// A stream of numbers for model number `model`, uniform in [0, 1); `purpose` tells several of them apart.
    ///
    /// The number at an element depends on the recipe's seed, the tensor's name, the purpose, the model and the
    /// position alone.
    #[must_use]
    pub fn uniform(&self, purpose: &str, model: usize) -> Uniform {
        Uniform::new(self.seed.fork(self.name).fork(purpose).fork(&format!("model {}", self.number(model))))
    }

    /// Adds a remark to the report.
    pub fn warn(&self, text: impl std::fmt::Display) {
        self.warnings.add(format!("`{}`: {text}", self.name));
    }

    /// Visits the whole tensor: every block of it starts from `init` (given its first position) and takes its pieces in
    /// order; the blocks run in parallel and come back in order.
    ///
    /// ```
    /// # use mtl_merge::{Kernel, Result, Tensor};
    /// /// Mean of the first model.
    /// fn mean(tensor: &Tensor<'_>) -> Result<f64> {
    ///     let sums = tensor.blocks(|_| 0.0, |sum, piece| *sum += piece.models[0].iter().sum::<f64>())?;
    ///     Ok(sums.iter().sum::<f64>() / tensor.numel() as f64)
    /// }
    /// ```
    ///
    /// # Errors
    ///
    /// [`Error::NonFinite`] and errors of reading.
    pub fn blocks<S: Send>(
        &self,
        init: impl Fn(usize) -> S + Sync,
        step: impl Fn(&mut S, &Piece<'_>) + Sync,
    ) -> Result<Vec<S>> {
        let block = |span: Range<usize>| self.block(span, &init, &step);
        let spans = self.spans();
        match spans.as_slice() {
            [one] => Ok(vec![block(one.clone())?]), // Small tensors spare themselves the queue.
            _ => spans.into_par_iter().map(block).collect::<Vec<Result<S>>>().into_iter().collect(),
        }
    }

    /// Visits the whole tensor as [`Self::blocks`] does and hands over the states in order, a few at a time: for states
    /// too large to keep them all.
    ///
    /// # Errors
    ///
    /// [`Error::NonFinite`] and errors of reading.
    pub fn fold_blocks<S: Send>(
        &self,
        init: impl Fn(usize) -> S + Sync,
        step: impl Fn(&mut S, &Piece<'_>) + Sync,
        mut take: impl FnMut(S),
    ) -> Result<()> {
        for group in self.spans().chunks(16) {
            let states: Vec<Result<S>> =
                group.par_iter().map(|span| self.block(span.clone(), &init, &step)).collect();
            for state in states {
                take(state?);
            }
        }
        Ok(())
    }

    fn block<S>(
        &self,
        span: Range<usize>,
        init: impl Fn(usize) -> S,
        step: impl Fn(&mut S, &Piece<'_>),
    ) -> Result<S> {
        let mut state = init(span.start);
        self.pieces(span, |piece| {
            step(&mut state, piece);
            Ok(())
        })?;
        Ok(state)
    }

    /// All values of the base, or of a model, in row-major order.
    ///
    /// # Errors
    ///
    /// [`Error::NonFinite`], errors of reading, [`Error::MissingBase`].
    pub fn load(&self, which: Which) -> Result<Vec<f64>> {
        let values = match which {
            Which::Base => self.base.as_ref(),
            Which::Model(model) => self.models.get(model),
        };
        let values = values.ok_or_else(|| Error::MissingBase { method: self.spec.info.name.to_owned() })?;
        let mut out = vec![0.0; self.numel()];
        if !values.read(0..out.len(), &mut out)? && !self.allow_non_finite {
            return Err(self.non_finite(&**values)?);
        }
        Ok(out)
    }

    /// The blocks, in order; at least one, which is empty for an empty tensor.
    pub(crate) fn spans(&self) -> Vec<Range<usize>> {
        let n = self.numel();
        let step = self.unit(BLOCK);
        let mut spans: Vec<_> = (0..n).step_by(step).map(|start| start..(start + step).min(n)).collect();
        if spans.is_empty() {
            spans.push(0..0);
        }
        spans
    }

    /// About `size` elements, whole rows where the method wants them.
    fn unit(&self, size: usize) -> usize {
        match self.spec.work {
            Work::Rows => self.cols().max(1) * (size / self.cols().max(1)).max(1),
            Work::Elements | Work::Tensors => size,
        }
    }

    /// Calls `visit` with the pieces of `span`, in order.
    pub(crate) fn pieces(
        &self,
        span: Range<usize>,
        mut visit: impl FnMut(&Piece<'_>) -> Result<()>,
    ) -> Result<()> {
        let step = self.unit(PIECE);
        let inputs = self.models.len() + usize::from(self.base.is_some());
        with_scratch(|buffer| {
            let longest = step.min(span.len());
            buffer.resize((inputs * longest).max(1), 0.0);
            for start in span.clone().step_by(step) {
                let end = (start + step).min(span.end);
                let mut parts = buffer.chunks_mut(longest.max(1));
                let mut slices: Vec<&[f64]> = Vec::with_capacity(inputs);
                for values in self.base.iter().chain(&self.models) {
                    let Some(part) = parts.next() else { break };
                    let part = &mut part[..end - start];
                    if !values.read(start..end, part)? && !self.allow_non_finite {
                        return Err(self.non_finite(&**values)?);
                    }
                    slices.push(part);
                }
                let (base, models) = match slices.split_first() {
                    Some((base, models)) if self.base.is_some() => (Some(*base), models),
                    _ => (None, slices.as_slice()),
                };
                visit(&Piece { start, base, models })?;
            }
            Ok(())
        })
    }

    /// The error for values known to hold a NaN or an infinity; counts them all.
    fn non_finite(&self, values: &dyn Values) -> Result<Error> {
        let (mut count, mut first) = (0, None);
        let mut out = vec![0.0; PIECE.min(self.numel())];
        for start in (0..self.numel()).step_by(PIECE) {
            let end = (start + PIECE).min(self.numel());
            let out = &mut out[..end - start];
            values.read(start..end, out)?;
            for (i, x) in out.iter().enumerate() {
                if !x.is_finite() {
                    count += 1;
                    first.get_or_insert(start + i);
                }
            }
        }
        let index = first.unwrap_or_default();
        Ok(Error::NonFinite { tensor: values.name().to_owned(), file: values.label(), index, count })
    }
}

/// The base or one of the models.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Which {
    /// The base model.
    Base,
    /// A model, by its position among those that have the tensor.
    Model(usize),
}

/// Lends a buffer that stays with the thread; nested calls get another.
pub(crate) fn with_scratch<R>(work: impl FnOnce(&mut Vec<f64>) -> R) -> R {
    thread_local!(static SCRATCH: RefCell<Vec<Vec<f64>>> = const { RefCell::new(Vec::new()) });
    let mut buffer = SCRATCH.with_borrow_mut(Vec::pop).unwrap_or_default();
    let result = work(&mut buffer);
    SCRATCH.with_borrow_mut(|kept| kept.push(buffer));
    result
}

/// Random numbers by position: a hash of (key, position), so that any piece can be drawn alone.
///
/// A 32-bit mixer with full avalanche (two multiplications), keyed before and between; adequate for masks under keys
/// that are hashes, not for secrets.
#[derive(Debug, Clone, Copy)]
pub struct Uniform {
    key: u64,
}

impl Uniform {
    pub(crate) fn new(seed: Seed) -> Self {
        Self { key: seed.0 }
    }

    /// A word for every position from `start` on.
    pub fn words(&self, start: usize, out: &mut [u32]) {
        for (at, out) in (start..).step_by(RUN).zip(out.chunks_mut(RUN)) {
            match self.run(at, out.len()) {
                Some(run) => fill(run, out),
                None => out.iter_mut().enumerate().for_each(|(i, word)| *word = self.word(at + i)),
            }
        }
    }

    /// The number in [0, 1) at `position`, of 32 random bits.
    #[must_use]
    pub fn at(&self, position: usize) -> f64 {
        f64::from(self.word(position)) / 4_294_967_296.0
    }

    #[inline(always)]
    pub(crate) fn word(&self, position: usize) -> u32 {
        self.from(position).at(0)
    }

    /// The words of so many positions, unless these cross a multiple of 2^32.
    #[inline]
    pub(crate) fn run(&self, start: usize, len: usize) -> Option<Run> {
        let last = start + len.max(1) - 1;
        (start as u64 >> 32 == last as u64 >> 32).then(|| self.from(start))
    }

    #[inline(always)]
    fn from(&self, start: usize) -> Run {
        // Positions beyond 32 bits change the key.
        let start = start as u64;
        let key = self.key.wrapping_add((start >> 32).wrapping_mul(0x9e37_79b9_7f4a_7c15));
        Run { first: start as u32, key: [key as u32, (key >> 32) as u32] }
    }
}

const RUN: usize = 1 << 12;

#[multiversion(targets("x86_64+avx2"))]
fn fill(run: Run, out: &mut [u32]) {
    run.fill(out);
}

/// Words at consecutive positions, for loops that vector units take.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Run {
    first: u32,
    key: [u32; 2],
}

impl Run {
    /// The word so many positions on.
    #[inline(always)]
    pub(crate) fn at(self, i: u32) -> u32 {
        mix(self.first.wrapping_add(i) ^ self.key[0], self.key[1])
    }

    /// The words from the first on.
    #[inline(always)]
    pub(crate) fn fill(self, out: &mut [u32]) {
        for (word, i) in out.iter_mut().zip(0..) {
            *word = self.at(i);
        }
    }
}

/// Every input bit changes every output bit with probability near one half.
#[inline(always)]
fn mix(mut x: u32, key: u32) -> u32 {
    x ^= x >> 16;
    x = x.wrapping_mul(0x7feb_352d).wrapping_add(key);
    x ^= x >> 15;
    x = x.wrapping_mul(0x846c_a68b);
    x ^ (x >> 16)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn random_words_depend_on_position_alone() {
        let stream = Uniform::new(Seed(7));
        let mut all = [0; 100];
        stream.words(10, &mut all);
        let mut part = [0; 30];
        stream.words(50, &mut part);
        assert_eq!(part, all[40..70]);
        assert_ne!(Uniform::new(Seed(8)).at(10), stream.at(10));
        let mut across = [0; 4];
        stream.words((1 << 32) - 2, &mut across);
        assert_eq!(f64::from(across[3]) / 4_294_967_296.0, stream.at((1 << 32) + 1));
        assert_ne!(across[2], all[0]);
    }

    #[test]
    fn random_words_are_uniform_and_uncorrelated() {
        let mut words = vec![0; 1 << 18];
        Uniform::new(Seed(3)).words(0, &mut words);
        let n = words.len() as f64;
        for bit in 0..32 {
            let ones = words.iter().filter(|&&w| w >> bit & 1 == 1).count() as f64;
            let flips = words.windows(2).filter(|w| (w[0] ^ w[1]) >> bit & 1 == 1).count() as f64;
            for count in [ones, flips] {
                assert!((count - n / 2.0).abs() < 5.0 * (n / 4.0).sqrt(), "bit {bit}: {count} of {n}");
            }
        }
    }

    #[test]
    fn streams_are_independent_of_each_other_and_of_their_own_past() {
        const N: usize = 1 << 14;
        let words = |i: usize| {
            let mut words = vec![0; N];
            Uniform::new(Seed(1).fork("layers.0").fork(&format!("model {i}"))).words(0, &mut words);
            words
        };
        let streams: Vec<Vec<u32>> = (0..60).map(words).collect();
        for (a, one) in streams.iter().enumerate() {
            for (b, other) in streams.iter().enumerate() {
                for (density, shift) in [(0.1, 0), (0.5, 0), (0.9, 0), (0.5, 1), (0.5, 2048)] {
                    if shift == 0 && b <= a {
                        continue;
                    }
                    let limit = (density * 4_294_967_296.0) as u32;
                    let pairs = one[shift..].iter().zip(other);
                    let both = pairs.filter(|(x, y)| **x < limit && **y < limit).count() as f64;
                    let (n, p) = ((N - shift) as f64, density * density);
                    let deviation = (both - n * p) / (n * p * (1.0 - p)).sqrt();
                    assert!(deviation.abs() < 6.0, "{a} and {b} at {density}, {shift}: {deviation}");
                }
            }
        }
    }
}
