//! Two-dimensional convolution.
use super::{Init, linear::bias_like};
use crate::{Error, ParamSource, Result, Seed, StateDict, check};
use tch::Tensor;

/// How a kernel moves over an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Conv2d {
    /// Pixels from one position to the next.
    pub stride: i64,
    /// Zeros added on each side.
    pub padding: i64,
    /// Pixels from one element of the kernel to the next.
    pub dilation: i64,
    /// Groups of channels that do not see each other.
    pub groups: i64,
}

impl Default for Conv2d {
    fn default() -> Self {
        Self { stride: 1, padding: 0, dilation: 1, groups: 1 }
    }
}

impl Conv2d {
    /// Writes `{name}.weight` `[outputs, inputs / groups, kernel, kernel]` drawn by `weight` and, if asked for,
    /// `{name}.bias` `[outputs]`; see [`linear::init`](super::linear::init) for the bias. `channels` are inputs and
    /// outputs.
    ///
    /// # Errors
    ///
    /// [`Error::Config`] when `groups` is below 1 or does not divide both numbers of channels; see [`Init::fill`].
    #[allow(clippy::too_many_arguments)] // One argument for each fact about the layer.
    pub fn init(
        self,
        name: &str,
        channels: (i64, i64),
        kernel: i64,
        bias: bool,
        weight: Init,
        seed: Seed,
        into: &mut StateDict,
    ) -> Result<()> {
        let (inputs, outputs) = channels;
        if self.groups < 1 || inputs % self.groups != 0 || outputs % self.groups != 0 {
            let must = format!("a divisor of {inputs} and {outputs} channels");
            return Err(Error::config(format!("groups of {name}"), must, self.groups));
        }
        let dims = [outputs, inputs / self.groups, kernel, kernel];
        weight.fill(seed, &format!("{name}.weight"), &dims, into)?;
        if bias {
            let bias = bias_like(weight, inputs / self.groups * kernel * kernel);
            bias.fill(seed, &format!("{name}.bias"), &[outputs], into)?;
        }
        Ok(())
    }
}

/// The convolution of `x` `[batch, inputs, height, width]` with `{name}.weight` and, where it exists, `{name}.bias`.
///
/// # Errors
///
/// [`Error::Unknown`] without a weight, [`Error::Shape`] when channels do not fit or the image is smaller than the
/// kernel, [`Error::Config`] for a stride, padding or dilation out of range.
pub fn conv2d(params: &dyn ParamSource, name: &str, x: &Tensor, conv: Conv2d) -> Result<Tensor> {
    let key = format!("{name}.weight");
    let weight = params.param(&key)?;
    let bias = params.find(&format!("{name}.bias"))?;
    let (_, per_group, rows, columns) = check::dims4(&weight, &key, "[out, in / groups, rows, columns]")?;
    let Conv2d { stride, padding, dilation, groups } = conv;
    if stride < 1 || padding < 0 || dilation < 1 || groups < 1 {
        return Err(Error::config(format!("geometry of {name}"), "positive", format!("{conv:?}")));
    }
    let fits = |size: i64, kernel: i64| size + 2 * padding > dilation * (kernel - 1);
    match x.size()[..] {
        [_, channels, height, width]
            if channels == per_group * groups && fits(height, rows) && fits(width, columns) =>
        {
            Ok(x.conv2d(&weight, bias.as_deref(), [stride], [padding], [dilation], groups))
        }
        ref found => {
            let expected = format!("[batch, {}, rows ≥ {rows}, columns ≥ {columns}]", per_group * groups);
            Err(Error::shape(format!("input of {name}"), expected, found.to_vec()))
        }
    }
}
