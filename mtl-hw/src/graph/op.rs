//! Operators of a transformer encoder, with their multiply-accumulates and parameters.
use crate::math::{positive, product, sum};
use crate::{HwError, Result};
use serde::{Deserialize, Serialize};

/// Shape of one mixture-of-experts feed-forward layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MoeShape {
    /// Tokens of one image, class token included.
    pub tokens: u64,
    /// Width of a token.
    pub dim: u64,
    /// Hidden width of one expert.
    pub hidden: u64,
    /// Experts E.
    pub experts: u64,
    /// Experts per token K.
    pub top_k: u64,
}

impl MoeShape {
    /// Parameters of one expert: two matrices and their biases.
    ///
    /// # Errors
    ///
    /// [`HwError::Overflow`] when the count does not fit in 64 bits.
    pub fn expert_params(&self) -> Result<u64> {
        sum("expert params", [self.first_params()?, self.second_params()?])
    }

    /// Parameters of an expert's first matrix and bias.
    pub(crate) fn first_params(&self) -> Result<u64> {
        sum("expert params", [product("expert params", &[self.dim, self.hidden])?, self.hidden])
    }

    /// Parameters of an expert's second matrix and bias.
    pub(crate) fn second_params(&self) -> Result<u64> {
        sum("expert params", [product("expert params", &[self.dim, self.hidden])?, self.dim])
    }

    /// Token-expert pairs of one image, N·K.
    ///
    /// # Errors
    ///
    /// [`HwError::Overflow`] when the count does not fit in 64 bits.
    pub fn pairs(&self) -> Result<u64> {
        product("token-expert pairs", &[self.tokens, self.top_k])
    }

    pub(crate) fn validate(&self) -> Result<()> {
        positive("tokens", self.tokens)?;
        positive("dim", self.dim)?;
        positive("hidden", self.hidden)?;
        experts(self.experts, self.top_k)
    }
}

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
        }
    }

    /// Useful multiply-accumulates of one image. One MAC is two FLOPs.
    ///
    /// # Errors
    ///
    /// [`HwError::Overflow`] when the count does not fit in 64 bits.
    pub fn macs(&self) -> Result<u64> {
        match *self {
            Self::PatchEmbedding { patches, patch, channels, dim } => {
                product("macs", &[patches, patch, patch, channels, dim])
            }
            Self::Gemm { rows, inner, cols, .. } => product("macs", &[rows, inner, cols]),
            Self::AttentionScores { heads, queries, keys, head_dim }
            | Self::AttentionValues { heads, queries, keys, head_dim } => {
                product("macs", &[heads, queries, keys, head_dim])
            }
            Self::Gate { tokens, dim, experts, .. } => product("macs", &[tokens, dim, experts]),
            Self::MoeFfn(s) => product("macs", &[2, s.tokens, s.top_k, s.dim, s.hidden]),
            _ => Ok(0),
        }
    }

    /// Stored parameters; all experts and all gates count.
    ///
    /// # Errors
    ///
    /// [`HwError::Overflow`] when the count does not fit in 64 bits.
    pub fn params(&self) -> Result<u64> {
        match *self {
            Self::PatchEmbedding { patch, channels, dim, .. } => {
                sum("params", [product("params", &[patch, patch, channels, dim])?, dim])
            }
            Self::TokenEmbedding { tokens, prefix, dim } => {
                sum("params", [product("params", &[tokens, dim])?, product("params", &[prefix, dim])?])
            }
            Self::Gemm { inner, cols, bias, .. } => {
                sum("params", [product("params", &[inner, cols])?, if bias { cols } else { 0 }])
            }
            Self::LayerNorm { dim, .. } => product("params", &[2, dim]),
            Self::Gate { dim, experts, gates, .. } => product("params", &[gates, experts, dim]),
            Self::MoeFfn(s) => product("params", &[s.experts, s.expert_params()?]),
            _ => Ok(0),
        }
    }

    /// Parameters that one image with one task reaches when `active_experts` experts are used.
    ///
    /// # Errors
    ///
    /// [`HwError::Overflow`] when the count does not fit in 64 bits.
    pub fn active_params(&self, active_experts: u64) -> Result<u64> {
        match *self {
            Self::Gate { dim, experts, .. } => product("active params", &[experts, dim]),
            Self::MoeFfn(s) => product("active params", &[active_experts.min(s.experts), s.expert_params()?]),
            _ => self.params(),
        }
    }

    /// Elements of the operator's result.
    ///
    /// # Errors
    ///
    /// [`HwError::Overflow`] when the count does not fit in 64 bits.
    pub fn outputs(&self) -> Result<u64> {
        match *self {
            Self::PatchEmbedding { patches, dim, .. } => product("outputs", &[patches, dim]),
            Self::TokenEmbedding { tokens, dim, .. } => product("outputs", &[tokens, dim]),
            Self::AttentionScores { heads, queries, keys, .. } => product("outputs", &[heads, queries, keys]),
            Self::AttentionValues { heads, queries, head_dim, .. } => {
                product("outputs", &[heads, queries, head_dim])
            }
            Self::LayerNorm { rows, dim } => product("outputs", &[rows, dim]),
            Self::Gemm { rows, cols, .. }
            | Self::Softmax { rows, cols }
            | Self::Gelu { rows, cols }
            | Self::Add { rows, cols } => product("outputs", &[rows, cols]),
            Self::Gate { tokens, top_k, .. } => product("outputs", &[tokens, top_k]),
            Self::MoeFfn(s) => product("outputs", &[s.tokens, s.dim]),
        }
    }

    /// Checks every dimension.
    ///
    /// # Errors
    ///
    /// [`HwError::Config`] for a zero dimension, or more experts per token than experts;
    /// [`HwError::Overflow`] when a count does not fit in 64 bits.
    pub fn validate(&self) -> Result<()> {
        let all_positive =
            |fields: &[(&str, u64)]| fields.iter().try_for_each(|&(f, v)| positive(f, v).map(drop));
        match *self {
            Self::PatchEmbedding { patches, patch, channels, dim } => {
                all_positive(&[("patches", patches), ("patch", patch), ("channels", channels), ("dim", dim)])?
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
            | Self::AttentionValues { heads, queries, keys, head_dim } => all_positive(&[
                ("heads", heads),
                ("queries", queries),
                ("keys", keys),
                ("head_dim", head_dim),
            ])?,
            Self::LayerNorm { rows, dim } => all_positive(&[("rows", rows), ("dim", dim)])?,
            Self::Softmax { rows, cols } | Self::Gelu { rows, cols } | Self::Add { rows, cols } => {
                all_positive(&[("rows", rows), ("cols", cols)])?;
            }
            Self::Gate { tokens, dim, experts: e, top_k, gates } => {
                all_positive(&[("tokens", tokens), ("dim", dim), ("gates", gates)])?;
                experts(e, top_k)?;
            }
            Self::MoeFfn(s) => s.validate()?,
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
