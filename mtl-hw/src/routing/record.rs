//! Header and records of a routing trace, and what may be wrong with them.
use super::{Choices, LayerRouting};
use crate::graph::MoeShape;
use crate::math::{positive, product};
use crate::{HwError, Result};
use serde::{Deserialize, Serialize};
use std::borrow::Cow;

/// Name and version of the format.
pub(crate) const FORMAT: &str = "mtl-route/1";

/// One MoE layer of a trace's model.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TraceLayer {
    /// Identifier, `blk.<block>` in graphs of this crate.
    pub id: String,
    /// Experts E.
    pub experts: u64,
    /// Experts per token K, below E.
    pub top_k: u64,
    /// Width of a token.
    pub d_model: u64,
    /// Hidden width of one expert.
    pub d_hidden: u64,
}

/// First line of a trace.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TraceHeader {
    /// Always `mtl-route/1`.
    pub format: String,
    /// The model that was traced.
    pub model: String,
    /// Its MoE layers.
    pub layers: Vec<TraceLayer>,
    /// Names of the tasks; records refer to them by index.
    pub tasks: Vec<String>,
    /// Tokens of one image, class token included.
    pub tokens_per_image: u64,
    /// Order of the tokens, such as `class,row-major`.
    pub token_order: String,
}

impl TraceHeader {
    /// A header with the class token first and patches row by row.
    #[must_use]
    pub fn new(model: &str, tasks: Vec<String>, tokens_per_image: u64, layers: Vec<TraceLayer>) -> Self {
        Self {
            format: FORMAT.to_owned(),
            model: model.to_owned(),
            layers,
            tasks,
            tokens_per_image,
            token_order: "class,row-major".to_owned(),
        }
    }

    /// The shape of a layer, by its index in [`TraceHeader::layers`].
    #[must_use]
    pub fn shape(&self, layer: usize) -> Option<MoeShape> {
        self.layers.get(layer).map(|l| MoeShape {
            tokens: self.tokens_per_image,
            dim: l.d_model,
            hidden: l.d_hidden,
            experts: l.experts,
            top_k: l.top_k,
        })
    }

    /// The index of a layer.
    #[must_use]
    pub fn layer_index(&self, id: &str) -> Option<usize> {
        self.layers.iter().position(|l| l.id == id)
    }

    /// Checks the format, the layers and the numbers.
    ///
    /// # Errors
    ///
    /// [`HwError::Config`] for another format, a repeated layer, no task, a dense gate, or a bad dimension.
    pub fn validate(&self) -> Result<()> {
        if self.format != FORMAT {
            return Err(HwError::config("format", format!("`{FORMAT}`"), format!("`{}`", self.format)));
        }
        positive("tokens_per_image", self.tokens_per_image)?;
        positive("tasks", self.tasks.len() as u64)?;
        for (i, l) in self.layers.iter().enumerate() {
            let within = |e: HwError| e.within(&format!("layers[{i}]"));
            if let Some(shape) = self.shape(i) {
                shape.validate().map_err(within)?;
                shape.pairs().map_err(within)?;
            }
            if l.top_k == l.experts && l.experts > 1 {
                let must = format!("below `experts` = {}, since a dense gate routes nothing", l.experts);
                return Err(within(HwError::config("top_k", must, l.top_k)));
            }
            if self.layers.iter().take(i).any(|earlier| earlier.id == l.id) {
                return Err(within(HwError::config("id", "unique", &l.id)));
            }
        }
        Ok(())
    }

    /// Checks one record by itself; on success the index of its layer.
    pub(crate) fn check(&self, r: &TraceRecord) -> Result<usize, String> {
        let Some((index, layer)) = self.layers.iter().enumerate().find(|(_, l)| l.id == r.layer) else {
            return Err("not in the trace's header".to_owned());
        };
        self.check_task(r.task)?;
        match (&r.experts, &r.histogram) {
            (Some(experts), None) => {
                self.check_choices(layer, Choices::Nested(experts), r.capacity_dropped)?;
                match &r.weights {
                    Some(weights) => weights_fault(weights, experts).map_or(Ok(index), Err),
                    None => Ok(index),
                }
            }
            (None, Some(_)) if r.weights.is_some() => Err("`weights` need `experts`".to_owned()),
            (None, Some(histogram)) => {
                self.check_histogram(index, histogram, r.capacity_dropped)?;
                Ok(index)
            }
            _ => Err("exactly one of `experts` and `histogram` is needed".to_owned()),
        }
    }

