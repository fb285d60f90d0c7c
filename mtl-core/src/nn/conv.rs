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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng;

    #[test]
    fn stride_padding_and_groups_act_as_defined() {
        let conv = Conv2d { stride: 2, padding: 1, groups: 2, ..Conv2d::default() };
        let mut params = StateDict::new();
        conv.init("c", (2, 2), 3, true, Init::default(), Seed(0), &mut params).unwrap();
        let x = rng::normal(&mut Seed(1).stream("test", 0), &[1, 2, 5, 5], 1.0);
        let y = conv2d(&params, "c", &x, conv).unwrap();
        assert_eq!(y.size(), [1, 2, 3, 3]);
        let (weight, bias) = (params.get("c.weight").unwrap(), params.get("c.bias").unwrap());
        let padded = x.constant_pad_nd([1i64, 1, 1, 1]);
        for (channel, row, column) in [(0, 0, 0), (1, 1, 2), (1, 2, 1)] {
            let window = padded.get(0).get(channel).narrow(0, 2 * row, 3).narrow(1, 2 * column, 3);
            let wanted = (window * weight.get(channel).get(0)).sum(None).double_value(&[]);
            let wanted = wanted + bias.double_value(&[channel]);
            assert!((y.double_value(&[0, channel, row, column]) - wanted).abs() < 1e-5);
        }
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let mut params = StateDict::new();
        let conv = Conv2d::default();
        conv.init("c", (2, 4), 3, false, Init::default(), Seed(0), &mut params).unwrap();
        let zeros = |dims: [i64; 4]| Tensor::zeros(dims, (tch::Kind::Float, tch::Device::Cpu));
        let refuse = |dims: [i64; 4]| conv2d(&params, "c", &zeros(dims), conv).unwrap_err();
        insta::assert_snapshot!(refuse([1, 3, 5, 5]), @"`input of c` must have shape [batch, 2, rows ≥ 3, columns ≥ 3], but has [1, 3, 5, 5]");
        insta::assert_snapshot!(refuse([1, 2, 2, 5]), @"`input of c` must have shape [batch, 2, rows ≥ 3, columns ≥ 3], but has [1, 2, 2, 5]");
        let groups = Conv2d { groups: 3, ..conv };
        let err = groups.init("d", (2, 4), 3, false, Init::default(), Seed(0), &mut params).unwrap_err();
        insta::assert_snapshot!(err, @"`groups of d` must be a divisor of 2 and 4 channels, but is 3");
    }
}
