//! Which experts the tokens of an image chose: traces, histograms, or an even deal.
//!
//! A [`RoutingTrace`] holds records as they are read and is what cost models take; a [`PackedTrace`] holds the same in
//! two bytes per choice, for thousands of images. Both are read from JSON lines or a binary file. [`SyntheticRouting`]
//! draws traces with a chosen skew, locality and overlap of tasks.
mod batch;
mod binary;
mod choices;
mod locality;
mod lru;
mod packed;
mod reader;
mod record;
mod stats;
mod summary;
mod synthetic;
mod trace;

pub use batch::{MergedQueues, task_batch};
pub use choices::{Choices, Rows};
pub use locality::{CouplingCounts, LayerCoupling, WorkingSet, shared_per_token};
pub use lru::{lru_curve, lru_misses};
pub use packed::{PackedRecord, PackedTrace};
pub use reader::TraceReader;
pub use record::{TraceHeader, TraceLayer, TraceRecord};
pub use stats::{OverlapStats, RoutingStats};
pub use summary::{LayerSummary, Spread, TaskOverlap, TraceSummary};
pub use synthetic::SyntheticRouting;
pub use trace::RoutingTrace;

pub(crate) use lru::{LruStack, lru_curve_into, misses_of};

use crate::graph::MoeShape;
use crate::math::sum;
use crate::{HwError, Result};
use std::borrow::Cow;

/// Routing of one image through all MoE layers of a graph.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub enum Routing<'a> {
    /// Pairs dealt evenly over all experts: the assumption of most hardware papers.
    Uniform,
    /// Tokens per expert, the same in every MoE layer.
    Histogram(&'a [u64]),
    /// The decisions recorded for one image and task.
    Trace {
        /// The trace.
        trace: &'a RoutingTrace,
        /// Index of the image.
        image: u64,
        /// Index of the task.
        task: u32,
    },
}

/// Routing of one image through one MoE layer.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum LayerRouting<'a> {
    /// Pairs dealt evenly over all experts.
    Uniform,
    /// Tokens per expert; the order of tokens is unknown.
    Queues(Cow<'a, [u64]>),
    /// Expert ids per token, in sequence order.
    Tokens(&'a [Vec<u16>]),
}

impl<'a> Routing<'a> {
    /// The routing of one layer, checked against its shape.
    ///
    /// # Errors
    ///
    /// [`HwError::MissingRecord`] when a trace lacks the layer, image or task; [`HwError::Routing`] when the decisions
    /// contradict the layer.
    pub fn layer(&self, layer: &str, shape: &MoeShape) -> Result<LayerRouting<'a>> {
        let routing = match *self {
            Self::Uniform => LayerRouting::Uniform,
            Self::Histogram(h) => LayerRouting::Queues(Cow::Borrowed(h)),
            Self::Trace { trace, image, task } => {
                let record = trace.record(layer, image, task)?;
                if record.capacity_dropped {
                    return Err(HwError::Routing {
                        layer: layer.to_owned(),
                        reason: "choices were dropped by a capacity limit, but cost models need all top-K"
                            .to_owned(),
                    });
                }
                record.routing()
            }
        };
        routing.check(layer, shape)?;
        Ok(routing)
    }
}

impl LayerRouting<'_> {
    /// Checks the decisions against a layer: token count, K distinct experts per token, ids in range.
    ///
    /// # Errors
    ///
    /// [`HwError::Routing`] saying what was expected and found.
    pub fn check(&self, layer: &str, shape: &MoeShape) -> Result<()> {
        let fail = |reason: String| Err(HwError::Routing { layer: layer.to_owned(), reason });
        match self {
            Self::Uniform => Ok(()),
            Self::Queues(h) => {
                if h.len() as u64 != shape.experts {
                    return fail(format!(
                        "expected a histogram of {} experts, but found {}",
                        shape.experts,
                        h.len()
                    ));
                }
                if let Some(n) = h.iter().find(|&&n| n > shape.tokens) {
                    return fail(format!("an expert has {n} tokens, but the image has {}", shape.tokens));
                }
                let (pairs, expected) = (sum("token-expert pairs", h.iter().copied())?, shape.pairs()?);
                if pairs != expected {
                    return fail(format!("expected {expected} token-expert pairs, but found {pairs}"));
                }
                Ok(())
            }
            Self::Tokens(tokens) => {
                if tokens.len() as u64 != shape.tokens {
                    return fail(format!("expected {} tokens, but found {}", shape.tokens, tokens.len()));
                }
                match Choices::Nested(tokens).fault(shape.experts, shape.top_k, false) {
                    Some(reason) => fail(reason),
                    None => Ok(()),
                }
            }
        }
    }

    /// Tokens per expert. An even deal gives the remainder to the first experts.
    ///
    /// # Errors
    ///
    /// [`HwError::Config`] for a bad shape, [`HwError::Overflow`] when the pairs do not fit in 64 bits.
    pub fn queues(&self, shape: &MoeShape) -> Result<Vec<u64>> {
        shape.validate()?;
        Ok(match self {
            Self::Uniform => {
                let (pairs, experts) = (shape.pairs()?, shape.experts.max(1));
                (0..experts).map(|e| pairs / experts + u64::from(e < pairs % experts)).collect()
            }
            Self::Queues(h) => h.to_vec(),
            Self::Tokens(tokens) => {
                let mut counts = vec![0; usize::try_from(shape.experts).unwrap_or(usize::MAX)];
                Choices::Nested(tokens).count_into(&mut counts);
                counts
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHAPE: MoeShape = MoeShape { tokens: 3, dim: 8, hidden: 8, experts: 4, top_k: 2 };

    #[test]
    fn an_even_deal_gives_the_remainder_to_the_first_experts() {
        assert_eq!(LayerRouting::Uniform.queues(&SHAPE).unwrap(), [2, 2, 1, 1]);
    }

    #[test]
    fn contradictions_say_what_was_expected_and_found() {
        let error = |r: Routing<'_>| r.layer("blk.1", &SHAPE).unwrap_err().to_string();
        insta::assert_snapshot!(error(Routing::Histogram(&[6, 0])), @"routing of layer `blk.1`: expected a histogram of 4 experts, but found 2");
        insta::assert_snapshot!(error(Routing::Histogram(&[2, 2, 2, 1])), @"routing of layer `blk.1`: expected 6 token-expert pairs, but found 7");
        insta::assert_snapshot!(error(Routing::Histogram(&[4, 2, 0, 0])), @"routing of layer `blk.1`: an expert has 4 tokens, but the image has 3");
        let tokens = |t: &[Vec<u16>]| LayerRouting::Tokens(t).check("blk.1", &SHAPE).unwrap_err().to_string();
        insta::assert_snapshot!(tokens(&[vec![0, 1]]), @"routing of layer `blk.1`: expected 3 tokens, but found 1");
        insta::assert_snapshot!(tokens(&[vec![0, 1], vec![2], vec![0, 1]]), @"routing of layer `blk.1`: token 1 has 1 experts, but top-K is 2");
        insta::assert_snapshot!(tokens(&[vec![0, 1], vec![2, 4], vec![0, 1]]), @"routing of layer `blk.1`: token 1 names expert 4, but there are 4");
        insta::assert_snapshot!(tokens(&[vec![0, 1], vec![2, 2], vec![0, 1]]), @"routing of layer `blk.1`: token 1 names expert 2 twice");
    }
}
