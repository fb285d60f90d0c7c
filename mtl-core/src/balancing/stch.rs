//! STCH, smooth Tchebycheff scalarisation: Lin et al., *Smooth Tchebycheff Scalarization for Multi-Objective
//! Optimization*, ICML 2024, arXiv 2402.19078.
use super::{Balancer, LossWeighting, Stateful, StepCtx, memory};
use crate::{Error, Result, StateDict, learner::Boundary, registry};
use serde::{Deserialize, Serialize};

pub(super) const ENTRY: registry::Entry<Balancer> = registry::Entry {
    info: registry::MethodInfo {
        name: "stch",
        paper: "Smooth Tchebycheff Scalarization for Multi-Objective Optimization",
        source: "arXiv 2402.19078",
    },
    build: |config| {
        let method = registry::parse::<StchConfig>(config)?.build()?;
        Ok(Box::new(Balancer::Losses(Box::new(method))))
    },
};

/// Hyper-parameters of [`Stch`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct StchConfig {
    /// Smoothness: small values approach the largest loss, large ones the mean of the logarithms. Positive.
    pub mu: f64,
    /// Epochs on the sum of log losses; the means of the last one are the nadir. At least 1.
    pub warmup_epochs: u64,
    /// The losses that all are measured by, where they are known: then there is no warm-up. Positive.
    pub nadir: Option<Vec<f64>>,
}

impl Default for StchConfig {
    fn default() -> Self {
        Self { mu: 1.0, warmup_epochs: 4, nadir: None }
    }
}

impl StchConfig {
    /// Sets the smoothness.
    #[must_use]
    pub fn mu(mut self, mu: f64) -> Self {
        self.mu = mu;
        self
    }

    /// Sets the length of the warm-up.
    #[must_use]
    pub fn warmup_epochs(mut self, epochs: u64) -> Self {
        self.warmup_epochs = epochs;
        self
    }

    /// Sets the losses that all are measured by, one per task.
    #[must_use]
    pub fn nadir(mut self, nadir: Vec<f64>) -> Self {
        self.nadir = Some(nadir);
        self
    }

    /// Checks the values and builds the weighting.
    ///
    /// # Errors
    ///
    /// [`Error::Config`] naming the field that is out of range.
    pub fn build(self) -> Result<Stch> {
        if !(self.mu > 0.0 && self.mu.is_finite()) {
            return Err(Error::config("mu", "positive and finite", self.mu));
        }
        if self.warmup_epochs == 0 {
            return Err(Error::config(
                "warmup_epochs",
                "at least 1, as the nadir is measured in the last",
                0,
            ));
        }
        let nadir = self.nadir.clone().unwrap_or_default();
        if let Some(bad) = nadir.iter().find(|z| !(**z > 0.0 && z.is_finite())) {
            return Err(Error::config("nadir", "positive and finite", bad));
        }
        if self.nadir.as_ref().is_some_and(Vec::is_empty) {
            return Err(Error::config("nadir", "one loss per task", "empty"));
        }
        Ok(Stch { config: self, epoch: 0, now: memory::EpochMean::default(), nadir })
    }
}

/// Minimises K μ log Σ exp(log(L_k / z_k) / μ), a smooth form of the largest log loss over its nadir z, after a warm-up on
/// Σ log L_k. Weights are K softmax(log(L / z) / μ)_k / L_k, and 1 / L_k in the warm-up; losses must be positive.
///
/// The heads get their gradients times the weight. A single task keeps weight 1.
///
/// # Departures
///
/// The released program runs one more epoch on log losses than its warm-up is long and measures the nadir in it.
///
/// ```
/// use mtl_core::{Seed, balancing::{LossWeighting, StchConfig, StepCtx}};
///
/// let mut ctx = StepCtx { losses: &[1.0, 3.0], step: 0, rng: &mut Seed(0).stream("balancer", 0) };
/// let weights = StchConfig::default().nadir(vec![1.0, 1.0]).build()?.weights(&mut ctx)?;
/// assert!((weights[0] - 0.5).abs() < 1e-12 && (weights[1] - 0.5).abs() < 1e-12); // 2 · ¼ / 1 and 2 · ¾ / 3
/// # Ok::<(), mtl_core::Error>(())
/// ```
#[derive(Debug)]
pub struct Stch {
    config: StchConfig,
    /// Epochs that have ended.
    epoch: u64,
    now: memory::EpochMean,
    /// Empty in the warm-up.
    nadir: Vec<f64>,
}

