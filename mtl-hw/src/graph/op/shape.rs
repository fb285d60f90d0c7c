//! Shapes that need more than a handful of fields.
use super::experts;
use crate::math::{positive, product, sum};
use crate::{HwError, Result};
use serde::{Deserialize, Serialize};

/// Shape of one mixture-of-experts feed-forward layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MoeShape {
    /// Tokens of one image, class token included.
    pub tokens: u64,
    /// Width of a token.
    pub dim: u64,
    /// Hidden width of one expert.
    pub hidden: u64,
    /// Experts E.
    pub experts: u64,
    /// Experts per token K.
    pub top_k: u64,
}

impl MoeShape {
    /// Parameters of one expert: two matrices and their biases.
    ///
    /// # Errors
    ///
    /// [`HwError::Overflow`] when the count does not fit in 64 bits.
    pub fn expert_params(&self) -> Result<u64> {
        sum("expert params", [self.first_params()?, self.second_params()?])
    }

    /// Parameters of one gated expert: three matrices without biases.
    ///
    /// # Errors
    ///
    /// [`HwError::Overflow`] when the count does not fit in 64 bits.
    pub fn gated_expert_params(&self) -> Result<u64> {
        product("expert params", &[3, self.dim, self.hidden])
    }

    /// Parameters of an expert's first matrix and bias.
    pub(crate) fn first_params(&self) -> Result<u64> {
        sum("expert params", [product("expert params", &[self.dim, self.hidden])?, self.hidden])
    }

    /// Parameters of an expert's second matrix and bias.
    pub(crate) fn second_params(&self) -> Result<u64> {
        sum("expert params", [product("expert params", &[self.dim, self.hidden])?, self.dim])
    }

    /// Token-expert pairs of one image, N·K.
    ///
    /// # Errors
    ///
    /// [`HwError::Overflow`] when the count does not fit in 64 bits.
    pub fn pairs(&self) -> Result<u64> {
        product("token-expert pairs", &[self.tokens, self.top_k])
    }

    pub(crate) fn validate(&self) -> Result<()> {
        positive("tokens", self.tokens)?;
        positive("dim", self.dim)?;
        positive("hidden", self.hidden)?;
        experts(self.experts, self.top_k)
    }
}

fn ones() -> [u64; 2] {
    [1, 1]
}

fn one() -> u64 {
    1
}

/// Shape of a 2-D convolution, `[in_channels, height, width] → [out_channels, h_out, w_out]`. Pairs are height, width.
///
/// ```
/// use mtl_hw::graph::{Conv2dShape, Op};
/// let stem = Conv2dShape { stride: [2, 2], ..Conv2dShape::same(224, 224, 3, 64, 7) };
/// assert_eq!(stem.out_size()?, [112, 112]);
/// assert_eq!(Op::Conv2d(stem).macs()?, 112 * 112 * 64 * 3 * 49);
/// # Ok::<(), mtl_hw::HwError>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Conv2dShape {
    /// Rows of the input.
    pub height: u64,
    /// Columns of the input.
    pub width: u64,
    /// Channels of the input; a multiple of `groups`.
    pub in_channels: u64,
    /// Channels of the result; a multiple of `groups`.
    pub out_channels: u64,
    /// Size of the kernel.
    pub kernel: [u64; 2],
    /// Step of the kernel.
    #[serde(default = "ones")]
    pub stride: [u64; 2],
    /// Zeros on either side.
    #[serde(default)]
    pub padding: [u64; 2],
    /// Distance between the kernel's taps.
    #[serde(default = "ones")]
    pub dilation: [u64; 2],
    /// Groups of channels that do not mix; `in_channels` of them make a depthwise convolution.
    #[serde(default = "one")]
    pub groups: u64,
    /// Whether a bias is added.
    #[serde(default)]
    pub bias: bool,
}

