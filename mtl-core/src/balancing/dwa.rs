//! DWA, dynamic weight average: Liu, Johns and Davison, *End-To-End Multi-Task Learning With Attention*, CVPR 2019,
//! arXiv 1803.10704.
use super::{Balancer, LossWeighting, Stateful, StepCtx, memory};
use crate::{Error, Result, StateDict, learner::Boundary, registry};
use serde::{Deserialize, Serialize};

pub(super) const ENTRY: registry::Entry<Balancer> = registry::Entry {
    info: registry::MethodInfo {
        name: "dwa",
        paper: "End-To-End Multi-Task Learning With Attention",
        source: "arXiv 1803.10704",
    },
    build: |config| {
        let method = registry::parse::<DwaConfig>(config)?.build()?;
        Ok(Box::new(Balancer::Losses(Box::new(method))))
    },
};

/// Hyper-parameters of [`Dwa`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct DwaConfig {
    /// Divides the rates before the softmax; large values make the weights equal. Positive.
    pub temperature: f64,
}

impl Default for DwaConfig {
    fn default() -> Self {
        Self { temperature: 2.0 }
    }
}

impl DwaConfig {
    /// Sets the temperature.
    #[must_use]
    pub fn temperature(mut self, temperature: f64) -> Self {
        self.temperature = temperature;
        self
    }

    /// Checks the values and builds the weighting.
    ///
    /// # Errors
    ///
    /// [`Error::Config`] when the temperature is not positive and finite.
    pub fn build(self) -> Result<Dwa> {
        if !(self.temperature > 0.0 && self.temperature.is_finite()) {
            return Err(Error::config("temperature", "positive and finite", self.temperature));
        }
        Ok(Dwa { config: self, now: memory::EpochMean::default(), last: Vec::new(), before: Vec::new() })
    }
}

/// Weights K · softmax(r / T), where r_k is the mean loss of the last epoch over that of the epoch before: tasks that
/// learn slowly weigh more. All weights are 1 in the first two epochs.
///
/// The heads get their gradients times the weight.
///
/// ```
/// use mtl_core::{Seed, balancing::{DwaConfig, LossWeighting, Stateful, StepCtx}, learner::Boundary};
///
/// let mut dwa = DwaConfig::default().build()?;
/// let mut weights = vec![];
/// for (epoch, losses) in [[4.0, 4.0], [2.0, 4.0], [1.0, 1.0]].iter().enumerate() {
///     let mut ctx = StepCtx { losses, step: epoch as u64, rng: &mut Seed(0).stream("balancer", 0) };
///     weights = dwa.weights(&mut ctx)?;
///     dwa.boundary(&Boundary::EpochEnd { epoch: epoch as u64 })?;
/// }
/// assert!((weights[1] / weights[0] - ((1.0 - 0.5) / 2.0f64).exp()).abs() < 1e-12);
/// # Ok::<(), mtl_core::Error>(())
/// ```
#[derive(Debug)]
pub struct Dwa {
    config: DwaConfig,
    now: memory::EpochMean,
    last: Vec<f64>,
    before: Vec<f64>,
}

impl Stateful for Dwa {
    fn state(&self) -> StateDict {
        let count = [self.now.count];
        let rows = [("sum", &*self.now.sum), ("last", &*self.last), ("before", &*self.before)];
        let mut state = memory::save(&rows);
        if !state.is_empty() {
            state.extend(memory::save(&[("count", &count)]));
        }
        state
    }

    fn load_state(&mut self, state: &StateDict) -> Result<()> {
        use memory::Slot::{LaterTasks, One};
        let slots = [LaterTasks("sum"), LaterTasks("last"), LaterTasks("before"), One("count")];
        let [sum, last, before, count] = memory::load("dwa", state, slots)?;
        let count = count.first().copied().unwrap_or(0.0);
        (self.now, self.last, self.before) = (memory::EpochMean { sum, count }, last, before);
        Ok(())
    }

    fn boundary(&mut self, event: &Boundary<'_>) -> Result<()> {
        if let Boundary::EpochEnd { .. } = event
            && let Some(means) = self.now.close()
        {
            self.before = std::mem::replace(&mut self.last, means);
        }
        Ok(())
    }
}

impl LossWeighting for Dwa {
    fn weights(&mut self, ctx: &mut StepCtx<'_>) -> Result<Vec<f64>> {
        let losses = memory::losses(ctx)?;
        let tasks = losses.len();
        if tasks == 1 {
            return Ok(vec![1.0]);
        }
        if !self.last.is_empty() {
            memory::same_tasks("losses", self.last.len(), tasks)?;
        }
        let weights = if self.before.is_empty() {
            vec![1.0; tasks]
        } else {
            memory::positive(&self.before, "the mean of the next epoch is divided by it")?;
            let rates: Vec<f64> = self
                .last
                .iter()
                .zip(&self.before)
                .map(|(last, before)| last / before / self.config.temperature)
                .collect();
            memory::softmax(&rates).iter().map(|p| p * tasks as f64).collect()
        };
        self.now.add(losses)?;
        Ok(weights)
    }
}
