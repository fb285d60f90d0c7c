//! How two checkpoints differ, tensor by tensor.
use super::open;
use crate::{
    Progress, Result,
    engine::source::{Source, TensorMeta},
    tensor::{BLOCK, PIECE},
};
use mtl_core::params::Dtype;
use rayon::prelude::*;
use serde::Serialize;
use std::ops::Range;

/// What counts as equal: `|a − b| ≤ atol + rtol · |b|`; with both 0, the same bits.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Tolerance {
    /// Absolute tolerance.
    pub atol: f64,
    /// Tolerance relative to the second checkpoint.
    pub rtol: f64,
    /// Floating-point values are compared across types, which may differ.
    pub any_dtype: bool,
}

impl Tolerance {
    fn exact(&self) -> bool {
        self.atol == 0.0 && self.rtol == 0.0
    }
}

/// The differences between two checkpoints.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Diff {
    /// Whether there is no difference beyond the tolerance.
    pub equal: bool,
    /// Tensors whose values were compared.
    pub compared: usize,
    /// Tensors among them that are the same bit for bit.
    pub identical: usize,
    /// Names that only the first checkpoint has.
    pub only_first: Vec<String>,
    /// Names that only the second checkpoint has.
    pub only_second: Vec<String>,
    /// Tensors of different shapes, or of types that cannot be compared.
    pub shapes: Vec<ShapeDiff>,
    /// Tensors with the same shape and different bits or types, sorted by name.
    pub tensors: Vec<TensorDiff>,
}

/// A tensor whose values cannot be compared.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct ShapeDiff {
    /// Name of the tensor.
    pub name: String,
    /// Type and shape in the first checkpoint.
    pub first: (String, Vec<usize>),
    /// Type and shape in the second.
    pub second: (String, Vec<usize>),
}

/// How the values of a tensor differ.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct TensorDiff {
    /// Name of the tensor.
    pub name: String,
    /// Types in the first and the second checkpoint.
    pub dtypes: (String, String),
    /// Number of elements.
    pub elements: u64,
    /// Elements that differ beyond the tolerance.
    pub different: u64,
    /// Largest `|a − b|` where both are finite.
    pub max_abs: f64,
    /// Largest `|a − b| / max(|a|, |b|)` where both are finite.
    pub max_rel: f64,
    /// `‖a − b‖ / ‖b‖` over finite values; 0 where both are 0, absent where only `b` is.
    pub relative_norm: Option<f64>,
    /// Cosine of the angle between the tensors; absent when one of them is zero.
    pub cosine: Option<f64>,
    /// Largest distance in units in the last place, that is in values of the stored type between `a` and `b`; absent when
    /// the types differ or are not floating-point.
    pub max_ulp: Option<u64>,
    /// Elements that differ where one of them is NaN or infinite.
    pub non_finite: u64,
    /// Where the difference is largest, in row-major order; or the first element that differs if none is finite.
    pub worst: Option<u64>,
}

