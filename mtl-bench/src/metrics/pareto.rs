//! Non-dominated sets and hypervolume.
use super::Better;
use crate::{Error, Result};

/// Indices of the points that no other point beats: at least as good everywhere and better somewhere. Duplicates stay.
///
/// ```
/// use mtl_bench::metrics::{Better, non_dominated};
///
/// // Accuracy up, latency down.
/// let points = [vec![0.9, 10.0], vec![0.8, 5.0], vec![0.7, 7.0]];
/// assert_eq!(non_dominated(&points, &[Better::Higher, Better::Lower])?, [0, 1]);
/// # Ok::<(), mtl_bench::Error>(())
/// ```
///
/// # Errors
///
/// [`Error::Metric`] when a point has another number of objectives or a value that is not finite.
pub fn non_dominated(points: &[Vec<f64>], better: &[Better]) -> Result<Vec<usize>> {
    for (i, point) in points.iter().enumerate() {
        check(i, point, better.len())?;
    }
    let dominates = |a: &[f64], b: &[f64]| {
        let mut strictly = false;
        for ((&x, &y), &direction) in a.iter().zip(b).zip(better) {
            if direction.is_better(y, x) {
                return false;
            }
            strictly |= x != y;
        }
        strictly
    };
    let beaten = |i: usize| points.iter().any(|other| dominates(other, &points[i]));
    Ok((0..points.len()).filter(|&i| !beaten(i)).collect())
}

/// Volume that `points` dominate up to `reference`, all objectives to be minimised; exact, for 1 to 3 objectives.
///
/// # Errors
///
/// [`Error::Metric`] for more than 3 objectives, or a point that is not better than the reference everywhere.
pub fn hypervolume(points: &[Vec<f64>], reference: &[f64]) -> Result<f64> {
    if !(1..=3).contains(&reference.len()) {
        return Err(Error::metric(
            "hypervolume",
            format!("1 to 3 objectives are supported, not {}", reference.len()),
        ));
    }
    for (i, point) in points.iter().enumerate() {
        check(i, point, reference.len())?;
        if point.iter().zip(reference).any(|(p, r)| p >= r) {
            return Err(Error::metric(
                "hypervolume",
                format!("point {i} is not better than the reference point everywhere"),
            ));
        }
    }
    let slices: Vec<&[f64]> = points.iter().map(Vec::as_slice).collect();
    Ok(volume(slices, reference))
}

/// Sweeps the last objective and multiplies by the volume of what has been met so far.
fn volume(mut points: Vec<&[f64]>, reference: &[f64]) -> f64 {
    let last = reference.len() - 1;
    if last == 0 {
        return points.iter().map(|p| reference[0] - p[0]).fold(0.0, f64::max);
    }
    points.sort_by(|a, b| a[last].total_cmp(&b[last]));
    let slab = |i: usize| {
        let next = points.get(i + 1).map_or(reference[last], |p| p[last]);
        let thickness = next - points[i][last];
        if thickness == 0.0 {
            return 0.0;
        }
        thickness * volume(points[..=i].iter().map(|p| &p[..last]).collect(), &reference[..last])
    };
    (0..points.len()).map(slab).sum()
}

fn check(i: usize, point: &[f64], objectives: usize) -> Result<()> {
    if point.len() != objectives {
        return Err(Error::metric(
            "pareto",
            format!("point {i} has {} objectives, not {objectives}", point.len()),
        ));
    }
    super::finite("pareto", &format!("objective of point {i} at"), point.iter().copied())
}
