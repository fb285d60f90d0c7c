//! Ways to drop entries of task vectors, and to make up for it.
use super::task_vectors::delta;
use crate::{
    Error, MethodSpec, Piece, Resolved, Result, Tensor, Uniform,
    select::{Rank, Threshold, key32, select},
    tensor::Run,
};
use multiversion::multiversion;

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
    Ranks { kept: Cut, dropped: Option<Cut>, offset: usize },
    /// What has a random word below the limit.
    Random { words: Uniform, limit: u32 },
    /// What has its bit set.
    Bits(Vec<u64>),
}

/// A threshold in numbers that vector units compare fast.
#[derive(Debug, Clone, Copy)]
struct Cut {
    threshold: Threshold<i32>,
    /// The least magnitude that counts as larger than the threshold, and as equal to it.
    limits: [f64; 2],
}

impl From<Threshold<i32>> for Cut {
    fn from(threshold: Threshold<i32>) -> Self {
        Self { threshold, limits: [limit(threshold.key.saturating_add(1)), limit(threshold.key)] }
    }
}

impl Cut {
    /// The least magnitude that is chosen at this position and up to the cutoff, or from the cutoff on.
    fn at(&self, position: usize) -> f64 {
        self.limits[usize::from(position < self.threshold.cutoff)]
    }

    /// Whether magnitudes can be told apart by the limits; infinities and NaNs cannot.
    fn is_finite(&self) -> bool {
        self.threshold.key < INFINITE
    }
}

/// The key of an infinity.
const INFINITE: i32 = 0x7f80_0000;

/// The least magnitude with at least this key; infinite beyond the key of infinity.
fn limit(key: i32) -> f64 {
    match key {
        ..=0 => 0.0,
        INFINITE => 2_f64.powi(128) - 2_f64.powi(103),
        key if key > INFINITE => f64::INFINITY,
        key => {
            // Halfway from the number before, or just above if ties go there.
            let [before, above] = [key - 1, key].map(|key| f64::from(f32::from_bits(key as u32)));
            let middle = before + (above - before) / 2.0;
            if key32(middle) >= key { middle } else { middle.next_up() }
        }
    }
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
                        let kept = of_models.thresholds.get(tensor.number(i)).copied().map(Cut::from);
                        kept.map_or(Choice::Nothing, |kept| Choice::Ranks { kept, dropped: None, offset })
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
        let mut sums = vec![[0.0; 2]; weights.len()];
        let init = |_| vec![Magnitudes::default(); weights.len()];
        let step = |sums: &mut Vec<Magnitudes>, piece: &Piece<'_>| {
            let Some(base) = piece.base else { return };
            for (i, (sums, model)) in sums.iter_mut().zip(piece.models).enumerate() {
                for start in (0..base.len()).step_by(LANES) {
                    let end = (start + LANES).min(base.len());
                    self.add(i, piece.start + start, &base[start..end], &model[start..end], sums);
                }
            }
        };
        tensor.fold_blocks(init, step, |part| {
            for (sum, part) in sums.iter_mut().zip(part) {
                sum[0] += part.all.iter().sum::<f64>();
                sum[1] += part.kept.iter().sum::<f64>();
            }
        })?;
        let factor = |(i, w): (usize, &f64)| match (sums[i], whole(&self.choices[i])) {
            (_, true) => *w,
            ([all, kept], _) if all < 1e-7 || kept < 1e-7 => *w,
            ([all, kept], _) => w * all / kept,
        };
        Ok(weights.iter().enumerate().map(factor).collect())
    }

    /// Adds the magnitudes of one model's entries, all of them and those that stay.
    fn add(&self, model: usize, at: usize, base: &[f64], values: &[f64], sums: &mut Magnitudes) {
        if let Choice::Random { words, limit } = &self.choices[model]
            && let Some(words) = words.run(at, base.len())
        {
            return add_drawn(base, values, words, *limit, sums);
        }
        let mut kept = [0.0; LANES];
        let kept = &mut kept[..base.len()];
        self.write(model, at, base, values, 1.0, kept);
        add_magnitudes(base, values, kept, sums);
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
            Choice::All => scale(base, values, factor, out),
            Choice::Nothing => out.fill(0.0),
            Choice::Ranks { kept, dropped, offset } => {
                // At the two cutoffs the treatment of equal magnitudes changes.
                let first = offset + at;
                let inside = |cut: &Cut| cut.threshold.cutoff.saturating_sub(first).min(out.len());
                let mut ends = [inside(kept), dropped.as_ref().map_or(0, inside), out.len()];
                ends.sort_unstable();
                let mut start = 0;
                for end in ends {
                    if start == end {
                        continue;
                    }
                    let (base, values, out) = (&base[start..end], &values[start..end], &mut out[start..end]);
                    let low = kept.at(first + start);
                    match dropped {
                        _ if !(kept.is_finite() && dropped.is_none_or(|cut| cut.is_finite())) => {
                            let dropped = dropped.map_or(Threshold::NONE, |cut| cut.threshold);
                            for (i, ((out, x), x0)) in out.iter_mut().zip(values).zip(base).enumerate() {
                                let (key, place) = (key32(x - x0), first + start + i);
                                let keep = kept.threshold.keep(key, place) && !dropped.keep(key, place);
                                *out = if keep { factor * (x - x0) } else { 0.0 };
                            }
                        }
                        None => trim(base, values, factor, low, out),
                        Some(cut) => trim_both(base, values, factor, [low, cut.at(first + start)], out),
                    }
                    start = end;
                }
            }
            Choice::Random { words, limit } => match words.run(at, out.len()) {
                Some(words) => draw(base, values, factor, words, *limit, out),
                None => {
                    for (i, ((out, x), x0)) in out.iter_mut().zip(values).zip(base).enumerate() {
                        *out = if words.word(at + i) < *limit { factor * (x - x0) } else { 0.0 };
                    }
                }
            },
            Choice::Bits(bits) => mask(base, values, factor, bits, at, out),
        }
    }
}