/// Compares two checkpoints, each a file, an index, a folder, or one of these `+adapter`.
///
/// `progress` counts bytes of the first.
///
/// # Errors
///
/// [`Error::Open`](crate::Error::Open) for a checkpoint that is missing or damaged,
/// [`Error::Interrupted`](crate::Error::Interrupted) after [`Progress::stop`].
///
/// ```
/// use mtl_core::params::{ParamView, write_params};
/// use mtl_merge::tools::{Tolerance, diff};
///
/// let dir = tempfile::tempdir()?;
/// let path = |name: &str| dir.path().join(name).to_string_lossy().into_owned();
/// for (name, values) in [("a", [1.0, 2.0]), ("b", [1.0, 2.5])] {
///     write_params(path(name), &Default::default(), &[ParamView::f32("w", &[2], &values)])?;
/// }
/// let found = diff(&path("a"), &path("b"), Tolerance::default(), &Default::default())?;
/// assert_eq!((found.equal, found.tensors[0].different, found.tensors[0].max_abs), (false, 1, 0.5));
/// assert!(diff(&path("a"), &path("b"), Tolerance { rtol: 0.2, ..Default::default() }, &Default::default())?.equal);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn diff(first: &str, second: &str, tolerance: Tolerance, progress: &Progress) -> Result<Diff> {
    let (a, b) = (open("first model", first)?, open("second model", second)?);
    let lacking = |from: &dyn Source, other: &dyn Source| -> Vec<String> {
        let names = from.tensors().iter().map(|t| &t.name);
        names.filter(|name| other.find(name).is_none()).cloned().collect()
    };
    let mut found = Diff {
        equal: true,
        compared: 0,
        identical: 0,
        only_first: lacking(&*a, &*b),
        only_second: lacking(&*b, &*a),
        shapes: Vec::new(),
        tensors: Vec::new(),
    };
    progress.begin(0, a.tensors().iter().map(nbytes).sum());
    for (i, meta) in a.tensors().iter().enumerate() {
        let Some(j) = b.find(&meta.name) else { continue };
        let other = &b.tensors()[j];
        let comparable = meta.dtype == other.dtype || (meta.dtype.is_float() && other.dtype.is_float());
        if meta.shape != other.shape || !comparable {
            let describe = |m: &TensorMeta| (m.dtype.to_string(), m.shape.clone());
            let (name, first, second) = (meta.name.clone(), describe(meta), describe(other));
            found.shapes.push(ShapeDiff { name, first, second });
            continue;
        }
        found.compared += 1;
        match tensor(&*a, i, &*b, j, tolerance, progress)? {
            None => found.identical += 1,
            Some(difference) => {
                let types = meta.dtype != other.dtype && !tolerance.any_dtype;
                found.equal &= difference.different == 0 && !types;
                found.tensors.push(difference);
            }
        }
    }
    found.equal &= found.only_first.is_empty() && found.only_second.is_empty() && found.shapes.is_empty();
    Ok(found)
}

fn nbytes(meta: &TensorMeta) -> u64 {
    (meta.numel() * meta.dtype.size()) as u64
}

/// Nothing when the tensors are the same bit for bit.
fn tensor(
    a: &dyn Source,
    i: usize,
    b: &dyn Source,
    j: usize,
    tolerance: Tolerance,
    progress: &Progress,
) -> Result<Option<TensorDiff>> {
    let (meta, other) = (&a.tensors()[i], &b.tensors()[j]);
    let (bytes_a, bytes_b) = (a.bytes(i)?, b.bytes(j)?);
    let numel = meta.numel();
    let spans: Vec<Range<usize>> = (0..numel).step_by(BLOCK).map(|s| s..(s + BLOCK).min(numel)).collect();
    let same_type = meta.dtype == other.dtype;
    if same_type && bytes_a.par_chunks(BLOCK).zip(bytes_b.par_chunks(BLOCK)).all(|(x, y)| x == y) {
        progress.check()?;
        progress.add(nbytes(meta));
        return Ok(None);
    }
    let block = |span: Range<usize>| -> Result<Sums> {
        progress.check()?;
        progress.add((span.len() * meta.dtype.size()) as u64);
        let part = |dtype: Dtype| span.start * dtype.size()..span.end * dtype.size();
        let (x, y) = (&bytes_a[part(meta.dtype)], &bytes_b[part(other.dtype)]);
        if !meta.dtype.is_float() {
            return Ok(Sums::of_opaque(x, y, meta.dtype.size(), span.start));
        }
        let mut sums = Sums::default();
        let (mut left, mut right) = (vec![0.0; PIECE], vec![0.0; PIECE]);
        for start in span.clone().step_by(PIECE) {
            let n = PIECE.min(span.end - start);
            a.read(i, start..start + n, &mut left[..n])?;
            b.read(j, start..start + n, &mut right[..n])?;
            let bits = same_type.then(|| {
                let at =
                    (start - span.start) * meta.dtype.size()..(start - span.start + n) * meta.dtype.size();
                (&x[at.clone()], &y[at], meta.dtype.size())
            });
            sums.values(&left[..n], &right[..n], bits, start, tolerance);
        }
        Ok(sums)
    };
    let parts: Vec<Result<Sums>> = spans.into_par_iter().map(block).collect();
    let mut sums = Sums::default();
    for part in parts {
        sums.add(&part?);
    }
    let name = meta.name.clone();
    let dtypes = (meta.dtype.to_string(), other.dtype.to_string());
    Ok(Some(sums.finish(name, dtypes, numel as u64, same_type && meta.dtype.is_float())))
}

