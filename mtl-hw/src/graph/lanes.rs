//! MULTI-LANE: parallel pathways of summarised tokens in one transformer (De Min et al., *Less is more: Summarizing Patch
//! Tokens for efficient Multi-Label Class-Incremental Learning*, CoLLAs 2024, arXiv 2405.15633).
use super::block::{attention, feed_forward};
use super::build::Builder;
use super::{ModelGraph, Op, Part, VitHead, VitSpec};
use crate::math::{positive, product, sum};
use crate::{HwError, Result};
use serde::{Deserialize, Serialize};

/// Task pathways that share the weights of one vision transformer.
///
/// In each block, a pathway turns the patch tokens into `summary` tokens with its own selectors, and runs the block on
/// those, its class token and its prompts. Of the selection only the scores are counted, one product of width D per
/// selector and token; how the tokens are then combined depends on the implementation.
///
/// ```
/// use mtl_hw::graph::{LanesSpec, VitSpec};
/// let base = VitSpec { heads_out: Vec::new(), ..VitSpec::base() };
/// let lanes = LanesSpec { base, tasks: vec![20; 4], summary: 10, prompts: 4, propagate_patches: false };
/// let (rows, dim) = (10 + 4 + 1, 768);
/// let lane = 12 * rows * dim * dim + 2 * rows * rows * dim + 10 * 197 * dim; // and the selectors
/// let heads = 4 * 20 * dim;
/// assert_eq!(lanes.graph()?.macs()?, 196 * 768 * dim + 4 * 12 * lane + heads);
/// # Ok::<(), mtl_hw::HwError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LanesSpec {
    /// The transformer; its own heads, experts and prompts are not used and must be absent.
    pub base: VitSpec,
    /// Classes of each task, in order; one pathway per task.
    pub tasks: Vec<u32>,
    /// Tokens m that the patches are summarised to.
    pub summary: u32,
    /// Prompt tokens of a pathway.
    pub prompts: u32,
    /// Whether the patch tokens pass through the blocks too; otherwise every block summarises the embedded patches.
    pub propagate_patches: bool,
}

impl LanesSpec {
    /// Multiply-accumulates of the encoder if every task ran the whole transformer with its prompts instead.
    ///
    /// # Errors
    ///
    /// [`HwError::Config`] as [`LanesSpec::graph`], [`HwError::Overflow`] beyond 64 bits.
    pub fn full_lane_macs(&self) -> Result<u64> {
        let rows = sum("tokens", [self.base.tokens()?, self.prompts.into()])?;
        let mut b = Builder::new(Part::Attention);
        let block = self.base.block(rows);
        let x = b.push("x", &[], Op::Add { rows, cols: block.dim });
        let x = attention(&mut b, x, &block)?;
        feed_forward(&mut b, x, &block)?;
        let one = b.finish("block")?.macs()?;
        product("macs", &[self.tasks.len() as u64, self.base.depth.into(), one])
    }

    /// Builds the graph; nodes of later pathways are tied to those of the first.
    ///
    /// # Errors
    ///
    /// [`HwError::Config`] for a pathway without tokens or classes, more summary tokens than tokens, a base with heads,
    /// experts or prompts of its own, or an error of [`VitSpec::graph`].
    pub fn graph(&self) -> Result<ModelGraph> {
        let base = &self.base;
        base.graph().map_err(|e| e.within("base"))?;
        let tokens = base.tokens()?;
        positive("tasks", self.tasks.len() as u64)?;
        positive("summary", self.summary.into())?;
        positive("prompts", self.prompts.into())?;
        if u64::from(self.summary) > tokens {
            return Err(HwError::config("summary", format!("at most the {tokens} tokens"), self.summary));
        }
        for (i, &classes) in self.tasks.iter().enumerate() {
            positive(&format!("tasks[{i}]"), classes.into())?;
        }
        for (field, absent) in [
            ("base.heads_out", base.heads_out.is_empty()),
            ("base.dense_heads", base.dense_heads.is_empty()),
            ("base.moe", base.moe.is_none()),
            ("base.prompts", base.prompts.is_none()),
        ] {
            if !absent {
                return Err(HwError::config(field, "absent, since pathways have their own", "present"));
            }
        }
        self.build(tokens)
    }

