//! Encoders and task decoders whose width is chosen at run time (slimmable networks: Yu et al., ICLR 2019,
//! arXiv 1812.08928; for several tasks: Aich et al., ICCV 2023, arXiv 2308.11744).
use super::block;
use super::build::Builder;
use super::resnet::{Conv, Map, basic_block, conv_norm, relu};
use super::{Conv2dShape, ModelGraph, Op, Part, VitSpec};
use crate::math::{positive, product};
use crate::{HwError, Result};
use serde::{Deserialize, Serialize};

/// Width ratios in (0, 1], one per encoder stage and one per decoder.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Widths {
    /// Ratios of the encoder's stages.
    pub encoder: Vec<f64>,
    /// Ratios of the decoders.
    pub decoders: Vec<f64>,
}

impl Widths {
    /// The same ratio everywhere.
    #[must_use]
    pub fn uniform(stages: usize, decoders: usize, ratio: f64) -> Self {
        Self { encoder: vec![ratio; stages], decoders: vec![ratio; decoders] }
    }

    fn check(&self, stages: usize, decoders: usize) -> Result<()> {
        for (field, ratios, expected) in
            [("encoder", &self.encoder, stages), ("decoders", &self.decoders, decoders)]
        {
            if ratios.len() != expected {
                let must = format!("a list of {expected} ratios");
                return Err(HwError::config(field, must, format!("one of {}", ratios.len())));
            }
            for (i, &ratio) in ratios.iter().enumerate() {
                if !(ratio > 0.0 && ratio <= 1.0) {
                    return Err(HwError::config(format!("{field}[{i}]"), "in (0, 1]", ratio));
                }
            }
        }
        Ok(())
    }
}

/// Channels of a layer at a width ratio: the nearest multiple of `multiple`, at least one of them, at most `full`.
///
/// ```
/// use mtl_hw::graph::round_channels;
/// assert_eq!(round_channels(64, 0.6, 8)?, 40); // 38.4
/// assert_eq!(round_channels(64, 0.01, 8)?, 8);
/// assert_eq!(round_channels(20, 1.0, 8)?, 20); // the whole layer stays whole
/// # Ok::<(), mtl_hw::HwError>(())
/// ```
///
/// # Errors
///
/// [`HwError::Config`] for a zero or a ratio outside (0, 1].
pub fn round_channels(full: u64, ratio: f64, multiple: u64) -> Result<u64> {
    positive("channels", full)?;
    positive("round_to", multiple)?;
    if !(ratio > 0.0 && ratio <= 1.0) {
        return Err(HwError::config("ratio", "in (0, 1]", ratio));
    }
    // Exact below 2⁵³ channels; the cast saturates.
    let steps = (full as f64 * ratio / multiple as f64).round() as u64;
    Ok(steps.max(1).saturating_mul(multiple).min(full))
}

/// The decoder of one task.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SlimDecoder {
    /// The task it serves.
    pub task: u32,
    /// Channels of its hidden layers at full width.
    pub channels: u32,
    /// Hidden layers; 0 for an output layer alone.
    pub layers: u32,
    /// Outputs; never slimmed.
    pub classes: u32,
    /// Whether there is an output for each position of the feature map (convolutional encoders only).
    #[serde(default)]
    pub dense: bool,
}

/// A stage of a [`SlimCnnSpec`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SlimStage {
    /// Channels at full width.
    pub channels: u32,
    /// Residual blocks of two 3×3 convolutions.
    pub blocks: u32,
    /// Step of the first block.
    pub stride: u32,
}

fn check_decoders(decoders: &[SlimDecoder], dense_allowed: bool) -> Result<()> {
    for (i, decoder) in decoders.iter().enumerate() {
        positive(&format!("decoders[{i}].classes"), decoder.classes.into())?;
        positive(&format!("decoders[{i}].channels"), decoder.channels.into())?;
        if decoder.layers > 1024 {
            return Err(HwError::config(format!("decoders[{i}].layers"), "at most 1024", decoder.layers));
        }
        if decoder.dense && !dense_allowed {
            let must = "false, since this encoder has no feature map";
            return Err(HwError::config(format!("decoders[{i}].dense"), must, true));
        }
    }
    Ok(())
}

/// Hidden linear layers with ReLU, and the output.
fn linear_decoder(b: &mut Builder, x: usize, width: u64, decoder: &SlimDecoder, hidden: u64) {
    let (mut x, mut inner) = (x, width);
    for layer in 0..decoder.layers {
        x = b.push(&format!("fc{layer}"), &[x], Op::Gemm { rows: 1, inner, cols: hidden, bias: true });
        x = b.push(&format!("relu{layer}"), &[x], Op::Relu { rows: 1, cols: hidden });
        b.last(|n| n.in_place = true);
        inner = hidden;
    }
    b.push("out", &[x], Op::Gemm { rows: 1, inner, cols: decoder.classes.into(), bias: true });
}

