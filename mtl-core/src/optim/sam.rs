//! SAM: Foret et al., *Sharpness-Aware Minimization for Efficiently Improving Generalization*, ICLR 2021,
//! arXiv 2010.01412; adaptive as in Kwon et al., *ASAM*, ICML 2021, arXiv 2102.11600.
use super::check_range;
use crate::{Error, Result, StateDict, no_grad};
use serde::{Deserialize, Serialize};
use tch::Tensor;

/// Added to norms before division.
const EPS: f64 = 1e-12;

/// Hyper-parameters of [`Sam`]; the default is the paper's.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct SamConfig {
    /// Radius ρ of the neighbourhood. At least 0.
    pub rho: f64,
    /// Measure the neighbourhood relative to the size of each weight (ASAM).
    pub adaptive: bool,
}

impl Default for SamConfig {
    fn default() -> Self {
        Self { rho: 0.05, adaptive: false }
    }
}

impl SamConfig {
    /// Sets the radius.
    #[must_use]
    pub fn rho(mut self, rho: f64) -> Self {
        self.rho = rho;
        self
    }

    /// Chooses the adaptive variant.
    #[must_use]
    pub fn adaptive(mut self, adaptive: bool) -> Self {
        self.adaptive = adaptive;
        self
    }

    /// Checks the values and builds the perturbation.
    ///
    /// # Errors
    ///
    /// [`Error::Config`] when `rho` is negative or not finite.
    pub fn build(self) -> Result<Sam> {
        check_range("rho", self.rho, 0.0, f64::INFINITY)?;
        Ok(Sam { config: self })
    }
}

/// Moves parameters to where the loss is worst nearby; the gradient there then updates the original parameters.
///
/// Parameters are values, so nothing has to be restored afterwards: take the gradient at what
/// [`perturb`](Self::perturb) returns, and step from the parameters it was given.
///
/// ```
/// use mtl_core::{StateDict, optim::SamConfig};
/// use tch::Tensor;
///
/// let dict = |v: [f64; 2]| StateDict::from_iter([("w".to_owned(), Tensor::from_slice(&v))]);
/// let worst = SamConfig::default().rho(0.5).build()?.perturb(&dict([1.0, 1.0]), &dict([3.0, 4.0]))?;
/// assert!((worst.get("w").unwrap().double_value(&[1]) - 1.4).abs() < 1e-9); // 1 + 0.5 · 4 / 5
/// # Ok::<(), mtl_core::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct Sam {
    config: SamConfig,
}

impl Sam {
    /// `θ + ρ g / ‖g‖`, or `θ + ρ T² g / ‖T g‖` with `T = |θ|` in the adaptive variant.
    ///
    /// Parameters with a gradient come back as new leaves that require gradients, the others as handles on the same
    /// storage. The norm is over all of `grads`; pass a part of them for a norm of that part.
    ///
    /// # Errors
    ///
    /// [`Error::Unknown`] for the gradient of no parameter.
    pub fn perturb(&self, params: &StateDict, grads: &StateDict) -> Result<StateDict> {
        let mut scaled = StateDict::new(); // T g
        for (name, grad) in grads.iter() {
            let Some(param) = params.get(name) else {
                return Err(Error::unknown("parameter", name, params.names()));
            };
            let tensor =
                if self.config.adaptive { no_grad(|| param.abs() * grad) } else { grad.shallow_clone() };
            scaled.insert(name, tensor);
        }
        let factor = self.config.rho / (scaled.norm() + EPS);
        let moved = |name: &str, param: &Tensor, direction: &Tensor| {
            let direction =
                if self.config.adaptive { param.abs() * direction } else { direction.shallow_clone() };
            let leaf = no_grad(|| param + direction * factor).set_requires_grad(true);
            (name.to_owned(), leaf)
        };
        Ok(params
            .iter()
            .map(|(name, param)| match scaled.get(name) {
                Some(direction) => no_grad(|| moved(name, param, direction)),
                None => (name.to_owned(), param.shallow_clone()),
            })
            .collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dict(name: &str, values: &[f64]) -> StateDict {
        [(name.to_owned(), Tensor::from_slice(values))].into_iter().collect()
    }

    #[test]
    fn a_zero_gradient_or_radius_moves_nothing() {
        let theta = dict("w", &[1.0, -2.0]);
        for (rho, grad) in [(0.5, [0.0, 0.0]), (0.0, [1.0, 1.0])] {
            let same =
                SamConfig::default().rho(rho).build().unwrap().perturb(&theta, &dict("w", &grad)).unwrap();
            assert_eq!(same.get("w").unwrap(), theta.get("w").unwrap());
        }
    }

    #[test]
    fn the_adaptive_step_scales_with_the_weights() {
        let sam = SamConfig::default().rho(0.5).adaptive(true).build().unwrap();
        let worst = sam.perturb(&dict("w", &[-2.0, 0.0]), &dict("w", &[3.0, 4.0])).unwrap();
        // T g = (6, 0); T² g = (12, 0); −2 + 0.5 · 12 / 6.
        let w = worst.get("w").unwrap();
        assert!((w.double_value(&[0]) + 1.0).abs() < 1e-9 && w.double_value(&[1]) == 0.0);
        assert!(w.is_leaf() && w.requires_grad());
    }

    #[test]
    fn bad_input_is_refused() {
        let err = SamConfig::default().rho(-0.1).build().unwrap_err();
        insta::assert_snapshot!(err, @"`rho` must be finite and at least 0, but is -0.1");
        let sam = SamConfig::default().build().unwrap();
        let err = sam.perturb(&dict("w", &[1.0]), &dict("v", &[1.0])).unwrap_err();
        insta::assert_snapshot!(err, @"unknown parameter `v`; did you mean `w`?");
    }
}
