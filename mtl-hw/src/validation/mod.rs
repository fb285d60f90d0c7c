//! Predictions beside published numbers: what was fitted, what was checked, and how far off it is.
//!
//! `cargo run -p mtl-hw --example validation` writes all of it to `VALIDATION.md`.
mod calibration;
mod matrix;
mod published;
mod render;

pub use calibration::{PowerFit, calibrate_burst_latency, fit_static_watts, power_fits};
pub use matrix::{PredictedCost, Prediction, predictions};
pub use published::rows;
pub use render::render;

use serde::{Deserialize, Serialize};
use std::fmt;

/// What a published number was used for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// A constant of the model was chosen with it.
    Calibration,
    /// Nothing was fitted to it.
    Validation,
    /// The model leaves out something that matters for it; only the magnitude is checked.
    Sanity,
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Calibration => "calibration",
            Self::Validation => "validation",
            Self::Sanity => "sanity",
        })
    }
}

/// How a published number came about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Nature {
    /// A closed-form estimate of its authors.
    Estimate,
    /// Measured on a board, or reported by the tools for a built design.
    Board,
    /// Another simulator's output or a documented figure.
    Reference,
}

impl fmt::Display for Nature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Estimate => "closed-form estimate",
            Self::Board => "board",
            Self::Reference => "reference",
        })
    }
}

/// What a row compares.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Quantity {
    /// Latency of one image, or the time between images, in milliseconds.
    LatencyMs,
    /// Average power in watts.
    PowerW,
    /// Energy of one image in joules.
    EnergyJ,
    /// On-chip buffers in 2²⁰ bytes.
    MemoryMib,
    /// Look-up tables.
    Lut,
}

impl fmt::Display for Quantity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::LatencyMs => "latency ms",
            Self::PowerW => "power W",
            Self::EnergyJ => "energy J",
            Self::MemoryMib => "memory MiB",
            Self::Lut => "LUT",
        })
    }
}

/// One published number and ours.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Row {
    /// The design.
    pub design: String,
    /// The network.
    pub model: String,
    /// What is compared.
    pub quantity: Quantity,
    /// The published number.
    pub published: f64,
    /// Ours.
    pub predicted: f64,
    /// What the published number was used for.
    pub role: Role,
    /// How it came about.
    pub nature: Nature,
    /// Relative error that is tolerated.
    pub tolerance: f64,
    /// What else to know.
    pub note: String,
}

impl Row {
    /// Predicted over published, minus one.
    #[must_use]
    pub fn error(&self) -> f64 {
        self.predicted / self.published - 1.0
    }

    /// Whether the error is within the tolerance.
    #[must_use]
    pub fn holds(&self) -> bool {
        self.error().abs() <= self.tolerance
    }
}

/// Mean of |error| over the rows that pass a filter, and their number.
pub fn mean_absolute_error(rows: &[Row], keep: impl Fn(&Row) -> bool) -> Option<(f64, usize)> {
    let errors: Vec<f64> = rows.iter().filter(|r| keep(r)).map(|r| r.error().abs()).collect();
    let n = errors.len();
    (n > 0).then(|| (errors.iter().sum::<f64>() / n as f64, n))
}
