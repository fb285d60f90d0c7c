//! Task vectors, `τ = θ_t − θ_0`: the difference itself and how several of them relate.
use crate::{
    Error, HostTensor, Result, TensorMap,
    engine::{
        align::{Row, align},
        layout::{Layout, Role},
        source::{FileSource, MapSource, Source, non_finite},
    },
    tools,
};
use rayon::prelude::*;
use std::{collections::BTreeMap, path::Path};

/// Elements compared at a time; also the unit of summation, so that sums do not depend on threads.
const BLOCK: usize = 1 << 14;

/// The task vector of `model`: its values minus those of `base`, tensor by tensor.
///
/// # Errors
///
/// [`Error::Mismatch`] when names or shapes differ.
///
/// ```
/// use mtl_merge::{HostTensor, TensorMap, task_vector};
///
/// let map = |x| TensorMap::from([("w".to_owned(), HostTensor::vector(vec![x]))]);
/// assert_eq!(task_vector(&map(1.0), &map(1.5))?, map(0.5));
/// # Ok::<(), mtl_merge::Error>(())
/// ```
pub fn task_vector(base: &TensorMap, model: &TensorMap) -> Result<TensorMap> {
    align(&[&MapSource::new("base", base), &MapSource::new("model", model)])?;
    let subtract = |((name, a), b): ((&String, &HostTensor), &HostTensor)| {
        let delta = a.data().iter().zip(b.data()).map(|(x0, x)| x - x0).collect();
        Ok((name.clone(), HostTensor::new(a.shape().to_vec(), delta)?))
    };
    base.iter().zip(model.values()).map(subtract).collect()
}

/// How the task vectors of several models relate: lengths, angles, conflicting signs.
///
/// Matrices are `[models, models]`, in the order given. All sums run in `f64` and in a fixed order.
///
/// ```
/// use mtl_merge::{HostTensor, TaskVectorStats, TensorMap};
///
/// let map = |v: [f32; 2]| TensorMap::from([("w".to_owned(), HostTensor::vector(v.to_vec()))]);
/// let (base, a, b) = (map([1.0, 1.0]), map([4.0, 5.0]), map([4.0, -3.0]));
/// let stats = TaskVectorStats::of_maps(&base, &[("a", &a), ("b", &b)])?;
/// assert_eq!(stats.norms, [5.0, 5.0]);
/// assert_eq!(stats.cosine[0][1], (9.0 - 16.0) / 25.0);
/// assert_eq!(stats.sign_conflict[0][1], 0.5);
/// # Ok::<(), mtl_merge::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
#[non_exhaustive]
pub struct TaskVectorStats {
    /// Names of the models.
    pub models: Vec<String>,
    /// Euclidean norm of the base model.
    pub base_norm: f64,
    /// Euclidean norms of the task vectors.
    pub norms: Vec<f64>,
    /// Cosines of the angles between task vectors; 0 where one of them is zero.
    pub cosine: Vec<Vec<f64>>,
    /// Share of opposite signs among the elements in which both task vectors are non-zero; 0 if there are none.
    pub sign_conflict: Vec<Vec<f64>>,
    /// Share of elements, among those some task vector changes, that two task vectors push in opposite directions.
    pub any_conflict: f64,
    /// Elements compared; integer tensors are left out.
    pub elements: u64,
    /// Norms of the parts of the models: what comes before the layers, the layers, what comes after them.
    pub profile: Vec<PartNorms>,
}

/// Norms of the tensors of one layer, or of those that belong to none.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
#[non_exhaustive]
pub struct PartNorms {
    /// Common start of the names of a layer, such as `model.layers.3`; `before` or `after` the layers.
    pub part: String,
    /// Euclidean norm of the base model's tensors.
    pub base_norm: f64,
    /// Euclidean norms of the task vectors.
    pub norms: Vec<f64>,
}

impl TaskVectorStats {
    /// Compares checkpoints on disk.
    ///
    /// # Errors
    ///
    /// [`Error::Open`], [`Error::Mismatch`] and [`Error::NonFinite`], as for a merge.
    pub fn of_files(base: &Path, models: &[&Path]) -> Result<Self> {
        let open =
            |role: String, path: &Path| FileSource::open(path).map_err(|source| Error::Open { role, source });
        let base = open("base_model".to_owned(), base)?;
        let opened = models.iter().enumerate().map(|(i, path)| open(format!("models[{i}]"), path));
        let opened: Vec<FileSource> = opened.collect::<Result<_>>()?;
        let names = models.iter().map(|path| path.display().to_string()).collect();
        Self::of(&base, &opened.iter().map(|file| file as &dyn Source).collect::<Vec<_>>(), names)
    }

