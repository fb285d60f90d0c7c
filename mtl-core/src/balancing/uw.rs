//! Uncertainty weighting: Kendall, Gal and Cipolla, *Multi-Task Learning Using Uncertainty to Weigh Losses for Scene
//! Geometry and Semantics*, CVPR 2018, arXiv 1705.07115.
use super::{Balancer, Learned, LossWeighting, Stateful, StepCtx, memory};
use crate::{Error, Result, StateDict, registry};
use serde::{Deserialize, Serialize};

pub(super) const ENTRY: registry::Entry<Balancer> = registry::Entry {
    info: registry::MethodInfo {
        name: "uw",
        paper: "Multi-Task Learning Using Uncertainty to Weigh Losses for Scene Geometry and Semantics",
        source: "arXiv 1705.07115",
    },
    build: |config| {
        let method = registry::parse::<UwConfig>(config)?.build()?;
        Ok(Box::new(Balancer::Losses(Box::new(method))))
    },
};

/// Hyper-parameters of [`Uw`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct UwConfig {
    /// Log variance that each task starts with; −0.5 as in LibMTL.
    pub log_variance: f64,
}

impl Default for UwConfig {
    fn default() -> Self {
        Self { log_variance: -0.5 }
    }
}

impl UwConfig {
    /// Sets the log variance that each task starts with.
    #[must_use]
    pub fn log_variance(mut self, log_variance: f64) -> Self {
        self.log_variance = log_variance;
        self
    }

    /// Checks the values and builds the weighting.
    ///
    /// # Errors
    ///
    /// [`Error::Config`] when the log variance is not finite.
    pub fn build(self) -> Result<Uw> {
        if !self.log_variance.is_finite() {
            return Err(Error::config("log_variance", "finite", self.log_variance));
        }
        Ok(Uw { config: self, log_variances: memory::LearnedRow::default() })
    }
}

/// Weights 1 / (2 e^s) with log variances s that are learned: the objective is Σ L_k / (2 e^{s_k}) + s_k / 2, at whose
/// minimum in s the variance of each task is its loss. Classification losses are treated like the others.
///
/// The heads get their gradients times the weight. A single task keeps weight 1.
///
/// ```
/// use mtl_core::{Seed, balancing::{LossWeighting, Stateful, StepCtx, UwConfig}};
///
/// let mut ctx = StepCtx { losses: &[1.0, 3.0], step: 0, rng: &mut Seed(0).stream("balancer", 0) };
/// let mut uw = UwConfig::default().log_variance(0.0).build()?;
/// assert_eq!(uw.weights(&mut ctx)?, [0.5, 0.5]);
/// assert_eq!(uw.learned().unwrap().grads, [0.0, -1.0]); // ½ − L / 2
/// # Ok::<(), mtl_core::Error>(())
/// ```
#[derive(Debug)]
pub struct Uw {
    config: UwConfig,
    log_variances: memory::LearnedRow,
}

impl Stateful for Uw {
    fn learned(&mut self) -> Option<Learned<'_>> {
        self.log_variances.learned()
    }

    fn state(&self) -> StateDict {
        memory::save(&[("log_variances", &self.log_variances.values)])
    }

    fn load_state(&mut self, state: &StateDict) -> Result<()> {
        let [values] = memory::load("uw", state, [memory::Slot::Tasks("log_variances")])?;
        self.log_variances.restore(values);
        Ok(())
    }
}

impl LossWeighting for Uw {
    fn weights(&mut self, ctx: &mut StepCtx<'_>) -> Result<Vec<f64>> {
        let losses = memory::losses(ctx)?;
        if losses.len() == 1 {
            return Ok(vec![1.0]);
        }
        let values = self.log_variances.at(losses.len(), self.config.log_variance)?;
        let weights: Vec<f64> = values.iter().map(|s| 0.5 * (-s).exp()).collect();
        self.log_variances.grads = losses.iter().zip(&weights).map(|(loss, w)| 0.5 - loss * w).collect();
        Ok(weights)
    }
}
