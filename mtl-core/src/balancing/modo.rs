//! MoDo: Chen, Fernando, Ying and Chen, *Three-Way Trade-Off in Multi-Objective Learning: Optimization, Generalization and
//! Conflict-Avoidance*, NeurIPS 2023, arXiv 2305.20057.
use super::{Balancer, SampledBalancer, Stateful, StepCtx, memory};
use crate::{Error, Result, StateDict, registry};
use serde::{Deserialize, Serialize};

pub(super) const ENTRY: registry::Entry<Balancer> = registry::Entry {
    info: registry::MethodInfo {
        name: "modo",
        paper: "Three-Way Trade-Off in Multi-Objective Learning: Optimization, Generalization and Conflict-Avoidance",
        source: "arXiv 2305.20057",
    },
    build: |config| {
        let method = registry::parse::<MoDoConfig>(config)?.build()?;
        Ok(Box::new(Balancer::Sampled(Box::new(method))))
    },
};

/// Hyper-parameters of [`MoDo`]; the defaults are those of the released program.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct MoDoConfig {
    /// Learning rate of the weights. Positive.
    pub gamma: f64,
    /// Factor of the L2 penalty on the weights. At least 0.
    pub rho: f64,
}

impl Default for MoDoConfig {
    fn default() -> Self {
        Self { gamma: 1e-3, rho: 0.1 }
    }
}

impl MoDoConfig {
    /// Sets the learning rate of the weights.
    #[must_use]
    pub fn gamma(mut self, gamma: f64) -> Self {
        self.gamma = gamma;
        self
    }

    /// Sets the penalty on the weights.
    #[must_use]
    pub fn rho(mut self, rho: f64) -> Self {
        self.rho = rho;
        self
    }

    /// Checks the values and builds the balancer.
    ///
    /// # Errors
    ///
    /// [`Error::Config`] naming the field that is out of range.
    pub fn build(self) -> Result<MoDo> {
        if !(self.gamma > 0.0 && self.gamma.is_finite()) {
            return Err(Error::config("gamma", "positive and finite", self.gamma));
        }
        if !(self.rho >= 0.0 && self.rho.is_finite()) {
            return Err(Error::config("rho", "at least 0 and finite", self.rho));
        }
        Ok(MoDo { config: self, shares: Vec::new() })
    }
}

/// Weights on the simplex that take one step per training step towards the shortest combination: along `G₁ G₂ᵀ w + ρ w`,
/// with the gradients of two independent batches, for a direction that has no bias.
///
/// The heads get their own gradients, of which the training step takes the mean over the three batches.
///
/// ```
/// use mtl_core::{Seed, balancing::{MoDoConfig, SampledBalancer, StepCtx}};
///
/// let mut ctx = StepCtx { losses: &[1.0, 1.0], step: 0, rng: &mut Seed(0).stream("balancer", 0) };
/// let cross = [vec![9.0, 0.0], vec![0.0, 1.0]];
/// let weights = MoDoConfig::default().gamma(0.05).rho(0.0).build()?.weights(&cross, &mut ctx)?;
/// assert!((weights[0] - 0.4).abs() < 1e-12); // ½ − 0.05 · 4.5 and ½ − 0.05 · 0.5, both raised by 0.125
/// # Ok::<(), mtl_core::Error>(())
/// ```
#[derive(Debug)]
pub struct MoDo {
    config: MoDoConfig,
    shares: Vec<f64>,
}

impl Stateful for MoDo {
    fn state(&self) -> StateDict {
        memory::save(&[("shares", &self.shares)])
    }

    fn load_state(&mut self, state: &StateDict) -> Result<()> {
        [self.shares] = memory::load("modo", state, [memory::Slot::Tasks("shares")])?;
        Ok(())
    }
}

impl SampledBalancer for MoDo {
    fn weights(&mut self, cross: &[Vec<f64>], _ctx: &mut StepCtx<'_>) -> Result<Vec<f64>> {
        let MoDoConfig { gamma, rho } = self.config;
        let tasks = memory::square("cross", cross)?;
        if tasks == 1 {
            return Ok(vec![1.0]);
        }
        if self.shares.is_empty() {
            self.shares = vec![1.0 / tasks as f64; tasks];
        }
        memory::same_tasks("cross", self.shares.len(), tasks)?;
        let moved: Vec<f64> = cross
            .iter()
            .zip(&self.shares)
            .map(|(row, w)| {
                let along: f64 = row.iter().zip(&self.shares).map(|(m, w)| m * w).sum();
                w - gamma * (along + rho * w)
            })
            .collect();
        self.shares = memory::project_to_simplex(&moved);
        Ok(self.shares.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bad_input_is_refused() {
        assert!(MoDoConfig::default().gamma(0.0).build().is_err());
        assert!(MoDoConfig::default().rho(-1.0).build().is_err());
    }
}
