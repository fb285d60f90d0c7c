//! IMTL, its two halves together: Liu et al., *Towards Impartial Multi-task Learning*, ICLR 2021.
use super::{
    Balancer, Gram, GramBalancer, Learned, Stateful, StepCtx, imtl_g::impartial, imtl_l::scale, memory,
};
use crate::{Result, StateDict, registry};
use serde::{Deserialize, Serialize};

pub(super) const ENTRY: registry::Entry<Balancer> = registry::Entry {
    info: registry::MethodInfo {
        name: "imtl",
        paper: "Towards Impartial Multi-task Learning",
        source: "ICLR 2021",
    },
    build: |config| {
        let method = registry::parse::<ImtlConfig>(config)?.build()?;
        Ok(Box::new(Balancer::Gram(Box::new(method))))
    },
};

/// Hyper-parameters of [`Imtl`]: none.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct ImtlConfig {}

impl ImtlConfig {
    /// Builds the balancer.
    ///
    /// # Errors
    ///
    /// None today.
    pub fn build(self) -> Result<Imtl> {
        Ok(Imtl { scales: memory::LearnedRow::default(), factors: Vec::new() })
    }
}

/// Losses scaled by e^s as in [`ImtlL`](super::ImtlL), whose gradients are combined as in [`ImtlG`](super::ImtlG).
///
/// The heads get the gradient of their own scaled loss, e^{s_k} times their own. A single task is left alone.
///
/// ```
/// use mtl_core::{Seed, balancing::{Gram, GramBalancer, ImtlConfig, Stateful, StepCtx}};
///
/// let gram = Gram::from_rows(&[vec![4.0, -1.0], vec![-1.0, 1.0]])?;
/// let mut ctx = StepCtx { losses: &[1.0, 3.0], step: 0, rng: &mut Seed(0).stream("balancer", 0) };
/// let mut imtl = ImtlConfig::default().build()?;
/// let products = gram.times(&imtl.weights(&gram, &mut ctx)?);
/// assert!((products[0] / 2.0 - products[1]).abs() < 1e-12);
/// assert_eq!(imtl.learned().unwrap().grads, [0.0, 2.0]); // e^s L − 1
/// # Ok::<(), mtl_core::Error>(())
/// ```
#[derive(Debug)]
pub struct Imtl {
    scales: memory::LearnedRow,
    /// e^s as of the last step.
    factors: Vec<f64>,
}

impl Stateful for Imtl {
    fn learned(&mut self) -> Option<Learned<'_>> {
        self.scales.learned()
    }

    fn state(&self) -> StateDict {
        memory::save(&[("log_scales", &self.scales.values)])
    }

    fn load_state(&mut self, state: &StateDict) -> Result<()> {
        let [values] = memory::load("imtl", state, [memory::Slot::Tasks("log_scales")])?;
        self.scales.restore(values);
        self.factors.clear();
        Ok(())
    }
}

impl GramBalancer for Imtl {
    fn weights(&mut self, gram: &Gram, ctx: &mut StepCtx<'_>) -> Result<Vec<f64>> {
        if gram.tasks() == 1 {
            return Ok(vec![1.0]);
        }
        let losses = memory::losses_of(ctx, gram.tasks())?;
        self.factors = scale(&mut self.scales, losses)?;
        let alpha = impartial(&Gram::from_rows(&gram.scaled(&self.factors))?)?;
        Ok(alpha.iter().zip(&self.factors).map(|(a, e)| a * e).collect())
    }

    fn loss_scale(&self) -> Option<Vec<f64>> {
        (!self.factors.is_empty()).then(|| self.factors.clone())
    }
}
