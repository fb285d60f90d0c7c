//! GradNorm: Chen et al., *GradNorm: Gradient Normalization for Adaptive Loss Balancing in Deep Multitask Networks*,
//! ICML 2018, arXiv 1711.02257.
use super::{Balancer, Gram, GramBalancer, Learned, Stateful, StepCtx, memory};
use crate::{Error, Result, StateDict, learner::Boundary, registry};
use serde::{Deserialize, Serialize};

pub(super) const ENTRY: registry::Entry<Balancer> = registry::Entry {
    info: registry::MethodInfo {
        name: "gradnorm",
        paper: "GradNorm: Gradient Normalization for Adaptive Loss Balancing in Deep Multitask Networks",
        source: "arXiv 1711.02257",
    },
    build: |config| {
        let method = registry::parse::<GradNormConfig>(config)?.build()?;
        Ok(Box::new(Balancer::Gram(Box::new(method))))
    },
};

/// What training has progressed from.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum GradNormInitialLoss {
    /// The losses of the first step, as in the paper.
    #[default]
    FirstStep,
    /// The mean losses of the first epoch, in which all weights are 1, as in LibMTL.
    FirstEpoch,
}

/// Hyper-parameters of [`GradNorm`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct GradNormConfig {
    /// How strongly tasks that are behind are favoured; 0 makes all weighted gradients equally long. At least 0.
    pub alpha: f64,
    /// What training has progressed from.
    pub initial_loss: GradNormInitialLoss,
}

impl Default for GradNormConfig {
    fn default() -> Self {
        Self { alpha: 1.5, initial_loss: GradNormInitialLoss::FirstStep }
    }
}

impl GradNormConfig {
    /// Sets how strongly tasks that are behind are favoured.
    #[must_use]
    pub fn alpha(mut self, alpha: f64) -> Self {
        self.alpha = alpha;
        self
    }

    /// Sets what training has progressed from.
    #[must_use]
    pub fn initial_loss(mut self, initial_loss: GradNormInitialLoss) -> Self {
        self.initial_loss = initial_loss;
        self
    }

    /// Checks the values and builds the balancer.
    ///
    /// # Errors
    ///
    /// [`Error::Config`] naming the field that is out of range.
    pub fn build(self) -> Result<GradNorm> {
        if !(self.alpha >= 0.0 && self.alpha.is_finite()) {
            return Err(Error::config("alpha", "at least 0 and finite", self.alpha));
        }
        let (logits, now) = (memory::LearnedRow::default(), memory::EpochMean::default());
        Ok(GradNorm { config: self, logits, initial: Vec::new(), now })
    }
}

/// Weights K softmax(l) with logits l that are learned so that the length G_k of each weighted gradient approaches the
/// mean length times r_k^α, where r_k is the task's loss over its initial one, relative to the mean over the tasks.
/// Only the lengths of the gradients are looked at. Losses must be positive.
///
/// The heads get their own gradients.
///
/// # Departures
///
/// The paper learns the weights themselves and rescales them to sum K after each update; the softmax, which keeps them
/// positive, is LibMTL's. Its lengths are those of the last shared layer's gradients; here, as in LibMTL, of all shared
/// parameters.
///
/// ```
/// use mtl_core::{Seed, balancing::{Gram, GradNormConfig, GramBalancer, Stateful, StepCtx}};
///
/// let gram = Gram::from_rows(&[vec![9.0, 0.0], vec![0.0, 1.0]])?;
/// let mut ctx = StepCtx { losses: &[1.0, 1.0], step: 0, rng: &mut Seed(0).stream("balancer", 0) };
/// let mut gradnorm = GradNormConfig::default().build()?;
/// assert_eq!(gradnorm.weights(&gram, &mut ctx)?, [1.0, 1.0]);
/// // Lengths 3 and 1, both to be 2: the gradient lowers the first logit.
/// assert_eq!(gradnorm.learned().unwrap().grads, [2.0, -2.0]);
/// # Ok::<(), mtl_core::Error>(())
/// ```
#[derive(Debug)]
pub struct GradNorm {
    config: GradNormConfig,
    logits: memory::LearnedRow,
    /// Empty before they are known.
    initial: Vec<f64>,
    now: memory::EpochMean,
}

