//! BERT: Devlin et al., *BERT: Pre-training of Deep Bidirectional Transformers for Language Understanding*, NAACL 2019,
//! arXiv 1810.04805.
use super::build::Builder;
use super::{ModelGraph, Op, Part, VitHead};
use crate::math::{positive, product};
use crate::{HwError, Result, text};
use serde::{Deserialize, Serialize};

/// A BERT encoder by its dimensions; the default is BERT-base on 128 tokens.
///
/// ```
/// use mtl_hw::graph::{BertSpec, Convention};
/// let graph = BertSpec::base(512).graph()?;
/// assert_eq!(graph.params()?, 109_482_240);
/// assert_eq!(graph.count(Convention::Torch)?.total, 96_637_943_808);
/// # Ok::<(), mtl_hw::HwError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct BertSpec {
    /// Name of the graph.
    pub name: String,
    /// Tokens of one sequence; at most `positions`.
    pub tokens: u32,
    /// Rows of the token table.
    pub vocab: u32,
    /// Rows of the position table.
    pub positions: u32,
    /// Rows of the segment table.
    pub types: u32,
    /// Width of a token; a multiple of `heads`.
    pub dim: u32,
    /// Encoder layers.
    pub depth: u32,
    /// Attention heads.
    pub heads: u32,
    /// Hidden width of the feed-forward network.
    pub hidden: u32,
    /// Whether the first token passes through a further matrix and tanh. Its result is beside the network's output, so
    /// fvcore does not count it, unless a head reads it.
    pub pooler: bool,
    /// Linear heads on the pooled token, or on the first token where there is no pooler.
    pub heads_out: Vec<VitHead>,
    /// Whether every token is turned into scores of words: a matrix, GELU, norm and the token table with a bias.
    pub masked_lm: bool,
}

impl Default for BertSpec {
    fn default() -> Self {
        Self::base(128)
    }
}

impl BertSpec {
    /// BERT-base (uncased), with pooler and without head.
    #[must_use]
    pub fn base(tokens: u32) -> Self {
        Self {
            name: "bert-base".to_owned(),
            tokens,
            vocab: 30_522,
            positions: 512,
            types: 2,
            dim: 768,
            depth: 12,
            heads: 12,
            hidden: 3072,
            pooler: true,
            heads_out: Vec::new(),
            masked_lm: false,
        }
    }

    /// BERT-large (uncased), with pooler and without head.
    #[must_use]
    pub fn large(tokens: u32) -> Self {
        let name = "bert-large".to_owned();
        Self { name, dim: 1024, depth: 24, heads: 16, hidden: 4096, ..Self::base(tokens) }
    }

    /// Reads a specification in TOML; missing keys take BERT-base's values.
    ///
    /// # Errors
    ///
    /// [`HwError::Parse`] naming the key, or an error of [`BertSpec::graph`].
    pub fn from_toml(toml: &str) -> Result<Self> {
        let spec: Self = text::from_toml("bert", toml)?;
        spec.graph()?;
        Ok(spec)
    }

