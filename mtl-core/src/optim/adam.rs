//! Adam: Kingma & Ba, *Adam: A Method for Stochastic Optimization*, ICLR 2015, arXiv 1412.6980. The arithmetic is that
//! of `torch.optim.Adam`.
use super::{
    Optimizer,
    moments::{Adaptive, WeightDecay},
};
use crate::{Result, StateDict, registry};
use serde::{Deserialize, Serialize};

pub(super) const ENTRY: registry::Entry<dyn Optimizer> = registry::Entry {
    info: registry::MethodInfo {
        name: "adam",
        paper: "Adam: A Method for Stochastic Optimization",
        source: "arXiv 1412.6980",
    },
    build: |config| Ok(Box::new(registry::parse::<AdamConfig>(config)?.build()?)),
};

/// Hyper-parameters of [`Adam`]; the default is the paper's.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct AdamConfig {
    /// Decay of the running means of gradients and of their squares, each in `[0, 1)`.
    pub betas: [f64; 2],
    /// Added to the root of the second moment. At least 0.
    pub eps: f64,
    /// Factor of the L2 penalty added to the gradient. At least 0.
    pub weight_decay: f64,
}

impl Default for AdamConfig {
    fn default() -> Self {
        Self { betas: [0.9, 0.999], eps: 1e-8, weight_decay: 0.0 }
    }
}

impl AdamConfig {
    /// Sets the decays of the running means.
    #[must_use]
    pub fn betas(mut self, betas: [f64; 2]) -> Self {
        self.betas = betas;
        self
    }

    /// Sets what is added to the root of the second moment.
    #[must_use]
    pub fn eps(mut self, eps: f64) -> Self {
        self.eps = eps;
        self
    }

    /// Sets the weight decay.
    #[must_use]
    pub fn weight_decay(mut self, weight_decay: f64) -> Self {
        self.weight_decay = weight_decay;
        self
    }

    /// Checks the values and builds the optimiser.
    ///
    /// # Errors
    ///
    /// [`Error::Config`](crate::Error::Config) when a value is outside its range.
    pub fn build(self) -> Result<Adam> {
        let decay = WeightDecay::Coupled(self.weight_decay);
        Ok(Adam(Adaptive::new("adam", self.betas, self.eps, decay)?))
    }
}

/// Steps in proportion to the gradient's running mean over its running root mean square.
///
/// ```
/// use mtl_core::{StateDict, optim::{AdamConfig, Optimizer}};
/// use tch::Tensor;
///
/// let dict = |v: f64| StateDict::from_iter([("w".to_owned(), Tensor::from_slice(&[v]))]);
/// let mut params = dict(1.0).trainable();
/// let mut adam = AdamConfig::default().build()?;
/// adam.step(&mut params, &dict(-7.0), 0.1)?; // The first step has the size of the learning rate.
/// assert!((params.get("w").unwrap().double_value(&[0]) - 1.1).abs() < 1e-9);
/// # Ok::<(), mtl_core::Error>(())
/// ```
#[derive(Debug)]
pub struct Adam(Adaptive);

impl Optimizer for Adam {
    fn step(&mut self, params: &mut StateDict, grads: &StateDict, lr: f64) -> Result<()> {
        self.0.step(params, grads, lr)
    }

    fn state(&self) -> StateDict {
        self.0.state()
    }

    fn load_state(&mut self, state: &StateDict, params: &StateDict) -> Result<()> {
        self.0.load_state(state, params)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_out_of_range_are_refused() {
        let err = AdamConfig::default().betas([0.9, 1.0]).build().unwrap_err();
        insta::assert_snapshot!(err, @"`betas[1]` must be at least 0 and below 1, but is 1");
        let err = AdamConfig::default().eps(-1.0).build().unwrap_err();
        insta::assert_snapshot!(err, @"`eps` must be finite and at least 0, but is -1");
    }
}
