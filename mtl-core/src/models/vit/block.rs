//! One block: attention and feed-forward, each after a norm and with a residual.
use super::VitConfig;
use crate::{
    Context, Cost, ParamSource, Result, Seed, StateDict,
    nn::{self, DenseFeedForward, FeedForward, Init, MultiHeadAttention, dropout, layer_norm},
};
use std::sync::Arc;
use tch::Tensor;

/// One block, with the names of its parameters put together once.
#[derive(Debug, Clone)]
pub(super) struct Block {
    pub(super) feed_forward: Arc<dyn FeedForward>,
    /// Name of the prompt that this layer may get.
    pub(super) prompt: String,
    prefix: String,
    norm_before: String,
    norm_after: String,
    attention: MultiHeadAttention,
}

impl Block {
    pub(super) fn new(config: &VitConfig, layer: i64) -> Result<Self> {
        let prefix = format!("vit.encoder.layer.{layer}");
        let attention = format!("{prefix}.attention");
        let [query, key, value] = ["query", "key", "value"].map(|n| format!("{attention}.attention.{n}"));
        let output = format!("{attention}.output.dense");
        let feed_forward = DenseFeedForward {
            dim: config.hidden_size,
            hidden: config.intermediate_size,
            activation: config.hidden_act,
            dropout: config.hidden_dropout_prob,
            weight: Init::TruncatedNormal { std: config.initializer_range },
        };
        Ok(Self {
            feed_forward: Arc::new(feed_forward),
            prompt: format!("vit.prompt.{layer}"),
            norm_before: format!("{prefix}.layernorm_before"),
            norm_after: format!("{prefix}.layernorm_after"),
            attention: MultiHeadAttention::new(&attention, config.hidden_size, config.num_attention_heads)?
                .projections([query, key, value, output])
                .bias(config.qkv_bias)
                .dropout(config.attention_probs_dropout_prob)?,
            prefix,
        })
    }

    pub(super) fn init(&self, config: &VitConfig, seed: Seed, into: &mut StateDict) -> Result<()> {
        nn::layer_norm::init(&self.norm_before, config.hidden_size, into)?;
        nn::layer_norm::init(&self.norm_after, config.hidden_size, into)?;
        self.attention.init(Init::TruncatedNormal { std: config.initializer_range }, seed, into)?;
        self.feed_forward.init(&self.prefix, seed, into)
    }

    pub(super) fn forward(
        &self,
        params: &dyn ParamSource,
        x: &Tensor,
        config: &VitConfig,
        ctx: &Context,
    ) -> Result<Tensor> {
        let normed = layer_norm(params, &self.norm_before, x, config.layer_norm_eps)?;
        let attended = self.attention.forward(params, &normed, None, None, ctx)?;
        let x = x + dropout(&attended, config.hidden_dropout_prob, ctx);
        let normed = layer_norm(params, &self.norm_after, &x, config.layer_norm_eps)?;
        Ok(x + self.feed_forward.forward(params, &self.prefix, &normed, ctx)?)
    }

    pub(super) fn cost(&self, config: &VitConfig, tokens: i64) -> Cost {
        let dim = config.hidden_size as u64;
        let biases = if config.qkv_bias { 4 * dim } else { dim };
        let params = 4 * dim * dim + biases + 4 * dim; // With both norms.
        Cost { macs: self.attention.macs(tokens), params } + self.feed_forward.cost(tokens)
    }
}
