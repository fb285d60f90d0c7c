//! Optimisers and schedules; all state is a [`StateDict`], so that a run can stop and go on with the same bits.
//!
//! An optimiser changes the leaves of a dictionary in place and keeps them leaves. The learning rate comes from a
//! [`Schedule`], a pure function of the step. [`Sam`] is no optimiser: it says where to take the gradient.
mod adam;
mod adamw;
mod clip;
mod moments;
mod sam;
mod schedule;
mod sgd;

pub use adam::{Adam, AdamConfig};
pub use adamw::{AdamW, AdamWConfig};
pub use clip::Clip;
pub use sam::{Sam, SamConfig};
pub use schedule::{Decay, Schedule};
pub use sgd::{Sgd, SgdConfig};

use crate::{Error, Result, StateDict, registry};
use std::fmt::Debug;
use tch::{Kind, Tensor};

/// The optimisers of this crate; extend them with [`Registry::with`](registry::Registry::with).
pub const OPTIMIZERS: &[registry::Entry<dyn Optimizer>] = &[sgd::ENTRY, adam::ENTRY, adamw::ENTRY];

/// Turns gradients into new parameters.
///
/// ```
/// use mtl_core::{StateDict, optim::{OPTIMIZERS, Optimizer}, registry::Registry};
/// use serde_json::json;
/// use tch::Tensor;
///
/// let dict = |v: f32| StateDict::from_iter([("w".to_owned(), Tensor::from_slice(&[v]))]);
/// let mut params = dict(1.0).trainable();
/// let mut sgd = Registry::new(OPTIMIZERS).build("sgd", json!({}))?;
/// sgd.step(&mut params, &dict(2.0), 0.25)?;
/// assert_eq!(params.get("w").unwrap().double_value(&[0]), 0.5);
/// # Ok::<(), mtl_core::Error>(())
/// ```
pub trait Optimizer: Debug + Send {
    /// Changes, in place, each parameter that has a gradient; the others and their state stay as they are.
    ///
    /// # Errors
    ///
    /// [`Error::Config`] for a learning rate that is negative or not finite, [`Error::Unknown`] for the gradient of no
    /// parameter, [`Error::Shape`] for one of another shape than its parameter. Nothing is changed then.
    fn step(&mut self, params: &mut StateDict, grads: &StateDict, lr: f64) -> Result<()>;

    /// The whole state, as handles on the storage in use; names are those of the parameters with a suffix.
    fn state(&self) -> StateDict;

    /// Takes a copy of what [`state`](Self::state) gave, for the same `params`.
    ///
    /// # Errors
    ///
    /// [`Error::Mismatch`] when the state is of another optimiser or of other parameters; nothing is changed then.
    fn load_state(&mut self, state: &StateDict, params: &StateDict) -> Result<()>;
}

/// What [`Optimizer::step`] promises to refuse.
fn check_step(params: &StateDict, grads: &StateDict, lr: f64) -> Result<()> {
    if !(0.0 <= lr && lr.is_finite()) {
        return Err(Error::config("lr", "finite and at least 0", lr));
    }
    for (name, grad) in grads.iter() {
        let Some(param) = params.get(name) else {
            return Err(Error::unknown("parameter", name, params.names()));
        };
        let (wanted, found) = (param.size(), grad.size());
        if wanted != found {
            return Err(Error::shape(format!("gradient of {name}"), format!("{wanted:?}"), found));
        }
    }
    Ok(())
}

/// Fails unless `lower ≤ value < upper`.
fn check_range(field: &'static str, value: f64, lower: f64, upper: f64) -> Result<()> {
    if (lower..upper).contains(&value) {
        return Ok(());
    }
    let must = if upper.is_finite() {
        format!("at least {lower} and below {upper}")
    } else {
        format!("finite and at least {lower}")
    };
    Err(Error::config(field, must, value))
}

/// `y ← y + factor · x` in one pass.
///
/// tch does not expose the `alpha` of `add_`; the product with a 0-dimensional tensor reads and writes as little.
fn add_scaled_(y: &mut Tensor, x: &Tensor, factor: f64) {
    let kind = y.kind();
    let scalar = match kind {
        Kind::Float => Tensor::from(factor as f32),
        _ => Tensor::from(factor).to_kind(kind),
    };
    let device = y.device();
    let scalar = if device == tch::Device::Cpu { scalar } else { scalar.to_device(device) };
    let _ = y.addcmul_(x, &scalar);
}

/// The parameter that state entry `name` belongs to and the suffix, where that fits `params`.
fn owner<'a>(name: &'a str, params: &StateDict) -> Option<(&'a str, &'a str)> {
    name.rsplit_once('.').filter(|(param, _)| params.get(param).is_some())
}

/// An optimiser state that does not fit.
fn unfit(optimizer: &str, name: &str, why: &str) -> Error {
    Error::Mismatch { what: format!("{optimizer} state"), differences: format!("`{name}` {why}") }
}

/// A copy of state entry `name`, which must look like its parameter.
fn copy_like(optimizer: &str, name: &str, entry: &Tensor, param: &Tensor) -> Result<Tensor> {
    if entry.size() == param.size() && entry.kind() == param.kind() {
        return Ok(entry.detach().copy());
    }
    let why = format!(
        "has shape {:?} of kind {:?}, expected {:?} of kind {:?}",
        entry.size(),
        entry.kind(),
        param.size(),
        param.kind()
    );
    Err(unfit(optimizer, name, &why))
}
