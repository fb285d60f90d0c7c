//! ExcessMTL: He et al., *Robust Multi-Task Learning with Excess Risks*, ICML 2024, arXiv 2402.02009.
use super::{Balancer, GradientBalancer, HeadGrad, REPRESENTATION, Stateful, StepCtx, TaskGrads, memory};
use crate::{Error, Result, StateDict, no_grad, registry};
use serde::{Deserialize, Serialize};
use tch::{Kind, Tensor};

pub(super) const ENTRY: registry::Entry<Balancer> = registry::Entry {
    info: registry::MethodInfo {
        name: "excess_mtl",
        paper: "Robust Multi-Task Learning with Excess Risks",
        source: "arXiv 2402.02009",
    },
    build: |config| {
        let method = registry::parse::<ExcessMtlConfig>(config)?.build()?;
        Ok(Box::new(Balancer::Gradients(Box::new(method))))
    },
};

/// Hyper-parameters of [`ExcessMtl`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct ExcessMtlConfig {
    /// Learning rate of the weights. Positive.
    pub eta: f64,
}

impl Default for ExcessMtlConfig {
    fn default() -> Self {
        Self { eta: 1e-2 }
    }
}

impl ExcessMtlConfig {
    /// Sets the learning rate of the weights.
    #[must_use]
    pub fn eta(mut self, eta: f64) -> Self {
        self.eta = eta;
        self
    }

    /// Checks the values and builds the balancer.
    ///
    /// # Errors
    ///
    /// [`Error::Config`] when `eta` is not positive and finite.
    pub fn build(self) -> Result<ExcessMtl> {
        if !(self.eta > 0.0 && self.eta.is_finite()) {
            return Err(Error::config("eta", "positive and finite", self.eta));
        }
        let buffers = memory::TaskBuffers::default();
        Ok(ExcessMtl { config: self, weights: Vec::new(), initial: Vec::new(), buffers })
    }
}

/// Weighs by excess risk, how far a task is from its own optimum, instead of by loss, so that label noise does not attract
/// weight: e_k = Σ g_k² / √S_k with the running sum S_k of g_k², and w ← w exp(η e / e(first step)), rescaled to sum K.
///
/// The heads get their gradients times the weight. Keeps the size of one gradient per task. Gradients of a representation
/// are summed over the batch first.
///
/// # Departures
///
/// A task whose gradient is zero in the first step is measured by its first other one, and its weight waits until then.
///
/// ```
/// use mtl_core::{Seed, StateDict, balancing::{ExcessMtlConfig, GradientBalancer, StepCtx, TaskGrads}};
/// use tch::Tensor;
///
/// let dict = |v: f64| StateDict::from_iter([("w".to_owned(), Tensor::from_slice(&[v]))]);
/// let mut excess = ExcessMtlConfig::default().build()?;
/// let mut ctx = StepCtx { losses: &[1.0, 1.0], step: 0, rng: &mut Seed(0).stream("balancer", 0) };
/// excess.direction(&TaskGrads::new(vec![dict(1.0), dict(1.0)])?, &mut ctx)?;
/// let (_, weights) = excess.direction(&TaskGrads::new(vec![dict(1.0), dict(0.0)])?, &mut ctx)?;
/// let ratio = weights.as_ref().unwrap()[0] / weights.as_ref().unwrap()[1];
/// assert!((ratio - (1e-2 / 2f64.sqrt()).exp()).abs() < 1e-6);
/// # Ok::<(), mtl_core::Error>(())
/// ```
#[derive(Debug)]
pub struct ExcessMtl {
    config: ExcessMtlConfig,
    weights: Vec<f64>,
    /// Excess in the first step; 0 before a task's first gradient.
    initial: Vec<f64>,
    /// Sums of squares.
    buffers: memory::TaskBuffers,
}

impl Stateful for ExcessMtl {
    fn state(&self) -> StateDict {
        if self.weights.is_empty() {
            return StateDict::new();
        }
        self.buffers.save(memory::save(&[("weights", &self.weights), ("initial_excess", &self.initial)]))
    }

    fn load_state(&mut self, state: &StateDict) -> Result<()> {
        let (buffers, rest) = memory::TaskBuffers::load("excess_mtl", state)?;
        let slots = [memory::Slot::Tasks("weights"), memory::Slot::Tasks("initial_excess")];
        let [weights, initial] = memory::load("excess_mtl", &rest, slots)?;
        buffers.check_tasks("excess_mtl", weights.len())?;
        if let Some(bad) = weights.iter().find(|w| **w < 0.0) {
            return Err(memory::unfit(
                "excess_mtl",
                "weights",
                &format!("contains {bad}, expected at least 0"),
            ));
        }
        (self.weights, self.initial, self.buffers) = (weights, initial, buffers);
        Ok(())
    }
}

