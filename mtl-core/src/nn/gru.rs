//! Gated recurrent unit: Cho et al., EMNLP 2014, arXiv 1406.1078, in PyTorch's form (gates reset, update, new).
use super::Init;
use crate::{Error, ParamSource, Result, Seed, StateDict, check};
use tch::Tensor;

/// Writes `{name}.weight_ih` `[3·hidden, inputs]`, `{name}.weight_hh` `[3·hidden, hidden]`, `{name}.bias_ih` and
/// `{name}.bias_hh` `[3·hidden]`, uniform on ±1/√hidden as in PyTorch.
///
/// # Errors
///
/// See [`Init::fill`].
pub fn init(name: &str, inputs: i64, hidden: i64, seed: Seed, into: &mut StateDict) -> Result<()> {
    init_cell(3, name, inputs, hidden, seed, into)
}

/// One step: the state after `x` `[batch, inputs]` when it was `state` `[batch, hidden]`.
///
/// # Errors
///
/// [`Error::Unknown`] without a weight or bias, [`Error::Shape`] naming the layer when shapes do not fit.
pub fn gru_cell(params: &dyn ParamSource, name: &str, x: &Tensor, state: &Tensor) -> Result<Tensor> {
    let cell = Cell::read(params, name, 3)?;
    cell.check_inputs(name, x, state)?;
    Ok(x.gru_cell(state, &cell.weight_ih, &cell.weight_hh, Some(&*cell.bias_ih), Some(&*cell.bias_hh)))
}

/// Parameters of a recurrent cell with some number of gates.
pub(super) struct Cell<'a> {
    pub(super) weight_ih: crate::source::Param<'a>,
    pub(super) weight_hh: crate::source::Param<'a>,
    pub(super) bias_ih: crate::source::Param<'a>,
    pub(super) bias_hh: crate::source::Param<'a>,
    inputs: i64,
    hidden: i64,
}

impl<'a> Cell<'a> {
    pub(super) fn read(params: &'a dyn ParamSource, name: &str, gates: i64) -> Result<Self> {
        let weight_ih = params.param(&format!("{name}.weight_ih"))?;
        let weight_hh = params.param(&format!("{name}.weight_hh"))?;
        let bias_ih = params.param(&format!("{name}.bias_ih"))?;
        let bias_hh = params.param(&format!("{name}.bias_hh"))?;
        let (_, hidden) = check::dims2(&weight_hh, &format!("{name}.weight_hh"), "[gates · hidden, hidden]")?;
        let (rows, inputs) =
            check::dims2(&weight_ih, &format!("{name}.weight_ih"), "[gates · hidden, inputs]")?;
        let all = gates * hidden;
        for (part, tensor, wanted) in [
            ("weight_ih", &weight_ih, vec![all, inputs]),
            ("weight_hh", &weight_hh, vec![all, hidden]),
            ("bias_ih", &bias_ih, vec![all]),
            ("bias_hh", &bias_hh, vec![all]),
        ] {
            if rows != all || tensor.size() != wanted {
                return Err(Error::shape(format!("{name}.{part}"), format!("{wanted:?}"), tensor.size()));
            }
        }
        Ok(Self { weight_ih, weight_hh, bias_ih, bias_hh, inputs, hidden })
    }

    pub(super) fn check_inputs(&self, name: &str, x: &Tensor, state: &Tensor) -> Result<()> {
        let found = x.size();
        let [batch, inputs] = found[..] else {
            return Err(Error::shape(format!("input of {name}"), format!("[batch, {}]", self.inputs), found));
        };
        if inputs != self.inputs {
            return Err(Error::shape(format!("input of {name}"), format!("[batch, {}]", self.inputs), found));
        }
        if state.size() != [batch, self.hidden] {
            let expected = format!("[{batch}, {}]", self.hidden);
            return Err(Error::shape(format!("state of {name}"), expected, state.size()));
        }
        Ok(())
    }
}

pub(super) fn init_cell(
    gates: i64,
    name: &str,
    inputs: i64,
    hidden: i64,
    seed: Seed,
    into: &mut StateDict,
) -> Result<()> {
    let init = Init::Uniform { bound: 1.0 / (hidden.max(1) as f64).sqrt() };
    init.fill(seed, &format!("{name}.weight_ih"), &[gates * hidden, inputs], into)?;
    init.fill(seed, &format!("{name}.weight_hh"), &[gates * hidden, hidden], into)?;
    init.fill(seed, &format!("{name}.bias_ih"), &[gates * hidden], into)?;
    init.fill(seed, &format!("{name}.bias_hh"), &[gates * hidden], into)
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
        let start = rng::normal(&mut Seed(2).stream("test", 0), &[2, 5], 1.0);
        let step = |state: Tensor, t: i64| gru_cell(&params, "cell", &x.select(1, t), &state).unwrap();
        let ours = (0..4).fold(start.shallow_clone(), step);
        let weights = ["weight_ih", "weight_hh", "bias_ih", "bias_hh"]
            .map(|part| params.get(&format!("cell.{part}")).unwrap());
        let (_, theirs) = x.gru(&start.unsqueeze(0), &weights, true, 1, 0.0, false, false, true);
        assert!((&ours - theirs.squeeze_dim(0)).abs().max().double_value(&[]) < 1e-6);
        let mut inputs = vec![&x];
        inputs.extend(weights);
        let grads = |y: &Tensor| Tensor::run_backward(&[y.square().sum(Kind::Float)], &inputs, false, false);
        for (a, b) in grads(&ours).iter().zip(grads(&theirs)) {
            assert!((a - b).abs().max().double_value(&[]) < 1e-5 && a.norm().double_value(&[]) > 0.0);
        }
    }

    #[test]
    fn a_shape_that_does_not_fit_names_the_layer() {
        let mut params = StateDict::new();
        init("cell", 3, 5, Seed(0), &mut params).unwrap();
        let zeros = |dims: [i64; 2]| Tensor::zeros(dims, (Kind::Float, tch::Device::Cpu));
        let refuse = |x: [i64; 2], h: [i64; 2]| gru_cell(&params, "cell", &zeros(x), &zeros(h)).unwrap_err();
        insta::assert_snapshot!(refuse([2, 4], [2, 5]), @"`input of cell` must have shape [batch, 3], but has [2, 4]");
        insta::assert_snapshot!(refuse([2, 3], [1, 5]), @"`state of cell` must have shape [2, 5], but has [1, 5]");
        params.insert("cell.bias_hh", zeros([1, 15]));
        let bias = gru_cell(&params, "cell", &zeros([2, 3]), &zeros([2, 5])).unwrap_err();
        insta::assert_snapshot!(bias, @"`cell.bias_hh` must have shape [15], but has [1, 15]");
    }
}