    /// Compares checkpoints named as in recipes: a path, or `path+adapter`.
    ///
    /// # Errors
    ///
    /// As [`TaskVectorStats::of_files`].
    pub fn of_models(base: &str, models: &[&str]) -> Result<Self> {
        let base = tools::open("base_model", base)?;
        let opened = models.iter().enumerate().map(|(i, model)| tools::open(&format!("models[{i}]"), model));
        let opened: Vec<Box<dyn Source>> = opened.collect::<Result<_>>()?;
        let names = models.iter().map(|&model| model.to_owned()).collect();
        Self::of(&*base, &opened.iter().map(|source| &**source).collect::<Vec<_>>(), names)
    }

    /// Compares models in memory, given with their names.
    ///
    /// # Errors
    ///
    /// [`Error::Mismatch`] and [`Error::NonFinite`], as for a merge.
    pub fn of_maps(base: &TensorMap, models: &[(&str, &TensorMap)]) -> Result<Self> {
        let maps: Vec<_> = models.iter().map(|&(name, map)| MapSource::new(name, map)).collect();
        let names = models.iter().map(|&(name, _)| name.to_owned()).collect();
        let maps: Vec<_> = maps.iter().map(|map| map as &dyn Source).collect();
        Self::of(&MapSource::new("base", base), &maps, names)
    }

    fn of(base: &dyn Source, models: &[&dyn Source], names: Vec<String>) -> Result<Self> {
        let sources: Vec<&dyn Source> = std::iter::once(base).chain(models.iter().copied()).collect();
        let mut rows = align(&sources)?;
        rows.retain(|(meta, _)| meta.dtype.is_float());
        let mut total = Sums::new(models.len());
        let layout = Layout::of(rows.iter().map(|(meta, _)| meta.name.as_str()));
        let mut parts_of: BTreeMap<Part, Squares> = BTreeMap::new();
        for row in &rows {
            let mut of_row = Sums::new(models.len());
            let starts: Vec<usize> = (0..row.0.numel()).step_by(BLOCK).collect();
            // Blocks are summed where they fall and added up in order.
            let parts: Vec<Result<Sums>> =
                starts.par_iter().map(|&start| block(&sources, row, start)).collect();
            for part in parts {
                of_row.add(&part?);
            }
            let squares = parts_of.entry(part(&layout, &row.0.name)).or_default();
            squares.0 += of_row.base_square;
            squares.1.resize(models.len(), 0.0);
            squares.1.iter_mut().enumerate().for_each(|(i, sum)| *sum += of_row.dots[i * models.len() + i]);
            total.add(&of_row);
        }
        let norms = |(part, Squares(base, squares)): (Part, Squares)| PartNorms {
            part: match part {
                Part::Before => "before".to_owned(),
                Part::Layer(stack, index) => layout.stacks[stack].name(index, ""),
                Part::After => "after".to_owned(),
            },
            base_norm: base.sqrt(),
            norms: squares.iter().map(|square| square.sqrt()).collect(),
        };
        Ok(total.finish(names, parts_of.into_iter().map(norms).collect()))
    }
}

/// Sums over elements; the matrices are row-major, `[models, models]`.
#[derive(Debug, Clone)]
struct Sums {
    models: usize,
    elements: u64,
    base_square: f64,
    dots: Vec<f64>,
    both: Vec<u64>,
    opposite: Vec<u64>,
    changed: u64,
    torn: u64,
}

impl Sums {
    fn new(models: usize) -> Self {
        let n = models * models;
        Self {
            models,
            elements: 0,
            base_square: 0.0,
            dots: vec![0.0; n],
            both: vec![0; n],
            opposite: vec![0; n],
            changed: 0,
            torn: 0,
        }
    }

    fn add(&mut self, part: &Self) {
        self.elements += part.elements;
        self.base_square += part.base_square;
        self.changed += part.changed;
        self.torn += part.torn;
        self.dots.iter_mut().zip(&part.dots).for_each(|(sum, x)| *sum += x);
        self.both.iter_mut().zip(&part.both).for_each(|(sum, x)| *sum += x);
        self.opposite.iter_mut().zip(&part.opposite).for_each(|(sum, x)| *sum += x);
    }

    fn finish(self, models: Vec<String>, profile: Vec<PartNorms>) -> TaskVectorStats {
        let n = self.models;
        let norms: Vec<f64> = (0..n).map(|i| self.dots[i * n + i].sqrt()).collect();
        let matrix = |entry: &dyn Fn(usize, usize) -> f64| -> Vec<Vec<f64>> {
            (0..n).map(|i| (0..n).map(|j| entry(i, j)).collect()).collect()
        };
        let cosine = matrix(&|i, j| match norms[i] * norms[j] {
            0.0 => 0.0,
            product => (self.dots[i * n + j] / product).clamp(-1.0, 1.0),
        });
        let sign_conflict = matrix(&|i, j| share(self.opposite[i * n + j], self.both[i * n + j]));
        TaskVectorStats {
            models,
            base_norm: self.base_square.sqrt(),
            norms,
            cosine,
            sign_conflict,
            any_conflict: share(self.torn, self.changed),
            elements: self.elements,
            profile,
        }
    }
}

/// Part of a model, in the order of the profile.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Part {
    Before,
    Layer(usize, usize),
    After,
}

