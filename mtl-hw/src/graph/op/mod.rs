//! Operators of encoders, decoders and convolutional networks, with their multiply-accumulates and parameters.
mod measure;
mod shape;

pub use shape::{Conv2dShape, MoeShape, Pool2dShape, PoolKind};

use crate::math::positive;
use crate::{HwError, Result};
use serde::{Deserialize, Serialize};

/// One operator of a [`ModelGraph`](super::ModelGraph). Shapes are those of one image (batch 1).
///
/// ```
/// use mtl_hw::graph::Op;
/// let fc1 = Op::Gemm { rows: 197, inner: 192, cols: 768, bias: true };
/// assert_eq!(fc1.macs()?, 197 * 192 * 768);
/// assert_eq!(fc1.params()?, 192 * 768 + 768);
/// # Ok::<(), mtl_hw::HwError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
#[non_exhaustive]
pub enum Op {
    /// Non-overlapping patches times a shared matrix, `[patches, patch²·channels] → [patches, dim]`.
    PatchEmbedding {
        /// Patches of the image.
        patches: u64,
        /// Side of a patch in pixels.
        patch: u64,
        /// Channels of the image.
        channels: u64,
        /// Width of a token.
        dim: u64,
    },
    /// Prepends learned tokens and adds learned positions, `[tokens, dim]`.
    TokenEmbedding {
        /// Tokens after this operator.
        tokens: u64,
        /// Class and distillation tokens among them.
        prefix: u64,
        /// Width of a token.
        dim: u64,
    },
    /// Linear map with stored weights, `[rows, inner] → [rows, cols]`.
    Gemm {
        /// Rows (tokens).
        rows: u64,
        /// Input width.
        inner: u64,
        /// Output width.
        cols: u64,
        /// Whether a bias is added.
        bias: bool,
    },
    /// Query-key products, `[heads, queries, keys]`.
    AttentionScores {
        /// Heads.
        heads: u64,
        /// Query tokens.
        queries: u64,
        /// Key tokens.
        keys: u64,
        /// Width of one head.
        head_dim: u64,
    },
    /// Scores times values, `[heads, queries, head_dim]`.
    AttentionValues {
        /// Heads.
        heads: u64,
        /// Query tokens.
        queries: u64,
        /// Key tokens.
        keys: u64,
        /// Width of one head.
        head_dim: u64,
    },
    /// Softmax over the last axis of `[rows, cols]`.
    Softmax {
        /// Rows, heads included.
        rows: u64,
        /// Entries of a row.
        cols: u64,
    },
    /// Layer normalisation over the last axis of `[rows, dim]`, with scale and shift.
    LayerNorm {
        /// Rows (tokens).
        rows: u64,
        /// Width.
        dim: u64,
    },
    /// GELU on `[rows, cols]`.
    Gelu {
        /// Rows (tokens).
        rows: u64,
        /// Width.
        cols: u64,
    },
    /// Residual addition on `[rows, cols]`.
    Add {
        /// Rows (tokens).
        rows: u64,
        /// Width.
        cols: u64,
    },
    /// Expert scores, softmax and top-K per token. One of `gates` matrices is used, chosen by the task.
    Gate {
        /// Tokens.
        tokens: u64,
        /// Width of a token.
        dim: u64,
        /// Experts E.
        experts: u64,
        /// Experts per token K.
        top_k: u64,
        /// Stored gate matrices: one per task, or one shared.
        gates: u64,
    },
    /// Feed-forward experts: each token visits K of E two-matrix networks.
    MoeFfn(MoeShape),
    /// Feed-forward experts with gate, up and down matrices and no biases (SwiGLU), as in Mixtral.
    GatedMoeFfn(MoeShape),
    /// Convolution.
    Conv2d(Conv2dShape),
    /// Max or average pooling.
    Pool2d(Pool2dShape),
    /// Mean over all positions of each channel, `[channels, positions] → [channels]`.
    GlobalPool {
        /// Channels.
        channels: u64,
        /// Height times width.
        positions: u64,
    },
    /// Mean over the tokens, `[tokens, dim] → [dim]`.
    MeanTokens {
        /// Tokens.
        tokens: u64,
        /// Width of a token.
        dim: u64,
    },
    /// Nearest or bilinear enlargement, `[channels, positions] → [channels, scale²·positions]`.
    Upsample {
        /// Channels.
        channels: u64,
        /// Height times width of the input.
        positions: u64,
        /// Factor of each side.
        scale: u64,
        /// Whether four neighbours are blended instead of one being copied.
        bilinear: bool,
    },
    /// Batch normalisation of `[channels, positions]` with stored statistics, scale and shift.
    BatchNorm {
        /// Channels.
        channels: u64,
        /// Height times width.
        positions: u64,
    },
    /// Root-mean-square normalisation over the last axis of `[rows, dim]`, with scale.
    RmsNorm {
        /// Rows (tokens).
        rows: u64,
        /// Width.
        dim: u64,
    },
    /// Softmax attention in one kernel, both products and the softmax between them; scores are never stored.
    Attention {
        /// Query heads.
        heads: u64,
        /// Query tokens.
        queries: u64,
        /// Key tokens.
        keys: u64,
        /// Width of one head.
        head_dim: u64,
    },
    /// Rotary positions on `[rows, cols]`.
    Rotary {
        /// Rows (tokens).
        rows: u64,
        /// Width, heads included.
        cols: u64,
    },
    /// ReLU on `[rows, cols]`.
    Relu {
        /// Rows, or channels.
        rows: u64,
        /// Width, or positions.
        cols: u64,
    },
    /// Hyperbolic tangent on `[rows, cols]`.
    Tanh {
        /// Rows (tokens).
        rows: u64,
        /// Width.
        cols: u64,
    },
    /// SiLU (swish) on `[rows, cols]`.
    Silu {
        /// Rows (tokens).
        rows: u64,
        /// Width.
        cols: u64,
    },
    /// Elementwise product of two `[rows, cols]`.
    Multiply {
        /// Rows (tokens).
        rows: u64,
        /// Width.
        cols: u64,
    },
    /// Rows of a stored table, `[rows, dim]`.
    Embedding {
        /// Rows that are looked up (tokens).
        rows: u64,
        /// Rows of the table.
        entries: u64,
        /// Width of a row.
        dim: u64,
        /// Whether one result serves a whole batch, as with positions.
        #[serde(default)]
        shared: bool,
    },
    /// Prepends learned prompt tokens to `[rows, dim]`, or is them.
    Prompt {
        /// Rows before; 0 for prompts that stand by themselves.
        rows: u64,
        /// Prompt tokens.
        prompts: u64,
        /// Width of a token.
        dim: u64,
    },
}

