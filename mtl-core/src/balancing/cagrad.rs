//! CAGrad: Liu et al., *Conflict-Averse Gradient Descent for Multi-task Learning*, NeurIPS 2021, arXiv 2110.14048.
use super::{Balancer, Gram, GramBalancer, Stateful, StepCtx};
use crate::{Error, Result, registry, solve};
use serde::{Deserialize, Serialize};

pub(super) const ENTRY: registry::Entry<Balancer> = registry::Entry {
    info: registry::MethodInfo {
        name: "cagrad",
        paper: "Conflict-Averse Gradient Descent for Multi-task Learning",
        source: "arXiv 2110.14048",
    },
    build: |config| {
        let method = registry::parse::<CaGradConfig>(config)?.build()?;
        Ok(Box::new(Balancer::Gram(Box::new(method))))
    },
};

/// How the direction is scaled down.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CaGradRescale {
    /// Not at all.
    None,
    /// By 1 + c².
    #[default]
    Square,
    /// By 1 + c.
    Linear,
}

/// Hyper-parameters of [`CaGrad`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct CaGradConfig {
    /// How far the direction may lie from the mean gradient, relative to its length; 0 gives the mean, large values MGDA.
    pub c: f64,
    /// How the direction is scaled down.
    pub rescale: CaGradRescale,
    /// Added to squared norms, and to the norm divided by. Must be positive.
    pub eps: f64,
}

impl Default for CaGradConfig {
    fn default() -> Self {
        Self { c: 0.5, rescale: CaGradRescale::Square, eps: 1e-8 }
    }
}

impl CaGradConfig {
    /// Sets the radius.
    #[must_use]
    pub fn c(mut self, c: f64) -> Self {
        self.c = c;
        self
    }

    /// Sets the scaling.
    #[must_use]
    pub fn rescale(mut self, rescale: CaGradRescale) -> Self {
        self.rescale = rescale;
        self
    }

    /// Checks the values and builds the balancer.
    ///
    /// # Errors
    ///
    /// [`Error::Config`] naming the field that is out of range.
    pub fn build(self) -> Result<CaGrad> {
        if !(self.c >= 0.0 && self.c.is_finite()) {
            return Err(Error::config("c", "at least 0 and finite", self.c));
        }
        if !(self.eps > 0.0 && self.eps.is_finite()) {
            return Err(Error::config("eps", "positive and finite", self.eps));
        }
        Ok(CaGrad { config: self })
    }
}

/// The direction within a ball around the mean gradient that helps the worst task most.
///
/// The heads get their own gradients.
///
/// ```
/// use mtl_core::{Seed, balancing::{CaGradConfig, Gram, GramBalancer, StepCtx}};
///
/// let gram = Gram::from_rows(&[vec![4.0, -1.0], vec![-1.0, 1.0]])?;
/// let mut ctx = StepCtx { losses: &[1.0, 1.0], step: 0, rng: &mut Seed(0).stream("balancer", 0) };
/// let mean = CaGradConfig::default().c(0.0).build()?.weights(&gram, &mut ctx)?;
/// assert_eq!(mean, [0.5, 0.5]);
/// # Ok::<(), mtl_core::Error>(())
/// ```
#[derive(Debug)]
pub struct CaGrad {
    config: CaGradConfig,
}

impl Stateful for CaGrad {}

impl GramBalancer for CaGrad {
    fn weights(&mut self, gram: &Gram, _ctx: &mut StepCtx<'_>) -> Result<Vec<f64>> {
        let CaGradConfig { c, rescale, eps } = self.config;
        let tasks = gram.tasks() as f64;
        if gram.tasks() == 1 {
            return Ok(vec![1.0]);
        }
        let squared = |w: &[f64]| gram.times(w).iter().zip(w).map(|(v, w)| v * w).sum::<f64>().max(0.0);
        let mean = vec![1.0 / tasks; gram.tasks()];
        let divisor = match rescale {
            CaGradRescale::None => 1.0,
            CaGradRescale::Square => 1.0 + c * c,
            CaGradRescale::Linear => 1.0 + c,
        };
        if c == 0.0 {
            return Ok(mean);
        }
        let found = solve::conflict_averse(&gram.rows(), c, eps)?.weights;
        let factor = c * (squared(&mean) + eps).sqrt() / ((squared(&found) + eps).sqrt() + eps);
        Ok(found.iter().map(|w| (1.0 / tasks + factor * w) / divisor).collect())
    }
}
