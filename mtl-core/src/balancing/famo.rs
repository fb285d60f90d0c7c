//! FAMO: Liu et al., *FAMO: Fast Adaptive Multitask Optimization*, NeurIPS 2023, arXiv 2306.03792.
use super::{Balancer, LossWeighting, Stateful, StepCtx, memory};
use crate::{Error, Result, StateDict, registry};
use serde::{Deserialize, Serialize};

pub(super) const ENTRY: registry::Entry<Balancer> = registry::Entry {
    info: registry::MethodInfo {
        name: "famo",
        paper: "FAMO: Fast Adaptive Multitask Optimization",
        source: "arXiv 2306.03792",
    },
    build: |config| {
        let method = registry::parse::<FamoConfig>(config)?.build()?;
        Ok(Box::new(Balancer::Losses(Box::new(method))))
    },
};

/// Hyper-parameters of [`Famo`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct FamoConfig {
    /// Learning rate of the logits, which Adam learns. At least 0.
    pub lr: f64,
    /// L2 penalty on the logits, as part of their gradient. At least 0.
    pub weight_decay: f64,
    /// What every loss stays above: improvement is measured in the logarithm of the distance to it.
    pub min_loss: f64,
}

impl Default for FamoConfig {
    fn default() -> Self {
        Self { lr: 0.025, weight_decay: 1e-3, min_loss: 0.0 }
    }
}

impl FamoConfig {
    /// Sets the learning rate of the logits.
    #[must_use]
    pub fn lr(mut self, lr: f64) -> Self {
        self.lr = lr;
        self
    }

    /// Sets the penalty on the logits.
    #[must_use]
    pub fn weight_decay(mut self, weight_decay: f64) -> Self {
        self.weight_decay = weight_decay;
        self
    }

    /// Sets what every loss stays above.
    #[must_use]
    pub fn min_loss(mut self, min_loss: f64) -> Self {
        self.min_loss = min_loss;
        self
    }

    /// Checks the values and builds the weighting.
    ///
    /// # Errors
    ///
    /// [`Error::Config`] naming the field that is out of range.
    pub fn build(self) -> Result<Famo> {
        for (field, value) in [("lr", self.lr), ("weight_decay", self.weight_decay)] {
            if !(value >= 0.0 && value.is_finite()) {
                return Err(Error::config(field, "at least 0 and finite", value));
            }
        }
        if !self.min_loss.is_finite() {
            return Err(Error::config("min_loss", "finite", self.min_loss));
        }
        Ok(Famo { config: self, logits: Vec::new(), adam: Adam::default(), previous: Vec::new() })
    }
}

/// Decreases all losses at the same relative rate: logits w, p = softmax(w), D_k the distance of L_k to its minimum;
/// the gradient is that of c Σ p_k log D_k with c = 1 / Σ p_k / D_k held constant, so the weights sum to 1. After the step
/// the losses of the same batches tell how much each task gained, and a task that gained less weighs more next time.
/// Costs one more forward pass per step.
///
/// The heads get their gradients times the weight.
///
/// ```
/// use mtl_core::{Seed, balancing::{FamoConfig, LossWeighting, StepCtx}};
///
/// let mut ctx = StepCtx { losses: &[1.0, 3.0], step: 0, rng: &mut Seed(0).stream("balancer", 0) };
/// let mut famo = FamoConfig::default().build()?;
/// assert!((famo.weights(&mut ctx)?[0] - 0.75).abs() < 1e-6);
/// famo.after_step(&[0.5, 3.0])?; // The second task gained nothing.
/// assert!(famo.weights(&mut ctx)?[0] < 0.75);
/// # Ok::<(), mtl_core::Error>(())
/// ```
#[derive(Debug)]
pub struct Famo {
    config: FamoConfig,
    logits: Vec<f64>,
    adam: Adam,
    /// Log distances of the step that is being made; empty between steps.
    previous: Vec<f64>,
}

impl Famo {
    /// log(L − min + 1e-8) of each task.
    fn log_distances(&self, losses: &[f64]) -> Result<Vec<f64>> {
        let distance = |(task, loss): (usize, &f64)| {
            let distance = loss - self.config.min_loss + 1e-8;
            if distance > 0.0 && distance.is_finite() {
                return Ok(distance.ln());
            }
            let must = format!("finite and above `min_loss`, {}", self.config.min_loss);
            Err(Error::config(format!("loss of task {task}"), must, loss))
        };
        losses.iter().enumerate().map(|(task, loss)| distance((task, loss))).collect()
    }
}