    fn check(&self) -> Result<()> {
        for (field, value) in [
            ("tokens", self.tokens),
            ("vocab", self.vocab),
            ("positions", self.positions),
            ("types", self.types),
            ("dim", self.dim),
            ("depth", self.depth),
            ("heads", self.heads),
            ("hidden", self.hidden),
        ] {
            positive(field, value.into())?;
        }
        if self.depth > 4096 {
            return Err(HwError::config("depth", "at most 4096", self.depth));
        }
        if self.tokens > self.positions {
            let must = format!("at most `positions` = {}", self.positions);
            return Err(HwError::config("tokens", must, self.tokens));
        }
        if !self.dim.is_multiple_of(self.heads) {
            return Err(HwError::config("dim", format!("a multiple of `heads` = {}", self.heads), self.dim));
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
    /// [`HwError::Config`] naming the field that is zero, not divisible, or out of range.
    pub fn graph(&self) -> Result<ModelGraph> {
        self.check()?;
        let mut b = Builder::new(Part::Embedding);
        let dim = u64::from(self.dim);
        let mut x = self.embed(&mut b)?;
        for block in 0..self.depth {
            b.enter(block);
            x = self.attention(&mut b, x)?;
            x = self.feed_forward(&mut b, x)?;
        }
        b.leave(Part::Head);
        if self.masked_lm {
            self.word_scores(&mut b, x);
        }
        if self.pooler {
            let side = self.heads_out.is_empty();
            x = b.push("pooler.dense", &[x], Op::Gemm { rows: 1, inner: dim, cols: dim, bias: true });
            b.last(|n| n.side = side);
            x = b.push("pooler.tanh", &[x], Op::Tanh { rows: 1, cols: dim });
            b.last(|n| n.side = side);
        }
        for (i, head) in self.heads_out.iter().enumerate() {
            b.task = head.task;
            let op = Op::Gemm { rows: 1, inner: dim, cols: head.classes.into(), bias: true };
            b.push(&format!("head.{i}"), &[x], op);
        }
        b.finish(&self.name)
    }

    fn word_scores(&self, b: &mut Builder, x: usize) {
        let (rows, dim) = (u64::from(self.tokens), u64::from(self.dim));
        let x = b.push("mlm.dense", &[x], Op::Gemm { rows, inner: dim, cols: dim, bias: true });
        let x = b.push("mlm.gelu", &[x], Op::Gelu { rows, cols: dim });
        let x = b.push("mlm.norm", &[x], Op::LayerNorm { rows, dim });
        b.push("mlm.out", &[x], Op::Gemm { rows, inner: dim, cols: self.vocab.into(), bias: true });
        // The token table is the first node.
        b.last(|n| n.tied = Some(0));
    }

    /// Three tables, their sum and its norm.
    fn embed(&self, b: &mut Builder) -> Result<usize> {
        let (rows, dim) = (u64::from(self.tokens), u64::from(self.dim));
        let table = |entries: u32, shared: bool| Op::Embedding { rows, entries: entries.into(), dim, shared };
        let words = b.push("embeddings.word", &[], table(self.vocab, false));
        let types = b.push("embeddings.type", &[], table(self.types, false));
        // The default segment of every position is stored, as are the positions.
        b.last(|n| n.buffers = self.positions.into());
        let sum = b.push("embeddings.add", &[words, types], Op::Add { rows, cols: dim });
        let positions = b.push("embeddings.position", &[], table(self.positions, true));
        b.last(|n| n.buffers = self.positions.into());
        let sum = b.push("embeddings.add_position", &[sum, positions], Op::Add { rows, cols: dim });
        let norm = b.push("embeddings.norm", &[sum], Op::LayerNorm { rows, dim });
        dropout(b, rows, dim)?;
        Ok(norm)
    }

    fn attention(&self, b: &mut Builder, x: usize) -> Result<usize> {
        let (rows, dim, heads) = (u64::from(self.tokens), u64::from(self.dim), u64::from(self.heads));
        let head_dim = dim / heads;
        let linear = Op::Gemm { rows, inner: dim, cols: dim, bias: true };
        b.part = Part::Attention;
        let [q, k, v] =
            ["query", "key", "value"].map(|name| b.push(&format!("attn.{name}"), &[x], linear.clone()));
        let scores = Op::AttentionScores { heads, queries: rows, keys: rows, head_dim };
        let scores = b.push("attn.scores", &[q, k], scores);
        let softmax = Op::Softmax { rows: product("rows", &[heads, rows])?, cols: rows };
        let softmax = b.push("attn.softmax", &[scores], softmax);
        let values = Op::AttentionValues { heads, queries: rows, keys: rows, head_dim };
        let values = b.push("attn.values", &[softmax, v], values);
        let out = b.push("attn.out", &[values], linear);
        dropout(b, rows, dim)?;
        let sum = b.push("attn.add", &[out, x], Op::Add { rows, cols: dim });
        Ok(b.push("attn.norm", &[sum], Op::LayerNorm { rows, dim }))
    }

    fn feed_forward(&self, b: &mut Builder, x: usize) -> Result<usize> {
        let (rows, dim, hidden) = (u64::from(self.tokens), u64::from(self.dim), u64::from(self.hidden));
        b.part = Part::FeedForward;
        let fc1 = b.push("ffn.fc1", &[x], Op::Gemm { rows, inner: dim, cols: hidden, bias: true });
        let gelu = b.push("ffn.gelu", &[fc1], Op::Gelu { rows, cols: hidden });
        let fc2 = b.push("ffn.fc2", &[gelu], Op::Gemm { rows, inner: hidden, cols: dim, bias: true });
        dropout(b, rows, dim)?;
        let sum = b.push("ffn.add", &[fc2, x], Op::Add { rows, cols: dim });
        Ok(b.push("ffn.norm", &[sum], Op::LayerNorm { rows, dim }))
    }
}

/// A dropout module after the node pushed last.
fn dropout(b: &mut Builder, rows: u64, cols: u64) -> Result<()> {
    let elements = product("activations", &[rows, cols])?;
    b.last(|n| n.pass_through = elements);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::Convention;

    #[test]
    fn bad_dimensions_name_the_field() {
        let error = |spec: BertSpec| spec.graph().unwrap_err().to_string();
        insta::assert_snapshot!(error(BertSpec::base(513)), @"`tokens` must be at most `positions` = 512, but is 513");
        insta::assert_snapshot!(error(BertSpec::base(0)), @"`tokens` must be positive, but is 0");
        insta::assert_snapshot!(error(BertSpec { heads: 7, ..BertSpec::default() }), @"`dim` must be a multiple of `heads` = 7, but is 768");
        insta::assert_snapshot!(BertSpec::from_toml("lenght = 5").unwrap_err().to_string().split(',').next().unwrap(), @"bert: `lenght`: unknown field `lenght`");
    }

    #[test]
    fn a_head_on_the_pooler_makes_it_count() {
        let count = |heads_out| {
            let spec = BertSpec { heads_out, ..BertSpec::base(8) };
            spec.graph().unwrap().count(Convention::Fvcore).unwrap().total
        };
        assert_eq!(count(vec![VitHead::shared(2)]), count(vec![]) + 768 * 768 + 768 * 2);
    }
}
