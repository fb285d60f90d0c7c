//! Vision transformers, dense (Dosovitskiy et al., ICLR 2021, arXiv 2010.11929) or with mixture-of-experts blocks as
//! in M³ViT (Liang et al., NeurIPS 2022, arXiv 2210.14793).
use super::block::{self, Block, Prefix};
use super::build::Builder;
use super::{Conv2dShape, ModelGraph, MoeShape, Op, Part, PromptKind, PromptSpec};
use crate::math::{positive, product, sum};
use crate::{HwError, Result, text};
use serde::{Deserialize, Serialize};

/// Which encoder blocks are mixtures of experts.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum MoeBlocks {
    /// Blocks 1, 3, 5, …, as in M³ViT.
    #[default]
    Odd,
    /// Every block.
    All,
    /// The blocks of this list.
    List(Vec<u32>),
}

/// Mixture-of-experts layers of a [`VitSpec`]; the default is M³ViT-small.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct MoeSpec {
    /// Experts E.
    pub experts: u32,
    /// Experts per token K.
    pub top_k: u32,
    /// Hidden width of one expert.
    pub hidden: u32,
    /// Gate matrices: the number of tasks with task-conditioned routing, 1 with a shared gate.
    pub gates: u32,
    /// Which blocks are mixtures.
    pub blocks: MoeBlocks,
}

impl Default for MoeSpec {
    fn default() -> Self {
        Self { experts: 16, top_k: 4, hidden: 384, gates: 1, blocks: MoeBlocks::Odd }
    }
}

/// One linear classification head.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VitHead {
    /// Outputs.
    pub classes: u32,
    /// The task it serves; absent when it runs for every task.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub task: Option<u32>,
}

impl VitHead {
    /// A head that runs for every task.
    #[must_use]
    pub fn shared(classes: u32) -> Self {
        Self { classes, task: None }
    }

    /// The head of one task.
    #[must_use]
    pub fn task(task: u32, classes: u32) -> Self {
        Self { classes, task: Some(task) }
    }
}

/// A decoder of one value per pixel and class, as M³ViT's: four 3×3 convolutions with norm and ReLU at 1, 2, 4 and 8 times
/// the resolution of the patches, then a 1×1 convolution.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DenseHead {
    /// Outputs per pixel.
    pub classes: u32,
    /// Channels of the 3×3 convolutions.
    pub width: u32,
    /// The task it serves; absent when it runs for every task.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub task: Option<u32>,
}

/// A vision transformer by its dimensions; the default is ViT-tiny/16 at 224×224.
///
/// ```
/// use mtl_hw::graph::{MoeBlocks, MoeSpec, VitHead, VitSpec};
/// let spec = VitSpec {
///     image: [8, 8],
///     patch: 2,
///     channels: 1,
///     dim: 64,
///     depth: 4,
///     heads: 4,
///     mlp_hidden: 128,
///     moe: Some(MoeSpec { experts: 8, top_k: 2, hidden: 64, gates: 2, blocks: MoeBlocks::Odd }),
///     heads_out: vec![VitHead::task(0, 10), VitHead::task(1, 2)],
///     ..VitSpec::default()
/// };
/// assert_eq!(spec.tokens()?, 17); // 16 patches and the class token
/// assert_eq!(spec.graph()?.moe_layers().count(), 2);
/// # Ok::<(), mtl_hw::HwError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct VitSpec {
    /// Name of the graph.
    pub name: String,
    /// Height and width in pixels; multiples of `patch`.
    pub image: [u32; 2],
    /// Side of a patch in pixels.
    pub patch: u32,
    /// Channels of the image.
    pub channels: u32,
    /// Width of a token; a multiple of `heads`.
    pub dim: u32,
    /// Encoder blocks.
    pub depth: u32,
    /// Attention heads.
    pub heads: u32,
    /// Hidden width of a dense feed-forward network.
    pub mlp_hidden: u32,
    /// Class and distillation tokens before the patches.
    pub prefix_tokens: u32,
    /// Mixture-of-experts layers, if any.
    pub moe: Option<MoeSpec>,
    /// Linear heads on the class token, or on the mean of the patches where there is none.
    pub heads_out: Vec<VitHead>,
    /// Whether queries, keys and values have a bias.
    pub qkv_bias: bool,
    /// Whether the class token passes through a further matrix and tanh, beside the output, as in Hugging Face's model
    /// without head.
    pub pooler: bool,
    /// Decoders of one value per pixel.
    pub dense_heads: Vec<DenseHead>,
    /// Learned prompts, if any.
    pub prompts: Option<PromptSpec>,
}