impl Stateful for Famo {
    fn state(&self) -> StateDict {
        if self.logits.is_empty() {
            return StateDict::new();
        }
        let step = [self.adam.step];
        memory::save(&[
            ("logits", &self.logits),
            ("exp_avg", &self.adam.first),
            ("exp_avg_sq", &self.adam.second),
            ("step", &step),
            ("log_distances", &self.previous),
        ])
    }

    fn load_state(&mut self, state: &StateDict) -> Result<()> {
        use memory::Slot::{LaterTasks, One, Tasks};
        let slots = [
            Tasks("logits"),
            Tasks("exp_avg"),
            Tasks("exp_avg_sq"),
            One("step"),
            LaterTasks("log_distances"),
        ];
        let [logits, first, second, step, previous] = memory::load("famo", state, slots)?;
        let step = step.first().copied().unwrap_or(0.0);
        (self.logits, self.adam, self.previous) = (logits, Adam { step, first, second }, previous);
        Ok(())
    }
}

impl LossWeighting for Famo {
    fn weights(&mut self, ctx: &mut StepCtx<'_>) -> Result<Vec<f64>> {
        let losses = memory::losses(ctx)?;
        let log_distances = self.log_distances(losses)?;
        if self.logits.is_empty() {
            let zeros = vec![0.0; losses.len()];
            self.adam = Adam { step: 0.0, first: zeros.clone(), second: zeros.clone() };
            self.logits = zeros;
        }
        memory::same_tasks("losses", self.logits.len(), losses.len())?;
        let shares: Vec<f64> = memory::softmax(&self.logits)
            .iter()
            .zip(&log_distances)
            .map(|(p, log_distance)| p / log_distance.exp())
            .collect();
        let total: f64 = shares.iter().sum();
        self.previous = log_distances;
        Ok(shares.iter().map(|share| share / total).collect())
    }

    fn looks_back(&self) -> bool {
        true
    }

    fn after_step(&mut self, losses: &[f64]) -> Result<()> {
        memory::same_tasks("losses after the step", self.previous.len(), losses.len())?;
        let gains: Vec<f64> =
            self.previous.iter().zip(self.log_distances(losses)?).map(|(before, now)| before - now).collect();
        let p = memory::softmax(&self.logits);
        let mean: f64 = p.iter().zip(&gains).map(|(p, gain)| p * gain).sum();
        // (diag(p) − p pᵀ) δ, with the penalty.
        let penalty = self.config.weight_decay;
        let grads: Vec<f64> = p
            .iter()
            .zip(&gains)
            .zip(&self.logits)
            .map(|((p, gain), w)| p * (gain - mean) + penalty * w)
            .collect();
        self.adam.update(&mut self.logits, &grads, self.config.lr);
        self.previous.clear();
        Ok(())
    }
}

/// Adam with PyTorch's defaults, on a few numbers.
#[derive(Debug, Default)]
struct Adam {
    step: f64,
    first: Vec<f64>,
    second: Vec<f64>,
}

impl Adam {
    fn update(&mut self, values: &mut [f64], grads: &[f64], lr: f64) {
        self.step += 1.0;
        let (bias1, bias2) = (1.0 - 0.9f64.powf(self.step), 1.0 - 0.999f64.powf(self.step));
        let moments = self.first.iter_mut().zip(&mut self.second);
        for ((value, grad), (m, v)) in values.iter_mut().zip(grads).zip(moments) {
            *m = 0.9 * *m + 0.1 * grad;
            *v = 0.999 * *v + 0.001 * grad * grad;
            *value -= lr / bias1 * *m / ((*v / bias2).sqrt() + 1e-8);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Seed;

    #[test]
    fn losses_below_their_minimum_are_refused() {
        let mut famo = FamoConfig::default().min_loss(1.0).build().unwrap();
        let mut ctx = StepCtx { losses: &[2.0, 0.5], step: 0, rng: &mut Seed(0).stream("test", 0) };
        let err = famo.weights(&mut ctx).unwrap_err();
        insta::assert_snapshot!(err, @"`loss of task 1` must be finite and above `min_loss`, 1, but is 0.5");
        let err = famo.after_step(&[1.0, 1.0]).unwrap_err();
        insta::assert_snapshot!(err, @"`losses after the step` must have shape [0], but has [2]");
        assert!(FamoConfig::default().lr(f64::NAN).build().is_err());
    }
}
