//! DSelect-k: Hazimeh et al., *DSelect-k: Differentiable Selection in the Mixture of Experts with Applications to
//! Multi-Task Learning*, NeurIPS 2021, arXiv 2106.03760.
use super::{Architecture, Backbone, Sharing, mixing};
use crate::{
    Context, Cost, Error, ParamSource, Result, Seed, StateDict,
    nn::{Init, linear},
    registry,
};
use serde::{Deserialize, Serialize};
use tch::Tensor;

pub(super) const ENTRY: registry::Entry<dyn Architecture> = registry::Entry {
    info: registry::MethodInfo {
        name: "dselect-k",
        paper: "DSelect-k: Differentiable Selection in the Mixture of Experts with Applications to Multi-Task Learning",
        source: "arXiv 2106.03760",
    },
    build: |config| Ok(Box::new(registry::parse::<DSelectKConfig>(config)?.build()?)),
};

/// Hyper-parameters of [`DSelectK`]; the defaults are those of the authors' code, which leaves the experts to the user.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct DSelectKConfig {
    /// Experts, all of them shared. At least 2.
    pub n_experts: usize,
    /// Experts that a gate selects (the paper's k). In `1..=n_experts`.
    pub num_nonzeros: usize,
    /// Width of the region in which the smooth step is neither 0 nor 1. Positive.
    pub gamma: f64,
    /// Factor of the entropy of the selectors, which makes them choose. At least 0.
    pub entropy: f64,
    /// Each example selects its experts; else each task does, for all examples.
    pub per_example: bool,
}

impl Default for DSelectKConfig {
    fn default() -> Self {
        Self { n_experts: 8, num_nonzeros: 2, gamma: 1.0, entropy: 1e-6, per_example: false }
    }
}

impl DSelectKConfig {
    /// Sets [`DSelectKConfig::n_experts`].
    #[must_use]
    pub fn n_experts(mut self, n_experts: usize) -> Self {
        self.n_experts = n_experts;
        self
    }

    /// Sets [`DSelectKConfig::num_nonzeros`].
    #[must_use]
    pub fn num_nonzeros(mut self, num_nonzeros: usize) -> Self {
        self.num_nonzeros = num_nonzeros;
        self
    }

    /// Sets [`DSelectKConfig::gamma`].
    #[must_use]
    pub fn gamma(mut self, gamma: f64) -> Self {
        self.gamma = gamma;
        self
    }

    /// Sets [`DSelectKConfig::entropy`].
    #[must_use]
    pub fn entropy(mut self, entropy: f64) -> Self {
        self.entropy = entropy;
        self
    }

    /// Sets [`DSelectKConfig::per_example`].
    #[must_use]
    pub fn per_example(mut self, per_example: bool) -> Self {
        self.per_example = per_example;
        self
    }

    /// Checks the values and builds the architecture.
    ///
    /// # Errors
    ///
    /// [`Error::Config`] when a value is outside its range.
    pub fn build(self) -> Result<DSelectK> {
        if self.n_experts < 2 {
            return Err(Error::config("n_experts", "at least 2", self.n_experts));
        }
        if !(1..=self.n_experts).contains(&self.num_nonzeros) {
            let must = format!("in 1..={}, the number of experts", self.n_experts);
            return Err(Error::config("num_nonzeros", must, self.num_nonzeros));
        }
        if !(0.0 < self.gamma && self.gamma.is_finite()) {
            return Err(Error::config("gamma", "positive and finite", self.gamma));
        }
        if !(0.0 <= self.entropy && self.entropy.is_finite()) {
            return Err(Error::config("entropy", "finite and at least 0", self.entropy));
        }
        Ok(DSelectK { config: self })
    }
}

/// Shared experts, `experts.{e}.stage{s}`, of which a gate selects k for each task, or for each example of it.
///
/// The gate of a task has k selectors. Its logits are the parameters `selectors.{task}.z` `[k, bits]` and
/// `selectors.{task}.w` `[k]` or, for each example, linear maps of the flattened input of these names. The gates are
/// traced as `gates.{task}`.
///
/// In training each task adds an auxiliary loss `dselect_k.{task}`: `entropy` times the entropy of its selectors, summed
/// over selectors and examples, and, where the number of experts is no power of two, the sum of 1 / (weight on experts
/// that exist). A learner multiplies it by its own factor.
///
/// ```
/// use mtl_core::{Context, Seed, TaskSpec, architectures::{Architecture, DSelectKConfig}, models::Mlp};
/// use std::sync::Arc;
/// use tch::{Device, Kind, Tensor};
///
/// let tasks = vec![TaskSpec::classification("digit", 10), TaskSpec::classification("parity", 2)];
/// let gate = DSelectKConfig::default().n_experts(4).num_nonzeros(2).build()?;
/// let model = gate.model(Arc::new(Mlp::new(&[4, 8])?), tasks)?;
/// let params = model.init(Seed(0))?;
/// let ctx = Context::train(Seed(0), 0);
/// let x = Tensor::ones([5, 4], (Kind::Float, Device::Cpu));
/// assert_eq!(model.forward_all(&params, &x.into(), &ctx)?[1].size(), [5, 2]);
/// assert_eq!(ctx.take_aux()[1].0, "dselect_k.parity");
/// # Ok::<(), mtl_core::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct DSelectK {
    config: DSelectKConfig,
}