impl Default for VitSpec {
    fn default() -> Self {
        Self::tiny()
    }
}

impl VitSpec {
    /// ViT-tiny/16 at 224×224 with 1000 classes.
    #[must_use]
    pub fn tiny() -> Self {
        Self::sixteen("vit-tiny", 192, 3)
    }

    /// ViT-small/16 at 224×224 with 1000 classes.
    #[must_use]
    pub fn small() -> Self {
        Self::sixteen("vit-small", 384, 6)
    }

    /// ViT-base/16 at 224×224 with 1000 classes.
    #[must_use]
    pub fn base() -> Self {
        Self::sixteen("vit-base", 768, 12)
    }

    /// DeiT-tiny distilled (Touvron et al., ICML 2021, arXiv 2012.12877): a second prefix token and a second head.
    #[must_use]
    pub fn deit_tiny_distilled() -> Self {
        Self { name: "deit-tiny-distilled".to_owned(), ..Self::tiny() }.distilled()
    }

    /// DeiT-small distilled.
    #[must_use]
    pub fn deit_small_distilled() -> Self {
        Self { name: "deit-small-distilled".to_owned(), ..Self::small() }.distilled()
    }

    /// DeiT-base distilled.
    #[must_use]
    pub fn deit_base_distilled() -> Self {
        Self { name: "deit-base-distilled".to_owned(), ..Self::base() }.distilled()
    }

    /// Adds a distillation token, and a second head beside each.
    #[must_use]
    pub fn distilled(mut self) -> Self {
        self.prefix_tokens = self.prefix_tokens.saturating_add(1);
        self.heads_out = self.heads_out.iter().flat_map(|&h| [h, h]).collect();
        self
    }

    fn sixteen(name: &str, dim: u32, heads: u32) -> Self {
        Self {
            name: name.to_owned(),
            image: [224, 224],
            patch: 16,
            channels: 3,
            dim,
            depth: 12,
            heads,
            mlp_hidden: dim.saturating_mul(4),
            prefix_tokens: 1,
            moe: None,
            heads_out: vec![VitHead::shared(1000)],
            qkv_bias: true,
            pooler: false,
            dense_heads: Vec::new(),
            prompts: None,
        }
    }

    /// Sets the mixture-of-experts layers.
    #[must_use]
    pub fn moe(mut self, moe: MoeSpec) -> Self {
        self.moe = Some(moe);
        self
    }

    /// Sets the prompts.
    #[must_use]
    pub fn prompts(mut self, prompts: PromptSpec) -> Self {
        self.prompts = Some(prompts);
        self
    }

    /// Reads a specification in TOML; missing keys take ViT-tiny's values.
    ///
    /// # Errors
    ///
    /// [`HwError::Parse`] naming the key, or an error of [`VitSpec::graph`].
    pub fn from_toml(toml: &str) -> Result<Self> {
        let spec: Self = text::from_toml("vit", toml)?;
        spec.graph()?;
        Ok(spec)
    }

    /// Tokens of one image: patches and prefix tokens.
    ///
    /// # Errors
    ///
    /// [`HwError::Config`] when the image is not a whole number of patches, or has none.
    pub fn tokens(&self) -> Result<u64> {
        sum("tokens", [self.patches()?, u64::from(self.prefix_tokens)])
    }

