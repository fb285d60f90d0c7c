//! Stochastic gradient descent with momentum: Polyak, *Some methods of speeding up the convergence of iteration
//! methods*, 1964; Nesterov's variant as in Sutskever et al., *On the importance of initialization and momentum in deep
//! learning*, ICML 2013. The arithmetic is that of `torch.optim.SGD`.
use super::{Optimizer, add_scaled_, check_range, check_step, copy_like, owner, unfit};
use crate::{Error, Result, StateDict, no_grad, registry};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use tch::Tensor;

pub(super) const ENTRY: registry::Entry<dyn Optimizer> = registry::Entry {
    info: registry::MethodInfo {
        name: "sgd",
        paper: "On the importance of initialization and momentum in deep learning",
        source: "ICML 2013",
    },
    build: |config| Ok(Box::new(registry::parse::<SgdConfig>(config)?.build()?)),
};

/// Suffix of the momentum buffer in the state.
const BUFFER: &str = "momentum_buffer";

/// Hyper-parameters of [`Sgd`]; the default is plain gradient descent, as in PyTorch.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct SgdConfig {
    /// Share of the last update that is kept, in `[0, 1)`.
    pub momentum: f64,
    /// Share of the gradient that does not enter the momentum, in `[0, 1)`; 0 with `nesterov`.
    pub dampening: f64,
    /// Look ahead along the momentum; needs a positive `momentum`.
    pub nesterov: bool,
    /// Factor of the L2 penalty added to the gradient. At least 0.
    pub weight_decay: f64,
}

impl SgdConfig {
    /// Sets the momentum.
    #[must_use]
    pub fn momentum(mut self, momentum: f64) -> Self {
        self.momentum = momentum;
        self
    }

    /// Sets the dampening.
    #[must_use]
    pub fn dampening(mut self, dampening: f64) -> Self {
        self.dampening = dampening;
        self
    }

    /// Chooses Nesterov's variant.
    #[must_use]
    pub fn nesterov(mut self, nesterov: bool) -> Self {
        self.nesterov = nesterov;
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
    /// [`Error::Config`] when a value is outside its range, or `nesterov` goes with no momentum or with dampening.
    pub fn build(self) -> Result<Sgd> {
        check_range("momentum", self.momentum, 0.0, 1.0)?;
        check_range("dampening", self.dampening, 0.0, 1.0)?;
        check_range("weight_decay", self.weight_decay, 0.0, f64::INFINITY)?;
        if self.nesterov && (self.momentum == 0.0 || self.dampening != 0.0) {
            return Err(Error::config("nesterov", "false without momentum or with dampening", true));
        }
        Ok(Sgd { config: self, buffers: BTreeMap::new() })
    }
}

/// Stochastic gradient descent, with momentum where asked for.
///
/// ```
/// use mtl_core::{StateDict, optim::{Optimizer, SgdConfig}};
/// use tch::Tensor;
///
/// let dict = |v: f32| StateDict::from_iter([("w".to_owned(), Tensor::from_slice(&[v]))]);
/// let mut params = dict(1.0).trainable();
/// let mut sgd = SgdConfig::default().momentum(0.5).build()?;
/// sgd.step(&mut params, &dict(1.0), 0.1)?; // 1 − 0.1 · 1
/// sgd.step(&mut params, &dict(1.0), 0.1)?; // … − 0.1 · (0.5 · 1 + 1)
/// assert!((params.get("w").unwrap().double_value(&[0]) - 0.75).abs() < 1e-6);
/// # Ok::<(), mtl_core::Error>(())
/// ```
#[derive(Debug)]
pub struct Sgd {
    config: SgdConfig,
    buffers: BTreeMap<String, Tensor>,
}

impl Sgd {
    fn update(&mut self, name: &str, param: &mut Tensor, grad: &Tensor, lr: f64) {
        let SgdConfig { momentum, dampening, nesterov, weight_decay } = self.config;
        let decayed = (weight_decay != 0.0).then(|| grad + &*param * weight_decay);
        let grad = decayed.as_ref().unwrap_or(grad);
        if momentum == 0.0 {
            return add_scaled_(param, grad, -lr);
        }
        // The first buffer is the gradient itself, without dampening, as in PyTorch.
        let buffer = match self.buffers.get_mut(name) {
            Some(buffer) => {
                let _ = buffer.g_mul_scalar_(momentum);
                add_scaled_(buffer, grad, 1.0 - dampening);
                &*buffer
            }
            None => self.buffers.entry(name.to_owned()).or_insert(grad.copy()),
        };
        if nesterov {
            add_scaled_(param, &(grad + buffer * momentum), -lr);
        } else {
            add_scaled_(param, buffer, -lr);
        }
    }
}

impl Optimizer for Sgd {
    fn step(&mut self, params: &mut StateDict, grads: &StateDict, lr: f64) -> Result<()> {
        check_step(params, grads, lr)?;
        no_grad(|| {
            for (name, param) in params.iter_mut() {
                if let Some(grad) = grads.get(name) {
                    self.update(name, param, grad, lr);
                }
            }
        });
        Ok(())
    }

    fn state(&self) -> StateDict {
        self.buffers.iter().map(|(name, t)| (format!("{name}.{BUFFER}"), t.shallow_clone())).collect()
    }

    fn load_state(&mut self, state: &StateDict, params: &StateDict) -> Result<()> {
        let mut buffers = BTreeMap::new();
        for (entry, tensor) in state.iter() {
            match (owner(entry, params), owner(entry, params).and_then(|(name, _)| params.get(name))) {
                (Some((name, BUFFER)), Some(param)) if self.config.momentum > 0.0 => {
                    buffers.insert(name.to_owned(), copy_like("sgd", entry, tensor, param)?);
                }
                _ => return Err(unfit("sgd", entry, "is not expected")),
            }
        }
        self.buffers = buffers;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_out_of_range_are_refused() {
        let err = SgdConfig::default().momentum(1.0).build().unwrap_err();
        insta::assert_snapshot!(err, @"`momentum` must be at least 0 and below 1, but is 1");
        let err = SgdConfig::default().nesterov(true).build().unwrap_err();
        insta::assert_snapshot!(err, @"`nesterov` must be false without momentum or with dampening, but is true");
        assert!(SgdConfig::default().weight_decay(f64::NAN).build().is_err());
    }
}