#[derive(Debug, Clone, Default)]
struct Sums {
    different: u64,
    max_abs: f64,
    max_rel: f64,
    max_ulp: u64,
    dot: f64,
    squares: [f64; 2],
    error: f64,
    non_finite: u64,
    worst: Option<u64>,
    first: Option<u64>,
}

impl Sums {
    /// Elements that can only be equal or not.
    fn of_opaque(x: &[u8], y: &[u8], size: usize, start: usize) -> Self {
        let mut sums = Self::default();
        for (k, (x, y)) in x.chunks_exact(size).zip(y.chunks_exact(size)).enumerate() {
            if x != y {
                sums.different += 1;
                sums.first.get_or_insert((start + k) as u64);
            }
        }
        sums
    }

    fn values(
        &mut self,
        a: &[f64],
        b: &[f64],
        bits: Option<(&[u8], &[u8], usize)>,
        start: usize,
        tolerance: Tolerance,
    ) {
        for (k, (&x, &y)) in a.iter().zip(b).enumerate() {
            let finite = x.is_finite() && y.is_finite();
            if finite {
                self.dot += x * y;
                self.squares[0] += x * x;
                self.squares[1] += y * y;
            }
            let key = bits.map(|(p, q, size)| (place(p, k, size), place(q, k, size)));
            let same = key.map_or(x == y || (x.is_nan() && y.is_nan()), |(p, q)| p == q);
            if same {
                continue;
            }
            let at = (start + k) as u64;
            let distance = (x - y).abs();
            let beyond = match finite {
                _ if tolerance.exact() => true,
                true => distance > tolerance.atol + tolerance.rtol * y.abs(),
                // An infinity is near itself, a NaN near every NaN.
                false => !(x == y || (x.is_nan() && y.is_nan())),
            };
            self.different += u64::from(beyond);
            if beyond {
                self.first.get_or_insert(at);
            }
            if !finite {
                self.non_finite += 1;
                continue;
            }
            self.error += distance * distance;
            if distance > self.max_abs || (self.worst.is_none() && distance > 0.0) {
                (self.max_abs, self.worst) = (distance, Some(at));
            }
            let scale = x.abs().max(y.abs());
            if scale > 0.0 {
                self.max_rel = self.max_rel.max(distance / scale);
            }
            if let Some((p, q)) = key {
                self.max_ulp = self.max_ulp.max(u64::try_from((p - q).unsigned_abs()).unwrap_or(u64::MAX));
            }
        }
    }

    fn add(&mut self, part: &Self) {
        self.different += part.different;
        if part.max_abs > self.max_abs {
            self.worst = part.worst;
        }
        self.max_abs = self.max_abs.max(part.max_abs);
        self.max_rel = self.max_rel.max(part.max_rel);
        self.max_ulp = self.max_ulp.max(part.max_ulp);
        self.dot += part.dot;
        self.error += part.error;
        self.non_finite += part.non_finite;
        (0..2).for_each(|i| self.squares[i] += part.squares[i]);
        self.first = self.first.or(part.first);
    }

    fn finish(self, name: String, dtypes: (String, String), elements: u64, ulp: bool) -> TensorDiff {
        let product = self.squares[0].sqrt() * self.squares[1].sqrt();
        let relative = match (self.error, self.squares[1]) {
            (0.0, _) => Some(0.0),
            (_, 0.0) => None,
            (error, square) => Some((error / square).sqrt()),
        };
        TensorDiff {
            name,
            dtypes,
            elements,
            different: self.different,
            max_abs: self.max_abs,
            max_rel: self.max_rel,
            relative_norm: relative,
            cosine: (product > 0.0).then(|| (self.dot / product).clamp(-1.0, 1.0)),
            max_ulp: ulp.then_some(self.max_ulp),
            non_finite: self.non_finite,
            worst: self.worst.or(self.first),
        }
    }
}

