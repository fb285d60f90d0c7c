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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng;
    use tch::Kind;

    #[test]
    fn steps_are_those_of_libtorch_with_their_gradients() {
        let mut params = StateDict::new();
        init("cell", 3, 5, Seed(0), &mut params).unwrap();
        let params = params.trainable();
        let x = rng::normal(&mut Seed(1).stream("test", 0), &[2, 4, 3], 1.0).set_requires_grad(true);
        let start = |seed| rng::normal(&mut Seed(seed).stream("test", 0), &[2, 5], 1.0);
        let (h0, c0) = (start(2), start(3));
        let step =
            |(h, c): (Tensor, Tensor), t: i64| lstm_cell(&params, "cell", &x.select(1, t), (&h, &c)).unwrap();
        let ours = (0..4).fold((h0.shallow_clone(), c0.shallow_clone()), step);
        let weights = ["weight_ih", "weight_hh", "bias_ih", "bias_hh"]
            .map(|part| params.get(&format!("cell.{part}")).unwrap());
        let state = [&h0.unsqueeze(0), &c0.unsqueeze(0)];
        let (_, h, c) = x.lstm(&state, &weights, true, 1, 0.0, false, false, true);
        let mut inputs = vec![&x];
        inputs.extend(weights);
        let grads = |y: &Tensor| Tensor::run_backward(&[y.square().sum(Kind::Float)], &inputs, true, false);
        for (ours, theirs) in [(ours.0, h), (ours.1, c)] {
            assert!((&ours - theirs.squeeze_dim(0)).abs().max().double_value(&[]) < 1e-6);
            for (a, b) in grads(&ours).iter().zip(grads(&theirs)) {
                assert!((a - b).abs().max().double_value(&[]) < 1e-5 && a.norm().double_value(&[]) > 0.0);
            }
        }
    }
}
