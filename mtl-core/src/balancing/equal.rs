//! Equal weights: the plain sum, or mean, of the losses, as in Caruana, *Multitask Learning*, Machine Learning 28, 1997.
use super::{Balancer, LossWeighting, Stateful, StepCtx, memory};
use crate::{Result, registry};
use serde::{Deserialize, Serialize};

pub(super) const ENTRY: registry::Entry<Balancer> = registry::Entry {
    info: registry::MethodInfo {
        name: "equal",
        paper: "Multitask Learning",
        source: "Machine Learning 28, 1997",
    },
    build: |config| {
        let method = registry::parse::<EqualConfig>(config)?.build();
        Ok(Box::new(Balancer::Losses(Box::new(method))))
    },
};

/// How equal weights are scaled.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reduction {
    /// Weight 1 for each task.
    #[default]
    Sum,
    /// Weights that sum to 1.
    Mean,
}

/// Hyper-parameters of [`Equal`]; the default is the sum.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct EqualConfig {
    /// Sum or mean of the losses.
    pub reduction: Reduction,
}

impl EqualConfig {
    /// Sets the reduction.
    #[must_use]
    pub fn reduction(mut self, reduction: Reduction) -> Self {
        self.reduction = reduction;
        self
    }

    /// Builds the weighting.
    pub fn build(self) -> Equal {
        Equal { config: self }
    }
}

/// Every task weighs the same.
///
/// The heads get their gradients times the weight.
///
/// ```
/// use mtl_core::{Seed, balancing::{EqualConfig, LossWeighting, Reduction, StepCtx}};
///
/// let mut rng = Seed(0).stream("balancer", 0);
/// let mut ctx = StepCtx { losses: &[0.3, 7.0], step: 0, rng: &mut rng };
/// let mut mean = EqualConfig::default().reduction(Reduction::Mean).build();
/// assert_eq!(mean.weights(&mut ctx)?, [0.5, 0.5]);
/// # Ok::<(), mtl_core::Error>(())
/// ```
#[derive(Debug)]
pub struct Equal {
    config: EqualConfig,
}

impl Stateful for Equal {}

impl LossWeighting for Equal {
    fn weights(&mut self, ctx: &mut StepCtx<'_>) -> Result<Vec<f64>> {
        let tasks = memory::losses(ctx)?.len();
        let weight = match self.config.reduction {
            Reduction::Sum => 1.0,
            Reduction::Mean => 1.0 / tasks as f64,
        };
        Ok(vec![weight; tasks])
    }
}