/// Elements treated at a time.
const LANES: usize = 512;

/// ⌊share · n⌋, in `f64` as the reference tool computes it.
pub(super) fn share(part: f64, n: usize) -> usize {
    ((part * n as f64) as usize).min(n)
}

#[multiversion(targets("x86_64+avx2"))]
fn scale(base: &[f64], values: &[f64], factor: f64, out: &mut [f64]) {
    for ((out, x), x0) in out.iter_mut().zip(values).zip(base) {
        *out = factor * (x - x0);
    }
}

/// Keeps magnitudes of at least `low`; a NaN counts as largest, as it does in the selection.
#[multiversion(targets("x86_64+avx2"))]
fn trim(base: &[f64], values: &[f64], factor: f64, low: f64, out: &mut [f64]) {
    for ((out, x), x0) in out.iter_mut().zip(values).zip(base) {
        let delta = x - x0;
        *out = if delta.abs() < low { 0.0 } else { factor * delta };
    }
}

/// Keeps magnitudes of at least `low` and below `high`.
#[multiversion(targets("x86_64+avx2"))]
fn trim_both(base: &[f64], values: &[f64], factor: f64, [low, high]: [f64; 2], out: &mut [f64]) {
    for ((out, x), x0) in out.iter_mut().zip(values).zip(base) {
        let delta = x - x0;
        let keep = (delta.abs() >= low) & (delta.abs() < high);
        *out = if keep { factor * delta } else { 0.0 };
    }
}

/// Keeps what has a random word below the limit.
#[multiversion(targets("x86_64+avx2"))]
fn draw(base: &[f64], values: &[f64], factor: f64, words: Run, limit: u32, out: &mut [f64]) {
    // First the words alone: a loop over both widths at once is slower.
    let mut drawn = [0; LANES];
    let drawn = &mut drawn[..out.len()];
    words.fill(drawn);
    for (((out, x), x0), word) in out.iter_mut().zip(values).zip(base).zip(&*drawn) {
        *out = if *word < limit { factor * (x - x0) } else { 0.0 };
    }
}

