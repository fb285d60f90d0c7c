//! Sizes of an operator: multiply-accumulates, parameters, operands and results.
use super::Op;
use crate::Result;
use crate::math::{product, sum};

impl Op {
    /// Useful multiply-accumulates of one image. One MAC is two FLOPs.
    ///
    /// # Errors
    ///
    /// [`HwError::Overflow`](crate::HwError::Overflow) when the count does not fit in 64 bits.
    pub fn macs(&self) -> Result<u64> {
        match *self {
            Self::PatchEmbedding { patches, patch, channels, dim } => {
                product("macs", &[patches, patch, patch, channels, dim])
            }
            Self::Gemm { rows, inner, cols, .. } => product("macs", &[rows, inner, cols]),
            Self::Conv2d(s) => s.macs(),
            Self::AttentionScores { heads, queries, keys, head_dim }
            | Self::AttentionValues { heads, queries, keys, head_dim } => {
                product("macs", &[heads, queries, keys, head_dim])
            }
            Self::Attention { heads, queries, keys, head_dim } => {
                product("macs", &[2, heads, queries, keys, head_dim])
            }
            Self::Gate { tokens, dim, experts, .. } => product("macs", &[tokens, dim, experts]),
            Self::MoeFfn(s) => product("macs", &[2, s.tokens, s.top_k, s.dim, s.hidden]),
            Self::GatedMoeFfn(s) => product("macs", &[3, s.tokens, s.top_k, s.dim, s.hidden]),
            _ => Ok(0),
        }
    }

