//! The constants that are fitted, and to what.
use crate::cost::{Accelerator, Analytical, CostModel, PowerModel};
use crate::graph::{ModelGraph, VitSpec};
use crate::math::positive_float;
use crate::power::PowerCoefficients;
use crate::routing::Routing;
use crate::{HwError, Result, presets};
use serde::{Deserialize, Serialize};

/// Latencies of a burst that [`calibrate_burst_latency`] tries, in cycles.
const MAX_BURST_LATENCY: u32 = 4096;

/// The burst latency, of activations and weights alike, at which a design is closest to a measured latency, and the
/// latency in milliseconds that it then has.
///
/// # Errors
///
/// [`HwError::Config`] for a target that is not positive and finite or a design with activations on chip; errors of
/// [`CostModel::model`].
pub fn calibrate_burst_latency(
    graph: &ModelGraph,
    accelerator: &Accelerator,
    routing: Routing<'_>,
    target_ms: f64,
) -> Result<(u32, f64)> {
    positive_float("target_ms", target_ms)?;
    if accelerator.off_chip.is_none() {
        return Err(HwError::config(
            "accelerator",
            "one whose activations travel off chip",
            &accelerator.name,
        ));
    }
    let latency_ms = |cycles: u32| {
        let mut changed = accelerator.clone();
        changed.port.burst_latency = cycles;
        if let Some(design) = &mut changed.off_chip {
            design.master.burst_latency = cycles;
        }
        Ok::<f64, HwError>(Analytical.model(graph, &changed, routing)?.latency_ms())
    };
    // The first that is not faster than the target.
    let (mut low, mut high) = (0, MAX_BURST_LATENCY);
    while low < high {
        let middle = low + (high - low) / 2;
        if latency_ms(middle)? < target_ms { low = middle + 1 } else { high = middle }
    }
    let (above, below) = (latency_ms(low)?, latency_ms(low.saturating_sub(1))?);
    if (below - target_ms).abs() < (above - target_ms).abs() {
        Ok((low.saturating_sub(1), below))
    } else {
        Ok((low, above))
    }
}

/// Static watts that minimise the sum of squared relative errors of static + dynamic over (published, dynamic) watts.
///
/// ```
/// let watts = mtl_hw::validation::fit_static_watts(&[(10.0, 2.0)])?;
/// assert_eq!(watts, 8.0);
/// # Ok::<(), mtl_hw::HwError>(())
/// ```
///
/// # Errors
///
/// [`HwError::Config`] for no points, or a published power that is not positive and finite.
pub fn fit_static_watts(points: &[(f64, f64)]) -> Result<f64> {
    let (mut weighted, mut weights) = (0.0, 0.0);
    for &(published, dynamic) in points {
        let weight = positive_float("published watts", published)?.powi(-2);
        weighted += weight * (published - dynamic);
        weights += weight;
    }
    positive_float("points", weights)?;
    Ok(weighted / weights)
}

/// One published power and the fit of its board family.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PowerFit {
    /// The design.
    pub design: String,
    /// The network.
    pub model: String,
    /// The family that shares one static constant.
    pub family: String,
    /// Published watts.
    pub published: f64,
    /// Watts beyond the static ones, from resources and activity; not fitted.
    pub dynamic: f64,
    /// Static watts fitted to all designs of the family.
    pub fitted_static: f64,
    /// Static watts fitted to the others of the family, where there are any.
    pub left_out_static: Option<f64>,
}

impl PowerFit {
    /// Predicted watts with the constant of the family.
    #[must_use]
    pub fn predicted(&self) -> f64 {
        self.fitted_static + self.dynamic
    }

    /// Predicted watts when this design's own power was left out of the fit.
    #[must_use]
    pub fn left_out(&self) -> Option<f64> {
        self.left_out_static.map(|s| s + self.dynamic)
    }
}

/// The published powers of vision transformers on these boards, and their fits.
///
/// # Errors
///
/// Errors of [`CostModel::model`].
pub fn power_fits() -> Result<Vec<PowerFit>> {
    let encoder = |spec: VitSpec| VitSpec { heads_out: Vec::new(), ..spec }.graph();
    let (tiny, small) = (encoder(VitSpec::tiny())?, encoder(VitSpec::small())?);
    let zynq = "Zynq UltraScale+";
    let queues = Routing::Histogram(&presets::EDGE_MOE_QUEUES[0]);
    let cases = [
        (
            presets::zcu102_edge_moe()?,
            presets::m3vit_tiny_cityscapes()?,
            queues,
            zynq,
            presets::EDGE_MOE_WATTS,
        ),
        (presets::zcu102_heatvit()?, small.clone(), Routing::Uniform, zynq, 10.697),
        (presets::zcu102_ubimoe()?, tiny, Routing::Uniform, zynq, 9.94),
        (presets::u280_ubimoe()?, small, Routing::Uniform, "Alveo", 31.36),
    ];
    let mut fits = Vec::new();
    for (accelerator, graph, routing, family, published) in cases {
        fits.push(PowerFit {
            design: accelerator.name.clone(),
            model: graph.name.clone(),
            family: family.to_owned(),
            published,
            dynamic: dynamic_watts(&graph, &accelerator, routing)?,
            fitted_static: 0.0,
            left_out_static: None,
        });
    }
    let all = fits.clone();
    for (i, fit) in fits.iter_mut().enumerate() {
        let family = || all.iter().enumerate().filter(|(_, f)| f.family == fit.family);
        let points: Vec<(f64, f64)> = family().map(|(_, f)| (f.published, f.dynamic)).collect();
        let others: Vec<(f64, f64)> =
            family().filter(|(j, _)| *j != i).map(|(_, f)| (f.published, f.dynamic)).collect();
        let left_out = if others.is_empty() { None } else { Some(fit_static_watts(&others)?) };
        (fit.fitted_static, fit.left_out_static) = (fit_static_watts(&points)?, left_out);
    }
    Ok(fits)
}

/// The same design with power from resources and activity, and the family's static constant.
pub(super) fn with_power_model(accelerator: &Accelerator) -> Accelerator {
    let alveo = accelerator.platform.memory.kind == crate::platform::MemoryKind::Hbm2;
    let coefficients =
        if alveo { PowerCoefficients::alveo_hbm() } else { PowerCoefficients::zynq_ultrascale() };
    let mut changed = accelerator.clone();
    let source = "one static constant fitted per board family".to_owned();
    changed.power = PowerModel::Utilisation { coefficients, source, point: None };
    changed
}

fn dynamic_watts(graph: &ModelGraph, accelerator: &Accelerator, routing: Routing<'_>) -> Result<f64> {
    let report = Analytical.model(graph, &with_power_model(accelerator), routing)?;
    Ok(match &report.power {
        PowerModel::Utilisation { coefficients, point: Some(point), .. } => coefficients.dynamic_watts(point),
        _ => 0.0,
    })
}