/// Sums of squares of a part: of the base and of the task vectors.
#[derive(Debug, Clone, Default)]
struct Squares(f64, Vec<f64>);

fn part(layout: &Layout, name: &str) -> Part {
    match layout.role(name) {
        Role::Before => Part::Before,
        Role::Layer { stack, index, .. } => Part::Layer(stack, index),
        Role::After => Part::After,
    }
}

fn share(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 / whole as f64 }
}

fn block(sources: &[&dyn Source], (meta, places): &Row, start: usize) -> Result<Sums> {
    let span = start..(start + BLOCK).min(meta.numel());
    let mut base = Vec::new();
    let mut deltas: Vec<Vec<f64>> = Vec::new();
    for (source, &place) in sources.iter().zip(places) {
        let mut values = vec![0.0; span.len()];
        if !source.read(place, span.clone(), &mut values)? {
            return Err(non_finite(*source, place)?);
        }
        match base.is_empty() {
            true => base = values,
            false => deltas.push(values.iter().zip(&base).map(|(x, x0)| x - x0).collect()),
        }
    }
    let mut sums = Sums::new(deltas.len());
    sums.elements = span.len() as u64;
    sums.base_square = base.iter().map(|x| x * x).sum();
    for (i, a) in deltas.iter().enumerate() {
        for (j, b) in deltas.iter().enumerate().skip(i) {
            let (mut dot, mut both, mut opposite) = (0.0, 0, 0);
            for (x, y) in a.iter().zip(b) {
                let product = x * y;
                dot += product;
                // Not the product's sign: it may underflow to 0.
                both += u64::from(*x != 0.0 && *y != 0.0);
                opposite += u64::from((*x > 0.0 && *y < 0.0) || (*x < 0.0 && *y > 0.0));
            }
            for at in [i * sums.models + j, j * sums.models + i] {
                (sums.dots[at], sums.both[at], sums.opposite[at]) = (dot, both, opposite);
            }
        }
    }
    for element in 0..span.len() {
        let up = deltas.iter().any(|d| d[element] > 0.0);
        let down = deltas.iter().any(|d| d[element] < 0.0);
        sums.changed += u64::from(up || down);
        sums.torn += u64::from(up && down);
    }
    Ok(sums)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(values: Vec<f32>) -> TensorMap {
        TensorMap::from([("w".to_owned(), HostTensor::vector(values))])
    }

    #[test]
    fn signs_and_norms_of_a_case_done_by_hand() {
        let base = map(vec![0.0; 4]);
        let (a, b, zero) = (map(vec![3.0, 4.0, 0.0, 0.0]), map(vec![-3.0, 4.0, 1.0, 0.0]), map(vec![0.0; 4]));
        let stats = TaskVectorStats::of_maps(&base, &[("a", &a), ("b", &b), ("zero", &zero)]).unwrap();
        assert_eq!(stats.norms, [5.0, 26_f64.sqrt(), 0.0]);
        assert_eq!(stats.sign_conflict[0], [0.0, 0.5, 0.0]);
        assert_eq!(stats.cosine[0][1], 7.0 / (5.0 * 26_f64.sqrt()));
        assert_eq!(stats.cosine[2], [0.0; 3], "a zero task vector has no direction");
        assert_eq!(stats.any_conflict, 1.0 / 3.0);
    }

    #[test]
    fn the_profile_splits_the_norm_by_layer() {
        let map = |x: f32| -> TensorMap {
            let names = ["embed.weight", "layers.0.w", "layers.1.w", "layers.1.b", "norm.weight"];
            let tensor =
                |(i, name): (usize, &&str)| ((*name).to_owned(), HostTensor::vector(vec![x * i as f32]));
            names.iter().enumerate().map(tensor).collect()
        };
        let stats = TaskVectorStats::of_maps(&map(0.0), &[("a", &map(1.0))]).unwrap();
        let found: Vec<_> = stats.profile.iter().map(|p| (p.part.as_str(), p.norms[0])).collect();
        assert_eq!(found, [("before", 0.0), ("layers.0", 1.0), ("layers.1", 13_f64.sqrt()), ("after", 4.0)]);
    }

    #[test]
    fn sums_do_not_depend_on_the_number_of_threads() {
        let values = |k: u32| map((0..50_000_u32).map(|i| ((i * k) as f32 * 0.37).sin()).collect());
        let (base, a, b) = (values(1), values(2), values(3));
        let stats = |threads| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| TaskVectorStats::of_maps(&base, &[("a", &a), ("b", &b)]).unwrap())
        };
        assert_eq!(stats(1), stats(3));
    }

    #[test]
    fn a_nan_is_named() {
        let base = map(vec![0.0, 0.0]);
        let error = TaskVectorStats::of_maps(&base, &[("a", &map(vec![1.0, f32::NAN]))]).unwrap_err();
        insta::assert_snapshot!(error, @"`w` in `a` has 1 NaN or infinite values, the first at element 1");
    }
}