impl ExcessMtl {
    /// e of each task; the sums of squares move on.
    fn excess(&mut self, grads: &TaskGrads) -> Result<Vec<f64>> {
        let mut excess = vec![0.0; grads.tasks()];
        let mut add = |task: usize, sum: &mut Tensor, grad: Option<&Tensor>| {
            let Some(grad) = grad else { return };
            let squared = grad.square();
            *sum += &squared;
            let part = (squared / (&*sum + 1e-7).sqrt()).sum(Kind::Double).double_value(&[]);
            excess.iter_mut().skip(task).take(1).for_each(|e| *e += part);
        };
        match grads.representation() {
            None => self.buffers.update(grads, &mut add)?,
            Some(_) => {
                let sum = |dict: &StateDict| {
                    let grad = dict.get(REPRESENTATION)?;
                    Some((
                        REPRESENTATION.to_owned(),
                        grad.sum_dim_intlist([0i64].as_slice(), false, grad.kind()),
                    ))
                };
                let sums =
                    no_grad(|| grads.per_task().iter().map(|d| sum(d).into_iter().collect()).collect());
                self.buffers.update(&TaskGrads::new(sums)?, &mut add)?;
            }
        }
        Ok(excess)
    }
}

impl GradientBalancer for ExcessMtl {
    fn direction(
        &mut self,
        grads: &TaskGrads,
        _ctx: &mut StepCtx<'_>,
    ) -> Result<(StateDict, Option<Vec<f64>>)> {
        let tasks = grads.tasks();
        memory::lengths(grads)?;
        if !self.weights.is_empty() {
            memory::same_tasks("gradients", self.weights.len(), tasks)?;
        }
        let excess = self.excess(grads)?;
        if self.weights.is_empty() {
            (self.weights, self.initial) = (vec![1.0; tasks], excess);
        } else {
            let mut steps = Vec::with_capacity(tasks);
            for (now, first) in excess.iter().zip(&mut self.initial) {
                let known = *first > 0.0;
                steps.push(if known { self.config.eta * now / *first } else { 0.0 });
                if !known {
                    *first = *now;
                }
            }
            // A factor common to all weights changes nothing, so the largest step may be taken as 0: no overflow.
            let largest = steps.iter().copied().fold(0.0, f64::max);
            self.weights.iter_mut().zip(&steps).for_each(|(w, step)| *w *= (step - largest).exp());
            let total: f64 = self.weights.iter().sum();
            if total <= 0.0 {
                return Err(Error::config("weights", "positive in sum", total));
            }
            self.weights.iter_mut().for_each(|w| *w *= tasks as f64 / total);
        }
        Ok((grads.combine(&self.weights)?, Some(self.weights.clone())))
    }

    fn head_grad(&self) -> HeadGrad {
        HeadGrad::Weighted
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Seed;

    #[test]
    fn a_task_without_a_first_gradient_waits_and_large_excesses_do_not_overflow() {
        let dict = |v: f64| StateDict::from_iter([("w".to_owned(), Tensor::from_slice(&[v]))]);
        let mut excess = ExcessMtlConfig::default().build().unwrap();
        let mut weights = |a: f64, b: f64| {
            let mut ctx = StepCtx { losses: &[1.0, 1.0], step: 0, rng: &mut Seed(0).stream("test", 0) };
            let grads = TaskGrads::new(vec![dict(a), dict(b)]).unwrap();
            excess.direction(&grads, &mut ctx).unwrap().1.unwrap()
        };
        assert_eq!(weights(1e-3, 0.0), [1.0, 1.0]);
        let next = weights(1e-3, 5.0);
        assert!(next[0] > 1.0 && next.iter().all(|w| w.is_finite()));
        let next = weights(1e4, 5.0);
        assert!(next[0] > 1.99 && (next[0] + next[1] - 2.0).abs() < 1e-12, "{next:?}");
    }

    #[test]
    fn bad_input_is_refused() {
        assert!(ExcessMtlConfig::default().eta(0.0).build().is_err());
        let mut excess = ExcessMtlConfig::default().build().unwrap();
        let state = memory::save(&[("weights", &[1.0, 1.0])]);
        let err = excess.load_state(&state).unwrap_err();
        insta::assert_snapshot!(err, @"parameters of `state of excess_mtl` do not fit: `initial_excess` is missing");
    }
}
