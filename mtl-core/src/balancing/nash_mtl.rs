//! Nash-MTL: Navon et al., *Multi-Task Learning as a Bargaining Game*, ICML 2022, arXiv 2202.01017.
use super::{Balancer, Gram, GramBalancer, HeadGrad, Stateful, StepCtx, fairgrad::bargain};
use crate::{Error, Result, registry};
use serde::{Deserialize, Serialize};

pub(super) const ENTRY: registry::Entry<Balancer> = registry::Entry {
    info: registry::MethodInfo {
        name: "nash_mtl",
        paper: "Multi-Task Learning as a Bargaining Game",
        source: "arXiv 2202.01017",
    },
    build: |config| {
        let method = registry::parse::<NashMtlConfig>(config)?.build()?;
        Ok(Box::new(Balancer::Gram(Box::new(method))))
    },
};

/// Hyper-parameters of [`NashMtl`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct NashMtlConfig {
    /// Largest length of the direction, which otherwise is √tasks; 0 for no limit.
    pub max_norm: f64,
}

impl Default for NashMtlConfig {
    fn default() -> Self {
        Self { max_norm: 1.0 }
    }
}

impl NashMtlConfig {
    /// Sets the largest length of the direction.
    #[must_use]
    pub fn max_norm(mut self, max_norm: f64) -> Self {
        self.max_norm = max_norm;
        self
    }

    /// Checks the values and builds the balancer.
    ///
    /// # Errors
    ///
    /// [`Error::Config`] naming the field that is out of range.
    pub fn build(self) -> Result<NashMtl> {
        if !(self.max_norm >= 0.0 && self.max_norm.is_finite()) {
            return Err(Error::config("max_norm", "at least 0 and finite", self.max_norm));
        }
        Ok(NashMtl { config: self })
    }
}

/// The Nash bargaining solution: α > 0 with ⟨v, g_k⟩ = 1/α_k for v = Σ α_k g_k, so that ‖v‖ = √tasks. Tasks with zero
/// gradients take no part.
///
/// The released program lets a convex solver fail silently and then weighs all tasks 1; here the equations are solved by
/// Newton's method to rounding, or the step fails. At a Pareto-stationary point, where they have no solution, the diagonal is
/// raised by 1e-8 of itself, with a warning in the log.
///
/// ```
/// use mtl_core::{Seed, balancing::{Gram, GramBalancer, NashMtlConfig, StepCtx}};
///
/// let gram = Gram::from_rows(&[vec![4.0, -1.0], vec![-1.0, 1.0]])?;
/// let mut ctx = StepCtx { losses: &[1.0, 1.0], step: 0, rng: &mut Seed(0).stream("balancer", 0) };
/// let alpha = NashMtlConfig::default().max_norm(0.0).build()?.weights(&gram, &mut ctx)?;
/// for (product, alpha) in gram.times(&alpha).iter().zip(&alpha) {
///     assert!((product * alpha - 1.0).abs() < 1e-12);
/// }
/// # Ok::<(), mtl_core::Error>(())
/// ```
#[derive(Debug)]
pub struct NashMtl {
    config: NashMtlConfig,
}

impl Stateful for NashMtl {}

impl GramBalancer for NashMtl {
    fn weights(&mut self, gram: &Gram, ctx: &mut StepCtx<'_>) -> Result<Vec<f64>> {
        if gram.tasks() == 1 {
            return Ok(vec![1.0]);
        }
        let mut alpha = bargain(gram, 1.0, ctx.step)?;
        let norm = gram.times(&alpha).iter().zip(&alpha).map(|(v, a)| v * a).sum::<f64>().max(0.0).sqrt();
        if self.config.max_norm > 0.0 && norm > self.config.max_norm {
            alpha.iter_mut().for_each(|a| *a *= self.config.max_norm / norm);
        }
        Ok(alpha)
    }

    fn head_grad(&self) -> HeadGrad {
        HeadGrad::Weighted
    }
}