    pub(crate) fn check_task(&self, task: u32) -> Result<(), String> {
        match self.tasks.len() {
            n if (task as usize) < n => Ok(()),
            n => Err(format!("task {task} is out of range; the header names {n}")),
        }
    }

    pub(crate) fn check_choices(
        &self,
        layer: &TraceLayer,
        choices: Choices<'_>,
        dropped: bool,
    ) -> Result<(), String> {
        if choices.tokens() as u64 != self.tokens_per_image {
            return Err(format!("expected {} tokens, but found {}", self.tokens_per_image, choices.tokens()));
        }
        choices.fault(layer.experts, layer.top_k, dropped).map_or(Ok(()), Err)
    }

    pub(crate) fn check_histogram(
        &self,
        layer: usize,
        histogram: &[u64],
        dropped: bool,
    ) -> Result<(), String> {
        let Some(shape) = self.shape(layer) else { return Err("not in the trace's header".to_owned()) };
        if dropped {
            let pairs = crate::math::sum("pairs", histogram.iter().copied()).map_err(|e| e.to_string())?;
            let most = shape.pairs().map_err(|e| e.to_string())?;
            let fits =
                histogram.len() as u64 == shape.experts && histogram.iter().all(|&n| n <= shape.tokens);
            return if fits && pairs <= most {
                Ok(())
            } else {
                Err(format!("expected {} counts of at most {most} pairs in all", shape.experts))
            };
        }
        match LayerRouting::Queues(Cow::Borrowed(histogram)).check("", &shape) {
            Ok(()) => Ok(()),
            Err(HwError::Routing { reason, .. }) => Err(reason),
            Err(other) => Err(other.to_string()),
        }
    }

    /// Token-expert pairs of a full record of a layer.
    pub(crate) fn pairs(&self, layer: &TraceLayer) -> Result<u64> {
        product("token-expert pairs", &[self.tokens_per_image, layer.top_k])
    }
}

/// Decisions of one image, task and layer: expert ids per token, or only their histogram.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TraceRecord {
    /// Index of the image.
    pub image: u64,
    /// Index of the task.
    pub task: u32,
    /// Identifier of the layer.
    pub layer: String,
    /// Expert ids per token in sequence order, best score first, of equal scores the lower id first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub experts: Option<Vec<Vec<u16>>>,
    /// Gate weights in the shape of `experts`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weights: Option<Vec<Vec<f32>>>,
    /// Tokens per expert, instead of `experts`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub histogram: Option<Vec<u64>>,
    /// Whether a capacity limit took experts away, so that tokens may have fewer than top-K.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub capacity_dropped: bool,
}

impl TraceRecord {
    /// A record of expert ids per token.
    #[must_use]
    pub fn tokens(image: u64, task: u32, layer: &str, experts: Vec<Vec<u16>>) -> Self {
        Self {
            image,
            task,
            layer: layer.to_owned(),
            experts: Some(experts),
            weights: None,
            histogram: None,
            capacity_dropped: false,
        }
    }

    /// The decisions in the form that cost models take.
    #[must_use]
    pub fn routing(&self) -> LayerRouting<'_> {
        match (&self.experts, &self.histogram) {
            (Some(tokens), _) => LayerRouting::Tokens(tokens),
            (None, histogram) => {
                LayerRouting::Queues(Cow::Borrowed(histogram.as_deref().unwrap_or_default()))
            }
        }
    }
}

/// What is wrong with gate weights: another shape than the ids, not finite, or out of order.
fn weights_fault(weights: &[Vec<f32>], experts: &[Vec<u16>]) -> Option<String> {
    if weights.len() != experts.len() || weights.iter().zip(experts).any(|(w, e)| w.len() != e.len()) {
        return Some("`weights` and `experts` differ in shape".to_owned());
    }
    weights.iter().zip(experts).enumerate().find_map(|(t, (w, e))| row_fault(t, w, e))
}

/// As [`weights_fault`], for one token.
pub(crate) fn row_fault(token: usize, weights: &[f32], experts: &[u16]) -> Option<String> {
    if weights.iter().any(|w| !w.is_finite()) {
        return Some(format!("the weights of token {token} are not finite"));
    }
    let pairs = || weights.iter().zip(experts);
    let ordered = pairs().zip(pairs().skip(1)).all(|((w, e), (v, f))| w > v || (w == v && e < f));
    (!ordered).then(|| {
        format!(
            "the experts of token {token} are not in order of falling weight, and of rising id where equal"
        )
    })
}