/// The smooth step: 0 up to −γ/2, 1 from γ/2 on, and `−2t³/γ³ + 3t/(2γ) + 1/2` between.
///
/// ```
/// use mtl_core::architectures::smooth_step;
/// use tch::Tensor;
///
/// let s = smooth_step(&Tensor::from_slice(&[-3.0f64, 0.0, 0.25, 3.0]), 1.0);
/// assert_eq!([0, 1, 2, 3].map(|i| s.double_value(&[i])), [0.0, 0.5, 0.84375, 1.0]);
/// ```
pub fn smooth_step(t: &Tensor, gamma: f64) -> Tensor {
    // Beyond ±γ/2 the cubic continues as a constant: clamping gives its value and a gradient of 0.
    let t = t.clamp(-gamma / 2.0, gamma / 2.0);
    &t * &t * &t * (-2.0 / gamma.powi(3)) + &t * (1.5 / gamma) + 0.5
}

/// Weights of single-expert selectors `[…, k, experts]` from their logits `z` `[…, k, bits]`.
///
/// Expert i is chosen by the product over the bits of i, the highest first, of S for a one and 1 − S for a zero;
/// `bits` is ⌈log2 experts⌉.
///
/// # Errors
///
/// [`Error::Shape`] when `z` has another number of bits.
pub fn selectors(z: &Tensor, gamma: f64, n_experts: usize) -> Result<Tensor> {
    let bits = bits(n_experts);
    crate::check::last_dim(z, "logits of the selectors", bits)?;
    let on = smooth_step(z, gamma);
    let off: Tensor = 1.0 - &on;
    let expert = |i: usize| -> Tensor {
        let factor = |b: i64| {
            let set = (i >> (bits - 1 - b)) & 1 == 1;
            if set { on.select(-1, b) } else { off.select(-1, b) }
        };
        (1..bits).fold(factor(0), |product, b| product * factor(b))
    };
    Ok(Tensor::stack(&(0..n_experts).map(expert).collect::<Vec<_>>(), -1))
}

/// The gate `[…, experts]`: the selectors `[…, k, experts]` weighted by the softmax of `w` `[…, k]`.
pub fn dselect_gate(selectors: &Tensor, w: &Tensor) -> Tensor {
    (selectors * w.softmax(-1, None).unsqueeze(-1)).sum_dim_intlist([-2i64].as_slice(), false, None)
}

/// The entropy of `selectors` `[…, experts]`, `−Σ r · ln(r + 1e-6)`, summed over everything.
pub fn selector_entropy(selectors: &Tensor) -> Tensor {
    -(selectors * (selectors + 1e-6).log()).sum(selectors.kind())
}

fn bits(n_experts: usize) -> i64 {
    i64::from(n_experts.max(2).next_power_of_two().trailing_zeros())
}

fn selector_name(backbone: &Backbone, task: usize, part: &str) -> String {
    format!("selectors.{}.{part}", backbone.task_name(task))
}

impl DSelectK {
    /// The selectors `[…, k, experts]` and the gate `[…, experts]` of `task`, for the flattened input.
    fn gate(
        &self,
        backbone: &Backbone,
        params: &dyn ParamSource,
        task: usize,
        flat: &Tensor,
    ) -> Result<(Tensor, Tensor)> {
        let DSelectKConfig { n_experts, num_nonzeros, gamma, per_example, .. } = self.config;
        let (k, bits) = (num_nonzeros as i64, bits(n_experts));
        let name = |part: &str| selector_name(backbone, task, part);
        let (z, w) = if per_example {
            let z = params.linear(&name("z"), flat)?;
            crate::check::last_dim(&z, &format!("output of {}", name("z")), k * bits)?;
            let w = params.linear(&name("w"), flat)?;
            (z.view([-1, k, bits]), w)
        } else {
            let z = params.param(&name("z"))?.into_tensor();
            if z.size() != [k, bits] {
                return Err(Error::shape(name("z"), format!("[{k}, {bits}]"), z.size()));
            }
            (z, params.param(&name("w"))?.into_tensor())
        };
        crate::check::last_dim(&w, &name("w"), k)?;
        let selectors = selectors(&z, gamma, n_experts)?;
        let gate = dselect_gate(&selectors, &w);
        Ok((selectors, gate))
    }

    /// What the selectors of a task add to the loss.
    fn regulariser(&self, selectors: &Tensor) -> Tensor {
        let entropy = selector_entropy(selectors) * self.config.entropy;
        if self.config.n_experts.is_power_of_two() {
            return entropy;
        }
        let reached = selectors.sum_dim_intlist([-1i64].as_slice(), false, None);
        entropy + reached.reciprocal().sum(selectors.kind())
    }
}

