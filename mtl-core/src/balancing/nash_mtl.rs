//! Nash-MTL: Navon et al., *Multi-Task Learning as a Bargaining Game*, ICML 2022, arXiv 2202.01017.
use super::{Balancer, Gram, GramBalancer, HeadGrad, Stateful, StepCtx, fairgrad::bargain, memory};
use crate::{Error, Result, StateDict, registry};
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
    /// Steps between two bargains; in those between, the last α is used again. At least 1.
    pub update_weights_every: u64,
}

impl Default for NashMtlConfig {
    fn default() -> Self {
        Self { max_norm: 1.0, update_weights_every: 1 }
    }
}

impl NashMtlConfig {
    /// Sets the largest length of the direction.
    #[must_use]
    pub fn max_norm(mut self, max_norm: f64) -> Self {
        self.max_norm = max_norm;
        self
    }

    /// Sets the number of steps between two bargains.
    #[must_use]
    pub fn update_weights_every(mut self, steps: u64) -> Self {
        self.update_weights_every = steps;
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
        if self.update_weights_every == 0 {
            return Err(Error::config("update_weights_every", "at least 1", 0));
        }
        Ok(NashMtl { config: self, alpha: Vec::new() })
    }
}

/// The Nash bargaining solution: α > 0 with ⟨v, g_k⟩ = 1/α_k for v = Σ α_k g_k, so that ‖v‖ = √tasks. Tasks
/// whose gradients have vanished, below 1e-12 of the longest, take no part.
///
/// The released program lets a convex solver fail silently and then weighs all tasks 1; here the equations are solved by
/// Newton's method to rounding, or the step fails. At a Pareto-stationary point, where they have no solution, the diagonal is
/// raised by 1e-8 of itself, with a warning in the log. The heads get their gradients times α.
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
    /// Of the last bargain, where it is to be used again.
    alpha: Vec<f64>,
}

impl Stateful for NashMtl {
    fn state(&self) -> StateDict {
        memory::save(&[("alpha", &self.alpha)])
    }

    fn load_state(&mut self, state: &StateDict) -> Result<()> {
        [self.alpha] = memory::load("nash_mtl", state, [memory::Slot::Tasks("alpha")])?;
        Ok(())
    }
}

impl GramBalancer for NashMtl {
    fn weights(&mut self, gram: &Gram, ctx: &mut StepCtx<'_>) -> Result<Vec<f64>> {
        if gram.tasks() == 1 {
            return Ok(vec![1.0]);
        }
        let every = self.config.update_weights_every;
        let mut alpha = if self.alpha.is_empty() || ctx.step.is_multiple_of(every) {
            bargain(gram, 1.0, ctx.step)?
        } else {
            std::mem::take(&mut self.alpha)
        };
        memory::same_tasks("alpha", gram.tasks(), alpha.len())?;
        if every > 1 {
            self.alpha.clone_from(&alpha);
        }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Seed;

    #[test]
    fn between_bargains_the_last_weights_are_used_again_also_by_a_restored_balancer() {
        let config = NashMtlConfig::default().max_norm(0.0).update_weights_every(2);
        let diagonal = |a: f64, b: f64| Gram::from_rows(&[vec![a, 0.0], vec![0.0, b]]).unwrap();
        let weights = |nash: &mut NashMtl, gram: &Gram, step| {
            let mut rng = Seed(0).stream("test", 0);
            nash.weights(gram, &mut StepCtx { losses: &[1.0, 1.0], step, rng: &mut rng }).unwrap()
        };
        let mut nash = config.clone().build().unwrap();
        let first = weights(&mut nash, &diagonal(1.0, 4.0), 0);
        assert!((first[0] - 1.0).abs() < 1e-9 && (first[1] - 0.5).abs() < 1e-9);
        let mut restored = config.build().unwrap();
        restored.load_state(&nash.state()).unwrap();
        for nash in [&mut nash, &mut restored] {
            assert_eq!(weights(nash, &diagonal(4.0, 1.0), 1), first);
            assert!(weights(nash, &diagonal(4.0, 1.0), 2)[0] < 0.6);
        }
        let err = NashMtlConfig::default().update_weights_every(0).build().unwrap_err();
        insta::assert_snapshot!(err, @"`update_weights_every` must be at least 1, but is 0");
    }
}
