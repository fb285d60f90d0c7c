//! FairGrad: Ban and Ji, *Fair Resource Allocation in Multi-Task Learning*, ICML 2024, arXiv 2402.15638.
use super::{Balancer, Gram, GramBalancer, HeadGrad, Stateful, StepCtx};
use crate::{Error, Result, registry, solve};
use serde::{Deserialize, Serialize};

pub(super) const ENTRY: registry::Entry<Balancer> = registry::Entry {
    info: registry::MethodInfo {
        name: "fairgrad",
        paper: "Fair Resource Allocation in Multi-Task Learning",
        source: "arXiv 2402.15638",
    },
    build: |config| {
        let method = registry::parse::<FairGradConfig>(config)?.build()?;
        Ok(Box::new(Balancer::Gram(Box::new(method))))
    },
};

/// Hyper-parameters of [`FairGrad`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct FairGradConfig {
    /// Kind of fairness: 1 is proportional (Nash bargaining), large values approach max-min.
    pub alpha: f64,
}

impl Default for FairGradConfig {
    fn default() -> Self {
        Self { alpha: 1.0 }
    }
}

impl FairGradConfig {
    /// Sets the kind of fairness.
    #[must_use]
    pub fn alpha(mut self, alpha: f64) -> Self {
        self.alpha = alpha;
        self
    }

    /// Checks the values and builds the balancer.
    ///
    /// # Errors
    ///
    /// [`Error::Config`] naming the field that is out of range.
    pub fn build(self) -> Result<FairGrad> {
        if !(self.alpha > 0.0 && self.alpha.is_finite()) {
            return Err(Error::config("alpha", "positive and finite", self.alpha));
        }
        Ok(FairGrad { config: self })
    }
}

/// α-fair weights: w > 0 with A w = w^(−1/α). Tasks whose gradients have vanished (below 1e-12 of the longest) take no part; without a solution the diagonal is
/// raised as in [`NashMtl`](super::NashMtl).
///
/// The heads get their gradients times the weight.
#[derive(Debug)]
pub struct FairGrad {
    config: FairGradConfig,
}

impl Stateful for FairGrad {}

impl GramBalancer for FairGrad {
    fn weights(&mut self, gram: &Gram, ctx: &mut StepCtx<'_>) -> Result<Vec<f64>> {
        if gram.tasks() == 1 {
            return Ok(vec![1.0]);
        }
        bargain(gram, self.config.alpha, ctx.step)
    }

    fn head_grad(&self) -> HeadGrad {
        HeadGrad::Weighted
    }
}

/// By how much of itself the diagonal is raised when there is no solution.
const RIDGE: f64 = 1e-8;

/// Gradients shorter than this share of the longest one count as zero: a task that is solved would get a weight that no
/// single-precision number holds.
const VANISHED: f64 = 1e-12;

/// Fair weights, with a ridge where there are none without.
pub(super) fn bargain(gram: &Gram, alpha: f64, step: u64) -> Result<Vec<f64>> {
    let longest = (0..gram.tasks()).map(|k| gram.norm(k)).fold(0.0, f64::max);
    let present = |k: usize| gram.norm(k) > VANISHED * longest;
    let kept: Vec<f64> = (0..gram.tasks()).map(|k| f64::from(u8::from(present(k)))).collect();
    let rows = gram.scaled(&kept);
    match solve::fair(&rows, alpha, 0.0) {
        Err(Error::Solver { residual, .. }) => {
            tracing::warn!(
                step,
                residual,
                ridge = RIDGE,
                "the gradients are Pareto-stationary: bargaining with a ridge"
            );
            Ok(solve::fair(&rows, alpha, RIDGE)?.weights)
        }
        found => Ok(found?.weights),
    }
}
