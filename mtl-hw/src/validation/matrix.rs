//! Predictions of every preset for every model, published or not.
use super::calibration::with_power_model;
use crate::cost::{Accelerator, Analytical, CostModel};
use crate::graph::{ModelGraph, VitSpec};
use crate::platform::{FitLevel, Platform, Resource};
use crate::routing::Routing;
use crate::{HwError, Result, presets};
use serde::{Deserialize, Serialize};

/// What a preset is predicted to do with a model.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Prediction {
    /// The design.
    pub design: String,
    /// The network and its image.
    pub model: String,
    /// The numbers; absent when the preset's search finds no size that fits the board.
    pub cost: Option<PredictedCost>,
}

/// The numbers of a [`Prediction`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PredictedCost {
    /// Latency of one image, or the time between images, in milliseconds.
    pub latency_ms: f64,
    /// Power in watts.
    pub watts: f64,
    /// Energy of one image in joules.
    pub joules: f64,
    /// On-chip buffers in 2²⁰ bytes.
    pub memory_mib: f64,
    /// Multiplier blocks.
    pub dsp: u64,
    /// Block RAMs of 18 Kib.
    pub ramb18: u64,
    /// UltraRAMs.
    pub uram: u64,
    /// Whether it fits its board.
    pub fit: FitLevel,
}

fn models() -> Result<Vec<(String, ModelGraph)>> {
    let mut models = Vec::new();
    for spec in [VitSpec::tiny(), VitSpec::small(), VitSpec::base()] {
        let name = format!("{} 224×224", spec.name);
        models.push((name, VitSpec { heads_out: Vec::new(), ..spec }.graph()?));
    }
    for [height, width] in [[512, 512], [480, 640]] {
        models.push((
            format!("vit-small, 12 heads {height}×{width}"),
            presets::vit_small_dense(height, width)?,
        ));
        models.push((format!("m3vit-small {height}×{width}"), presets::m3vit_small(height, width)?));
    }
    models.push(("m3vit-tiny 128×256".to_owned(), presets::m3vit_tiny_cityscapes()?));
    Ok(models)
}

/// Every preset with every model, and power from resources and activity unless the preset's own is a constant of its paper's
/// estimate. UbiMoE is searched anew for each model. Routing is even, but for Edge-MoE's network, which has the one
/// published histogram.
///
/// # Errors
///
/// Errors of [`CostModel::model`].
pub fn predictions() -> Result<Vec<Prediction>> {
    let (zcu102, u280) = (Platform::builtin("zcu102")?, Platform::builtin("alveo-u280")?);
    let mut predictions = Vec::new();
    for name in presets::names() {
        let preset = presets::by_name(name)?;
        for (label, graph) in models()? {
            let accelerator = match name {
                "zcu102-ubimoe" => searched(presets::ubimoe(&zcu102, preset.clock_mhz, &graph))?,
                "u280-ubimoe" => searched(presets::ubimoe(&u280, preset.clock_mhz, &graph))?,
                "zcu104-m3vit" => Some(preset.clone()),
                _ => Some(with_power_model(&preset)),
            };
            let cost = match accelerator {
                Some(accelerator) => Some(predict(&accelerator, &graph)?),
                None => None,
            };
            predictions.push(Prediction { design: preset.name.clone(), model: label, cost });
        }
    }
    Ok(predictions)
}

/// A board on which nothing fits is a result, everything else an error.
fn searched(found: Result<Accelerator>) -> Result<Option<Accelerator>> {
    match found {
        Ok(accelerator) => Ok(Some(accelerator)),
        Err(HwError::Config { field, .. }) if field == "platform" => Ok(None),
        Err(error) => Err(error),
    }
}

fn predict(accelerator: &Accelerator, graph: &ModelGraph) -> Result<PredictedCost> {
    let measured = graph.name == "m3vit-tiny";
    let routing = if measured { Routing::Histogram(&presets::EDGE_MOE_QUEUES[0]) } else { Routing::Uniform };
    let report = Analytical.model(graph, accelerator, routing)?;
    let used = |resource| report.fit.entries.iter().find(|e| e.resource == resource).map_or(0, |e| e.used);
    Ok(PredictedCost {
        latency_ms: report.latency_ms(),
        watts: report.power.watts(),
        joules: report.energy_j(),
        memory_mib: report.on_chip_mib(),
        dsp: used(Resource::Dsp),
        ramb18: used(Resource::Ramb18),
        uram: used(Resource::Uram),
        fit: report.fit.level(),
    })
}
