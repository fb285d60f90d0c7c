//! What an evaluator is built from.
use super::design::DesignDims;
use super::evaluator::Transformer;
use super::fabric::{EnergyModel, FabricModel, Limits};
use super::workload::Workload;
use crate::Result;
use crate::cost::Accelerator;

/// Everything that defines an evaluator.
#[derive(Debug, Clone, PartialEq)]
pub struct TransformerSpec {
    /// Board, gate and vector units, port width, bandwidth share; engine, clock, ports, precision and schedule are replaced by
    /// those of the point.
    pub base: Accelerator,
    /// Networks to choose from; one for a pure hardware search.
    pub workloads: Vec<Workload>,
    /// Values of the parameters.
    pub dims: DesignDims,
    /// Constraints.
    pub limits: Limits,
    /// Logic estimate.
    pub fabric: FabricModel,
    /// Energy estimate.
    pub energy: EnergyModel,
    /// With a separate attention engine, one image's attention overlaps another image's linear layers, as in UbiMoE: latency
    /// then is the interval between images, the larger of both parts.
    pub overlap_images: bool,
    /// Tabulates the cost vectors of all configurations first; without, every point is computed from the formulas.
    pub memoise: bool,
}

impl TransformerSpec {
    /// A specification with default parameters, limits and models.
    #[must_use]
    pub fn new(base: Accelerator, workloads: Vec<Workload>) -> Self {
        Self {
            base,
            workloads,
            dims: DesignDims::default(),
            limits: Limits::default(),
            fabric: FabricModel::default(),
            energy: EnergyModel::default(),
            overlap_images: false,
            memoise: true,
        }
    }

    /// Builds the evaluator.
    ///
    /// # Errors
    ///
    /// [`HwError::Config`](crate::HwError::Config) naming the value: no workload, an empty dimension, a clock or a number of ports that the board does
    /// not have, tables too large to hold; [`HwError::NeedsTrace`](crate::HwError::NeedsTrace) for an expert cache without token order;
    /// [`HwError::Overflow`](crate::HwError::Overflow) beyond 64 bits.
    pub fn build(self) -> Result<Transformer> {
        Transformer::new(self)
    }
}