    fn patches(&self) -> Result<u64> {
        positive("patch", u64::from(self.patch))?;
        let mut patches = 1u64;
        for (axis, side) in ["image[0]", "image[1]"].into_iter().zip(self.image) {
            positive(axis, u64::from(side))?;
            if !side.is_multiple_of(self.patch) {
                return Err(HwError::config(axis, format!("a multiple of `patch` = {}", self.patch), side));
            }
            patches = product("patches", &[patches, u64::from(side / self.patch)])?;
        }
        Ok(patches)
    }

    /// Whether a block is a mixture of experts.
    fn is_moe(&self, block: u32) -> bool {
        self.moe.as_ref().is_some_and(|m| match &m.blocks {
            MoeBlocks::Odd => block % 2 == 1,
            MoeBlocks::All => true,
            MoeBlocks::List(list) => list.contains(&block),
        })
    }

    fn check(&self) -> Result<()> {
        for (field, value) in [
            ("channels", self.channels),
            ("dim", self.dim),
            ("depth", self.depth),
            ("heads", self.heads),
            ("mlp_hidden", self.mlp_hidden),
        ] {
            positive(field, u64::from(value))?;
        }
        // A graph of a million blocks is a mistake, and would be built in full.
        if self.depth > 4096 {
            return Err(HwError::config("depth", "at most 4096", self.depth));
        }
        if !self.dim.is_multiple_of(self.heads) {
            return Err(HwError::config("dim", format!("a multiple of `heads` = {}", self.heads), self.dim));
        }
        if let Some(moe) = &self.moe {
            self.patches()?;
            self.check_moe(moe).map_err(|e| e.within("moe"))?;
        }
        for (i, head) in self.heads_out.iter().enumerate() {
            positive(&format!("heads_out[{i}].classes"), head.classes.into())?;
        }
        for (i, head) in self.dense_heads.iter().enumerate() {
            positive(&format!("dense_heads[{i}].classes"), head.classes.into())?;
            positive(&format!("dense_heads[{i}].width"), head.width.into())?;
        }
        if let Some(prompts) = &self.prompts {
            prompts.validate(self.depth).map_err(|e| e.within("prompts"))?;
        }
        Ok(())
    }

    fn check_moe(&self, moe: &MoeSpec) -> Result<()> {
        positive("gates", moe.gates.into())?;
        let (hidden, experts, top_k) = (moe.hidden.into(), moe.experts.into(), moe.top_k.into());
        MoeShape { tokens: self.tokens()?, dim: self.dim.into(), hidden, experts, top_k }.validate()?;
        if let MoeBlocks::List(list) = &moe.blocks
            && let Some(bad) = list.iter().find(|&&b| b >= self.depth)
        {
            return Err(HwError::config("blocks", format!("below `depth` = {}", self.depth), bad));
        }
        Ok(())
    }

    /// Builds the graph.
    ///
    /// # Errors
    ///
    /// [`HwError::Config`] naming the field that is zero, not divisible, or out of range.
    pub fn graph(&self) -> Result<ModelGraph> {
        self.check()?;
        let mut b = Builder::new(Part::Embedding);
        let mut x = self.embed(&mut b, None)?;
        for block in 0..self.depth {
            b.enter(block);
            x = self.encoder_block(&mut b, x, block)?;
        }
        b.leave(Part::Head);
        self.heads(&mut b, x)?;
        b.finish(&self.name)
    }

