//! RLW, random loss weighting: Lin et al., *Reasonable Effectiveness of Random Weighting: A Litmus Test for Multi-Task
//! Learning*, TMLR 2022, arXiv 2111.10603.
use super::{Balancer, LossWeighting, Stateful, StepCtx, memory};
use crate::{Result, registry};
use rand_distr::{Distribution, StandardNormal};
use serde::{Deserialize, Serialize};

pub(super) const ENTRY: registry::Entry<Balancer> = registry::Entry {
    info: registry::MethodInfo {
        name: "rlw",
        paper: "Reasonable Effectiveness of Random Weighting: A Litmus Test for Multi-Task Learning",
        source: "arXiv 2111.10603",
    },
    build: |config| {
        let method = registry::parse::<RlwConfig>(config)?.build()?;
        Ok(Box::new(Balancer::Losses(Box::new(method))))
    },
};

/// Hyper-parameters of [`Rlw`]: none.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct RlwConfig {}

impl RlwConfig {
    /// Builds the weighting.
    ///
    /// # Errors
    ///
    /// None today.
    pub fn build(self) -> Result<Rlw> {
        Ok(Rlw {})
    }
}

/// Weights softmax(z) of sum 1 with z drawn anew from the standard normal distribution in every step.
///
/// The heads get their gradients times the weight.
///
/// ```
/// use mtl_core::balancing::Rlw;
///
/// assert_eq!(Rlw::of_draws(&[0.3, 0.3]), [0.5, 0.5]);
/// ```
#[derive(Debug)]
pub struct Rlw {}

impl Rlw {
    /// The weights for known draws, one per task.
    pub fn of_draws(draws: &[f64]) -> Vec<f64> {
        memory::softmax(draws)
    }
}

impl Stateful for Rlw {}

impl LossWeighting for Rlw {
    fn weights(&mut self, ctx: &mut StepCtx<'_>) -> Result<Vec<f64>> {
        let tasks = memory::losses(ctx)?.len();
        let draws: Vec<f64> = (0..tasks).map(|_| StandardNormal.sample(&mut *ctx.rng)).collect();
        Ok(Self::of_draws(&draws))
    }
}
