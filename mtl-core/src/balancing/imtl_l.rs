//! IMTL-L: the loss half of Liu et al., *Towards Impartial Multi-task Learning*, ICLR 2021.
use super::{Balancer, Learned, LossWeighting, Stateful, StepCtx, memory};
use crate::{Result, StateDict, registry};
use serde::{Deserialize, Serialize};

pub(super) const ENTRY: registry::Entry<Balancer> = registry::Entry {
    info: registry::MethodInfo {
        name: "imtl_l",
        paper: "Towards Impartial Multi-task Learning",
        source: "ICLR 2021",
    },
    build: |config| {
        let method = registry::parse::<ImtlLConfig>(config)?.build()?;
        Ok(Box::new(Balancer::Losses(Box::new(method))))
    },
};

/// Hyper-parameters of [`ImtlL`]: none.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct ImtlLConfig {}

impl ImtlLConfig {
    /// Builds the weighting.
    ///
    /// # Errors
    ///
    /// None today.
    pub fn build(self) -> Result<ImtlL> {
        Ok(ImtlL { scales: memory::LearnedRow::default() })
    }
}

/// Weights e^s with s learned from 0: the objective is Σ e^{s_k} L_k − s_k, at whose minimum in s all scaled losses are 1.
///
/// The heads get their gradients times the weight. A single task keeps weight 1.
///
/// ```
/// use mtl_core::{Seed, balancing::{ImtlLConfig, LossWeighting, Stateful, StepCtx}};
///
/// let mut ctx = StepCtx { losses: &[1.0, 3.0], step: 0, rng: &mut Seed(0).stream("balancer", 0) };
/// let mut imtl_l = ImtlLConfig::default().build()?;
/// assert_eq!(imtl_l.weights(&mut ctx)?, [1.0, 1.0]);
/// assert_eq!(imtl_l.learned().unwrap().grads, [0.0, 2.0]); // e^s L − 1
/// # Ok::<(), mtl_core::Error>(())
/// ```
#[derive(Debug)]
pub struct ImtlL {
    scales: memory::LearnedRow,
}

impl Stateful for ImtlL {
    fn learned(&mut self) -> Option<Learned<'_>> {
        self.scales.learned()
    }

    fn state(&self) -> StateDict {
        memory::save(&[("log_scales", &self.scales.values)])
    }

    fn load_state(&mut self, state: &StateDict) -> Result<()> {
        let [values] = memory::load("imtl_l", state, [memory::Slot::Tasks("log_scales")])?;
        self.scales.restore(values);
        Ok(())
    }
}

impl LossWeighting for ImtlL {
    fn weights(&mut self, ctx: &mut StepCtx<'_>) -> Result<Vec<f64>> {
        let losses = memory::losses(ctx)?;
        if losses.len() == 1 {
            return Ok(vec![1.0]);
        }
        scale(&mut self.scales, losses)
    }
}

/// The factors e^s; leaves the gradients of s behind.
pub(super) fn scale(scales: &mut memory::LearnedRow, losses: &[f64]) -> Result<Vec<f64>> {
    let factors: Vec<f64> = scales.at(losses.len(), 0.0)?.iter().map(|s| s.exp()).collect();
    scales.grads = losses.iter().zip(&factors).map(|(loss, e)| e * loss - 1.0).collect();
    Ok(factors)
}
