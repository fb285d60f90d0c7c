//! AITM: Xi et al., *Modeling the Sequential Dependence among Audience Multi-step Conversions with Multi-task Learning in
//! Targeted Display Advertising*, KDD 2021, arXiv 2105.08489.
use super::{StagedEncoder, funnel::Funnel};
use crate::{
    Context, Cost, Error, Input, Model, MultiTaskModel, ParamSource, Result, Seed, StateDict, TaskSpec,
    check,
    nn::{Init, linear},
};
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use tch::Tensor;

/// Hyper-parameters of [`Aitm`]; the default is that of the authors' code.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct AitmConfig {
    /// Weight of the calibrator (the paper's α). At least 0.
    pub alpha: f64,
}

impl Default for AitmConfig {
    fn default() -> Self {
        Self { alpha: 0.6 }
    }
}

impl AitmConfig {
    /// Sets [`AitmConfig::alpha`].
    #[must_use]
    pub fn alpha(mut self, alpha: f64) -> Self {
        self.alpha = alpha;
        self
    }

    /// Checks the values and builds the model for `steps`, the first one first; `tower` takes what `bottom` puts out.
    ///
    /// # Errors
    ///
    /// [`Error::Config`] when `alpha` is negative or not finite, with fewer than two steps, names that are empty or occur
    /// twice, or a tower that does not fit the bottom.
    pub fn build(
        self,
        bottom: Arc<dyn StagedEncoder>,
        tower: Arc<dyn StagedEncoder>,
        steps: &[&str],
    ) -> Result<Aitm> {
        if !(0.0 <= self.alpha && self.alpha.is_finite()) {
            return Err(Error::config("alpha", "finite and at least 0", self.alpha));
        }
        Ok(Aitm { funnel: Funnel::new(bottom, tower, steps)?, config: self })
    }
}

/// A funnel of steps, such as click and purchase, in which each step hears from the one before.
///
/// A step has a tower on the shared bottom and, from the second on, a transfer module `transfers.{task}`: what the step
/// before tells (`info`, a linear map with ReLU) and the step's own tower are weighed against each other by an attention
/// of each to itself (`query`, `key`, `value`). Outputs are logits `[batch, 1]` of having come that far; the
/// tasks are multi-label ones with a single label.
///
/// In training the auxiliary loss `aitm.calibrator` is α times what [`calibrator`] says. A learner multiplies
/// auxiliary losses by a factor of its own: set that to 1
/// ([`JointConfig::aux_weight`](crate::train::JointConfig::aux_weight)).
///
/// ```
/// use mtl_core::{Context, Model, Seed, architectures::AitmConfig, models::Mlp};
/// use std::sync::Arc;
/// use tch::{Device, Kind, Tensor};
///
/// let (bottom, tower) = (Arc::new(Mlp::new(&[4, 8])?), Arc::new(Mlp::new(&[8, 6])?));
/// let model = AitmConfig::default().build(bottom, tower, &["click", "purchase"])?;
/// let params = model.init(Seed(0))?;
/// let x = Tensor::ones([3, 4], (Kind::Float, Device::Cpu));
/// assert_eq!(model.forward(&params, &x.into(), &Context::eval().with_task(1))?.size(), [3, 1]);
/// # Ok::<(), mtl_core::Error>(())
/// ```
#[derive(Debug)]
pub struct Aitm {
    funnel: Funnel,
    config: AitmConfig,
}

/// What `info` of the step before and the `tower` of this one become, `[batch, dim]`, and their weights, `[batch, 2]`.
///
/// The weights are the softmax over the two of `⟨query · u, key · u⟩ / √dim`, with linear maps `{prefix}.query`,
/// `{prefix}.key` and `{prefix}.value`; both inputs are `[batch, dim]`.
///
/// # Errors
///
/// [`Error::Shape`] when the inputs differ in shape or a map does not fit, [`Error::Unknown`] without one.
pub fn aitm_transfer(
    params: &dyn ParamSource,
    prefix: &str,
    info: &Tensor,
    tower: &Tensor,
) -> Result<(Tensor, Tensor)> {
    let (_, dim) = check::dims2(info, "info", "[batch, dim]")?;
    if tower.size() != info.size() {
        return Err(Error::shape("tower", format!("{:?} like info", info.size()), tower.size()));
    }
    let both = Tensor::stack(&[info, tower], 1); // [batch, 2, dim]
    let [query, key, value] = ["query", "key", "value"].map(|map| format!("{prefix}.{map}"));
    let product = params.linear(&query, &both)? * params.linear(&key, &both)?;
    let scores = product.sum_dim_intlist([-1i64].as_slice(), false, None) / (dim as f64).sqrt();
    let attention = scores.softmax(-1, None); // [batch, 2]
    let value = params.linear(&value, &both)?;
    let z = (attention.unsqueeze(-1) * value).sum_dim_intlist([1i64].as_slice(), false, None);
    Ok((z, attention))
}

