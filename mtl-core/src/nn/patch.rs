//! Patch embedding: Dosovitskiy et al., *An Image is Worth 16x16 Words*, ICLR 2021, arXiv 2010.11929.
use super::{Init, linear::bias_like};
use crate::{Error, ParamSource, Result, Seed, StateDict, check};
use tch::Tensor;

/// Writes `{name}.weight` `[dim, channels, patch, patch]` drawn by `weight` and `{name}.bias` `[dim]`.
///
/// # Errors
///
/// See [`Init::fill`].
pub fn init(
    name: &str,
    channels: i64,
    patch: i64,
    dim: i64,
    weight: Init,
    seed: Seed,
    into: &mut StateDict,
) -> Result<()> {
    weight.fill(seed, &format!("{name}.weight"), &[dim, channels, patch, patch], into)?;
    let bias = bias_like(weight, channels * patch * patch);
    bias.fill(seed, &format!("{name}.bias"), &[dim], into)
}

/// One vector for each patch of `x` `[batch, channels, height, width]`, row by row: `[batch, patches, dim]`.
///
/// It is the convolution with `{name}.weight` `[dim, channels, rows, columns]` whose stride is its kernel, done as one
/// product because patches do not overlap.
///
/// # Errors
///
/// [`Error::Unknown`] without a weight, [`Error::Shape`] when the channels differ or patches do not tile the image.
pub fn patch_embedding(params: &dyn ParamSource, name: &str, x: &Tensor) -> Result<Tensor> {
    let key = format!("{name}.weight");
    let weight = params.param(&key)?;
    let bias = params.find(&format!("{name}.bias"))?;
    let (_, channels, rows, columns) = check::dims4(&weight, &key, "[dim, channels, rows, columns]")?;
    match x.size()[..] {
        [batch, found, height, width]
            if found == channels
                && height >= rows
                && width >= columns
                && height % rows == 0
                && width % columns == 0 =>
        {
            let (down, across) = (height / rows, width / columns);
            let patches = x
                .reshape([batch, channels, down, rows, across, columns])
                .permute([0, 2, 4, 1, 3, 5])
                .reshape([batch, down * across, channels * rows * columns]);
            Ok(patches.linear(&weight.flatten(1, -1), bias.as_deref()))
        }
        ref found => {
            let expected = format!("[batch, {channels}, multiple of {rows}, multiple of {columns}]");
            Err(Error::shape(format!("input of {name}"), expected, found.to_vec()))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        nn::{Conv2d, conv2d},
        rng,
    };

    #[test]
    fn is_the_convolution_whose_stride_is_its_kernel() {
        let mut params = StateDict::new();
        init("p", 3, 4, 6, Init::default(), Seed(0), &mut params).unwrap();
        let x = rng::normal(&mut Seed(1).stream("test", 0), &[2, 3, 8, 12], 1.0);
        let ours = patch_embedding(&params, "p", &x).unwrap();
        let conv = Conv2d { stride: 4, ..Conv2d::default() };
        let wanted = conv2d(&params, "p", &x, conv).unwrap().flatten(2, -1).transpose(1, 2);
        assert_eq!(ours.size(), [2, 6, 6]);
        assert!((ours - wanted).abs().max().double_value(&[]) < 1e-5);
        let err = patch_embedding(&params, "p", &x.narrow(2, 0, 7)).unwrap_err();
        insta::assert_snapshot!(err, @"`input of p` must have shape [batch, 3, multiple of 4, multiple of 4], but has [2, 3, 7, 12]");
    }
}
