//! DB-MTL: Lin et al., *Dual-Balancing for Multi-Task Learning*, 2023, arXiv 2308.12029.
use super::{Balancer, GradientBalancer, Stateful, StepCtx, TaskGrads, memory};
use crate::{Error, Result, StateDict, registry};
use serde::{Deserialize, Serialize};

pub(super) const ENTRY: registry::Entry<Balancer> = registry::Entry {
    info: registry::MethodInfo {
        name: "db_mtl",
        paper: "Dual-Balancing for Multi-Task Learning",
        source: "arXiv 2308.12029",
    },
    build: |config| {
        let method = registry::parse::<DbMtlConfig>(config)?.build()?;
        Ok(Box::new(Balancer::Gradients(Box::new(method))))
    },
};

/// Hyper-parameters of [`DbMtl`]; the defaults are LibMTL's, as the paper tunes both.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct DbMtlConfig {
    /// Share of the past in the running gradients, in `[0, 1)`; β t^(−`sigma`) in step t.
    pub beta: f64,
    /// How fast the past loses its share. At least 0.
    pub sigma: f64,
}

impl Default for DbMtlConfig {
    fn default() -> Self {
        Self { beta: 0.9, sigma: 0.0 }
    }
}

impl DbMtlConfig {
    /// Sets the share of the past in the running gradients.
    #[must_use]
    pub fn beta(mut self, beta: f64) -> Self {
        self.beta = beta;
        self
    }

    /// Sets how fast the past loses its share.
    #[must_use]
    pub fn sigma(mut self, sigma: f64) -> Self {
        self.sigma = sigma;
        self
    }

    /// Checks the values and builds the balancer.
    ///
    /// # Errors
    ///
    /// [`Error::Config`] naming the field that is out of range.
    pub fn build(self) -> Result<DbMtl> {
        if !(0.0..1.0).contains(&self.beta) {
            return Err(Error::config("beta", "at least 0 and below 1", self.beta));
        }
        if !(self.sigma >= 0.0 && self.sigma.is_finite()) {
            return Err(Error::config("sigma", "at least 0 and finite", self.sigma));
        }
        let buffers = memory::TaskBuffers::default();
        Ok(DbMtl { config: self, step: 0, buffers, factors: Vec::new() })
    }
}

/// Balances scales twice: the losses by their logarithms, and the running means of those gradients by bringing all to the
/// length of the longest before they are summed.
///
/// The heads get the gradient of the log of their own loss, 1 / (L_k + 1e-8) times their own; a single task is rescaled so,
/// too, and smoothed. Losses must be positive. Keeps one gradient per task; gradients of a representation, which belong to a
/// batch, are refused.
///
/// ```
/// use mtl_core::{Seed, StateDict, balancing::{DbMtlConfig, GradientBalancer, StepCtx, TaskGrads}};
/// use tch::Tensor;
///
/// let dict = |v: [f64; 2]| StateDict::from_iter([("w".to_owned(), Tensor::from_slice(&v))]);
/// let grads = TaskGrads::new(vec![dict([3.0, 0.0]), dict([0.0, 0.1])])?;
/// let mut ctx = StepCtx { losses: &[2.0, 1.0], step: 0, rng: &mut Seed(0).stream("balancer", 0) };
/// let (direction, _) = DbMtlConfig::default().beta(0.0).build()?.direction(&grads, &mut ctx)?;
/// assert!((direction.get("w").unwrap().double_value(&[1]) - 1.5).abs() < 1e-6); // As long as 3 / 2.
/// # Ok::<(), mtl_core::Error>(())
/// ```
#[derive(Debug)]
pub struct DbMtl {
    config: DbMtlConfig,
    /// Steps made.
    step: u64,
    buffers: memory::TaskBuffers,
    /// 1 / L as of the last step.
    factors: Vec<f64>,
}

impl Stateful for DbMtl {
    fn state(&self) -> StateDict {
        if self.step == 0 {
            return StateDict::new();
        }
        self.buffers.save(memory::save(&[("step", &[self.step as f64])]))
    }

