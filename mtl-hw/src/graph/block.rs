//! The parts of a pre-norm encoder block as timm builds them.
use super::Op;
use super::build::Builder;
use crate::Result;
use crate::math::{product, sum};

/// Dimensions of one block.
#[derive(Clone, Copy)]
pub(super) struct Block {
    /// Tokens.
    pub(super) rows: u64,
    /// Width of a token.
    pub(super) dim: u64,
    pub(super) heads: u64,
    /// Width of one head; `heads` of them need not add up to `dim`.
    pub(super) head_dim: u64,
    /// Hidden width of the feed-forward network.
    pub(super) hidden: u64,
    pub(super) qkv_bias: bool,
    /// Learned keys and values before those of the tokens.
    pub(super) prefix: Option<Prefix>,
}

/// Prefix tuning of one block.
#[derive(Clone, Copy)]
pub(super) struct Prefix {
    pub(super) tokens: u64,
    /// Whether the prefix is tokens that the block's own matrices turn into keys and values.
    pub(super) projected: bool,
}

/// Norm, attention and residual addition.
pub(super) fn attention(b: &mut Builder, x: usize, block: &Block) -> Result<usize> {
    let Block { rows, dim, heads, head_dim, .. } = *block;
    let inner = product("attention width", &[heads, head_dim])?;
    let qkv_cols = product("attention width", &[3, inner])?;
    let norm = b.push("norm1", &[x], Op::LayerNorm { rows, dim });
    let qkv = Op::Gemm { rows, inner: dim, cols: qkv_cols, bias: block.qkv_bias };
    let qkv = b.push("attn.qkv", &[norm], qkv);
    // Identities in place of norms of queries and keys.
    let both = product("activations", &[2, rows, inner])?;
    b.last(|n| n.pass_through = both);
    let mut sources = vec![qkv];
    let mut keys = rows;
    if let Some(prefix) = block.prefix {
        keys = sum("keys", [rows, prefix.tokens])?;
        sources.push(prefix_nodes(b, &prefix, dim, inner, qkv)?);
    }
    let scores =
        b.push("attn.scores", &sources, Op::AttentionScores { heads, queries: rows, keys, head_dim });
    let softmax = Op::Softmax { rows: product("rows", &[heads, rows])?, cols: keys };
    let probabilities = softmax.outputs()?;
    sources.insert(0, b.push("attn.softmax", &[scores], softmax));
    b.last(|n| n.pass_through = probabilities);
    let values =
        b.push("attn.values", &sources, Op::AttentionValues { heads, queries: rows, keys, head_dim });
    let width = product("activations", &[rows, inner])?;
    b.last(|n| n.pass_through = width);
    let proj = b.push("attn.proj", &[values], Op::Gemm { rows, inner, cols: dim, bias: true });
    // Dropout, layer scale and drop path.
    let thrice = product("activations", &[3, rows, dim])?;
    b.last(|n| n.pass_through = thrice);
    Ok(b.push("attn.add", &[proj, x], Op::Add { rows, cols: dim }))
}

fn prefix_nodes(b: &mut Builder, prefix: &Prefix, dim: u64, inner: u64, qkv: usize) -> Result<usize> {
    let cols = product("attention width", &[2, inner])?;
    let prompts = prefix.tokens;
    if !prefix.projected {
        return Ok(b.push("attn.prefix", &[], Op::Prompt { rows: 0, prompts, dim: cols }));
    }
    let tokens = b.push("attn.prefix", &[], Op::Prompt { rows: 0, prompts, dim });
    let projection = Op::Gemm { rows: prompts, inner: dim, cols, bias: false };
    let projection = b.push("attn.prefix_kv", &[tokens], projection);
    b.last(|n| n.tied = Some(qkv));
    Ok(projection)
}

/// The two matrices between norm and residual addition.
pub(super) fn mlp(b: &mut Builder, norm: usize, block: &Block) -> Result<usize> {
    let Block { rows, dim, hidden, .. } = *block;
    let fc1 = b.push("mlp.fc1", &[norm], Op::Gemm { rows, inner: dim, cols: hidden, bias: true });
    let gelu = b.push("mlp.gelu", &[fc1], Op::Gelu { rows, cols: hidden });
    // Dropout and an identity in place of a norm.
    let twice = product("activations", &[2, rows, hidden])?;
    b.last(|n| n.pass_through = twice);
    let fc2 = b.push("mlp.fc2", &[gelu], Op::Gemm { rows, inner: hidden, cols: dim, bias: true });
    let thrice = product("activations", &[3, rows, dim])?;
    b.last(|n| n.pass_through = thrice);
    Ok(fc2)
}

/// Norm, dense feed-forward network and residual addition.
pub(super) fn feed_forward(b: &mut Builder, x: usize, block: &Block) -> Result<usize> {
    let norm = b.push("norm2", &[x], Op::LayerNorm { rows: block.rows, dim: block.dim });
    let out = mlp(b, norm, block)?;
    Ok(b.push("ffn.add", &[out, x], Op::Add { rows: block.rows, cols: block.dim }))
}
