//! Ways to drop entries of task vectors, and to make up for it.
use super::{task_vectors::delta, vectorized};
use crate::{
    Error, MethodSpec, Piece, Resolved, Result, Tensor, Uniform,
    select::{Rank, Threshold, key32, select},
};

/// Which entries of a task vector are dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Drop {
    /// Those of smallest magnitude.
    Small,
    /// Those of smallest magnitude and, `gamma` of all, those of largest.
    SmallAndLarge,
    /// Random ones.
    Random,
    /// Random ones, the likelier the smaller their magnitude within the row.
    RandomByRank,
}

/// The choice for one model's tensor.
#[derive(Debug)]
enum Choice {
    /// Everything stays.
    All,
    /// Nothing stays.
    Nothing,
    /// What is among the largest `kept`, but not among the largest `dropped`; first element of the tensor in a longer
    /// list.
    Ranks { kept: Cut, dropped: Cut, offset: usize },
    /// What has a random word below the limit.
    Random { words: Uniform, limit: u32 },
    /// What has its bit set.
    Bits(Vec<u64>),
}

/// A threshold in numbers that vector units compare fast.
#[derive(Debug, Clone, Copy)]
struct Cut {
    magnitude: f64,
    cutoff: usize,
}

impl From<Threshold<i32>> for Cut {
    fn from(threshold: Threshold<i32>) -> Self {
        // Keys outside those of numbers stand for all entries and for none.
        let magnitude = match threshold.key {
            ..0 => -1.0,
            i32::MAX => f64::NAN,
            key => f64::from(f32::from_bits(key as u32)),
        };
        Self { magnitude, cutoff: threshold.cutoff }
    }
}

impl Cut {
    /// Nothing is among the largest.
    const NONE: Self = Self { magnitude: f64::NAN, cutoff: 0 };
}

/// The choices for all models of a tensor.
#[derive(Debug)]
pub(super) struct Sparsifier {
    choices: Vec<Choice>,
}

/// Thresholds over whole models, for [`Drop::Small`] with `trim_scope: model`.
#[derive(Debug, Default)]
pub(super) struct ModelThresholds {
    /// By the model's number in the recipe.
    pub(super) thresholds: Vec<Threshold<i32>>,
    /// First position of each tensor among all.
    pub(super) offsets: std::collections::BTreeMap<String, usize>,
}

impl Sparsifier {
    /// Looks over the tensor as far as the choice needs it.
    pub(super) fn new(
        spec: &'static MethodSpec,
        tensor: &Tensor<'_>,
        params: &Resolved,
        drop: Drop,
    ) -> Result<Self> {
        let densities = params.per_model("density")?;
        let trivial = |density: f64| match density {
            d if d >= 1.0 => Some(Choice::All),
            d if d <= 0.0 && drop != Drop::SmallAndLarge => Some(Choice::Nothing),
            _ => None,
        };
        let choices = match drop {
            Drop::Small => match tensor
                .survey::<ModelThresholds>()
                .filter(|_| params.text("trim_scope") == Some("model"))
            {
                Some(of_models) => {
                    let offset = of_models.offsets.get(tensor.name()).copied().unwrap_or_default();
                    let whole = |i: usize| {
                        let threshold = of_models.thresholds.get(tensor.number(i)).copied();
                        let kept = threshold.map_or(Cut::NONE, Cut::from);
                        Choice::Ranks { kept, dropped: Cut::NONE, offset }
                    };
                    let choose = |(i, &density): (usize, &f64)| trivial(density).unwrap_or_else(|| whole(i));
                    densities.iter().enumerate().map(choose).collect()
                }
                None => ranks(tensor, densities, &trivial, |_, n, density| (share(density, n).max(1), 0))?,
            },
            Drop::SmallAndLarge => {
                let gammas = params.per_model("gamma")?;
                ranks(tensor, densities, &trivial, |i, n, density| {
                    let target = share(density, n);
                    let top = share(gammas[i], n).min(n - target);
                    (target + top, top)
                })?
            }
            Drop::Random => {
                let limit = |density: f64| (density * 4_294_967_296.0) as u32;
                let random = |(i, &density): (usize, &f64)| {
                    let words = tensor.uniform(spec.info.name, i);
                    trivial(density).unwrap_or(Choice::Random { words, limit: limit(density) })
                };
                densities.iter().enumerate().map(random).collect()
            }
            Drop::RandomByRank => by_rank(spec, tensor, densities, params.per_model("epsilon")?, &trivial)?,
        };
        Ok(Self { choices })
    }

