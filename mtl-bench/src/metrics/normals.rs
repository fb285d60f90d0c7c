//! Errors of surface normals: Fouhey et al., *Data-Driven 3D Primitives for Single Image Understanding*, ICCV 2013.
use super::{finite, same_length};
use crate::{Error, Result};

/// Angles between predicted and true normals.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct NormalErrors {
    /// Mean angle, in degrees.
    pub mean: f64,
    /// Median angle, in degrees; of an even number, the mean of the middle two.
    pub median: f64,
    /// Root of the mean squared angle, in degrees.
    pub rmse: f64,
    /// Shares of angles below 11.25°, 22.5° and 30°; higher is better.
    pub within: [f64; 3],
}

/// Compares normals `[positions, 3]`, which need not have length 1; positions whose target is 0 do not count.
///
/// ```
/// let errors = mtl_bench::metrics::normal_errors(&[0.0, 0.0, 2.0, 0.0, 1.0, 0.0], &[0.0, 0.0, 1.0, 0.0, 0.0, 1.0])?;
/// assert!((errors.mean - 45.0).abs() < 1e-9 && errors.within == [0.5; 3]);
/// # Ok::<(), mtl_bench::Error>(())
/// ```
///
/// # Errors
///
/// [`Error::Metric`] when no target has a length, sizes do not fit, a number is not finite or a prediction is 0.
pub fn normal_errors<T: Into<f64> + Copy>(predictions: &[T], targets: &[T]) -> Result<NormalErrors> {
    const NAME: &str = "normals";
    same_length(NAME, predictions.len(), targets.len())?;
    if !targets.len().is_multiple_of(3) {
        return Err(Error::metric(NAME, format!("{} numbers are not a multiple of 3", targets.len())));
    }
    finite(NAME, "prediction", predictions.iter().map(|&p| p.into()))?;
    finite(NAME, "target", targets.iter().map(|&t| t.into()))?;
    let mut angles = Vec::with_capacity(targets.len() / 3);
    for (i, (p, t)) in predictions.chunks_exact(3).zip(targets.chunks_exact(3)).enumerate() {
        let Some(target) = unit(t) else { continue };
        let Some(found) = unit(p) else {
            return Err(Error::metric(
                NAME,
                format!("the normal predicted at position {i} has no direction"),
            ));
        };
        angles.push(angle(found, target).to_degrees());
    }
    if angles.is_empty() {
        return Err(Error::metric(NAME, "no target has a direction"));
    }
    angles.sort_by(f64::total_cmp);
    let n = angles.len() as f64;
    let middle = angles.len() / 2;
    let median = if angles.len() % 2 == 1 {
        angles[middle]
    } else {
        f64::midpoint(angles[middle - 1], angles[middle])
    };
    Ok(NormalErrors {
        mean: angles.iter().sum::<f64>() / n,
        median,
        rmse: (angles.iter().map(|a| a * a).sum::<f64>() / n).sqrt(),
        within: [11.25, 22.5, 30.0].map(|limit| angles.partition_point(|a| *a < limit) as f64 / n),
    })
}

fn unit<T: Into<f64> + Copy>(v: &[T]) -> Option<[f64; 3]> {
    let v: [f64; 3] = std::array::from_fn(|i| v[i].into());
    let norm = v[0].hypot(v[1]).hypot(v[2]);
    (norm > 0.0 && norm.is_finite()).then(|| v.map(|x| x / norm))
}

/// In radians. The arc cosine would lose half the digits of small angles.
fn angle(a: [f64; 3], b: [f64; 3]) -> f64 {
    let cross = [a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]];
    let dot: f64 = a.iter().zip(&b).map(|(x, y)| x * y).sum();
    cross[0].hypot(cross[1]).hypot(cross[2]).atan2(dot)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_are_named() {
        let fault = |p: &[f64], t: &[f64]| normal_errors(p, t).unwrap_err();
        insta::assert_snapshot!(fault(&[0.0; 3], &[1.0; 3]), @"`normals`: the normal predicted at position 0 has no direction");
        insta::assert_snapshot!(fault(&[1.0; 3], &[0.0; 3]), @"`normals`: no target has a direction");
        insta::assert_snapshot!(fault(&[1.0; 2], &[1.0; 2]), @"`normals`: 2 numbers are not a multiple of 3");
    }
}
