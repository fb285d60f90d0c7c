//! Published numbers, each with ours.
use super::calibration::{calibrate_burst_latency, power_fits, with_power_model};
use super::{Nature, Quantity, Role, Row};
use crate::cost::{Analytical, CostModel, LutModel, MoeSchedule, Report};
use crate::graph::VitSpec;
use crate::routing::Routing;
use crate::{Result, presets};

/// Measured latency of Edge-MoE in milliseconds.
const EDGE_MOE_MS: f64 = 34.64;

/// Relative error of power that is aimed at.
const POWER_AIM: f64 = 0.20;

/// All comparisons, in a fixed order.
///
/// # Errors
///
/// Errors of [`CostModel::model`].
pub fn rows() -> Result<Vec<Row>> {
    let mut rows = m3vit()?;
    rows.extend(edge_moe()?);
    rows.extend(transformers()?);
    rows.extend(powers()?);
    rows.push(Row {
        design: "DPU B3136".to_owned(),
        model: "-".to_owned(),
        quantity: Quantity::Lut,
        published: 45_517.0,
        predicted: LutModel::default().luts(1568 * 16, 4 * 128)? as f64,
        role: Role::Sanity,
        nature: Nature::Reference,
        tolerance: 0.25,
        note: "KV260 reference design; coefficients are rules of thumb".to_owned(),
    });
    Ok(rows)
}

/// A row of one report.
struct Template<'a> {
    report: &'a Report,
    nature: Nature,
}

impl Template<'_> {
    fn row(&self, quantity: Quantity, published: f64, role: Role, tolerance: f64, note: &str) -> Row {
        Row {
            design: self.report.accelerator.clone(),
            model: self.report.model.clone(),
            quantity,
            published,
            predicted: match quantity {
                Quantity::LatencyMs => self.report.latency_ms(),
                Quantity::EnergyJ => self.report.energy_j(),
                Quantity::MemoryMib => self.report.on_chip_mib(),
                Quantity::PowerW => self.report.power.watts(),
                Quantity::Lut => 0.0,
            },
            role,
            nature: self.nature,
            tolerance,
            note: note.to_owned(),
        }
    }
}

fn m3vit() -> Result<Vec<Row>> {
    use Quantity::{EnergyJ, LatencyMs, MemoryMib};
    use Role::{Calibration, Validation};
    let accelerator = presets::zcu104_m3vit()?;
    let report = |graph, schedule| {
        Analytical.model(graph, &accelerator.clone().with_schedule(schedule), Routing::Uniform)
    };
    let cached = MoeSchedule::TokenByToken { cache_experts: 4 };
    let (dense, moe) = (presets::vit_small_dense(512, 512)?, presets::m3vit_small(512, 512)?);
    let (large_dense, large_moe) = (presets::vit_small_dense(480, 640)?, presets::m3vit_small(480, 640)?);
    let reordered = MoeSchedule::reordered();
    let unfit = "480×640 pixels; more than the board's block RAM and UltraRAM hold, so it does not fit";
    let mut rows = Vec::new();
    for (graph, schedule, quantity, published, role, tolerance, note) in [
        (&large_dense, reordered, MemoryMib, 4.828, Calibration, 0.002, unfit),
        (&large_moe, reordered, MemoryMib, 4.840, Validation, 0.002, unfit),
        (
            &large_moe,
            MoeSchedule::AllResident,
            MemoryMib,
            11.610,
            Validation,
            0.002,
            "all experts resident; does not fit",
        ),
        (&dense, reordered, LatencyMs, 68.931, Calibration, 0.01, "512×512 pixels"),
        (&moe, reordered, LatencyMs, 69.033, Validation, 0.002, "512×512 pixels"),
        (&moe, cached, LatencyMs, 637.478, Validation, 0.002, "token by token, 4 experts cached"),
        (&moe, reordered, EnergyJ, 0.690, Validation, 0.01, "10 W whatever runs"),
        (&moe, cached, EnergyJ, 6.375, Validation, 0.01, "10 W whatever runs"),
    ] {
        let report = report(graph, schedule)?;
        let template = Template { report: &report, nature: Nature::Estimate };
        rows.push(template.row(quantity, published, role, tolerance, note));
    }
    Ok(rows)
}

fn edge_moe() -> Result<Vec<Row>> {
    let (graph, accelerator) = (presets::m3vit_tiny_cityscapes()?, presets::zcu102_edge_moe()?);
    let routing = Routing::Histogram(&presets::EDGE_MOE_QUEUES[0]);
    let report = Analytical.model(&graph, &accelerator, routing)?;
    let modelled = Analytical.model(&graph, &with_power_model(&accelerator), routing)?;
    let template = Template { report: &report, nature: Nature::Board };
    let (burst, calibrated_ms) = calibrate_burst_latency(&graph, &accelerator, routing, EDGE_MOE_MS)?;
    let note = format!("after fitting one burst latency: {burst} cycles instead of the 64 of the sources");
    let latency =
        template.row(Quantity::LatencyMs, EDGE_MOE_MS, Role::Validation, 0.12, "no constant fitted");
    let measured = "latency times the measured power";
    Ok(vec![
        Row { predicted: calibrated_ms, role: Role::Calibration, tolerance: 0.05, note, ..latency.clone() },
        latency,
        template.row(Quantity::EnergyJ, 0.504, Role::Validation, 0.12, measured),
        Template { report: &modelled, nature: Nature::Board }.row(
            Quantity::EnergyJ,
            0.504,
            Role::Validation,
            0.12,
            "latency times modelled power, whose static part is calibrated",
        ),
    ])
}

fn transformers() -> Result<Vec<Row>> {
    let encoder = |spec: VitSpec| VitSpec { heads_out: Vec::new(), ..spec }.graph();
    let searched = "sizes from the published search, nothing fitted";
    let mut rows = Vec::new();
    for (accelerator, spec, published, role, tolerance, note) in [
        (presets::zcu102_ubimoe()?, VitSpec::tiny(), 8.20, Role::Validation, 0.25, searched),
        (presets::u280_ubimoe()?, VitSpec::small(), 11.66, Role::Validation, 0.25, searched),
        (
            presets::zcu102_heatvit()?,
            VitSpec::small(),
            9.15,
            Role::Sanity,
            0.40,
            "token pruning not modelled; softmax and norms assumed hidden, in series it would be +63 %",
        ),
    ] {
        let report = Analytical.model(&encoder(spec)?, &accelerator, Routing::Uniform)?;
        let template = Template { report: &report, nature: Nature::Board };
        rows.push(template.row(Quantity::LatencyMs, published, role, tolerance, note));
    }
    Ok(rows)
}

fn powers() -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    for fit in power_fits()? {
        let row = |predicted, role, tolerance, note: &str| Row {
            design: fit.design.clone(),
            model: fit.model.clone(),
            quantity: Quantity::PowerW,
            published: fit.published,
            predicted,
            role,
            nature: Nature::Board,
            tolerance,
            note: note.to_owned(),
        };
        let only = fit.left_out_static.is_none();
        let note = if only {
            "the only point of its family: exact by construction"
        } else {
            "one constant for three points"
        };
        rows.push(row(fit.predicted(), Role::Calibration, POWER_AIM, note));
        if let Some(left_out) = fit.left_out() {
            rows.push(row(left_out, Role::Validation, POWER_AIM, "constant fitted to the other two designs"));
        }
    }
    Ok(rows)
}
