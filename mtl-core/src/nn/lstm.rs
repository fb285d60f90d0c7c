//! Long short-term memory: Hochreiter & Schmidhuber, Neural Computation 1997, with PyTorch's gates (input, forget,
//! cell, output).
use super::gru::{Cell, init_cell};
use crate::{ParamSource, Result, Seed, StateDict};
use tch::Tensor;

/// Writes `{name}.weight_ih` `[4·hidden, inputs]`, `{name}.weight_hh` `[4·hidden, hidden]`, `{name}.bias_ih` and
/// `{name}.bias_hh` `[4·hidden]`, uniform on ±1/√hidden as in PyTorch.
///
/// # Errors
///
/// See [`Init::fill`](super::Init::fill).
pub fn init(name: &str, inputs: i64, hidden: i64, seed: Seed, into: &mut StateDict) -> Result<()> {
    init_cell(4, name, inputs, hidden, seed, into)
}

/// One step: hidden state and cell after `x` `[batch, inputs]` when they were `state`, both `[batch, hidden]`.
///
/// # Errors
///
/// [`Error::Unknown`](crate::Error::Unknown) without a weight or bias, [`Error::Shape`](crate::Error::Shape) naming
/// the layer when shapes do not fit.
pub fn lstm_cell(
    params: &dyn ParamSource,
    name: &str,
    x: &Tensor,
    state: (&Tensor, &Tensor),
) -> Result<(Tensor, Tensor)> {
    let cell = Cell::read(params, name, 4)?;
    cell.check_inputs(name, x, state.0)?;
    cell.check_inputs(name, x, state.1)?;
    let biases = (Some(&*cell.bias_ih), Some(&*cell.bias_hh));
    Ok(x.lstm_cell(&[state.0, state.1], &cell.weight_ih, &cell.weight_hh, biases.0, biases.1))
}
