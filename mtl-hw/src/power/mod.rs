//! Power and energy: a constant, a sum over used resources with their activity, or a sum over accesses.
//!
//! Energy from power and energy from accesses count the same joules in two ways, so they have two types,
//! [`PowerJoules`] and [`AccessJoules`], that cannot be added to each other.
mod access;

pub use access::{AccessEnergies, AccessJoules, Level};

use crate::math::positive_float;
use crate::platform::Resources;
use crate::{HwError, Result};
use serde::{Deserialize, Serialize};
use std::fmt;

/// Power while an image is processed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
#[non_exhaustive]
pub enum PowerModel {
    /// One number whatever runs: energy is latency times this.
    Constant {
        /// Power in watts.
        watts: f64,
        /// Where the number is from.
        source: String,
    },
    /// Static power plus what the used resources draw while they work.
    Utilisation {
        /// Power per resource.
        coefficients: PowerCoefficients,
        /// Where they are from.
        source: String,
        /// What runs; a cost model fills it in, and without it only static power counts.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        point: Option<OperatingPoint>,
    },
}

/// Static watts, and energy per clock cycle and resource in use, in picojoules.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PowerCoefficients {
    /// Board, processing system, memory interface and leakage, in watts.
    pub static_watts: f64,
    /// Per multiplier block and cycle.
    pub dsp_pj: f64,
    /// Per block RAM of 18 Kib and cycle.
    pub ramb18_pj: f64,
    /// Per UltraRAM and cycle.
    pub uram_pj: f64,
    /// Per look-up table and cycle.
    pub lut_pj: f64,
    /// Per off-chip byte.
    pub dram_pj_per_byte: f64,
}

/// Static power of Zynq UltraScale+ boards, the one constant fitted for this family: least squares of relative error over
/// the published powers of Edge-MoE, HeatViT and UbiMoE's ViT-T, all on a ZCU102.
pub const ZYNQ_ULTRASCALE_STATIC_WATTS: f64 = 7.12;
/// Static power of Alveo boards with HBM, fitted to the one published power of UbiMoE's ViT-S on a U280.
pub const ALVEO_STATIC_WATTS: f64 = 23.96;

impl PowerCoefficients {
    /// Those of the board's family: Alveo where the memory is HBM, else Zynq UltraScale+.
    #[must_use]
    pub fn of_board(board: &crate::platform::Platform) -> Self {
        match board.memory.kind {
            crate::platform::MemoryKind::Hbm2 => Self::alveo_hbm(),
            _ => Self::zynq_ultrascale(),
        }
    }

    /// 16 nm UltraScale+ fabric with DDR4. Energies per resource are orders of magnitude of vendors' estimators at
    /// usual toggle rates, from memory and not fitted; only the static part is.
    #[must_use]
    pub fn zynq_ultrascale() -> Self {
        Self {
            static_watts: ZYNQ_ULTRASCALE_STATIC_WATTS,
            dsp_pj: 5.0,
            ramb18_pj: 10.0,
            uram_pj: 25.0,
            lut_pj: 0.04,
            dram_pj_per_byte: 150.0,
        }
    }

    /// The same fabric on an Alveo card with HBM2.
    #[must_use]
    pub fn alveo_hbm() -> Self {
        Self { static_watts: ALVEO_STATIC_WATTS, dram_pj_per_byte: 50.0, ..Self::zynq_ultrascale() }
    }

    fn validate(&self) -> Result<()> {
        for (field, value) in [
            ("static_watts", self.static_watts),
            ("dsp_pj", self.dsp_pj),
            ("ramb18_pj", self.ramb18_pj),
            ("uram_pj", self.uram_pj),
            ("lut_pj", self.lut_pj),
            ("dram_pj_per_byte", self.dram_pj_per_byte),
        ] {
            if !(value >= 0.0 && value.is_finite()) {
                return Err(HwError::config(format!("power.{field}"), "non-negative and finite", value));
            }
        }
        Ok(())
    }

    /// Watts beyond the static ones.
    #[must_use]
    pub fn dynamic_watts(&self, point: &OperatingPoint) -> f64 {
        let used = &point.resources;
        let per_cycle_pj = self.dsp_pj * used.dsp as f64
            + self.ramb18_pj * used.ramb18 as f64
            + self.uram_pj * used.uram as f64
            + self.lut_pj * used.lut as f64;
        1e-12
            * (point.clock_hz as f64 * point.activity * per_cycle_pj
                + self.dram_pj_per_byte * point.dram_bytes_per_s)
    }
}

