//! Statistics of every tensor of a checkpoint, streamed.
use super::open;
use crate::{
    Progress, Result,
    engine::source::Source,
    tensor::{BLOCK, PIECE},
};
use multiversion::multiversion;
use rayon::prelude::*;
use serde::Serialize;
use std::{collections::BTreeMap, ops::Range};

/// What a checkpoint holds.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct ModelStats {
    /// The checkpoint, as it was named.
    pub model: String,
    /// Elements of all tensors.
    pub elements: u64,
    /// Bytes of all tensors.
    pub bytes: u64,
    /// Elements by stored type.
    pub dtypes: BTreeMap<String, u64>,
    /// Euclidean norm of all finite floating-point values.
    pub norm: f64,
    /// NaN and infinite values in all tensors.
    pub non_finite: u64,
    /// The tensors, sorted by name.
    pub tensors: Vec<TensorStats>,
}

/// What a tensor holds.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct TensorStats {
    /// Name in the checkpoint.
    pub name: String,
    /// Stored type, such as `BF16`.
    pub dtype: String,
    /// Shape.
    pub shape: Vec<usize>,
    /// Number of elements.
    pub elements: u64,
    /// Bytes as stored.
    pub bytes: u64,
    /// Facts about the values; none for types that are not floating-point.
    pub values: Option<ValueStats>,
}

/// Facts about floating-point values; all but the counts are about the finite ones.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[non_exhaustive]
pub struct ValueStats {
    /// Euclidean norm.
    pub norm: f64,
    /// Mean; 0 without finite values.
    pub mean: f64,
    /// Standard deviation of the population.
    pub std: f64,
    /// Smallest value; 0 without finite values.
    pub min: f64,
    /// Largest value; 0 without finite values.
    pub max: f64,
    /// Values that are exactly 0.
    pub zeros: u64,
    /// NaN and infinite values.
    pub non_finite: u64,
}

/// Looks at every value of a checkpoint: a safetensors file, an index, a folder, or one of these `+adapter`.
///
/// Tensors are read in pieces, in parallel; results do not depend on the number of threads. `progress` counts bytes read.
///
/// # Errors
///
/// [`Error::Open`](crate::Error::Open) for a checkpoint that is missing or damaged,
/// [`Error::Interrupted`](crate::Error::Interrupted) after [`Progress::stop`].
///
/// ```
/// use mtl_core::params::{ParamView, write_params};
/// use mtl_merge::tools::inspect;
///
/// let dir = tempfile::tempdir()?;
/// let path = dir.path().join("model.safetensors");
/// write_params(&path, &Default::default(), &[ParamView::f32("w", &[4], &[3.0, -4.0, 0.0, f32::NAN])])?;
/// let stats = inspect(&path.to_string_lossy(), &Default::default())?;
/// let values = stats.tensors[0].values.ok_or("no values")?;
/// assert_eq!((values.norm, values.zeros, values.non_finite), (5.0, 1, 1));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn inspect(model: &str, progress: &Progress) -> Result<ModelStats> {
    let source = open("model", model)?;
    let bytes = |t: &crate::engine::source::TensorMeta| (t.numel() * t.dtype.size()) as u64;
    progress.begin(0, source.tensors().iter().map(bytes).sum());
    let mut tensors = Vec::with_capacity(source.tensors().len());
    let mut total = Moments::default();
    let mut dtypes = BTreeMap::<String, u64>::new();
    for (at, meta) in source.tensors().iter().enumerate() {
        let values = if meta.dtype.is_float() {
            let moments = tensor(&*source, at, progress)?;
            total.add(&moments);
            Some(moments.finish())
        } else {
            progress.add(bytes(meta));
            None
        };
        *dtypes.entry(meta.dtype.to_string()).or_default() += meta.numel() as u64;
        tensors.push(TensorStats {
            name: meta.name.clone(),
            dtype: meta.dtype.to_string(),
            shape: meta.shape.clone(),
            elements: meta.numel() as u64,
            bytes: bytes(meta),
            values,
        });
    }
    Ok(ModelStats {
        model: model.to_owned(),
        elements: tensors.iter().map(|t| t.elements).sum(),
        bytes: tensors.iter().map(|t| t.bytes).sum(),
        dtypes,
        norm: total.squares.sqrt(),
        non_finite: total.non_finite,
        tensors,
    })
}

fn tensor(source: &dyn Source, at: usize, progress: &Progress) -> Result<Moments> {
    let meta = &source.tensors()[at];
    let numel = meta.numel();
    let spans: Vec<Range<usize>> =
        (0..numel).step_by(BLOCK).map(|start| start..(start + BLOCK).min(numel)).collect();
    let block = |span: Range<usize>| -> Result<Moments> {
        progress.check()?;
        let mut buffer = vec![0.0; PIECE.min(span.len())];
        let mut sum = Moments::default();
        for start in span.clone().step_by(PIECE) {
            let values = &mut buffer[..PIECE.min(span.end - start)];
            let finite = source.read(at, start..start + values.len(), values)?;
            sum.add(&if finite { finite_moments(values) } else { any_moments(values) });
        }
        progress.add((span.len() * meta.dtype.size()) as u64);
        Ok(sum)
    };
    let parts: Vec<Result<Moments>> = spans.into_par_iter().map(block).collect();
    let mut sum = Moments::default();
    for part in parts {
        sum.add(&part?);
    }
    Ok(sum)
}

/// Sums over finite values that can be added up.
#[derive(Debug, Clone, Copy)]
struct Moments {
    count: u64,
    mean: f64,
    /// Sum of squared distances from the mean.
    spread: f64,
    squares: f64,
    min: f64,
    max: f64,
    zeros: u64,
    non_finite: u64,
}

