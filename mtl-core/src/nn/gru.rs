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
