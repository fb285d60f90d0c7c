//! Regression errors.
use super::{finite, same_length};
use crate::Result;

/// Mean squared error over all numbers.
///
/// ```
/// assert_eq!(mtl_bench::metrics::mse(&[1.0, 2.0], &[1.0, 4.0])?, 2.0);
/// # Ok::<(), mtl_bench::Error>(())
/// ```
///
/// # Errors
///
/// [`crate::Error::Metric`] when there are no numbers, lengths differ or a number is not finite.
pub fn mse<T: Into<f64> + Copy>(predictions: &[T], targets: &[T]) -> Result<f64> {
    same_length("mse", predictions.len(), targets.len())?;
    finite("mse", "prediction", predictions.iter().map(|&p| p.into()))?;
    finite("mse", "target", targets.iter().map(|&t| t.into()))?;
    let squares = predictions.iter().zip(targets).map(|(&p, &t)| (p.into() - t.into()).powi(2));
    Ok(squares.sum::<f64>() / targets.len() as f64)
}