/// How much more likely a later step is than the one before, where it is: `Σ_t mean relu(ŷ_t − ŷ_{t−1})` of
/// probabilities `[batch, steps]`.
///
/// ```
/// use mtl_core::architectures::calibrator;
/// use tch::Tensor;
///
/// let y = Tensor::from_slice(&[0.5f64, 0.75, 0.5, 0.25]).view([2, 2]);
/// assert_eq!(calibrator(&y)?.double_value(&[]), 0.125);
/// # Ok::<(), mtl_core::Error>(())
/// ```
///
/// # Errors
///
/// [`Error::Shape`] when `probabilities` are not `[batch, steps]`, [`Error::Config`] for fewer than two steps.
pub fn calibrator(probabilities: &Tensor) -> Result<Tensor> {
    let (_, steps) = check::dims2(probabilities, "probabilities", "[batch, steps]")?;
    if steps < 2 {
        return Err(Error::config("steps", "at least 2", steps));
    }
    let (later, earlier) = (probabilities.narrow(1, 1, steps - 1), probabilities.narrow(1, 0, steps - 1));
    Ok((later - earlier).relu().mean_dim([0i64].as_slice(), false, None).sum(probabilities.kind()))
}

impl Aitm {
    fn transfer(&self, task: usize) -> String {
        format!("transfers.{}", self.funnel.tasks().get(task).map_or("", |task| &task.name))
    }

    /// The logits of the steps up to `last`, each `[batch, 1]`.
    fn logits(
        &self,
        params: &dyn ParamSource,
        input: &Input,
        last: usize,
        ctx: &Context,
    ) -> Result<Vec<Tensor>> {
        let x = self.funnel.bottom(params, input, ctx)?;
        let mut z: Option<Tensor> = None;
        let mut logits = Vec::with_capacity(last + 1);
        for task in 0..=last {
            let tower = self.funnel.tower(params, task, &x, ctx)?;
            let next = match z {
                None => tower,
                Some(before) => {
                    let prefix = self.transfer(task);
                    let info = params.linear(&format!("{prefix}.info"), &before)?.relu();
                    let (z, attention) = aitm_transfer(params, &prefix, &info, &tower)?;
                    ctx.trace(|| format!("attention.{prefix}"), || attention.shallow_clone());
                    z
                }
            };
            logits.push(self.funnel.logit(params, task, &next)?);
            z = Some(next);
        }
        Ok(logits)
    }

    fn add_calibrator(&self, logits: &[Tensor], ctx: &Context) -> Result<()> {
        if !ctx.is_training() || logits.len() < 2 {
            return Ok(());
        }
        let loss = calibrator(&Tensor::cat(logits, 1).sigmoid())?;
        ctx.add_aux("aitm.calibrator", loss * self.config.alpha);
        Ok(())
    }
}

impl Model for Aitm {
    fn init(&self, seed: Seed) -> Result<StateDict> {
        let mut params = StateDict::new();
        self.funnel.init(seed, &mut params)?;
        let dim = self.funnel.dim();
        for task in 1..self.funnel.tasks().len() {
            let prefix = self.transfer(task);
            let info = format!("{prefix}.info");
            linear::init(&info, dim, dim, true, Init::default(), seed, &mut params)?;
            for map in ["query", "key", "value"] {
                let (name, init) = (format!("{prefix}.{map}"), Init::Normal { std: 0.01 });
                linear::init(&name, dim, dim, false, init, seed, &mut params)?;
            }
        }
        Ok(params)
    }

    fn forward(&self, params: &dyn ParamSource, input: &Input, ctx: &Context) -> Result<Tensor> {
        let task = self.funnel.task(ctx)?;
        let mut logits = self.logits(params, input, task, ctx)?;
        // The pair with the step before; the other pairs come with the other tasks.
        self.add_calibrator(logits.get(task.saturating_sub(1)..).unwrap_or_default(), ctx)?;
        logits.pop().ok_or_else(|| Error::config("steps", "at least 2", 0))
    }
}

impl MultiTaskModel for Aitm {
    fn tasks(&self) -> &[TaskSpec] {
        self.funnel.tasks()
    }

    /// The bottom, and towers and transfers of all steps but the last.
    fn is_shared(&self, name: &str) -> bool {
        !name.starts_with("heads.") && !self.funnel.is_last(name, &["towers", "transfers"])
    }

    fn forward_all(&self, params: &dyn ParamSource, input: &Input, ctx: &Context) -> Result<Vec<Tensor>> {
        let logits = self.logits(params, input, self.funnel.tasks().len() - 1, ctx)?;
        self.add_calibrator(&logits, ctx)?;
        Ok(logits)
    }

    fn cost(&self, task: usize) -> Cost {
        let dim = self.funnel.dim() as u64;
        let attention = Cost { macs: 2 * 3 * dim * dim + 4 * dim, params: 3 * dim * dim };
        let transfer = super::pointwise_cost(dim * dim, dim, 1) + attention;
        let transfers = if task < self.funnel.tasks().len() { task as u64 } else { 0 };
        self.funnel.cost(task) + super::times(transfer, transfers)
    }
}