    /// Patches, prefix tokens, positions; with the weights of an earlier pass where there is one.
    pub(super) fn embed(&self, b: &mut Builder, tied: Option<usize>) -> Result<usize> {
        let (patches, tokens, dim) = (self.patches()?, self.tokens()?, u64::from(self.dim));
        let patch =
            Op::PatchEmbedding { patches, patch: self.patch.into(), channels: self.channels.into(), dim };
        // An identity in place of a norm, later dropout of positions, of patches and another identity.
        let (once, thrice) = (patch.outputs()?, product("activations", &[3, tokens, dim])?);
        let embed = b.push("patch_embed", &[], patch);
        b.last(|n| (n.pass_through, n.tied) = (once, tied));
        let embedding = Op::TokenEmbedding { tokens, prefix: self.prefix_tokens.into(), dim };
        let x = b.push("pos_embed", &[embed], embedding);
        b.last(|n| (n.pass_through, n.tied) = (thrice, tied.map(|t| t + 1)));
        Ok(x)
    }

    /// Dimensions of a block on `rows` tokens.
    pub(super) fn block(&self, rows: u64) -> Block {
        Block {
            rows,
            dim: self.dim.into(),
            heads: self.heads.into(),
            head_dim: u64::from(self.dim) / u64::from(self.heads),
            hidden: self.mlp_hidden.into(),
            qkv_bias: self.qkv_bias,
            prefix: None,
        }
    }

    fn encoder_block(&self, b: &mut Builder, x: usize, block: u32) -> Result<usize> {
        let mut x = x;
        let mut shape = self.block(self.tokens()?);
        b.part = Part::Attention;
        if let Some(prompts) = self.prompts.as_ref().filter(|p| p.reaches(block)) {
            let tokens = u64::from(prompts.tokens);
            match prompts.kind {
                PromptKind::Deep => {
                    let op = Op::Prompt { rows: shape.rows, prompts: tokens, dim: shape.dim };
                    x = b.push("prompt", &[x], op);
                    shape.rows = sum("tokens", [shape.rows, tokens])?;
                }
                PromptKind::Prefix { projected } => shape.prefix = Some(Prefix { tokens, projected }),
            }
        }
        x = block::attention(b, x, &shape)?;
        b.part = Part::FeedForward;
        match &self.moe {
            Some(moe) if self.is_moe(block) => self.experts(b, x, &shape, moe),
            _ => block::feed_forward(b, x, &shape),
        }
    }

    fn experts(&self, b: &mut Builder, x: usize, shape: &Block, moe: &MoeSpec) -> Result<usize> {
        let (tokens, dim) = (shape.rows, shape.dim);
        let (experts, top_k) = (u64::from(moe.experts), u64::from(moe.top_k));
        let norm = b.push("norm2", &[x], Op::LayerNorm { rows: tokens, dim });
        let gate = Op::Gate { tokens, dim, experts, top_k, gates: moe.gates.into() };
        let gate = b.push("moe.gate", &[norm], gate);
        let shape = MoeShape { tokens, dim, hidden: moe.hidden.into(), experts, top_k };
        let out = b.push("moe.experts", &[norm, gate], Op::MoeFfn(shape));
        Ok(b.push("ffn.add", &[out, x], Op::Add { rows: tokens, cols: dim }))
    }

    /// Final norm and heads.
    fn heads(&self, b: &mut Builder, x: usize) -> Result<()> {
        let (tokens, dim) = (self.tokens()?, u64::from(self.dim));
        let norm = b.push("norm", &[x], Op::LayerNorm { rows: tokens, dim });
        let mut pooled = norm;
        if !self.heads_out.is_empty() {
            // Norm (an identity) and dropout of the class token.
            let twice = product("activations", &[2, dim])?;
            b.last(|n| n.pass_through = twice);
            if self.prefix_tokens == 0 {
                pooled = b.push("pool", &[norm], Op::MeanTokens { tokens, dim });
            }
        }
        if self.pooler {
            let dense =
                b.push("pooler.dense", &[norm], Op::Gemm { rows: 1, inner: dim, cols: dim, bias: true });
            b.last(|n| n.side = true);
            b.push("pooler.tanh", &[dense], Op::Tanh { rows: 1, cols: dim });
            b.last(|n| n.side = true);
        }
        for (i, head) in self.heads_out.iter().enumerate() {
            b.task = head.task;
            let op = Op::Gemm { rows: 1, inner: dim, cols: head.classes.into(), bias: true };
            b.push(&format!("head.{i}"), &[pooled], op);
        }
        for (i, head) in self.dense_heads.iter().enumerate() {
            b.task = head.task;
            self.dense_head(b, norm, i, head)?;
        }
        b.task = None;
        Ok(())
    }

