//! The Vision Transformer: Dosovitskiy et al., *An Image is Worth 16x16 Words*, ICLR 2021, arXiv 2010.11929, with the
//! tensor names of Hugging Face.
//!
//! Prompts are parameters like all others and act as soon as the source has them: `vit.prompt.{layer}` (Jia et al.,
//! *Visual Prompt Tuning*, ECCV 2022, arXiv 2203.12119) and `vit.encoder.layer.{i}.attention.prefix_key` with
//! `prefix_value` (Li & Liang, ACL 2021, arXiv 2101.00190).
mod block;
mod config;
mod rename;
mod staged;

pub use config::{Pooling, VitConfig};
pub use rename::rename_timm;

use crate::{
    Context, Cost, Encoder, Error, Features, Input, Model, ParamSource, Result, Seed, StateDict, check,
    nn::{FeedForward, Init, dropout, layer_norm, linear, patch, patch_embedding},
};
use block::Block;
use std::sync::Arc;
use tch::Tensor;

const PATCHES: &str = "vit.embeddings.patch_embeddings.projection";
const CLASS: &str = "vit.embeddings.cls_token";
const POSITIONS: &str = "vit.embeddings.position_embeddings";
const NORM: &str = "vit.layernorm";

/// A Vision Transformer without its classifier.
///
/// # Prompts
///
/// Where the source has `vit.prompt.{layer}`, `[n, dim]` for all examples or `[batch, n, dim]`, these tokens stand after
/// the class token from that layer on, in place of the prompt tokens of the layer before. They get no position
/// embedding and never appear in [`Features::positions`]. Where it has `vit.encoder.layer.{i}.attention.prefix_key` and
/// `prefix_value` of such a shape, they are put before the keys and values of that layer.
///
/// ```
/// use mtl_core::{Context, Encoder, Seed, models::VitConfig};
/// use tch::{Device, Kind, Tensor};
///
/// let vit = VitConfig::default().image(1, 8, 2).size(16, 2, 4).build()?;
/// let mut params = vit.init(Seed(0))?;
/// let images = Tensor::ones([3, 1, 8, 8], (Kind::Float, Device::Cpu));
/// params.insert("vit.prompt.0", Tensor::ones([5, 16], (Kind::Float, Device::Cpu)));
/// let features = vit.encode(&params, &images.into(), &Context::eval())?;
/// assert_eq!(features.pooled.size(), [3, 16]);
/// assert_eq!(features.positions.unwrap().size(), [3, 16, 16]); // 4 × 4 patches, no prompts
/// # Ok::<(), mtl_core::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct Vit {
    config: VitConfig,
    blocks: Vec<Block>,
}

/// Tokens after the final norm, `[batch, 1 + prompts + patches, dim]`, and how many prompts there are.
struct Tokens {
    x: Tensor,
    prompts: i64,
}

impl Vit {
    pub(super) fn new(config: VitConfig) -> Result<Self> {
        let blocks = (0..config.num_hidden_layers).map(|i| Block::new(&config, i)).collect::<Result<_>>()?;
        Ok(Self { config, blocks })
    }

    /// The configuration that it was built from.
    pub fn config(&self) -> &VitConfig {
        &self.config
    }

    /// Puts `feed_forward` in the place of the dense one of block `layer`; its prefix is `vit.encoder.layer.{layer}`.
    ///
    /// # Errors
    ///
    /// [`Error::Config`] when there is no such layer.
    pub fn with_feed_forward(mut self, layer: usize, feed_forward: Arc<dyn FeedForward>) -> Result<Self> {
        let layers = self.blocks.len();
        match self.blocks.get_mut(layer) {
            Some(block) => block.feed_forward = feed_forward,
            None => return Err(Error::config("layer", format!("in 0..{layers}"), layer)),
        }
        Ok(self)
    }

    /// The tokens after the embedding and after each block, and last those after the final norm: `layers + 2` tensors
    /// `[batch, 1 + prompts + patches, dim]`.
    ///
    /// # Errors
    ///
    /// See [`Model::forward`].
    pub fn hidden_states(
        &self,
        params: &dyn ParamSource,
        input: &Input,
        ctx: &Context,
    ) -> Result<Vec<Tensor>> {
        let mut states = Vec::with_capacity(self.blocks.len() + 2);
        let last = self.run(params, input, ctx, |x| states.push(x.shallow_clone()))?;
        states.push(last.x);
        Ok(states)
    }

    fn run(
        &self,
        params: &dyn ParamSource,
        input: &Input,
        ctx: &Context,
        mut observe: impl FnMut(&Tensor),
    ) -> Result<Tokens> {
        let mut tokens = Tokens { x: self.embed(params, &input.values, ctx)?, prompts: 0 };
        for (i, block) in self.blocks.iter().enumerate() {
            if let Some(prompt) = params.find(&block.prompt)? {
                tokens = tokens.with_prompt(&prompt, &block.prompt)?;
            }
            if i == 0 {
                observe(&tokens.x);
            }
            tokens.x = block.forward(params, &tokens.x, &self.config, ctx)?;
            observe(&tokens.x);
        }
        tokens.x = layer_norm(params, NORM, &tokens.x, self.config.layer_norm_eps)?;
        Ok(tokens)
    }