    fn build(&self, tokens: u64) -> Result<ModelGraph> {
        let mut b = Builder::new(Part::Embedding);
        let mut patches = self.base.embed(&mut b, None)?;
        // The pathways' tokens; their class tokens start as the transformer's.
        let mut lanes: Vec<Option<usize>> = vec![None; self.tasks.len()];
        for block in 0..self.base.depth {
            b.enter(block);
            let mut owner = None;
            let read = patches;
            if self.propagate_patches {
                b.scope = format!("blk.{block}.trunk");
                owner = Some(b.nodes.len());
                patches = run(&mut b, patches, &self.base.block(tokens), None)?;
            }
            for (task, lane) in lanes.iter_mut().enumerate() {
                b.task = Some(u32::try_from(task).map_err(|_| HwError::Overflow { what: "tasks".into() })?);
                b.scope = format!("blk.{block}.lane{task}");
                let x = self.summarise(&mut b, read, *lane, tokens);
                let start = b.nodes.len();
                *lane = Some(run(&mut b, x, &self.base.block(self.rows()), owner)?);
                owner = owner.or(Some(start));
            }
            b.task = None;
        }
        b.leave(Part::Head);
        let dim = u64::from(self.base.dim);
        let mut norm_owner = None;
        for (task, (&classes, lane)) in self.tasks.iter().zip(&lanes).enumerate() {
            let VitHead { classes, task: of } =
                VitHead::task(u32::try_from(task).unwrap_or(u32::MAX), classes);
            b.task = of;
            let inputs: Vec<usize> = lane.iter().copied().collect();
            let norm = b.push(&format!("norm.{task}"), &inputs, Op::LayerNorm { rows: self.rows(), dim });
            b.last(|n| n.tied = norm_owner);
            norm_owner = norm_owner.or(Some(norm));
            let op = Op::Gemm { rows: 1, inner: dim, cols: classes.into(), bias: true };
            b.push(&format!("head.{task}"), &[norm], op);
        }
        b.finish(&format!("{}-lanes", self.base.name))
    }

    /// Tokens of a pathway: summary, prompts and class token.
    fn rows(&self) -> u64 {
        u64::from(self.summary) + u64::from(self.prompts) + 1
    }

    /// Scores of the pathway's selectors over the tokens; the tokens that they make, with prompts before them.
    fn summarise(&self, b: &mut Builder, patches: usize, lane: Option<usize>, tokens: u64) -> usize {
        let (summary, dim) = (u64::from(self.summary), u64::from(self.base.dim));
        b.part = Part::Attention;
        // The selectors are a matrix of their own: one score per selector and token.
        let scores = Op::Gemm { rows: tokens, inner: dim, cols: summary, bias: false };
        let scores = b.push("select", &[patches], scores);
        let inputs: Vec<usize> = [scores, patches].into_iter().chain(lane).collect();
        let prompts = Op::Prompt { rows: summary + 1, prompts: self.prompts.into(), dim };
        b.push("prompt", &inputs, prompts)
    }
}

/// One block, with the weights of the block whose first node is `owner`.
fn run(b: &mut Builder, x: usize, shape: &super::block::Block, owner: Option<usize>) -> Result<usize> {
    let start = b.nodes.len();
    b.part = Part::Attention;
    let x = attention(b, x, shape)?;
    b.part = Part::FeedForward;
    let x = feed_forward(b, x, shape)?;
    if let Some(owner) = owner {
        // Both blocks have the same nodes in the same order.
        for (i, node) in b.nodes.iter_mut().skip(start).enumerate() {
            node.tied = Some(owner + i);
        }
    }
    Ok(x)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lanes(tasks: usize, propagate_patches: bool) -> LanesSpec {
        let base = VitSpec { heads_out: Vec::new(), ..VitSpec::tiny() };
        LanesSpec { base, tasks: vec![10; tasks], summary: 8, prompts: 2, propagate_patches }
    }

    #[test]
    fn pathways_share_the_transformer() {
        let base = VitSpec { heads_out: Vec::new(), ..VitSpec::tiny() }.graph().unwrap().params().unwrap();
        for propagate in [false, true] {
            let params = |n| lanes(n, propagate).graph().unwrap().params().unwrap();
            // Selectors, prompts and a head of its own.
            let own = 12 * (8 * 192 + 2 * 192) + 193 * 10;
            assert_eq!(params(1), base + own);
            assert_eq!(params(5), base + 5 * own);
        }
        // One task alone still has the whole transformer.
        let graph = lanes(3, false).graph().unwrap().for_task(2);
        graph.validate().unwrap();
        assert_eq!(graph.params().unwrap(), lanes(1, false).graph().unwrap().params().unwrap());
    }

    #[test]
    fn propagating_the_patches_costs_one_transformer() {
        let macs = |propagate| lanes(3, propagate).graph().unwrap().macs().unwrap();
        let trunk = 12 * (12 * 197 * 192 * 192 + 2 * 197 * 197 * 192);
        assert_eq!(macs(true) - macs(false), trunk);
        assert_eq!(
            lanes(3, false).full_lane_macs().unwrap(),
            3 * 12 * (12 * 199 * 192 * 192 + 2 * 199 * 199 * 192)
        );
    }

    #[test]
    fn bad_pathways_name_the_field() {
        let error = |spec: LanesSpec| spec.graph().unwrap_err().to_string();
        insta::assert_snapshot!(error(LanesSpec { summary: 198, ..lanes(1, false) }), @"`summary` must be at most the 197 tokens, but is 198");
        insta::assert_snapshot!(error(LanesSpec { base: VitSpec::tiny(), ..lanes(1, false) }), @"`base.heads_out` must be absent, since pathways have their own, but is present");
        insta::assert_snapshot!(error(lanes(0, false)), @"`tasks` must be positive, but is 0");
    }
}
