//! Regression errors.
use super::{finite, same_length};
use crate::{Error, Result};

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

/// Mean absolute error over all numbers.
///
/// # Errors
///
/// As [`mse`].
pub fn mae<T: Into<f64> + Copy>(predictions: &[T], targets: &[T]) -> Result<f64> {
    let (p, t) = numbers("mae", predictions, targets)?;
    Ok(p.iter().zip(&t).map(|(p, t)| (p - t).abs()).sum::<f64>() / t.len() as f64)
}

/// Root of the mean squared error.
///
/// # Errors
///
/// As [`mse`].
pub fn rmse<T: Into<f64> + Copy>(predictions: &[T], targets: &[T]) -> Result<f64> {
    Ok(mse(predictions, targets)?.sqrt())
}

/// R²: 1 − squared errors over squared deviations of the targets from their mean; negative when worse than that mean.
///
/// ```
/// assert_eq!(mtl_bench::metrics::r_squared(&[2.0, 2.0, 2.0], &[1.0, 2.0, 3.0])?, 0.0);
/// # Ok::<(), mtl_bench::Error>(())
/// ```
///
/// # Errors
///
/// As [`mse`], and when all targets are equal.
pub fn r_squared<T: Into<f64> + Copy>(predictions: &[T], targets: &[T]) -> Result<f64> {
    let (p, t) = numbers("r_squared", predictions, targets)?;
    let errors: f64 = p.iter().zip(&t).map(|(p, t)| (t - p).powi(2)).sum();
    Ok(1.0 - errors / spread("r_squared", &t)?)
}

/// 1 − variance of the errors over variance of the targets: R² that forgives a constant offset.
///
/// # Errors
///
/// As [`mse`], and when all targets are equal.
pub fn explained_variance<T: Into<f64> + Copy>(predictions: &[T], targets: &[T]) -> Result<f64> {
    let (p, t) = numbers("explained_variance", predictions, targets)?;
    let errors: Vec<f64> = p.iter().zip(&t).map(|(p, t)| t - p).collect();
    Ok(1.0 - squares(&errors) / spread("explained_variance", &t)?)
}

fn numbers<T: Into<f64> + Copy>(
    metric: &'static str,
    predictions: &[T],
    targets: &[T],
) -> Result<(Vec<f64>, Vec<f64>)> {
    same_length(metric, predictions.len(), targets.len())?;
    let read = |name, values: &[T]| {
        let values: Vec<f64> = values.iter().map(|&v| v.into()).collect();
        finite(metric, name, values.iter().copied()).map(|()| values)
    };
    Ok((read("prediction", predictions)?, read("target", targets)?))
}

/// Sum of the squared deviations from the mean.
fn squares(values: &[f64]) -> f64 {
    let mean = values.iter().sum::<f64>() / values.len() as f64;
    values.iter().map(|v| (v - mean).powi(2)).sum()
}

fn spread(metric: &'static str, targets: &[f64]) -> Result<f64> {
    if targets.iter().all(|t| *t == targets[0]) {
        return Err(Error::metric(metric, format!("every target is {}", targets[0])));
    }
    Ok(squares(targets))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_are_named() {
        insta::assert_snapshot!(r_squared(&[1.0, 2.0], &[3.0, 3.0]).unwrap_err(), @"`r_squared`: every target is 3");
        insta::assert_snapshot!(mae(&[f64::INFINITY], &[3.0]).unwrap_err(), @"`mae`: prediction 0 is inf");
        insta::assert_snapshot!(rmse::<f64>(&[], &[]).unwrap_err(), @"`mse`: there are no examples");
        assert_eq!(explained_variance(&[2.0, 3.0], &[1.0, 2.0]).unwrap(), 1.0);
    }
}