    /// Stored parameters; all experts and all gates count.
    ///
    /// # Errors
    ///
    /// [`HwError::Overflow`](crate::HwError::Overflow) when the count does not fit in 64 bits.
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
            Self::Conv2d(s) => s.params(),
            Self::LayerNorm { dim, .. } => product("params", &[2, dim]),
            Self::RmsNorm { dim, .. } => Ok(dim),
            Self::BatchNorm { channels, .. } => product("params", &[2, channels]),
            Self::Gate { dim, experts, gates, .. } => product("params", &[gates, experts, dim]),
            Self::MoeFfn(s) => product("params", &[s.experts, s.expert_params()?]),
            Self::GatedMoeFfn(s) => product("params", &[s.experts, s.gated_expert_params()?]),
            Self::Embedding { entries, dim, .. } => product("params", &[entries, dim]),
            Self::Prompt { prompts, dim, .. } => product("params", &[prompts, dim]),
            _ => Ok(0),
        }
    }

    /// Stored values that are not parameters: running mean, running variance and batch counter of a batch norm.
    ///
    /// # Errors
    ///
    /// [`HwError::Overflow`](crate::HwError::Overflow) when the count does not fit in 64 bits.
    pub fn buffers(&self) -> Result<u64> {
        match *self {
            Self::BatchNorm { channels, .. } => sum("buffers", [product("buffers", &[2, channels])?, 1]),
            _ => Ok(0),
        }
    }

    /// Parameters that one image with one task reaches when `active_experts` experts are used.
    ///
    /// # Errors
    ///
    /// [`HwError::Overflow`](crate::HwError::Overflow) when the count does not fit in 64 bits.
    pub fn active_params(&self, active_experts: u64) -> Result<u64> {
        let experts =
            |s: &super::MoeShape, each| product("active params", &[active_experts.min(s.experts), each]);
        match self {
            Self::Gate { dim, experts, .. } => product("active params", &[*experts, *dim]),
            Self::MoeFfn(s) => experts(s, s.expert_params()?),
            Self::GatedMoeFfn(s) => experts(s, s.gated_expert_params()?),
            _ => self.params(),
        }
    }

    /// Parameters that a device loads for one image: all experts, one gate, the rows that are looked up.
    pub(crate) fn streamed_params(&self) -> Result<u64> {
        match *self {
            Self::Embedding { rows, entries, dim, .. } => product("params", &[rows.min(entries), dim]),
            _ => self.active_params(u64::MAX),
        }
    }

    /// Elements of the operator's result.
    ///
    /// # Errors
    ///
    /// [`HwError::Overflow`](crate::HwError::Overflow) when the count does not fit in 64 bits.
    pub fn outputs(&self) -> Result<u64> {
        match *self {
            Self::PatchEmbedding { patches, dim, .. } => product("outputs", &[patches, dim]),
            Self::TokenEmbedding { tokens, dim, .. } => product("outputs", &[tokens, dim]),
            Self::AttentionScores { heads, queries, keys, .. } => product("outputs", &[heads, queries, keys]),
            Self::AttentionValues { heads, queries, head_dim, .. }
            | Self::Attention { heads, queries, head_dim, .. } => {
                product("outputs", &[heads, queries, head_dim])
            }
            Self::LayerNorm { rows, dim }
            | Self::RmsNorm { rows, dim }
            | Self::Embedding { rows, dim, .. } => product("outputs", &[rows, dim]),
            Self::Gemm { rows, cols, .. }
            | Self::Softmax { rows, cols }
            | Self::Gelu { rows, cols }
            | Self::Relu { rows, cols }
            | Self::Tanh { rows, cols }
            | Self::Silu { rows, cols }
            | Self::Multiply { rows, cols }
            | Self::Rotary { rows, cols }
            | Self::Add { rows, cols } => product("outputs", &[rows, cols]),
            Self::Gate { tokens, top_k, .. } => product("outputs", &[tokens, top_k]),
            Self::MoeFfn(s) | Self::GatedMoeFfn(s) => product("outputs", &[s.tokens, s.dim]),
            Self::Conv2d(s) => s.outputs(),
            Self::Pool2d(s) => s.outputs(),
            Self::GlobalPool { channels, .. } => Ok(channels),
            Self::MeanTokens { dim, .. } => Ok(dim),
            Self::BatchNorm { channels, positions } => product("outputs", &[channels, positions]),
            Self::Upsample { channels, positions, scale, .. } => {
                product("outputs", &[channels, positions, scale, scale])
            }
            Self::Prompt { rows, prompts, dim } => {
                product("outputs", &[sum("outputs", [rows, prompts])?, dim])
            }
        }
    }

    /// Elements of the operator's first operand; token numbers for a table.
    ///
    /// # Errors
    ///
    /// [`HwError::Overflow`](crate::HwError::Overflow) when the count does not fit in 64 bits.
    pub fn input_elements(&self) -> Result<u64> {
        match *self {
            Self::PatchEmbedding { patches, patch, channels, .. } => {
                product("inputs", &[patches, patch, patch, channels])
            }
            Self::TokenEmbedding { tokens, prefix, dim } => {
                product("inputs", &[tokens.saturating_sub(prefix), dim])
            }
            Self::Gemm { rows, inner, .. } => product("inputs", &[rows, inner]),
            Self::AttentionScores { heads, queries, head_dim, .. }
            | Self::Attention { heads, queries, head_dim, .. } => {
                product("inputs", &[heads, queries, head_dim])
            }
            Self::AttentionValues { heads, queries, keys, .. } => product("inputs", &[heads, queries, keys]),
            Self::Conv2d(s) => product("inputs", &[s.in_channels, s.height, s.width]),
            Self::Pool2d(s) => product("inputs", &[s.channels, s.height, s.width]),
            Self::GlobalPool { channels, positions } | Self::Upsample { channels, positions, .. } => {
                product("inputs", &[channels, positions])
            }
            Self::MeanTokens { tokens, dim } | Self::Gate { tokens, dim, .. } => {
                product("inputs", &[tokens, dim])
            }
            Self::Embedding { rows, .. } => Ok(rows),
            Self::Prompt { rows, dim, .. } => product("inputs", &[rows, dim]),
            _ => self.outputs(),
        }
    }

    /// Elements that the operator needs while it runs, beyond operands and result: an expert's hidden layer and its
    /// result before they are added up, for the case that one expert gets every token.
    ///
    /// # Errors
    ///
    /// [`HwError::Overflow`](crate::HwError::Overflow) when the count does not fit in 64 bits.
    pub fn workspace(&self) -> Result<u64> {
        match *self {
            Self::MoeFfn(s) => product("workspace", &[s.tokens, sum("dims", [s.hidden, s.dim])?]),
            Self::GatedMoeFfn(s) => {
                product("workspace", &[s.tokens, sum("dims", [s.hidden, s.hidden, s.dim])?])
            }
            Self::Gate { tokens, experts, .. } => product("workspace", &[tokens, experts]),
            _ => Ok(0),
        }
    }
}
