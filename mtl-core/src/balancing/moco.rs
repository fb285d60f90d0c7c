//! MoCo: Fernando et al., *Mitigating Gradient Bias in Multi-objective Learning: A Provably Convergent Approach*,
//! ICLR 2023.
use super::{Balancer, GradientBalancer, Stateful, StepCtx, TaskGrads, memory};
use crate::{Error, Result, StateDict, registry};
use serde::{Deserialize, Serialize};

pub(super) const ENTRY: registry::Entry<Balancer> = registry::Entry {
    info: registry::MethodInfo {
        name: "moco",
        paper: "Mitigating Gradient Bias in Multi-objective Learning: A Provably Convergent Approach",
        source: "ICLR 2023",
    },
    build: |config| {
        let method = registry::parse::<MoCoConfig>(config)?.build()?;
        Ok(Box::new(Balancer::Gradients(Box::new(method))))
    },
};

/// Hyper-parameters of [`MoCo`]; the defaults are those of the released program.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct MoCoConfig {
    /// Rate at which the running gradients follow, in `(0, 1]`; β t^(−`beta_sigma`) in step t.
    pub beta: f64,
    /// How fast that rate decays. At least 0.
    pub beta_sigma: f64,
    /// Learning rate of the weights; γ t^(−`gamma_sigma`) in step t. Positive.
    pub gamma: f64,
    /// How fast that rate decays. At least 0.
    pub gamma_sigma: f64,
    /// Factor of the L2 penalty on the weights. At least 0.
    pub rho: f64,
}

impl Default for MoCoConfig {
    fn default() -> Self {
        Self { beta: 0.5, beta_sigma: 0.5, gamma: 0.1, gamma_sigma: 0.5, rho: 0.0 }
    }
}

impl MoCoConfig {
    /// Sets the rate of the running gradients.
    #[must_use]
    pub fn beta(mut self, beta: f64) -> Self {
        self.beta = beta;
        self
    }

    /// Sets how fast the rate of the running gradients decays.
    #[must_use]
    pub fn beta_sigma(mut self, sigma: f64) -> Self {
        self.beta_sigma = sigma;
        self
    }

    /// Sets the learning rate of the weights.
    #[must_use]
    pub fn gamma(mut self, gamma: f64) -> Self {
        self.gamma = gamma;
        self
    }

    /// Sets how fast the learning rate of the weights decays.
    #[must_use]
    pub fn gamma_sigma(mut self, sigma: f64) -> Self {
        self.gamma_sigma = sigma;
        self
    }

    /// Sets the penalty on the weights.
    #[must_use]
    pub fn rho(mut self, rho: f64) -> Self {
        self.rho = rho;
        self
    }

    /// Checks the values and builds the balancer.
    ///
    /// # Errors
    ///
    /// [`Error::Config`] naming the field that is out of range.
    pub fn build(self) -> Result<MoCo> {
        if !(self.beta > 0.0 && self.beta <= 1.0) {
            return Err(Error::config("beta", "above 0 and at most 1", self.beta));
        }
        if !(self.gamma > 0.0 && self.gamma.is_finite()) {
            return Err(Error::config("gamma", "positive and finite", self.gamma));
        }
        for (field, value) in
            [("beta_sigma", self.beta_sigma), ("gamma_sigma", self.gamma_sigma), ("rho", self.rho)]
        {
            if !(value >= 0.0 && value.is_finite()) {
                return Err(Error::config(field, "at least 0 and finite", value));
            }
        }
        let buffers = memory::TaskBuffers::default();
        Ok(MoCo { config: self, step: 0, lambda: Vec::new(), buffers })
    }
}

