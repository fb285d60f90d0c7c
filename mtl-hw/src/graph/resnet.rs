//! Residual networks: He et al., *Deep Residual Learning for Image Recognition*, CVPR 2016, arXiv 1512.03385.
use super::build::Builder;
use super::{Conv2dShape, ModelGraph, Op, Part, Pool2dShape, PoolKind, VitHead};
use crate::math::{positive, product};
use crate::{HwError, Result, text};
use serde::{Deserialize, Serialize};

/// A residual network for images as torchvision builds it; the default is ResNet-18 at 224×224.
///
/// ```
/// use mtl_hw::graph::{Convention, ResNetSpec};
/// let graph = ResNetSpec::resnet18().graph()?;
/// assert_eq!(graph.params()?, 11_689_512);
/// assert_eq!(graph.count(Convention::Fvcore)?.total, 1_819_065_856);
/// # Ok::<(), mtl_hw::HwError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ResNetSpec {
    /// Name of the graph.
    pub name: String,
    /// Height and width in pixels.
    pub image: [u32; 2],
    /// Channels of the image.
    pub channels: u32,
    /// Channels of the stem and of the first stage; each later stage has twice those of the one before.
    pub width: u32,
    /// Blocks of each stage.
    pub blocks: Vec<u32>,
    /// Whether a block is 1×1, 3×3 and 1×1 with four times the channels, instead of two 3×3.
    pub bottleneck: bool,
    /// Groups of the 3×3 convolutions of bottlenecks (ResNeXt).
    pub groups: u32,
    /// Channels per group where `width` is 64 (ResNeXt, wide networks).
    pub width_per_group: u32,
    /// Linear heads on the mean over the image.
    pub heads_out: Vec<VitHead>,
}

impl Default for ResNetSpec {
    fn default() -> Self {
        Self::resnet18()
    }
}

impl ResNetSpec {
    /// ResNet-18.
    #[must_use]
    pub fn resnet18() -> Self {
        Self::of("resnet18", &[2, 2, 2, 2], false)
    }

    /// ResNet-34.
    #[must_use]
    pub fn resnet34() -> Self {
        Self::of("resnet34", &[3, 4, 6, 3], false)
    }

    /// ResNet-50.
    #[must_use]
    pub fn resnet50() -> Self {
        Self::of("resnet50", &[3, 4, 6, 3], true)
    }

    /// ResNet-101.
    #[must_use]
    pub fn resnet101() -> Self {
        Self::of("resnet101", &[3, 4, 23, 3], true)
    }

    /// ResNet-152.
    #[must_use]
    pub fn resnet152() -> Self {
        Self::of("resnet152", &[3, 8, 36, 3], true)
    }

    fn of(name: &str, blocks: &[u32], bottleneck: bool) -> Self {
        Self {
            name: name.to_owned(),
            image: [224, 224],
            channels: 3,
            width: 64,
            blocks: blocks.to_vec(),
            bottleneck,
            groups: 1,
            width_per_group: 64,
            heads_out: vec![VitHead::shared(1000)],
        }
    }

    /// Reads a specification in TOML; missing keys take ResNet-18's values.
    ///
    /// # Errors
    ///
    /// [`HwError::Parse`] naming the key, or an error of [`ResNetSpec::graph`].
    pub fn from_toml(toml: &str) -> Result<Self> {
        let spec: Self = text::from_toml("resnet", toml)?;
        spec.graph()?;
        Ok(spec)
    }

    fn check(&self) -> Result<()> {
        for (field, value) in [
            ("image[0]", self.image[0]),
            ("image[1]", self.image[1]),
            ("channels", self.channels),
            ("width", self.width),
            ("groups", self.groups),
            ("width_per_group", self.width_per_group),
        ] {
            positive(field, value.into())?;
        }
        positive("blocks", self.blocks.len() as u64)?;
        for (i, &n) in self.blocks.iter().enumerate() {
            positive(&format!("blocks[{i}]"), n.into())?;
        }
        if self.blocks.len() > 8 {
            return Err(HwError::config("blocks", "a list of at most 8 stages", self.blocks.len()));
        }
        if let Some((i, n)) = self.blocks.iter().enumerate().find(|(_, n)| **n > 1024) {
            return Err(HwError::config(format!("blocks[{i}]"), "at most 1024", n));
        }
        if !self.bottleneck && (self.groups, self.width_per_group) != (1, 64) {
            return Err(HwError::config("bottleneck", "true with groups or another width per group", false));
        }
        for (i, head) in self.heads_out.iter().enumerate() {
            positive(&format!("heads_out[{i}].classes"), head.classes.into())?;
        }
        Ok(())
    }