    /// The weights times what makes up for dropped entries.
    pub(super) fn rescaled(
        &self,
        tensor: &Tensor<'_>,
        params: &Resolved,
        weights: &[f64],
    ) -> Result<Vec<f64>> {
        let whole = |choice: &Choice| matches!(choice, Choice::All | Choice::Nothing);
        if !params.flag("rescale")? || self.choices.iter().all(whole) {
            return Ok(weights.to_vec());
        }
        if params.text("rescale_mode") == Some("inverse_density") {
            let densities = params.per_model("density")?;
            let factor = |(w, &d): (&f64, &f64)| if d > 0.0 && d < 1.0 { w / d } else { *w };
            return Ok(weights.iter().zip(densities).map(factor).collect());
        }
        // Sums of magnitudes, of all entries and of those kept.
        let n = weights.len();
        let mut sums = vec![[0.0; 2]; n];
        let init = |_| vec![[0.0; 2]; n];
        let step = |sums: &mut Vec<[f64; 2]>, piece: &Piece<'_>| {
            let Some(base) = piece.base else { return };
            let mut kept = [0.0; LANES];
            for (i, (sums, model)) in sums.iter_mut().zip(piece.models).enumerate() {
                for start in (0..base.len()).step_by(LANES) {
                    let end = (start + LANES).min(base.len());
                    let (base, model) = (&base[start..end], &model[start..end]);
                    let kept = &mut kept[..base.len()];
                    self.write(i, piece.start + start, base, model, 1.0, kept);
                    vectorized(|| add_magnitudes(base, model, kept, sums));
                }
            }
        };
        tensor.fold_blocks(init, step, |part| {
            for (sum, part) in sums.iter_mut().zip(part) {
                sum[0] += part[0];
                sum[1] += part[1];
            }
        })?;
        let factor = |(i, w): (usize, &f64)| match (sums[i], whole(&self.choices[i])) {
            (_, true) => *w,
            ([all, kept], _) if all < 1e-7 || kept < 1e-7 => *w,
            ([all, kept], _) => w * all / kept,
        };
        Ok(weights.iter().enumerate().map(factor).collect())
    }

    /// `factor · δ` where the entry stays, 0 elsewhere; `at` is the position of the first element.
    #[inline]
    pub(super) fn write(
        &self,
        model: usize,
        at: usize,
        base: &[f64],
        values: &[f64],
        factor: f64,
        out: &mut [f64],
    ) {
        match &self.choices[model] {
            Choice::All => vectorized(|| masked(base, values, out, |_, d| factor * d)),
            Choice::Nothing => out.fill(0.0),
            Choice::Ranks { kept, dropped, offset } => {
                // At the two cutoffs the treatment of equal magnitudes changes.
                let first = offset + at;
                let inside = |cut: &Cut| cut.cutoff.saturating_sub(first).min(out.len());
                let mut ends = [inside(kept), inside(dropped), out.len()];
                ends.sort_unstable();
                let mut start = 0;
                for end in ends {
                    if start == end {
                        continue;
                    }
                    let equal = |cut: &Cut| first + start < cut.cutoff;
                    let (low, with_low) = (kept.magnitude, equal(kept));
                    let (high, with_high) = (dropped.magnitude, equal(dropped));
                    let (base, values, out) = (&base[start..end], &values[start..end], &mut out[start..end]);
                    vectorized(|| trim(base, values, factor, (low, with_low), (high, with_high), out));
                    start = end;
                }
            }
            Choice::Random { words, limit } => {
                let mut drawn = [0; LANES];
                let drawn = &mut drawn[..out.len()];
                vectorized(|| {
                    words.words(at, drawn);
                    for (((out, x), x0), word) in out.iter_mut().zip(values).zip(base).zip(&*drawn) {
                        *out = if word < limit { factor * (x - x0) } else { 0.0 };
                    }
                });
            }
            Choice::Bits(bits) => vectorized(|| {
                masked(base, values, out, |i, d| {
                    let place = at + i;
                    if bits[place / 64] >> (place % 64) & 1 == 1 { factor * d } else { 0.0 }
                });
            }),
        }
    }
}

