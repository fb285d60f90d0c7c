//! What a training step computes besides what its balancer needs.
use crate::balancing::HeadGrad;
use serde::{Deserialize, Serialize};

/// What the gradients that a balancer sees are gradients of.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum GradSource {
    /// The shared parameters.
    #[default]
    Parameters,
    /// The representation that all heads start from, `[batch, dim]`: one cheap backward pass through each head, then one
    /// through the encoder, as in MGDA-UB (Sener and Koltun 2018, section 3.3).
    Representation,
    /// As [`Representation`](Self::Representation), with inner products of the gradients summed over the batch, as LibMTL
    /// takes them; for balancers that see inner products alone.
    RepresentationSum,
}

/// How inner products of gradients come about where a balancer needs nothing else.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum GramRoute {
    /// For each shared linear layer the cheaper of two ways: from its inputs and output gradients, without forming any
    /// task's weight gradient, or from formed ones. Other parameters by their gradients.
    #[default]
    Auto,
    /// From the gradients of all parameters.
    Gradients,
}

/// The options of a pass.
#[derive(Debug, Clone, Copy)]
pub(super) struct Options {
    /// Factor of the auxiliary losses.
    pub(super) aux_weight: f64,
    /// What single-task parameters get instead of what the method's rule says.
    pub(super) head_grad: Option<HeadGrad>,
    pub(super) grad_source: GradSource,
    pub(super) gram: GramRoute,
    /// Inner products are wanted in the report, even if the balancer does without.
    pub(super) measure: bool,
    /// Traces of layers are wanted in the report.
    pub(super) trace: bool,
}
