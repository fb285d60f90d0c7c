//! Parameters of a linear map; the map itself is [`ParamSource::linear`](crate::ParamSource::linear).
use super::Init;
use crate::{Result, Seed, StateDict};

/// Writes `{name}.weight` `[outputs, inputs]` drawn by `weight` and, if asked for, `{name}.bias` `[outputs]`.
///
/// With the default [`Init`] the bias is uniform on ±1/√inputs as in PyTorch; with any other it is zero.
///
/// # Errors
///
/// See [`Init::fill`].
pub fn init(
    name: &str,
    inputs: i64,
    outputs: i64,
    bias: bool,
    weight: Init,
    seed: Seed,
    into: &mut StateDict,
) -> Result<()> {
    weight.fill(seed, &format!("{name}.weight"), &[outputs, inputs], into)?;
    if bias {
        bias_like(weight, inputs).fill(seed, &format!("{name}.bias"), &[outputs], into)?;
    }
    Ok(())
}

/// The bias that goes with a weight of `fan_in` drawn by `weight`.
pub(super) fn bias_like(weight: Init, fan_in: i64) -> Init {
    if weight == Init::default() {
        Init::Uniform { bound: 1.0 / (fan_in.max(1) as f64).sqrt() }
    } else {
        Init::Constant(0.0)
    }
}
