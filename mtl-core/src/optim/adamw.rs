//! AdamW: Loshchilov & Hutter, *Decoupled Weight Decay Regularization*, ICLR 2019, arXiv 1711.05101. The arithmetic is
//! that of `torch.optim.AdamW`.
use super::{
    Optimizer,
    moments::{Adaptive, WeightDecay},
};
use crate::{Result, StateDict, registry};
use serde::{Deserialize, Serialize};

pub(super) const ENTRY: registry::Entry<dyn Optimizer> = registry::Entry {
    info: registry::MethodInfo {
        name: "adamw",
        paper: "Decoupled Weight Decay Regularization",
        source: "arXiv 1711.05101",
    },
    build: |config| Ok(Box::new(registry::parse::<AdamWConfig>(config)?.build()?)),
};

/// Hyper-parameters of [`AdamW`]; the default is PyTorch's.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct AdamWConfig {
    /// Decay of the running means of gradients and of their squares, each in `[0, 1)`.
    pub betas: [f64; 2],
    /// Added to the root of the second moment. At least 0.
    pub eps: f64,
    /// Share of each weight that a step of learning rate 1 would remove. At least 0.
    pub weight_decay: f64,
}

impl Default for AdamWConfig {
    fn default() -> Self {
        Self { betas: [0.9, 0.999], eps: 1e-8, weight_decay: 0.01 }
    }
}

impl AdamWConfig {
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
    pub fn build(self) -> Result<AdamW> {
        let decay = WeightDecay::Decoupled(self.weight_decay);
        Ok(AdamW(Adaptive::new("adamw", self.betas, self.eps, decay)?))
    }
}

/// Adam whose weights decay directly, not through the gradient.
///
/// ```
/// use mtl_core::{StateDict, optim::{AdamWConfig, Optimizer}};
/// use tch::Tensor;
///
/// let dict = |v: f64| StateDict::from_iter([("w".to_owned(), Tensor::from_slice(&[v]))]);
/// let mut params = dict(1.0).trainable();
/// let mut adamw = AdamWConfig::default().weight_decay(0.5).build()?;
/// adamw.step(&mut params, &dict(0.0), 0.1)?; // Without a gradient only the decay is left.
/// assert_eq!(params.get("w").unwrap().double_value(&[0]), 0.95);
/// # Ok::<(), mtl_core::Error>(())
/// ```
#[derive(Debug)]
pub struct AdamW(Adaptive);

impl Optimizer for AdamW {
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
