//! PCGrad: Yu et al., *Gradient Surgery for Multi-Task Learning*, NeurIPS 2020, arXiv 2001.06782.
//!
//! A projected gradient is a sum of task gradients, so it is kept as its row of coefficients `c`: with the Gram matrix
//! `A`, `⟨p, g_j⟩ = c · A_j` and a projection changes one coefficient. This costs `O(tasks³)` numbers, whatever the
//! number of parameters.
use super::{Balancer, Gram, GramBalancer, Stateful, StepCtx};
use crate::{Error, Result, registry};
use rand::seq::SliceRandom;
use serde::{Deserialize, Serialize};

pub(super) const ENTRY: registry::Entry<Balancer> = registry::Entry {
    info: registry::MethodInfo {
        name: "pcgrad",
        paper: "Gradient Surgery for Multi-Task Learning",
        source: "arXiv 2001.06782",
    },
    build: |config| {
        let method = registry::parse::<PcGradConfig>(config)?.build()?;
        Ok(Box::new(Balancer::Gram(Box::new(method))))
    },
};

/// Hyper-parameters of [`PcGrad`]; the defaults are the paper's.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct PcGradConfig {
    /// Visit the other tasks in random order.
    pub shuffle: bool,
    /// Added to squared norms before division. Must be positive.
    pub eps: f64,
}

impl Default for PcGradConfig {
    fn default() -> Self {
        Self { shuffle: true, eps: 1e-8 }
    }
}

impl PcGradConfig {
    /// Sets whether the other tasks are visited in random order.
    #[must_use]
    pub fn shuffle(mut self, shuffle: bool) -> Self {
        self.shuffle = shuffle;
        self
    }

    /// Sets what is added to squared norms.
    #[must_use]
    pub fn eps(mut self, eps: f64) -> Self {
        self.eps = eps;
        self
    }

    /// Checks the values and builds the balancer.
    ///
    /// # Errors
    ///
    /// [`Error::Config`] when `eps` is not positive and finite.
    pub fn build(self) -> Result<PcGrad> {
        if !(0.0 < self.eps && self.eps.is_finite()) {
            return Err(Error::config("eps", "positive and finite", self.eps));
        }
        Ok(PcGrad { config: self })
    }
}

/// Projects each task gradient off the gradients it conflicts with, then sums.
///
/// The doc of [`GramBalancer`] has an example.
///
/// The heads get their own gradients.
#[derive(Debug)]
pub struct PcGrad {
    config: PcGradConfig,
}

impl PcGrad {
    /// Coefficients of task `task`'s gradient after it was projected off the others in the given order.
    pub fn project(&self, gram: &Gram, task: usize, order: &[usize]) -> Vec<f64> {
        let mut row = vec![0.0; gram.tasks()];
        row.iter_mut().skip(task).take(1).for_each(|c| *c = 1.0);
        for &other in order.iter().filter(|&&other| other != task) {
            let dot: f64 = gram.row(other).iter().zip(&row).map(|(a, c)| a * c).sum();
            // Only a negative product is a conflict: agreeing gradients stay as they are.
            if let Some(c) = row.get_mut(other).filter(|_| dot < 0.0) {
                *c -= dot / (gram.get(other, other) + self.config.eps);
            }
        }
        row
    }
}

impl Stateful for PcGrad {}

impl GramBalancer for PcGrad {
    fn weights(&mut self, gram: &Gram, ctx: &mut StepCtx<'_>) -> Result<Vec<f64>> {
        let tasks = gram.tasks();
        let mut weights = vec![0.0; tasks];
        for task in 0..tasks {
            let mut order: Vec<usize> = (0..tasks).filter(|&other| other != task).collect();
            if self.config.shuffle {
                order.shuffle(ctx.rng);
            }
            let row = self.project(gram, task, &order);
            weights.iter_mut().zip(row).for_each(|(total, c)| *total += c);
        }
        Ok(weights)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Seed;
    use proptest::prelude::*;

    fn gram(grads: &[Vec<f64>]) -> Gram {
        let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(x, y)| x * y).sum();
        let rows: Vec<Vec<f64>> = grads.iter().map(|a| grads.iter().map(|b| dot(a, b)).collect()).collect();
        Gram::from_rows(&rows).unwrap()
    }

    fn weights(gram: &Gram) -> Vec<f64> {
        let losses = vec![1.0; gram.tasks()];
        let mut rng = Seed(1).stream("test", 0);
        let mut ctx = StepCtx { losses: &losses, step: 0, rng: &mut rng };
        PcGradConfig::default().build().unwrap().weights(gram, &mut ctx).unwrap()
    }

    fn gradients(tasks: usize) -> impl Strategy<Value = Vec<Vec<f64>>> {
        prop::collection::vec(prop::collection::vec(-3.0..3.0f64, 4), tasks)
    }

    proptest! {
        #[test]
        fn without_conflict_it_is_the_sum(grads in gradients(4)) {
            let positive: Vec<Vec<f64>> =
                grads.iter().map(|g| g.iter().map(|v| v.abs()).collect()).collect();
            prop_assert_eq!(weights(&gram(&positive)), vec![1.0; 4]);
        }

        #[test]
        fn with_two_tasks_the_update_conflicts_with_neither(grads in gradients(2)) {
            let gram = gram(&grads);
            for (product, task) in gram.times(&weights(&gram)).into_iter().zip(0..) {
                prop_assert!(product >= -1e-6 * (1.0 + gram.get(task, task)), "{product}");
            }
        }

        #[test]
        fn a_single_task_gets_its_gradient(grads in gradients(1)) {
            prop_assert_eq!(weights(&gram(&grads)), vec![1.0]);
        }

        #[test]
        fn renaming_the_tasks_renames_the_coefficients(grads in gradients(4), shift in 1usize..4) {
            let pcgrad = PcGradConfig::default().build().unwrap();
            let moved: Vec<Vec<f64>> = (0..4).map(|task| grads[(task + shift) % 4].clone()).collect();
            let order = [2, 0, 3, 1];
            let shifted = order.map(|task| (task + shift) % 4);
            let row = pcgrad.project(&gram(&moved), 1, &order);
            let want = pcgrad.project(&gram(&grads), (1 + shift) % 4, &shifted);
            for task in 0..4 {
                prop_assert!((row[task] - want[(task + shift) % 4]).abs() < 1e-9 * (1.0 + row[task].abs()));
            }
        }
    }

    #[test]
    fn an_eps_of_zero_is_refused() {
        let err = PcGradConfig::default().eps(0.0).build().unwrap_err();
        insta::assert_snapshot!(err, @"`eps` must be positive and finite, but is 0");
    }
}
