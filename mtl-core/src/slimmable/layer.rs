//! One layer that can run at several widths.
use super::{SlimNorm, WidthRatio};
use crate::{
    Error, ParamSource, Result, Seed, StateDict,
    nn::{Activation, Conv2d, Init, conv2d, linear},
};
use std::collections::BTreeMap;
use tch::Tensor;

/// What a layer does with its input.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Op {
    /// A linear map of a vector, or of a map with `positions` numbers per channel, flattened.
    Dense { positions: i64 },
    /// A convolution that keeps the size of its map.
    Conv { kernel: i64 },
}

/// A linear map or convolution at full size.
#[derive(Debug, Clone)]
pub(super) struct Layer {
    pub(super) name: String,
    pub(super) op: Op,
    /// Input channels at full width.
    pub(super) inputs: i64,
    /// Output channels at full width.
    pub(super) outputs: i64,
    /// Positions of the output map; 1 for a vector.
    pub(super) area: i64,
    /// Whether the output stays whole at every width, as that of a prediction does.
    pub(super) fixed: bool,
}

/// How a layer runs in one forward pass.
#[derive(Debug, Clone, Copy)]
pub(super) struct Style {
    pub(super) norm: SlimNorm,
    pub(super) activation: Activation,
}

const EPS: f64 = 1e-5;

impl Layer {
    /// Active output channels at `width`.
    pub(super) fn active(&self, width: WidthRatio) -> i64 {
        if self.fixed { self.outputs } else { width.channels(self.outputs) }
    }

    /// Shape of the weight with `inputs` and `outputs` active channels.
    fn shape(&self, inputs: i64, outputs: i64) -> Vec<i64> {
        match self.op {
            Op::Dense { positions } => vec![outputs, inputs * positions],
            Op::Conv { kernel } => vec![outputs, inputs, kernel, kernel],
        }
    }

    /// Multiply-accumulates of one example with `inputs` active input channels.
    pub(super) fn macs(&self, inputs: i64, width: WidthRatio) -> u64 {
        let weights: i64 = self.shape(inputs, self.active(width)).iter().product();
        weights as u64 * self.area as u64
    }

    /// Parameters read at full width, without those of normalisation.
    pub(super) fn params(&self) -> u64 {
        (self.shape(self.inputs, self.outputs).iter().product::<i64>() + self.outputs) as u64
    }

    /// Name of the normalisation at the `index`-th width.
    pub(super) fn norm(&self, index: usize) -> String {
        format!("{}.norm.{index}", self.name)
    }

    /// Fresh parameters, those of the normalisation at each of `widths` among them.
    pub(super) fn init(
        &self,
        norm: SlimNorm,
        widths: &[WidthRatio],
        seed: Seed,
        into: &mut StateDict,
    ) -> Result<()> {
        let weight = if self.fixed { Init::default() } else { Init::KaimingUniform { a: 0.0 } };
        match self.op {
            Op::Dense { positions } => {
                linear::init(&self.name, self.inputs * positions, self.outputs, true, weight, seed, into)?;
            }
            Op::Conv { kernel } => {
                let channels = (self.inputs, self.outputs);
                Conv2d::default().init(&self.name, channels, kernel, true, weight, seed, into)?;
            }
        }
        if norm == SlimNorm::None || self.fixed {
            return Ok(());
        }
        for (i, &width) in widths.iter().enumerate() {
            crate::nn::layer_norm::init(&self.norm(i), self.active(width), into)?;
        }
        Ok(())
    }

    /// Adds the sizes of weight and bias with `inputs` active input channels, where they are not whole.
    pub(super) fn slice(&self, inputs: i64, width: WidthRatio, into: &mut BTreeMap<String, Vec<i64>>) {
        let outputs = self.active(width);
        if (inputs, outputs) == (self.inputs, self.outputs) {
            return;
        }
        into.insert(format!("{}.weight", self.name), self.shape(inputs, outputs));
        into.insert(format!("{}.bias", self.name), vec![outputs]);
    }

    /// The layer on sliced parameters, with normalisation of the `index`-th width and activation unless it is fixed.
    pub(super) fn forward(
        &self,
        params: &dyn ParamSource,
        x: &Tensor,
        style: Style,
        index: usize,
    ) -> Result<Tensor> {
        let x = match self.op {
            Op::Dense { .. } if x.dim() > 2 => params.linear(&self.name, &x.flatten(1, -1))?,
            Op::Dense { .. } => params.linear(&self.name, x)?,
            Op::Conv { kernel } => {
                conv2d(params, &self.name, x, Conv2d { padding: kernel / 2, ..Conv2d::default() })?
            }
        };
        if self.fixed {
            return Ok(x);
        }
        let groups = match style.norm {
            SlimNorm::None => return Ok(style.activation.apply(&x)),
            SlimNorm::Layer => 1,
            SlimNorm::Group { groups } => groups,
        };
        let name = self.norm(index);
        let weight = params.param(&format!("{name}.weight"))?;
        let bias = params.param(&format!("{name}.bias"))?;
        let channels = x.size().get(1).copied().unwrap_or(0);
        for (part, tensor) in [("weight", &weight), ("bias", &bias)] {
            if tensor.size() != [channels] {
                return Err(Error::shape(format!("{name}.{part}"), format!("[{channels}]"), tensor.size()));
            }
        }
        let x = x.group_norm(groups, Some(&*weight), Some(&*bias), EPS, false);
        Ok(style.activation.apply(&x))
    }

    /// Fails unless `groups` divide the active channels at every width.
    pub(super) fn check_groups(&self, norm: SlimNorm, widths: &[WidthRatio]) -> Result<()> {
        let SlimNorm::Group { groups } = norm else { return Ok(()) };
        if groups < 1 {
            return Err(Error::config("norm.groups", "at least 1", groups));
        }
        if self.fixed {
            return Ok(());
        }
        match widths.iter().find(|w| self.active(**w) % groups != 0) {
            Some(w) => {
                let active = self.active(*w);
                let must = format!("a divisor of the {active} active channels of {} at width {w}", self.name);
                Err(Error::config("norm.groups", must, groups))
            }
            None => Ok(()),
        }
    }
}
