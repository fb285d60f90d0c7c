//! A small convolutional network for small images.
mod staged;

use crate::{
    Context, Cost, Encoder, Error, Features, Input, ParamSource, Result, Seed, StateDict, check,
    nn::{Conv2d, Init, conv2d, linear},
};
use serde::{Deserialize, Serialize};

/// How [`Cnn`] makes one vector of its feature map.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum CnnPooling {
    /// A linear map of the whole feature map with ReLU, `fc`: keeps where things are, as digits need.
    #[default]
    Dense,
    /// The mean over positions.
    Mean,
}

/// Configuration of [`Cnn`]; the default suits 28 × 28 grey images.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct CnnConfig {
    /// Channels of the images.
    pub channels: i64,
    /// Rows of the images.
    pub height: i64,
    /// Columns of the images.
    pub width: i64,
    /// Channels after each convolution; the images are halved between one and the next.
    pub widths: Vec<i64>,
    /// How one vector is made of the feature map.
    pub pooling: CnnPooling,
}

impl Default for CnnConfig {
    fn default() -> Self {
        Self { channels: 1, height: 28, width: 28, widths: vec![16, 32, 64], pooling: CnnPooling::Dense }
    }
}

impl CnnConfig {
    /// Sets the shape of the images.
    #[must_use]
    pub fn image(mut self, channels: i64, height: i64, width: i64) -> Self {
        (self.channels, self.height, self.width) = (channels, height, width);
        self
    }

    /// Sets [`CnnConfig::widths`].
    #[must_use]
    pub fn widths(mut self, widths: &[i64]) -> Self {
        self.widths = widths.to_vec();
        self
    }

    /// Sets [`CnnConfig::pooling`].
    #[must_use]
    pub fn pooling(mut self, pooling: CnnPooling) -> Self {
        self.pooling = pooling;
        self
    }

    /// Checks the values and builds the network.
    ///
    /// # Errors
    ///
    /// [`Error::Config`] when a size is below 1 or the image is too small to be halved that often.
    pub fn build(self) -> Result<Cnn> {
        if self.channels < 1 || self.widths.is_empty() || self.widths.iter().any(|w| *w < 1) {
            let value = format!("channels {} and widths {:?}", self.channels, self.widths);
            return Err(Error::config("widths", "at least one size, each at least 1", value));
        }
        let halvings = self.widths.len() - 1;
        let halved = |size: i64| (0..halvings).fold(size, |s, _| s / 2);
        let grid = (halved(self.height), halved(self.width));
        if grid.0 < 1 || grid.1 < 1 {
            let must = format!("large enough to be halved {halvings} times");
            return Err(Error::config("image", must, format!("{} × {}", self.height, self.width)));
        }
        let names = (0..self.widths.len()).map(|i| format!("conv{i}")).collect();
        Ok(Cnn { config: self, names, grid })
    }
}

/// 3 × 3 convolutions `conv0`, `conv1`, … with ReLU, and 2 × 2 max-pooling between one and the next.
///
/// ```
/// use mtl_core::{Context, Encoder, Seed, models::CnnConfig};
/// use tch::{Device, Kind, Tensor};
///
/// let cnn = CnnConfig::default().image(1, 8, 8).widths(&[8, 16]).build()?;
/// let params = cnn.init(Seed(0))?;
/// let images = Tensor::ones([2, 1, 8, 8], (Kind::Float, Device::Cpu));
/// let features = cnn.encode(&params, &images.into(), &Context::eval())?;
/// assert_eq!((features.pooled.size(), cnn.grid()), (vec![2, 16], Some((4, 4))));
/// # Ok::<(), mtl_core::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct Cnn {
    config: CnnConfig,
    names: Vec<String>,
    grid: (i64, i64),
}

const SAME: Conv2d = Conv2d { stride: 1, padding: 1, dilation: 1, groups: 1 };

impl Cnn {
    /// The configuration that it was built from.
    pub fn config(&self) -> &CnnConfig {
        &self.config
    }

    /// Input and output channels of each convolution.
    fn channels(&self) -> impl Iterator<Item = (i64, i64)> {
        let widths = &self.config.widths;
        std::iter::once(self.config.channels).chain(widths.iter().copied()).zip(widths.iter().copied())
    }
}

impl Encoder for Cnn {
    fn init(&self, seed: Seed) -> Result<StateDict> {
        let (mut params, he) = (StateDict::new(), Init::KaimingUniform { a: 0.0 });
        for (name, channels) in self.names.iter().zip(self.channels()) {
            SAME.init(name, channels, 3, true, he, seed, &mut params)?;
        }
        if self.config.pooling == CnnPooling::Dense {
            let (dim, positions) = (self.dim(), self.grid.0 * self.grid.1);
            linear::init("fc", dim * positions, dim, true, he, seed, &mut params)?;
        }
        Ok(params)
    }

    fn encode(&self, params: &dyn ParamSource, input: &Input, _ctx: &Context) -> Result<Features> {
        let CnnConfig { channels, height, width, .. } = self.config;
        let (_, c, h, w) = check::dims4(&input.values, "input", "[batch, channels, height, width]")?;
        if (c, h, w) != (channels, height, width) {
            let expected = format!("[batch, {channels}, {height}, {width}]");
            return Err(Error::shape("input", expected, input.values.size()));
        }
        let mut x = input.values.shallow_clone();
        for (i, name) in self.names.iter().enumerate() {
            if i > 0 {
                x = x.max_pool2d([2i64], [2i64], [0i64], [1i64], false);
            }
            x = conv2d(params, name, &x, SAME)?.relu();
        }
        let pooled = match self.config.pooling {
            CnnPooling::Mean => x.mean_dim([2i64, 3].as_slice(), false, None),
            CnnPooling::Dense => params.linear("fc", &x.flatten(1, -1))?.relu(),
        };
        Ok(Features { pooled, positions: Some(x.flatten(2, -1).transpose(1, 2)) })
    }

    fn dim(&self) -> i64 {
        self.config.widths.last().copied().unwrap_or(0)
    }

    fn grid(&self) -> Option<(i64, i64)> {
        Some(self.grid)
    }

    fn cost(&self) -> Cost {
        let (mut h, mut w) = (self.config.height, self.config.width);
        let mut cost = Cost::default();
        for (inputs, outputs) in self.channels() {
            let weights = 9 * inputs * outputs;
            cost = cost + Cost { macs: (weights * h * w) as u64, params: (weights + outputs) as u64 };
            (h, w) = (h / 2, w / 2);
        }
        if self.config.pooling == CnnPooling::Dense {
            let weights = (self.dim() * self.dim() * self.grid.0 * self.grid.1) as u64;
            cost = cost + Cost { macs: weights, params: weights + self.dim() as u64 };
        }
        cost
    }
}
