//! Parameter sources: whatever can hand a model its parameters by name.
//!
//! [`StateDict`](crate::StateDict) is the plain one. The others wrap a source and change what it hands out:
//! [`Mixture`] adds task vectors with learnable coefficients, [`Lora`] adds low-rank updates, [`Overlay`] puts extra
//! or replaced parameters on top (heads, prompts), [`Slice`] hands out the leading corner of each tensor. They nest.
mod lora;
mod mixture;
mod overlay;
mod slice;

pub use lora::{Lora, LoraConfig};
pub use mixture::{Granularity, Mixture};
pub use overlay::Overlay;
pub use slice::Slice;

use crate::{Error, Result};
use std::{fmt::Debug, ops::Deref};
use tch::Tensor;

/// A parameter as a source hands it out: borrowed where it lies ready, owned where it was computed.
#[derive(Debug)]
pub enum Param<'a> {
    /// The source holds the tensor.
    Borrowed(&'a Tensor),
    /// The source computed the tensor for this call.
    Owned(Tensor),
}

impl Param<'_> {
    /// A handle of its own on the same storage.
    pub fn into_tensor(self) -> Tensor {
        match self {
            Self::Borrowed(t) => t.shallow_clone(),
            Self::Owned(t) => t,
        }
    }
}

impl Deref for Param<'_> {
    type Target = Tensor;

    fn deref(&self) -> &Tensor {
        match self {
            Self::Borrowed(t) => t,
            Self::Owned(t) => t,
        }
    }
}

/// Hands a model its parameters by name.
///
/// The linear map is a method of the source, so that a low-rank overlay costs two thin products and not a rebuilt
/// weight. Anything that is a function of parameters (a posterior's sample, a generated adapter) can be a source.
///
/// ```
/// use mtl_core::{ParamSource, StateDict};
/// use tch::Tensor;
///
/// let mut params = StateDict::new();
/// params.insert("fc.weight", Tensor::from_slice(&[2.0f32, 3.0]).view([1, 2]));
/// let y = params.linear("fc", &Tensor::from_slice(&[1.0f32, 10.0]))?;
/// assert_eq!(y.double_value(&[0]), 32.0);
/// # Ok::<(), mtl_core::Error>(())
/// ```
pub trait ParamSource: Debug {
    /// The parameter called `name`, or `None` when there is none.
    ///
    /// # Errors
    ///
    /// When the parameter exists but cannot be computed.
    fn find(&self, name: &str) -> Result<Option<Param<'_>>>;

    /// Every name that [`find`](Self::find) knows, sorted.
    fn names(&self) -> Vec<String>;

    /// The parameter called `name`.
    ///
    /// # Errors
    ///
    /// [`Error::Unknown`] with the nearest name, and what [`find`](Self::find) returns.
    fn param(&self, name: &str) -> Result<Param<'_>> {
        match self.find(name)? {
            Some(param) => Ok(param),
            None => Err(Error::unknown("parameter", name, self.names().iter().map(String::as_str))),
        }
    }

    /// `x · Wᵀ + b` with `{name}.weight` of shape `[out, in]` and, where it exists, `{name}.bias` of shape `[out]`.
    ///
    /// # Errors
    ///
    /// [`Error::Unknown`] without a weight, [`Error::Shape`] when `x` is not `[…, in]`.
    fn linear(&self, name: &str, x: &Tensor) -> Result<Tensor> {
        let weight = self.param(&format!("{name}.weight"))?;
        let bias = self.find(&format!("{name}.bias"))?;
        linear(name, x, &weight, bias.as_deref())
    }
}

/// The product behind [`ParamSource::linear`], with the shape checked.
pub(crate) fn linear(name: &str, x: &Tensor, weight: &Tensor, bias: Option<&Tensor>) -> Result<Tensor> {
    let (size, input) = (weight.size(), x.size());
    match (size.as_slice(), input.last()) {
        ([_, inputs], Some(last)) if inputs == last => Ok(x.linear(weight, bias)),
        ([_, inputs], _) => Err(Error::shape(format!("input of {name}"), format!("[…, {inputs}]"), input)),
        _ => Err(Error::shape(format!("{name}.weight"), "[out, in]", size)),
    }
}

impl<S: ParamSource + ?Sized> ParamSource for &S {
    fn find(&self, name: &str) -> Result<Option<Param<'_>>> {
        (**self).find(name)
    }

    fn names(&self) -> Vec<String> {
        (**self).names()
    }

    fn linear(&self, name: &str, x: &Tensor) -> Result<Tensor> {
        (**self).linear(name, x)
    }
}

impl<S: ParamSource + ?Sized> ParamSource for Box<S> {
    fn find(&self, name: &str) -> Result<Option<Param<'_>>> {
        (**self).find(name)
    }

    fn names(&self) -> Vec<String> {
        (**self).names()
    }

    fn linear(&self, name: &str, x: &Tensor) -> Result<Tensor> {
        (**self).linear(name, x)
    }
}
