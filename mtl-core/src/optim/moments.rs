//! Running moments of gradients, which Adam and AdamW share.
use super::{check_range, check_step, copy_like, owner, unfit};
use crate::{Result, StateDict, no_grad};
use std::collections::{BTreeMap, BTreeSet};
use tch::{Kind, Tensor};

/// Suffix of the count of updates in the state.
const STEP: &str = "step";
/// Suffix of the running mean of gradients.
const FIRST: &str = "exp_avg";
/// Suffix of the running mean of squared gradients.
const SECOND: &str = "exp_avg_sq";

/// How weights decay.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum WeightDecay {
    /// As an L2 penalty in the gradient.
    Coupled(f64),
    /// Directly, in proportion to the learning rate.
    Decoupled(f64),
}

/// What one parameter has seen.
#[derive(Debug)]
struct Moments {
    step: i64,
    first: Tensor,
    second: Tensor,
}

/// The step of Adam and its state.
#[derive(Debug)]
pub(super) struct Adaptive {
    name: &'static str,
    betas: [f64; 2],
    eps: f64,
    decay: WeightDecay,
    moments: BTreeMap<String, Moments>,
}

impl Adaptive {
    pub(super) fn new(name: &'static str, betas: [f64; 2], eps: f64, decay: WeightDecay) -> Result<Self> {
        check_range("betas[0]", betas[0], 0.0, 1.0)?;
        check_range("betas[1]", betas[1], 0.0, 1.0)?;
        check_range("eps", eps, 0.0, f64::INFINITY)?;
        let (WeightDecay::Coupled(factor) | WeightDecay::Decoupled(factor)) = decay;
        check_range("weight_decay", factor, 0.0, f64::INFINITY)?;
        Ok(Self { name, betas, eps, decay, moments: BTreeMap::new() })
    }

    pub(super) fn step(&mut self, params: &mut StateDict, grads: &StateDict, lr: f64) -> Result<()> {
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

    fn update(&mut self, name: &str, param: &mut Tensor, grad: &Tensor, lr: f64) {
        let decayed = match self.decay {
            WeightDecay::Coupled(factor) if factor != 0.0 => Some(grad + &*param * factor),
            WeightDecay::Decoupled(factor) if factor != 0.0 => {
                let _ = param.g_mul_scalar_(1.0 - lr * factor);
                None
            }
            _ => None,
        };
        let grad = decayed.as_ref().unwrap_or(grad);
        if !self.moments.contains_key(name) {
            let fresh = Moments { step: 0, first: grad.zeros_like(), second: grad.zeros_like() };
            self.moments.insert(name.to_owned(), fresh);
        }
        let Some(Moments { step, first, second }) = self.moments.get_mut(name) else { return };
        let [beta1, beta2] = self.betas;
        *step += 1;
        let _ = first.lerp_(grad, 1.0 - beta1);
        let _ = second.g_mul_scalar_(beta2).addcmul_(&(grad * (1.0 - beta2)), grad);
        if lr == 0.0 {
            return; // The division below is by the rate.
        }
        let age = *step as f64;
        let rate = lr / (1.0 - beta1.powf(age));
        let bias2 = (1.0 - beta2.powf(age)).sqrt();
        // θ − rate · m / (√v / bias2 + eps), with −rate moved into the denominator: tch's `addcdiv_` has no factor.
        let mut denominator = second.sqrt();
        let _ = denominator.g_mul_scalar_(-1.0 / (bias2 * rate)).g_add_scalar_(-self.eps / rate);
        let _ = param.addcdiv_(first, &denominator);
    }

    pub(super) fn state(&self) -> StateDict {
        let entries = |(name, m): (&String, &Moments)| {
            [
                (format!("{name}.{STEP}"), Tensor::from(m.step)),
                (format!("{name}.{FIRST}"), m.first.shallow_clone()),
                (format!("{name}.{SECOND}"), m.second.shallow_clone()),
            ]
        };
        self.moments.iter().flat_map(entries).collect()
    }

    pub(super) fn load_state(&mut self, state: &StateDict, params: &StateDict) -> Result<()> {
        let mut names = BTreeSet::new();
        for entry in state.names() {
            match owner(entry, params) {
                Some((name, STEP | FIRST | SECOND)) => names.insert(name),
                _ => return Err(unfit(self.name, entry, "is not expected")),
            };
        }
        let find = |name: &str, suffix: &str| {
            let entry = format!("{name}.{suffix}");
            match state.get(&entry) {
                Some(tensor) => Ok((entry, tensor)),
                None => Err(unfit(self.name, &entry, "is missing")),
            }
        };
        let mut moments = BTreeMap::new();
        for name in names {
            let Some(param) = params.get(name) else { continue };
            let [(count, step), (m, first), (v, second)] =
                [find(name, STEP)?, find(name, FIRST)?, find(name, SECOND)?];
            if step.numel() != 1 || step.kind() != Kind::Int64 || step.int64_value(&[]) < 1 {
                return Err(unfit(self.name, &count, "is not a positive count of kind Int64"));
            }
            let first = copy_like(self.name, &m, first, param)?;
            let second = copy_like(self.name, &v, second, param)?;
            moments.insert(name.to_owned(), Moments { step: step.int64_value(&[]), first, second });
        }
        self.moments = moments;
        Ok(())
    }
}