    /// Builds the graph.
    ///
    /// # Errors
    ///
    /// [`HwError::Config`] naming the field that is zero or out of range, or the layer whose input is too small.
    pub fn graph(&self) -> Result<ModelGraph> {
        self.check()?;
        let mut b = Builder::new(Part::Backbone);
        let width = u64::from(self.width);
        let image = Map {
            node: None,
            height: self.image[0].into(),
            width: self.image[1].into(),
            channels: self.channels.into(),
        };
        let mut x =
            conv_norm(&mut b, "conv1", "bn1", image, &Conv { out: width, kernel: 7, stride: 2, groups: 1 })?;
        relu(&mut b, "relu", &mut x)?;
        x = max_pool(&mut b, x)?;
        let mut stage_width = width;
        for (stage, &blocks) in self.blocks.iter().enumerate() {
            if stage > 0 {
                stage_width = product("width", &[2, stage_width])?;
            }
            for block in 0..blocks {
                b.scope = format!("layer{}.{block}", stage + 1);
                let stride = if stage > 0 && block == 0 { 2 } else { 1 };
                x = self.block(&mut b, x, stage_width, stride)?;
            }
        }
        b.leave(Part::Head);
        let Some(features) = x.node else { return Err(HwError::config("blocks", "non-empty", "empty")) };
        let positions = product("positions", &[x.height, x.width])?;
        let pooled = b.push("avgpool", &[features], Op::GlobalPool { channels: x.channels, positions });
        for (i, head) in self.heads_out.iter().enumerate() {
            b.task = head.task;
            let op = Op::Gemm { rows: 1, inner: x.channels, cols: head.classes.into(), bias: true };
            b.push(&format!("head.{i}"), &[pooled], op);
        }
        b.finish(&self.name)
    }

    fn block(&self, b: &mut Builder, x: Map, width: u64, stride: u64) -> Result<Map> {
        if !self.bottleneck {
            return basic_block(b, x, width, stride);
        }
        // The channels of the middle, as torchvision rounds them.
        let groups = u64::from(self.groups);
        let inner = product("width", &[width, self.width_per_group.into()])? / 64;
        let inner = product("width", &[positive("width_per_group", inner)?, groups])?;
        let out = product("width", &[4, width])?;
        let mut y = conv_norm(b, "conv1", "bn1", x, &Conv { out: inner, kernel: 1, stride: 1, groups: 1 })?;
        relu(b, "relu1", &mut y)?;
        y = conv_norm(b, "conv2", "bn2", y, &Conv { out: inner, kernel: 3, stride, groups })?;
        relu(b, "relu2", &mut y)?;
        y = conv_norm(b, "conv3", "bn3", y, &Conv { out, kernel: 1, stride: 1, groups: 1 })?;
        join(b, x, y, stride)
    }
}

/// A feature map: the node that computes it (none for the image) and its size.
#[derive(Clone, Copy)]
pub(super) struct Map {
    pub(super) node: Option<usize>,
    pub(super) height: u64,
    pub(super) width: u64,
    pub(super) channels: u64,
}

impl Map {
    pub(super) fn positions(&self) -> Result<u64> {
        product("positions", &[self.height, self.width])
    }

    fn inputs(&self) -> Vec<usize> {
        self.node.into_iter().collect()
    }
}

pub(super) struct Conv {
    pub(super) out: u64,
    pub(super) kernel: u64,
    pub(super) stride: u64,
    pub(super) groups: u64,
}

/// Two 3×3 convolutions and the residual addition.
pub(super) fn basic_block(b: &mut Builder, x: Map, out: u64, stride: u64) -> Result<Map> {
    let mut y = conv_norm(b, "conv1", "bn1", x, &Conv { out, kernel: 3, stride, groups: 1 })?;
    relu(b, "relu1", &mut y)?;
    y = conv_norm(b, "conv2", "bn2", y, &Conv { out, kernel: 3, stride: 1, groups: 1 })?;
    join(b, x, y, stride)
}