impl Stateful for GradNorm {
    fn learned(&mut self) -> Option<Learned<'_>> {
        self.logits.learned()
    }

    fn state(&self) -> StateDict {
        let rows =
            [("logits", &*self.logits.values), ("initial_losses", &*self.initial), ("sum", &*self.now.sum)];
        let mut state = memory::save(&rows);
        if !state.is_empty() {
            state.extend(memory::save(&[("count", &[self.now.count])]));
        }
        state
    }

    fn load_state(&mut self, state: &StateDict) -> Result<()> {
        use memory::Slot::{LaterTasks, One, Tasks};
        let slots = [Tasks("logits"), LaterTasks("initial_losses"), LaterTasks("sum"), One("count")];
        let [logits, initial, sum, count] = memory::load("gradnorm", state, slots)?;
        memory::positive(&initial, "losses are divided by it")?;
        self.logits.restore(logits);
        self.initial = initial;
        self.now = memory::EpochMean { sum, count: count.first().copied().unwrap_or(0.0) };
        Ok(())
    }

    fn boundary(&mut self, event: &Boundary<'_>) -> Result<()> {
        if let Boundary::EpochEnd { .. } = event
            && self.initial.is_empty()
            && let Some(means) = self.now.close()
        {
            self.initial = means;
        }
        Ok(())
    }
}

impl GramBalancer for GradNorm {
    fn weights(&mut self, gram: &Gram, ctx: &mut StepCtx<'_>) -> Result<Vec<f64>> {
        let tasks = gram.tasks();
        if tasks == 1 {
            return Ok(vec![1.0]);
        }
        let losses = memory::losses_of(ctx, tasks)?;
        memory::positive(losses, "its ratio to the initial loss is compared")?;
        let shares = memory::softmax(self.logits.at(tasks, 0.0)?);
        if self.initial.is_empty() {
            if self.config.initial_loss == GradNormInitialLoss::FirstEpoch {
                self.now.add(losses)?;
                return Ok(vec![1.0; tasks]);
            }
            self.initial = losses.to_vec();
        }
        let count = tasks as f64;
        let weights: Vec<f64> = shares.iter().map(|p| count * p).collect();
        let lengths: Vec<f64> = weights.iter().enumerate().map(|(k, w)| w * gram.norm(k)).collect();
        let mean = lengths.iter().sum::<f64>() / count;
        let ratios: Vec<f64> = losses.iter().zip(&self.initial).map(|(now, first)| now / first).collect();
        let mean_ratio = ratios.iter().sum::<f64>() / count;
        // Σ |G_k − Ḡ r_k^α| with Ḡ r_k^α held constant; G_k moves with l_j by G_k (δ_kj − p_j).
        let signs: Vec<f64> = lengths
            .iter()
            .zip(&ratios)
            .map(|(length, ratio)| {
                let off = length - mean * (ratio / mean_ratio).powf(self.config.alpha);
                if off == 0.0 { 0.0 } else { off.signum() }
            })
            .collect();
        let total: f64 = signs.iter().zip(&lengths).map(|(sign, length)| sign * length).sum();
        self.logits.grads =
            signs.iter().zip(&lengths).zip(&shares).map(|((s, length), p)| s * length - p * total).collect();
        Ok(weights)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Seed;

    #[test]
    fn the_first_epoch_may_be_what_training_progresses_from() {
        let config = GradNormConfig::default().initial_loss(GradNormInitialLoss::FirstEpoch);
        let gram = Gram::from_rows(&[vec![9.0, 0.0], vec![0.0, 1.0]]).unwrap();
        let mut gradnorm = config.build().unwrap();
        let weights = |gradnorm: &mut GradNorm, losses: &[f64]| {
            let mut ctx = StepCtx { losses, step: 0, rng: &mut Seed(0).stream("test", 0) };
            gradnorm.weights(&gram, &mut ctx).unwrap()
        };
        for losses in [[1.0, 2.0], [3.0, 4.0]] {
            assert_eq!(weights(&mut gradnorm, &losses), [1.0, 1.0]);
            assert!(gradnorm.learned().is_none_or(|learned| learned.grads.is_empty()));
        }
        gradnorm.boundary(&Boundary::EpochEnd { epoch: 0 }).unwrap();
        weights(&mut gradnorm, &[1.0, 1.0]);
        assert_eq!(gradnorm.initial, [2.0, 3.0]);
        assert!(gradnorm.learned().is_some());
    }

    #[test]
    fn bad_input_is_refused() {
        assert!(GradNormConfig::default().alpha(-1.0).build().is_err());
        let gram = Gram::from_rows(&[vec![9.0, 0.0], vec![0.0, 1.0]]).unwrap();
        let mut ctx = StepCtx { losses: &[-1.0, 1.0], step: 0, rng: &mut Seed(0).stream("test", 0) };
        let err = GradNormConfig::default().build().unwrap().weights(&gram, &mut ctx).unwrap_err();
        insta::assert_snapshot!(err, @"`loss of task 0` must be positive, as its ratio to the initial loss is compared, but is -1");
        ctx.losses = &[1.0];
        let err = GradNormConfig::default().build().unwrap().weights(&gram, &mut ctx).unwrap_err();
        insta::assert_snapshot!(err, @"`losses` must have shape [2], but has [1]");
    }
}
