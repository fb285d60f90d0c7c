//! ESMM: Ma et al., *Entire Space Multi-Task Model: An Effective Approach for Estimating Post-Click Conversion Rate*,
//! SIGIR 2018, arXiv 1804.07931.
use super::{StagedEncoder, funnel::Funnel};
use crate::{
    Context, Cost, Error, Input, Model, MultiTaskModel, ParamSource, Result, Seed, StateDict, TaskSpec,
    check, loss,
};
use std::sync::Arc;
use tch::Tensor;

/// A funnel of steps, such as click and purchase, learned from all impressions.
///
/// The logit of each step, from a tower of its own on a shared bottom, is that of taking the step having taken the one
/// before. What the model puts out for a step, and what is trained, is the logit of having come that far from an
/// impression: of the product of the rates. Targets are 1 where the step was taken and 0 elsewhere, for every
/// impression `[batch, 1]`; the conversion rate itself is never trained on clicked examples alone. The tasks are
/// multi-label ones with a single label, so that their ordinary loss is the paper's.
///
/// ```
/// use mtl_core::{Context, Model, MultiTaskModel, Seed, architectures::Esmm, models::Mlp};
/// use std::sync::Arc;
/// use tch::{Device, Kind, Tensor};
///
/// let (bottom, tower) = (Arc::new(Mlp::new(&[4, 8])?), Arc::new(Mlp::new(&[8, 6])?));
/// let model = Esmm::new(bottom, tower, &["click", "purchase"])?;
/// let params = model.init(Seed(0))?;
/// let x = Tensor::ones([3, 4], (Kind::Float, Device::Cpu)).into();
/// let reached = model.forward_all(&params, &x, &Context::eval())?;
/// let rates = model.rates(&params, &x, &Context::eval())?; // [batch, steps]
/// let product = rates.select(1, 0) * rates.select(1, 1);
/// assert!((reached[1].sigmoid().select(1, 0) - product).abs().max().double_value(&[]) < 1e-6);
/// # Ok::<(), mtl_core::Error>(())
/// ```
#[derive(Debug)]
pub struct Esmm {
    funnel: Funnel,
}

/// The logits of having come as far as each step, `[batch, steps]`, from those of the steps themselves.
///
/// # Errors
///
/// [`Error::Shape`] when `logits` are not `[batch, steps]`.
pub fn funnel_logits(logits: &Tensor) -> Result<Tensor> {
    check::dims2(logits, "logits", "[batch, steps]")?;
    Ok(Tensor::stack(&reached(logits.unbind(1)), 1))
}

/// [`funnel_logits`] of a list of steps; what a step puts out depends on that step and those before it alone.
fn reached(logits: Vec<Tensor>) -> Vec<Tensor> {
    let mut log_p: Option<Tensor> = None;
    let mut outputs = Vec::with_capacity(logits.len());
    for logit in logits {
        let own = logit.log_sigmoid();
        match log_p {
            None => {
                outputs.push(logit);
                log_p = Some(own);
            }
            Some(before) => {
                // A product of exactly 1 would have an infinite logit.
                let product = (before + own).clamp_max(-1e-35);
                outputs.push(&product - (-product.expm1()).log());
                log_p = Some(product);
            }
        }
    }
    outputs
}

/// The two losses of the paper, over all impressions: of the click, and of click and conversion together.
///
/// `logits` are those of click rate and conversion rate, `[batch, 2]`; `click` and `conversion` are 0 or 1, `[batch]`.
/// An impression counts as converted where it has both.
///
/// # Errors
///
/// [`Error::Shape`] when the shapes do not fit.
pub fn esmm_losses(logits: &Tensor, click: &Tensor, conversion: &Tensor) -> Result<(Tensor, Tensor)> {
    let (batch, _) = check::dims2(logits, "logits", "[batch, 2]")?;
    check::last_dim(logits, "logits", 2)?;
    for (name, target) in [("click", click), ("conversion", conversion)] {
        if target.size() != [batch] {
            return Err(Error::shape(name, format!("[{batch}]"), target.size()));
        }
    }
    let reached = funnel_logits(logits)?;
    let loss = |step: i64, target: &Tensor| {
        loss::binary_cross_entropy(&reached.select(1, step), &target.to_kind(logits.kind()))
    };
    Ok((loss(0, click), loss(1, &(click * conversion))))
}

