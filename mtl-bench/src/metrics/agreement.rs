//! Agreement beyond chance: Matthews, *Comparison of the predicted and observed secondary structure*, BBA 405, 1975, for
//! several classes after Gorodkin, Comput. Biol. Chem. 28, 2004; Cohen, *A Coefficient of Agreement for Nominal Scales*,
//! 1960, and *Weighted Kappa*, 1968.
use super::Confusion;
use crate::{Error, Result};
use serde::{Deserialize, Serialize};

/// What a disagreement between classes i and j costs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum KappaWeights {
    /// 1 for any.
    #[default]
    Equal,
    /// |i − j|, for ordered classes.
    Linear,
    /// (i − j)².
    Quadratic,
}

impl Confusion {
    /// Targets and predictions of each class.
    fn margins(&self) -> (Vec<f64>, Vec<f64>) {
        let n = self.classes();
        let targets = (0..n).map(|c| (0..n).map(|p| self.count(c, p) as f64).sum()).collect();
        let predictions = (0..n).map(|c| (0..n).map(|t| self.count(t, c) as f64).sum()).collect();
        (targets, predictions)
    }

    /// Matthews correlation coefficient, from −1 to 1; 0 when all targets or all predictions are of one class.
    pub fn matthews(&self) -> f64 {
        let (targets, predictions) = self.margins();
        let total = self.total() as f64;
        let correct: f64 = (0..self.classes()).map(|c| self.count(c, c) as f64).sum();
        let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(x, y)| x * y).sum::<f64>();
        let of_targets = total * total - dot(&targets, &targets);
        let of_predictions = total * total - dot(&predictions, &predictions);
        if of_targets == 0.0 || of_predictions == 0.0 {
            return 0.0;
        }
        (correct * total - dot(&targets, &predictions)) / (of_targets.sqrt() * of_predictions.sqrt())
    }

    /// Cohen's kappa: 1 for perfect agreement, 0 for that of chance.
    ///
    /// ```
    /// use mtl_bench::metrics::{Confusion, KappaWeights};
    ///
    /// let counts = Confusion::of("kappa", &[0, 0, 1, 1], &[0, 0, 1, 0], 2, None)?;
    /// assert_eq!(counts.kappa(KappaWeights::Equal)?, 0.5);
    /// # Ok::<(), mtl_bench::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`Error::Metric`] when chance leaves no disagreement: all targets and all predictions are of one class.
    pub fn kappa(&self, weights: KappaWeights) -> Result<f64> {
        let (targets, predictions) = self.margins();
        let total = self.total() as f64;
        let (mut observed, mut expected) = (0.0, 0.0);
        for (i, target) in targets.iter().enumerate() {
            for (j, prediction) in predictions.iter().enumerate() {
                let apart = i.abs_diff(j) as f64;
                let cost = match weights {
                    KappaWeights::Equal => f64::from(u8::from(i != j)),
                    KappaWeights::Linear => apart,
                    KappaWeights::Quadratic => apart * apart,
                };
                observed += cost * self.count(i, j) as f64;
                expected += cost * target * prediction / total;
            }
        }
        // Without examples, expected is NaN.
        if expected.is_nan() || expected <= 0.0 {
            return Err(Error::metric("kappa", "all targets and predictions are of one class"));
        }
        Ok(1.0 - observed / expected)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_class_has_no_kappa() {
        let counts = Confusion::of("kappa", &[0, 0], &[0, 0], 2, None).unwrap();
        insta::assert_snapshot!(counts.kappa(KappaWeights::Linear).unwrap_err(), @"`kappa`: all targets and predictions are of one class");
        assert_eq!(counts.matthews(), 0.0);
        assert!(Confusion::new(2).kappa(KappaWeights::Equal).is_err());
    }
}