    fn load_state(&mut self, state: &StateDict) -> Result<()> {
        let (buffers, rest) = memory::TaskBuffers::load("db_mtl", state)?;
        let [step] = memory::load("db_mtl", &rest, [memory::Slot::One("step")])?;
        if step.is_empty() && !state.is_empty() {
            return Err(memory::unfit("db_mtl", "step", "is missing"));
        }
        self.step = step.first().map_or(0, |step| *step as u64);
        self.buffers = buffers;
        self.factors.clear();
        Ok(())
    }
}

impl GradientBalancer for DbMtl {
    fn direction(
        &mut self,
        grads: &TaskGrads,
        ctx: &mut StepCtx<'_>,
    ) -> Result<(StateDict, Option<Vec<f64>>)> {
        let tasks = grads.tasks();
        let losses = memory::losses_of(ctx, tasks)?;
        memory::positive(losses, "its logarithm is minimised")?;
        memory::of_parameters(grads)?;
        memory::lengths(grads)?;
        let factors: Vec<f64> = losses.iter().map(|loss| 1.0 / (loss + 1e-8)).collect();
        let past = self.config.beta / ((self.step + 1) as f64).powf(self.config.sigma);
        self.buffers.update(grads, |task, buffer, grad| {
            let _ = match (grad, factors.get(task)) {
                (Some(grad), Some(factor)) => buffer.lerp_(&(grad * *factor), 1.0 - past),
                _ => buffer.g_mul_scalar_(past),
            };
        })?;
        self.step += 1;
        self.factors = factors;
        let running = self.buffers.as_grads(tasks)?;
        let lengths = memory::lengths(&running)?;
        let longest = lengths.iter().copied().fold(0.0, f64::max);
        let weights: Vec<f64> = lengths.iter().map(|length| longest / (length + 1e-8)).collect();
        Ok((running.combine(&weights)?, None))
    }

    fn loss_scale(&self) -> Option<Vec<f64>> {
        (!self.factors.is_empty()).then(|| self.factors.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Seed, balancing::HeadGrad};
    use tch::Tensor;

    #[test]
    fn heads_get_the_gradient_of_the_logarithm() {
        let mut db_mtl = *(ENTRY.build)(serde_json::json!({})).unwrap();
        let dict = |v: f64| StateDict::from_iter([("w".to_owned(), Tensor::from_slice(&[v]))]);
        let grads = TaskGrads::new(vec![dict(1.0), dict(2.0)]).unwrap();
        let mut ctx = StepCtx { losses: &[2.0, 0.5], step: 0, rng: &mut Seed(0).stream("test", 0) };
        let found = db_mtl.combine(&grads, &mut ctx).unwrap();
        let factors = db_mtl.head_factors(HeadGrad::Own, found.weights.as_deref(), 2);
        assert!((factors[0] - 0.5).abs() < 1e-8 && (factors[1] - 2.0).abs() < 1e-7);
    }

    #[test]
    fn bad_input_is_refused() {
        assert!(DbMtlConfig::default().beta(1.0).build().is_err());
        assert!(DbMtlConfig::default().sigma(-1.0).build().is_err());
        let value = Tensor::from_slice(&[1.0, 2.0]).view([2, 1]);
        let grads = TaskGrads::of_representation(&value, vec![value.shallow_clone()]).unwrap();
        let mut ctx = StepCtx { losses: &[1.0], step: 0, rng: &mut Seed(0).stream("test", 0) };
        let err = DbMtlConfig::default().build().unwrap().direction(&grads, &mut ctx).unwrap_err();
        insta::assert_snapshot!(err, @"`gradients` must be of parameters, as running means over steps are taken, but is of a representation");
        ctx.losses = &[0.0];
        let err = DbMtlConfig::default().build().unwrap().direction(&grads, &mut ctx).unwrap_err();
        insta::assert_snapshot!(err, @"`loss of task 0` must be positive, as its logarithm is minimised, but is 0");
    }
}
