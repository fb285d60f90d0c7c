//! Prompts and demonstrations: what they add to a forward pass, and how many passes a method needs.
use super::{Convention, Count, ModelGraph, VitSpec};
use crate::math::{positive, product, sum};
use crate::{HwError, Result};
use serde::{Deserialize, Serialize};

/// Where prompt tokens enter a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum PromptKind {
    /// Tokens like any other within the block, dropped after it (VPT-deep: Jia et al., ECCV 2022, arXiv 2203.12119).
    Deep,
    /// Keys and values only (prefix tuning: Li and Liang, ACL 2021, arXiv 2101.00190).
    Prefix {
        /// Whether the block's own matrices turn the prefix into keys and values; otherwise both are stored.
        projected: bool,
    },
}

/// Prompts of a [`VitSpec`].
///
/// ```
/// use mtl_hw::graph::{PromptSpec, VitSpec};
/// let plain = VitSpec::tiny();
/// let prompted = plain.clone().prompts(PromptSpec::deep(5, vec![0, 1]));
/// let extra = 2 * (12 * 5 * 192 * 192 + 2 * 192 * (202 * 202 - 197 * 197));
/// assert_eq!(prompted.graph()?.macs()? - plain.graph()?.macs()?, extra);
/// assert_eq!(prompted.graph()?.params()? - plain.graph()?.params()?, 2 * 5 * 192);
/// # Ok::<(), mtl_hw::HwError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PromptSpec {
    /// Where they enter.
    pub kind: PromptKind,
    /// Prompt tokens per block.
    pub tokens: u32,
    /// The blocks that have prompts, each with its own.
    pub layers: Vec<u32>,
}

impl PromptSpec {
    /// Deep prompts.
    #[must_use]
    pub fn deep(tokens: u32, layers: Vec<u32>) -> Self {
        Self { kind: PromptKind::Deep, tokens, layers }
    }

    /// Learned keys and values.
    #[must_use]
    pub fn prefix(tokens: u32, layers: Vec<u32>, projected: bool) -> Self {
        Self { kind: PromptKind::Prefix { projected }, tokens, layers }
    }

    pub(super) fn reaches(&self, block: u32) -> bool {
        self.layers.contains(&block)
    }

    pub(super) fn validate(&self, depth: u32) -> Result<()> {
        positive("tokens", self.tokens.into())?;
        positive("layers", self.layers.len() as u64)?;
        for (i, layer) in self.layers.iter().enumerate() {
            if *layer >= depth {
                return Err(HwError::config(
                    format!("layers[{i}]"),
                    format!("below `depth` = {depth}"),
                    layer,
                ));
            }
            if self.layers.iter().take(i).any(|earlier| earlier == layer) {
                return Err(HwError::config(format!("layers[{i}]"), "in the list once", layer));
            }
        }
        Ok(())
    }
}

/// Cost of answering one image with a prompt method.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PromptCost {
    /// The frozen pass that computes the query, if there is one.
    pub query: Option<Count>,
    /// The pass with prompts.
    pub prompted: Count,
    /// Multiply-accumulates of comparing the query with the pool's keys.
    pub matching_macs: u64,
    /// Prompt parameters stored, keys included.
    pub stored_params: u64,
}

impl PromptCost {
    /// One prompted pass and nothing else, as in OVOR's OnePrompt (Huang et al., ICLR 2024, arXiv 2402.04129).
    ///
    /// # Errors
    ///
    /// [`HwError::Config`] for a specification without prompts, or an error of [`VitSpec::graph`].
    pub fn one_prompt(spec: &VitSpec, convention: Convention) -> Result<Self> {
        let (stored_params, graph) = (prompt_params(spec)?, spec.graph()?);
        Ok(Self { query: None, prompted: graph.count(convention)?, matching_macs: 0, stored_params })
    }