/// Combines running means Y of the task gradients, which have less noise than those of one batch, with weights
/// λ ← softmax(λ − γ (Y Yᵀ + ρ I) λ) that seek the shortest combination.
///
/// Each gradient enters with the length of its loss, g_k / ‖g_k‖ · L_k, whatever its own; this rescales a single task, too.
/// The heads get their own gradients. Keeps one gradient per task; gradients of a representation, which belong to a batch,
/// are refused.
///
/// # Departures
///
/// Both the lengths and the softmax are those of the authors' program; the paper has neither and projects λ on the simplex.
///
/// ```
/// use mtl_core::{Seed, StateDict, balancing::{GradientBalancer, MoCoConfig, StepCtx, TaskGrads}};
/// use tch::Tensor;
///
/// let dict = |v: [f64; 2]| StateDict::from_iter([("w".to_owned(), Tensor::from_slice(&v))]);
/// let grads = TaskGrads::new(vec![dict([3.0, 0.0]), dict([0.0, 0.1])])?;
/// let mut ctx = StepCtx { losses: &[1.0, 1.0], step: 0, rng: &mut Seed(0).stream("balancer", 0) };
/// let (direction, _) = MoCoConfig::default().build()?.direction(&grads, &mut ctx)?;
/// assert!((direction.get("w").unwrap().double_value(&[1]) - 0.25).abs() < 1e-6); // ½ · ½ · 1
/// # Ok::<(), mtl_core::Error>(())
/// ```
#[derive(Debug)]
pub struct MoCo {
    config: MoCoConfig,
    /// Steps made.
    step: u64,
    lambda: Vec<f64>,
    /// Y.
    buffers: memory::TaskBuffers,
}

impl Stateful for MoCo {
    fn state(&self) -> StateDict {
        if self.lambda.is_empty() {
            return StateDict::new();
        }
        self.buffers.save(memory::save(&[("lambda", &self.lambda), ("step", &[self.step as f64])]))
    }

    fn load_state(&mut self, state: &StateDict) -> Result<()> {
        let (buffers, rest) = memory::TaskBuffers::load("moco", state)?;
        let slots = [memory::Slot::Tasks("lambda"), memory::Slot::One("step")];
        let [lambda, step] = memory::load("moco", &rest, slots)?;
        buffers.check_tasks("moco", lambda.len())?;
        self.step = step.first().map_or(0, |step| *step as u64);
        (self.lambda, self.buffers) = (lambda, buffers);
        Ok(())
    }
}

impl GradientBalancer for MoCo {
    fn direction(
        &mut self,
        grads: &TaskGrads,
        ctx: &mut StepCtx<'_>,
    ) -> Result<(StateDict, Option<Vec<f64>>)> {
        let MoCoConfig { beta, beta_sigma, gamma, gamma_sigma, rho } = self.config;
        let tasks = grads.tasks();
        let losses = memory::losses_of(ctx, tasks)?;
        memory::of_parameters(grads)?;
        if self.lambda.is_empty() {
            self.lambda = vec![1.0 / tasks as f64; tasks];
        }
        memory::same_tasks("losses", self.lambda.len(), tasks)?;
        let lengths = memory::lengths(grads)?;
        let factors: Vec<f64> = lengths.iter().zip(losses).map(|(n, loss)| loss / (n + 1e-8)).collect();
        let age = (self.step + 1) as f64;
        let rate = beta / age.powf(beta_sigma);
        self.buffers.update(grads, |task, buffer, grad| {
            let _ = match (grad, factors.get(task)) {
                (Some(grad), Some(factor)) => buffer.lerp_(&(grad * *factor), rate),
                _ => buffer.g_mul_scalar_(1.0 - rate),
            };
        })?;
        self.step += 1;
        let running = self.buffers.as_grads(tasks)?;
        let products = running.gram()?.times(&self.lambda);
        let speed = gamma / age.powf(gamma_sigma);
        let moved: Vec<f64> =
            self.lambda.iter().zip(&products).map(|(l, p)| l - speed * (p + rho * l)).collect();
        self.lambda = memory::softmax(&moved);
        Ok((running.combine(&self.lambda)?, None))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_out_of_range_are_refused() {
        for bad in [
            MoCoConfig::default().beta(0.0),
            MoCoConfig::default().beta(1.5),
            MoCoConfig::default().gamma(0.0),
            MoCoConfig::default().rho(-1.0),
            MoCoConfig::default().beta_sigma(f64::NAN),
        ] {
            assert!(matches!(bad.build(), Err(Error::Config { .. })));
        }
    }
}
