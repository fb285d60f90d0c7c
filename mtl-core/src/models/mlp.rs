//! The multi-layer perceptron.
mod staged;

use crate::{
    Context, Cost, Encoder, Error, Features, Input, Model, ParamSource, Result, Seed, StateDict,
    nn::{Activation, Init, check_probability, dropout, linear},
};
use tch::Tensor;

/// Linear maps `fc0`, `fc1`, … with an activation between.
///
/// As a [`Model`] its last map has no activation; as an [`Encoder`] it has, as heads follow. Inputs of any shape are
/// flattened to `[batch, features]`.
///
/// ```
/// use mtl_core::{Context, Model, Seed, models::Mlp};
/// use tch::{Device, Kind, Tensor};
///
/// let mlp = Mlp::new(&[64, 32, 10])?;
/// let params = mlp.init(Seed(0))?;
/// assert_eq!(params.names().collect::<Vec<_>>(), ["fc0.bias", "fc0.weight", "fc1.bias", "fc1.weight"]);
/// let images = Tensor::ones([2, 1, 8, 8], (Kind::Float, Device::Cpu));
/// assert_eq!(mlp.forward(&params, &images.into(), &Context::eval())?.size(), [2, 10]);
/// # Ok::<(), mtl_core::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct Mlp {
    layers: Vec<Layer>,
    activation: Activation,
    dropout: f64,
}

#[derive(Debug, Clone)]
struct Layer {
    name: String,
    inputs: i64,
    outputs: i64,
}

impl Mlp {
    /// A perceptron whose layers have `widths`, from the input to the output, with ReLU and no dropout.
    ///
    /// # Errors
    ///
    /// [`Error::Config`] with fewer than two widths or one below 1.
    pub fn new(widths: &[i64]) -> Result<Self> {
        if widths.len() < 2 || widths.iter().any(|w| *w < 1) {
            return Err(Error::config("widths", "two or more sizes of at least 1", format!("{widths:?}")));
        }
        let layer =
            |(i, pair): (usize, &[i64])| Layer { name: format!("fc{i}"), inputs: pair[0], outputs: pair[1] };
        let layers = widths.windows(2).enumerate().map(layer).collect();
        Ok(Self { layers, activation: Activation::Relu, dropout: 0.0 })
    }

    /// Sets the activation.
    #[must_use]
    pub fn activation(mut self, activation: Activation) -> Self {
        self.activation = activation;
        self
    }

    /// Sets the probability of dropping an activation in training.
    ///
    /// # Errors
    ///
    /// [`Error::Config`] when it is not in 0..1.
    pub fn dropout(mut self, dropout: f64) -> Result<Self> {
        check_probability(dropout, "dropout")?;
        self.dropout = dropout;
        Ok(self)
    }

    /// Fresh parameters, drawn as PyTorch does; see [`Model::init`].
    ///
    /// # Errors
    ///
    /// See [`Model::init`].
    pub fn init(&self, seed: Seed) -> Result<StateDict> {
        let mut params = StateDict::new();
        for layer in &self.layers {
            linear::init(&layer.name, layer.inputs, layer.outputs, true, Init::default(), seed, &mut params)?;
        }
        Ok(params)
    }

    /// Width of the output.
    pub fn outputs(&self) -> i64 {
        self.layers.last().map_or(0, |l| l.outputs)
    }

    /// Cost of one example.
    pub fn cost(&self) -> Cost {
        let layer = |l: &Layer| {
            let macs = (l.inputs * l.outputs) as u64;
            Cost { macs, params: macs + l.outputs as u64 }
        };
        self.layers.iter().map(layer).fold(Cost::default(), |sum, cost| sum + cost)
    }

    fn run(&self, params: &dyn ParamSource, input: &Input, ctx: &Context, last: bool) -> Result<Tensor> {
        let values = &input.values;
        let mut x = if values.dim() > 2 { values.flatten(1, -1) } else { values.shallow_clone() };
        let hidden = if last { self.layers.len() } else { self.layers.len() - 1 };
        for (i, layer) in self.layers.iter().enumerate() {
            x = params.linear(&layer.name, &x)?;
            if i < hidden {
                x = self.activation.apply(&x);
                if self.dropout > 0.0 {
                    x = dropout(&x, self.dropout, ctx);
                }
            }
        }
        Ok(x)
    }
}

impl Model for Mlp {
    fn init(&self, seed: Seed) -> Result<StateDict> {
        self.init(seed)
    }

    fn forward(&self, params: &dyn ParamSource, input: &Input, ctx: &Context) -> Result<Tensor> {
        self.run(params, input, ctx, false)
    }
}

impl Encoder for Mlp {
    fn init(&self, seed: Seed) -> Result<StateDict> {
        self.init(seed)
    }

    fn encode(&self, params: &dyn ParamSource, input: &Input, ctx: &Context) -> Result<Features> {
        Ok(Features { pooled: self.run(params, input, ctx, true)?, positions: None })
    }

    fn dim(&self) -> i64 {
        self.outputs()
    }

    fn cost(&self) -> Cost {
        self.cost()
    }
}