impl Sharing for DSelectK {
    fn init(&self, backbone: &Backbone, seed: Seed, into: &mut StateDict) -> Result<()> {
        let DSelectKConfig { n_experts, num_nonzeros, gamma, per_example, .. } = self.config;
        super::init_experts(backbone, "", n_experts, seed, into)?;
        let (k, bits, inputs) = (num_nonzeros as i64, bits(n_experts), backbone.inputs());
        let (z, w) = (Init::Uniform { bound: gamma / 100.0 }, Init::Uniform { bound: 0.05 });
        for task in 0..backbone.tasks().len() {
            for (part, init, size, outputs) in [("z", z, &[k, bits][..], k * bits), ("w", w, &[k], k)] {
                let name = selector_name(backbone, task, part);
                if per_example {
                    linear::init(&name, inputs, outputs, false, init, seed, into)?;
                    init.fill(seed, &format!("{name}.bias"), &[outputs], into)?;
                } else {
                    init.fill(seed, &name, size, into)?;
                }
            }
        }
        Ok(())
    }

    fn features(
        &self,
        backbone: &Backbone,
        params: &dyn ParamSource,
        x: &Tensor,
        wanted: &[usize],
        ctx: &Context,
    ) -> Result<Vec<Tensor>> {
        let experts = super::run_experts(backbone, params, "", self.config.n_experts, x, ctx)?;
        let flat = x.flatten(1, -1);
        let mix = |&task: &usize| {
            let (selectors, gate) = self.gate(backbone, params, task, &flat)?;
            ctx.trace(|| format!("gates.{}", backbone.task_name(task)), || gate.shallow_clone());
            if ctx.is_training() {
                let name = format!("dselect_k.{}", backbone.task_name(task));
                ctx.add_aux(name, self.regulariser(&selectors));
            }
            mixing::mix_experts(&gate, &experts)
        };
        wanted.iter().map(mix).collect()
    }

    fn is_shared(&self, _backbone: &Backbone, name: &str) -> bool {
        !name.starts_with("selectors.")
    }

    /// With every expert computed, as in training.
    fn cost(&self, backbone: &Backbone, _task: usize) -> Cost {
        let DSelectKConfig { n_experts, num_nonzeros, per_example, .. } = self.config;
        let logits = (num_nonzeros as i64 * (bits(n_experts) + 1)) as u64;
        let numbers = super::output_numbers(backbone) as u64 * n_experts as u64;
        let experts = super::times(backbone.cost(), n_experts as u64) + Cost { macs: numbers, params: 0 };
        let inputs = if per_example { backbone.inputs() as u64 } else { 0 };
        experts + super::pointwise_cost(inputs * logits, logits, 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_selected_is_refused() {
        let build = |n, k| DSelectKConfig::default().n_experts(n).num_nonzeros(k).build();
        insta::assert_snapshot!(build(4, 5).unwrap_err(), @"`num_nonzeros` must be in 1..=4, the number of experts, but is 5");
        insta::assert_snapshot!(build(4, 0).unwrap_err(), @"`num_nonzeros` must be in 1..=4, the number of experts, but is 0");
        insta::assert_snapshot!(build(1, 1).unwrap_err(), @"`n_experts` must be at least 2, but is 1");
        let err = DSelectKConfig::default().gamma(0.0).build().unwrap_err();
        insta::assert_snapshot!(err, @"`gamma` must be positive and finite, but is 0");
    }

    #[test]
    fn sure_selectors_choose_the_expert_of_their_bits() {
        let z = Tensor::from_slice(&[9.0f64, -9.0, 9.0, -9.0, 9.0, 9.0]).view([2, 3]);
        let chosen = selectors(&z, 1.0, 6).unwrap(); // 101 and 011
        let wanted = Tensor::from_slice(&[5i64, 3]).one_hot(6).to_kind(tch::Kind::Double);
        assert_eq!(chosen, wanted);
        let gate = dselect_gate(&chosen, &Tensor::from_slice(&[0.0f64, 3f64.ln()]));
        assert!(
            (gate.double_value(&[5]) - 0.25).abs() < 1e-12 && (gate.double_value(&[3]) - 0.75).abs() < 1e-12
        );
        assert!(selectors(&z, 1.0, 9).is_err());
    }

    #[test]
    fn experts_that_do_not_exist_are_kept_away() {
        let gate = DSelectKConfig::default().n_experts(3).num_nonzeros(1).entropy(0.0).build().unwrap();
        // The two bits of expert 3, which there is not, are both likely: what is left for the others is 1 − S².
        let z = Tensor::from_slice(&[0.25f64, 0.25]).view([1, 2]);
        let loss = gate.regulariser(&selectors(&z, 1.0, 3).unwrap()).double_value(&[]);
        assert!((loss - 1.0 / (1.0 - 0.84375f64.powi(2))).abs() < 1e-12);
    }
}
