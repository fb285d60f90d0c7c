//! Exact dominated volume: sweeps in two and three dimensions, WFG above (While, Bradstreet & Barone, *A Fast Way of
//! Calculating Exact Hypervolumes*, IEEE TEVC 16(1), 2012).
use crate::{HwError, Result};

/// Volume that `points` dominate up to `reference`, all coordinates minimised.
///
/// ```
/// use mtl_hw::explore::hypervolume;
/// assert_eq!(hypervolume(&[vec![1.0, 2.0], vec![2.0, 1.0]], &[3.0, 3.0])?, 3.0);
/// # Ok::<(), mtl_hw::HwError>(())
/// ```
///
/// # Errors
///
/// [`HwError::Config`] for an empty or non-finite reference, points of another length, NaN, and a reference inside the
/// front: some point is worse than it on some axis.
pub fn hypervolume(points: &[Vec<f64>], reference: &[f64]) -> Result<f64> {
    let n = reference.len();
    if n == 0 || reference.iter().any(|r| !r.is_finite()) {
        return Err(HwError::config("reference", "one finite number per goal", format!("{reference:?}")));
    }
    for point in points {
        if point.len() != n || point.iter().any(|v| !v.is_finite()) {
            return Err(HwError::config(
                "points",
                format!("of {n} finite coordinates"),
                format!("{point:?}"),
            ));
        }
        if let Some((v, r)) = point.iter().zip(reference).find(|(v, r)| v > r) {
            return Err(HwError::config(
                "reference",
                format!("at least as bad as every point; one has {v} on an axis"),
                r,
            ));
        }
    }
    // Measured from the reference, so that a larger coordinate is better.
    let gains: Vec<Vec<f64>> =
        points.iter().map(|p| p.iter().zip(reference).map(|(v, r)| r - v).collect()).collect();
    Ok(volume(gains, n))
}

/// Volume of the union of the boxes from the origin to each point.
fn volume(points: Vec<Vec<f64>>, n: usize) -> f64 {
    match n {
        1 => points.iter().filter_map(|p| p.first()).fold(0.0, |a, &b| f64::max(a, b)),
        2 => area(points),
        3 => sweep(points),
        _ => slice(points, n),
    }
}

fn at(point: &[f64], axis: usize) -> f64 {
    point.get(axis).copied().unwrap_or(0.0)
}

fn area(mut points: Vec<Vec<f64>>) -> f64 {
    points.sort_by(|a, b| at(b, 0).total_cmp(&at(a, 0)));
    let (mut total, mut height) = (0.0, 0.0);
    for p in &points {
        if at(p, 1) > height {
            total += at(p, 0) * (at(p, 1) - height);
            height = at(p, 1);
        }
    }
    total
}

/// Sweeps along the third axis over a staircase in the first two.
fn sweep(mut points: Vec<Vec<f64>>) -> f64 {
    points.sort_by(|a, b| at(b, 2).total_cmp(&at(a, 2)));
    // Falling in x, rising in y.
    let mut stairs: Vec<(f64, f64)> = Vec::new();
    let (mut total, mut area) = (0.0, 0.0);
    for (i, p) in points.iter().enumerate() {
        let (x, y) = (at(p, 0), at(p, 1));
        let next = points.get(i + 1).map_or(0.0, |q| at(q, 2));
        let from = stairs.partition_point(|s| s.0 >= x);
        let before = from.checked_sub(1).and_then(|j| stairs.get(j)).copied();
        if before.is_none_or(|(_, top)| top < y) {
            let covered = stairs.iter().skip(from).take_while(|s| s.1 <= y).count();
            let (mut right, mut top) = (x, before.map_or(0.0, |b| b.1));
            for &(sx, sy) in stairs.iter().skip(from).take(covered) {
                area += (right - sx) * (y - top);
                (right, top) = (sx, sy);
            }
            let left = stairs.get(from + covered).map_or(0.0, |s| s.0);
            area += (right - left) * (y - top);
            stairs.splice(from..from + covered, [(x, y)]);
        }
        total += area * (at(p, 2) - next);
    }
    total
}

/// Adds each point's own volume; limited to it, later points agree on the last axis, so one dimension falls away.
fn slice(mut points: Vec<Vec<f64>>, n: usize) -> f64 {
    points.sort_by(|a, b| at(a, n - 1).total_cmp(&at(b, n - 1)));
    let mut total = 0.0;
    for (i, p) in points.iter().enumerate() {
        let own: f64 = p.iter().take(n - 1).product();
        let limited =
            points.iter().skip(i + 1).map(|q| p.iter().zip(q).take(n - 1).map(|(a, b)| a.min(*b)).collect());
        let shared = volume(maximal(limited.collect()), n - 1);
        total += at(p, n - 1) * (own - shared);
    }
    total
}

/// Drops points that another one covers.
fn maximal(points: Vec<Vec<f64>>) -> Vec<Vec<f64>> {
    let mut kept: Vec<Vec<f64>> = Vec::with_capacity(points.len());
    for p in points {
        let covers = |a: &[f64], b: &[f64]| a.iter().zip(b).all(|(x, y)| x >= y);
        if !kept.iter().any(|k| covers(k, &p)) {
            kept.retain(|k| !covers(&p, k));
            kept.push(p);
        }
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn volumes_equal_the_count_of_covered_unit_cells(
            n in 1usize..=5, raw in proptest::collection::vec(proptest::collection::vec(0u8..=5, 5), 0..8),
        ) {
            let points: Vec<Vec<f64>> =
                raw.iter().map(|p| p.iter().take(n).map(|&v| f64::from(v)).collect()).collect();
            let cells = 5usize.pow(n as u32);
            let covered = (0..cells).filter(|c| {
                let cell = |axis: usize| (c / 5usize.pow(axis as u32)) % 5;
                points.iter().any(|p| p.iter().enumerate().all(|(a, &v)| cell(a) as f64 >= v))
            });
            prop_assert!((hypervolume(&points, &vec![5.0; n]).unwrap() - covered.count() as f64).abs() < 1e-9);
        }
    }

    #[test]
    fn a_reference_inside_the_front_is_an_error() {
        let points = [vec![1.0, 4.0], vec![2.0, 2.0]];
        insta::assert_snapshot!(hypervolume(&points, &[3.0, 3.0]).unwrap_err(), @"`reference` must be at least as bad as every point; one has 4 on an axis, but is 3");
        assert!(hypervolume(&points, &[3.0]).is_err() && hypervolume(&points, &[f64::NAN, 3.0]).is_err());
        assert_eq!(hypervolume(&[], &[1.0]).unwrap(), 0.0);
    }
}
