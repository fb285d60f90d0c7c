//! Decoder-only language models: root-mean-square norms, rotary positions, grouped-query attention (Ainslie et al.,
//! EMNLP 2023, arXiv 2305.13245) and gated feed-forward networks, dense as in LLaMA (Touvron et al., arXiv 2302.13971)
//! or with experts as in Mixtral (Jiang et al., arXiv 2401.04088).
use super::build::Builder;
use super::{ModelGraph, MoeShape, Op, Part};
use crate::math::{positive, product, sum};
use crate::{HwError, Result, text};
use serde::{Deserialize, Serialize};

/// Experts of a [`DecoderSpec`], in every layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DecoderMoe {
    /// Experts E.
    pub experts: u32,
    /// Experts per token K.
    pub top_k: u32,
}

/// A language model by its dimensions; the default is LLaMA-7B reading 128 tokens.
///
/// ```
/// use mtl_hw::graph::{Convention, DecoderSpec};
/// let graph = DecoderSpec::default().graph()?;
/// assert_eq!(graph.params()?, 6_738_415_616);
/// // One further token after 127 in the cache: a matrix-vector product per weight.
/// let step = DecoderSpec { tokens: 1, past: 127, ..DecoderSpec::default() }.graph()?;
/// let weights = 6_738_415_616 - 32_000 * 4096 - 65 * 4096;
/// assert_eq!(step.macs()?, weights + 32 * 2 * 128 * 4096);
/// # Ok::<(), mtl_hw::HwError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DecoderSpec {
    /// Name of the graph.
    pub name: String,
    /// Tokens of this pass.
    pub tokens: u32,
    /// Tokens whose keys and values are already stored.
    pub past: u32,
    /// Rows of the token table.
    pub vocab: u32,
    /// Width of a token.
    pub dim: u32,
    /// Layers.
    pub depth: u32,
    /// Query heads; a multiple of `kv_heads`.
    pub heads: u32,
    /// Heads of keys and values.
    pub kv_heads: u32,
    /// Width of one head; even, for rotary positions. `heads` of them need not add up to `dim`.
    pub head_dim: u32,
    /// Hidden width of the feed-forward network, or of one expert.
    pub hidden: u32,
    /// Whether queries, keys and values have a bias.
    pub qkv_bias: bool,
    /// Whether the matrix after attention has a bias.
    pub out_bias: bool,
    /// Whether tokens are turned into scores of words at the end.
    pub lm_head: bool,
    /// Whether the output matrix is the token table.
    pub tied_embeddings: bool,
    /// Whether only the last token is turned into scores of words, as in generation.
    pub last_token_only: bool,
    /// Experts, if any.
    pub moe: Option<DecoderMoe>,
}

impl Default for DecoderSpec {
    fn default() -> Self {
        Self {
            name: "llama-7b".to_owned(),
            tokens: 128,
            past: 0,
            vocab: 32_000,
            dim: 4096,
            depth: 32,
            heads: 32,
            kv_heads: 32,
            head_dim: 128,
            hidden: 11_008,
            qkv_bias: false,
            out_bias: false,
            lm_head: true,
            tied_embeddings: false,
            last_token_only: false,
            moe: None,
        }
    }
}

impl DecoderSpec {
    /// Mixtral 8×7B reading 128 tokens.
    #[must_use]
    pub fn mixtral() -> Self {
        Self {
            name: "mixtral-8x7b".to_owned(),
            kv_heads: 8,
            hidden: 14_336,
            moe: Some(DecoderMoe { experts: 8, top_k: 2 }),
            ..Self::default()
        }
    }

    /// Reads a specification in TOML; missing keys take LLaMA-7B's values.
    ///
    /// # Errors
    ///
    /// [`HwError::Parse`] naming the key, or an error of [`DecoderSpec::graph`].
    pub fn from_toml(toml: &str) -> Result<Self> {
        let spec: Self = text::from_toml("decoder", toml)?;
        spec.graph()?;
        Ok(spec)
    }

    fn check(&self) -> Result<()> {
        for (field, value) in [
            ("tokens", self.tokens),
            ("vocab", self.vocab),
            ("dim", self.dim),
            ("depth", self.depth),
            ("heads", self.heads),
            ("kv_heads", self.kv_heads),
            ("head_dim", self.head_dim),
            ("hidden", self.hidden),
        ] {
            positive(field, value.into())?;
        }
        if self.depth > 4096 {
            return Err(HwError::config("depth", "at most 4096", self.depth));
        }
        if !self.heads.is_multiple_of(self.kv_heads) {
            let must = format!("a multiple of `kv_heads` = {}", self.kv_heads);
            return Err(HwError::config("heads", must, self.heads));
        }
        if !self.head_dim.is_multiple_of(2) {
            return Err(HwError::config("head_dim", "even, for rotary positions", self.head_dim));
        }
        if let Some(moe) = self.moe {
            self.moe_shape(moe).validate().map_err(|e| e.within("moe"))?;
        }
        Ok(())
    }

    fn moe_shape(&self, moe: DecoderMoe) -> MoeShape {
        MoeShape {
            tokens: self.tokens.into(),
            dim: self.dim.into(),
            hidden: self.hidden.into(),
            experts: moe.experts.into(),
            top_k: moe.top_k.into(),
        }
    }

