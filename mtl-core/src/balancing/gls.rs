//! GLS, geometric loss strategy: Chennupati et al., *MultiNet++: Multi-Stream Feature Aggregation and Geometric Loss
//! Strategy for Multi-Task Learning*, CVPR Workshops 2019, arXiv 1904.08492.
use super::{Balancer, LossWeighting, Stateful, StepCtx, memory};
use crate::{Result, registry};
use serde::{Deserialize, Serialize};

pub(super) const ENTRY: registry::Entry<Balancer> = registry::Entry {
    info: registry::MethodInfo {
        name: "gls",
        paper: "MultiNet++: Multi-Stream Feature Aggregation and Geometric Loss Strategy for Multi-Task Learning",
        source: "arXiv 1904.08492",
    },
    build: |config| {
        let method = registry::parse::<GlsConfig>(config)?.build()?;
        Ok(Box::new(Balancer::Losses(Box::new(method))))
    },
};

/// Hyper-parameters of [`Gls`]: none.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct GlsConfig {}

impl GlsConfig {
    /// Builds the weighting.
    ///
    /// # Errors
    ///
    /// None today.
    pub fn build(self) -> Result<Gls> {
        Ok(Gls {})
    }
}

/// Minimises the geometric mean of the losses, which must be positive: the weight of task k is that mean over K L_k, so
/// the scale of a loss does not matter.
///
/// The heads get their gradients times the weight.
///
/// ```
/// use mtl_core::{Seed, balancing::{GlsConfig, LossWeighting, StepCtx}};
///
/// let mut ctx = StepCtx { losses: &[1.0, 4.0], step: 0, rng: &mut Seed(0).stream("balancer", 0) };
/// let weights = GlsConfig::default().build()?.weights(&mut ctx)?; // The mean is 2.
/// assert!((weights[0] - 1.0).abs() < 1e-12 && (weights[1] - 0.25).abs() < 1e-12);
/// # Ok::<(), mtl_core::Error>(())
/// ```
#[derive(Debug)]
pub struct Gls {}

impl Stateful for Gls {}

impl LossWeighting for Gls {
    fn weights(&mut self, ctx: &mut StepCtx<'_>) -> Result<Vec<f64>> {
        let losses = memory::losses(ctx)?;
        memory::positive(losses, "a geometric mean is minimised")?;
        let tasks = losses.len() as f64;
        // Of logarithms, so that the product of many losses cannot overflow.
        let mean = losses.iter().map(|loss| loss.ln()).sum::<f64>() / tasks;
        Ok(losses.iter().map(|loss| (mean - loss.ln()).exp() / tasks).collect())
    }
}
