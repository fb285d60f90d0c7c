//! The perceptron as stages: one for each layer with its activation.
use super::{Layer, Mlp};
use crate::{
    Context, Cost, ParamSource, Result, Seed, StateDict,
    architectures::{StagedEncoder, no_stage},
    nn::{Init, dropout, linear},
};
use tch::Tensor;

impl Mlp {
    fn layer(&self, stage: usize) -> Result<&Layer> {
        self.layers.get(stage).ok_or_else(|| no_stage(stage, self.layers.len()))
    }
}

impl StagedEncoder for Mlp {
    fn stages(&self) -> usize {
        self.layers.len()
    }

    fn input_shape(&self) -> Vec<i64> {
        self.layers.first().map_or_else(Vec::new, |layer| vec![layer.inputs])
    }

    fn shape(&self, stage: usize) -> Vec<i64> {
        self.layers.get(stage).map_or_else(Vec::new, |layer| vec![layer.outputs])
    }

    fn init_stage(&self, stage: usize, prefix: &str, seed: Seed, into: &mut StateDict) -> Result<()> {
        let layer = self.layer(stage)?;
        linear::init(prefix, layer.inputs, layer.outputs, true, Init::default(), seed, into)
    }

    fn forward_stage(
        &self,
        params: &dyn ParamSource,
        prefix: &str,
        stage: usize,
        x: &Tensor,
        ctx: &Context,
    ) -> Result<Tensor> {
        self.layer(stage)?;
        Ok(dropout(&self.activation.apply(&params.linear(prefix, x)?), self.dropout, ctx))
    }

    fn stage_cost(&self, stage: usize) -> Cost {
        self.layers.get(stage).map_or_else(Cost::default, |layer| {
            let macs = (layer.inputs * layer.outputs) as u64;
            Cost { macs, params: macs + layer.outputs as u64 }
        })
    }
}