/// A residual convolutional encoder with task decoders.
///
/// ```
/// use mtl_hw::graph::{SlimCnnSpec, SlimDecoder, SlimStage, Widths};
/// let spec = SlimCnnSpec {
///     name: "digits".to_owned(),
///     image: [32, 32],
///     channels: 3,
///     stages: vec![SlimStage { channels: 32, blocks: 1, stride: 1 }, SlimStage { channels: 64, blocks: 1, stride: 2 }],
///     decoders: vec![SlimDecoder { task: 0, channels: 64, layers: 1, classes: 10, dense: false }],
///     round_to: 8,
/// };
/// let macs = |ratio| Ok::<_, mtl_hw::HwError>(spec.graph(&Widths::uniform(2, 1, ratio))?.macs()?);
/// let share = macs(0.5)? as f64 / macs(1.0)? as f64;
/// assert!(share > 0.25 && share < 0.27); // a quarter, but for the first and last layer
/// # Ok::<(), mtl_hw::HwError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SlimCnnSpec {
    /// Name of the graph.
    pub name: String,
    /// Height and width in pixels.
    pub image: [u32; 2],
    /// Channels of the image; never slimmed.
    pub channels: u32,
    /// Stages; a 3×3 convolution before the first has the first one's channels.
    pub stages: Vec<SlimStage>,
    /// Decoders, on the last stage's feature map or its mean.
    pub decoders: Vec<SlimDecoder>,
    /// Channels are rounded to a multiple of this, such as the columns of a systolic array.
    pub round_to: u32,
}

impl SlimCnnSpec {
    /// Builds the graph at the given widths.
    ///
    /// # Errors
    ///
    /// [`HwError::Config`] naming the field or ratio that is out of range.
    pub fn graph(&self, widths: &Widths) -> Result<ModelGraph> {
        self.check()?;
        widths.check(self.stages.len(), self.decoders.len())?;
        let round = u64::from(self.round_to);
        let mut b = Builder::new(Part::Backbone);
        let mut x = Map {
            node: None,
            height: self.image[0].into(),
            width: self.image[1].into(),
            channels: self.channels.into(),
        };
        for (i, (stage, &ratio)) in self.stages.iter().zip(&widths.encoder).enumerate() {
            let out = round_channels(stage.channels.into(), ratio, round)?;
            if i == 0 {
                x = conv_norm(
                    &mut b,
                    "stem",
                    "stem_norm",
                    x,
                    &Conv { out, kernel: 3, stride: 1, groups: 1 },
                )?;
                relu(&mut b, "stem_relu", &mut x)?;
            }
            for block in 0..stage.blocks {
                b.scope = format!("stage{i}.{block}");
                let stride = if block == 0 { stage.stride.into() } else { 1 };
                x = basic_block(&mut b, x, out, stride)?;
            }
        }
        b.leave(Part::Head);
        for (i, (decoder, &ratio)) in self.decoders.iter().zip(&widths.decoders).enumerate() {
            b.task = Some(decoder.task);
            b.scope = format!("decoder.{i}");
            let hidden = round_channels(decoder.channels.into(), ratio, round)?;
            conv_decoder(&mut b, x, decoder, hidden)?;
        }
        b.finish(&self.name)
    }

    fn check(&self) -> Result<()> {
        for (field, value) in [
            ("image[0]", self.image[0]),
            ("image[1]", self.image[1]),
            ("channels", self.channels),
            ("round_to", self.round_to),
        ] {
            positive(field, value.into())?;
        }
        positive("stages", self.stages.len() as u64)?;
        for (i, stage) in self.stages.iter().enumerate() {
            positive(&format!("stages[{i}].channels"), stage.channels.into())?;
            positive(&format!("stages[{i}].stride"), stage.stride.into())?;
            if stage.blocks > 1024 {
                return Err(HwError::config(format!("stages[{i}].blocks"), "at most 1024", stage.blocks));
            }
        }
        check_decoders(&self.decoders, true)
    }
}

fn conv_decoder(b: &mut Builder, x: Map, decoder: &SlimDecoder, hidden: u64) -> Result<()> {
    let mut x = x;
    for layer in 0..decoder.layers {
        let conv = Conv { out: hidden, kernel: 3, stride: 1, groups: 1 };
        x = conv_norm(b, &format!("conv{layer}"), &format!("norm{layer}"), x, &conv)?;
        relu(b, &format!("relu{layer}"), &mut x)?;
    }
    let features: Vec<usize> = x.node.into_iter().collect();
    if decoder.dense {
        let shape = Conv2dShape::same(x.height, x.width, x.channels, decoder.classes.into(), 1);
        b.push("out", &features, Op::Conv2d(Conv2dShape { bias: true, ..shape }));
    } else {
        let pool = Op::GlobalPool { channels: x.channels, positions: x.positions()? };
        let pooled = b.push("pool", &features, pool);
        let out = Op::Gemm { rows: 1, inner: x.channels, cols: decoder.classes.into(), bias: true };
        b.push("out", &[pooled], out);
    }
    Ok(())
}