    fn dense_head(&self, b: &mut Builder, norm: usize, i: usize, head: &DenseHead) -> Result<()> {
        let (mut h, mut w) = (u64::from(self.image[0] / self.patch), u64::from(self.image[1] / self.patch));
        let (mut channels, width) = (u64::from(self.dim), u64::from(head.width));
        let mut x = norm;
        b.scope = format!("decoder.{i}");
        for layer in 0..4 {
            if layer > 0 {
                let positions = product("positions", &[h, w])?;
                let op = Op::Upsample { channels, positions, scale: 2, bilinear: true };
                x = b.push(&format!("up{layer}"), &[x], op);
                (h, w) = (product("height", &[2, h])?, product("width", &[2, w])?);
            }
            let conv = Conv2dShape { bias: true, ..Conv2dShape::same(h, w, channels, width, 3) };
            x = b.push(&format!("conv{layer}"), &[x], Op::Conv2d(conv));
            let positions = product("positions", &[h, w])?;
            x = b.push(&format!("norm{layer}"), &[x], Op::BatchNorm { channels: width, positions });
            x = b.push(&format!("relu{layer}"), &[x], Op::Relu { rows: width, cols: positions });
            b.last(|n| n.in_place = true);
            channels = width;
        }
        let last = Conv2dShape { bias: true, ..Conv2dShape::same(h, w, channels, head.classes.into(), 1) };
        b.push("conv4", &[x], Op::Conv2d(last));
        b.scope.clear();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bad_dimensions_name_the_field() {
        let error = |spec: VitSpec| spec.graph().unwrap_err().to_string();
        insta::assert_snapshot!(error(VitSpec { image: [224, 225], ..VitSpec::tiny() }), @"`image[1]` must be a multiple of `patch` = 16, but is 225");
        insta::assert_snapshot!(error(VitSpec { dim: 100, ..VitSpec::tiny() }), @"`dim` must be a multiple of `heads` = 3, but is 100");
        insta::assert_snapshot!(error(VitSpec { depth: 0, ..VitSpec::tiny() }), @"`depth` must be positive, but is 0");
        insta::assert_snapshot!(error(VitSpec::tiny().moe(MoeSpec { top_k: 17, ..MoeSpec::default() })), @"`moe.top_k` must be at most `experts` = 16, but is 17");
        let late = MoeSpec { blocks: MoeBlocks::List(vec![12]), ..MoeSpec::default() };
        insta::assert_snapshot!(error(VitSpec::tiny().moe(late)), @"`moe.blocks` must be below `depth` = 12, but is 12");
    }

    #[test]
    fn a_mistyped_key_is_named() {
        insta::assert_snapshot!(VitSpec::from_toml("[moe]\nexpert = 3").unwrap_err(), @"vit: `moe.expert`: unknown field `expert`, expected one of `experts`, `top_k`, `hidden`, `gates`, `blocks`");
        let spec = VitSpec::from_toml("depth = 2\n[moe]\nblocks = { list = [0] }").unwrap();
        assert_eq!(spec.graph().unwrap().moe_layers().next().unwrap().0, "blk.0");
    }

    #[test]
    fn experts_a_quarter_as_wide_keep_the_macs_of_the_dense_network() {
        let dense = VitSpec::small().graph().unwrap();
        let moe = VitSpec::small().moe(MoeSpec::default()).graph().unwrap();
        let gates = 6 * 197 * 384 * 16;
        assert_eq!(moe.macs().unwrap(), dense.macs().unwrap() + gates);
    }
}