impl Conv2dShape {
    /// A square kernel of odd side with stride 1 that keeps height and width, without bias.
    #[must_use]
    pub fn same(height: u64, width: u64, in_channels: u64, out_channels: u64, kernel: u64) -> Self {
        Self {
            height,
            width,
            in_channels,
            out_channels,
            kernel: [kernel; 2],
            stride: [1; 2],
            padding: [kernel / 2; 2],
            dilation: [1; 2],
            groups: 1,
            bias: false,
        }
    }

    /// Height and width of the result.
    ///
    /// # Errors
    ///
    /// [`HwError::Config`] when the kernel is zero or larger than the padded input, or a stride is zero.
    pub fn out_size(&self) -> Result<[u64; 2]> {
        Ok([
            window("height", self.height, self.kernel[0], self.stride[0], self.padding[0], self.dilation[0])?,
            window("width", self.width, self.kernel[1], self.stride[1], self.padding[1], self.dilation[1])?,
        ])
    }

    /// The matrix product that the convolution is on unrolled patches: rows, inner and columns of each group.
    ///
    /// # Errors
    ///
    /// As [`Conv2dShape::out_size`]; [`HwError::Config`] when `groups` is zero.
    pub fn im2col(&self) -> Result<[u64; 3]> {
        positive("groups", self.groups)?;
        let inner = product("inner", &[self.in_channels / self.groups, self.kernel[0], self.kernel[1]])?;
        Ok([product("rows", &self.out_size()?)?, inner, self.out_channels / self.groups])
    }

    pub(super) fn macs(&self) -> Result<u64> {
        let [rows, inner, cols] = self.im2col()?;
        product("macs", &[self.groups, rows, inner, cols])
    }

    pub(super) fn params(&self) -> Result<u64> {
        let [_, inner, _] = self.im2col()?;
        let weights = product("params", &[self.out_channels, inner])?;
        sum("params", [weights, if self.bias { self.out_channels } else { 0 }])
    }

    pub(super) fn outputs(&self) -> Result<u64> {
        let [h, w] = self.out_size()?;
        product("outputs", &[self.out_channels, h, w])
    }

    pub(super) fn validate(&self) -> Result<()> {
        for (field, value) in [
            ("height", self.height),
            ("width", self.width),
            ("in_channels", self.in_channels),
            ("out_channels", self.out_channels),
            ("groups", self.groups),
        ] {
            positive(field, value)?;
        }
        for (field, channels) in [("in_channels", self.in_channels), ("out_channels", self.out_channels)] {
            if !channels.is_multiple_of(self.groups) {
                let must = format!("a multiple of `groups` = {}", self.groups);
                return Err(HwError::config(field, must, channels));
            }
        }
        self.out_size().map(drop)
    }
}

/// What a pooling window computes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PoolKind {
    /// The largest element.
    Max,
    /// The mean.
    Average,
}

/// Shape of a 2-D pooling, `[channels, height, width] → [channels, h_out, w_out]`. Pairs are height, width.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pool2dShape {
    /// What a window computes.
    pub kind: PoolKind,
    /// Rows of the input.
    pub height: u64,
    /// Columns of the input.
    pub width: u64,
    /// Channels.
    pub channels: u64,
    /// Size of the window.
    pub kernel: [u64; 2],
    /// Step of the window.
    pub stride: [u64; 2],
    /// Border on either side.
    #[serde(default)]
    pub padding: [u64; 2],
}

impl Pool2dShape {
    /// Height and width of the result.
    ///
    /// # Errors
    ///
    /// [`HwError::Config`] when the window is zero or larger than the padded input, or a stride is zero.
    pub fn out_size(&self) -> Result<[u64; 2]> {
        Ok([
            window("height", self.height, self.kernel[0], self.stride[0], self.padding[0], 1)?,
            window("width", self.width, self.kernel[1], self.stride[1], self.padding[1], 1)?,
        ])
    }

    pub(super) fn outputs(&self) -> Result<u64> {
        let [h, w] = self.out_size()?;
        product("outputs", &[self.channels, h, w])
    }

