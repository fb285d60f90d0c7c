//! Width choices and the networks they apply to.
use crate::math::positive;
use crate::{HwError, Result};
use serde::{Deserialize, Serialize};

/// Width ratios that each encoder stage and each task's decoder can run at.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WidthSpace {
    /// Ratios in (0, 1] per stage, rising.
    pub encoder: Vec<Vec<f64>>,
    /// Ratios in (0, 1] per task, rising.
    pub decoders: Vec<Vec<f64>>,
}

/// Chosen widths, as indices into the ratios.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Widths {
    /// Per stage.
    pub encoder: Vec<usize>,
    /// Per task.
    pub decoders: Vec<usize>,
}

impl WidthSpace {
    /// The same ratios for all of `stages` stages, and for all decoders of `tasks` tasks.
    #[must_use]
    pub fn uniform(stages: usize, encoder: &[f64], tasks: usize, decoders: &[f64]) -> Self {
        Self { encoder: vec![encoder.to_vec(); stages], decoders: vec![decoders.to_vec(); tasks] }
    }

    /// Checks that there are stages and decoders with rising ratios in (0, 1].
    ///
    /// # Errors
    ///
    /// [`HwError::Config`] naming the list.
    pub fn validate(&self) -> Result<()> {
        for (kind, lists) in [("encoder", &self.encoder), ("decoders", &self.decoders)] {
            positive(&format!("widths.{kind}"), lists.len() as u64)?;
            for (i, list) in lists.iter().enumerate() {
                let inside = list.iter().all(|w| *w > 0.0 && *w <= 1.0);
                if list.is_empty() || !inside || !list.is_sorted_by(|a, b| a < b) {
                    return Err(HwError::config(
                        format!("widths.{kind}[{i}]"),
                        "rising ratios in (0, 1], at least one",
                        format!("{list:?}"),
                    ));
                }
            }
        }
        Ok(())
    }

    /// All at their narrowest.
    #[must_use]
    pub fn narrowest(&self) -> Widths {
        Widths { encoder: vec![0; self.encoder.len()], decoders: vec![0; self.decoders.len()] }
    }

    /// All at their widest.
    #[must_use]
    pub fn widest(&self) -> Widths {
        let last = |lists: &[Vec<f64>]| lists.iter().map(|l| l.len().saturating_sub(1)).collect();
        Widths { encoder: last(&self.encoder), decoders: last(&self.decoders) }
    }

    /// Number of encoder configurations.
    #[must_use]
    pub fn encoders(&self) -> u128 {
        self.encoder.iter().map(|l| l.len() as u128).fold(1, u128::saturating_mul)
    }
}

/// One k×k convolution; a linear map is one position and kernel 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SlimLayer {
    /// Output positions H·W.
    pub positions: u64,
    /// Side k of the kernel.
    pub kernel: u64,
    /// Output channels at full width.
    pub channels: u64,
    /// Whether the output channels stay at full width, as those of a prediction do.
    #[serde(default)]
    pub fixed: bool,
}

/// A shared encoder of stages and one decoder per task; the first layer of a stage or decoder reads the one before it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SlimNet {
    /// Channels of the input.
    pub input_channels: u64,
    /// Layers of each stage.
    pub encoder: Vec<Vec<SlimLayer>>,
    /// Layers of each decoder.
    pub decoders: Vec<Vec<SlimLayer>>,
}

impl SlimNet {
    /// Checks that dimensions are positive and parts match the width lists.
    ///
    /// # Errors
    ///
    /// [`HwError::Config`] naming the key.
    pub fn validate(&self, space: &WidthSpace) -> Result<()> {
        space.validate()?;
        positive("net.input_channels", self.input_channels)?;
        for (kind, parts, lists) in
            [("encoder", &self.encoder, &space.encoder), ("decoders", &self.decoders, &space.decoders)]
        {
            if parts.len() != lists.len() {
                let must = format!("as many as the width lists, {}", lists.len());
                return Err(HwError::config(format!("net.{kind}"), must, parts.len()));
            }
            for (i, layers) in parts.iter().enumerate() {
                positive(&format!("net.{kind}[{i}]"), layers.len() as u64)?;
                for layer in layers {
                    for (field, v) in [
                        ("positions", layer.positions),
                        ("kernel", layer.kernel),
                        ("channels", layer.channels),
                    ] {
                        positive(&format!("net.{kind}[{i}].{field}"), v)?;
                    }
                }
            }
        }
        Ok(())
    }
}
