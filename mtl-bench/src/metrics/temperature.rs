//! Temperature scaling: Guo et al., *On Calibration of Modern Neural Networks*, ICML 2017, arXiv 1706.04599.
use super::probability::labelled_rows;
use crate::{Error, Result};

/// A fitted temperature.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Temperature {
    /// Divide logits by it; above 1 when the model was too sure.
    pub temperature: f64,
    /// Mean negative log-likelihood before, in nats.
    pub nll_before: f64,
    /// Mean negative log-likelihood after, in nats.
    pub nll_after: f64,
}

/// The range searched; outside it the probabilities are uniform or 0 and 1 for any usual logits.
const RANGE: (f64, f64) = (1e-3, 1e3);

/// Finds the temperature with the least negative log-likelihood of logits `[examples, classes]`.
///
/// The loss is convex in 1/T, so that its derivative is bisected: the optimum is exact to rounding.
///
/// # Errors
///
/// [`Error::Metric`] when there are no examples, sizes do not fit, a label is out of range, a logit is not finite, or the
/// optimum is outside \[0.001, 1000\], as for logits that are right everywhere or carry no information.
pub fn fit_temperature<T: Into<f64> + Copy>(
    logits: &[T],
    labels: &[i64],
    classes: usize,
) -> Result<Temperature> {
    let rows = labelled_rows("temperature", logits, labels, classes)?;
    // Derivative by β = 1/T: mean of E[z] − z of the label.
    let slope = |beta: f64| {
        let one = |(row, label): &(Vec<f64>, usize)| {
            let (weights, sum) = softmax(row, beta);
            weights.iter().zip(row).map(|(w, z)| w * z).sum::<f64>() / sum - row[*label]
        };
        rows.iter().map(one).sum::<f64>() / rows.len() as f64
    };
    let (mut low, mut high) = (1.0 / RANGE.1, 1.0 / RANGE.0);
    if slope(low) >= 0.0 || slope(high) <= 0.0 {
        let message = format!("no best temperature in [{}, {}]", RANGE.0, RANGE.1);
        return Err(Error::metric("temperature", message));
    }
    loop {
        let middle = f64::midpoint(low, high);
        if middle <= low || middle >= high {
            break;
        }
        if slope(middle) < 0.0 {
            low = middle;
        } else {
            high = middle;
        }
    }
    let nll = |beta: f64| {
        let one = |(row, label): &(Vec<f64>, usize)| {
            let most = row.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            softmax(row, beta).1.ln() - beta * (row[*label] - most)
        };
        rows.iter().map(one).sum::<f64>() / rows.len() as f64
    };
    Ok(Temperature { temperature: 1.0 / low, nll_before: nll(1.0), nll_after: nll(low) })
}

/// Exponentials of β (z − max z), and their sum.
fn softmax(row: &[f64], beta: f64) -> (Vec<f64>, f64) {
    let most = row.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let weights: Vec<f64> = row.iter().map(|z| (beta * (z - most)).exp()).collect();
    let sum = weights.iter().sum();
    (weights, sum)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn perfect_logits_have_no_best_temperature() {
        let fault = fit_temperature(&[1.0, 0.0], &[0], 2).unwrap_err();
        insta::assert_snapshot!(fault, @"`temperature`: no best temperature in [0.001, 1000]");
    }

    #[test]
    fn two_classes_have_a_closed_form() {
        // Right 3 times of 4 with a logit difference of 1: σ(1/T) = 3/4.
        let logits = [1.0, 0.0, 1.0, 0.0, 1.0, 0.0, 1.0, 0.0];
        let fit = fit_temperature(&logits, &[0, 0, 0, 1], 2).unwrap();
        assert!((fit.temperature - 1.0 / 3_f64.ln()).abs() < 1e-9);
        assert!(fit.nll_after < fit.nll_before);
    }
}