/// A multi-layer perceptron with task decoders; every hidden layer is a stage.
///
/// ```
/// use mtl_hw::graph::{SlimDecoder, SlimMlpSpec, Widths};
/// let decoder = SlimDecoder { task: 0, channels: 16, layers: 1, classes: 10, dense: false };
/// let spec = SlimMlpSpec {
///     name: "mlp".to_owned(), inputs: 784, hidden: vec![64, 32], decoders: vec![decoder], round_to: 8,
/// };
/// let widths = Widths { encoder: vec![0.5, 1.0], decoders: vec![0.25] };
/// assert_eq!(spec.graph(&widths)?.macs()?, 784 * 32 + 32 * 32 + 32 * 8 + 8 * 10);
/// # Ok::<(), mtl_hw::HwError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SlimMlpSpec {
    /// Name of the graph.
    pub name: String,
    /// Elements of an input; never slimmed.
    pub inputs: u32,
    /// Hidden widths at full width.
    pub hidden: Vec<u32>,
    /// Decoders on the last hidden layer.
    pub decoders: Vec<SlimDecoder>,
    /// Widths are rounded to a multiple of this.
    pub round_to: u32,
}

impl SlimMlpSpec {
    /// Builds the graph at the given widths.
    ///
    /// # Errors
    ///
    /// [`HwError::Config`] naming the field or ratio that is out of range.
    pub fn graph(&self, widths: &Widths) -> Result<ModelGraph> {
        positive("inputs", self.inputs.into())?;
        positive("round_to", self.round_to.into())?;
        positive("hidden", self.hidden.len() as u64)?;
        check_decoders(&self.decoders, false)?;
        widths.check(self.hidden.len(), self.decoders.len())?;
        let mut b = Builder::new(Part::FeedForward);
        let (mut inner, mut x) = (u64::from(self.inputs), None);
        for (i, (&full, &ratio)) in self.hidden.iter().zip(&widths.encoder).enumerate() {
            positive(&format!("hidden[{i}]"), full.into())?;
            let cols = round_channels(full.into(), ratio, self.round_to.into())?;
            b.scope = format!("stage{i}");
            let inputs: Vec<usize> = x.into_iter().collect();
            let fc = b.push("fc", &inputs, Op::Gemm { rows: 1, inner, cols, bias: true });
            x = Some(b.push("relu", &[fc], Op::Relu { rows: 1, cols }));
            b.last(|n| n.in_place = true);
            inner = cols;
        }
        b.leave(Part::Head);
        let features = b.nodes.len() - 1;
        for (i, (decoder, &ratio)) in self.decoders.iter().zip(&widths.decoders).enumerate() {
            b.task = Some(decoder.task);
            b.scope = format!("decoder.{i}");
            let hidden = round_channels(decoder.channels.into(), ratio, self.round_to.into())?;
            linear_decoder(&mut b, features, inner, decoder, hidden);
        }
        b.finish(&self.name)
    }
}

/// A vision transformer with task decoders. A ratio narrows the heads and hidden layers of a stage's blocks; the width of
/// a token stays, since all blocks add to the same residual stream.
///
/// ```
/// use mtl_hw::graph::{SlimDecoder, SlimVitSpec, VitSpec, Widths};
/// let decoders = vec![SlimDecoder { task: 0, channels: 192, layers: 0, classes: 1000, dense: false }];
/// let spec = SlimVitSpec { base: VitSpec::tiny(), stages: vec![4, 4, 4], decoders, round_to: 16 };
/// let full = spec.graph(&Widths::uniform(3, 1, 1.0))?;
/// assert_eq!(full.macs()?, VitSpec::tiny().graph()?.macs()?);
/// let half = spec.graph(&Widths { encoder: vec![1.0, 0.5, 0.5], decoders: vec![1.0] })?;
/// assert!(half.macs()? < full.macs()?);
/// # Ok::<(), mtl_hw::HwError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SlimVitSpec {
    /// The transformer at full width. Its heads are replaced by the decoders; it has no experts and no prompts.
    pub base: VitSpec,
    /// Blocks of each stage; they add up to the depth.
    pub stages: Vec<u32>,
    /// Decoders on the class token.
    pub decoders: Vec<SlimDecoder>,
    /// Hidden widths are rounded to a multiple of this; heads to whole heads.
    pub round_to: u32,
}

