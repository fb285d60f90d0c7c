//! UPGrad: Quinton and Rey, *Jacobian Descent for Multi-Objective Optimization*, 2024, arXiv 2406.16232.
use super::{Balancer, Gram, GramBalancer, Stateful, StepCtx};
use crate::{Error, Result, registry, solve};
use serde::{Deserialize, Serialize};

pub(super) const ENTRY: registry::Entry<Balancer> = registry::Entry {
    info: registry::MethodInfo {
        name: "upgrad",
        paper: "Jacobian Descent for Multi-Objective Optimization",
        source: "arXiv 2406.16232",
    },
    build: |config| {
        let method = registry::parse::<UpGradConfig>(config)?.build()?;
        Ok(Box::new(Balancer::Gram(Box::new(method))))
    },
};

/// Hyper-parameters of [`UpGrad`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct UpGradConfig {
    /// Trace of the Gram matrix below which it counts as zero.
    pub norm_eps: f64,
    /// Added to the diagonal of the Gram matrix, whose trace is 1 then. Must be positive.
    pub reg_eps: f64,
}

impl Default for UpGradConfig {
    fn default() -> Self {
        Self { norm_eps: 1e-4, reg_eps: 1e-4 }
    }
}

impl UpGradConfig {
    /// Checks the values and builds the balancer.
    ///
    /// # Errors
    ///
    /// [`Error::Config`] naming the field that is out of range.
    pub fn build(self) -> Result<UpGrad> {
        for (field, value, least) in
            [("norm_eps", self.norm_eps, 0.0), ("reg_eps", self.reg_eps, f64::MIN_POSITIVE)]
        {
            if !(value >= least && value.is_finite()) {
                return Err(Error::config(field, "positive and finite", value));
            }
        }
        Ok(UpGrad { config: self })
    }
}

/// The mean of the gradients, each projected onto the directions that harm no task.
///
/// The heads get their own gradients.
///
/// ```
/// use mtl_core::{Seed, balancing::{Gram, GramBalancer, StepCtx, UpGradConfig}};
///
/// let gram = Gram::from_rows(&[vec![4.0, -1.0], vec![-1.0, 1.0]])?;
/// let mut ctx = StepCtx { losses: &[1.0, 1.0], step: 0, rng: &mut Seed(0).stream("balancer", 0) };
/// let weights = UpGradConfig::default().build()?.weights(&gram, &mut ctx)?;
/// assert!(gram.times(&weights).iter().all(|product| *product > -1e-3));
/// # Ok::<(), mtl_core::Error>(())
/// ```
#[derive(Debug)]
pub struct UpGrad {
    config: UpGradConfig,
}

impl Stateful for UpGrad {}

impl GramBalancer for UpGrad {
    fn weights(&mut self, gram: &Gram, _ctx: &mut StepCtx<'_>) -> Result<Vec<f64>> {
        let tasks = gram.tasks();
        let trace: f64 = (0..tasks).map(|k| gram.get(k, k)).sum();
        let scale = if trace < self.config.norm_eps { 0.0 } else { 1.0 / trace };
        let mut a = gram.rows();
        for (i, row) in a.iter_mut().enumerate() {
            row.iter_mut().for_each(|v| *v *= scale);
            row.iter_mut().skip(i).take(1).for_each(|v| *v += self.config.reg_eps);
        }
        let mut weights = vec![1.0 / tasks as f64; tasks];
        for k in 0..tasks {
            // v ≥ e_k/K as v = u + e_k/K with u ≥ 0.
            let linear: Vec<f64> =
                a.iter().map(|row| row.get(k).copied().unwrap_or(0.0) / tasks as f64).collect();
            let u = solve::nonnegative_min(&a, &linear)?.weights;
            weights.iter_mut().zip(u).for_each(|(w, u)| *w += u);
        }
        Ok(weights)
    }
}
