//! What a slimmable network is made of.
use super::{SlimmableNet, WidthRatio};
use crate::{Error, Result, TaskSpec, nn::Activation};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// What goes into a slimmable network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub enum SlimInput {
    /// `[batch, features]`; other shapes are flattened to it.
    Vector {
        /// Numbers per example.
        features: i64,
    },
    /// `[batch, channels, height, width]`.
    Image {
        /// Channels of the images.
        channels: i64,
        /// Rows.
        height: i64,
        /// Columns.
        width: i64,
    },
}

/// One stage of the encoder: layers that run at the same width.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub enum SlimStage {
    /// Linear maps; the first one after an image or a convolution reads the whole map, channel by channel.
    Dense {
        /// Outputs of each map at full width.
        units: i64,
        /// Maps one after another.
        #[serde(default = "one")]
        layers: usize,
    },
    /// Convolutions of stride 1 that keep the size of the map.
    Conv {
        /// Output channels at full width.
        channels: i64,
        /// Convolutions one after another.
        #[serde(default = "one")]
        layers: usize,
        /// Side of the kernel. Odd.
        #[serde(default = "three")]
        kernel: i64,
        /// Halves the map by 2 × 2 max-pooling at the end of the stage.
        #[serde(default)]
        pool: bool,
    },
}

fn one() -> usize {
    1
}

fn three() -> i64 {
    3
}

/// Normalisation after each slimmable layer, over its active channels, with affine parameters of its own for each
/// width (Yu et al., 2019, section 3.2, with statistics of the example instead of the batch).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub enum SlimNorm {
    /// None.
    #[default]
    None,
    /// Mean 0 and variance 1 over all active channels (and positions) of an example.
    Layer,
    /// The same over each of `groups` groups of active channels.
    Group {
        /// Groups, which must divide the active channels of every layer at every width.
        groups: i64,
    },
}

/// Configuration of a [`SlimmableNet`]; the default is a perceptron of four stages for 8 × 8 images of digits.
///
/// ```
/// use mtl_core::slimmable::SlimmableConfig;
///
/// let text = r#"{"input": {"kind": "image", "channels": 1, "height": 8, "width": 8},
///     "stages": [{"kind": "conv", "channels": 16, "pool": true}, {"kind": "dense", "units": 32}],
///     "widths": [0.25, 0.5, 1.0]}"#;
/// let config: SlimmableConfig = serde_json::from_str(text).unwrap();
/// assert_eq!((config.stages.len(), config.decoder), (2, vec![64]));
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct SlimmableConfig {
    /// Shape of the input.
    pub input: SlimInput,
    /// Stages of the shared encoder; convolutions come before linear maps.
    pub stages: Vec<SlimStage>,
    /// Hidden layers of each decoder at full width; a full layer to the task's outputs follows them.
    pub decoder: Vec<i64>,
    /// Hidden layers of the decoders of single tasks, by name, where they differ from `decoder`.
    pub decoders: BTreeMap<String, Vec<i64>>,
    /// Ratios that every part can run at, rising; the last is 1. The paper's list is unknown.
    pub widths: Vec<WidthRatio>,
    /// Normalisation of encoder and decoder layers.
    pub norm: SlimNorm,
    /// Activation after each layer but the last of a decoder.
    pub activation: Activation,
}

impl Default for SlimmableConfig {
    fn default() -> Self {
        Self {
            input: SlimInput::Vector { features: 64 },
            stages: vec![SlimStage::Dense { units: 128, layers: 1 }; 4],
            decoder: vec![64],
            decoders: BTreeMap::new(),
            widths: [0.25, 0.5, 0.75, 1.0].map(WidthRatio::new).into_iter().flatten().collect(),
            norm: SlimNorm::None,
            activation: Activation::Relu,
        }
    }
}

impl SlimmableConfig {
    /// Sets the shape of the input.
    #[must_use]
    pub fn input(mut self, input: SlimInput) -> Self {
        self.input = input;
        self
    }

    /// Sets the stages of the encoder.
    #[must_use]
    pub fn stages(mut self, stages: &[SlimStage]) -> Self {
        self.stages = stages.to_vec();
        self
    }

    /// Sets the hidden layers of each decoder.
    #[must_use]
    pub fn decoder(mut self, hidden: &[i64]) -> Self {
        self.decoder = hidden.to_vec();
        self
    }

    /// Sets the hidden layers of the decoder of one task.
    #[must_use]
    pub fn task_decoder(mut self, task: impl Into<String>, hidden: &[i64]) -> Self {
        self.decoders.insert(task.into(), hidden.to_vec());
        self
    }

    /// Sets the ratios that every part can run at.
    #[must_use]
    pub fn widths(mut self, widths: &[WidthRatio]) -> Self {
        self.widths = widths.to_vec();
        self
    }

    /// Sets the normalisation.
    #[must_use]
    pub fn norm(mut self, norm: SlimNorm) -> Self {
        self.norm = norm;
        self
    }

    /// Sets the activation.
    #[must_use]
    pub fn activation(mut self, activation: Activation) -> Self {
        self.activation = activation;
        self
    }

    /// Checks the values and builds the network for `tasks`.
    ///
    /// # Errors
    ///
    /// [`Error::Config`] naming the field that is out of range: no stage, no ratio or ratios that do not rise to 1,
    /// sizes below 1, an even kernel, a convolution without an image or behind a linear map, a map too small to be
    /// halved, groups that do not divide the active channels at some width, a decoder for a task that is absent, no
    /// task, task names that repeat, a kind of task without a linear decoder or a dense task whose map the encoder's
    /// positions do not tile.
    pub fn build(self, tasks: Vec<TaskSpec>) -> Result<SlimmableNet> {
        self.check_widths()?;
        SlimmableNet::build(self, tasks)
    }

    fn check_widths(&self) -> Result<()> {
        let rising = self.widths.is_sorted_by(|a, b| a < b);
        if !rising || self.widths.last() != Some(&WidthRatio::FULL) {
            let value = format!("{:?}", self.widths.iter().map(|w| w.get()).collect::<Vec<_>>());
            return Err(Error::config("widths", "rising ratios of which the last is 1", value));
        }
        Ok(())
    }
}
