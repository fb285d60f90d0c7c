//! MGDA: Désidéri, *Multiple-gradient descent algorithm for multiobjective optimization*, Comptes Rendus Mathematique 350,
//! 2012; for multi-task learning Sener and Koltun, NeurIPS 2018, arXiv 1810.04650.
use super::{Balancer, Gram, GramBalancer, Stateful, StepCtx};
use crate::{Error, Result, registry, solve};
use serde::{Deserialize, Serialize};

pub(super) const ENTRY: registry::Entry<Balancer> = registry::Entry {
    info: registry::MethodInfo {
        name: "mgda",
        paper: "Multi-Task Learning as Multi-Objective Optimization",
        source: "arXiv 1810.04650",
    },
    build: |config| {
        let method = registry::parse::<MgdaConfig>(config)?.build()?;
        Ok(Box::new(Balancer::Gram(Box::new(method))))
    },
};

/// What each gradient is divided by before the problem is solved.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum MgdaNormalisation {
    /// Nothing.
    #[default]
    None,
    /// Its length.
    Length,
    /// The task's loss.
    Loss,
    /// The product of both.
    LossAndLength,
}

/// Hyper-parameters of [`Mgda`].
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct MgdaConfig {
    /// What each gradient is divided by.
    pub normalisation: MgdaNormalisation,
}

impl MgdaConfig {
    /// Sets what each gradient is divided by.
    #[must_use]
    pub fn normalisation(mut self, normalisation: MgdaNormalisation) -> Self {
        self.normalisation = normalisation;
        self
    }

    /// Builds the balancer.
    ///
    /// # Errors
    ///
    /// None today.
    pub fn build(self) -> Result<Mgda> {
        Ok(Mgda { config: self })
    }
}

/// The shortest vector in the convex hull of the (normalised) gradients, exactly. It is a descent direction of every task,
/// and zero only where no direction is: ⟨v, g_k⟩ ≥ ‖v‖² for all k. A task whose gradient is zero makes it zero.
///
/// ```
/// use mtl_core::{Seed, balancing::{Gram, GramBalancer, MgdaConfig, StepCtx}};
///
/// let gram = Gram::from_rows(&[vec![4.0, -1.0], vec![-1.0, 1.0]])?;
/// let mut ctx = StepCtx { losses: &[1.0, 1.0], step: 0, rng: &mut Seed(0).stream("balancer", 0) };
/// let weights = MgdaConfig::default().build()?.weights(&gram, &mut ctx)?;
/// assert!((weights[0] - 2.0 / 7.0).abs() < 1e-12);
/// # Ok::<(), mtl_core::Error>(())
/// ```
#[derive(Debug)]
pub struct Mgda {
    config: MgdaConfig,
}

impl Stateful for Mgda {}

impl GramBalancer for Mgda {
    fn weights(&mut self, gram: &Gram, ctx: &mut StepCtx<'_>) -> Result<Vec<f64>> {
        let loss = |k: usize| ctx.losses.get(k).copied().unwrap_or(1.0);
        let divisor = |k: usize| {
            let by = match self.config.normalisation {
                MgdaNormalisation::None => 1.0,
                MgdaNormalisation::Length => gram.norm(k),
                MgdaNormalisation::Loss => loss(k),
                MgdaNormalisation::LossAndLength => loss(k) * gram.norm(k),
            };
            // A zero gradient stays zero whatever it is divided by.
            if by == 0.0 && gram.norm(k) == 0.0 { 1.0 } else { by }
        };
        let divisors: Vec<f64> = (0..gram.tasks()).map(divisor).collect();
        if let Some((k, bad)) = divisors.iter().enumerate().find(|(_, d)| !(**d > 0.0 && d.is_finite())) {
            return Err(Error::config(
                format!("loss of task {k}"),
                "positive, as gradients are divided by it",
                bad,
            ));
        }
        let scaled: Vec<f64> = divisors.iter().map(|d| 1.0 / d).collect();
        let found = solve::min_norm(&gram.scaled(&scaled))?;
        Ok(found.weights.iter().zip(&scaled).map(|(w, s)| w * s).collect())
    }
}
