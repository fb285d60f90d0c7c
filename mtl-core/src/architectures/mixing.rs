//! What several architectures do with features: mixing them, and maps that act on channels alone.
use crate::{Error, ParamSource, Result};
use serde::{Deserialize, Serialize};
use tch::{Kind, Tensor};

/// Fails unless all `features` have the same shape; `what` and `where` name them in the message.
pub(super) fn same_shape(features: &[Tensor], what: &str, place: &str) -> Result<()> {
    let Some((first, rest)) = features.split_first() else {
        return Err(Error::config(format!("number of {what}s {place}"), "at least 1", 0));
    };
    match rest.iter().zip(1..).find(|(x, _)| x.size() != first.size()) {
        Some((x, i)) => {
            let expected = format!("{:?} like those of {what} 0", first.size());
            Err(Error::shape(format!("features of {what} {i} {place}"), expected, x.size()))
        }
        None => Ok(()),
    }
}

/// The features of experts mixed by a gate: `Σ_e gate[:, e] · experts[e]`.
///
/// `gate` is `[batch, experts]`, or `[experts]` for all examples; each of `experts` is `[batch, …]`.
///
/// ```
/// use mtl_core::architectures::mix_experts;
/// use tch::Tensor;
///
/// let experts = [1.0f32, 3.0].map(|value| Tensor::from_slice(&[value]).view([1, 1]));
/// let mixed = mix_experts(&Tensor::from_slice(&[0.25f32, 0.75]).view([1, 2]), &experts)?;
/// assert_eq!(mixed.double_value(&[0, 0]), 2.5);
/// # Ok::<(), mtl_core::Error>(())
/// ```
///
/// # Errors
///
/// [`Error::Config`] without experts, [`Error::Shape`] when their shapes differ or the gate is of another size.
pub fn mix_experts(gate: &Tensor, experts: &[Tensor]) -> Result<Tensor> {
    same_shape(experts, "expert", "before they are mixed")?;
    let stack = Tensor::stack(experts, 1); // [batch, experts, …]
    let (count, mut size) = (experts.len() as i64, stack.size());
    let batch = size.first().copied().unwrap_or(0);
    let gate = match gate.size()[..] {
        [n] if n == count => gate.expand([batch, n], false),
        [b, n] if n == count && b == batch => gate.shallow_clone(),
        ref found => {
            let expected = format!("[{batch}, {count}] or [{count}]");
            return Err(Error::shape("gate", expected, found.to_vec()));
        }
    };
    let mixed = gate.unsqueeze(1).matmul(&stack.reshape([batch, count, -1])); // [batch, 1, features]
    size.remove(1);
    Ok(mixed.reshape(size.as_slice()))
}

/// What a gate sees: vectors as they are, maps and tokens averaged over their positions.
pub(super) fn gate_input(x: &Tensor) -> Tensor {
    match x.dim() {
        4 => x.mean_dim([2i64, 3].as_slice(), false, None),
        3 => x.mean_dim([1i64].as_slice(), false, None),
        _ => x.shallow_clone(),
    }
}

/// A gate: the softmax of a linear map of `x` `[batch, features]`, `[batch, experts]`.
pub(super) fn softmax_gate(params: &dyn ParamSource, name: &str, x: &Tensor) -> Result<Tensor> {
    Ok(params.linear(name, x)?.softmax(-1, None))
}

/// A linear map of the channels at each position: a 1 × 1 convolution of maps, a linear map of vectors and tokens.
pub(super) fn pointwise(params: &dyn ParamSource, name: &str, x: &Tensor) -> Result<Tensor> {
    match x.dim() {
        4 => Ok(params.linear(name, &x.transpose(1, -1))?.transpose(1, -1)),
        _ => params.linear(name, x),
    }
}

/// The axis of a batch `[batch, …]` on which the channels are.
pub(super) fn channel_axis(x: &Tensor) -> i64 {
    if x.dim() == 4 { 1 } else { x.dim() as i64 - 1 }
}

/// A vector of one number per channel, in the shape that broadcasts over `x`.
pub(super) fn per_channel(vector: &Tensor, x: &Tensor) -> Tensor {
    if x.dim() == 4 { vector.view([-1, 1, 1]) } else { vector.shallow_clone() }
}

/// Sums `weights[k, j] · features[j]` over j for each row k of `weights` `[outputs, inputs]`.
///
/// # Errors
///
/// [`Error::Config`] without features, [`Error::Shape`] when their shapes differ (`place` says where) or `weights` do
/// not fit them.
pub(super) fn combine(weights: &Tensor, features: &[Tensor], place: &str) -> Result<Vec<Tensor>> {
    same_shape(features, "task", place)?;
    let count = features.len() as i64;
    match weights.size()[..] {
        [_, inputs] if inputs == count => {}
        ref found => {
            return Err(Error::shape(
                format!("mixing weights {place}"),
                format!("[{count}, {count}]"),
                found.to_vec(),
            ));
        }
    }
    let stack = Tensor::stack(features, 0); // [inputs, batch, …]
    let mut size = stack.size();
    size.remove(0);
    let mixed = weights.matmul(&stack.reshape([count, -1])); // [outputs, numbers]
    Ok(mixed.unbind(0).into_iter().map(|row| row.reshape(size.as_slice())).collect())
}