impl Stateful for Stch {
    fn state(&self) -> StateDict {
        let mut state = memory::save(&[("sum", &self.now.sum)]);
        if self.config.nadir.is_none() {
            state.extend(memory::save(&[("nadir", &self.nadir)]));
        }
        if !state.is_empty() || self.epoch > 0 {
            state.extend(memory::save(&[("epoch", &[self.epoch as f64]), ("count", &[self.now.count])]));
        }
        state
    }

    fn load_state(&mut self, state: &StateDict) -> Result<()> {
        use memory::Slot::{LaterTasks, One};
        let slots = [LaterTasks("sum"), LaterTasks("nadir"), One("epoch"), One("count")];
        let [sum, nadir, epoch, count] = memory::load("stch", state, slots)?;
        memory::positive(&nadir, "losses are divided by it")?;
        let first = |row: &[f64]| row.first().copied().unwrap_or(0.0);
        self.now = memory::EpochMean { sum, count: first(&count) };
        self.epoch = first(&epoch) as u64;
        self.nadir = self.config.nadir.clone().unwrap_or(nadir);
        Ok(())
    }

    fn boundary(&mut self, event: &Boundary<'_>) -> Result<()> {
        if let Boundary::EpochEnd { .. } = event
            && self.nadir.is_empty()
        {
            let means = self.now.close();
            if self.epoch + 1 < self.config.warmup_epochs {
                self.epoch += 1;
            } else if let Some(means) = means {
                self.epoch += 1;
                self.nadir = means;
            }
        }
        Ok(())
    }
}

impl LossWeighting for Stch {
    fn weights(&mut self, ctx: &mut StepCtx<'_>) -> Result<Vec<f64>> {
        let losses = memory::losses(ctx)?;
        if losses.len() == 1 {
            return Ok(vec![1.0]);
        }
        memory::positive(losses, "its logarithm is minimised")?;
        if self.nadir.is_empty() {
            self.now.add(losses)?;
            return Ok(losses.iter().map(|loss| 1.0 / loss).collect());
        }
        memory::same_tasks("losses", self.nadir.len(), losses.len())?;
        let ratios: Vec<f64> =
            losses.iter().zip(&self.nadir).map(|(loss, z)| (loss / z).ln() / self.config.mu).collect();
        let shares = memory::softmax(&ratios);
        Ok(shares.iter().zip(losses).map(|(p, loss)| losses.len() as f64 * p / loss).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Seed;

    fn weights(stch: &mut Stch, losses: &[f64]) -> Vec<f64> {
        let mut ctx = StepCtx { losses, step: 0, rng: &mut Seed(0).stream("test", 0) };
        stch.weights(&mut ctx).unwrap()
    }

    #[test]
    fn the_nadir_is_the_mean_of_the_last_warm_up_epoch() {
        let mut stch = StchConfig::default().warmup_epochs(2).build().unwrap();
        for (epoch, losses) in [[9.0, 9.0], [1.0, 5.0]].iter().enumerate() {
            assert_eq!(weights(&mut stch, losses), [1.0 / losses[0], 1.0 / losses[1]]);
            assert_eq!(weights(&mut stch, &[3.0, 1.0]), [1.0 / 3.0, 1.0]);
            stch.boundary(&Boundary::EpochEnd { epoch: epoch as u64 }).unwrap();
        }
        let mut known = StchConfig::default().nadir(vec![2.0, 3.0]).build().unwrap();
        assert_eq!(weights(&mut stch, &[1.0, 4.0]), weights(&mut known, &[1.0, 4.0]));
    }

    #[test]
    fn scaling_a_loss_and_its_nadir_scales_its_weight_back() {
        let of = |scale: f64| {
            let mut stch = StchConfig::default().mu(0.3).nadir(vec![2.0, 3.0 * scale]).build().unwrap();
            weights(&mut stch, &[1.0, 4.0 * scale])
        };
        let (plain, scaled) = (of(1.0), of(8.0));
        assert!((plain[0] - scaled[0]).abs() < 1e-12 && (plain[1] - 8.0 * scaled[1]).abs() < 1e-12);
    }

    #[test]
    fn losses_that_have_no_logarithm_are_refused() {
        let mut stch = StchConfig::default().build().unwrap();
        let mut ctx = StepCtx { losses: &[1.0, 0.0], step: 0, rng: &mut Seed(0).stream("test", 0) };
        let err = stch.weights(&mut ctx).unwrap_err();
        insta::assert_snapshot!(err, @"`loss of task 1` must be positive, as its logarithm is minimised, but is 0");
        assert!(StchConfig::default().warmup_epochs(0).build().is_err());
        assert!(StchConfig::default().nadir(vec![1.0, -1.0]).build().is_err());
    }
}
