//! The convolutional network as stages: one for each convolution, then the dense layer where there is one.
use super::{Cnn, CnnPooling, SAME};
use crate::{
    Context, Cost, Encoder, Error, ParamSource, Result, Seed, StateDict,
    architectures::{StagedEncoder, no_stage},
    nn::{Init, conv2d, linear},
};
use tch::Tensor;

impl Cnn {
    fn convolutions(&self) -> usize {
        self.config.widths.len()
    }

    fn has_dense(&self) -> bool {
        self.config.pooling == CnnPooling::Dense
    }

    /// Rows and columns of the maps of convolution `stage`.
    fn map(&self, stage: usize) -> (i64, i64) {
        let halved = |size: i64| (0..stage).fold(size, |size, _| size / 2);
        (halved(self.config.height), halved(self.config.width))
    }

    /// Inputs and outputs of the dense layer.
    fn dense(&self) -> (i64, i64) {
        (self.dim() * self.grid.0 * self.grid.1, self.dim())
    }
}

impl StagedEncoder for Cnn {
    fn stages(&self) -> usize {
        self.convolutions() + usize::from(self.has_dense())
    }

    fn input_shape(&self) -> Vec<i64> {
        vec![self.config.channels, self.config.height, self.config.width]
    }

    fn shape(&self, stage: usize) -> Vec<i64> {
        match self.config.widths.get(stage) {
            Some(&width) => {
                let (rows, columns) = self.map(stage);
                vec![width, rows, columns]
            }
            None if stage < self.stages() => vec![self.dim()],
            None => Vec::new(),
        }
    }

    fn init_stage(&self, stage: usize, prefix: &str, seed: Seed, into: &mut StateDict) -> Result<()> {
        let he = Init::KaimingUniform { a: 0.0 };
        match self.channels().nth(stage) {
            Some(channels) => SAME.init(prefix, channels, 3, true, he, seed, into),
            None if stage < self.stages() => {
                let (inputs, outputs) = self.dense();
                linear::init(prefix, inputs, outputs, true, he, seed, into)
            }
            None => Err(no_stage(stage, self.stages())),
        }
    }

    fn forward_stage(
        &self,
        params: &dyn ParamSource,
        prefix: &str,
        stage: usize,
        x: &Tensor,
        _ctx: &Context,
    ) -> Result<Tensor> {
        if stage >= self.stages() {
            return Err(no_stage(stage, self.stages()));
        }
        if x.dim() != 4 {
            let expected = "[batch, channels, height, width]";
            return Err(Error::shape(format!("input of {prefix}"), expected, x.size()));
        }
        if stage >= self.convolutions() {
            return Ok(params.linear(prefix, &x.flatten(1, -1))?.relu());
        }
        let pooled = (stage > 0).then(|| x.max_pool2d([2i64], [2i64], [0i64], [1i64], false));
        Ok(conv2d(params, prefix, pooled.as_ref().unwrap_or(x), SAME)?.relu())
    }

    fn stage_cost(&self, stage: usize) -> Cost {
        let (weights, outputs, positions) = match self.channels().nth(stage) {
            Some((inputs, outputs)) => {
                let (rows, columns) = self.map(stage);
                (9 * inputs * outputs, outputs, rows * columns)
            }
            None if stage < self.stages() => {
                let (inputs, outputs) = self.dense();
                (inputs * outputs, outputs, 1)
            }
            None => return Cost::default(),
        };
        Cost { macs: (weights * positions) as u64, params: (weights + outputs) as u64 }
    }
}