impl Default for Moments {
    fn default() -> Self {
        Self {
            count: 0,
            mean: 0.0,
            spread: 0.0,
            squares: 0.0,
            min: f64::INFINITY,
            max: f64::NEG_INFINITY,
            zeros: 0,
            non_finite: 0,
        }
    }
}

impl Moments {
    /// Joins two samples (Chan, Golub and LeVeque 1979), which cancels nothing, however far the mean is from 0.
    fn add(&mut self, part: &Self) {
        let count = self.count + part.count;
        if part.count > 0 {
            let delta = part.mean - self.mean;
            let share = part.count as f64 / count as f64;
            self.spread += part.spread + delta * delta * self.count as f64 * share;
            self.mean += delta * share;
        }
        self.count = count;
        self.squares += part.squares;
        self.min = self.min.min(part.min);
        self.max = self.max.max(part.max);
        self.zeros += part.zeros;
        self.non_finite += part.non_finite;
    }

    fn finish(&self) -> ValueStats {
        let none = self.count == 0;
        ValueStats {
            norm: self.squares.sqrt(),
            mean: self.mean,
            std: if none { 0.0 } else { (self.spread / self.count as f64).sqrt() },
            min: if none { 0.0 } else { self.min },
            max: if none { 0.0 } else { self.max },
            zeros: self.zeros,
            non_finite: self.non_finite,
        }
    }
}

/// Sums run in this many lanes.
const LANES: usize = 8;

#[multiversion(targets("x86_64+avx2"))]
fn finite_moments(values: &[f64]) -> Moments {
    let (chunks, rest) = values.as_chunks::<LANES>();
    let (mut sums, mut squares, mut zeros) = ([0.0; LANES], [0.0; LANES], [0_u64; LANES]);
    let (mut low, mut high) = ([f64::INFINITY; LANES], [f64::NEG_INFINITY; LANES]);
    for chunk in chunks {
        for lane in 0..LANES {
            let x = chunk[lane];
            sums[lane] += x;
            squares[lane] += x * x;
            zeros[lane] += u64::from(x == 0.0);
            low[lane] = if x < low[lane] { x } else { low[lane] };
            high[lane] = if x > high[lane] { x } else { high[lane] };
        }
    }
    let rest_sum: f64 = rest.iter().sum();
    let mean = (sums.iter().sum::<f64>() + rest_sum) / values.len() as f64;
    let mut spreads = [0.0; LANES];
    for chunk in chunks {
        for lane in 0..LANES {
            let d = chunk[lane] - mean;
            spreads[lane] += d * d;
        }
    }
    Moments {
        count: values.len() as u64,
        mean,
        spread: spreads.iter().sum::<f64>() + rest.iter().map(|x| (x - mean) * (x - mean)).sum::<f64>(),
        squares: squares.iter().sum::<f64>() + rest.iter().map(|x| x * x).sum::<f64>(),
        min: low.iter().chain(rest).copied().fold(f64::INFINITY, f64::min),
        max: high.iter().chain(rest).copied().fold(f64::NEG_INFINITY, f64::max),
        zeros: zeros.iter().sum::<u64>() + rest.iter().filter(|x| **x == 0.0).count() as u64,
        non_finite: 0,
    }
}

fn any_moments(values: &[f64]) -> Moments {
    let finite: Vec<f64> = values.iter().copied().filter(|x| x.is_finite()).collect();
    let non_finite = (values.len() - finite.len()) as u64;
    let moments = if finite.is_empty() { Moments::default() } else { finite_moments(&finite) };
    Moments { non_finite, ..moments }
}

#[cfg(test)]
mod tests {
    use super::*;
    use mtl_core::params::{ParamView, write_params};

    fn stats(values: &[f32], threads: usize) -> ValueStats {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("m.safetensors");
        write_params(&path, &Default::default(), &[ParamView::f32("w", &[values.len()], values)]).unwrap();
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        let model = pool.install(|| inspect(&path.to_string_lossy(), &Progress::default())).unwrap();
        model.tensors[0].values.unwrap()
    }

    #[test]
    fn a_case_done_by_hand() {
        let s = stats(&[1.0, -2.0, 0.0, -0.0, 3.0], 1);
        assert_eq!((s.norm, s.min, s.max, s.zeros), (14_f64.sqrt(), -2.0, 3.0, 2));
        assert!((s.mean - 0.4).abs() < 1e-15);
        // Squares 14 / 5 minus the squared mean.
        assert!((s.std - (2.8_f64 - 0.16).sqrt()).abs() < 1e-15);
    }

    #[test]
    fn a_large_mean_does_not_swallow_the_spread() {
        let values: Vec<f32> = (0..300_000).map(|i| 4096.0 + (i % 2) as f32 * 0.5).collect();
        assert!((stats(&values, 2).std - 0.25).abs() < 1e-12);
    }

    #[test]
    fn results_do_not_depend_on_the_number_of_threads() {
        let values: Vec<f32> = (0..700_000).map(|i| (i as f32 * 0.37).sin()).collect();
        assert_eq!(stats(&values, 1), stats(&values, 3));
    }

    #[test]
    fn values_that_are_not_finite_are_counted_and_left_out() {
        let s = stats(&[f32::NAN, 2.0, f32::INFINITY], 1);
        assert_eq!((s.non_finite, s.mean, s.max), (2, 2.0, 2.0));
        let none = stats(&[f32::NAN], 1);
        assert_eq!((none.min, none.max, none.std), (0.0, 0.0, 0.0));
    }
}