/// Position of the `k`-th value among all values of its type, such that neighbours differ by 1 and −0 lies just below
/// +0.
fn place(bytes: &[u8], k: usize, size: usize) -> i128 {
    let mut raw = [0_u8; 8];
    raw[..size].copy_from_slice(&bytes[k * size..(k + 1) * size]);
    let bits = u64::from_le_bytes(raw);
    let sign = 1_u64 << (8 * size - 1);
    let magnitude = i128::from(bits & !sign & (u64::MAX >> (64 - 8 * size)));
    if bits & sign == 0 { magnitude } else { -magnitude - 1 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use mtl_core::params::{ParamView, write_params};
    use std::path::Path;

    fn write(dir: &Path, name: &str, tensors: &[ParamView<'_>]) -> String {
        let path = dir.join(name);
        write_params(&path, &Default::default(), tensors).unwrap();
        path.to_string_lossy().into_owned()
    }

    fn compare(a: &[ParamView<'_>], b: &[ParamView<'_>], tolerance: Tolerance) -> Diff {
        let dir = tempfile::tempdir().unwrap();
        let (a, b) = (write(dir.path(), "a", a), write(dir.path(), "b", b));
        diff(&a, &b, tolerance, &Progress::default()).unwrap()
    }

    #[test]
    fn distances_of_a_case_done_by_hand() {
        let (a, b) = ([1.0, 0.0, 3.0], [1.0, -0.0, f32::from_bits(3_f32.to_bits() + 5)]);
        let found =
            compare(&[ParamView::f32("w", &[3], &a)], &[ParamView::f32("w", &[3], &b)], Tolerance::default());
        let w = &found.tensors[0];
        assert_eq!((w.different, w.max_ulp, w.worst), (2, Some(5), Some(2)), "−0 is not +0");
        assert_eq!(w.max_abs, 5.0 * 2_f64.powi(-22));
        assert!(!found.equal);
    }

    #[test]
    fn a_tolerance_forgives_values_but_no_types_unless_asked() {
        let a = [ParamView::f32("w", &[2], &[1.0, 2.0])];
        let half = [0x00, 0x3c, 0x01, 0x40]; // 1 and the number after 2.
        let b = [ParamView::new("w", Dtype::F16, &[2], &half)];
        let tolerance = Tolerance { rtol: 1e-3, ..Tolerance::default() };
        assert!(!compare(&a, &b, tolerance).equal);
        let found = compare(&a, &b, Tolerance { any_dtype: true, ..tolerance });
        assert!(found.equal, "{found:?}");
        assert_eq!(found.tensors[0].max_ulp, None);
    }

    #[test]
    fn names_and_shapes_are_told() {
        let a = [ParamView::f32("a", &[1], &[1.0]), ParamView::f32("w", &[2, 1], &[1.0, 2.0])];
        let b = [ParamView::f32("b", &[1], &[1.0]), ParamView::f32("w", &[1, 2], &[1.0, 2.0])];
        let found = compare(&a, &b, Tolerance::default());
        assert_eq!((found.only_first, found.only_second), (vec!["a".to_owned()], vec!["b".to_owned()]));
        assert_eq!((found.shapes[0].first.1.clone(), found.compared), (vec![2, 1], 0));
    }

    #[test]
    fn the_same_nan_is_equal_and_another_value_is_not() {
        let a = [ParamView::f32("w", &[2], &[f32::NAN, 1.0])];
        assert!(compare(&a, &a, Tolerance::default()).equal);
        let b = [ParamView::f32("w", &[2], &[5.0, 1.0])];
        let found = compare(&a, &b, Tolerance { atol: 1e9, ..Tolerance::default() });
        assert_eq!((found.equal, found.tensors[0].non_finite, found.tensors[0].worst), (false, 1, Some(0)));
    }

    #[test]
    fn integers_are_equal_or_not() {
        let (a, b) = ([1_u8, 0, 2, 0], [1_u8, 0, 3, 0]);
        let view = |bytes| [ParamView::new("ids", Dtype::I16, &[2], bytes)];
        let found = compare(&view(&a), &view(&b), Tolerance::default());
        assert_eq!((found.tensors[0].different, found.tensors[0].max_ulp), (1, None));
    }

    #[test]
    fn neighbours_are_one_apart_across_zero() {
        let place = |x: f32| super::place(&x.to_le_bytes(), 0, 4);
        assert_eq!(place(0.0) - place(-0.0), 1);
        assert_eq!(place(f32::from_bits(1)) - place(0.0), 1);
        assert_eq!(place(-0.0) - place(-f32::from_bits(1)), 1);
    }
}