/// Keeps what has its bit set; the first element is at position `at`.
#[multiversion(targets("x86_64+avx2"))]
fn mask(base: &[f64], values: &[f64], factor: f64, bits: &[u64], at: usize, out: &mut [f64]) {
    let parts = out.chunks_mut(64).zip(values.chunks(64)).zip(base.chunks(64));
    for (place, ((out, values), base)) in (at..).step_by(64).zip(parts) {
        let shift = place % 64;
        let next = bits.get(place / 64 + 1).map_or(0, |next| next << 1 << (63 - shift));
        let word = bits[place / 64] >> shift | next;
        for (lane, ((out, x), x0)) in out.iter_mut().zip(values).zip(base).enumerate() {
            *out = if word >> lane & 1 == 1 { factor * (x - x0) } else { 0.0 };
        }
    }
}

/// Sums of magnitudes, one for every place in a run of [`LANES`] elements: plain loops, which vector units take.
#[derive(Debug, Clone)]
struct Magnitudes {
    all: Vec<f64>,
    kept: Vec<f64>,
}

impl Default for Magnitudes {
    fn default() -> Self {
        Self { all: vec![0.0; LANES], kept: vec![0.0; LANES] }
    }
}

#[multiversion(targets("x86_64+avx2"))]
fn add_magnitudes(base: &[f64], values: &[f64], kept: &[f64], sums: &mut Magnitudes) {
    for ((all, x), x0) in sums.all.iter_mut().zip(values).zip(base) {
        *all += (x - x0).abs();
    }
    for (sum, kept) in sums.kept.iter_mut().zip(kept) {
        *sum += kept.abs();
    }
}

/// Adds the magnitudes of all entries, and of those that [`draw`] keeps.
#[multiversion(targets("x86_64+avx2"))]
fn add_drawn(base: &[f64], values: &[f64], words: Run, limit: u32, sums: &mut Magnitudes) {
    let mut drawn = [0; LANES];
    let drawn = &mut drawn[..base.len()];
    words.fill(drawn);
    let sums = sums.all.iter_mut().zip(&mut sums.kept);
    for ((((all, kept), x), x0), word) in sums.zip(values).zip(base).zip(&*drawn) {
        let size = (x - x0).abs();
        *all += size;
        *kept += if *word < limit { size } else { 0.0 };
    }
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
        keys(base, piece.models[list], out);
    })?;
    let mut pairs = thresholds.chunks(2);
    let choose = |&density: &f64| {
        trivial(density).or_else(|| match pairs.next()? {
            [kept, _] if *kept == Threshold::NONE => Some(Choice::Nothing),
            [kept, dropped] => {
                let dropped = Some((*dropped).into()).filter(|_| *dropped != Threshold::NONE);
                Some(Choice::Ranks { kept: (*kept).into(), dropped, offset: 0 })
            }
            _ => None,
        })
    };
    Ok(densities.iter().map(choose).map(|choice| choice.unwrap_or(Choice::All)).collect())
}

#[multiversion(targets("x86_64+avx2"))]
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

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn limits_separate_magnitudes_by_their_keys() {
        for key in [0, 1, 2, 3, 0x007f_ffff, 0x0080_0000, 0x3f80_0000, 0x3f80_0001, INFINITE - 1, INFINITE] {
            let at = limit(key);
            assert!(key32(at) >= key, "{key:x}");
            assert!(key == 0 || key32(at.next_down()) < key, "{key:x}");
        }
    }

    proptest! {
        #[test]
        fn magnitudes_compare_to_limits_as_keys_do(key in 0..=INFINITE, x in any::<f64>(), near in -3..=3_i64) {
            let near = f64::from_bits(limit(key).to_bits().saturating_add_signed(near));
            for x in [x, near] {
                prop_assert_eq!(x.abs() >= limit(key) || x.is_nan(), key32(x) >= key);
            }
        }
    }
}