/// The kind of an [`Op`], for sums by kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum OpKind {
    /// [`Op::PatchEmbedding`].
    PatchEmbedding,
    /// [`Op::TokenEmbedding`].
    TokenEmbedding,
    /// [`Op::Gemm`].
    Gemm,
    /// [`Op::AttentionScores`].
    AttentionScores,
    /// [`Op::AttentionValues`].
    AttentionValues,
    /// [`Op::Softmax`].
    Softmax,
    /// [`Op::LayerNorm`].
    LayerNorm,
    /// [`Op::Gelu`].
    Gelu,
    /// [`Op::Add`].
    Add,
    /// [`Op::Gate`].
    Gate,
    /// [`Op::MoeFfn`].
    MoeFfn,
    /// [`Op::GatedMoeFfn`].
    GatedMoeFfn,
    /// [`Op::Conv2d`].
    Conv2d,
    /// [`Op::Pool2d`].
    Pool2d,
    /// [`Op::GlobalPool`].
    GlobalPool,
    /// [`Op::MeanTokens`].
    MeanTokens,
    /// [`Op::Upsample`].
    Upsample,
    /// [`Op::BatchNorm`].
    BatchNorm,
    /// [`Op::RmsNorm`].
    RmsNorm,
    /// [`Op::Attention`].
    Attention,
    /// [`Op::Rotary`].
    Rotary,
    /// [`Op::Relu`].
    Relu,
    /// [`Op::Tanh`].
    Tanh,
    /// [`Op::Silu`].
    Silu,
    /// [`Op::Multiply`].
    Multiply,
    /// [`Op::Embedding`].
    Embedding,
    /// [`Op::Prompt`].
    Prompt,
}

impl std::fmt::Display for OpKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::PatchEmbedding => "patch-embedding",
            Self::TokenEmbedding => "token-embedding",
            Self::Gemm => "gemm",
            Self::AttentionScores => "attention-scores",
            Self::AttentionValues => "attention-values",
            Self::Softmax => "softmax",
            Self::LayerNorm => "layer-norm",
            Self::Gelu => "gelu",
            Self::Add => "add",
            Self::Gate => "gate",
            Self::MoeFfn => "moe-ffn",
            Self::GatedMoeFfn => "gated-moe-ffn",
            Self::Conv2d => "conv2d",
            Self::Pool2d => "pool2d",
            Self::GlobalPool => "global-pool",
            Self::MeanTokens => "mean-tokens",
            Self::Upsample => "upsample",
            Self::BatchNorm => "batch-norm",
            Self::RmsNorm => "rms-norm",
            Self::Attention => "attention",
            Self::Rotary => "rotary",
            Self::Relu => "relu",
            Self::Tanh => "tanh",
            Self::Silu => "silu",
            Self::Multiply => "multiply",
            Self::Embedding => "embedding",
            Self::Prompt => "prompt",
        })
    }
}