/// Normalisation of features between maps that mix them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Norm {
    /// None.
    None,
    /// Over the channels and positions of each map, or the channels of each vector or token; needs no state, and an
    /// example does not depend on the others of its batch.
    #[default]
    Group,
    /// Over the batch and its positions, for each channel, by the statistics of this very batch, also in evaluation: a
    /// functional model has no running means. Predictions then depend on the batch.
    Batch,
}

const EPS: f64 = 1e-5;

impl Norm {
    /// Writes `{name}.weight` (ones) and `{name}.bias` (zeros), `[channels]`, unless there is no norm.
    pub(super) fn init(self, name: &str, channels: i64, into: &mut crate::StateDict) -> Result<()> {
        if self == Self::None { Ok(()) } else { crate::nn::layer_norm::init(name, channels, into) }
    }

    /// Number of parameters for `channels`.
    pub(super) fn params(self, channels: u64) -> u64 {
        if self == Self::None { 0 } else { 2 * channels }
    }

    /// The normalised `x` `[batch, …]`.
    pub(super) fn apply(self, params: &dyn ParamSource, name: &str, x: &Tensor) -> Result<Tensor> {
        if self == Self::None {
            return Ok(x.shallow_clone());
        }
        let axis = channel_axis(x);
        let channels = x.size().get(axis as usize).copied().unwrap_or(0);
        let load = |part: &str| -> Result<Tensor> {
            let key = format!("{name}.{part}");
            let tensor = params.param(&key)?.into_tensor();
            if tensor.size() == [channels] {
                Ok(tensor)
            } else {
                Err(Error::shape(key, format!("[{channels}]"), tensor.size()))
            }
        };
        let (weight, bias) = (load("weight")?, load("bias")?);
        if self == Self::Group && x.dim() == 4 {
            return Ok(x.group_norm(1, Some(&weight), Some(&bias), EPS, false));
        }
        if self == Self::Group {
            return Ok(x.layer_norm([channels], Some(&weight), Some(&bias), EPS, false));
        }
        let others: Vec<i64> = (0..x.dim() as i64).filter(|&d| d != axis).collect();
        let centred = x - x.mean_dim(others.as_slice(), true, None);
        let variance = centred.square().mean_dim(others.as_slice(), true, None::<Kind>);
        let normed = centred / (variance + EPS).sqrt();
        Ok(normed * per_channel(&weight, x) + per_channel(&bias, x))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Seed, StateDict, rng};

    fn normal(dims: &[i64]) -> Tensor {
        rng::normal(&mut Seed(3).stream("test", 0), dims, 2.0) + 1.0
    }

    #[test]
    fn shapes_that_differ_are_named_with_their_place() {
        let features = [normal(&[2, 3]), normal(&[2, 4])];
        let err = combine(&normal(&[2, 2]), &features, "after stage 1").unwrap_err();
        insta::assert_snapshot!(err, @"`features of task 1 after stage 1` must have shape [2, 3] like those of task 0, but has [2, 4]");
        let err = mix_experts(&normal(&[2, 2]), &features).unwrap_err();
        insta::assert_snapshot!(err, @"`features of expert 1 before they are mixed` must have shape [2, 3] like those of expert 0, but has [2, 4]");
        let err = mix_experts(&normal(&[2, 3]), &features[..1]).unwrap_err();
        insta::assert_snapshot!(err, @"`gate` must have shape [2, 1] or [1], but has [2, 3]");
        let err = mix_experts(&normal(&[2, 3]), &[]).unwrap_err();
        insta::assert_snapshot!(err, @"`number of experts before they are mixed` must be at least 1, but is 0");
    }

    #[test]
    fn norms_centre_what_they_say() {
        let mut params = StateDict::new();
        Norm::Group.init("n", 3, &mut params).unwrap();
        for dims in [&[4i64, 3][..], &[4, 5, 3], &[4, 3, 2, 5]] {
            let x = normal(dims);
            let worst =
                |y: &Tensor, over: &[i64]| y.mean_dim(over, false, None).abs().max().double_value(&[]);
            let group = Norm::Group.apply(&params, "n", &x).unwrap();
            let over: &[i64] = if dims.len() == 4 { &[1, 2, 3] } else { &[-1] };
            assert!(worst(&group, over) < 1e-5);
            let batch = Norm::Batch.apply(&params, "n", &x).unwrap();
            let over: &[i64] = match dims.len() {
                4 => &[0, 2, 3],
                3 => &[0, 1],
                _ => &[0],
            };
            assert!(worst(&batch, over) < 1e-5);
            let alone = Norm::Group.apply(&params, "n", &x.narrow(0, 1, 1)).unwrap();
            assert!((alone - group.narrow(0, 1, 1)).abs().max().double_value(&[]) < 1e-5);
            assert_eq!(Norm::None.apply(&params, "n", &x).unwrap(), x);
        }
        assert!(Norm::Batch.apply(&params, "n", &normal(&[2, 4])).is_err());
    }

    #[test]
    fn a_pointwise_map_acts_on_the_channels_of_each_position() {
        let mut params = StateDict::new();
        params.insert("m.weight", normal(&[2, 3]));
        let x = normal(&[4, 3, 5, 6]);
        let y = pointwise(&params, "m", &x).unwrap();
        assert_eq!(y.size(), [4, 2, 5, 6]);
        let at = |t: &Tensor| t.select(3, 5).select(2, 1);
        let wanted = params.linear("m", &at(&x)).unwrap();
        assert!((at(&y) - wanted).abs().max().double_value(&[]) < 1e-5);
    }
}