impl Esmm {
    /// A funnel of `steps`, the first one first; `tower` takes what `bottom` puts out.
    ///
    /// # Errors
    ///
    /// [`Error::Config`] with fewer than two steps, names that are empty or occur twice, or a tower
    /// that does not fit the bottom.
    pub fn new(
        bottom: Arc<dyn StagedEncoder>,
        tower: Arc<dyn StagedEncoder>,
        steps: &[&str],
    ) -> Result<Self> {
        Ok(Self { funnel: Funnel::new(bottom, tower, steps)? })
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
        let logit = |task| self.funnel.logit(params, task, &self.funnel.tower(params, task, &x, ctx)?);
        (0..=last).map(logit).collect()
    }

    /// The probability of each step for one who has taken the step before, `[batch, steps]`: pCTR, pCVR, ….
    ///
    /// # Errors
    ///
    /// See [`Model::forward`].
    pub fn rates(&self, params: &dyn ParamSource, input: &Input, ctx: &Context) -> Result<Tensor> {
        let logits = self.logits(params, input, self.funnel.tasks().len() - 1, ctx)?;
        Ok(Tensor::cat(&logits, 1).sigmoid())
    }
}

impl Model for Esmm {
    fn init(&self, seed: Seed) -> Result<StateDict> {
        let mut params = StateDict::new();
        self.funnel.init(seed, &mut params)?;
        Ok(params)
    }

    fn forward(&self, params: &dyn ParamSource, input: &Input, ctx: &Context) -> Result<Tensor> {
        let task = self.funnel.task(ctx)?;
        let missing = || Error::config("steps", "at least 2", 0);
        reached(self.logits(params, input, task, ctx)?).pop().ok_or_else(missing)
    }
}

impl MultiTaskModel for Esmm {
    fn tasks(&self) -> &[TaskSpec] {
        self.funnel.tasks()
    }

    /// All are, but for tower and head of the last step.
    fn is_shared(&self, name: &str) -> bool {
        !self.funnel.is_last(name, &["towers", "heads"])
    }

    fn forward_all(&self, params: &dyn ParamSource, input: &Input, ctx: &Context) -> Result<Vec<Tensor>> {
        Ok(reached(self.logits(params, input, self.funnel.tasks().len() - 1, ctx)?))
    }

    fn cost(&self, task: usize) -> Cost {
        self.funnel.cost(task)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tch::Kind;

    #[test]
    fn logits_of_products_are_right_also_where_they_saturate() {
        let logits = Tensor::from_slice(&[0.3f32, -1.2, 100.0, 100.0, -200.0, 5.0, 40.0, -3.0]).view([4, 2]);
        let reached = funnel_logits(&logits).unwrap();
        assert!(reached.isfinite().all().int64_value(&[]) != 0);
        assert_eq!(reached.select(1, 0), logits.select(1, 0));
        let product = logits.to_kind(Kind::Double).sigmoid().prod_dim_int(1, false, None);
        let found = reached.select(1, 1).to_kind(Kind::Double).sigmoid();
        assert!((found - product).abs().max().double_value(&[]) < 1e-6);
        assert!((reached.double_value(&[3, 1]) + 3.0).abs() < 1e-5);
    }

    #[test]
    fn funnels_that_do_not_fit_are_refused() {
        use crate::models::Mlp;
        let mlp = |widths: &[i64]| Arc::new(Mlp::new(widths).unwrap());
        let refuse = |tower: &[i64], steps: &[&str]| {
            Esmm::new(mlp(&[4, 8]), mlp(tower), steps).unwrap_err().to_string()
        };
        insta::assert_snapshot!(refuse(&[7, 3], &["a", "b"]), @"`input of the tower` must be [8], the features of the bottom, but is [7]");
        insta::assert_snapshot!(refuse(&[8, 3], &["a"]), @"`steps` must be at least two, from the first to the last, but is 1");
        insta::assert_snapshot!(refuse(&[8, 3], &["a", "a"]), @"`tasks` must be tasks with names of their own, but is `a`");
    }
}