impl Op {
    /// The operator's kind.
    #[must_use]
    pub fn kind(&self) -> OpKind {
        match self {
            Self::PatchEmbedding { .. } => OpKind::PatchEmbedding,
            Self::TokenEmbedding { .. } => OpKind::TokenEmbedding,
            Self::Gemm { .. } => OpKind::Gemm,
            Self::AttentionScores { .. } => OpKind::AttentionScores,
            Self::AttentionValues { .. } => OpKind::AttentionValues,
            Self::Softmax { .. } => OpKind::Softmax,
            Self::LayerNorm { .. } => OpKind::LayerNorm,
            Self::Gelu { .. } => OpKind::Gelu,
            Self::Add { .. } => OpKind::Add,
            Self::Gate { .. } => OpKind::Gate,
            Self::MoeFfn(_) => OpKind::MoeFfn,
            Self::GatedMoeFfn(_) => OpKind::GatedMoeFfn,
            Self::Conv2d(_) => OpKind::Conv2d,
            Self::Pool2d(_) => OpKind::Pool2d,
            Self::GlobalPool { .. } => OpKind::GlobalPool,
            Self::MeanTokens { .. } => OpKind::MeanTokens,
            Self::Upsample { .. } => OpKind::Upsample,
            Self::BatchNorm { .. } => OpKind::BatchNorm,
            Self::RmsNorm { .. } => OpKind::RmsNorm,
            Self::Attention { .. } => OpKind::Attention,
            Self::Rotary { .. } => OpKind::Rotary,
            Self::Relu { .. } => OpKind::Relu,
            Self::Tanh { .. } => OpKind::Tanh,
            Self::Silu { .. } => OpKind::Silu,
            Self::Multiply { .. } => OpKind::Multiply,
            Self::Embedding { .. } => OpKind::Embedding,
            Self::Prompt { .. } => OpKind::Prompt,
        }
    }

    /// Checks every dimension.
    ///
    /// # Errors
    ///
    /// [`HwError::Config`] for a zero dimension, groups that do not divide the channels, a kernel larger than its input,
    /// or more experts per token than experts; [`HwError::Overflow`] when a count does not fit in 64 bits.
    pub fn validate(&self) -> Result<()> {
        let all_positive =
            |fields: &[(&str, u64)]| fields.iter().try_for_each(|&(f, v)| positive(f, v).map(drop));
        match *self {
            Self::PatchEmbedding { patches, patch, channels, dim } => {
                all_positive(&[
                    ("patches", patches),
                    ("patch", patch),
                    ("channels", channels),
                    ("dim", dim),
                ])?;
            }
            Self::TokenEmbedding { tokens, prefix, dim } => {
                all_positive(&[("tokens", tokens), ("dim", dim)])?;
                if prefix > tokens {
                    return Err(HwError::config("prefix", format!("at most `tokens` = {tokens}"), prefix));
                }
            }
            Self::Gemm { rows, inner, cols, .. } => {
                all_positive(&[("rows", rows), ("inner", inner), ("cols", cols)])?;
            }
            Self::AttentionScores { heads, queries, keys, head_dim }
            | Self::AttentionValues { heads, queries, keys, head_dim }
            | Self::Attention { heads, queries, keys, head_dim } => all_positive(&[
                ("heads", heads),
                ("queries", queries),
                ("keys", keys),
                ("head_dim", head_dim),
            ])?,
            Self::LayerNorm { rows, dim } | Self::RmsNorm { rows, dim } => {
                all_positive(&[("rows", rows), ("dim", dim)])?;
            }
            Self::Softmax { rows, cols }
            | Self::Gelu { rows, cols }
            | Self::Relu { rows, cols }
            | Self::Tanh { rows, cols }
            | Self::Silu { rows, cols }
            | Self::Multiply { rows, cols }
            | Self::Rotary { rows, cols }
            | Self::Add { rows, cols } => all_positive(&[("rows", rows), ("cols", cols)])?,
            Self::Gate { tokens, dim, experts: e, top_k, gates } => {
                all_positive(&[("tokens", tokens), ("dim", dim), ("gates", gates)])?;
                experts(e, top_k)?;
            }
            Self::MoeFfn(s) | Self::GatedMoeFfn(s) => s.validate()?,
            Self::Conv2d(s) => s.validate()?,
            Self::Pool2d(s) => s.validate()?,
            Self::GlobalPool { channels, positions } | Self::BatchNorm { channels, positions } => {
                all_positive(&[("channels", channels), ("positions", positions)])?;
            }
            Self::Upsample { channels, positions, scale, .. } => {
                all_positive(&[("channels", channels), ("positions", positions), ("scale", scale)])?;
            }
            Self::MeanTokens { tokens, dim } => all_positive(&[("tokens", tokens), ("dim", dim)])?,
            Self::Embedding { rows, entries, dim, .. } => {
                all_positive(&[("rows", rows), ("entries", entries), ("dim", dim)])?;
            }
            Self::Prompt { prompts, dim, .. } => {
                all_positive(&[("prompts", prompts), ("dim", dim)])?;
            }
        }
        self.macs()?;
        self.params()?;
        self.outputs().map(drop)
    }
}

fn experts(experts: u64, top_k: u64) -> Result<()> {
    positive("experts", experts)?;
    positive("top_k", top_k)?;
    if top_k > experts {
        return Err(HwError::config("top_k", format!("at most `experts` = {experts}"), top_k));
    }
    // Routing traces store expert ids in 16 bits.
    if experts > 1 << 16 {
        return Err(HwError::config("experts", "at most 65536", experts));
    }
    Ok(())
}