impl SlimVitSpec {
    /// Builds the graph at the given widths.
    ///
    /// # Errors
    ///
    /// [`HwError::Config`] naming the field or ratio that is out of range.
    pub fn graph(&self, widths: &Widths) -> Result<ModelGraph> {
        let base = &self.base;
        base.graph().map_err(|e| e.within("base"))?;
        for (field, absent) in [
            ("base.dense_heads", base.dense_heads.is_empty()),
            ("base.moe", base.moe.is_none()),
            ("base.prompts", base.prompts.is_none()),
        ] {
            if !absent {
                return Err(HwError::config(field, "absent in an encoder of adjustable width", "present"));
            }
        }
        positive("round_to", self.round_to.into())?;
        if self.stages.iter().try_fold(0u32, |acc, &n| acc.checked_add(n)) != Some(base.depth) {
            let must = format!("a list that adds up to `base.depth` = {}", base.depth);
            return Err(HwError::config("stages", must, format!("{:?}", self.stages)));
        }
        check_decoders(&self.decoders, false)?;
        widths.check(self.stages.len(), self.decoders.len())?;
        let mut b = Builder::new(Part::Embedding);
        let mut x = base.embed(&mut b, None)?;
        let full = base.block(base.tokens()?);
        let mut block = 0;
        for (&blocks, &ratio) in self.stages.iter().zip(&widths.encoder) {
            let mut shape = full;
            shape.heads = round_channels(full.heads, ratio, 1)?;
            shape.hidden = round_channels(full.hidden, ratio, self.round_to.into())?;
            for _ in 0..blocks {
                b.enter(block);
                b.part = Part::Attention;
                x = block::attention(&mut b, x, &shape)?;
                b.part = Part::FeedForward;
                x = block::feed_forward(&mut b, x, &shape)?;
                block += 1;
            }
        }
        b.leave(Part::Head);
        self.decode(&mut b, x, widths)?;
        b.finish(&base.name)
    }

    fn decode(&self, b: &mut Builder, x: usize, widths: &Widths) -> Result<()> {
        let (rows, dim) = (self.base.tokens()?, u64::from(self.base.dim));
        product("outputs", &[rows, dim])?;
        let mut x = b.push("norm", &[x], Op::LayerNorm { rows, dim });
        if self.base.prefix_tokens == 0 {
            x = b.push("pool", &[x], Op::MeanTokens { tokens: rows, dim });
        }
        for (i, (decoder, &ratio)) in self.decoders.iter().zip(&widths.decoders).enumerate() {
            b.task = Some(decoder.task);
            b.scope = format!("decoder.{i}");
            let hidden = round_channels(decoder.channels.into(), ratio, self.round_to.into())?;
            linear_decoder(b, x, dim, decoder, hidden);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn cnn() -> SlimCnnSpec {
        let decoder = |task, dense| SlimDecoder { task, channels: 32, layers: 2, classes: 5, dense };
        SlimCnnSpec {
            name: "slim".into(),
            image: [16, 16],
            channels: 1,
            stages: vec![
                SlimStage { channels: 16, blocks: 2, stride: 1 },
                SlimStage { channels: 32, blocks: 1, stride: 2 },
            ],
            decoders: vec![decoder(0, false), decoder(1, true)],
            round_to: 8,
        }
    }

    #[test]
    fn bad_widths_name_the_ratio() {
        let error = |widths| cnn().graph(&widths).unwrap_err().to_string();
        insta::assert_snapshot!(error(Widths::uniform(3, 2, 1.0)), @"`encoder` must be a list of 2 ratios, but is one of 3");
        insta::assert_snapshot!(error(Widths { encoder: vec![1.0, f64::NAN], decoders: vec![1.0; 2] }), @"`encoder[1]` must be in (0, 1], but is NaN");
        insta::assert_snapshot!(error(Widths { encoder: vec![1.0; 2], decoders: vec![1.0, 1.5] }), @"`decoders[1]` must be in (0, 1], but is 1.5");
    }

    #[test]
    fn a_task_runs_the_encoder_and_its_decoder() {
        let graph = cnn().graph(&Widths::uniform(2, 2, 1.0)).unwrap();
        let macs = |g: &ModelGraph| g.macs().unwrap();
        let shared = graph.for_task(9);
        let sum = macs(&graph.for_task(0)) + macs(&graph.for_task(1)) - macs(&shared);
        assert_eq!(macs(&graph), sum);
    }

    proptest! {
        #[test]
        fn wider_is_never_cheaper(a in 0.01..=1.0f64, b in 0.01..=1.0f64, multiple in 1u64..40, full in 1u64..4096) {
            let (low, high) = (a.min(b), a.max(b));
            prop_assert!(round_channels(full, low, multiple).unwrap() <= round_channels(full, high, multiple).unwrap());
            let macs = |ratio| cnn().graph(&Widths::uniform(2, 2, ratio)).unwrap().macs().unwrap();
            prop_assert!(macs(low) <= macs(high));
        }
    }
}
