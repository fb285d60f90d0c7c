//! SDMGrad: Xiao, Ban and Ji, *Direction-oriented Multi-objective Learning: Simple and Provable Stochastic Algorithms*,
//! NeurIPS 2023, arXiv 2305.18409.
use super::{Balancer, SampledBalancer, Stateful, StepCtx, memory};
use crate::{Error, Result, StateDict, registry};
use serde::{Deserialize, Serialize};

pub(super) const ENTRY: registry::Entry<Balancer> = registry::Entry {
    info: registry::MethodInfo {
        name: "sdmgrad",
        paper: "Direction-oriented Multi-objective Learning: Simple and Provable Stochastic Algorithms",
        source: "arXiv 2305.18409",
    },
    build: |config| {
        let method = registry::parse::<SdmGradConfig>(config)?.build()?;
        Ok(Box::new(Balancer::Sampled(Box::new(method))))
    },
};

/// Hyper-parameters of [`SdmGrad`]; the defaults are those of the released program.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct SdmGradConfig {
    /// Pull towards the mean gradient; 0 is MGDA on independent batches, large values equal weights. At least 0.
    pub lambda: f64,
    /// Steps on the weights per training step. At least 1.
    pub inner_steps: u32,
    /// Learning rate of the weights, after the inner products were scaled to size 1. Positive.
    pub inner_lr: f64,
    /// Momentum of the weights within a training step, in `[0, 1)`.
    pub inner_momentum: f64,
}

impl Default for SdmGradConfig {
    fn default() -> Self {
        Self { lambda: 0.3, inner_steps: 20, inner_lr: 5.0, inner_momentum: 0.5 }
    }
}

impl SdmGradConfig {
    /// Sets the pull towards the mean gradient.
    #[must_use]
    pub fn lambda(mut self, lambda: f64) -> Self {
        self.lambda = lambda;
        self
    }

    /// Sets the number of steps on the weights.
    #[must_use]
    pub fn inner_steps(mut self, steps: u32) -> Self {
        self.inner_steps = steps;
        self
    }

    /// Sets the learning rate of the weights.
    #[must_use]
    pub fn inner_lr(mut self, lr: f64) -> Self {
        self.inner_lr = lr;
        self
    }

    /// Sets the momentum of the weights.
    #[must_use]
    pub fn inner_momentum(mut self, momentum: f64) -> Self {
        self.inner_momentum = momentum;
        self
    }

    /// Checks the values and builds the balancer.
    ///
    /// # Errors
    ///
    /// [`Error::Config`] naming the field that is out of range.
    pub fn build(self) -> Result<SdmGrad> {
        if !(self.lambda >= 0.0 && self.lambda.is_finite()) {
            return Err(Error::config("lambda", "at least 0 and finite", self.lambda));
        }
        if self.inner_steps == 0 {
            return Err(Error::config("inner_steps", "at least 1", 0));
        }
        if !(self.inner_lr > 0.0 && self.inner_lr.is_finite()) {
            return Err(Error::config("inner_lr", "positive and finite", self.inner_lr));
        }
        if !(0.0..1.0).contains(&self.inner_momentum) {
            return Err(Error::config("inner_momentum", "at least 0 and below 1", self.inner_momentum));
        }
        Ok(SdmGrad { config: self, shares: Vec::new() })
    }
}

/// The direction that helps the worst task most while it stays near the mean gradient, with weights found by gradient
/// steps on the simplex from where the last step left them.
///
/// With `M` the inner products between the first and the second batch, divided by the square of the mean root of their
/// diagonal, the steps go along `M w + λ M 1/K`; the direction is `(Σ w_k g_k + λ ḡ) / (1 + λ)` in the third batch. The
/// released program takes its first batch for the direction; which of three independent batches that is changes nothing.
///
/// The heads get their own gradients.
///
/// ```
/// use mtl_core::{Seed, balancing::{SampledBalancer, SdmGradConfig, StepCtx}};
///
/// let mut ctx = StepCtx { losses: &[1.0, 1.0], step: 0, rng: &mut Seed(0).stream("balancer", 0) };
/// let cross = [vec![9.0, 0.0], vec![0.0, 1.0]];
/// let weights = SdmGradConfig::default().build()?.weights(&cross, &mut ctx)?;
/// assert!(weights[1] > weights[0] && (weights.iter().sum::<f64>() - 1.0).abs() < 1e-12);
/// # Ok::<(), mtl_core::Error>(())
/// ```
#[derive(Debug)]
pub struct SdmGrad {
    config: SdmGradConfig,
    /// w, on the simplex.
    shares: Vec<f64>,
}

impl Stateful for SdmGrad {
    fn state(&self) -> StateDict {
        memory::save(&[("shares", &self.shares)])
    }

    fn load_state(&mut self, state: &StateDict) -> Result<()> {
        [self.shares] = memory::load("sdmgrad", state, [memory::Slot::Tasks("shares")])?;
        Ok(())
    }
}

impl SampledBalancer for SdmGrad {
    fn weights(&mut self, cross: &[Vec<f64>], _ctx: &mut StepCtx<'_>) -> Result<Vec<f64>> {
        let SdmGradConfig { lambda, inner_steps, inner_lr, inner_momentum } = self.config;
        let tasks = memory::square("cross", cross)?;
        if tasks == 1 {
            return Ok(vec![1.0]);
        }
        if self.shares.is_empty() {
            self.shares = vec![1.0 / tasks as f64; tasks];
        }
        memory::same_tasks("cross", self.shares.len(), tasks)?;
        let roots = cross.iter().enumerate().map(|(k, row)| row.get(k).map_or(0.0, |v| v.max(0.0).sqrt()));
        let size = roots.sum::<f64>() / tasks as f64;
        let scale = size * size + 1e-8;
        let means = cross.iter().map(|row| row.iter().sum::<f64>() / tasks as f64 / scale);
        let pulls: Vec<f64> = means.map(|mean| lambda * mean).collect();
        let mut velocity = vec![0.0; tasks];
        for _ in 0..inner_steps {
            for ((row, pull), v) in cross.iter().zip(&pulls).zip(&mut velocity) {
                let along: f64 = row.iter().zip(&self.shares).map(|(m, w)| m / scale * w).sum();
                *v = inner_momentum * *v + along + pull;
            }
            let moved: Vec<f64> = self.shares.iter().zip(&velocity).map(|(w, v)| w - inner_lr * v).collect();
            self.shares = memory::project_to_simplex(&moved);
        }
        let mean = lambda / tasks as f64;
        Ok(self.shares.iter().map(|w| (w + mean) / (1.0 + lambda)).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Seed;

    #[test]
    fn bad_input_is_refused() {
        assert!(SdmGradConfig::default().lambda(-0.1).build().is_err());
        assert!(SdmGradConfig::default().inner_steps(0).build().is_err());
        assert!(SdmGradConfig::default().inner_momentum(1.0).build().is_err());
        let mut ctx = StepCtx { losses: &[], step: 0, rng: &mut Seed(0).stream("test", 0) };
        let mut sdmgrad = SdmGradConfig::default().build().unwrap();
        let mut refused = |cross: &[Vec<f64>]| sdmgrad.weights(cross, &mut ctx).unwrap_err().to_string();
        insta::assert_snapshot!(refused(&[]), @"`cross` must have shape [tasks, tasks] with at least one task, but has [0, 0]");
        insta::assert_snapshot!(refused(&[vec![1.0, 2.0]]), @"`cross` must have shape [tasks, tasks], but has [1, 2]");
        insta::assert_snapshot!(refused(&[vec![f64::NAN]]), @"`cross` is not finite at index 0");
    }
}