    /// Elements that all windows read.
    pub(crate) fn taps(&self) -> Result<u64> {
        product("operations", &[self.outputs()?, self.kernel[0], self.kernel[1]])
    }

    pub(super) fn validate(&self) -> Result<()> {
        positive("height", self.height)?;
        positive("width", self.width)?;
        positive("channels", self.channels)?;
        for (axis, kernel) in self.kernel.into_iter().enumerate() {
            let padding = self.padding[axis];
            if padding > kernel / 2 {
                return Err(HwError::config(
                    format!("padding[{axis}]"),
                    "at most half of the kernel",
                    padding,
                ));
            }
        }
        self.out_size().map(drop)
    }
}

/// Positions of a sliding window along one axis.
fn window(axis: &str, size: u64, kernel: u64, stride: u64, padding: u64, dilation: u64) -> Result<u64> {
    positive("kernel", kernel)?;
    positive("stride", stride)?;
    positive("dilation", dilation)?;
    let padded = sum(axis, [size, padding, padding])?;
    let reach = sum("kernel", [product("kernel", &[dilation, kernel - 1])?, 1])?;
    match padded.checked_sub(reach) {
        Some(slack) => Ok(slack / stride + 1),
        None => {
            let must = format!("at least the kernel's reach of {reach} less padding");
            Err(HwError::config(axis, must, size))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn depthwise() -> Conv2dShape {
        Conv2dShape { groups: 8, ..Conv2dShape::same(10, 12, 8, 16, 3) }
    }

    #[test]
    fn groups_divide_work_and_weights() {
        let shape = depthwise();
        assert_eq!(shape.macs().unwrap(), 10 * 12 * 16 * 9);
        assert_eq!(shape.params().unwrap(), 16 * 9);
        let dense = Conv2dShape { groups: 1, ..shape };
        assert_eq!(dense.macs().unwrap(), 8 * shape.macs().unwrap());
    }

    #[test]
    fn stride_padding_and_dilation_set_the_size() {
        let size = |kernel, stride, padding, dilation| {
            Conv2dShape { stride, padding, dilation, kernel, ..depthwise() }.out_size().unwrap()
        };
        assert_eq!(size([3, 3], [2, 2], [1, 1], [1, 1]), [5, 6]);
        assert_eq!(size([3, 1], [1, 3], [0, 0], [4, 1]), [2, 4]);
        assert_eq!(size([7, 7], [2, 2], [3, 3], [1, 1]), [5, 6]);
    }

    #[test]
    fn bad_convolutions_name_the_field() {
        let error = |shape: Conv2dShape| shape.validate().unwrap_err().to_string();
        insta::assert_snapshot!(error(Conv2dShape { groups: 3, ..depthwise() }), @"`in_channels` must be a multiple of `groups` = 3, but is 8");
        insta::assert_snapshot!(error(Conv2dShape { groups: 0, ..depthwise() }), @"`groups` must be positive, but is 0");
        insta::assert_snapshot!(error(Conv2dShape { stride: [0, 1], ..depthwise() }), @"`stride` must be positive, but is 0");
        insta::assert_snapshot!(error(Conv2dShape { dilation: [1, 9], ..depthwise() }), @"`width` must be at least the kernel's reach of 19 less padding, but is 12");
        insta::assert_snapshot!(error(Conv2dShape { padding: [u64::MAX, 0], ..depthwise() }), @"`height` does not fit in 64 bits; check the dimensions");
    }

    #[test]
    fn pooling_windows_may_not_lie_in_the_border() {
        let pool = Pool2dShape {
            kind: PoolKind::Max,
            height: 112,
            width: 112,
            channels: 64,
            kernel: [3, 3],
            stride: [2, 2],
            padding: [1, 1],
        };
        assert_eq!(pool.out_size().unwrap(), [56, 56]);
        let bad = Pool2dShape { padding: [2, 1], ..pool };
        insta::assert_snapshot!(bad.validate().unwrap_err(), @"`padding[0]` must be at most half of the kernel, but is 2");
    }
}