/// A design at work.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OperatingPoint {
    /// Clock in Hz.
    pub clock_hz: u64,
    /// Resources used.
    pub resources: Resources,
    /// Share of cycles in which they work, from 0 to 1; stalls cost static power only.
    pub activity: f64,
    /// Off-chip traffic in bytes per second.
    pub dram_bytes_per_s: f64,
}

/// Energy from power and time.
#[derive(Debug, Clone, Copy, PartialEq, PartialOrd, Serialize, Deserialize)]
pub struct PowerJoules(pub f64);

impl PowerModel {
    /// Average power in watts.
    #[must_use]
    pub fn watts(&self) -> f64 {
        match self {
            Self::Constant { watts, .. } => *watts,
            Self::Utilisation { coefficients, point, .. } => {
                coefficients.static_watts + point.as_ref().map_or(0.0, |p| coefficients.dynamic_watts(p))
            }
        }
    }

    /// Energy of `seconds` at this power.
    #[must_use]
    pub fn energy(&self, seconds: f64) -> PowerJoules {
        PowerJoules(self.watts() * seconds)
    }

    /// The same model for a design at work; a constant stays what it is.
    #[must_use]
    pub fn at(&self, running: OperatingPoint) -> Self {
        let mut model = self.clone();
        if let Self::Utilisation { point, .. } = &mut model {
            *point = Some(running);
        }
        model
    }

    /// Checks every number.
    ///
    /// # Errors
    ///
    /// [`HwError::Config`] for power that is not positive and finite, negative coefficients, or an activity outside
    /// [0, 1].
    pub fn validate(&self) -> Result<()> {
        if let Self::Utilisation { coefficients, point, .. } = self {
            coefficients.validate()?;
            if let Some(p) = point {
                if !(0.0..=1.0).contains(&p.activity) {
                    return Err(HwError::config("power.point.activity", "from 0 to 1", p.activity));
                }
                if !(p.dram_bytes_per_s >= 0.0 && p.dram_bytes_per_s.is_finite()) {
                    let value = p.dram_bytes_per_s;
                    return Err(HwError::config(
                        "power.point.dram_bytes_per_s",
                        "non-negative and finite",
                        value,
                    ));
                }
            }
        }
        positive_float("power.watts", self.watts()).map(drop)
    }
}

impl fmt::Display for PowerModel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Constant { watts, source } => write!(f, "constant {watts} W ({source})"),
            Self::Utilisation { coefficients, source, .. } => {
                write!(f, "{:.2} W, of it {:.2} W static ({source})", self.watts(), coefficients.static_watts)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn point(activity: f64) -> OperatingPoint {
        let resources = Resources { dsp: 1000, ramb18: 500, lut: 100_000, ..Resources::default() };
        OperatingPoint { clock_hz: 300_000_000, resources, activity, dram_bytes_per_s: 4e9 }
    }

    fn model() -> PowerModel {
        let coefficients = PowerCoefficients { static_watts: 6.0, ..PowerCoefficients::zynq_ultrascale() };
        PowerModel::Utilisation { coefficients, source: "test".into(), point: None }
    }

    #[test]
    fn stalls_cost_static_power_only() {
        assert_eq!(model().watts(), 6.0);
        let (idle, busy) = (model().at(point(0.0)).watts(), model().at(point(1.0)).watts());
        assert!((idle - 6.6).abs() < 1e-9); // traffic alone
        assert!((busy - idle - 0.3e-3 * (5000.0 + 5000.0 + 4000.0)).abs() < 1e-9);
        assert!((model().at(point(0.5)).energy(2.0).0 - (idle + busy)).abs() < 1e-9);
    }

    #[test]
    fn a_constant_does_not_scale() {
        let constant = PowerModel::Constant { watts: 10.0, source: "paper".into() };
        assert_eq!(constant.at(point(0.5)), constant);
    }

    #[test]
    fn nonsense_is_refused() {
        insta::assert_snapshot!(model().at(point(f64::NAN)).validate().unwrap_err(), @"`power.point.activity` must be from 0 to 1, but is NaN");
        let nan = PowerModel::Constant { watts: f64::NAN, source: String::new() };
        insta::assert_snapshot!(nan.validate().unwrap_err(), @"`power.watts` must be positive and finite, but is NaN");
        let mut negative = model();
        if let PowerModel::Utilisation { coefficients, .. } = &mut negative {
            coefficients.dsp_pj = -1.0;
        }
        assert!(negative.validate().is_err());
    }
}
