//! Extra or replaced parameters on top of a source: a new head, a soft prompt.
use super::{Param, ParamSource};
use crate::{Result, StateDict};
use tch::Tensor;

/// `top` where it has a parameter, `base` elsewhere.
///
/// ```
/// use mtl_core::{ParamSource, StateDict, source::Overlay};
/// use tch::Tensor;
///
/// let mut base = StateDict::new();
/// base.insert("w", Tensor::from(1.0f32));
/// let mut top = StateDict::new();
/// top.insert("prompt", Tensor::from(2.0f32));
/// let params = Overlay::new(&base, &top);
/// assert_eq!(params.names(), ["prompt", "w"]);
/// assert_eq!(params.param("w")?.double_value(&[]), 1.0);
/// # Ok::<(), mtl_core::Error>(())
/// ```
#[derive(Debug)]
pub struct Overlay<'a, S> {
    base: S,
    top: &'a StateDict,
}

impl<'a, S: ParamSource> Overlay<'a, S> {
    /// Puts `top` on `base`.
    pub fn new(base: S, top: &'a StateDict) -> Self {
        Self { base, top }
    }
}

impl<S: ParamSource> ParamSource for Overlay<'_, S> {
    fn find(&self, name: &str) -> Result<Option<Param<'_>>> {
        match self.top.get(name) {
            Some(tensor) => Ok(Some(Param::Borrowed(tensor))),
            None => self.base.find(name),
        }
    }

    fn names(&self) -> Vec<String> {
        let mut names = self.base.names();
        names.extend(self.top.names().map(str::to_owned));
        names.sort();
        names.dedup();
        names
    }

    fn linear(&self, name: &str, x: &Tensor) -> Result<Tensor> {
        let (weight, bias) = (format!("{name}.weight"), format!("{name}.bias"));
        if self.top.get(&weight).is_none() && self.top.get(&bias).is_none() {
            return self.base.linear(name, x); // The base may have a cheaper way than through the weight.
        }
        super::linear(name, x, &*self.param(&weight)?, self.find(&bias)?.as_deref())
    }
}