    /// A query by a frozen pass without prompts, a choice from `pool` prompts by their keys, and a prompted pass, as in
    /// L2P (Wang et al., CVPR 2022, arXiv 2112.08654).
    ///
    /// ```
    /// use mtl_hw::graph::{Convention, PromptCost, PromptSpec, VitSpec};
    /// let spec = VitSpec::base().prompts(PromptSpec::prefix(20, vec![0, 1, 2, 3, 4], true));
    /// let pool = PromptCost::pool(&spec, 10, Convention::Torch)?;
    /// let one = PromptCost::one_prompt(&spec, Convention::Torch)?;
    /// assert_eq!(pool.forwards(), 2);
    /// assert!((pool.macs()? as f64 / one.macs()? as f64 - 2.0).abs() < 0.02);
    /// # Ok::<(), mtl_hw::HwError>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`HwError::Config`] for an empty pool or a specification without prompts, or an error of [`VitSpec::graph`].
    pub fn pool(spec: &VitSpec, pool: u32, convention: Convention) -> Result<Self> {
        let pool = positive("pool", pool.into())?;
        let plain = VitSpec { prompts: None, ..spec.clone() };
        let keys = product("params", &[pool, spec.dim.into()])?;
        let prompts = product("params", &[pool, prompt_params(spec)?])?;
        Ok(Self {
            query: Some(plain.graph()?.count(convention)?),
            prompted: spec.graph()?.count(convention)?,
            matching_macs: keys,
            stored_params: sum("params", [keys, prompts])?,
        })
    }

    /// Forward passes.
    #[must_use]
    pub fn forwards(&self) -> u32 {
        1 + u32::from(self.query.is_some())
    }

    /// Multiply-accumulates of all passes and the matching.
    ///
    /// # Errors
    ///
    /// [`HwError::Overflow`] beyond 64 bits.
    pub fn macs(&self) -> Result<u64> {
        let query = self.query.as_ref().map_or(0, |q| q.macs);
        sum("macs", [query, self.prompted.macs, self.matching_macs])
    }
}

/// Parameters of the prompts of a specification.
fn prompt_params(spec: &VitSpec) -> Result<u64> {
    let Some(prompts) = &spec.prompts else {
        return Err(HwError::config("prompts", "set", "absent"));
    };
    let width = match prompts.kind {
        PromptKind::Prefix { projected: false } => 2,
        _ => 1,
    };
    product("params", &[prompts.layers.len() as u64, prompts.tokens.into(), width, spec.dim.into()])
}

/// Examples before a question, in one sequence.
///
/// ```
/// use mtl_hw::graph::{BertSpec, Convention, Demonstrations};
/// let bert = |tokens| BertSpec::base(tokens).graph();
/// let shots = Demonstrations { examples: 3, example_tokens: 100, query_tokens: 28 };
/// assert_eq!(shots.tokens()?, 328);
/// let (with, without) = (shots.count(bert, Convention::Torch)?, bert(28)?.count(Convention::Torch)?);
/// assert!(with.total > 328 / 28 * without.total); // attention grows with the square of the length
/// # Ok::<(), mtl_hw::HwError>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Demonstrations {
    /// Examples.
    pub examples: u64,
    /// Tokens of one example with its answer.
    pub example_tokens: u64,
    /// Tokens of the question.
    pub query_tokens: u64,
}

impl Demonstrations {
    /// Tokens of the whole sequence.
    ///
    /// # Errors
    ///
    /// [`HwError::Overflow`] beyond 64 bits.
    pub fn tokens(&self) -> Result<u64> {
        sum("tokens", [product("tokens", &[self.examples, self.example_tokens])?, self.query_tokens])
    }

    /// Operations of the model that `graph` builds for a length, on the whole sequence.
    ///
    /// # Errors
    ///
    /// [`HwError::Config`] for a sequence without tokens or longer than 32 bits can say, or an error of `graph`.
    pub fn count(&self, graph: impl Fn(u32) -> Result<ModelGraph>, convention: Convention) -> Result<Count> {
        let tokens = positive("tokens", self.tokens()?)?;
        let Ok(length) = u32::try_from(tokens) else {
            return Err(HwError::config("tokens", "below 2³²", tokens));
        };
        graph(length)?.count(convention)
    }
}
