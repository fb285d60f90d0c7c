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

/// How the shortest vector is found.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum MgdaSolver {
    /// Exactly, to rounding.
    #[default]
    Exact,
    /// By at most 100 steps of Frank and Wolfe's method from equal weights, until a step is shorter than 1e-3, as released
    /// programs do: with eight conflicting tasks, weights may still be off by some hundredths.
    FrankWolfe,
}

/// Hyper-parameters of [`Mgda`].
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct MgdaConfig {
    /// What each gradient is divided by.
    pub normalisation: MgdaNormalisation,
    /// How the shortest vector is found.
    pub solver: MgdaSolver,
}

impl MgdaConfig {
    /// Sets what each gradient is divided by.
    #[must_use]
    pub fn normalisation(mut self, normalisation: MgdaNormalisation) -> Self {
        self.normalisation = normalisation;
        self
    }

    /// Sets how the shortest vector is found.
    #[must_use]
    pub fn solver(mut self, solver: MgdaSolver) -> Self {
        self.solver = solver;
        self
    }

    /// Builds the balancer.
    ///
    /// # Errors
    ///
    /// None today.
    pub fn build(self) -> Result<Mgda> {
        Ok(Mgda { config: self, warned: false })
    }
}

/// The shortest vector in the convex hull of the (normalised) gradients. It is a descent direction of every task, and zero
/// only where no direction is: ⟨v, g_k⟩ ≥ ‖v‖² for all k. A task whose gradient is zero makes it zero; that is logged once.
///
/// The heads get their own gradients.
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
    /// Whether a zero gradient was reported.
    warned: bool,
}

impl Stateful for Mgda {}

impl GramBalancer for Mgda {
    fn weights(&mut self, gram: &Gram, ctx: &mut StepCtx<'_>) -> Result<Vec<f64>> {
        if gram.tasks() == 1 {
            return Ok(vec![1.0]);
        }
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
        if !self.warned
            && let Some(task) = (0..gram.tasks()).find(|&k| gram.norm(k) == 0.0)
        {
            self.warned = true;
            tracing::warn!(
                step = ctx.step,
                task,
                "the gradient of this task is zero: MGDA gives it all the weight, and the shared parameters do not move"
            );
        }
        let rows = gram.scaled(&scaled);
        let found = match self.config.solver {
            MgdaSolver::Exact => solve::min_norm(&rows)?.weights,
            MgdaSolver::FrankWolfe => frank_wolfe(&Gram::from_rows(&rows)?),
        };
        Ok(found.iter().zip(&scaled).map(|(w, s)| w * s).collect())
    }
}

/// Steps towards the task that the combination serves least, each as long as is best on its line.
fn frank_wolfe(gram: &Gram) -> Vec<f64> {
    let tasks = gram.tasks();
    let mut weights = vec![1.0 / tasks as f64; tasks];
    for _ in 0..100 {
        let products = gram.times(&weights);
        let least = products.iter().copied().zip(0..).min_by(|(a, _), (b, _)| a.total_cmp(b));
        let Some((towards, vertex)) = least else { break };
        let squared: f64 = products.iter().zip(&weights).map(|(p, w)| p * w).sum();
        let corner = gram.get(vertex, vertex);
        let step = if corner <= towards {
            1.0
        } else if squared <= towards {
            0.0
        } else {
            (squared - towards) / (squared + corner - 2.0 * towards)
        };
        weights.iter_mut().for_each(|w| *w *= 1.0 - step);
        weights.iter_mut().skip(vertex).take(1).for_each(|w| *w += step);
        if step < 1e-3 {
            break;
        }
    }
    weights
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Seed;

    #[test]
    fn a_zero_gradient_takes_all_the_weight_and_is_reported_once() {
        let gram = Gram::from_rows(&[vec![4.0, 0.0, 1.0], vec![0.0; 3], vec![1.0, 0.0, 1.0]]).unwrap();
        let mut mgda = MgdaConfig::default().build().unwrap();
        let mut ctx = StepCtx { losses: &[1.0; 3], step: 0, rng: &mut Seed(0).stream("test", 0) };
        assert!(!mgda.warned);
        let weights = mgda.weights(&gram, &mut ctx).unwrap();
        assert!((weights[1] - 1.0).abs() < 1e-9 && mgda.warned, "{weights:?}");
    }

    #[test]
    fn two_tasks_need_one_step_of_frank_and_wolfe() {
        let gram = Gram::from_rows(&[vec![4.0, -1.0], vec![-1.0, 1.0]]).unwrap();
        let mut ctx = StepCtx { losses: &[1.0; 2], step: 0, rng: &mut Seed(0).stream("test", 0) };
        let mut mgda = MgdaConfig::default().solver(MgdaSolver::FrankWolfe).build().unwrap();
        assert!((mgda.weights(&gram, &mut ctx).unwrap()[0] - 2.0 / 7.0).abs() < 1e-12);
    }
}