    /// Builds the graph. Attention is computed in full: masked scores count, as they do in the usual counters.
    ///
    /// # Errors
    ///
    /// [`HwError::Config`] naming the field that is zero, not divisible, or out of range.
    pub fn graph(&self) -> Result<ModelGraph> {
        self.check()?;
        let (rows, dim, vocab) = (u64::from(self.tokens), u64::from(self.dim), u64::from(self.vocab));
        let mut b = Builder::new(Part::Embedding);
        let table = b.push("embed", &[], Op::Embedding { rows, entries: vocab, dim, shared: false });
        let mut x = table;
        for block in 0..self.depth {
            b.enter(block);
            x = self.attention(&mut b, x)?;
            x = self.feed_forward(&mut b, x)?;
        }
        b.leave(Part::Head);
        x = b.push("norm", &[x], Op::RmsNorm { rows, dim });
        if self.lm_head {
            let rows = if self.last_token_only { 1 } else { rows };
            b.push("lm_head", &[x], Op::Gemm { rows, inner: dim, cols: vocab, bias: false });
            b.last(|n| n.tied = self.tied_embeddings.then_some(table));
        }
        b.finish(&self.name)
    }

    fn attention(&self, b: &mut Builder, x: usize) -> Result<usize> {
        let (rows, dim) = (u64::from(self.tokens), u64::from(self.dim));
        let (heads, head_dim) = (u64::from(self.heads), u64::from(self.head_dim));
        let (width, kv_width) = (
            product("attention width", &[heads, head_dim])?,
            product("attention width", &[self.kv_heads.into(), head_dim])?,
        );
        let keys = sum("keys", [rows, self.past.into()])?;
        b.part = Part::Attention;
        let norm = b.push("norm1", &[x], Op::RmsNorm { rows, dim });
        let linear = |cols| Op::Gemm { rows, inner: dim, cols, bias: self.qkv_bias };
        let q = b.push("attn.q", &[norm], linear(width));
        let k = b.push("attn.k", &[norm], linear(kv_width));
        let v = b.push("attn.v", &[norm], linear(kv_width));
        let q = b.push("attn.rotary_q", &[q], Op::Rotary { rows, cols: width });
        let k = b.push("attn.rotary_k", &[k], Op::Rotary { rows, cols: kv_width });
        let scores =
            b.push("attn.scores", &[q, k], Op::AttentionScores { heads, queries: rows, keys, head_dim });
        let softmax = Op::Softmax { rows: product("rows", &[heads, rows])?, cols: keys };
        let softmax = b.push("attn.softmax", &[scores], softmax);
        let values = Op::AttentionValues { heads, queries: rows, keys, head_dim };
        let values = b.push("attn.values", &[softmax, v], values);
        let out =
            b.push("attn.out", &[values], Op::Gemm { rows, inner: width, cols: dim, bias: self.out_bias });
        Ok(b.push("attn.add", &[out, x], Op::Add { rows, cols: dim }))
    }

    fn feed_forward(&self, b: &mut Builder, x: usize) -> Result<usize> {
        let (rows, dim, hidden) = (u64::from(self.tokens), u64::from(self.dim), u64::from(self.hidden));
        b.part = Part::FeedForward;
        let norm = b.push("norm2", &[x], Op::RmsNorm { rows, dim });
        let out = match self.moe {
            Some(moe) => {
                let shape = self.moe_shape(moe);
                let MoeShape { tokens, experts, top_k, .. } = shape;
                let gate = b.push("moe.gate", &[norm], Op::Gate { tokens, dim, experts, top_k, gates: 1 });
                b.push("moe.experts", &[norm, gate], Op::GatedMoeFfn(shape))
            }
            None => {
                let wide = Op::Gemm { rows, inner: dim, cols: hidden, bias: false };
                let gate = b.push("mlp.gate", &[norm], wide.clone());
                let silu = b.push("mlp.silu", &[gate], Op::Silu { rows, cols: hidden });
                let up = b.push("mlp.up", &[norm], wide);
                let gated = b.push("mlp.multiply", &[silu, up], Op::Multiply { rows, cols: hidden });
                b.push("mlp.down", &[gated], Op::Gemm { rows, inner: hidden, cols: dim, bias: false })
            }
        };
        Ok(b.push("ffn.add", &[out, x], Op::Add { rows, cols: dim }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::{ActiveExperts, CountContext};

    #[test]
    fn mixtral_stores_47_and_uses_13_billion_parameters() {
        let graph = DecoderSpec::mixtral().graph().unwrap();
        let context = CountContext::default().active_experts(ActiveExperts::TopK);
        let params = graph.param_count(&context).unwrap();
        assert_eq!(params.stored, 46_702_792_704);
        assert_eq!(params.active, 12_879_925_248);
    }

    #[test]
    fn tied_embeddings_are_stored_once() {
        let untied = DecoderSpec::default().graph().unwrap().params().unwrap();
        let tied = DecoderSpec { tied_embeddings: true, ..DecoderSpec::default() }.graph().unwrap();
        assert_eq!(untied - tied.params().unwrap(), 32_000 * 4096);
        assert_eq!(tied.macs().unwrap(), DecoderSpec::default().graph().unwrap().macs().unwrap());
    }

    #[test]
    fn odd_heads_name_the_field() {
        let error = |spec: DecoderSpec| spec.graph().unwrap_err().to_string();
        insta::assert_snapshot!(error(DecoderSpec { kv_heads: 5, ..DecoderSpec::default() }), @"`heads` must be a multiple of `kv_heads` = 5, but is 32");
        insta::assert_snapshot!(error(DecoderSpec { head_dim: 127, ..DecoderSpec::default() }), @"`head_dim` must be even, for rotary positions, but is 127");
        let moe = Some(DecoderMoe { experts: 2, top_k: 3 });
        insta::assert_snapshot!(error(DecoderSpec { moe, ..DecoderSpec::default() }), @"`moe.top_k` must be at most `experts` = 2, but is 3");
    }
}