/// Convolution without bias, and batch norm.
pub(super) fn conv_norm(b: &mut Builder, conv: &str, norm: &str, x: Map, c: &Conv) -> Result<Map> {
    let shape = Conv2dShape {
        stride: [c.stride; 2],
        groups: c.groups,
        ..Conv2dShape::same(x.height, x.width, x.channels, c.out, c.kernel)
    };
    let [height, width] = shape.out_size().map_err(|e| e.within(&format!("{}.{conv}", b.scope)))?;
    let node = b.push(conv, &x.inputs(), Op::Conv2d(shape));
    let mut out = Map { node: Some(node), height, width, channels: c.out };
    let op = Op::BatchNorm { channels: c.out, positions: out.positions()? };
    out.node = Some(b.push(norm, &[node], op));
    Ok(out)
}

pub(super) fn relu(b: &mut Builder, name: &str, x: &mut Map) -> Result<()> {
    let op = Op::Relu { rows: x.channels, cols: x.positions()? };
    x.node = Some(b.push(name, &x.inputs(), op));
    b.last(|n| n.in_place = true);
    Ok(())
}

fn max_pool(b: &mut Builder, x: Map) -> Result<Map> {
    let shape = Pool2dShape {
        kind: PoolKind::Max,
        height: x.height,
        width: x.width,
        channels: x.channels,
        kernel: [3, 3],
        stride: [2, 2],
        padding: [1, 1],
    };
    let [height, width] = shape.out_size()?;
    let node = b.push("maxpool", &x.inputs(), Op::Pool2d(shape));
    Ok(Map { node: Some(node), height, width, channels: x.channels })
}

/// Adds the block's input, through a strided 1×1 convolution where sizes differ, and applies ReLU.
fn join(b: &mut Builder, x: Map, y: Map, stride: u64) -> Result<Map> {
    let mut shortcut = x;
    if stride != 1 || x.channels != y.channels {
        let conv = Conv { out: y.channels, kernel: 1, stride, groups: 1 };
        shortcut = conv_norm(b, "downsample.0", "downsample.1", x, &conv)?;
    }
    let mut out = y;
    let inputs: Vec<usize> = y.node.into_iter().chain(shortcut.node).collect();
    out.node = Some(b.push("add", &inputs, Op::Add { rows: y.channels, cols: y.positions()? }));
    b.last(|n| n.in_place = true);
    relu(b, "relu", &mut out)?;
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::CountContext;

    #[test]
    fn buffers_and_parameters_without_classifier_give_published_gpu_memory() {
        // M³ViT's table lists two bytes per entry of the state: 21.336 and 44.939 MiB.
        for (spec, entries) in [(ResNetSpec::resnet18(), 11_186_132), (ResNetSpec::resnet50(), 23_561_205)] {
            let graph = ResNetSpec { heads_out: Vec::new(), ..spec }.graph().unwrap();
            let params = graph.param_count(&CountContext::default()).unwrap();
            assert_eq!(params.stored + params.buffers, entries);
        }
    }

    #[test]
    fn deeper_and_grouped_networks_have_the_published_sizes() {
        let params = |spec: ResNetSpec| spec.graph().unwrap().params().unwrap();
        assert_eq!(params(ResNetSpec::resnet34()), 21_797_672);
        assert_eq!(params(ResNetSpec::resnet50()), 25_557_032);
        assert_eq!(params(ResNetSpec::resnet101()), 44_549_160);
        assert_eq!(params(ResNetSpec::resnet152()), 60_192_808);
        let resnext = ResNetSpec { groups: 32, width_per_group: 4, ..ResNetSpec::resnet50() };
        assert_eq!(params(resnext), 25_028_904);
        let wide = ResNetSpec { width_per_group: 128, ..ResNetSpec::resnet50() };
        assert_eq!(params(wide), 68_883_240);
    }

    #[test]
    fn bad_specifications_name_the_field() {
        let error = |spec: ResNetSpec| spec.graph().unwrap_err().to_string();
        insta::assert_snapshot!(error(ResNetSpec { image: [0, 224], ..ResNetSpec::default() }), @"`image[0]` must be positive, but is 0");
        insta::assert_snapshot!(error(ResNetSpec { blocks: vec![2, 0], ..ResNetSpec::default() }), @"`blocks[1]` must be positive, but is 0");
        insta::assert_snapshot!(error(ResNetSpec { groups: 2, ..ResNetSpec::default() }), @"`bottleneck` must be true with groups or another width per group, but is false");
    }
}