    /// Class token and patches with their positions: `[batch, 1 + patches, dim]`.
    fn embed(&self, params: &dyn ParamSource, images: &Tensor, ctx: &Context) -> Result<Tensor> {
        let VitConfig { num_channels: channels, image_size: size, hidden_size: dim, .. } = self.config;
        let (batch, c, h, w) = check::dims4(images, "input", "[batch, channels, height, width]")?;
        if (c, h, w) != (channels, size, size) {
            let expected = format!("[batch, {channels}, {size}, {size}]");
            return Err(Error::shape("input", expected, images.size()));
        }
        let patches = patch_embedding(params, PATCHES, images)?;
        let class = params.param(CLASS)?;
        let positions = params.param(POSITIONS)?;
        let count = 1 + self.config.patches();
        for (name, tensor, wanted) in [(CLASS, &class, [1, 1, dim]), (POSITIONS, &positions, [1, count, dim])]
        {
            if tensor.size() != wanted {
                return Err(Error::shape(name, format!("{wanted:?}"), tensor.size()));
            }
        }
        let class = class.expand([batch, 1, dim], false);
        let x = Tensor::cat(&[class, patches], 1) + &*positions;
        Ok(dropout(&x, self.config.hidden_dropout_prob, ctx))
    }
}

impl Tokens {
    /// Puts `prompt` after the class token, in the place of the prompts that are there.
    fn with_prompt(self, prompt: &Tensor, name: &str) -> Result<Self> {
        let (batch, count, dim) = check::dims3(&self.x, "tokens", "[batch, tokens, dim]")?;
        let n = match prompt.size()[..] {
            [n, d] if d == dim && n > 0 => n,
            [b, n, d] if d == dim && b == batch && n > 0 => n,
            ref found => {
                let expected = format!("[n, {dim}] or [{batch}, n, {dim}] with n at least 1");
                return Err(Error::shape(name, expected, found.to_vec()));
            }
        };
        let prompt = prompt.expand([batch, n, dim], false);
        let rest = 1 + self.prompts;
        let (class, patches) = (self.x.narrow(1, 0, 1), self.x.narrow(1, rest, count - rest));
        Ok(Self { x: Tensor::cat(&[class, prompt, patches], 1), prompts: n })
    }
}

impl Encoder for Vit {
    fn init(&self, seed: Seed) -> Result<StateDict> {
        let VitConfig { num_channels, patch_size, hidden_size: dim, initializer_range: std, .. } =
            self.config;
        let (mut params, init) = (StateDict::new(), Init::TruncatedNormal { std });
        patch::init(PATCHES, num_channels, patch_size, dim, init, seed, &mut params)?;
        init.fill(seed, CLASS, &[1, 1, dim], &mut params)?;
        init.fill(seed, POSITIONS, &[1, 1 + self.config.patches(), dim], &mut params)?;
        for block in &self.blocks {
            block.init(&self.config, seed, &mut params)?;
        }
        crate::nn::layer_norm::init(NORM, dim, &mut params)?;
        Ok(params)
    }

    fn encode(&self, params: &dyn ParamSource, input: &Input, ctx: &Context) -> Result<Features> {
        let Tokens { x, prompts } = self.run(params, input, ctx, |_| ())?;
        let positions = x.narrow(1, 1 + prompts, self.config.patches());
        let pooled = match self.config.pooling {
            Pooling::ClassToken => x.select(1, 0),
            Pooling::Mean => positions.mean_dim([1i64].as_slice(), false, None),
        };
        Ok(Features { pooled, positions: Some(positions) })
    }

    fn dim(&self) -> i64 {
        self.config.hidden_size
    }

    fn grid(&self) -> Option<(i64, i64)> {
        let side = self.config.image_size / self.config.patch_size;
        Some((side, side))
    }

    fn is_task_conditioned(&self) -> bool {
        self.blocks.iter().any(|block| block.feed_forward.is_task_conditioned())
    }

    /// Multiply-accumulates of the linear maps and of the attention products, without prompts.
    fn cost(&self) -> Cost {
        let (dim, patches) = (self.config.hidden_size as u64, self.config.patches() as u64);
        let weights = dim * (self.config.num_channels * self.config.patch_size.pow(2)) as u64;
        // Weight and bias of the projection, positions, class token, final norm.
        let embedding =
            Cost { macs: weights * patches, params: weights + dim + dim * (patches + 1) + dim + 2 * dim };
        let tokens = self.config.patches() + 1;
        self.blocks.iter().fold(embedding, |cost, block| cost + block.cost(&self.config, tokens))
    }
}

/// A [`Vit`] with Hugging Face's `classifier` on its pooled features.
#[derive(Debug, Clone)]
pub struct VitClassifier {
    vit: Vit,
    classes: i64,
}

impl VitClassifier {
    /// `vit` with a linear map to `classes` logits.
    ///
    /// # Errors
    ///
    /// [`Error::Config`] when `classes` is below 1.
    pub fn new(vit: Vit, classes: i64) -> Result<Self> {
        if classes < 1 {
            return Err(Error::config("classes", "at least 1", classes));
        }
        Ok(Self { vit, classes })
    }

    /// The network under the classifier.
    pub fn vit(&self) -> &Vit {
        &self.vit
    }
}

impl Model for VitClassifier {
    fn init(&self, seed: Seed) -> Result<StateDict> {
        let mut params = self.vit.init(seed)?;
        let init = Init::TruncatedNormal { std: self.vit.config.initializer_range };
        linear::init("classifier", self.vit.dim(), self.classes, true, init, seed, &mut params)?;
        Ok(params)
    }

    fn forward(&self, params: &dyn ParamSource, input: &Input, ctx: &Context) -> Result<Tensor> {
        params.linear("classifier", &self.vit.encode(params, input, ctx)?.pooled)
    }
}