/// Elements treated at a time.
const LANES: usize = 512;

/// ⌊share · n⌋, in `f64` as the reference tool computes it.
pub(super) fn share(part: f64, n: usize) -> usize {
    ((part * n as f64) as usize).min(n)
}

#[inline(always)]
fn masked(base: &[f64], values: &[f64], out: &mut [f64], entry: impl Fn(usize, f64) -> f64) {
    for (i, ((out, x), x0)) in out.iter_mut().zip(values).zip(base).enumerate() {
        *out = entry(i, x - x0);
    }
}

/// Keeps magnitudes above `low` and not above `high`; the flags say whether equal ones are on the larger side.
#[inline(always)]
fn trim(
    base: &[f64],
    values: &[f64],
    factor: f64,
    (low, with_low): (f64, bool),
    (high, with_high): (f64, bool),
    out: &mut [f64],
) {
    // Negated comparisons: a NaN counts as largest, as it does in the selection. A threshold of NaN stands for none.
    let none = high.is_nan();
    let low = if low.is_nan() { f64::INFINITY } else { low };
    match (none, with_low) {
        (true, true) => masked(base, values, out, |_, d| if round(d) < low { 0.0 } else { factor * d }),
        (true, false) => masked(base, values, out, |_, d| if round(d) <= low { 0.0 } else { factor * d }),
        _ => masked(base, values, out, |_, d| {
            let size = round(d);
            let above = |cut: f64, with: bool| !(size < cut || (!with && size == cut));
            if above(low, with_low) && !above(high, with_high) { factor * d } else { 0.0 }
        }),
    }
}

/// The magnitude that entries are ranked by.
#[inline(always)]
fn round(delta: f64) -> f64 {
    f64::from((delta as f32).abs())
}

#[inline(always)]
fn add_magnitudes(base: &[f64], values: &[f64], kept: &[f64], sums: &mut [f64; 2]) {
    let (mut all, mut rest) = ([0.0; 8], [0.0; 8]);
    let (base, base_end) = base.as_chunks::<8>();
    let (values, values_end) = values.as_chunks::<8>();
    let (kept, kept_end) = kept.as_chunks::<8>();
    for ((x0, x), kept) in base.iter().zip(values).zip(kept) {
        for lane in 0..8 {
            all[lane] += (x[lane] - x0[lane]).abs();
            rest[lane] += kept[lane].abs();
        }
    }
    for ((x0, x), kept) in base_end.iter().zip(values_end).zip(kept_end) {
        all[0] += (x - x0).abs();
        rest[0] += kept.abs();
    }
    sums[0] += all.iter().sum::<f64>();
    sums[1] += rest.iter().sum::<f64>();
}

/// Choices by magnitude; `counts` gives how many of the largest are kept, and how many of these dropped again.
fn ranks(
    tensor: &Tensor<'_>,
    densities: &[f64],
    trivial: &dyn Fn(f64) -> Option<Choice>,
    counts: impl Fn(usize, usize, f64) -> (usize, usize),
) -> Result<Vec<Choice>> {
    let n = tensor.numel();
    let mut wanted = Vec::new();
    for (list, &density) in densities.iter().enumerate() {
        if trivial(density).is_none() {
            let (kept, dropped) = counts(list, n, density);
            wanted.push(Rank { list, k: kept });
            wanted.push(Rank { list, k: dropped });
        }
    }
    let thresholds = select(tensor, &wanted, |piece, list, out: &mut [i32]| {
        let base = piece.base.unwrap_or_default();
        vectorized(|| keys(base, piece.models[list], out));
    })?;
    let mut pairs = thresholds.chunks(2);
    let choose = |&density: &f64| {
        trivial(density).or_else(|| match pairs.next()? {
            [kept, dropped] => {
                Some(Choice::Ranks { kept: (*kept).into(), dropped: (*dropped).into(), offset: 0 })
            }
            _ => None,
        })
    };
    Ok(densities.iter().map(choose).map(|choice| choice.unwrap_or(Choice::All)).collect())
}

#[inline(always)]
pub(super) fn keys(base: &[f64], values: &[f64], out: &mut [i32]) {
    for ((out, x), x0) in out.iter_mut().zip(values).zip(base) {
        *out = key32(x - x0);
    }
}

/// Keeps an entry with probability `density − epsilon + 2 epsilon · rank / (cols − 1)`, ranks ascending by magnitude within
/// the row, equal ones by position.
fn by_rank(
    spec: &'static MethodSpec,
    tensor: &Tensor<'_>,
    densities: &[f64],
    epsilons: &[f64],
    trivial: &dyn Fn(f64) -> Option<Choice>,
) -> Result<Vec<Choice>> {
    let cols = tensor.cols().max(1);
    let open: Vec<usize> = (0..densities.len()).filter(|&i| trivial(densities[i]).is_none()).collect();
    let streams: Vec<Uniform> = open.iter().map(|&i| tensor.uniform(spec.info.name, i)).collect();
    let mut bits: Vec<Vec<u64>> = vec![vec![0; tensor.numel().div_ceil(64)]; open.len()];
    // Kept positions as bits from the block's first element on; blocks begin anywhere.
    let init = |start: usize| (start, vec![Vec::<u64>::new(); open.len()], 0_usize);
    let step = |(_, kept, done): &mut (usize, Vec<Vec<u64>>, usize), piece: &Piece<'_>| {
        let (mut order, mut words, mut row) = (Vec::new(), vec![0; cols], vec![0.0; piece.len()]);
        for (j, &i) in open.iter().enumerate() {
            delta(piece, i, &mut row);
            kept[j].resize((*done + piece.len()).div_ceil(64), 0);
            for (r, row) in row.chunks(cols).enumerate() {
                order.clear();
                // Key and position in one integer sort at once.
                order.extend(row.iter().enumerate().map(|(c, &d)| (key32(d) as u64) << 32 | c as u64));
                order.sort_unstable();
                let words = &mut words[..row.len()];
                streams[j].words(piece.start + r * cols, words);
                let last = (row.len() - 1).max(1) as f64;
                for (rank, &entry) in order.iter().enumerate() {
                    let c = (entry & 0xffff_ffff) as usize;
                    let place = if row.len() == 1 { 0.5 } else { rank as f64 / last };
                    let probability = densities[i] + epsilons[i] * (2.0 * place - 1.0);
                    if f64::from(words[c]) < probability * 4_294_967_296.0 {
                        let at = *done + r * cols + c;
                        kept[j][at / 64] |= 1 << (at % 64);
                    }
                }
            }
        }
        *done += piece.len();
    };
    tensor.fold_blocks(init, step, |(start, kept, _)| {
        for (bits, kept) in bits.iter_mut().zip(kept) {
            let shift = start % 64;
            for (k, word) in kept.into_iter().enumerate() {
                bits[start / 64 + k] |= word << shift;
                if shift > 0 && start / 64 + k + 1 < bits.len() {
                    bits[start / 64 + k + 1] |= word >> (64 - shift);
                }
            }
        }
    })?;
    let mut bits = bits.into_iter();
    let mut choose = |&density: &f64| trivial(density).or_else(|| bits.next().map(Choice::Bits));
    Ok(densities.iter().map(|density| choose(density).unwrap_or(Choice::All)).collect())
}

/// Refuses keep probabilities outside (0, 1).
pub(super) fn check_epsilon(params: &Resolved) -> Result<()> {
    let pairs = params.per_model("density")?.iter().zip(params.per_model("epsilon")?);
    for (&density, &epsilon) in pairs {
        if density > 0.0 && density < 1.0 && !(density - epsilon > 0.0 && density + epsilon < 1.0) {
            return Err(Error::Parameter {
                path: "epsilon".to_owned(),
                must: format!("such that density ± epsilon lie between 0 and 1 (density is {density})"),
                found: epsilon.to_string(),
            });
        }
    }
    Ok(())
}
